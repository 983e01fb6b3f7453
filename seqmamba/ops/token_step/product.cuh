// Products of a matrix, or a pair, and a vector, and what becomes of them.
#pragma once
#include "vectors.cuh"

constexpr int WIDEST = 7;  // of the inputs that a convolution keeps
constexpr int TOGETHER = ROWS <= 2 ? 2 : 1;  // parts of a row of weights likewise

// One step of the causal convolution of a row's channel, and SiLU; moves the inputs before it.
DEVICE float convolve(const Instruction& what, int64 row, int channel, float x, bool real) {
  const int before = what.count - 1, dim = what.n_out;
  const float* weight = pointer<float>(what, 4) + channel * what.count;
  const float* bias = pointer<float>(what, 5);
  float* inputs = pointer<float>(what, 6) + (real ? row * before * dim : 0) + channel;
  float values[WIDEST];
  UNROLL for (int t = 0; t < WIDEST; ++t) values[t] = t < before ? inputs[t * dim] : 0.0f;
  float sum = bias ? bias[channel] : 0.0f;
  UNROLL for (int t = 0; t < WIDEST; ++t) {
    if (t < before) sum = fused_multiply_add(weight[t], values[t], sum);
    if (real && t > 0 && t < before) inputs[(t - 1) * dim] = values[t];
  }
  if (real && before > 0) inputs[(before - 1) * dim] = x;
  return silu(fused_multiply_add(weight[before], x, sum));
}

// What a product's row, and its partner's, becomes.
DEVICE void finish(
    const Instruction& what, const Exchange& exchange, float* memory, int64 first_row, int rows, const Place& place,
    int index, float value, float partner) {
  const bool real = index < what.n_out;
  const int output = real ? index : 0;
  const float before = memory[what.to + (place.lane < ROWS ? place.lane : 0) * what.n_out + output];
  if (what.finish == ADD) value += before;
  if (what.finish == GATE_ADD) value = before + value * sigmoid(partner);
  if (what.finish == SILU_GATE) value *= silu(partner);
  if (what.finish == CONVOLVE) {
    value = convolve(what, first_row + place.lane, output, value, real && place.lane < rows);
    share(exchange, memory, what.second, what.n_out, index, partner, place);
  }
  share(exchange, memory, what.to, what.n_out, index, value, place);
}

// A few numbers of a matrix's row and its partner's. The factors of a norm in front of it are multiplied in, so that
// of the vector nothing but its mean and deviation is missing.
struct Weights {
  float4_t a[TOGETHER], b[TOGETHER];
  DEVICE void fetch(const Instruction& what, int output, int first, int step) {
    const weight_t* row = pointer<weight_t>(what, 0) + (int64)output * what.n_in;
    const int64 apart = (int64)what.n_out * what.n_in;
    UNROLL for (int j = 0; j < TOGETHER; ++j) {
      const int k = first + j * step;
      a[j] = b[j] = {0.0f, 0.0f, 0.0f, 0.0f};
      if (k < what.n_in) a[j] = load4(row + k);
      if (k < what.n_in && is_pair(what)) b[j] = load4(row + apart + k);
    }
  }
};

// What one lane has of a result: sums with the factors of the norm, and with its shifts.
struct Constants {
  float a, b, a_shift, b_shift;
  DEVICE void fold(const Instruction& what, int first, int step, Weights& weights) {
    if (what.norm == NO_NORM) return;
    UNROLL for (int j = 0; j < TOGETHER; ++j) {
      const int k = first + j * step;
      if (k >= what.n_in) continue;
      if (what.norm == LAYER) {
        const float4_t shift = load4(pointer<float>(what, 3) + k);
        a_shift = dot4(weights.a[j], shift, a_shift);
        b_shift = dot4(weights.b[j], shift, b_shift);
      }
      const float4_t factor = load4(pointer<float>(what, 2) + k);
      weights.a[j] = multiply4(weights.a[j], factor);
      weights.b[j] = multiply4(weights.b[j], factor);
      if (what.norm == LAYER) {
        a += sum4(weights.a[j]);
        b += sum4(weights.b[j]);
      }
    }
  }
};

// Results of a product of a matrix (n_out, or 2 n_out for those that are gated, n_in) and a vector. The lanes that share
// a result read all of the vector, so where they do it for one row they find its norm on the way.
DEVICE void product(const Instruction& what, const Exchange& exchange, float* memory, int64 first_row, int rows) {
  constexpr bool ON_THE_WAY = ROWS == 1;
  const bool pairs = is_pair(what);
  const int n_in = what.n_in, n_out = what.n_out, norm = what.norm;
  const float* vector = memory + what.from;
  const float* bias = pointer<float>(what, 1);
  const Place place(what.shift);
  const int step = 4 * place.lanes;
  Norming norming[ROWS];
  Weights weights;
  exchange.expect(4 * ROWS * n_out * (what.finish == CONVOLVE ? 2 : 1));
  int index = place.group;
  do {
    const bool turn = place.has_turn(index, n_out);
    const int output = index < n_out ? index : 0;
    Constants constants = {0.0f, 0.0f, 0.0f, 0.0f};
    float own_bias = 0.0f, partner_bias = 0.0f;
    if (turn) {
      weights.fetch(what, output, 4 * place.lane, step);
      if (bias) own_bias = bias[output];
      if (bias && pairs) partner_bias = bias[n_out + output];
      constants.fold(what, 4 * place.lane, step, weights);
    }
    if (index == place.group) {
      exchange.wait();
      if (turn)
        UNROLL for (int r = 0; r < ROWS; ++r)
          if (ON_THE_WAY) norming[r].start(norm, vector);
          else norming[r] = norm_of_row(what, vector + r * n_in, n_in);
    }
    if (!turn) break;
    float sums[ROWS], partners[ROWS], sum = 0.0f, squares = 0.0f;
    UNROLL for (int r = 0; r < ROWS; ++r) sums[r] = partners[r] = 0.0f;
    NO_UNROLL for (int first = 4 * place.lane; first < n_in; first += TOGETHER * step) {
      if (first >= TOGETHER * step) {
        weights.fetch(what, output, first, step);
        constants.fold(what, first, step, weights);
      }
      UNROLL for (int j = 0; j < TOGETHER; ++j) {
        const int k = first + j * step;
        if (k >= n_in) continue;
        UNROLL for (int r = 0; r < ROWS; ++r) {
          float4_t x = load4(vector + r * n_in + k);
          if (norm == LAYER) x = add4(x, -norming[r].origin);
          if (ON_THE_WAY && norm != NO_NORM) {
            sum += sum4(x);
            squares = dot4(x, x, squares);
          }
          sums[r] = dot4(weights.a[j], x, sums[r]);
          if (pairs) partners[r] = dot4(weights.b[j], x, partners[r]);
        }
      }
    }
    if (norm == LAYER) {
      constants.a = sum_of_lanes(constants.a, place.lanes);
      constants.a_shift = sum_of_lanes(constants.a_shift, place.lanes);
      if (pairs) constants.b = sum_of_lanes(constants.b, place.lanes);
      if (pairs) constants.b_shift = sum_of_lanes(constants.b_shift, place.lanes);
    }
    if (ON_THE_WAY && norm != NO_NORM) {
      if (norm == LAYER) sum = sum_of_lanes(sum, place.lanes);
      squares = sum_of_lanes(squares, place.lanes);
    }
    UNROLL for (int r = 0; r < ROWS; ++r) {
      sums[r] = sum_of_lanes(sums[r], place.lanes);
      if (pairs) partners[r] = sum_of_lanes(partners[r], place.lanes);
      if (ON_THE_WAY) norming[r].finish(norm, sum, squares, reciprocal_fast((float)n_in), what.eps);
      const float offset = -norming[r].offset, inverse = norming[r].inverse;
      sums[r] = fused_multiply_add(fused_multiply_add(offset, constants.a, sums[r]), inverse, constants.a_shift);
      partners[r] =
          fused_multiply_add(fused_multiply_add(offset, constants.b, partners[r]), inverse, constants.b_shift);
    }
    finish(
        what, exchange, memory, first_row, rows, place, index, own(sums, place.lane) + own_bias,
        own(partners, place.lane) + partner_bias);
    index += place.groups;
  } while (place.has_turn(index, n_out));
}
