// What passes from segment to segment, so that all segments can run at once.
//
// Forward, a segment's state at its end is  F * (state at its start) + E:  F = exp(A sum(delta)), and E is the
// sum over its steps of exp(A (delta_{s+1} + ... + delta_end)) delta_s u_s B_s. With ADJOINT = 1 the same holds
// for the gradient of the state, from a segment's right edge to its left: E is the sum of
// exp(A (delta_first + ... + delta_s)) g_s C_s, with g the gradient of y before its gate. Neither is a
// recurrence. Both sums start at the edge where their weights are largest, and states whose weights have
// become nothing (2^-NEGLIGIBLE for all channels of a warp) drop out, four at a time: states that decay fast
// need a few steps of a segment, however long it is.
#include "scan.cuh"

constexpr int TILE = THREADS;  // a lane has one channel
constexpr int STEPS = 16;      // steps staged together
constexpr int HALF = 8;        // steps whose weights are in registers together
constexpr int WIDTH = STATE > 8 ? 16 : STATE > 4 ? 8 : 4, QUADS = (STATE + 3) / 4;
constexpr int64 WEIGHT_ROW = ADJOINT ? C_ROW : B_ROW;
constexpr float NEGLIGIBLE = 26.0f;
constexpr bool GATED = ADJOINT && Z_ROW > 0;
constexpr int TENSORS = 2 + GATED;

// grid: (batch * (segments - 1), tiles). value: u, or with ADJOINT the gradient of y; projection: B, or C.
// sums, factors: (batch, segments, DIM, STATE); the segment that nothing follows is left out.
KERNEL void __launch_bounds__(THREADS, BLOCKS) scan_reduce(
    const input_t* __restrict__ value, const input_t* __restrict__ delta, const float* __restrict__ A,
    const input_t* __restrict__ projection, const input_t* __restrict__ z, const float* __restrict__ bias,
    const unsigned char* __restrict__ reset, float* __restrict__ sums, float* __restrict__ factors, int64 length,
    int64 segments, int64 segment_steps, int64 z_batch, int64 projection_batch) {
  SHARED_MEMORY(memory);
  const ChannelTile<TILE> tile(blockIdx.y);
  const int64 batch = blockIdx.x / (segments - 1), segment = blockIdx.x % (segments - 1) + ADJOINT;
  const int64 first = segment * segment_steps;
  const int64 last = first + segment_steps < length ? first + segment_steps : length;
  const bool inside = (int)threadIdx.x < tile.valid;
  const int64 channel = tile.first + threadIdx.x;

  float* weights = (float*)memory;                                // [2][STEPS][WIDTH]: B or C
  int* busy = (int*)(weights + 2 * STEPS * WIDTH);                // [2][WARPS], padded to 16 bytes
  input_t* stages = (input_t*)(busy + (2 * WARPS + 3) / 4 * 4);   // [2][TENSORS][STEPS][TILE]
  constexpr int STAGE = TENSORS * STEPS * TILE;

  // Walk position w is step last - 1 - w, or first + w for the adjoint.
  constexpr int64 WALK = (ADJOINT ? 1 : -1) * ROW_STEP;  // rows
  const int64 total = last - first, sequence = batch * length * DIM + tile.first;
  const int64 row_first = row_of(ADJOINT ? first : last - 1, length);
  reset = RESET ? reset + batch * length : reset;
  projection += batch * projection_batch + tile.group * STATE;
  ProjectionTile<STEPS, WIDTH, WALK * WEIGHT_ROW> weight_tile;
  auto request = [&](int64 position, int buffer) {
    const int rows = total - position < STEPS ? int(total - position) : STEPS;
    const int64 row = row_first + WALK * position;
    input_t* stage = stages + buffer * STAGE;
    stage_rows<TILE, VECTOR>(stage, delta + sequence + row * DIM, WALK * DIM, rows, tile.valid);
    stage_rows<TILE, VECTOR>(stage + STEPS * TILE, value + sequence + row * DIM, WALK * DIM, rows, tile.valid);
    if constexpr (GATED)
      stage_rows<TILE, VECTOR>(stage + 2 * STEPS * TILE, z + batch * z_batch + row * Z_ROW + tile.first, WALK * Z_ROW,
                               rows, tile.valid);
    copy_async_commit();
    weight_tile.load(projection + row * WEIGHT_ROW, rows);
  };

  float a_log[4 * QUADS], sum[4 * QUADS], elapsed = 0.0f;
  const float shift = inside && bias ? bias[channel] : 0.0f;
  UNROLL for (int n = 0; n < 4 * QUADS; ++n) {
    a_log[n] = inside && n < STATE ? A[channel * STATE + n] * LOG2_E : -1e30f;  // what is not there is negligible
    sum[n] = 0.0f;
  }

  int active = (1 << QUADS) - 1, buffer = 0;
  bool cut = false;  // whether a reset lies between the walk and the segment's other edge
  request(0, 0);
  NO_UNROLL for (int64 position = 0; position < total; position += STEPS, buffer ^= 1) {
    weight_tile.store(weights + buffer * STEPS * WIDTH, WIDTH);
    if (lane_id() == 0) busy[buffer * WARPS + warp_id()] = active;
    copy_async_wait<0>();
    sync_block();
    int any = 0;
    UNROLL for (int w = 0; w < WARPS; ++w) any |= busy[buffer * WARPS + w];
    if (!any) break;
    if (position + STEPS < total) request(position + STEPS, buffer ^ 1);
    if (!active) continue;

    const int steps = total - position < STEPS ? int(total - position) : STEPS;
    const input_t* element = stages + buffer * STAGE + threadIdx.x;
    NO_UNROLL for (int half = 0; half < STEPS; half += HALF) {
      float before[HALF], amount[HALF];
      UNROLL for (int j = 0; j < HALF; ++j) {
        const int s = half + j;
        const int64 walked = position + s, step = ADJOINT ? first + walked : last - 1 - walked;
        bool counts = s < steps && !cut;
        const bool drop = counts && RESET && drops_state(reset, step, length);
        if (ADJOINT && drop) counts = false;
        cut = cut || drop;
        const int at = s < steps ? s : 0;
        const float d = counts ? step_size(to_float(element[at * TILE]) + shift) : 0.0f;
        float x = counts ? to_float(element[(STEPS + at) * TILE]) : 0.0f;
        if constexpr (GATED) {
          const float gate = to_float(element[(2 * STEPS + at) * TILE]);
          x *= counts ? gate * sigmoid(gate) : 0.0f;
        }
        before[j] = ADJOINT ? elapsed + d : elapsed;
        amount[j] = ADJOINT ? x : d * x;
        elapsed += d;
      }
      UNROLL for (int quad = 0; quad < QUADS; ++quad) {
        if (!(active >> quad & 1)) continue;
        UNROLL for (int j = 0; j < HALF; ++j) {
          const float4_t w4 = *(const float4_t*)(weights + (buffer * STEPS + half + j) * WIDTH + quad * 4);
          const float w[4] = {w4.x, w4.y, w4.z, w4.w};
          UNROLL for (int i = 0; i < 4; ++i)
            sum[quad * 4 + i] = fused_multiply_add(exp2_fast(a_log[quad * 4 + i] * before[j]), amount[j] * w[i],
                                                   sum[quad * 4 + i]);
        }
      }
    }
    int still = 0;
    UNROLL for (int quad = 0; quad < QUADS; ++quad) {
      float slowest = -1e30f;
      UNROLL for (int i = 0; i < 4; ++i) slowest = fmaxf(slowest, a_log[quad * 4 + i] * elapsed);
      if (warp_any(slowest > -NEGLIGIBLE)) still |= 1 << quad;
    }
    active = cut ? 0 : active & still;
  }

  if (inside) {
    const int64 target = ((batch * segments + segment) * DIM + channel) * STATE;
    UNROLL for (int n = 0; n < STATE; ++n) {
      sums[target + n] = sum[n];
      factors[target + n] = active >> (n / 4) & 1 ? exp2_fast(a_log[n] * elapsed) : 0.0f;
    }
  }
}

// Every segment's state at its start, or with ADJOINT its gradient at its end, from the sums and factors; one
// thread a state. boundary: the initial state, or the final state's gradient, or null for zeros.
KERNEL void scan_carry(const float* __restrict__ sums, const float* __restrict__ factors,
                       const float* __restrict__ boundary, float* __restrict__ carries, int64 batches, int64 segments) {
  constexpr int64 STATES = int64(DIM) * STATE;
  const int64 index = int64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= batches * STATES) return;
  const int64 batch = index / STATES, offset = batch * segments * STATES + index % STATES;
  float carry = boundary ? boundary[index] : 0.0f;
  constexpr int AHEAD = 8;
  for (int64 base = 0; base < segments; base += AHEAD) {
    float sum[AHEAD], factor[AHEAD];
    UNROLL for (int i = 0; i < AHEAD; ++i) {
      const int64 segment = ADJOINT ? segments - 1 - base - i : base + i;
      const bool follows = base + i < segments - 1;
      sum[i] = follows ? sums[offset + segment * STATES] : 0.0f;
      factor[i] = follows ? factors[offset + segment * STATES] : 0.0f;
    }
    UNROLL for (int i = 0; i < AHEAD; ++i) {
      if (base + i >= segments) break;
      const int64 segment = ADJOINT ? segments - 1 - base - i : base + i;
      carries[offset + segment * STATES] = carry;
      carry = fused_multiply_add(factor[i], carry, sum[i]);
    }
  }
}
