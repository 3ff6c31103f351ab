// The host twin of a GPU: runs a kernel on the CPU, each CUDA thread as a fibre, one thread block
// after another. Kernels reach it through the second kernels/cuda/ptx.cuh, which lies beside this
// header; tests call Launch().
//
// What a kernel does wrong (a misaligned copy, lanes at different operations, a deadlock, an exit
// with copies in flight, ...) is printed as one sentence on stderr and ends the process by abort().
// AddressSanitizer finds accesses outside shared memory and reads of bytes that a copy has not
// brought yet; ThreadSanitizer finds races between the threads of a block, whatever their order.
// Races between blocks are not found.

#ifndef QUIRE_TESTS_SUPPORT_TWIN_TWIN_H_
#define QUIRE_TESTS_SUPPORT_TWIN_TWIN_H_

#include <cstddef>
#include <cstdint>

namespace quire::twin {

struct LaunchShape {
  int blocks;
  int threads;  // of a block; whole warps
  size_t shared_bytes = 0;
};

// Runs body(closure) as each thread of each block.
void LaunchBody(const LaunchShape& shape, uint64_t seed, void (*body)(const void*),
                const void* closure);

// Calls kernel(arguments...) as each thread of each block, and returns when all have ended. The
// seed picks the order of the threads. 0: warp after warp, lane after lane. Odd: warps in random
// order, each until it can go no further. Even: random bursts of one to eight lanes.
// One launch at a time in a process.
template <typename Kernel, typename... Arguments>
void Launch(const LaunchShape& shape, uint64_t seed, Kernel kernel, Arguments... arguments) {
  const auto body = [&] { kernel(arguments...); };
  LaunchBody(
      shape, seed, [](const void* closure) { (*static_cast<const decltype(body)*>(closure))(); },
      &body);
}

// Threads resumed since the process began: two switches of context each.
uint64_t Resumes();

// The rest is for ptx.cuh.

// A sentence on stderr, with the block and the thread, and abort().
[[noreturn]] void Fail(const char* sentence);

int ThreadIndex();
int BlockIndex();
int BlockCount();
int BlockThreads();
char* Smem();

// What the 32 lanes of a warp do together.
enum class Operation : uint32_t {
  kSyncWarp,
  kSyncBlock,
  kSyncNamed,
  kShuffle,     // words: value (2), source lane; becomes the value
  kShuffleXor,  // words: value, mask; becomes the value
  kBallot,      // words: predicate; becomes the mask
  kLoadMatrices,
  kLoadMatricesTransposed,  // words: a row (4); becomes the fragments
  kMultiplyAddHalf,
  kMultiplyAddBFloat16  // words: c (4), a (4), b (2); c becomes the sum
};

// Waits for the 32 lanes and does what they ask. `words` are a lane's arguments and become its
// result; they stay where they are, so nothing is copied.
void WarpOperation(Operation operation, uint32_t* words);

// Waits for a barrier of the block: 0, of all threads, or one with a number, of `threads` threads.
void Barrier(int barrier, int threads);

// Ends the process unless `at` is one of the 16-byte units of this block's shared memory.
void CheckShared(const void* at, const char* what);

// A copy in flight of this thread's open group. The target must not be read before it has landed.
void BeginCopy(uint32_t* to, const uint32_t (&words)[4]);
void CommitGroup();
// Takes the oldest copy that a wait for all but `pending` groups lets land; null: none is left.
uint32_t* NextLanding(uint32_t pending, uint32_t (&words)[4]);

}  // namespace quire::twin

#endif  // QUIRE_TESTS_SUPPORT_TWIN_TWIN_H_
