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
// ACCUMULATE: add to what d_z holds.
#include "scan.cuh"

constexpr int SUB = 4;                            // steps whose decays and states are in registers
constexpr int SPLIT = STATE > 8 ? 2 : 1;          // lanes a channel
constexpr int EACH = SPLIT == 2 ? 8 : STATE;      // states a lane
constexpr int PADDED = (EACH + 3) / 4 * 4;
constexpr int WIDTH = SPLIT * PADDED;
constexpr int WARP_CHANNELS = 32 / SPLIT, TILE = WARPS * WARP_CHANNELS;
constexpr int SUBS = SAVE_STEPS / SUB, OWN = SUB / SPLIT;
constexpr bool GATED = Z_ROW > 0;
constexpr bool DIRECT = ChannelTile<TILE>::EACH == 1;  // one tile a group: its sums are the gradients
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

// Of two steps' sums over the states of a lane, the total over both halves of the step that this half owns.
DEVICE float total_of_own(float even, float odd, int half) {
  if (SPLIT == 1) return even;
  const float send = half ? even : odd, keep = half ? odd : even;
  return keep + shuffle_xor(send, 16);
}

DEVICE void load_states(float (&to)[PADDED], const float* from) {
  UNROLL for (int i = 0; i < PADDED; i += 4) {
    const float4_t four = *(const float4_t*)(from + i);
    to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
  }
}

// grid: (batch * segments, tiles). carries: (batch, segments, DIM, STATE), the gradient of each segment's last state
// from beyond it, or null for zeros. d_B, d_C: input_t (batch, length, GROUPS, STATE), or if a group has several
// tiles, float32 with a leading axis of tiles. d_A: (batch * segments, DIM, STATE); d_D, d_bias: (batch * segments, DIM).
KERNEL void __launch_bounds__(THREADS, BLOCKS) scan_backward(
    const input_t* __restrict__ grad_y, const input_t* __restrict__ u, const input_t* __restrict__ delta,
    const float* __restrict__ A, const input_t* __restrict__ B, const input_t* __restrict__ C,
    const float* __restrict__ D, const input_t* __restrict__ z, const float* __restrict__ bias,
    const unsigned char* __restrict__ reset, const saved_t* __restrict__ saved, const float* __restrict__ carries,
    input_t* __restrict__ d_u, input_t* __restrict__ d_delta, float* __restrict__ d_A, void* __restrict__ d_B,
    void* __restrict__ d_C, float* __restrict__ d_D, input_t* d_z, float* __restrict__ d_bias,
    float* __restrict__ d_initial, int64 batches, int64 length, int64 segments, int64 segment_steps, int64 z_batch,
    int64 B_batch, int64 C_batch) {
  SHARED_MEMORY(memory);
  const ChannelTile<TILE> tile(blockIdx.y);
  const int64 batch = blockIdx.x / segments, segment = blockIdx.x % segments;
  const int64 first = segment * segment_steps;
  const int64 last = first + segment_steps < length ? first + segment_steps : length;
  const int lane = lane_id(), half = SPLIT == 2 ? lane >> 4 : 0, lane_channel = lane & (WARP_CHANNELS - 1);
  const int column = warp_id() * WARP_CHANNELS + lane_channel;
  const bool inside = column < tile.valid;
  const int64 channel = tile.first + column;

  constexpr int PROJECTION = SAVE_STEPS * 2 * WIDTH;
  float* projections = (float*)memory;                                           // [2][SAVE_STEPS][2][WIDTH]
  float* sums = projections + 2 * PROJECTION;                                    // [WARPS][SAVE_STEPS][2][WIDTH]
  float* starts = sums + WARPS * PROJECTION + warp_id() * SUBS * 32 * PADDED;    // [SUBS][PADDED / 4][32][4], a warp
  float* scratch = sums + WARPS * PROJECTION + WARPS * SUBS * 32 * PADDED + warp_id() * 4 * ChannelSums::ROW;
  float2_t* pairs = (float2_t*)(sums + WARPS * (PROJECTION + SUBS * 32 * PADDED + 4 * ChannelSums::ROW)) +
                    warp_id() * SAVE_STEPS * WARP_CHANNELS;  // [SAVE_STEPS][WARP_CHANNELS], a warp
  float* warp_sums = sums + warp_id() * PROJECTION;

  const int64 sequence = batch * length * DIM + channel;
  const int64 z_sequence = batch * z_batch + channel;
  const int64 state_at = half * EACH;
  reset = RESET ? reset + batch * length : reset;
  B += batch * B_batch + tile.group * STATE;
  C += batch * C_batch + tile.group * STATE;

  float a_log[EACH], carry[EACH], grad_A[EACH];
  const float skip = inside && D ? D[channel] : 0.0f, shift = inside && bias ? bias[channel] : 0.0f;
  float grad_skip = 0.0f, grad_shift = 0.0f;
  UNROLL for (int i = 0; i < EACH; ++i) {
    const bool real = inside && state_at + i < STATE;
    const int64 index = ((batch * segments + segment) * DIM + channel) * STATE + state_at + i;
    a_log[i] = real ? A[channel * STATE + state_at + i] * LOG2_E : 0.0f;
    carry[i] = real && carries ? carries[index] : 0.0f;
    grad_A[i] = 0.0f;
  }
  ChannelSums channel_sums;

  ProjectionTile<SAVE_STEPS, WIDTH, ROW_STEP * B_ROW> B_tile;
  ProjectionTile<SAVE_STEPS, WIDTH, ROW_STEP * C_ROW> C_tile;
  auto request = [&](int64 step) {
    const int rows = last - step < SAVE_STEPS ? int(last - step) : SAVE_STEPS;
    const int64 row = row_of(step, length);
    B_tile.load(B + row * B_ROW, rows);
    C_tile.load(C + row * C_ROW, rows);
  };
  const int64 blocks = (last - first + SAVE_STEPS - 1) / SAVE_STEPS;
  request(first + (blocks - 1) * SAVE_STEPS);

  NO_UNROLL for (int64 block = blocks - 1; block >= 0; --block) {
    const int64 block_first = first + block * SAVE_STEPS;
    const int steps = last - block_first < SAVE_STEPS ? int(last - block_first) : SAVE_STEPS;
    float* projection = projections + (block & 1) * PROJECTION;
    B_tile.store(projection, 2 * WIDTH);
    C_tile.store(projection + WIDTH, 2 * WIDTH);
    sync_block();  // B and C have landed; the sums of the block before have been read
    if (block > 0) request(block_first - SAVE_STEPS);
    const float* B_rows = projection + half * PADDED;
    const float* C_rows = B_rows + WIDTH;

    // The step sizes, once for all states; each half of a channel takes every other step. Past the end of the
    // sequence the step size is zero, which changes nothing.
    const int64 block_row = row_of(block_first + half, length);
    const int own_steps = inside ? steps - half : 0;  // of this half's steps 0, SPLIT, 2 SPLIT, .. those below exist
    {
      const input_t* delta_own = delta + sequence + block_row * DIM;
      const input_t* u_own = u + sequence + block_row * DIM;
      const input_t never = from_float<input_t>(SOFTPLUS ? -1e30f : 0.0f);  // its softplus is zero
      UNROLL for (int i = 0; i < SAVE_STEPS / SPLIT; ++i) {
        const bool counts = i * SPLIT < own_steps;
        const input_t raw = counts ? delta_own[i * (SPLIT * ROW_STEP * DIM)] : never;
        const input_t x = counts ? u_own[i * (SPLIT * ROW_STEP * DIM)] : from_float<input_t>(0.0f);
        float d = step_size(to_float(raw) + shift);
        if (!SOFTPLUS && !counts) d = 0.0f;
        pairs[(i * SPLIT + half) * WARP_CHANNELS + lane_channel] = {d, d * to_float(x)};
      }
    }
    sync_warp();

    // Replay the block, keeping the state at the start of each sub-block.
    float h[EACH];
    {
      const int64 saved_blocks = (length + SAVE_STEPS - 1) / SAVE_STEPS;
      const saved_t* start = saved + ((batch * saved_blocks + block_first / SAVE_STEPS) * DIM + channel) * STATE + state_at;
      if constexpr (EACH == 8 && STATE % 8 == 0 && sizeof(saved_t) == 2) {
        uint4_t packed = {0u, 0u, 0u, 0u};
        if (inside) packed = *(const uint4_t*)start;
        const uint32 words[4] = {packed.x, packed.y, packed.z, packed.w};
        UNROLL for (int i = 0; i < 4; ++i) {
          const float2_t two = unpack2<saved_t>(words[i]);
          h[2 * i] = two.x, h[2 * i + 1] = two.y;
        }
      } else {
        UNROLL for (int i = 0; i < EACH; ++i) h[i] = inside && state_at + i < STATE ? to_float(start[i]) : 0.0f;
      }
    }
    auto start_of = [&](int sub, int quad) { return (float4_t*)(starts + ((sub * (PADDED / 4) + quad) * 32 + lane) * 4); };
    auto keep = [&](int sub) {
      UNROLL for (int q = 0; q < PADDED / 4; ++q)
        *start_of(sub, q) = {h[4 * q], 4 * q + 1 < EACH ? h[4 * q + 1 < EACH ? 4 * q + 1 : 0] : 0.0f,
                             4 * q + 2 < EACH ? h[4 * q + 2 < EACH ? 4 * q + 2 : 0] : 0.0f,
                             4 * q + 3 < EACH ? h[4 * q + 3 < EACH ? 4 * q + 3 : 0] : 0.0f};
    };
    keep(0);
    NO_UNROLL for (int sub = 0; sub < SUBS - 1; ++sub) {
      UNROLL for (int j = 0; j < SUB; ++j) {
        const int s = sub * SUB + j;
        const float2_t pair = pairs[s * WARP_CHANNELS + lane_channel];
        if (RESET && s < steps && drops_state(reset, block_first + s, length)) {
          UNROLL for (int i = 0; i < EACH; ++i) h[i] = 0.0f;
        }
        float b[PADDED];
        load_states(b, B_rows + s * 2 * WIDTH);
        UNROLL for (int i = 0; i < EACH; ++i)
          h[i] = fused_multiply_add(exp2_fast(pair.x * a_log[i]), h[i], pair.y * b[i]);
      }
      keep(sub + 1);
    }

    // The adjoint, from the right.
    input_t next_u[OWN], next_z[OWN], next_grad[OWN], next_before[OWN];
    auto fetch = [&](int sub) {
      const int64 at = sequence + (block_row + sub * (SUB * ROW_STEP)) * DIM;
      const int64 z_at = z_sequence + (block_row + sub * (SUB * ROW_STEP)) * Z_ROW;
      UNROLL for (int o = 0; o < OWN; ++o) {
        const bool counts = sub * SUB + o * SPLIT < own_steps;
        const input_t zero = from_float<input_t>(0.0f);
        next_u[o] = counts ? u[at + o * (SPLIT * ROW_STEP * DIM)] : zero;
        next_grad[o] = counts ? grad_y[at + o * (SPLIT * ROW_STEP * DIM)] : zero;
        if constexpr (GATED) next_z[o] = counts ? z[z_at + o * (SPLIT * ROW_STEP * Z_ROW)] : zero;
        if constexpr (ACCUMULATE) next_before[o] = counts ? d_z[at + o * (SPLIT * ROW_STEP * DIM)] : zero;
      }
    };
    fetch(SUBS - 1);
    NO_UNROLL for (int sub = SUBS - 1; sub >= 0; --sub) {
      float own_u[OWN], own_g[OWN], own_slope[OWN], own_before[OWN];
      UNROLL for (int o = 0; o < OWN; ++o) {
        own_u[o] = to_float(next_u[o]);
        own_g[o] = to_float(next_grad[o]);
        own_slope[o] = 0.0f;
        own_before[o] = 0.0f;
        if constexpr (GATED) {
          const float gate = to_float(next_z[o]), open = sigmoid(gate);
          own_slope[o] = own_g[o] * open * (1.0f + gate * (1.0f - open));  // grad_y times the slope of silu
          own_g[o] *= gate * open;
          if constexpr (ACCUMULATE) own_before[o] = to_float(next_before[o]);
        }
      }
      if (sub > 0) fetch(sub - 1);

      float decay[SUB][EACH], previous[SUB][EACH], d[SUB], dx[SUB], g[SUB], dot[SUB];
      UNROLL for (int q = 0; q < PADDED / 4; ++q) {
        const float4_t four = *start_of(sub, q);
        const float values[4] = {four.x, four.y, four.z, four.w};
        UNROLL for (int i = 0; i < 4; ++i)
          if (4 * q + i < EACH) h[4 * q + i] = values[i];
      }
      UNROLL for (int j = 0; j < SUB; ++j) {
        const int s = sub * SUB + j;
        const float2_t pair = pairs[s * WARP_CHANNELS + lane_channel];
        d[j] = pair.x, dx[j] = pair.y;
        g[j] = SPLIT == 2 ? shuffle_from(own_g[j / SPLIT], (lane & 15) | (j % SPLIT) << 4) : own_g[j / SPLIT];
        if (RESET && s < steps && drops_state(reset, block_first + s, length)) {
          UNROLL for (int i = 0; i < EACH; ++i) h[i] = 0.0f;
        }
        float b[PADDED], c[PADDED], product[8];
        load_states(b, B_rows + s * 2 * WIDTH);
        if constexpr (GATED) load_states(c, C_rows + s * 2 * WIDTH);
        dot[j] = 0.0f;
        UNROLL for (int i = 0; i < EACH; ++i) {
          previous[j][i] = h[i];
          decay[j][i] = exp2_fast(d[j] * a_log[i]);
          h[i] = fused_multiply_add(decay[j][i], h[i], dx[j] * b[i]);
          if constexpr (GATED) dot[j] = fused_multiply_add(c[i], h[i], dot[j]);
          product[i] = g[j] * h[i];
        }
        UNROLL for (int i = EACH; i < 8; ++i) product[i] = 0.0f;
        channel_sums.add(product, j & 1);
        if (j & 1) channel_sums.finish(scratch + j / 2 * ChannelSums::ROW);
      }
      if constexpr (GATED) {
        UNROLL for (int o = 0; o < OWN; ++o) {
          const float total = total_of_own(dot[o * SPLIT], dot[o * SPLIT + SPLIT - 1], half);
          const float grad_z = own_slope[o] * fused_multiply_add(skip, own_u[o], total) + own_before[o];
          if (sub * SUB + o * SPLIT < own_steps)
            d_z[sequence + (block_row + sub * (SUB * ROW_STEP) + o * (SPLIT * ROW_STEP)) * DIM] = from_float<input_t>(grad_z);
        }
      }

      float along_B[SUB], along_A[SUB];
      UNROLL for (int j = SUB - 1; j >= 0; --j) {
        const int s = sub * SUB + j;
        float b[PADDED], c[PADDED], product[8];
        load_states(b, B_rows + s * 2 * WIDTH);
        load_states(c, C_rows + s * 2 * WIDTH);
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
        if (RESET && s < steps && drops_state(reset, block_first + s, length)) {
          UNROLL for (int i = 0; i < EACH; ++i) carry[i] = 0.0f;
        }
        UNROLL for (int i = EACH; i < 8; ++i) product[i] = 0.0f;
        channel_sums.add(product, j & 1);
        if (!(j & 1)) channel_sums.finish(scratch + (2 + j / 2) * ChannelSums::ROW);
      }
      sync_warp();
      ChannelSums::combine(warp_sums + sub * SUB * 2 * WIDTH, scratch);
      sync_warp();
      UNROLL for (int o = 0; o < OWN; ++o) {
        const float to_B = total_of_own(along_B[o * SPLIT], along_B[o * SPLIT + SPLIT - 1], half);
        const float to_A = total_of_own(along_A[o * SPLIT], along_A[o * SPLIT + SPLIT - 1], half) * LN_2;
        const float own_d = SPLIT == 2 ? (half ? d[o * SPLIT + SPLIT - 1] : d[o * SPLIT]) : d[o];
        const float grad_delta = fused_multiply_add(own_u[o], to_B, to_A) * step_size_slope(own_d);
        if (sub * SUB + o * SPLIT < own_steps) {
          const int64 at = sequence + (block_row + sub * (SUB * ROW_STEP) + o * (SPLIT * ROW_STEP)) * DIM;
          d_u[at] = from_float<input_t>(fused_multiply_add(own_d, to_B, skip * own_g[o]));
          d_delta[at] = from_float<input_t>(grad_delta);
          grad_shift += grad_delta;
          grad_skip = fused_multiply_add(own_g[o], own_u[o], grad_skip);
        }
      }
    }

    sync_block();  // all warps' sums are there
    for (int index = threadIdx.x; index < PROJECTION; index += THREADS) {
      const int s = index / (2 * WIDTH), kind = index / WIDTH % 2, n = index % WIDTH;
      if (s >= steps || n >= STATE) continue;
      float sum = 0.0f;
      UNROLL for (int w = 0; w < WARPS; ++w) sum += sums[w * PROJECTION + index];
      const int64 row = batch * length + row_of(block_first + s, length);
      const int64 at = (row * GROUPS + tile.group) * STATE + n;
      void* target = kind ? d_B : d_C;
      if constexpr (DIRECT) {
        ((input_t*)target)[at] = from_float<input_t>(sum);
      } else {
        const int64 partial = blockIdx.y % ChannelTile<TILE>::EACH;
        ((float*)target)[partial * batches * length * GROUPS * STATE + at] = sum;
      }
    }
  }

  if (SPLIT == 2) {
    grad_skip += shuffle_xor(grad_skip, 16);
    grad_shift += shuffle_xor(grad_shift, 16);
  }
  if (!inside) return;
  const int64 part = (batch * segments + segment) * DIM + channel;
  if (half == 0) {
    d_D[part] = grad_skip;
    d_bias[part] = grad_shift;
  }
  UNROLL for (int i = 0; i < EACH; ++i) {
    if (state_at + i >= STATE) break;
    d_A[part * STATE + state_at + i] = grad_A[i];
    if (segment == 0) d_initial[(batch * DIM + channel) * STATE + state_at + i] = carry[i];
  }
}

// The sum over tiles of a group, in their order.
KERNEL void __launch_bounds__(THREADS) scan_sum_tiles(const float* __restrict__ parts, input_t* __restrict__ sum, int64 count) {
  const int64 index = int64(blockIdx.x) * THREADS + threadIdx.x;
  if (index >= count) return;
  float total = 0.0f;
  UNROLL for (int tile = 0; tile < ChannelTile<TILE>::EACH; ++tile) total += parts[tile * count + index];
  sum[index] = from_float<input_t>(total);
}
