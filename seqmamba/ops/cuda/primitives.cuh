// What the kernels need of the machine, and nothing else: element types, approximate functions, asynchronous
// copies, warp and block collectives, one matrix instruction. Needs no CUDA header, so NVRTC alone compiles it.
// The tests have a second header of the same name that does the same on a CPU.
#pragma once

typedef unsigned int uint32;
typedef unsigned short uint16;
typedef long long int64;

struct bf16 { uint16 bits; };
struct f16 { uint16 bits; };
struct __align__(16) float4_t { float x, y, z, w; };
struct __align__(8) float2_t { float x, y; };
struct __align__(16) uint4_t { uint32 x, y, z, w; };
struct __align__(8) uint2_t { uint32 x, y; };

#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__
// Dynamic shared memory of the block, 16-byte aligned; one declaration a kernel.
#define SHARED_MEMORY(name) extern __shared__ __align__(128) unsigned char name[]
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")

DEVICE uint32 bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(uint32 x) { return __uint_as_float(x); }

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return float_of((uint32)x.bits << 16); }
DEVICE float to_float(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}

// Round to nearest even.
template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE bf16 from_float<bf16>(float x) {
  bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
template <> DEVICE f16 from_float<f16>(float x) {
  f16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}

// Two 16-bit elements in one word, the first in the low half.
template <class T> DEVICE float2_t unpack2(uint32 word);
template <> DEVICE float2_t unpack2<bf16>(uint32 word) {
  return {float_of(word << 16), float_of(word & 0xffff0000u)};
}
template <> DEVICE float2_t unpack2<f16>(uint32 word) {
  return {to_float(f16{(uint16)word}), to_float(f16{(uint16)(word >> 16)})};
}
template <class T> DEVICE uint32 pack2(float low, float high);
template <> DEVICE uint32 pack2<bf16>(float low, float high) {
  uint32 word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
template <> DEVICE uint32 pack2<f16>(float low, float high) {
  uint32 word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// One instruction of the special function unit each, about 2^-22 of relative error; tiny results become zero.
DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float fused_multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE float erf_exact(float x) { return erff(x); }
DEVICE float reciprocal_root(float x) { return rsqrtf(x); }
DEVICE double exp_double(double x) { return exp(x); }
DEVICE double log_double(double x) { return log(x); }

// Copies of BYTES (4, 8 or 16, both ends aligned to it) from device to shared memory behind the thread's back.
template <int BYTES> DEVICE void copy_async(void* shared, const void* global) {
  uint32 address = (uint32)__cvta_generic_to_shared(shared);
  if (BYTES == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(global), "n"(BYTES) : "memory");
}
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Wait until at most PENDING of this thread's committed groups are under way.
template <int PENDING> DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Tell the compiler that an address that it cannot trace is one of device memory.
template <class T> DEVICE T* in_device_memory(T* address) {
  __builtin_assume(__isGlobal(address));
  return address;
}

// Ask for the line of an address to be in the second-level cache soon.
DEVICE void prefetch(const void* global) { asm volatile("prefetch.global.L2 [%0];" ::"l"(global)); }

DEVICE int lane_id() { return threadIdx.x & 31; }
DEVICE int warp_id() { return threadIdx.x >> 5; }
DEVICE void sync_warp() { __syncwarp(); }
DEVICE void sync_block() { __syncthreads(); }
DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE float shuffle_from(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
DEVICE double shuffle_from(double x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
DEVICE bool warp_any(bool x) { return __any_sync(0xffffffffu, x); }
DEVICE uint32 warp_ballot(bool x) { return __ballot_sync(0xffffffffu, x); }
DEVICE int64 clock_cycles() { return clock64(); }

// d (16 x 8) += a (16 x 8) b (8 x 8), tf32 operands (the low 13 bits of a float are ignored), float32 sums.
// Lane l = 4 r + c holds a[r][c], a[r+8][c], a[r][c+4], a[r+8][c+4]; b[c][r], b[c+4][r];
// d[r][2c], d[r][2c+1], d[r+8][2c], d[r+8][2c+1].
DEVICE void mma_tf32(float (&d)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
