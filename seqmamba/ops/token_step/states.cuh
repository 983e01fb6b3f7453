// Steps of recurrent states, which lie in device memory: each number has one thread that reads and writes it.
#pragma once
#include "vectors.cuh"

constexpr int AHEAD = ROWS < 4 ? ROWS : 4;  // rows whose states are under way together
constexpr int STATES_TOGETHER = 2;
constexpr float LARGEST_LOG_RATE = 40.0f;  // seqmamba.ops.decay's

// x' = transition x + drive u, y = gelu(2 Re(C . x') + D u) for every channel, with `count` complex states.
#if ROWS == 1
// The output is linear in the input u: all but that input is there before the vector is.
DEVICE void lti_step(const Instruction& what, const Exchange& exchange, float* memory, int64 row, int) {
  const float2_t *transition = pointer<float2_t>(what, 0), *drive = pointer<float2_t>(what, 1);
  const float2_t* readout = pointer<float2_t>(what, 4);
  const float *skip = pointer<float>(what, 5), *vector = memory + what.from;
  const int dim = what.n_in, count = what.count;
  const Place place(what.shift);
  Norming norming;
  exchange.expect(4 * dim);
  int index = place.group;
  do {
    const bool turn = place.has_turn(index, dim), real = index < dim;
    const int channel = real ? index : 0;
    const int64 at = (int64)channel * count;
    float2_t* states = pointer<float2_t>(what, 6) + row * dim * count + at;
    float2_t b[STATES_TOGETHER], next[STATES_TOGETHER];
    float output = 0.0f, through = 0.0f, factor = 1.0f, shift = 0.0f;
    if (turn) {
      if (what.norm != NO_NORM) factor = pointer<float>(what, 2)[channel];
      if (what.norm == LAYER) shift = pointer<float>(what, 3)[channel];
      const float skipped = skip[channel];
      for (int begin = place.lane; begin < count; begin += STATES_TOGETHER * place.lanes)
        UNROLL for (int j = 0; j < STATES_TOGETHER; ++j) {
          const int n = begin + j * place.lanes;
          if (n >= count) continue;
          const float2_t c = readout[at + n];
          b[j] = drive[at + n];
          next[j] = multiply_complex(transition[at + n], states[n]);
          through = fused_multiply_add(c.x, b[j].x, fused_multiply_add(-c.y, b[j].y, through));
          output = fused_multiply_add(c.x, next[j].x, fused_multiply_add(-c.y, next[j].y, output));
        }
      through = fused_multiply_add(2.0f, sum_of_lanes(through, place.lanes), skipped);
      output = 2.0f * sum_of_lanes(output, place.lanes);
    }
    if (index == place.group) {
      exchange.wait();
      if (turn) norming = norm_of_row(what, vector, dim);
    }
    if (!turn) break;
    const float centred = vector[channel] - norming.origin - norming.offset;
    const float input = fused_multiply_add(centred * norming.inverse, factor, shift);
    share(exchange, memory, what.to, dim, index, gelu(fused_multiply_add(through, input, output)), place);
    const bool is_there = count <= STATES_TOGETHER * place.lanes;
    for (int begin = place.lane; begin < count; begin += STATES_TOGETHER * place.lanes)
      UNROLL for (int j = 0; j < STATES_TOGETHER; ++j) {
        const int n = begin + j * place.lanes;
        if (n >= count || !real) continue;
        if (!is_there) {
          b[j] = drive[at + n];
          next[j] = multiply_complex(transition[at + n], states[n]);
        }
        next[j].x = fused_multiply_add(b[j].x, input, next[j].x);
        next[j].y = fused_multiply_add(b[j].y, input, next[j].y);
        states[n] = next[j];
      }
    index += place.groups;
  } while (place.has_turn(index, dim));
}
#else
// Rows hide behind each other what their states take to come.
DEVICE void lti_step(const Instruction& what, const Exchange& exchange, float* memory, int64 first_row, int rows) {
  const float2_t *transition = pointer<float2_t>(what, 0), *drive = pointer<float2_t>(what, 1);
  const float2_t* readout = pointer<float2_t>(what, 4);
  const float *skip = pointer<float>(what, 5), *vector = memory + what.from;
  const int dim = what.n_in, count = what.count;
  const int64 row_states = (int64)dim * count;
  const Place place(what.shift);
  Norming norming[ROWS];
  exchange.expect(4 * ROWS * dim);
  exchange.wait();
  if (place.has_turn(place.group, dim))
    UNROLL for (int r = 0; r < ROWS; ++r) norming[r] = norm_of_row(what, vector + r * dim, dim);
  for (int index = place.group; place.has_turn(index, dim); index += place.groups) {
    const bool real = index < dim;
    const int channel = real ? index : 0;
    const int64 at = (int64)channel * count;
    float2_t* states = pointer<float2_t>(what, 6) + first_row * row_states + at;
    const float factor = what.norm == NO_NORM ? 1.0f : pointer<float>(what, 2)[channel];
    const float shift = what.norm == LAYER ? pointer<float>(what, 3)[channel] : 0.0f;
    float inputs[ROWS], sums[ROWS];
    UNROLL for (int r = 0; r < ROWS; ++r) {
      const float centred = vector[r * dim + channel] - norming[r].origin - norming[r].offset;
      inputs[r] = fused_multiply_add(centred * norming[r].inverse, factor, shift);
      sums[r] = 0.0f;
    }
    for (int n = place.lane; n < count; n += place.lanes) {
      const float2_t a = transition[at + n], b = drive[at + n], c = readout[at + n];
      UNROLL for (int first = 0; first < ROWS; first += AHEAD) {
        float2_t old[AHEAD];
        UNROLL for (int i = 0; i < AHEAD; ++i) old[i] = states[(first + i < rows ? first + i : 0) * row_states + n];
        UNROLL for (int i = 0; i < AHEAD; ++i) {
          const int r = first + i;
          float2_t next = multiply_complex(a, old[i]);
          next.x = fused_multiply_add(b.x, inputs[r], next.x);
          next.y = fused_multiply_add(b.y, inputs[r], next.y);
          if (real && r < rows) states[r * row_states + n] = next;
          sums[r] = fused_multiply_add(c.x, next.x, fused_multiply_add(-c.y, next.y, sums[r]));
        }
      }
    }
    UNROLL for (int r = 0; r < ROWS; ++r) sums[r] = sum_of_lanes(sums[r], place.lanes);
    const float value = 2.0f * own(sums, place.lane) + skip[channel] * own(inputs, place.lane);
    share(exchange, memory, what.to, dim, index, gelu(value), place);
  }
}
#endif

// The selective scan's step for every channel, with `count` real states, D and the gate.
DEVICE void scan_step(const Instruction& what, const Exchange& exchange, float* memory, int64 first_row, int rows) {
  const float *log_rates = pointer<float>(what, 0), *skip = pointer<float>(what, 1);
  const weight_t* delta_matrix = pointer<weight_t>(what, 2);
  const float* delta_bias = pointer<float>(what, 3);
  const int dim = what.n_out, rank = what.n_in, count = what.count, selected = rank + 2 * count;
  const float *input = memory + what.from, *gate = memory + what.second, *selection = memory + what.position;
  const int64 row_states = (int64)dim * count;
  const Place place(what.shift);
  exchange.expect(4 * ROWS * dim);
  int index = place.group;
  do {
    const bool turn = place.has_turn(index, dim), real = index < dim;
    const int channel = real ? index : 0;
    float* states = pointer<float>(what, 6) + (first_row * dim + channel) * count;
    float first_weight = 0.0f, first_rate = 0.0f, bias = 0.0f, through = 0.0f, first_old[ROWS];
    if (turn) {
      if (place.lane < rank) first_weight = to_float(delta_matrix[(int64)channel * rank + place.lane]);
      if (place.lane < count) {
        first_rate = log_rates[channel * count + place.lane];
        UNROLL for (int r = 0; r < ROWS; ++r) first_old[r] = states[(r < rows ? r : 0) * row_states + place.lane];
      }
      bias = delta_bias[channel];
      through = skip[channel];
    }
    if (index == place.group) exchange.wait();
    if (!turn) break;
    float deltas[ROWS], sums[ROWS];
    UNROLL for (int r = 0; r < ROWS; ++r) deltas[r] = sums[r] = 0.0f;
    for (int k = place.lane; k < rank; k += place.lanes) {
      const float weight =
          k == place.lane ? first_weight : to_float(delta_matrix[(int64)channel * rank + k]);
      UNROLL for (int r = 0; r < ROWS; ++r)
        deltas[r] = fused_multiply_add(weight, selection[r * selected + k], deltas[r]);
    }
    UNROLL for (int r = 0; r < ROWS; ++r)
      deltas[r] = softplus<true>(sum_of_lanes(deltas[r], place.lanes) + bias);
    for (int n = place.lane; n < count; n += place.lanes) {
      const bool is_first = n == place.lane;
      const float log_rate = is_first ? first_rate : log_rates[channel * count + n];
      const float rate = exp2_fast((log_rate > LARGEST_LOG_RATE ? LARGEST_LOG_RATE : log_rate) * LOG2_E) * LOG2_E;
      UNROLL for (int r = 0; r < ROWS; ++r) {
        float* state = states + (r < rows ? r : 0) * row_states + n;
        const float *B = selection + r * selected + rank, *C = B + count;
        const float drive = deltas[r] * input[r * dim + channel] * B[n];
        const float next = fused_multiply_add(exp2_fast(-deltas[r] * rate), is_first ? first_old[r] : *state, drive);
        if (real && r < rows) *state = next;
        sums[r] = fused_multiply_add(C[n], next, sums[r]);
      }
    }
    UNROLL for (int r = 0; r < ROWS; ++r) sums[r] = sum_of_lanes(sums[r], place.lanes);
    const int row = place.lane < ROWS ? place.lane : 0;
    const float value = own(sums, place.lane) + through * input[row * dim + channel];
    share(exchange, memory, what.to, dim, index, value * silu(gate[row * dim + channel]), place);
    index += place.groups;
  } while (place.has_turn(index, dim));
}
