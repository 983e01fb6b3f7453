// The machine primitives of the CUDA kernels (seqmamba/ops/cuda/primitives.cuh), on a CPU: same names, same meaning.
#pragma once

#include "scheduler.h"

typedef unsigned int uint32;
typedef unsigned short uint16;
typedef long long int64;

struct bf16 { uint16 bits; };
struct f16 { uint16 bits; };
struct alignas(16) float4_t { float x, y, z, w; };
struct alignas(8) float2_t { float x, y; };
struct alignas(16) uint4_t { uint32 x, y, z, w; };
struct alignas(8) uint2_t { uint32 x, y; };

#define DEVICE inline __attribute__((always_inline))
#define KERNEL extern "C" __attribute__((used))
#define SHARED_MEMORY(name) unsigned char* const name = emulator::shared_memory()
#define UNROLL
#define NO_UNROLL
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
// Default arguments: where the kernel calls, for messages and to tell one collective from another.
#define EMULATED_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

DEVICE uint32 bits_of(float x) {
  uint32 bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}
DEVICE float float_of(uint32 x) {
  float value;
  __builtin_memcpy(&value, &x, 4);
  return value;
}

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return float_of((uint32)x.bits << 16); }
inline float to_float(f16 x) {
  const uint32 sign = (x.bits & 0x8000u) << 16, exponent = (x.bits >> 10) & 31, mantissa = x.bits & 0x3ffu;
  if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) return float_of(sign | bits_of((float)mantissa * 0x1p-24f));
  return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

template <class T> T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> inline bf16 from_float<bf16>(float x) {
  const uint32 bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};  // every NaN, as the chip does
  return {(uint16)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}
template <> inline f16 from_float<f16>(float x) {
  const uint32 bits = bits_of(x), magnitude = bits & 0x7fffffffu;
  const uint16 sign = bits >> 16 & 0x8000;
  if (magnitude > 0x7f800000u) return {0x7fff};
  if (magnitude >= 0x477ff000u) return {(uint16)(sign | 0x7c00)};  // 65520 and more: infinity
  if (magnitude < 0x38800000u) {  // below the smallest normal: adding 0.5 leaves multiples of 2^-24, rounded to even
    const float rounded = float_of(magnitude) + 0.5f;
    return {(uint16)(sign | (bits_of(rounded) - 0x3f000000u))};
  }
  const uint32 rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
  return {(uint16)(sign | ((rounded - 0x38000000u) >> 13))};
}

template <class T> float2_t unpack2(uint32 word);
template <> DEVICE float2_t unpack2<bf16>(uint32 word) {
  return {float_of(word << 16), float_of(word & 0xffff0000u)};
}
template <> DEVICE float2_t unpack2<f16>(uint32 word) {
  return {to_float(f16{(uint16)word}), to_float(f16{(uint16)(word >> 16)})};
}
template <class T> uint32 pack2(float low, float high);
template <> DEVICE uint32 pack2<bf16>(float low, float high) {
  return from_float<bf16>(low).bits | (uint32)from_float<bf16>(high).bits << 16;
}
template <> DEVICE uint32 pack2<f16>(float low, float high) {
  return from_float<f16>(low).bits | (uint32)from_float<f16>(high).bits << 16;
}

// Subnormal operands and results count as zero, as in the chip's approximations.
DEVICE float flush_subnormal(float x) { return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0.0f, x) : x; }
DEVICE float exp2_fast(float x) { return flush_subnormal(__builtin_exp2f(flush_subnormal(x))); }
DEVICE float log2_fast(float x) { return flush_subnormal(__builtin_log2f(flush_subnormal(x))); }
DEVICE float reciprocal_fast(float x) { return flush_subnormal(1.0f / flush_subnormal(x)); }
DEVICE float fused_multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float erf_exact(float x) { return __builtin_erff(x); }
DEVICE float reciprocal_root(float x) { return 1.0f / __builtin_sqrtf(x); }
DEVICE double exp_double(double x) { return __builtin_exp(x); }
DEVICE double log_double(double x) { return __builtin_log(x); }

// The bytes arrive no earlier than the wait for them, so that a missing wait shows.
template <int BYTES> DEVICE void copy_async(void* shared, const void* global, EMULATED_PLACE) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "copy_async copies 4, 8 or 16 bytes");
  emulator::copy_later(shared, global, BYTES, file, line);
}
DEVICE void copy_async_commit() { emulator::commit_copies(); }
template <int PENDING> DEVICE void copy_async_wait() {
  static_assert(PENDING >= 0, "copy_async_wait leaves no fewer than 0 groups under way");
  emulator::wait_for_copies(PENDING);
}

template <class T> DEVICE T* in_device_memory(T* address) { return address; }
DEVICE void prefetch(const void*) {}

DEVICE int lane_id() { return threadIdx.x & 31; }
DEVICE int warp_id() { return threadIdx.x >> 5; }
DEVICE void sync_warp(EMULATED_PLACE) { emulator::meet(emulator::SYNC_WARP, nullptr, 0, file, line); }
DEVICE void sync_block(EMULATED_PLACE) { emulator::meet(emulator::SYNC_BLOCK, nullptr, 0, file, line); }
DEVICE float shuffle_xor(float x, int mask, EMULATED_PLACE) {
  const uint32 word = bits_of(x);
  const int source = (lane_id() ^ mask) & 31;
  return float_of(emulator::meet(emulator::SHUFFLE_XOR, &word, 1, file, line)[source][0]);
}
DEVICE float shuffle_from(float x, int lane, EMULATED_PLACE) {
  const uint32 word = bits_of(x);
  return float_of(emulator::meet(emulator::SHUFFLE_FROM, &word, 1, file, line)[lane & 31][0]);
}
DEVICE double shuffle_from(double x, int lane, EMULATED_PLACE) {
  uint32 words[2];
  __builtin_memcpy(words, &x, 8);
  double value;
  __builtin_memcpy(&value, emulator::meet(emulator::SHUFFLE_FROM, words, 2, file, line)[lane & 31], 8);
  return value;
}
DEVICE uint32 warp_ballot(bool x, EMULATED_PLACE) {
  const uint32 word = x;
  emulator::Brought brought = emulator::meet(emulator::WARP_ANY, &word, 1, file, line);
  uint32 lanes = 0;
  for (int lane = 0; lane < 32; ++lane) lanes |= brought[lane][0] << lane;
  return lanes;
}
DEVICE int64 clock_cycles() { return 0; }
DEVICE bool warp_any(bool x, EMULATED_PLACE) {
  const uint32 word = x;
  emulator::Brought brought = emulator::meet(emulator::WARP_ANY, &word, 1, file, line);
  uint32 any = 0;
  for (int lane = 0; lane < 32; ++lane) any |= brought[lane][0];
  return any != 0;
}

inline void mma_tf32(float (&d)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1, EMULATED_PLACE) {
  const uint32 words[6] = {a0, a1, a2, a3, b0, b1};
  emulator::Brought brought = emulator::meet(emulator::MMA, words, 6, file, line);
  const int row = lane_id() >> 2, column = 2 * (lane_id() & 3);
  for (int k = 0; k < 8; ++k) {
    const uint32* a = brought[4 * row + (k & 3)] + (k < 4 ? 0 : 2);
    const float upper = float_of(a[0] & 0xffffe000u), lower = float_of(a[1] & 0xffffe000u);
    for (int j = 0; j < 2; ++j) {
      const float b = float_of(brought[4 * (column + j) + (k & 3)][4 + (k >> 2)] & 0xffffe000u);
      d[j] += upper * b;
      d[2 + j] += lower * b;
    }
  }
}

// What Python needs to call a kernel: the types of its parameters in words, and a call from pointers to values.
namespace emulator {

template <class T> struct Name { static constexpr const char* value = "other"; };
#define EMULATED_NAME(type, name) template <> struct Name<type> { static constexpr const char* value = name; };
EMULATED_NAME(float, "float32")
EMULATED_NAME(double, "float64")
EMULATED_NAME(bf16, "bfloat16")
EMULATED_NAME(f16, "float16")
EMULATED_NAME(int64, "int64")
EMULATED_NAME(long, "int64")
EMULATED_NAME(int, "int32")
EMULATED_NAME(uint32, "int32")
EMULATED_NAME(unsigned char, "byte")
EMULATED_NAME(signed char, "byte")
EMULATED_NAME(char, "byte")
EMULATED_NAME(bool, "byte")
EMULATED_NAME(void, "any")
EMULATED_NAME(float4_t, "any")
EMULATED_NAME(float2_t, "any")
EMULATED_NAME(uint4_t, "any")
EMULATED_NAME(uint2_t, "any")

template <class T> struct Parameter { static constexpr const char *kind = "value", *type = Name<T>::value; };
template <class T> struct Parameter<T*> { static constexpr const char *kind = "output", *type = Name<T>::value; };
template <class T> struct Parameter<const T*> { static constexpr const char *kind = "input", *type = Name<T>::value; };

template <int... I> struct Indices {};
template <int N, int... I> struct Counted : Counted<N - 1, N - 1, I...> {};
template <int... I> struct Counted<0, I...> { typedef Indices<I...> Type; };

template <class... P, int... I>
void call(void (*kernel)(P...), void* const* arguments, Indices<I...>) { kernel(*(P*)arguments[I]...); }
template <class... P>
void call(void (*kernel)(P...), void* const* arguments) {
  call(kernel, arguments, typename Counted<sizeof...(P)>::Type());
}
template <class... P> const char* const* parameters(void (*)(P...)) {
  static const char* const words[] = {Parameter<P>::kind..., nullptr, Parameter<P>::type..., nullptr};
  return words;
}

}  // namespace emulator

#define EMULATED_EXPORT extern "C" __attribute__((visibility("default")))
#define EMULATED_KERNEL(kernel)                                                                            \
  EMULATED_EXPORT void emulated_call_##kernel(void* const* arguments) { emulator::call(kernel, arguments); } \
  EMULATED_EXPORT const char* const* emulated_parameters_##kernel() { return emulator::parameters(kernel); }
