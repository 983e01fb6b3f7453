// The scan itself: every segment from its true start state. A lane holds all states of CHANNELS neighbouring
// channels and walks through time; B and C are broadcast from shared memory to all channels of the block.
//
// CHANNELS: channels a lane. SAVE: whether to save states. ACCUMULATE: add to what y holds.
#include "scan.cuh"

constexpr int TILE = THREADS * CHANNELS;
constexpr int STEPS = 8;  // steps staged together
constexpr int WIDTH = STATE > 8 ? 16 : STATE > 4 ? 8 : 4, QUADS = (STATE + 3) / 4;
constexpr bool GATED = Z_ROW > 0;
constexpr int TENSORS = 2 + GATED + ACCUMULATE;
static_assert(SAVE_STEPS % STEPS == 0, "a saved state starts a stage");

// grid: (batch * segments, tiles). starts: (batch, segments, DIM, STATE), or null for zeros.
// saved: (batch, ceil(length / SAVE_STEPS), DIM, STATE), the states before each SAVE_STEPS-th step.
KERNEL void __launch_bounds__(THREADS, BLOCKS) scan_forward(
    const input_t* __restrict__ u, const input_t* __restrict__ delta, const float* __restrict__ A,
    const input_t* __restrict__ B, const input_t* __restrict__ C, const float* __restrict__ D,
    const input_t* __restrict__ z, const float* __restrict__ bias, const float* __restrict__ starts,
    const unsigned char* __restrict__ reset, input_t* y, float* __restrict__ final_state,
    saved_t* __restrict__ saved, int64 length, int64 segments, int64 segment_steps, int64 z_batch,
    int64 B_batch, int64 C_batch) {
  SHARED_MEMORY(memory);
  const ChannelTile<TILE> tile(blockIdx.y);
  const int64 batch = blockIdx.x / segments, segment = blockIdx.x % segments;
  const int64 first = segment * segment_steps;
  const int64 last = first + segment_steps < length ? first + segment_steps : length;
  const int lane_channel = threadIdx.x * CHANNELS;
  const int valid = tile.valid - lane_channel < CHANNELS ? tile.valid - lane_channel : CHANNELS;

  float* projections = (float*)memory;  // [2][STEPS][2][WIDTH]
  input_t* stages = (input_t*)(projections + 2 * STEPS * 2 * WIDTH);  // [2][TENSORS][STEPS][TILE]
  constexpr int PROJECTION = STEPS * 2 * WIDTH, STAGE = TENSORS * STEPS * TILE;

  const int64 sequence = (batch * length * DIM) + tile.first;
  reset = RESET ? reset + batch * length : reset;
  B += batch * B_batch + tile.group * STATE;
  C += batch * C_batch + tile.group * STATE;
  ProjectionTile<STEPS, WIDTH, ROW_STEP * B_ROW> B_tile;
  ProjectionTile<STEPS, WIDTH, ROW_STEP * C_ROW> C_tile;
  auto request = [&](int64 step, int buffer) {
    const int rows = last - step < STEPS ? int(last - step) : STEPS;
    const int64 row = row_of(step, length);
    input_t* stage = stages + buffer * STAGE;
    constexpr int64 ROW = ROW_STEP * DIM;
    stage_rows<STEPS, TILE, ROW, VECTOR>(stage, delta + sequence + row * DIM, rows, tile.valid);
    stage_rows<STEPS, TILE, ROW, VECTOR>(stage + STEPS * TILE, u + sequence + row * DIM, rows, tile.valid);
    if constexpr (GATED)
      stage_rows<STEPS, TILE, ROW_STEP * Z_ROW, VECTOR>(stage + 2 * STEPS * TILE,
                                                        z + batch * z_batch + row * Z_ROW + tile.first, rows, tile.valid);
    if constexpr (ACCUMULATE)
      stage_rows<STEPS, TILE, ROW, VECTOR>(stage + (2 + GATED) * STEPS * TILE, y + sequence + row * DIM, rows, tile.valid);
    copy_async_commit();
    B_tile.load(B + row * B_ROW, rows);
    C_tile.load(C + row * C_ROW, rows);
  };

  float a_log[CHANNELS][STATE], h[CHANNELS][STATE], skip[CHANNELS], shift[CHANNELS];
  UNROLL for (int c = 0; c < CHANNELS; ++c) {
    const int64 channel = tile.first + lane_channel + c;
    const bool inside = c < valid;
    skip[c] = inside && D ? D[channel] : 0.0f;
    shift[c] = inside && bias ? bias[channel] : 0.0f;
    const float* start = starts + ((batch * segments + segment) * DIM + channel) * STATE;
    UNROLL for (int n = 0; n < STATE; ++n) {
      a_log[c][n] = inside ? A[channel * STATE + n] * LOG2_E : 0.0f;
      h[c][n] = inside && starts ? start[n] : 0.0f;
    }
  }

  request(first, 0);
  int buffer = 0;
  NO_UNROLL for (int64 stage_first = first; stage_first < last; stage_first += STEPS, buffer ^= 1) {
    float* projection = projections + buffer * PROJECTION;
    B_tile.store(projection, 2 * WIDTH);
    C_tile.store(projection + WIDTH, 2 * WIDTH);
    copy_async_wait<0>();
    sync_block();
    if (stage_first + STEPS < last) request(stage_first + STEPS, buffer ^ 1);

    if (SAVE && stage_first % SAVE_STEPS == 0) {
      const int64 blocks = (length + SAVE_STEPS - 1) / SAVE_STEPS;
      saved_t* target = saved + ((batch * blocks + stage_first / SAVE_STEPS) * DIM + tile.first + lane_channel) * STATE;
      UNROLL for (int c = 0; c < CHANNELS; ++c)
        if (c < valid) store_states<STATE>(target + c * STATE, h[c]);
    }

    const int steps = last - stage_first < STEPS ? int(last - stage_first) : STEPS;
    const input_t* element = stages + buffer * STAGE + lane_channel;
    input_t* out = y + sequence + row_of(stage_first, length) * DIM + lane_channel;
    _Pragma("unroll 2") for (int s = 0; s < steps; ++s) {
      float d[CHANNELS], x[CHANNELS], dx[CHANNELS], sum[CHANNELS];
      load_elements<CHANNELS, true>(d, element + s * TILE, CHANNELS);
      load_elements<CHANNELS, true>(x, element + (STEPS + s) * TILE, CHANNELS);
      UNROLL for (int c = 0; c < CHANNELS; ++c) {
        d[c] = step_size(d[c] + shift[c]);
        dx[c] = d[c] * x[c];
        sum[c] = skip[c] * x[c];
      }
      if (RESET && drops_state(reset, stage_first + s, length)) {
        UNROLL for (int c = 0; c < CHANNELS; ++c)
          UNROLL for (int n = 0; n < STATE; ++n) h[c][n] = 0.0f;
      }
      const float4_t* row = (const float4_t*)(projection + s * 2 * WIDTH);
      UNROLL for (int quad = 0; quad < QUADS; ++quad) {
        const float4_t b4 = row[quad], c4 = row[WIDTH / 4 + quad];
        const float b[4] = {b4.x, b4.y, b4.z, b4.w}, c_[4] = {c4.x, c4.y, c4.z, c4.w};
        UNROLL for (int i = 0; i < 4; ++i) {
          const int n = quad * 4 + i;
          if (n >= STATE) break;
          UNROLL for (int c = 0; c < CHANNELS; ++c) {
            h[c][n] = fused_multiply_add(exp2_fast(d[c] * a_log[c][n]), h[c][n], dx[c] * b[i]);
            sum[c] = fused_multiply_add(c_[i], h[c][n], sum[c]);
          }
        }
      }
      if constexpr (GATED) {
        float gate[CHANNELS];
        load_elements<CHANNELS, true>(gate, element + (2 * STEPS + s) * TILE, CHANNELS);
        UNROLL for (int c = 0; c < CHANNELS; ++c) {
          const float z_c = RECOMPUTE_Y ? gate[c] : open_gate(gate[c]);
          sum[c] *= z_c * sigmoid(z_c);
        }
      }
      if constexpr (ACCUMULATE) {
        float before[CHANNELS];
        load_elements<CHANNELS, true>(before, element + ((2 + GATED) * STEPS + s) * TILE, CHANNELS);
        UNROLL for (int c = 0; c < CHANNELS; ++c) sum[c] += before[c];
      }
      store_elements<CHANNELS, (VECTOR > 0)>(out + s * (ROW_STEP * DIM), sum, valid);
    }
  }

  if (last == length) {
    UNROLL for (int c = 0; c < CHANNELS; ++c)
      UNROLL for (int n = 0; n < STATE; ++n)
        if (c < valid) final_state[(batch * DIM + tile.first + lane_channel + c) * STATE + n] = h[c][n];
  }
}
