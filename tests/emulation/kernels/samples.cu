// Small kernels, right and wrong, for the tests of the emulator and of the run-time compiler.
#include "primitives.cuh"

#ifndef ELEMENT
#define ELEMENT float
#endif

KERNEL void __launch_bounds__(128) scale(const ELEMENT* __restrict__ x, ELEMENT* __restrict__ y, int64 size, float factor) {
  const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < size) y[i] = from_float<ELEMENT>(factor * to_float(x[i]));
}

KERNEL void place(int64* out) {
  const int64 block = ((int64)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  out[block * blockDim.x + threadIdx.x] = block * 1000 + threadIdx.x;
}

KERNEL void shuffles(const float* x, float* sums, float* firsts, float* any) {
  const int i = threadIdx.x;
  float sum = x[i];
  for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  sums[i] = sum;
  firsts[i] = shuffle_from(x[i], (lane_id() + 5) & 31);
  any[i] = warp_any(x[i] > 1000.0f) ? 1.0f : 0.0f;
}

// a (16, 8) and b (8, 8) in row-major order, d (16, 8).
KERNEL void multiply(const float* a, const float* b, float* d) {
  const int r = lane_id() >> 2, c = lane_id() & 3;
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_tf32(sums, bits_of(a[r * 8 + c]), bits_of(a[(r + 8) * 8 + c]), bits_of(a[r * 8 + c + 4]),
           bits_of(a[(r + 8) * 8 + c + 4]), bits_of(b[c * 8 + r]), bits_of(b[(c + 4) * 8 + r]));
  d[r * 8 + 2 * c] = sums[0];
  d[r * 8 + 2 * c + 1] = sums[1];
  d[(r + 8) * 8 + 2 * c] = sums[2];
  d[(r + 8) * 8 + 2 * c + 1] = sums[3];
}

// Prefix sums over a block through shared memory, with as many barriers as there are steps.
KERNEL void prefix(const float* x, float* y) {
  SHARED_MEMORY(memory);
  float* sums = (float*)memory;
  const int i = threadIdx.x;
  sums[i] = x[(int64)blockIdx.x * blockDim.x + i];
  sync_block();
  for (int step = 1; step < (int)blockDim.x; step *= 2) {
    const float other = i >= step ? sums[i - step] : 0.0f;
#ifndef WITHOUT_BARRIER
    sync_block();
#endif
    sums[i] += other;
    sync_block();
  }
  y[(int64)blockIdx.x * blockDim.x + i] = sums[i];
}

// Copies x through shared memory in groups, one ahead of the sums.
KERNEL void copied_sums(const float* x, float* y, int64 groups, int64 shift) {
  SHARED_MEMORY(memory);
  float* buffer = (float*)memory;
  const int i = threadIdx.x, width = 4 * blockDim.x;
  float sum = 0.0f;
  copy_async<16>(buffer + 4 * i, x + 4 * i + shift);
  copy_async_commit();
  for (int64 group = 0; group < groups; ++group) {
    if (group + 1 < groups) copy_async<16>(buffer + (group + 1) % 2 * width + 4 * i, x + (group + 1) * width + 4 * i);
    copy_async_commit();
#ifndef WITHOUT_WAIT
    copy_async_wait<1>();
#endif
    for (int j = 0; j < 4; ++j) sum += buffer[group % 2 * width + 4 * i + j];
  }
  y[i] = sum;
}

KERNEL void convert_from(const float* x, bf16* as_bf16, f16* as_f16, uint32* pairs_bf16, uint32* pairs_f16, int64 size) {
  const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= size) return;
  as_bf16[i] = from_float<bf16>(x[i]);
  as_f16[i] = from_float<f16>(x[i]);
  pairs_bf16[i] = pack2<bf16>(x[i], -x[i]);
  pairs_f16[i] = pack2<f16>(x[i], -x[i]);
}

KERNEL void convert_to(const bf16* x, const f16* y, float* from_bf16, float* from_f16, float* second) {
  const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  from_bf16[i] = to_float(x[i]);
  from_f16[i] = to_float(y[i]);
  const float2_t a = unpack2<bf16>((uint32)x[i].bits << 16 | 0x3f80u), b = unpack2<f16>((uint32)y[i].bits << 16 | 0x3c00u);
  second[2 * i] = a.x == 1.0f ? a.y : 7.0f;
  second[2 * i + 1] = b.x == 1.0f ? b.y : 7.0f;
}

KERNEL void functions(const float* x, float* exp2s, float* log2s, float* reciprocals) {
  const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  exp2s[i] = exp2_fast(x[i]);
  log2s[i] = log2_fast(x[i]);
  reciprocals[i] = reciprocal_fast(x[i]);
}

// ---- wrong on purpose ----

KERNEL void divergent(float* y) {
  if (lane_id() < 7) {
    y[threadIdx.x] = shuffle_xor(1.0f, 1);
  } else {
    sync_warp();
    y[threadIdx.x] = shuffle_xor(2.0f, 1);
  }
}

KERNEL void leaves_early(float* y) {
  if (threadIdx.x >= 32) return;
  sync_block();
  y[threadIdx.x] = 1.0f;
}

KERNEL void shared_past_end(float* y, int64 index) {
  SHARED_MEMORY(memory);
  ((float*)memory)[index] = 1.0f;
  y[threadIdx.x] = 1.0f;
}

KERNEL void unwritten_shared(float* y) {
  SHARED_MEMORY(memory);
  y[threadIdx.x] = ((float*)memory)[threadIdx.x];
}

KERNEL void write_at(float* y, int64 index) { y[index] = 1.0f; }

KERNEL void read_at(const float* x, float* y, int64 index) { y[threadIdx.x] = x[index]; }

KERNEL void write_const(const float* x) { const_cast<float*>(x)[threadIdx.x] = 1.0f; }

inline
#ifdef __CUDACC__
__device__
#endif
__attribute__((noinline)) float down(float* y, int64 depth) {
  volatile float frame[256];
  frame[depth & 255] = y[depth & 31];
  return depth == 0 ? frame[0] : down(y, depth - 1) + frame[depth & 255];
}
KERNEL void recurse(float* y, int64 depth) { y[threadIdx.x] = down(y, depth); }

// 128 live values, and a register limit of 64 from 1024 threads a block.
KERNEL void __launch_bounds__(1024, 1) spilling(const float* x, float* y) {
  float values[128];
  UNROLL for (int i = 0; i < 128; ++i) values[i] = x[i * blockDim.x + threadIdx.x];
  sync_block();
  UNROLL for (int i = 0; i < 128; ++i) y[(i * 37 % 128) * blockDim.x + threadIdx.x] = values[i] * values[127 - i];
}
