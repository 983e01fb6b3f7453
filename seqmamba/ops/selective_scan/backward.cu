// Gradients of the scan. A warp takes 16 channels (32 with 8 states or fewer): a lane is one channel and a half
// (or all) of its states. A block walks its segment from the last step to the first, SAVE_STEPS at a time:
// from the saved state it replays the steps forward, keeping the state every SUB steps; then, SUB steps at a
// time from the right, it replays them once more with decays and states in registers and runs the adjoint
//
//   lam_s = g_s C_s + c_s,  c_{s-1} = exp(delta_s A) lam_s,  q_s = c_{s-1} h_{s-1}
//   dA += delta_s q_s,  d delta_s = u_s (lam_s . B_s) + A . q_s,  du_s = delta_s (lam_s . B_s) + D g_s,
//   dB_s = sum over channels of delta_s u_s lam_s,  dC_s = sum over channels of g_s h_s.
//
// The sums over channels go through the tensor cores: products are operands where they lie, and a second matrix
// of zeros and ones says which column each belongs to. float32 inputs split a product into two tf32 parts.
// Warps then add up in shared memory, in a fixed order; nothing is atomic.
//
// The gate's gradient needs y before the gate, which is y over silu(z); float16 replays it. GATE_GRADIENT:
// whether to compute it; ACCUMULATE: add it to what d_z holds.
#include "scan.cuh"

constexpr int SUB = 4;                            // steps whose decays and states are in registers
constexpr int SPLIT = STATE > 8 ? 2 : 1;          // lanes a channel
constexpr int EACH = SPLIT == 2 ? 8 : STATE;      // states a lane
constexpr int PADDED = (EACH + 3) / 4 * 4;
constexpr int WIDTH = SPLIT * PADDED;
constexpr int WARP_CHANNELS = 32 / SPLIT, TILE = WARPS * WARP_CHANNELS;
constexpr int SUBS = SAVE_STEPS / SUB, OWN = SUB / SPLIT;
constexpr bool GATED = Z_ROW > 0, REPLAY_Y = GATED && GATE_GRADIENT && RECOMPUTE_Y;
constexpr bool READ_Y = GATED && GATE_GRADIENT && !RECOMPUTE_Y;
constexpr int PAIRS = WARP_CHANNELS / 2, ROWS = 32 / PAIRS, EACH_ROW = SAVE_STEPS / ROWS;
static_assert(SAVE_STEPS % SUB == 0 && SUB == 4, "four steps fill the rows of one product");

// Sums over the channels of a warp. `add` takes eight products a lane and step; after two steps `finish` leaves the
// sums over the four lanes of a quad in shared memory, in rows of 32 lanes' four values and PAD between the halves;
// `combine` adds the quads of each half up.
struct ChannelSums {
  static constexpr int PAD = 4, ROW = 4 * (32 + PAD);
  float sums[4];
  uint32 route[8];

  DEVICE ChannelSums() {
    UNROLL for (int i = 0; i < 8; ++i) route[i] = lane_id() >> 2 == i ? bits_of(1.0f) : 0u;
    UNROLL for (int i = 0; i < 4; ++i) sums[i] = 0.0f;
  }
  // Products 2 i and 2 i + 1 (those from the fourth on eight rows further) go to a column each; odd steps to the
  // last four columns.
  DEVICE void add(const float (&p)[8], int odd) {
    UNROLL for (int i = 0; i < (EACH > 2 ? 2 : 1); ++i) {
      const uint32 even_route = route[odd * 4 + 2 * i], odd_route = route[odd * 4 + 2 * i + 1];
      mma_tf32(sums, bits_of(p[2 * i]), bits_of(p[2 * i + 4]), bits_of(p[2 * i + 1]), bits_of(p[2 * i + 5]), even_route,
               odd_route);
      if (EXACT)
        mma_tf32(sums, remainder(p[2 * i]), remainder(p[2 * i + 4]), remainder(p[2 * i + 1]), remainder(p[2 * i + 5]),
                 even_route, odd_route);
    }
  }
  DEVICE void finish(float* scratch) {
    *(float4_t*)(scratch + 4 * (lane_id() + (lane_id() >> 4) * PAD)) = {sums[0], sums[1], sums[2], sums[3]};
    UNROLL for (int i = 0; i < 4; ++i) sums[i] = 0.0f;
  }
  // From four rows of `finish` (dC of steps 0 and 1, of 2 and 3, then dB) to `to`: (SUB, 2, WIDTH).
  static DEVICE void combine(float* to, const float* scratch) {
    const int set = lane_id() >> 3, half = lane_id() >> 2 & 1, column = lane_id() & 3;
    const float4_t* from = (const float4_t*)(scratch + set * ROW) + half * (16 + PAD) + column;
    float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    UNROLL for (int quad = 0; quad < 4; ++quad) {
      const float4_t part = from[4 * quad];
      total[0] += part.x, total[1] += part.y, total[2] += part.z, total[3] += part.w;
    }
    if (SPLIT == 1) UNROLL for (int i = 0; i < 4; ++i) total[i] += shuffle_xor(total[i], 4);
    // column 2 c holds product 2 (c % 2) of step c / 2, column 2 c + 1 the next product
    const int step = 2 * (set & 1) + (column >> 1), kind = set >> 1;
    float* at = to + (step * 2 + kind) * WIDTH + (SPLIT == 2 ? half * PADDED : 0) + 2 * (column & 1);
    if (SPLIT == 2 || half == 0) {
      *(float2_t*)at = {total[0], total[1]};
      if (PADDED == 8) *(float2_t*)(at + 4) = {total[2], total[3]};
    }
  }
  // What tf32 leaves of a float32.
  static DEVICE uint32 remainder(float x) { return bits_of(x - float_of(bits_of(x) & 0xffffe000u)); }
};

// A warp's shared memory: states at the start of each sub-block, the last of them long enough for the scratch of
// ChannelSums; a slot an element: (delta u, g, delta, -), then (lam . B, A . q, delta, C . h); and a lane's sums of the
// gradients of D and the bias, for two channels.
constexpr int STARTS = SUBS * 32 * PADDED + (4 * ChannelSums::ROW - 32 * PADDED);
constexpr int SLOTS = SAVE_STEPS * WARP_CHANNELS * 4;
constexpr int OWN_FLOATS = STARTS + SLOTS + 32 * 4;
static_assert(4 * ChannelSums::ROW >= 32 * PADDED, "scratch is longer than a start");

// Of two steps' sums over the states of a lane, the total over both halves of the step that this half owns.
DEVICE float total_of_own(float even, float odd, int half) {
  if (SPLIT == 1) return even;
  const float send = half ? even : odd, keep = half ? odd : even;
  return keep + shuffle_xor(send, 16);
}

DEVICE void load_row(float (&to)[PADDED], const float* from) {
  UNROLL for (int i = 0; i < PADDED; i += 4) {
    const float4_t four = *(const float4_t*)(from + i);
    to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
  }
}

// Two neighbouring channels of one row, of which `count` exist.
constexpr bool WHOLE = VECTOR > 0;
typedef Raw<input_t, 2, WHOLE && sizeof(input_t) == 2> RawPair;
DEVICE void store_pair(input_t* to, const float (&from)[2], int count) { store_elements<2, WHOLE>(to, from, count); }

// grid: (batch * segments, tiles). carries: (batch, segments, DIM, STATE), the gradient of each segment's last state
// from beyond it, or null for zeros. d_B, d_C: (batch, length, GROUPS, STATE), with a leading axis of tiles if a group
// has several. d_A: (batch * segments, DIM, STATE); d_D, d_bias: (batch * segments, DIM).
KERNEL void __launch_bounds__(THREADS, BLOCKS) scan_backward(
    const input_t* __restrict__ grad_y, const input_t* __restrict__ y, const input_t* __restrict__ u, const input_t* __restrict__ delta,
    const float* __restrict__ A, const input_t* __restrict__ B, const input_t* __restrict__ C,
    const float* __restrict__ D, const input_t* __restrict__ z, const float* __restrict__ bias,
    const unsigned char* __restrict__ reset, const saved_t* __restrict__ saved, const float* __restrict__ carries,
    input_t* __restrict__ d_u, input_t* __restrict__ d_delta, float* __restrict__ d_A, input_t* __restrict__ d_B,
    input_t* __restrict__ d_C, float* __restrict__ d_D, input_t* d_z, float* __restrict__ d_bias,
    float* __restrict__ d_initial, int64 batches, int64 length, int64 segments, int64 segment_steps, int64 z_batch,
    int64 B_batch, int64 C_batch) {
  SHARED_MEMORY(memory);
  const ChannelTile<TILE> tile(blockIdx.y);
  const int segment = int(blockIdx.x % (uint32)segments);
  const int batch = int(blockIdx.x / (uint32)segments);
  const int first = segment * int(segment_steps);  // steps fit 32 bits, elements do not
  const int last = int(length - first < segment_steps ? length : first + segment_steps);
  const int lane = lane_id(), half = SPLIT == 2 ? lane >> 4 : 0, lane_slot = lane & (WARP_CHANNELS - 1);
  // Slots hold the even channels, then the odd ones, which spreads pairs of channels over the banks.
  const int lane_channel = lane_slot % PAIRS * 2 + lane_slot / PAIRS;
  const int column = warp_id() * WARP_CHANNELS + lane_channel;
  const bool inside = column < tile.valid;
  const int channel = tile.first + column;

  constexpr int PROJECTION = SAVE_STEPS * 2 * WIDTH;
  float* projections = (float*)memory;                 // [2][SAVE_STEPS][2][WIDTH]
  float* sums = projections + 2 * PROJECTION;          // [WARPS][SAVE_STEPS][2][WIDTH]
  float* own_memory = sums + WARPS * PROJECTION + warp_id() * OWN_FLOATS;
  float* starts = own_memory;                          // [SUBS][PADDED / 4][32][4]; scratch once a start is read
  float4_t* slots = (float4_t*)(own_memory + STARTS);  // [SAVE_STEPS][WARP_CHANNELS], see above
  float4_t* totals = (float4_t*)(own_memory + STARTS + SLOTS) + lane;
  float* warp_sums = sums + warp_id() * PROJECTION;
  *totals = {0.0f, 0.0f, 0.0f, 0.0f};

  const int state_at = half * EACH;
  reset = RESET ? reset + int64(batch) * length : reset;
  B += int64(batch) * B_batch + tile.group * STATE;
  C += int64(batch) * C_batch + tile.group * STATE;

  // Outside the recurrence a lane has two channels of every ROWS-th step.
  const int pair_column = warp_id() * WARP_CHANNELS + lane % PAIRS * 2, pair_row = lane / PAIRS;
  const int pair_channel = tile.first + pair_column;
  const int pair_count = tile.valid - pair_column < 2 ? tile.valid - pair_column : 2;
  float4_t* pair_slots = slots + pair_row * WARP_CHANNELS + lane % PAIRS;

  float a_log[EACH], carry[EACH], grad_A[EACH];
  UNROLL for (int i = 0; i < EACH; ++i) {
    const bool real = inside && state_at + i < STATE;
    const int64 index = (int64(blockIdx.x) * DIM + channel) * STATE + state_at + i;
    a_log[i] = real ? A[channel * STATE + state_at + i] * LOG2_E : 0.0f;
    carry[i] = real && carries ? carries[index] : 0.0f;
    grad_A[i] = 0.0f;
  }
  ChannelSums channel_sums;

  ProjectionTile<SAVE_STEPS, WIDTH, ROW_STEP * B_ROW> B_tile;
  ProjectionTile<SAVE_STEPS, WIDTH, ROW_STEP * C_ROW> C_tile;
  auto request = [&](int step) {
    const int rows = last - step < SAVE_STEPS ? last - step : SAVE_STEPS;
    const int64 row = row_of(step, length);
    B_tile.load(B + row * B_ROW, rows);
    C_tile.load(C + row * C_ROW, rows);
  };
  const int blocks = (last - first + SAVE_STEPS - 1) / SAVE_STEPS;
  request(first + (blocks - 1) * SAVE_STEPS);

  NO_UNROLL for (int block = blocks - 1; block >= 0; --block) {
    const int block_first = first + block * SAVE_STEPS;
    const int steps = last - block_first < SAVE_STEPS ? last - block_first : SAVE_STEPS;
    float* projection = projections + (block & 1) * PROJECTION;
    B_tile.store(projection, 2 * WIDTH);
    C_tile.store(projection + WIDTH, 2 * WIDTH);
    sync_block();  // B and C have landed; the sums of the block before have been read
    if (block > 0) request(block_first - SAVE_STEPS);
    const float* B_rows = projection + half * PADDED;
    const float* C_rows = B_rows + WIDTH;

    float h[EACH];
    {
      const int64 saved_blocks = (length + SAVE_STEPS - 1) / SAVE_STEPS;  // asked for here, needed after the elements
      const saved_t* start = saved + ((int64(batch) * saved_blocks + block_first / SAVE_STEPS) * DIM + channel) * STATE + state_at;
      load_states<EACH>(h, start, inside ? STATE - state_at : 0);
    }

    // What is the same for all states of an element. Past the end of the sequence the step size is zero, which
    // changes nothing.
    const int64 pair_first = int64(batch) * length * DIM + row_of(block_first + pair_row, length) * DIM + pair_channel;
    const int64 gate_first = int64(batch) * z_batch + row_of(block_first + pair_row, length) * Z_ROW + pair_channel;
    const int rows = (steps - pair_row + ROWS - 1) / ROWS;  // of this lane
    {
      float shift[2] = {0.0f, 0.0f};
      UNROLL for (int i = 0; i < 2; ++i)
        if (bias && i < pair_count) shift[i] = bias[pair_channel + i];
      RawPair raw_delta[EACH_ROW], raw_u[EACH_ROW], raw_grad[EACH_ROW], raw_z[EACH_ROW];
      UNROLL for (int r = 0; r < EACH_ROW; ++r) {
        const int count = r < rows ? pair_count : 0;
        raw_delta[r].load(delta + pair_first + r * (ROWS * ROW_STEP * DIM), count);
        raw_u[r].load(u + pair_first + r * (ROWS * ROW_STEP * DIM), count);
        raw_grad[r].load(grad_y + pair_first + r * (ROWS * ROW_STEP * DIM), count);
        if constexpr (GATED) raw_z[r].load(z + gate_first + r * (ROWS * ROW_STEP * Z_ROW), count);
      }
      UNROLL for (int r = 0; r < EACH_ROW; ++r) {
        const int count = r < rows ? pair_count : 0;
        float before[2], x[2], g[2];
        raw_delta[r].widen(before);
        raw_u[r].widen(x);
        raw_grad[r].widen(g);
        if constexpr (GATED) {
          float gate[2];
          raw_z[r].widen(gate);
          UNROLL for (int i = 0; i < 2; ++i) g[i] *= gate[i] * sigmoid(gate[i]);
        }
        UNROLL for (int i = 0; i < 2; ++i) {
          const float d = i < count ? step_size(before[i] + shift[i]) : 0.0f;
          pair_slots[r * ROWS * WARP_CHANNELS + i * PAIRS] = {d * x[i], g[i], d, 0.0f};
        }
      }
    }
    sync_warp();

    if (block > 0 && lane % PAIRS == 0 && pair_count > 0) {
      prefetch(saved + ((int64(batch) * ((length + SAVE_STEPS - 1) / SAVE_STEPS) + block_first / SAVE_STEPS - 1) * DIM + channel) * STATE);
      constexpr int64 BACK = int64(SAVE_STEPS) * ROW_STEP;
      UNROLL for (int r = 0; r < EACH_ROW; ++r) {
        const int64 at = pair_first + (r * (ROWS * ROW_STEP) - BACK) * DIM;
        prefetch(delta + at);
        prefetch(u + at);
        prefetch(grad_y + at);
        if constexpr (GATED) {
          prefetch(z + gate_first + (r * (ROWS * ROW_STEP) - BACK) * Z_ROW);
          if (!REPLAY_Y) prefetch(y + at);
        }
      }
    }

    // Replay the block, keeping the state at the start of each sub-block.
    float4_t* const lane_starts = (float4_t*)starts + lane;
    auto keep = [&](int sub) {
      UNROLL for (int q = 0; q < PADDED / 4; ++q) {
        float four[4];
        UNROLL for (int i = 0; i < 4; ++i) four[i] = 4 * q + i < EACH ? h[4 * q + i < EACH ? 4 * q + i : 0] : 0.0f;
        lane_starts[(sub * (PADDED / 4) + q) * 32] = {four[0], four[1], four[2], four[3]};
      }
    };
    auto forget = [&](int s) {
      return RESET && s < steps && drops_state(reset, block_first + s, length);
    };
    keep(0);
    NO_UNROLL for (int sub = 0; sub < SUBS - 1; ++sub) {
      UNROLL for (int j = 0; j < SUB; ++j) {
        const int s = sub * SUB + j;
        const float4_t slot = slots[s * WARP_CHANNELS + lane_slot];
        if (forget(s)) {
          UNROLL for (int i = 0; i < EACH; ++i) h[i] = 0.0f;
        }
        float b[PADDED];
        load_row(b, B_rows + s * 2 * WIDTH);
        UNROLL for (int i = 0; i < EACH; ++i)
          h[i] = fused_multiply_add(exp2_fast(slot.z * a_log[i]), h[i], slot.x * b[i]);
      }
      keep(sub + 1);
    }

    // The adjoint, from the right.
    NO_UNROLL for (int sub = SUBS - 1; sub >= 0; --sub) {
      float decay[SUB][EACH], previous[SUB][EACH], d[SUB], dx[SUB], g[SUB], dot[SUB];
      UNROLL for (int q = 0; q < PADDED / 4; ++q) {
        const float4_t four = lane_starts[(sub * (PADDED / 4) + q) * 32];
        const float values[4] = {four.x, four.y, four.z, four.w};
        UNROLL for (int i = 0; i < 4; ++i)
          if (4 * q + i < EACH) h[4 * q + i] = values[i];
      }
      float* scratch = starts + sub * (PADDED * 32);
      sync_warp();  // the starts have been read
      const float4_t* sub_slots = slots + sub * SUB * WARP_CHANNELS + lane_slot;
      UNROLL for (int j = 0; j < SUB; ++j) {
        const int s = sub * SUB + j;
        const float4_t slot = sub_slots[j * WARP_CHANNELS];
        dx[j] = slot.x, g[j] = slot.y, d[j] = slot.z;
        if (forget(s)) {
          UNROLL for (int i = 0; i < EACH; ++i) h[i] = 0.0f;
        }
        float b[PADDED], c[PADDED], product[8];
        load_row(b, B_rows + s * 2 * WIDTH);
        if constexpr (REPLAY_Y) load_row(c, C_rows + s * 2 * WIDTH);
        dot[j] = 0.0f;
        UNROLL for (int i = 0; i < EACH; ++i) {
          previous[j][i] = h[i];
          decay[j][i] = exp2_fast(d[j] * a_log[i]);
          h[i] = fused_multiply_add(decay[j][i], h[i], dx[j] * b[i]);
          if constexpr (REPLAY_Y) dot[j] = fused_multiply_add(c[i], h[i], dot[j]);
          product[i] = g[j] * h[i];
        }
        UNROLL for (int i = EACH; i < 8; ++i) product[i] = 0.0f;
        channel_sums.add(product, j & 1);
        if (j & 1) channel_sums.finish(scratch + j / 2 * ChannelSums::ROW);
      }
      float* own_slots = (float*)(slots + (sub * SUB + half) * WARP_CHANNELS + lane_slot);
      if constexpr (REPLAY_Y) {
        UNROLL for (int o = 0; o < OWN; ++o)
          own_slots[o * SPLIT * WARP_CHANNELS * 4 + 3] = total_of_own(dot[o * SPLIT], dot[o * SPLIT + SPLIT - 1], half);
      }

      float along_B[SUB], along_A[SUB];
      UNROLL for (int j = SUB - 1; j >= 0; --j) {
        const int s = sub * SUB + j;
        float b[PADDED], c[PADDED], product[8];
        load_row(b, B_rows + s * 2 * WIDTH);
        load_row(c, C_rows + s * 2 * WIDTH);
        along_B[j] = along_A[j] = 0.0f;
        UNROLL for (int i = 0; i < EACH; ++i) {
          const float lambda = fused_multiply_add(g[j], c[i], carry[i]);
          along_B[j] = fused_multiply_add(lambda, b[i], along_B[j]);
          product[i] = lambda * dx[j];
          carry[i] = decay[j][i] * lambda;
          const float q = carry[i] * previous[j][i];
          along_A[j] = fused_multiply_add(a_log[i], q, along_A[j]);
          grad_A[i] = fused_multiply_add(d[j], q, grad_A[i]);
        }
        if (forget(s)) {
          UNROLL for (int i = 0; i < EACH; ++i) carry[i] = 0.0f;
        }
        UNROLL for (int i = EACH; i < 8; ++i) product[i] = 0.0f;
        channel_sums.add(product, j & 1);
        if (!(j & 1)) channel_sums.finish(scratch + (2 + j / 2) * ChannelSums::ROW);
      }
      UNROLL for (int o = 0; o < OWN; ++o)
        *(float2_t*)(own_slots + o * SPLIT * WARP_CHANNELS * 4) = {
            total_of_own(along_B[o * SPLIT], along_B[o * SPLIT + SPLIT - 1], half),
            total_of_own(along_A[o * SPLIT], along_A[o * SPLIT + SPLIT - 1], half)};
      sync_warp();
      ChannelSums::combine(warp_sums + sub * SUB * 2 * WIDTH, scratch);
      if (sub == 0) sync_warp();
    }

    // The gradients of the elements.
    {
      float skip[2] = {0.0f, 0.0f};
      UNROLL for (int i = 0; i < 2; ++i)
        if (D && i < pair_count) skip[i] = D[pair_channel + i];
      RawPair raw_u[EACH_ROW], raw_grad[EACH_ROW], raw_z[EACH_ROW], raw_y[EACH_ROW];
      const float4_t before = *totals;
      float grad_skip[2] = {before.x, before.y}, grad_shift[2] = {before.z, before.w};
      UNROLL for (int r = 0; r < EACH_ROW; ++r) {
        const int count = r < rows ? pair_count : 0;
        raw_u[r].load(u + pair_first + r * (ROWS * ROW_STEP * DIM), count);
        raw_grad[r].load(grad_y + pair_first + r * (ROWS * ROW_STEP * DIM), count);
        if constexpr (GATED) raw_z[r].load(z + gate_first + r * (ROWS * ROW_STEP * Z_ROW), count);
        if constexpr (READ_Y) raw_y[r].load(y + pair_first + r * (ROWS * ROW_STEP * DIM), count);
      }
      UNROLL for (int r = 0; r < EACH_ROW; ++r) {
        const int count = r < rows ? pair_count : 0;
        float x[2], grad[2], to_u[2], to_delta[2];
        raw_u[r].widen(x);
        raw_grad[r].widen(grad);
        float4_t slot[2];
        UNROLL for (int i = 0; i < 2; ++i) slot[i] = pair_slots[r * ROWS * WARP_CHANNELS + i * PAIRS];
        if constexpr (GATED) {
          float gate[2], open[2];
          raw_z[r].widen(gate);
          UNROLL for (int i = 0; i < 2; ++i) {
            if (!REPLAY_Y) gate[i] = open_gate(gate[i]);
            open[i] = sigmoid(gate[i]);
          }
          if constexpr (GATE_GRADIENT) {
            float to_z[2] = {0.0f, 0.0f}, out[2], change[2];
            if constexpr (ACCUMULATE)
              load_elements<2, WHOLE>(to_z, d_z + pair_first + r * (ROWS * ROW_STEP * DIM), count);
            if constexpr (READ_Y) raw_y[r].widen(out);
            UNROLL for (int i = 0; i < 2; ++i) {
              if constexpr (REPLAY_Y)
                change[i] = open[i] * fused_multiply_add(gate[i], 1.0f - open[i], 1.0f) *
                            fused_multiply_add(skip[i], x[i], slot[i].w);
              else
                change[i] = out[i] * (reciprocal_fast(gate[i]) + 1.0f - open[i]);
              to_z[i] = fused_multiply_add(grad[i], change[i], to_z[i]);
            }
            store_pair(d_z + pair_first + r * (ROWS * ROW_STEP * DIM), to_z, count);
          }
          UNROLL for (int i = 0; i < 2; ++i) grad[i] *= gate[i] * open[i];
        }
        UNROLL for (int i = 0; i < 2; ++i) {
          to_u[i] = fused_multiply_add(slot[i].z, slot[i].x, skip[i] * grad[i]);
          to_delta[i] = fused_multiply_add(x[i], slot[i].x, slot[i].y * LN_2) * step_size_slope(slot[i].z);
          grad_skip[i] = fused_multiply_add(grad[i], x[i], grad_skip[i]);
          if (i < count) grad_shift[i] += to_delta[i];
        }
        store_pair(d_u + pair_first + r * (ROWS * ROW_STEP * DIM), to_u, count);
        store_pair(d_delta + pair_first + r * (ROWS * ROW_STEP * DIM), to_delta, count);
      }
      *totals = {grad_skip[0], grad_skip[1], grad_shift[0], grad_shift[1]};
    }

    sync_block();  // all warps' sums are there
    const int64 partial = blockIdx.y % ChannelTile<TILE>::EACH * (batches * length);
    const int64 first_row = partial + int64(batch) * length + row_of(block_first, length);
    NO_UNROLL for (int index = threadIdx.x; index < PROJECTION / 4; index += THREADS) {
      const int s = index / (WIDTH / 2), kind = index / (WIDTH / 4) % 2, n = index % (WIDTH / 4) * 4;
      float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      UNROLL for (int w = 0; w < WARPS; ++w) {
        const float4_t four = *(const float4_t*)(sums + w * PROJECTION + index * 4);
        total[0] += four.x, total[1] += four.y, total[2] += four.z, total[3] += four.w;
      }
      input_t* target = (kind ? d_B : d_C) + ((first_row + s * ROW_STEP) * GROUPS + tile.group) * STATE + n;
      if (s < steps) store_elements<4, STATE % 4 == 0>(target, total, STATE - n);
    }
  }

  const int64 part = int64(blockIdx.x) * DIM;
  const float4_t all = *totals;
  float grad_skip[2] = {all.x, all.y}, grad_shift[2] = {all.z, all.w};
  UNROLL for (int i = 0; i < 2; ++i) {
    UNROLL for (int step = PAIRS; step < 32; step *= 2) {
      grad_skip[i] += shuffle_xor(grad_skip[i], step);
      grad_shift[i] += shuffle_xor(grad_shift[i], step);
    }
    if (pair_row == 0 && i < pair_count) {
      d_D[part + pair_channel + i] = grad_skip[i];
      d_bias[part + pair_channel + i] = grad_shift[i];
    }
  }
  UNROLL for (int i = 0; i < EACH; ++i) {
    if (!inside || state_at + i >= STATE) break;
    d_A[(part + channel) * STATE + state_at + i] = grad_A[i];
    if (segment == 0) d_initial[(int64(batch) * DIM + channel) * STATE + state_at + i] = carry[i];
  }
}

// The sum over tiles of a group, in their order.
KERNEL void __launch_bounds__(THREADS) scan_sum_tiles(const input_t* __restrict__ parts, input_t* __restrict__ sum, int64 count) {
  const int64 index = int64(blockIdx.x) * THREADS + threadIdx.x;
  if (index >= count) return;
  float total = 0.0f;
  UNROLL for (int tile = 0; tile < ChannelTile<TILE>::EACH; ++tile) total += to_float(parts[tile * count + index]);
  sum[index] = from_float<input_t>(total);
}
