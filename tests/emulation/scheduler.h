// What primitives.cuh asks of the scheduler that runs the threads of a block as fibers of one system thread.
#pragma once

struct emulated_index { unsigned x, y, z; };
extern __thread emulated_index threadIdx, blockIdx, gridDim, blockDim;

namespace emulator {

constexpr int WARP = 32;
constexpr int WORDS = 6;  // what a lane brings to a collective: at most the operands of one matrix instruction

enum Collective { SYNC_WARP, SYNC_BLOCK, SHUFFLE_XOR, SHUFFLE_FROM, WARP_ANY, MMA, EXIT };

// Waits until every lane of the warp (and, for SYNC_BLOCK, of the block) is here; returns what each brought.
// The result stays valid until this lane's collective after the next.
typedef const unsigned (*Brought)[WORDS];
Brought meet(Collective what, const unsigned* words, int count, const char* file, int line);

void copy_later(void* shared, const void* global, int bytes, const char* file, int line);
void commit_copies();
void wait_for_copies(int pending);

unsigned char* shared_memory();

// Ends the launch with a message that starts with the thread and the place.
[[noreturn]] void fail(const char* file, int line, const char* format, ...) __attribute__((format(printf, 3, 4)));

}  // namespace emulator
