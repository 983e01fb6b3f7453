// What passes from segment to segment, so that all segments can run at once.
//
// Forward, a segment's state at its end is  F * (state at its start) + E:  F = exp(A sum(delta)), and E is the
// sum over its steps of exp(A (delta_{s+1} + ... + delta_end)) delta_s u_s B_s. With ADJOINT = 1 the same holds
// for the gradient of the state, from a segment's right edge to its left: E is the sum of
// exp(A (delta_first + ... + delta_s)) g_s C_s, with g the gradient of y before its gate. Neither is a
// recurrence. Both sums start at the edge where their weights are largest, and states whose weights have
// become nothing for all channels of a warp drop out, two at a time: states that decay fast need a few steps
// of a segment, however long it is. A warp has four states of 32 channels; all warps of a block share the work
// that is the same for all states.
#include "scan.cuh"

constexpr int QUADS = STATE > 8 ? 4 : STATE > 4 ? 2 : 1, WIDTH = 4 * QUADS;
constexpr int TILE = THREADS / QUADS, ROWS = 2 * THREADS / TILE;
constexpr int STEPS = 32;  // steps staged together
constexpr float NEGLIGIBLE = EXACT ? 26.0f : 18.0f;  // a weight below 2^-NEGLIGIBLE is nothing
constexpr int64 WEIGHT_ROW = ADJOINT ? C_ROW : B_ROW;
constexpr bool GATED = ADJOINT && Z_ROW > 0;
constexpr int TENSORS = 2 + GATED;
static_assert(WARPS % QUADS == 0 && STEPS % ROWS == 0, "warps share a block's channels and steps evenly");

// Add COUNT states' terms of STEPS steps to `sum`; returns the total step size so far.
template <int COUNT>
DEVICE float accumulate(float* sum, const float* a_log, float elapsed, const float2_t* terms, const float* weights) {
  float rate[COUNT], total[COUNT];
  UNROLL for (int i = 0; i < COUNT; ++i) rate[i] = a_log[i], total[i] = sum[i];
  _Pragma("unroll 8") for (int s = 0; s < STEPS; ++s) {
    const float2_t term = terms[s * TILE];
    const float before = ADJOINT ? elapsed + term.x : elapsed;
    float w[COUNT];
    UNROLL for (int i = 0; i < COUNT; i += 2) {
      const float2_t two = *(const float2_t*)(weights + s * WIDTH + i);
      w[i] = two.x, w[i + 1] = two.y;
    }
    UNROLL for (int i = 0; i < COUNT; ++i)
      total[i] = fused_multiply_add(exp2_fast(rate[i] * before), term.y * w[i], total[i]);
    elapsed += term.x;
  }
  UNROLL for (int i = 0; i < COUNT; ++i) sum[i] = total[i];
  return elapsed;
}

// grid: (batch * (segments - 1), tiles), or with EVERY = 1 (batch * segments, tiles). value: u, or with ADJOINT the
// gradient of y; projection: B, or C. sums, factors: (batch, segments, DIM, STATE); without EVERY the segment that
// nothing follows is left out.
KERNEL void __launch_bounds__(THREADS, BLOCKS) scan_reduce(
    const input_t* __restrict__ value, const input_t* __restrict__ delta, const float* __restrict__ A,
    const input_t* __restrict__ projection, const input_t* __restrict__ z, const float* __restrict__ bias,
    const unsigned char* __restrict__ reset, float* __restrict__ sums, float* __restrict__ factors, int64 length,
    int64 segments, int64 segment_steps, int64 z_batch, int64 projection_batch) {
  SHARED_MEMORY(memory);
  const ChannelTile<TILE> tile(blockIdx.y);
  const int64 reduced = segments - !EVERY;
  const int64 batch = blockIdx.x / reduced, segment = blockIdx.x % reduced + (ADJOINT && !EVERY);
  const int64 first = segment * segment_steps;
  const int64 last = first + segment_steps < length ? first + segment_steps : length;
  // Schedulers own warps by their number: turning the roles from block to block spreads the slow states.
  const int role = (warp_id() + blockIdx.x) % WARPS, quad = role % QUADS;
  const int column = role / QUADS * 32 + lane_id();
  const bool inside = column < tile.valid;
  const int64 channel = tile.first + column;

  float* weights = (float*)memory;                               // [2][STEPS][WIDTH]: B or C
  float2_t* terms = (float2_t*)(weights + 2 * STEPS * WIDTH);    // [STEPS][TILE]: step size, and what B or C weighs
  int* busy = (int*)(terms + STEPS * TILE);                      // [2][WARPS], padded to 16 bytes
  input_t* stages = (input_t*)(busy + (2 * WARPS + 3) / 4 * 4);  // [2][TENSORS][STEPS][TILE]
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
    stage_rows<STEPS, TILE, WALK * DIM, VECTOR>(stage, delta + sequence + row * DIM, rows, tile.valid);
    stage_rows<STEPS, TILE, WALK * DIM, VECTOR>(stage + STEPS * TILE, value + sequence + row * DIM, rows, tile.valid);
    if constexpr (GATED)
      stage_rows<STEPS, TILE, WALK * Z_ROW, VECTOR>(stage + 2 * STEPS * TILE,
                                                    z + batch * z_batch + row * Z_ROW + tile.first, rows, tile.valid);
    copy_async_commit();
    weight_tile.load(projection + row * WEIGHT_ROW, rows);
  };

  float a_log[4], sum[4] = {0.0f, 0.0f, 0.0f, 0.0f}, elapsed = 0.0f;
  // Outside the sums a lane has two neighbouring channels of every ROWS-th step.
  const int pair_column = threadIdx.x % (TILE / 2) * 2, pair_row = threadIdx.x / (TILE / 2);
  float shift[2];
  UNROLL for (int c = 0; c < 2; ++c)
    shift[c] = pair_column + c < tile.valid && bias ? bias[tile.first + pair_column + c] : 0.0f;
  UNROLL for (int i = 0; i < 4; ++i) {
    const int n = quad * 4 + i;
    a_log[i] = inside && n < STATE ? A[channel * STATE + n] * LOG2_E : -1e30f;  // what is not there is negligible
  }

  int active = 3, buffer = 0;  // a bit for two states
  bool cut = false;            // whether a reset lies between the walk and the segment's other edge
  request(0, 0);
  NO_UNROLL for (int64 position = 0; position < total; position += STEPS, buffer ^= 1) {
    const int steps = total - position < STEPS ? int(total - position) : STEPS;
    const float* weight = weights + buffer * STEPS * WIDTH + quad * 4;
    weight_tile.store(weights + buffer * STEPS * WIDTH, WIDTH);
    if (lane_id() == 0) busy[buffer * WARPS + warp_id()] = active;
    copy_async_wait<0>();
    sync_block();
    int any = 0;
    UNROLL for (int w = 0; w < WARPS; ++w) any |= busy[buffer * WARPS + w];
    if (!any) break;
    if (position + STEPS < total) request(position + STEPS, buffer ^ 1);

    int counted = cut ? 0 : steps;  // up to the first reset
    if (RESET && !cut) {
      for (int s = 0; s < steps && !cut; ++s) {
        cut = drops_state(reset, ADJOINT ? first + position + s : last - 1 - position - s, length);
        if (cut) counted = ADJOINT ? s : s + 1;
      }
    }
    const input_t* element = stages + buffer * STAGE + pair_column;
    UNROLL for (int i = 0; i < STEPS / ROWS; ++i) {
      const int s = i * ROWS + pair_row;
      float before[2], x[2], d[2] = {0.0f, 0.0f}, amount[2] = {0.0f, 0.0f};
      load_elements<2, true>(before, element + s * TILE, 2);
      load_elements<2, true>(x, element + (STEPS + s) * TILE, 2);
      if constexpr (GATED) {
        float gate[2];
        load_elements<2, true>(gate, element + (2 * STEPS + s) * TILE, 2);
        UNROLL for (int c = 0; c < 2; ++c) x[c] *= gate[c] * sigmoid(gate[c]);
      }
      if (s < counted) {
        UNROLL for (int c = 0; c < 2; ++c) {
          d[c] = step_size(before[c] + shift[c]);
          amount[c] = ADJOINT ? x[c] : d[c] * x[c];
        }
      }
      *(float4_t*)(terms + s * TILE + pair_column) = {d[0], amount[0], d[1], amount[1]};
    }
    sync_block();
    if (!active) continue;

    if (active == 3)
      elapsed = accumulate<4>(sum, a_log, elapsed, terms + column, weight);
    else if (active == 1)
      elapsed = accumulate<2>(sum, a_log, elapsed, terms + column, weight);
    else
      elapsed = accumulate<2>(sum + 2, a_log + 2, elapsed, terms + column, weight + 2);
    UNROLL for (int pair = 0; pair < 2; ++pair) {
      const bool matters = a_log[2 * pair] * elapsed > -NEGLIGIBLE || a_log[2 * pair + 1] * elapsed > -NEGLIGIBLE;
      if (!warp_any(matters)) active &= ~(1 << pair);
    }
    if (cut) active = 0;
  }

  if (inside) {
    const int64 target = ((batch * segments + segment) * DIM + channel) * STATE + quad * 4;
    UNROLL for (int i = 0; i < 4; ++i) {
      if (quad * 4 + i >= STATE) break;
      sums[target + i] = sum[i];
      factors[target + i] = active >> (i / 2) & 1 ? exp2_fast(a_log[i] * elapsed) : 0.0f;
    }
  }
}

// Every segment's state at its start, or with ADJOINT its gradient at its end, from the sums and factors; one
// thread a state. boundary: the initial state, or the final state's gradient, or null for zeros.
KERNEL void scan_carry(const float* __restrict__ sums, const float* __restrict__ factors,
                       const float* __restrict__ boundary, float* __restrict__ carries, int64 batches, int64 segments) {
  constexpr int64 STATES = int64(DIM) * STATE;
  const int64 index = int64(blockIdx.x) * THREADS + threadIdx.x;
  if (index >= batches * STATES) return;
  const int64 batch = index / STATES, offset = batch * segments * STATES + index % STATES;
  float carry = boundary ? boundary[index] : 0.0f;
  constexpr int AHEAD = 16;
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
