// Activations of more than one kernel file, by the approximations of the special function unit.
#pragma once
#include "primitives.cuh"

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

DEVICE float sigmoid(float x) { return reciprocal_fast(1.0f + exp2_fast(x * -LOG2_E)); }

// log(1 + exp(x)). Where EXACT, a short series serves small values, where log2(1 + e) would round e away.
template <bool EXACT> DEVICE float softplus(float x) {
  float e = exp2_fast(x * LOG2_E);
  float d = log2_fast(1.0f + e) * LN_2;
  if (EXACT) {
    float series = e * (1.0f + e * (-0.5f + e * (1.0f / 3 + e * (-0.25f + e * (0.2f - e * (1.0f / 6))))));
    d = e < 0.09f ? series : d;
  }
  return x > 20.0f ? x : d;
}
