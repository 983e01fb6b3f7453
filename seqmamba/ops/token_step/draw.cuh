// Drawing a token a row from logits in shared memory, by all threads of a block, in float64: the numbers are those of
// seqmamba.ops.draw, which says what they mean. Every block of a cluster draws for itself, and the same.
#pragma once
#include "cluster.cuh"

struct Drawing {
  const double* uniforms;     // (batch, stride), a column a step
  const double* temperature;  // one number
  int64* tokens;              // (batch, stride) as the two below
  float *log_probs, *sampled_log_probs;
  int64 uniforms_stride, stride;
  const int64* stops;
  int64 n_stops, pad;
};

// What the threads of a block tell each other about a row.
struct DrawScratch {
  double totals[WARPS], plain[WARPS];
  float largest[WARPS];
  int first[WARPS], token;
};

DEVICE double sum_of_warp(double x) {
  for (int step = 16; step > 0; step >>= 1) x += shuffle_from(x, lane_id() ^ step);
  return x;
}
DEVICE double sum_up_to_lane(double x) {
  for (int step = 1; step < 32; step <<= 1) {
    const double before = shuffle_from(x, lane_id() - step);
    if (lane_id() >= step) x += before;
  }
  return x;
}
DEVICE int first_lane(uint32 lanes) {
  int lane = 0;
  while (lane < 31 && !(lanes >> lane & 1)) ++lane;
  return lane;
}
DEVICE int last_lane(uint32 lanes) {
  int lane = 31;
  while (lane > 0 && !(lanes >> lane & 1)) --lane;
  return lane;
}

// The largest logit, and the first token that has it.
DEVICE float find_largest(const float* logits, int vocabulary, DrawScratch& scratch) {
  float largest = -float_of(0x7f800000u);
  int first = 0;
  for (int k = thread_in_block(); k < vocabulary; k += WARPS * 32)
    if (logits[k] > largest) {
      largest = logits[k];
      first = k;
    }
  for (int step = 16; step > 0; step >>= 1) {
    const float other = shuffle_xor(largest, step);
    const int others = (int)bits_of(shuffle_xor(float_of((uint32)first), step));
    if (other > largest || (other == largest && others < first)) {
      largest = other;
      first = others;
    }
  }
  if (lane_id() == 0) {
    scratch.largest[warp_in_block()] = largest;
    scratch.first[warp_in_block()] = first;
  }
  sync_block();
  for (int w = 0; w < WARPS; ++w)
    if (scratch.largest[w] > largest || (scratch.largest[w] == largest && scratch.first[w] < first)) {
      largest = scratch.largest[w];
      first = scratch.first[w];
    }
  scratch.token = first;  // of all equal: every thread finds the same
  return largest;
}

// Draw for one row; `done` says whether it has met a stop token, and is kept up to date.
DEVICE int draw_row(
    const float* logits, int vocabulary, const Drawing& what, int64 row, int64 step, bool writes, bool& done,
    DrawScratch& scratch) {
  const double temperature = *what.temperature;
  const bool greedy = temperature == 0.0, scaled = !greedy && temperature != 1.0;
  const double largest = find_largest(logits, vocabulary, scratch);
  const int each = (vocabulary + WARPS * 32 - 1) / (WARPS * 32);
  const int begin = thread_in_block() * each, end = begin + each < vocabulary ? begin + each : vocabulary;
  double own = 0.0, plain = 0.0;
  for (int k = begin; k < end; ++k) {
    const double shifted = logits[k] - largest;
    if (greedy || scaled) plain += exp_double(shifted);
    if (!greedy) own += exp_double(scaled ? shifted / temperature : shifted);
  }
  const double up_to_lane = sum_up_to_lane(own);
  if (greedy || scaled) plain = sum_of_warp(plain);
  if (lane_id() == 31) {
    scratch.totals[warp_in_block()] = up_to_lane;
    scratch.plain[warp_in_block()] = plain;
  }
  sync_block();
  double total = 0.0, plain_total = 0.0;
  for (int w = 0; w < WARPS; ++w) {
    total += scratch.totals[w];
    plain_total += scratch.plain[w];
  }
  if (!greedy) {
    const double target = what.uniforms[row * what.uniforms_stride + step] * total;
    double before = 0.0;
    int crossed = 0;  // the warp among whose tokens the sum exceeds the target
    while (crossed < WARPS && !(before + scratch.totals[crossed] > target)) before += scratch.totals[crossed++];
    if (crossed == WARPS) {  // rounding has made the target the whole, or nothing is a number
      --crossed;
      while (crossed > 0 && !(scratch.totals[crossed] > 0.0)) --crossed;
    }
    if (warp_in_block() == crossed) {
      // sums in another order round otherwise: no lane, or no token, may seem to cross
      const uint32 real = warp_ballot(own > 0.0), over = warp_ballot(own > 0.0 && before + up_to_lane > target);
      const int lane = over ? first_lane(over) : last_lane(real);  // the first token if nothing is a number
      double sum = before + shuffle_from(up_to_lane, lane > 0 ? lane - 1 : 0) * (lane > 0 ? 1.0 : 0.0);
      if (lane_id() == lane) {
        int chosen = begin;
        for (int k = begin; k < end; ++k) {
          const double shifted = logits[k] - largest;
          const double weight = exp_double(scaled ? shifted / temperature : shifted);
          sum += weight;
          if (weight > 0.0) chosen = k;
          if (weight > 0.0 && sum > target) break;
        }
        scratch.token = chosen;
      }
    }
    sync_block();
  }
  const int chosen = scratch.token;
  const bool padded = what.n_stops > 0 && done;
  const int64 token = padded ? what.pad : chosen;
  for (int64 i = 0; i < what.n_stops; ++i) done = done || token == what.stops[i];
  if (writes && thread_in_block() == WARPS * 32 - 32) {
    const double shifted = logits[chosen] - largest, log_total = log_double(greedy || scaled ? plain_total : total);
    const int64 at = row * what.stride + step;
    what.tokens[at] = token;
    what.log_probs[at] = (float)(shifted - log_total);
    what.sampled_log_probs[at] =
        greedy ? 0.0f : (float)(scaled ? shifted / temperature - log_double(total) : shifted - log_total);
  }
  return (int)token;
}
