// A cluster of blocks (seqmamba/ops/token_step/cluster.cuh) on a CPU: its threads are those of one emulated block, the
// first block's first. What a thread sends arrives with its next wait, or at once where copies do, and all that a block
// receives in an exchange must be as much as it expects.
#pragma once
#include "primitives.cuh"

constexpr int SLOTS = 16;
constexpr int MOST_SENT = 1 << 16;

DEVICE int thread_in_block() { return threadIdx.x % (WARPS * 32); }
DEVICE int warp_in_block() { return thread_in_block() >> 5; }
DEVICE int rank_in_cluster() { return threadIdx.x / (WARPS * 32); }
DEVICE int cluster_index() { return blockIdx.x; }
DEVICE unsigned char* memory_of_block(unsigned char* shared, int64 bytes) { return shared + rank_in_cluster() * bytes; }
DEVICE void sync_cluster() { sync_block(); }

// Of all blocks of the cluster; bytes in the exchange under way and in the one before it.
static __thread float sent[MOST_SENT];
static __thread int n_sent, received[2][CLUSTER], expected[2][CLUSTER];

struct Exchange {
  int64 bytes;
  uint32 turn;

  DEVICE void begin(void*, int64 bytes_of_block) {
    bytes = bytes_of_block;
    turn = 0;
    if (threadIdx.x == 0) {
      clear(0);
      clear(1);
    }
    sync_cluster();
  }
  DEVICE void wait() const {
    emulator::commit_copies();
    emulator::wait_for_copies(0);
    sync_cluster();
    if (threadIdx.x == 0) {
      const int last = (turn - 1) & 1;
      for (int rank = 0; rank < CLUSTER; ++rank)
        if (received[last][rank] != expected[last][rank])
          emulator::fail(
              __FILE__, __LINE__, "block %d expects %d bytes and receives %d", rank, expected[last][rank],
              received[last][rank]);
      clear(last);
    }
    sync_cluster();
  }
  DEVICE void expect(int count) const {
    if (thread_in_block() == 0) expected[turn & 1][rank_in_cluster()] += count;
  }
  template <int COUNT> void send(float* shared, int rank, const float (&values)[4]) const {
    if ((unsigned long)shared % (4 * COUNT)) emulator::fail(__FILE__, __LINE__, "%d floats are not aligned", COUNT);
    for (int i = 0; i < COUNT; ++i) {
      if (n_sent == MOST_SENT) emulator::fail(__FILE__, __LINE__, "more than %d numbers in an exchange", MOST_SENT);
      sent[n_sent] = values[i];
      unsigned char* to = (unsigned char*)(shared + i) + (rank - rank_in_cluster()) * bytes;
      emulator::copy_later(to, &sent[n_sent++], 4, __FILE__, __LINE__);
    }
    received[turn & 1][rank] += 4 * COUNT;
  }
  DEVICE void end() { ++turn; }
  DEVICE void end_alone() const { sync_cluster(); }

 private:
  static void clear(int slot) {
    n_sent = 0;
    for (int rank = 0; rank < CLUSTER; ++rank) received[slot][rank] = expected[slot][rank] = 0;
  }
};
