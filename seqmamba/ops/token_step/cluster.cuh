// A cluster of blocks that hold the same vectors in shared memory: each computes a part of every result and sends
// it to all of them.
//
// A result tells the barrier of its receiver how many bytes came with it, so that nobody waits for more than what
// it reads: a barrier of the whole cluster would also wait for every store to device memory, and empty the first-
// level cache. A block that has all of a result knows that all blocks have read what that result is made of, so it
// may overwrite their copies of it, and it is at most one exchange ahead of them.
#pragma once
#include "primitives.cuh"

constexpr int SLOTS = 16;  // barriers, used in turn
constexpr int SLOT_BYTES = 8;

#if CLUSTER > 1
#undef KERNEL
#define KERNEL extern "C" __global__ __cluster_dims__(CLUSTER, 1, 1)

DEVICE uint32 shared_address(const void* shared) { return (uint32)__cvta_generic_to_shared(shared); }
DEVICE uint32 address_at_rank(uint32 local, int rank) {
  uint32 remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(rank));
  return remote;
}
DEVICE int rank_in_cluster() {
  uint32 rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
DEVICE void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
#else
DEVICE int rank_in_cluster() { return 0; }
DEVICE void sync_cluster() { sync_block(); }
#endif

// Which thread and warp of its block one is, and which cluster that is; where the block's so many bytes of shared
// memory begin. The tests' header of this name runs the threads of a whole cluster as one block.
DEVICE int thread_in_block() { return threadIdx.x; }
DEVICE int warp_in_block() { return threadIdx.x >> 5; }
DEVICE int cluster_index() { return blockIdx.x / CLUSTER; }
DEVICE unsigned char* memory_of_block(unsigned char* shared, int64) { return shared; }

// The exchanges of a block so far. Every thread calls everything but `send` at every exchange.
struct Exchange {
  uint32 barriers, turn;

  DEVICE void begin(void* shared, int64) {
    turn = 0;
#if CLUSTER > 1
    barriers = shared_address(shared);
    if (threadIdx.x == 0) {
      for (int slot = 0; slot < SLOTS; ++slot)
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barriers + slot * SLOT_BYTES) : "memory");
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
#endif
    sync_cluster();
  }

  // Wait for all of the last exchange's vectors; also in vain.
  DEVICE void wait() const {
#if CLUSTER > 1
    const uint32 last = turn - 1, barrier = barriers + (last % SLOTS) * SLOT_BYTES;
    uint32 done;
    do {
      asm volatile(
          "{\n\t.reg .pred complete;\n\t"
          "mbarrier.try_wait.parity.shared::cta.b64 complete, [%1], %2;\n\t"
          "selp.u32 %0, 1, 0, complete;\n\t}"
          : "=r"(done)
          : "r"(barrier), "r"(last / SLOTS & 1)
          : "memory");
    } while (!done);
#else
    sync_block();
#endif
  }

  // What this block will receive in the exchange that begins.
  DEVICE void expect(int bytes) const {
#if CLUSTER > 1
    if (threadIdx.x == 0)
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                       barriers + (turn % SLOTS) * SLOT_BYTES),
                   "r"(bytes)
                   : "memory");
#endif
  }

  // Write 1, 2 or 4 floats, aligned to their size, into the shared memory of a block of the cluster.
  template <int COUNT> DEVICE void send(float* shared, int rank, const float (&values)[4]) const {
#if CLUSTER > 1
    const uint32 to = address_at_rank(shared_address(shared), rank);
    const uint32 barrier = address_at_rank(barriers + (turn % SLOTS) * SLOT_BYTES, rank);
    if (COUNT == 4)
      asm volatile(
          "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
          "f"(values[0]), "f"(values[1]), "f"(values[2]), "f"(values[3]), "r"(barrier)
          : "memory");
    else if (COUNT == 2)
      asm volatile(
          "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(to),
          "f"(values[0]), "f"(values[1]), "r"(barrier)
          : "memory");
    else
      asm volatile(
          "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(to), "f"(values[0]),
          "r"(barrier)
          : "memory");
#else
    UNROLL for (int i = 0; i < COUNT; ++i) shared[i] = values[i];
#endif
  }

  // Now and then the warps of a block wait for each other: else one without work might fall behind by so many turns
  // that the parity of its barrier means another one.
  DEVICE void end() {
    ++turn;
#if CLUSTER > 1
    if (turn % (SLOTS / 2) == 0) sync_block();
#endif
  }

  // Behind what a block did for itself alone.
  DEVICE void end_alone() const {
#if CLUSTER > 1
    sync_block();
#endif
  }
};
