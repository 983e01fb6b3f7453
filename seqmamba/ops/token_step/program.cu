// Steps of a whole language model as one kernel: programs of instructions that a few blocks work through together,
// for some rows of the batch. The blocks of a cluster hold the same vectors in shared memory; each computes a part of
// every result and sends it to all of them. Weights do not depend on what the others send: they are on their way
// before a thread waits for the vectors.
//
// Constants of a compilation (-DNAME=VALUE):
//   CLUSTER  blocks that share rows, 1 to 8
//   ROWS     rows of the batch that they share, 1 to 8
//   WEIGHTS  0, 1: matrices are float32, bfloat16; everything else is float32
//   WARPS    warps a block
//
// Instructions are instructions.py's; see there what they do.
#include "cluster.cuh"
#include "draw.cuh"
#include "product.cuh"
#include "states.cuh"
#include "vectors.cuh"

// What lies in shared memory in front of the vectors; instructions and the lists of a step's follow them.
struct Shared {
  int64 barriers[SLOTS];
  DrawScratch scratch;
  int tokens[ROWS];  // the last of each row
  bool done[ROWS];   // which rows have met a stop token
};
constexpr int HEADER = 1024;  // bytes
static_assert(sizeof(Shared) <= HEADER, "cuda.py's _HEADER_BYTES");

// What moves without arithmetic: every block does it for itself.
DEVICE void move(const Instruction& what, float* memory, const Shared& header, int64 first_row, int rows) {
  const int dim = what.n_out, count = what.count;
  UNROLL for (int r = 0; r < ROWS; ++r) {
    float* to = memory + what.to + r * what.n_in + what.position;
    float* device = pointer<float>(what, 6) + (first_row + (r < rows ? r : 0)) * dim;
    for (int c = thread_in_block(); c < dim; c += THREADS) {
      if (what.operation == EMBED) {
        to[c] = to_float(pointer<weight_t>(what, 0)[(int64)header.tokens[r] * dim + c]);
      } else if (what.operation == LOAD) {
        to[c] = device[c];
      } else if (what.operation == STORE) {
        if (r < rows && rank_in_cluster() == 0) device[c] = to[c];
      } else if (what.operation == ADD_HELD) {
        to[c] += memory[what.from + r * count * dim + what.second * dim + c];
      } else {
        for (int t = 1; t < count; ++t) to[(t - 1) * dim + c] = to[t * dim + c];
        to[(count - 1) * dim + c] = memory[what.from + r * dim + c];
      }
    }
  }
}

// The logits to device memory, or the next tokens.
DEVICE void draw(
    const Instruction& what, const float* memory, const Drawing& drawing, int64 step, float* logits, Shared& header,
    int64 first_row, int rows) {
  const int vocabulary = what.n_in;
  const bool writes = rank_in_cluster() == 0;
  for (int r = 0; r < rows; ++r) {
    const float* row = memory + what.from + r * vocabulary;
    if (!logits) {
      bool done = header.done[r];
      const int token = draw_row(row, vocabulary, drawing, first_row + r, step, writes, done, header.scratch);
      if (thread_in_block() == 0) {
        header.tokens[r] = token;
        header.done[r] = done;
      }
    } else if (writes) {
      for (int k = thread_in_block(); k < vocabulary; k += THREADS) logits[(first_row + r) * vocabulary + k] = row[k];
    }
  }
}

// `lists` (phases + 2, longest): the instructions of each phase's step, -1 behind the last; then those in front of
// all steps, and those behind them. `clocks`, if given, collects what each instruction takes the first thread.
KERNEL void __launch_bounds__(WARPS * 32, 1) run_program(
    const int* program, int64 length, const int* lists, int64 phases, int64 longest, int64 batch, int64 vectors,
    int64 phase, int64 steps, int64* tokens, bool* done, float* logits, const double* uniforms,
    int64 uniforms_stride, const double* temperature, int64* drawn, float* log_probs, float* sampled_log_probs,
    int64 drawn_stride, const int64* stops, int64 n_stops, int64 pad, int64* clocks) {
  SHARED_MEMORY(raw);
  const int64 bytes = HEADER + 4 * (vectors + length * WORDS + (phases + 2) * longest);
  unsigned char* own = memory_of_block(raw, bytes);
  Shared& header = *reinterpret_cast<Shared*>(own);
  float* memory = reinterpret_cast<float*>(own + HEADER);
  int* instructions = reinterpret_cast<int*>(memory + vectors);
  int* order = instructions + length * WORDS;
  for (int at = thread_in_block(); at < length * WORDS; at += THREADS) instructions[at] = program[at];
  for (int at = thread_in_block(); at < (phases + 2) * longest; at += THREADS) order[at] = lists[at];
  for (int at = thread_in_block(); at < vectors; at += THREADS) memory[at] = 0.0f;
  const int64 first_row = (int64)(cluster_index()) * ROWS;
  const int rows = batch - first_row < ROWS ? (int)(batch - first_row) : ROWS;
  for (int r = thread_in_block(); r < ROWS; r += THREADS) {
    header.tokens[r] = (int)tokens[first_row + (r < rows ? r : 0)];
    header.done[r] = done[first_row + (r < rows ? r : 0)];
  }
  Exchange exchange;
  exchange.begin(header.barriers, bytes);
  const Drawing drawing = {uniforms, temperature, drawn, log_probs, sampled_log_probs, uniforms_stride, drawn_stride,
                           stops, n_stops, pad};
  int64 begun = clock_cycles();
  for (int64 step = -1; step <= steps; ++step) {
    const int* list = order + (step < 0 ? phases : step == steps ? phases + 1 : phase) * longest;
    if (step >= 0 && ++phase == phases) phase = 0;
    for (int i = 0; i < longest && list[i] >= 0; ++i) {
      const Instruction& what = *reinterpret_cast<const Instruction*>(instructions + list[i] * WORDS);
      if (what.operation == PRODUCT || what.operation == LTI_STEP || what.operation == SCAN_STEP) {
        switch (what.operation) {
          case PRODUCT: product(what, exchange, memory, first_row, rows); break;
          case LTI_STEP: lti_step(what, exchange, memory, first_row, rows); break;
          default: scan_step(what, exchange, memory, first_row, rows);
        }
        exchange.end();
      } else {
        exchange.wait();
        if (what.operation == DRAW)
          draw(what, memory, drawing, step, logits, header, first_row, rows);
        else
          move(what, memory, header, first_row, rows);
        exchange.end_alone();
      }
      if (clocks && cluster_index() == 0 && rank_in_cluster() == 0 && thread_in_block() == 0) {
        const int64 now = clock_cycles();
        clocks[list[i]] += now - begun;
        begun = now;
      }
    }
  }
  if (!logits && rank_in_cluster() == 0 && thread_in_block() == 0)
    for (int r = 0; r < rows; ++r) {
      tokens[first_row + r] = header.tokens[r];
      done[first_row + r] = header.done[r];
    }
  sync_cluster();  // no block leaves while others may send to it
}
