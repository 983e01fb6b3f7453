// One step of a whole language model as one kernel: a program of instructions that a few blocks work through
// together, for some rows of the batch. The blocks of a cluster hold the same vectors in shared memory; each
// computes a part of every result and writes it to all of them.
//
// Constants of a compilation (-DNAME=VALUE):
//   CLUSTER  blocks that share rows, 1 to 8
//   ROWS     rows of the batch that they share, 1 to 8
//   WEIGHTS  0, 1: matrices are float32, bfloat16; everything else is float32
//   WARPS    warps a block
//
// Instructions are instructions.py's; see there what they do. Vectors of a row lie behind each other: row r of a
// vector of n elements starts at r * n.
#include "activations.cuh"

#if WEIGHTS == 0
typedef float weight_t;
#else
typedef bf16 weight_t;
#endif

constexpr int THREADS = WARPS * 32;
constexpr int WIDEST = 7;  // of the inputs that a convolution keeps
constexpr int AHEAD = ROWS < 4 ? ROWS : 4;  // rows whose states are under way together
constexpr int TOGETHER = ROWS <= 2 ? 4 : ROWS == 4 ? 2 : 1;
constexpr float INVERSE_ROOT_2 = 0.7071067811865476f;
constexpr float LARGEST_LOG_RATE = 40.0f;  // seqmamba.ops.decay's

#if ROWS == 1
#define LOADS_TOGETHER _Pragma("unroll 4")
#else
#define LOADS_TOGETHER
#endif

enum Operation { EMBED, LOAD_WINDOW, SHIFT_WINDOW, ADD_HELD, PRODUCT, LTI_STEP, SCAN_STEP };
enum Norm { NO_NORM, RMS, LAYER };
enum Finish { KEEP, ADD, GATE_ADD, SILU_GATE, CONVOLVE, OUT };

struct Instruction {
  int operation, finish, norm, n_out, n_in, from, to, second, count, shift, position, unused;
  float eps, unused_float;
  int64 pointers[9];
};
constexpr int WORDS = sizeof(Instruction) / sizeof(int);

// The cluster: its size, a barrier of all its threads, a store into the shared memory of one of its blocks.
#if CLUSTER > 1
#undef KERNEL
#define KERNEL extern "C" __global__ __cluster_dims__(CLUSTER, 1, 1)
DEVICE int rank_in_cluster() {
  uint32 rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
DEVICE void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
DEVICE void store_at_rank(float* shared, int rank, float value) {
  uint32 local = (uint32)__cvta_generic_to_shared(shared), remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(rank));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(remote), "f"(value) : "memory");
}
#else
DEVICE int rank_in_cluster() { return 0; }
DEVICE void sync_cluster() { sync_block(); }
DEVICE void store_at_rank(float* shared, int, float value) { *shared = value; }
#endif

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
DEVICE float sum_of_lanes(float x, int lanes) {  // 8, 16 or 32
  if (lanes > 16) x += shuffle_xor(x, 16);
  if (lanes > 8) x += shuffle_xor(x, 8);
  x += shuffle_xor(x, 4);
  x += shuffle_xor(x, 2);
  return x + shuffle_xor(x, 1);
}

DEVICE bool is_pair(const Instruction& what) { return what.finish >= GATE_ADD && what.finish <= CONVOLVE; }
template <class T> DEVICE T* pointer(const Instruction& what, int which) {
  return reinterpret_cast<T*>(what.pointers[which]);
}

// Where this thread stands: lane of a group of 2^shift lanes that makes one result, and which group of the cluster's.
struct Place {
  int lanes, lane, group, groups, in_warp;
  DEVICE explicit Place(int shift)
      : lanes(1 << shift),
        lane(threadIdx.x & ((1 << shift) - 1)),
        group((rank_in_cluster() * THREADS + (int)threadIdx.x) >> shift),
        groups((CLUSTER * THREADS) >> shift),
        in_warp((threadIdx.x & 31) >> shift) {}
  // The lanes of a warp take as many turns as each other: they shuffle together.
  DEVICE bool has_turn(int index, int count) const { return index - in_warp < count; }
};

// Which of the values belongs to this lane: lane r finishes row r.
DEVICE float own(const float (&values)[ROWS], int lane) {
  float value = values[0];
  UNROLL for (int r = 1; r < ROWS; ++r) value = lane == r ? values[r] : value;
  return value;
}

// Write the lanes' values, one a row, to every block of the cluster: vector `to` of `length`, element `index`.
DEVICE void share(float* memory, int to, int length, int index, float value, const Place& place, bool write) {
  const int first = (threadIdx.x & 31) - place.lane;
  UNROLL for (int r = 0; r < ROWS; ++r) {
    const float of_row = ROWS == 1 ? shuffle_from(value, first) : shuffle_from(value, first + r);
    if (write && place.lane < CLUSTER) store_at_rank(memory + to + r * length + index, place.lane, of_row);
  }
}

// Mean and inverse deviation of each row of a vector, by every warp for itself.
struct Scale {
  float mean[ROWS], inverse[ROWS];
  DEVICE void find(const Instruction& what, const float* vector, int length) {
    const float share = reciprocal_fast((float)length);
    UNROLL for (int r = 0; r < ROWS; ++r) {
      mean[r] = 0.0f;
      inverse[r] = 1.0f;
      if (what.norm == NO_NORM) continue;
      const float* row = vector + r * length;
      float sum = 0.0f;
      if (what.norm == LAYER) {
        for (int k = lane_id(); k < length; k += 32) sum += row[k];
        mean[r] = sum_of_lanes(sum, 32) * share;
        sum = 0.0f;
      }
      for (int k = lane_id(); k < length; k += 32) {
        const float centred = row[k] - mean[r];
        sum = fused_multiply_add(centred, centred, sum);
      }
      inverse[r] = reciprocal_root(fused_multiply_add(sum_of_lanes(sum, 32), share, what.eps));
    }
  }
};

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
    const Instruction& what, float* memory, float* logits, int64 first_row, int rows, const Place& place, int index,
    const float (&sums)[ROWS], const float (&partners)[ROWS]) {
  const bool real = index < what.n_out;
  const int output = real ? index : 0;
  const float* bias = pointer<float>(what, 1);
  float value = own(sums, place.lane), partner = own(partners, place.lane);
  if (bias) {
    value += bias[output];
    if (is_pair(what)) partner += bias[what.n_out + output];
  }
  const bool valid = real && place.lane < rows;
  float* before = memory + what.to + (place.lane < ROWS ? place.lane : 0) * what.n_out + output;
  if (what.finish == ADD) value += *before;
  if (what.finish == GATE_ADD) value = *before + value * sigmoid(partner);
  if (what.finish == SILU_GATE) value *= silu(partner);
  if (what.finish == CONVOLVE) {
    value = convolve(what, first_row + place.lane, output, value, valid);
    share(memory, what.second, what.n_out, output, partner, place, real);
  }
  if (what.finish == OUT) {
    float* out = pointer<float>(what, 7);
    if (valid) (out ? out : logits)[(first_row + place.lane) * what.n_out + output] = value;
  } else {
    share(memory, what.to, what.n_out, output, value, place, real);
  }
}

// Results of a product of a matrix (n_out, or 2 n_out for those that are gated, n_in) and a vector.
DEVICE void product(const Instruction& what, float* memory, float* logits, int64 first_row, int rows) {
  const bool pairs = is_pair(what);
  const int n_in = what.n_in, n_out = what.n_out, norm = what.norm;
  const weight_t* matrix = pointer<weight_t>(what, 0);
  const float* norm_weight = pointer<float>(what, 2);
  const float* norm_bias = pointer<float>(what, 3);
  const float* vector = memory + what.from;
  const Place place(what.shift);
  Scale scale;
  scale.find(what, vector, n_in);
  const int64 apart = (int64)n_out * n_in;
  NO_UNROLL for (int index = place.group; place.has_turn(index, n_out); index += place.groups) {
    const weight_t* row = matrix + (index < n_out ? (int64)index * n_in : 0);
    float sums[ROWS], partners[ROWS];
    UNROLL for (int r = 0; r < ROWS; ++r) sums[r] = partners[r] = 0.0f;
    for (int first = 4 * place.lane; first < n_in; first += TOGETHER * 4 * place.lanes) {
      float4_t a[TOGETHER], b[TOGETHER];  // weights that are under way together
      UNROLL for (int j = 0; j < TOGETHER; ++j) {
        const int k = first + j * 4 * place.lanes;
        if (k >= n_in) continue;
        a[j] = load4(row + k);
        if (pairs) b[j] = load4(row + apart + k);
      }
      UNROLL for (int j = 0; j < TOGETHER; ++j) {
        const int k = first + j * 4 * place.lanes;
        if (k >= n_in) continue;
        float4_t factor = {1.0f, 1.0f, 1.0f, 1.0f}, shift = {0.0f, 0.0f, 0.0f, 0.0f};
        if (norm != NO_NORM) factor = load4(norm_weight + k);
        if (norm == LAYER) shift = load4(norm_bias + k);
        UNROLL for (int r = 0; r < ROWS; ++r) {
          float4_t x = load4(vector + r * n_in + k);
          if (norm != NO_NORM) {
            x.x = fused_multiply_add((x.x - scale.mean[r]) * scale.inverse[r], factor.x, shift.x);
            x.y = fused_multiply_add((x.y - scale.mean[r]) * scale.inverse[r], factor.y, shift.y);
            x.z = fused_multiply_add((x.z - scale.mean[r]) * scale.inverse[r], factor.z, shift.z);
            x.w = fused_multiply_add((x.w - scale.mean[r]) * scale.inverse[r], factor.w, shift.w);
          }
          sums[r] = dot4(a[j], x, sums[r]);
          if (pairs) partners[r] = dot4(b[j], x, partners[r]);
        }
      }
    }
    UNROLL for (int r = 0; r < ROWS; ++r) {
      sums[r] = sum_of_lanes(sums[r], place.lanes);
      if (pairs) partners[r] = sum_of_lanes(partners[r], place.lanes);
    }
    finish(what, memory, logits, first_row, rows, place, index, sums, partners);
  }
}

// x' = transition x + drive u, y = gelu(2 Re(C . x') + D u) for every channel, with `count` complex states.
DEVICE void lti_step(const Instruction& what, float* memory, int64 first_row, int rows) {
  const float2_t* transition = pointer<float2_t>(what, 0);
  const float2_t* drive = pointer<float2_t>(what, 1);
  const float2_t* readout = pointer<float2_t>(what, 4);
  const float* skip = pointer<float>(what, 5);
  float2_t* states = pointer<float2_t>(what, 6);
  const float* norm_weight = pointer<float>(what, 2);
  const float* norm_bias = pointer<float>(what, 3);
  const float* vector = memory + what.from;
  const int dim = what.n_in, count = what.count;
  const Place place(what.shift);
  Scale scale;
  scale.find(what, vector, dim);
  for (int index = place.group; place.has_turn(index, dim); index += place.groups) {
    const bool real = index < dim;
    const int channel = real ? index : 0;
    float inputs[ROWS], sums[ROWS];
    UNROLL for (int r = 0; r < ROWS; ++r) {
      inputs[r] = (vector[r * dim + channel] - scale.mean[r]) * scale.inverse[r];
      if (what.norm != NO_NORM) inputs[r] *= norm_weight[channel];
      if (what.norm == LAYER) inputs[r] += norm_bias[channel];
      sums[r] = 0.0f;
    }
    LOADS_TOGETHER for (int n = place.lane; n < count; n += place.lanes) {
      const float2_t a = transition[channel * count + n], b = drive[channel * count + n];
      const float2_t c = readout[channel * count + n];
      float2_t* state = states + (first_row * dim + channel) * count + n;
      UNROLL for (int first = 0; first < ROWS; first += AHEAD) {
        float2_t old[AHEAD];
        UNROLL for (int i = 0; i < AHEAD; ++i) old[i] = state[(first + i < rows ? first + i : 0) * (int64)dim * count];
        UNROLL for (int i = 0; i < AHEAD; ++i) {
          const int r = first + i;
          float2_t next;
          next.x = fused_multiply_add(a.x, old[i].x, fused_multiply_add(-a.y, old[i].y, b.x * inputs[r]));
          next.y = fused_multiply_add(a.x, old[i].y, fused_multiply_add(a.y, old[i].x, b.y * inputs[r]));
          if (real && r < rows) state[r * (int64)dim * count] = next;
          sums[r] = fused_multiply_add(c.x, next.x, fused_multiply_add(-c.y, next.y, sums[r]));
        }
      }
    }
    UNROLL for (int r = 0; r < ROWS; ++r) sums[r] = sum_of_lanes(sums[r], place.lanes);
    const float value = 2.0f * own(sums, place.lane) + skip[channel] * own(inputs, place.lane);
    share(memory, what.to, dim, channel, gelu(value), place, real);
  }
}

// The selective scan's step for every channel, with `count` real states, D and the gate.
DEVICE void scan_step(const Instruction& what, float* memory, int64 first_row, int rows) {
  const float* log_rates = pointer<float>(what, 0);
  const float* skip = pointer<float>(what, 1);
  const weight_t* delta_matrix = pointer<weight_t>(what, 2);
  const float* delta_bias = pointer<float>(what, 3);
  float* states = pointer<float>(what, 6);
  const int dim = what.n_out, rank = what.n_in, count = what.count, selected = rank + 2 * count;
  const float *input = memory + what.from, *gate = memory + what.second, *selection = memory + what.position;
  const Place place(what.shift);
  for (int index = place.group; place.has_turn(index, dim); index += place.groups) {
    const bool real = index < dim;
    const int channel = real ? index : 0;
    float deltas[ROWS], sums[ROWS];
    UNROLL for (int r = 0; r < ROWS; ++r) deltas[r] = sums[r] = 0.0f;
    for (int k = place.lane; k < rank; k += place.lanes) {
      const float weight = to_float(delta_matrix[(int64)channel * rank + k]);
      UNROLL for (int r = 0; r < ROWS; ++r)
        deltas[r] = fused_multiply_add(weight, selection[r * selected + k], deltas[r]);
    }
    UNROLL for (int r = 0; r < ROWS; ++r)
      deltas[r] = softplus<true>(sum_of_lanes(deltas[r], place.lanes) + delta_bias[channel]);
    LOADS_TOGETHER for (int n = place.lane; n < count; n += place.lanes) {
      const float log_rate = log_rates[channel * count + n];
      const float rate = exp2_fast((log_rate > LARGEST_LOG_RATE ? LARGEST_LOG_RATE : log_rate) * LOG2_E) * LOG2_E;
      float* state = states + (first_row * dim + channel) * count + n;
      float old[ROWS];
      UNROLL for (int r = 0; r < ROWS; ++r) old[r] = state[(r < rows ? r : 0) * (int64)dim * count];
      UNROLL for (int r = 0; r < ROWS; ++r) {
        const float *B = selection + r * selected + rank, *C = B + count;
        const float drive = deltas[r] * input[r * dim + channel] * B[n];
        const float next = fused_multiply_add(exp2_fast(-deltas[r] * rate), old[r], drive);
        if (real && r < rows) state[r * (int64)dim * count] = next;
        sums[r] = fused_multiply_add(C[n], next, sums[r]);
      }
    }
    UNROLL for (int r = 0; r < ROWS; ++r) sums[r] = sum_of_lanes(sums[r], place.lanes);
    const int row = place.lane < ROWS ? place.lane : 0;
    const float value = own(sums, place.lane) + skip[channel] * input[row * dim + channel];
    share(memory, what.to, dim, channel, value * silu(gate[row * dim + channel]), place, real);
  }
}

// What moves without arithmetic: every block does it for itself.
DEVICE void move(const Instruction& what, float* memory, const int64* tokens, int64 first_row, int rows) {
  const int dim = what.n_out, count = what.count;
  for (int r = 0; r < ROWS; ++r) {
    const int64 row = first_row + (r < rows ? r : 0);
    float* to = memory + what.to + r * dim;
    // the positions before this one in device memory, oldest first, and all `count` with it in shared memory
    float *window = pointer<float>(what, 6) + row * (count - 1) * dim, *frame = memory + what.to + r * count * dim;
    for (int c = threadIdx.x; c < dim; c += THREADS) {
      if (what.operation == EMBED) {
        to[c] = to_float(pointer<weight_t>(what, 0)[tokens[row] * dim + c]);
      } else if (what.operation == ADD_HELD) {
        to[c] += pointer<float>(what, 6)[(row * count + what.position) * dim + c];
      } else if (what.operation == LOAD_WINDOW) {
        for (int t = 0; t < count - 1; ++t) frame[t * dim + c] = window[t * dim + c];
        frame[(count - 1) * dim + c] = memory[what.from + r * dim + c];
      } else if (r < rows && rank_in_cluster() == 0) {
        for (int t = 0; t < count - 1; ++t) window[t * dim + c] = frame[(t + 1) * dim + c];
      }
    }
  }
}

KERNEL void __launch_bounds__(WARPS * 32, 1) run_program(
    const int64* tokens, float* logits, const int* program, int64 length, int64 batch, int64 vectors) {
  SHARED_MEMORY(raw);
  float* memory = reinterpret_cast<float*>(raw);
  int* instructions = reinterpret_cast<int*>(memory + vectors);
  for (int at = threadIdx.x; at < length * WORDS; at += THREADS) instructions[at] = program[at];
  for (int at = threadIdx.x; at < vectors; at += THREADS) memory[at] = 0.0f;
  sync_cluster();
  const int64 first_row = (int64)(blockIdx.x / CLUSTER) * ROWS;
  const int rows = batch - first_row < ROWS ? (int)(batch - first_row) : ROWS;
  for (int64 at = 0; at < length; ++at) {
    const Instruction& what = *reinterpret_cast<const Instruction*>(instructions + at * WORDS);
    switch (what.operation) {
      case PRODUCT: product(what, memory, logits, first_row, rows); break;
      case LTI_STEP: lti_step(what, memory, first_row, rows); break;
      case SCAN_STEP: scan_step(what, memory, first_row, rows); break;
      default: move(what, memory, tokens, first_row, rows);
    }
    if (what.operation != SHIFT_WINDOW) sync_cluster();
  }
}
