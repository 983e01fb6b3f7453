// What the selective scan's kernels share: the meaning of their constants, and the arithmetic of one element.
//
// Constants of a compilation (-DNAME=VALUE):
//   INPUT       0, 1, 2: u, delta, B, C, z and all gradients of them are float32, bfloat16, float16
//   STATE       states a channel, 1 to 16
//   DIM         channels; the row of every tensor but z, B and C
//   GROUPS      groups of B and C
//   B_ROW, C_ROW, Z_ROW  elements from one row to the next; Z_ROW is 0 without a gate
//   REVERSE     whether step s of the scan is position length - 1 - s, not s
//   SOFTPLUS    whether delta goes through softplus after its bias
//   RESET       whether there is a reset mask
//   SAVE_STEPS  steps from one state saved for the backward to the next
//   VECTOR      bytes that tiles of rows may be copied by: 4, 8 or 16, or 0 where nothing is aligned
//   WARPS, BLOCKS  warps a block, and blocks a multiprocessor that registers must suffice for
//
// s counts steps in the order of processing; "row" is a position in memory.
#pragma once
#include "activations.cuh"

#if INPUT == 0
typedef float input_t;
typedef float saved_t;
#elif INPUT == 1
typedef bf16 input_t;
typedef bf16 saved_t;
#else
typedef f16 input_t;
typedef bf16 saved_t;  // states may be larger than float16 holds
#endif

constexpr bool RECOMPUTE_Y = INPUT == 2;  // float16 rounds a gated y that is small too much to undo the gate
constexpr bool EXACT = INPUT == 0;  // float32 accuracy is worth a few instructions more
constexpr int THREADS = WARPS * 32;
constexpr int SPAN = DIM / GROUPS;  // channels of a group

DEVICE int64 row_of(int64 step, int64 length) { return REVERSE ? length - 1 - step : step; }
constexpr int ROW_STEP = REVERSE ? -1 : 1;

// Whether the scan forgets its state on entering a step. The mask marks where a packed sequence starts; right
// to left that boundary is crossed one step later.
DEVICE bool drops_state(const unsigned char* reset, int64 step, int64 length) {
  if (!RESET) return false;
  if (!REVERSE) return reset[step] != 0;
  return step > 0 && reset[length - step] != 0;
}

// The step size from delta + bias.
DEVICE float step_size(float x) { return SOFTPLUS ? softplus<EXACT>(x) : x; }

// d step_size / d x, from the step size: sigmoid(x) = 1 - exp(-softplus(x)).
DEVICE float step_size_slope(float d) {
  if (!SOFTPLUS) return 1.0f;
  float slope = 1.0f - exp2_fast(d * -LOG2_E);
  if (EXACT) {
    float series = d * (1.0f + d * (-0.5f + d * (1.0f / 6 + d * (-1.0f / 24 + d * (1.0f / 120)))));
    slope = d < 0.09f ? series : slope;
  }
  return slope;
}

// A gate of zero would hide what it gates, which the backward takes from the gated y: let through a trace of it.
constexpr float SMALLEST_GATE = 1e-20f;
DEVICE float open_gate(float z) { return z < SMALLEST_GATE && z > -SMALLEST_GATE ? SMALLEST_GATE : z; }

// Neighbouring elements as they lie in memory: loads of many can be under way before the first is needed.
template <class T, int COUNT, bool WORDS> struct Raw;
template <class T, int COUNT> struct Raw<T, COUNT, true> {
  uint32 words[COUNT / 2];
  DEVICE void load(const T* from, int valid) {
    UNROLL for (int i = 0; i < COUNT / 2; ++i) words[i] = valid > 2 * i ? ((const uint32*)from)[i] : 0u;
  }
  DEVICE void widen(float (&to)[COUNT]) const {
    UNROLL for (int i = 0; i < COUNT / 2; ++i) {
      const float2_t pair = unpack2<T>(words[i]);
      to[2 * i] = pair.x, to[2 * i + 1] = pair.y;
    }
  }
};
template <class T, int COUNT> struct Raw<T, COUNT, false> {
  T elements[COUNT];
  DEVICE void load(const T* from, int valid) {
    UNROLL for (int i = 0; i < COUNT; ++i) elements[i] = i < valid ? from[i] : from_float<T>(0.0f);
  }
  DEVICE void widen(float (&to)[COUNT]) const {
    UNROLL for (int i = 0; i < COUNT; ++i) to[i] = to_float(elements[i]);
  }
};

// COUNT neighbouring elements, of which the first `valid` exist; those that do not are zero. WHOLE: they all exist or
// none does, and their address is a multiple of their size together.
template <int COUNT, bool WHOLE, class T> DEVICE void load_elements(float (&to)[COUNT], const T* from, int valid) {
  Raw<T, COUNT, COUNT % 2 == 0 && sizeof(T) == 2 && WHOLE> raw;
  raw.load(from, valid);
  raw.widen(to);
}
template <int COUNT, bool WHOLE, class T> DEVICE void store_elements(T* to, const float (&from)[COUNT], int valid) {
  if constexpr (COUNT % 2 == 0 && sizeof(T) == 2 && WHOLE) {
    UNROLL for (int i = 0; i < COUNT; i += 2)
      if (valid > i) *(uint32*)(to + i) = pack2<T>(from[i], from[i + 1]);
  } else {
    UNROLL for (int i = 0; i < COUNT; ++i)
      if (i < valid) to[i] = from_float<T>(from[i]);
  }
}

// COUNT saved states of a channel, sixteen bytes at a time where they are 16-bit and COUNT is a multiple of eight.
template <int COUNT, class T> DEVICE void store_states(T* to, const float* from) {
  if constexpr (STATE % 8 == 0 && COUNT % 8 == 0 && sizeof(T) == 2) {
    UNROLL for (int n = 0; n < COUNT; n += 8)
      *(uint4_t*)(to + n) = {pack2<T>(from[n], from[n + 1]), pack2<T>(from[n + 2], from[n + 3]),
                             pack2<T>(from[n + 4], from[n + 5]), pack2<T>(from[n + 6], from[n + 7])};
  } else {
    UNROLL for (int n = 0; n < COUNT; ++n) to[n] = from_float<T>(from[n]);
  }
}
template <int COUNT, class T> DEVICE void load_states(float* to, const T* from, int valid) {
  if constexpr (STATE % 8 == 0 && COUNT % 8 == 0 && sizeof(T) == 2) {
    UNROLL for (int n = 0; n < COUNT; n += 8) {
      uint4_t packed = {0u, 0u, 0u, 0u};
      if (valid > n) packed = *(const uint4_t*)(from + n);
      const uint32 words[4] = {packed.x, packed.y, packed.z, packed.w};
      UNROLL for (int i = 0; i < 4; ++i) {
        const float2_t pair = unpack2<T>(words[i]);
        to[n + 2 * i] = pair.x, to[n + 2 * i + 1] = pair.y;
      }
    }
  } else {
    UNROLL for (int n = 0; n < COUNT; ++n) to[n] = n < valid ? to_float(from[n]) : 0.0f;
  }
}

// Copy `rows` of ROWS rows of COLUMNS elements into shared memory, by the whole block; columns past `valid` become
// zero, rows past `rows` stay what they are. STEP is elements from one row to the next, negative when the walk goes
// backward in memory; UNIT bytes at a time are known to be aligned.
template <int ROWS, int COLUMNS, int64 STEP, int UNIT>
DEVICE void stage_rows(input_t* to, const input_t* from, int rows, int valid) {
  constexpr int WIDTH = UNIT > 0 ? UNIT / (int)sizeof(input_t) : 1, VECTORS = COLUMNS / WIDTH;
  constexpr int AT_ONCE = THREADS / VECTORS > 0 ? THREADS / VECTORS : 1;  // rows
  constexpr int ACROSS = VECTORS > THREADS ? VECTORS / THREADS : 1;       // vectors of a row a thread copies
  static_assert(THREADS % VECTORS == 0 || VECTORS % THREADS == 0, "a thread stays in its columns");
  const int row_first = VECTORS < THREADS ? threadIdx.x / VECTORS : 0;
  const int column_first = VECTORS < THREADS ? threadIdx.x % VECTORS * WIDTH : threadIdx.x * WIDTH;
  const input_t* source = from + row_first * STEP + column_first;
  input_t* target = to + row_first * COLUMNS + column_first;
  UNROLL for (int across = 0; across < ACROSS; ++across) {
    const int shift = across * THREADS * WIDTH;
    UNROLL for (int row = 0; row < ROWS; row += AT_ONCE) {
      if (ROWS % AT_ONCE != 0 && row + row_first >= ROWS) break;
      input_t* place = target + row * COLUMNS + shift;
      if (column_first + shift >= valid) {
        UNROLL for (int i = 0; i < WIDTH; ++i) place[i] = from_float<input_t>(0.0f);
      } else if (row + row_first < rows) {
        if constexpr (UNIT > 0)
          copy_async<UNIT>(place, source + row * STEP + shift);
        else
          *place = source[row * STEP + shift];
      }
    }
  }
}

// A tile of B or C on its way from device to shared memory, where it is float32 rows of WIDTH states: loads are
// issued by `load` and land by `store`, so that what is between them hides their latency. ROW is elements from one
// row to the next, negative when the walk goes backward in memory.
template <int STEPS, int WIDTH, int64 ROW> struct ProjectionTile {
  static_assert(THREADS % WIDTH == 0, "a thread stays in its column");
  static constexpr int ROWS = THREADS / WIDTH, EACH = (STEPS + ROWS - 1) / ROWS;
  int row, state;
  input_t held[EACH];

  DEVICE ProjectionTile() : row(threadIdx.x / WIDTH), state(threadIdx.x % WIDTH) {}
  DEVICE void load(const input_t* from, int rows) {
    const input_t* own = from + row * ROW + state;
    UNROLL for (int i = 0; i < EACH; ++i)
      held[i] = i * ROWS + row < rows && state < STATE ? own[i * ROWS * ROW] : from_float<input_t>(0.0f);
  }
  DEVICE void store(float* to, int stride) const {
    float* own = to + row * stride + state;
    UNROLL for (int i = 0; i < EACH; ++i)
      if (i * ROWS + row < STEPS) own[i * ROWS * stride] = to_float(held[i]);
  }
};

// Channels of one block: tiles of `TILE` channels that never cross a group.
template <int TILE> struct ChannelTile {
  static constexpr int EACH = (SPAN + TILE - 1) / TILE;  // tiles of a group
  int group, first, valid;
  DEVICE explicit ChannelTile(int index) {
    group = index / EACH;
    first = group * SPAN + index % EACH * TILE;
    valid = (group + 1) * SPAN - first;
    valid = valid < TILE ? valid : TILE;
  }
};
