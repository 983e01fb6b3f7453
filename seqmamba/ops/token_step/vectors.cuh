// What instructions have in common: their form, who computes which result, and norms of vectors.
//
// Vectors of a row lie behind each other: row r of a vector of n elements starts at r * n.
#pragma once
#include "activations.cuh"
#include "cluster.cuh"

#if WEIGHTS == 0
typedef float weight_t;
#else
typedef bf16 weight_t;
#endif

constexpr int THREADS = WARPS * 32;
constexpr float INVERSE_ROOT_2 = 0.7071067811865476f;

enum Operation { EMBED, LOAD, STORE, PUSH, ADD_HELD, PRODUCT, LTI_STEP, SCAN_STEP, DRAW };
enum Norm { NO_NORM, RMS, LAYER };
enum Finish { KEEP, ADD, GATE_ADD, SILU_GATE, CONVOLVE };

struct Instruction {
  int operation, finish, norm, n_out, n_in, from, to, second, count, shift, position, unused;
  float eps, unused_float;
  int64 pointers[9];
};
constexpr int WORDS = sizeof(Instruction) / sizeof(int);

DEVICE float silu(float x) { return x * sigmoid(x); }
DEVICE float gelu(float x) { return 0.5f * x * (1.0f + erf_exact(x * INVERSE_ROOT_2)); }

DEVICE float4_t load4(const float* from) { return *reinterpret_cast<const float4_t*>(from); }
DEVICE float4_t load4(const bf16* from) {
  const uint2_t words = *reinterpret_cast<const uint2_t*>(from);
  const float2_t low = unpack2<bf16>(words.x), high = unpack2<bf16>(words.y);
  return {low.x, low.y, high.x, high.y};
}
DEVICE float dot4(float4_t a, float4_t b, float sum) {
  sum = fused_multiply_add(a.x, b.x, sum);
  sum = fused_multiply_add(a.y, b.y, sum);
  sum = fused_multiply_add(a.z, b.z, sum);
  return fused_multiply_add(a.w, b.w, sum);
}
DEVICE float4_t multiply4(float4_t a, float4_t b) { return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w}; }
DEVICE float4_t add4(float4_t a, float b) { return {a.x + b, a.y + b, a.z + b, a.w + b}; }
DEVICE float sum4(float4_t a) { return (a.x + a.y) + (a.z + a.w); }
DEVICE float2_t multiply_complex(float2_t a, float2_t b) {
  return {fused_multiply_add(a.x, b.x, -a.y * b.y), fused_multiply_add(a.x, b.y, a.y * b.x)};
}
DEVICE float sum_of_lanes(float x, int lanes) {  // 8, 16 or 32
  if (lanes > 16) x += shuffle_xor(x, 16);
  if (lanes > 8) x += shuffle_xor(x, 8);
  x += shuffle_xor(x, 4);
  x += shuffle_xor(x, 2);
  return x + shuffle_xor(x, 1);
}

DEVICE bool is_pair(const Instruction& what) { return what.finish >= GATE_ADD && what.finish <= CONVOLVE; }
template <class T> DEVICE T* pointer(const Instruction& what, int which) {
  return in_device_memory(reinterpret_cast<T*>(what.pointers[which]));
}

// Where this thread stands: lane of a group of 2^shift lanes that makes one result, and which group of the cluster's.
// The groups of a warp make neighbours; the warps of the cluster's blocks take turns, so that each block has a share.
struct Place {
  int lanes, lane, group, groups, in_warp;
  DEVICE explicit Place(int shift)
      : lanes(1 << shift),
        lane(thread_in_block() & ((1 << shift) - 1)),
        groups((CLUSTER * THREADS) >> shift),
        in_warp(lane_id() >> shift) {
    group = (((warp_in_block() * CLUSTER + rank_in_cluster()) * 32) >> shift) + in_warp;
  }
  // The lanes of a warp take as many turns as each other: they shuffle together.
  DEVICE bool has_turn(int index, int count) const { return index - in_warp < count; }
};

// Which of the values belongs to this lane: lane r finishes row r.
DEVICE float own(const float (&values)[ROWS], int lane) {
  float value = values[0];
  UNROLL for (int r = 1; r < ROWS; ++r) value = lane == r ? values[r] : value;
  return value;
}

// Send the lanes' values, one a row, to every block of the cluster: vector `to` of `length`, element `index`.
DEVICE void share(
    const Exchange& exchange, float* memory, int to, int length, int index, float value, const Place& place) {
  const bool real = index < length;
  if (ROWS == 1 && length % 4 == 0 && place.lanes < 32) {  // the warp's neighbours in one piece
    const int first = index - place.in_warp;
    float values[4];
    UNROLL for (int i = 0; i < 4; ++i) values[i] = shuffle_from(value, i * place.lanes);
    if (lane_id() >= CLUSTER || first >= length) return;
    if (place.lanes == 8)
      exchange.send<4>(memory + to + first, lane_id(), values);
    else
      exchange.send<2>(memory + to + first, lane_id(), values);
    return;
  }
  const int first = lane_id() - place.lane;
  UNROLL for (int r = 0; r < ROWS; ++r) {
    const float values[4] = {shuffle_from(value, ROWS == 1 ? first : first + r)};
    if (real && place.lane < CLUSTER) exchange.send<1>(memory + to + r * length + index, place.lane, values);
  }
}

// The norm of one row of a vector: x becomes (x - origin - offset) * inverse. The origin is near the mean, so that both
// sums can be taken in one pass.
struct Norming {
  float origin, offset, inverse;
  DEVICE void start(int norm, const float* row) { origin = norm == LAYER ? row[0] : 0.0f; }
  // From the sums of all x - origin and of their squares.
  DEVICE void finish(int norm, float sum, float squares, float share, float eps) {
    offset = norm == LAYER ? sum * share : 0.0f;
    inverse = norm == NO_NORM ? 1.0f : reciprocal_root(fused_multiply_add(-offset, offset, squares * share) + eps);
  }
};

// By every warp for itself.
DEVICE Norming norm_of_row(const Instruction& what, const float* row, int length) {
  Norming norming;
  norming.start(what.norm, row);
  float sum = 0.0f, squares = 0.0f;
  if (what.norm != NO_NORM) {
    for (int k = lane_id(); k < length; k += 32) {
      const float centred = row[k] - norming.origin;
      sum += centred;
      squares = fused_multiply_add(centred, centred, squares);
    }
    if (what.norm == LAYER) sum = sum_of_lanes(sum, 32);
    squares = sum_of_lanes(squares, 32);
  }
  norming.finish(what.norm, sum, squares, reciprocal_fast((float)length), what.eps);
  return norming;
}
