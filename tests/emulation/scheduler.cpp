// Runs the blocks of a launch one after another and the threads of a block as fibers that switch at collectives.
//
// The lanes of a warp take turns in a fixed rotation: a lane runs until its next collective, leaves what it brings
// and wakes its neighbour; the last one to come completes the collective and runs on. A collective that some lanes
// never reach is therefore met with the wrong neighbour, and reported, instead of waited for.
#include "scheduler.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#define WITH_UCONTEXT 1
#endif

__thread emulated_index threadIdx, blockIdx, gridDim, blockDim;

namespace emulator {
namespace {

constexpr size_t STACK_BYTES = 256 * 1024;
constexpr size_t PAGE = 4096;
constexpr int MOST_THREADS = 1024;
constexpr size_t GUARD_BYTES = 16 * 1024;
// A NaN as a float32 and as two 16-bit floats, unlike the bytes (0xff) that stand for "never written".
constexpr unsigned short GUARD_WORD = 0xffe5;
const char* const NAMES[] = {"sync_warp", "sync_block", "shuffle_xor", "shuffle_from", "warp_any", "mma_tf32",
                             "the end of the kernel"};

struct Copy {
  void* to;
  const void* from;
  int bytes;
  unsigned group;
};

struct Copies {
  Copy* items;
  int first, count, capacity;
  unsigned group;  // the one that commit_copies closes next
};

#ifdef WITH_UCONTEXT
typedef ucontext_t Context;
#else
typedef void* Context;
#endif

struct Fiber {
  Context context;
  Copies copies;
};

struct Meeting {
  Collective what;
  const char* file;
  int line;
  int first;  // who came first, for the message
  int arrived;
};

struct Warp {
  Meeting meeting;
  unsigned generation;
  unsigned brought[2][WARP][WORDS];  // a fast lane brings the next while slow ones still read the last
};

struct State {
  Fiber fibers[MOST_THREADS];
  Warp warps[MOST_THREADS / WARP];
  Meeting block;
  Context scheduler;
  char* stacks;
  int threads, current;
  bool backward, early_copies, running, failed;
  unsigned char* shared;
  void (*invoke)(void* const*);
  void* const* arguments;
  char* message;
  size_t message_bytes;
  char* signal_stack;
};

__thread State* state = nullptr;

#ifdef WITH_UCONTEXT
void switch_context(Context* from, Context* to) { swapcontext(from, to); }
#else
// Saves the registers that a call must preserve on this stack, takes the other stack, restores and returns there.
extern "C" __attribute__((visibility("hidden"))) void emulator_switch(void** from, void* to) asm("emulator_switch");
#if defined(__x86_64__)
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
constexpr int SAVED_WORDS = 7, RETURN_WORD = 6;
#else
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
constexpr int SAVED_WORDS = 20, RETURN_WORD = 11;
#endif
void switch_context(Context* from, Context* to) { emulator_switch(from, *to); }
#endif

void resume(int thread) {
  State* s = state;
  const int self = s->current;
  s->current = thread;
  threadIdx.x = thread;
  switch_context(&s->fibers[self].context, &s->fibers[thread].context);
}

[[noreturn]] void leave() {
  State* s = state;
  switch_context(&s->fibers[s->current].context, &s->scheduler);
  abort();  // the scheduler never comes back to a fiber that left
}

void fiber_main() {
  State* s = state;
  s->invoke(s->arguments);
  meet(EXIT, nullptr, 0, "", 0);
  leave();
}

void prepare(int thread) {
  State* s = state;
  Fiber& fiber = s->fibers[thread];
  fiber.copies.first = fiber.copies.count = 0;
  fiber.copies.group = 0;
  char* stack = s->stacks + thread * STACK_BYTES;
#ifdef WITH_UCONTEXT
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack + PAGE;
  fiber.context.uc_stack.ss_size = STACK_BYTES - PAGE;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, fiber_main, 0);
#else
  // Stacks start at different offsets, or the busy ends of all of them would share a few lines of the cache.
  char* top = stack + STACK_BYTES - 64 - (thread * 832) % 16384;
  void** words = (void**)((size_t)top & ~(size_t)63);
#if defined(__x86_64__)
  *--words = nullptr;  // as if fiber_main had been called: the stack is off by 8 at its entry
#endif
  words -= SAVED_WORDS;
  memset(words, 0, SAVED_WORDS * sizeof(void*));
  words[RETURN_WORD] = (void*)fiber_main;
  fiber.context = words;
#endif
}

// A lane or a warp comes to a meeting; true if it is the last.
bool come(Meeting& meeting, const char* unit, int self, int size, Collective what, const char* file, int line) {
  if (meeting.arrived == 0) {
    meeting.what = what;
    meeting.file = file;
    meeting.line = line;
    meeting.first = self;
  } else if (meeting.what != what || meeting.line != line || strcmp(meeting.file, file) != 0) {
    if (meeting.what == EXIT)
      fail(file, line, "divergence: %s %d is at %s and %s %d has left the kernel", unit, self, NAMES[what], unit,
           meeting.first);
    fail(file, line, "divergence: %s %d is at %s and %s %d waits at %s (%s:%d)", unit, self, NAMES[what], unit,
         meeting.first, NAMES[meeting.what], meeting.file, meeting.line);
  }
  if (++meeting.arrived < size) return false;
  meeting.arrived = 0;
  return true;
}

void perform(Copies& copies, unsigned before) {
  while (copies.first < copies.count && (int)(copies.items[copies.first].group - before) < 0) {
    const Copy& copy = copies.items[copies.first++];
    memcpy(copy.to, copy.from, copy.bytes);
  }
  if (copies.first == copies.count) copies.first = copies.count = 0;
}

void fill_guard(unsigned char* bytes) {
  for (size_t i = 0; i < GUARD_BYTES; i += 2) memcpy(bytes + i, &GUARD_WORD, 2);
}

// The distance from the memory's end (or start) to the first changed byte, or -1.
long changed_guard(const unsigned char* bytes) {
  for (size_t i = 0; i < GUARD_BYTES; i += 2)
    if (memcmp(bytes + i, &GUARD_WORD, 2) != 0) return (long)i;
  return -1;
}

void on_signal(int number, siginfo_t* info, void*);
struct sigaction previous[4];
const int SIGNALS[4] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

void on_signal(int number, siginfo_t* info, void*) {
  if (state == nullptr || !state->running) {  // not ours: let the old handler see it when it strikes again
    for (int i = 0; i < 4; ++i)
      if (SIGNALS[i] == number) sigaction(number, &previous[i], nullptr);
    return;
  }
  fail("", 0, "%s (address %p): a null, misaligned or far out-of-bounds access, or a stack overflow",
       number == SIGSEGV ? "segmentation fault" : number == SIGBUS ? "bus error" : number == SIGFPE ? "arithmetic fault"
                                                                                  : "illegal instruction",
       info->si_addr);
}

bool make_state() {
  if (state != nullptr) return true;
  State* s = (State*)calloc(1, sizeof(State));
  if (s == nullptr) return false;
  s->signal_stack = (char*)malloc(65536);
  state = s;
  return true;
}

// Stacks for one launch, each above a page that stops an overflow. A process may have some 65,000 mappings and
// each of these pages is one more: every kernel is a library with its own scheduler, so none keeps them.
bool make_stacks(int threads) {
  State* s = state;
  s->stacks = (char*)mmap(nullptr, STACK_BYTES * threads, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (s->stacks == (char*)MAP_FAILED) return false;
  for (int i = 0; i < threads; ++i)
    if (mprotect(s->stacks + i * STACK_BYTES, PAGE, PROT_NONE) != 0) {
      munmap(s->stacks, STACK_BYTES * threads);
      return false;
    }
  return true;
}

void run_block(size_t shared_bytes) {
  State* s = state;
  memset(s->shared, 0xff, shared_bytes);
  const int warps = s->threads / WARP;
  for (int i = 0; i < s->threads; ++i) prepare(i);
  for (int i = 0; i < warps; ++i) {
    s->warps[i].meeting.arrived = 0;
    s->warps[i].generation = 0;
  }
  s->block.arrived = 0;
  s->current = threadIdx.x = s->backward ? s->threads - 1 : 0;
  s->running = true;
  switch_context(&s->scheduler, &s->fibers[s->current].context);
  s->running = false;
}

}  // namespace

void fail(const char* file, int line, const char* format, ...) {
  State* s = state;
  int used = snprintf(s->message, s->message_bytes, "block (%u, %u, %u), thread %d", blockIdx.x, blockIdx.y, blockIdx.z,
                      s->current);
  if (line > 0) used += snprintf(s->message + used, s->message_bytes - used, ", %s:%d", file, line);
  used += snprintf(s->message + used, s->message_bytes - used, ": ");
  va_list values;
  va_start(values, format);
  vsnprintf(s->message + used, s->message_bytes - used, format, values);
  va_end(values);
  s->failed = true;
  leave();
}

Brought meet(Collective what, const unsigned* words, int count, const char* file, int line) {
  State* s = state;
  const int self = s->current, lane = self % WARP, step = s->backward ? WARP - 1 : 1;
  Warp& warp = s->warps[self / WARP];
  unsigned(*brought)[WORDS] = warp.brought[warp.generation & 1];
  for (int i = 0; i < count; ++i) brought[lane][i] = words[i];
  if (!come(warp.meeting, "lane", lane, WARP, what, file, line)) {
    resume(self - lane + (lane + step) % WARP);
  } else {
    ++warp.generation;
    if (what == SYNC_BLOCK || what == EXIT) {
      const int warps = s->threads / WARP, index = self / WARP;
      if (!come(s->block, "warp", index, warps, what, file, line)) {
        const int next = (index + (s->backward ? warps - 1 : 1)) % warps;
        resume(next * WARP + (s->backward ? WARP - 1 : 0));
      }
    }
  }
  return brought;
}

void copy_later(void* shared, const void* global, int bytes, const char* file, int line) {
  State* s = state;
  if ((size_t)shared % bytes != 0) fail(file, line, "copy_async: the shared address is not aligned to %d bytes", bytes);
  if ((size_t)global % bytes != 0) fail(file, line, "copy_async: the device address is not aligned to %d bytes", bytes);
  Copies& copies = s->fibers[s->current].copies;
  if (s->early_copies) {
    memcpy(shared, global, bytes);
    return;
  }
  if (copies.count == copies.capacity) {
    copies.capacity = copies.capacity ? 2 * copies.capacity : 16;
    copies.items = (Copy*)realloc(copies.items, copies.capacity * sizeof(Copy));
  }
  copies.items[copies.count++] = {shared, global, bytes, copies.group};
}

void commit_copies() { ++state->fibers[state->current].copies.group; }

void wait_for_copies(int pending) {
  Copies& copies = state->fibers[state->current].copies;
  perform(copies, copies.group - pending);
}

unsigned char* shared_memory() { return state->shared; }

}  // namespace emulator

#define EXPORTED __attribute__((visibility("default")))

using namespace emulator;

// The launch that Python asks for; Python has the same structure.
struct Launch {
  void (*invoke)(void* const*);
  void* const* arguments;
  unsigned grid[3];
  unsigned threads;
  unsigned long long shared_bytes;
  int backward, early_copies;
  unsigned long long first_block, block_step;
  char* message;
  unsigned long long message_bytes;
};

extern "C" EXPORTED void emulator_catch_signals(int on) {
  for (int i = 0; i < 4; ++i) {
    if (on) {
      struct sigaction action;
      memset(&action, 0, sizeof action);
      action.sa_sigaction = on_signal;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // the handler does not return
      sigaction(SIGNALS[i], &action, &previous[i]);
    } else {
      sigaction(SIGNALS[i], &previous[i], nullptr);
    }
  }
}

// Runs blocks first_block, first_block + block_step, ...; 0 or, with a message, 1.
extern "C" EXPORTED int emulator_run(const Launch* launch) {
  if (!make_state() || !make_stacks(launch->threads)) {
    snprintf(launch->message, launch->message_bytes, "no memory for the stacks of the threads");
    return 1;
  }
  State* s = state;
  stack_t alternative, before;
  memset(&alternative, 0, sizeof alternative);
  alternative.ss_sp = s->signal_stack;
  alternative.ss_size = 65536;
  sigaltstack(&alternative, &before);
  const size_t shared_bytes = launch->shared_bytes;
  unsigned char* memory = (unsigned char*)aligned_alloc(128, (2 * GUARD_BYTES + shared_bytes + 255) / 128 * 128);
  s->shared = memory + GUARD_BYTES;
  fill_guard(memory);
  fill_guard(s->shared + shared_bytes);
  s->threads = launch->threads;
  s->backward = launch->backward;
  s->early_copies = launch->early_copies;
  s->invoke = launch->invoke;
  s->arguments = launch->arguments;
  s->message = launch->message;
  s->message_bytes = launch->message_bytes;
  s->failed = false;
  gridDim = {launch->grid[0], launch->grid[1], launch->grid[2]};
  blockDim = {launch->threads, 1, 1};
  threadIdx = {0, 0, 0};
  const unsigned long long blocks = 1ull * gridDim.x * gridDim.y * gridDim.z;
  for (unsigned long long i = launch->first_block; i < blocks && !s->failed; i += launch->block_step) {
    const unsigned long long block = s->backward ? blocks - 1 - i : i;
    blockIdx = {(unsigned)(block % gridDim.x), (unsigned)(block / gridDim.x % gridDim.y),
                (unsigned)(block / gridDim.x / gridDim.y)};
    run_block(shared_bytes);
    const long after = changed_guard(s->shared + shared_bytes), prior = changed_guard(memory);
    if (!s->failed && (after >= 0 || prior >= 0)) {
      snprintf(s->message, s->message_bytes,
               "block (%u, %u, %u): shared memory was written %ld bytes %s its %zu bytes", blockIdx.x, blockIdx.y,
               blockIdx.z, after >= 0 ? after : (long)GUARD_BYTES - prior, after >= 0 ? "past" : "before", shared_bytes);
      s->failed = true;
    }
  }
  free(memory);
  munmap(s->stacks, STACK_BYTES * launch->threads);
  before.ss_flags &= SS_DISABLE;
  sigaltstack(&before, nullptr);
  return s->failed;
}
