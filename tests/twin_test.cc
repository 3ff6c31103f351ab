// The host twin finds the faults of kernels that it is there for. Each kernel below but one is
// wrong on purpose.
//
// What shows where:
//   a barrier is missing before a read   a wrong value in some orders; a race under ThreadSanitizer
//   two threads write the same value     a race under ThreadSanitizer; nothing else sees it
//   a copy is read before its wait       NaN; a use after poison under AddressSanitizer
//   an ordinary store past shared memory found when the block ends; at the line under
//   AddressSanitizer everything else here                 the twin itself, in every build

#include "tests/support/twin/twin.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/ptx.cuh"

#if !defined(__has_feature)
#define __has_feature(feature) 0
#endif

namespace quire::twin {
namespace {

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

constexpr int kThreads = 128;
constexpr uint64_t kSeeds = 12;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

int32_t* SharedWords() { return reinterpret_cast<int32_t*>(ptx::Smem()); }

struct alignas(16) Line {
  float values[4];
};

// --- Orders ---

enum class Planted { kNothing, kNoBarrierBeforeRead, kNoBarrierAfterRead };

// Threads pass numbers round the block, thrice.
QUIRE_KERNEL(kThreads, 1) PassRound(Planted planted, int32_t* out) {
  const int thread = ptx::ThreadIndex();
  int32_t value = thread;
  for (int round = 0; round < 3; ++round) {
    SharedWords()[thread] = value;
    if (planted != Planted::kNoBarrierBeforeRead) ptx::SyncBlock();
    value += SharedWords()[(thread + 47) % kThreads];
    if (planted != Planted::kNoBarrierAfterRead) ptx::SyncBlock();
  }
  out[ptx::BlockIndex() * kThreads + thread] = value;
}

std::vector<int32_t> PassedRound(Planted planted, uint64_t seed) {
  std::vector<int32_t> out(2 * kThreads, -7);
  Launch({2, kThreads, kThreads * 4}, seed, PassRound, planted, out.data());
  return out;
}

std::vector<int32_t> Expected() {
  std::vector<int32_t> values(kThreads);
  for (int i = 0; i < kThreads; ++i) values[static_cast<size_t>(i)] = i;
  for (int round = 0; round < 3; ++round) {
    const std::vector<int32_t> before = values;
    for (size_t i = 0; i < kThreads; ++i) values[i] += before[(i + 47) % kThreads];
  }
  values.insert(values.end(), values.begin(), values.end());
  return values;
}

TEST(TwinTest, ARightKernelGivesTheSameInEveryOrder) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    EXPECT_EQ(PassedRound(Planted::kNothing, seed), Expected()) << seed;
  }
}

// Runs `launch` so that a race which ThreadSanitizer reports is told by the exit status, whether it
// halts there or goes on to the end.
template <typename Function>
void ExpectRace(const Function& launch) {
  EXPECT_EXIT((launch(), std::exit(0)), ::testing::ExitedWithCode(66), "data race");
}

// Each in a process of its own from the start: in the child of a fork ThreadSanitizer takes the
// fibres for threads that were lost, stops looking at what orders them, and reports false races.
class TwinDeathTest : public ::testing::Test {
 protected:
  TwinDeathTest() { ::testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

void ExpectFound(Planted planted) {
  if (kThreadSanitizer) {
    ExpectRace([&] { PassedRound(planted, 0); });
    return;
  }
  int wrong = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    if (PassedRound(planted, seed) != Expected()) ++wrong;
  }
  EXPECT_GT(wrong, 0);
}
TEST_F(TwinDeathTest, AMissingBarrierBeforeARead) { ExpectFound(Planted::kNoBarrierBeforeRead); }
TEST_F(TwinDeathTest, AMissingBarrierAfterARead) { ExpectFound(Planted::kNoBarrierAfterRead); }

QUIRE_KERNEL(kThreads, 1) WriteTheSame(int32_t* out) {
  if (ptx::ThreadIndex() % 32 == 0) *out = 5;
}
TEST_F(TwinDeathTest, OnlyThreadSanitizerSeesARaceWithoutConsequence) {
  int32_t out = 0;
  if (kThreadSanitizer) {
    ExpectRace([&] { Launch({1, kThreads}, 0, WriteTheSame, &out); });
  } else {
    Launch({1, kThreads}, 0, WriteTheSame, &out);
    EXPECT_EQ(out, 5);
  }
}

// A shuffle orders no memory, though the values look right here.
QUIRE_KERNEL(32, 1) ShuffleAsBarrier(int32_t* out) {
  const int lane = ptx::ThreadIndex();
  SharedWords()[lane] = lane;
  ptx::Shuffle(lane, 0);
  out[lane] = SharedWords()[31 - lane];
}
TEST_F(TwinDeathTest, OnlyThreadSanitizerSeesAShuffleUsedAsABarrier) {
  std::vector<int32_t> out(32);
  const auto launch = [&] { Launch({1, 32, 128}, 0, ShuffleAsBarrier, out.data()); };
  if (kThreadSanitizer) {
    ExpectRace(launch);
  } else {
    launch();
    EXPECT_EQ(out[3], 28);
  }
}

QUIRE_KERNEL(kThreads, 1) LogOrder(int32_t* next, int32_t* log) {
  for (int i = 0; i < 2; ++i) {
    log[ptx::AtomicAdd(next, 1)] = ptx::ThreadIndex();
    ptx::SyncWarp();
  }
}
std::vector<int32_t> Order(uint64_t seed) {
  int32_t next = 0;
  std::vector<int32_t> log(2 * kThreads);
  Launch({1, kThreads}, seed, LogOrder, &next, log.data());
  return log;
}
TEST(TwinTest, TheSeedPicksTheOrder) {
  std::vector<std::vector<int32_t>> orders;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    orders.push_back(Order(seed));
    EXPECT_EQ(orders.back(), Order(seed)) << seed;
    for (uint64_t other = 0; other < seed; ++other) EXPECT_NE(orders[seed], orders[other]);
  }
  for (int i = 0; i < 32; ++i) EXPECT_EQ(orders[0][static_cast<size_t>(i)], i);
  // Odd: a warp runs until it can go no further, so its two rounds follow one another. Even: others
  // come between.
  bool interleaved = false;
  for (size_t i = 0; i < 2 * kThreads; ++i) {
    EXPECT_EQ(orders[1][i] / 32, orders[1][i / 64 * 64] / 32);
    interleaved |= orders[2][i] / 32 != orders[2][i / 64 * 64] / 32;
  }
  EXPECT_TRUE(interleaved);
}

TEST(TwinTest, LaunchesFromAnyHostThread) {
  std::vector<int32_t> out;
  std::thread([&] { out = PassedRound(Planted::kNothing, 2); }).join();
  EXPECT_EQ(out, Expected());
  EXPECT_EQ(PassedRound(Planted::kNothing, 2), Expected());
}

// --- Shared memory ---

QUIRE_KERNEL(32, 1) ReadThenWrite(int32_t* out) {
  const int lane = ptx::ThreadIndex();
  out[ptx::BlockIndex() * 32 + lane] = SharedWords()[lane];
  SharedWords()[lane] = lane;
}
TEST(TwinTest, SharedMemoryBeginsAsNanInEveryBlock) {
  std::vector<int32_t> out(96);
  Launch({3, 32, 128}, 0, ReadThenWrite, out.data());
  EXPECT_EQ(out, std::vector<int32_t>(96, -1));
  EXPECT_TRUE(std::isnan(std::bit_cast<float>(out[0])));
}

QUIRE_KERNEL(32, 1) StoreAt(int word) { SharedWords()[word + ptx::ThreadIndex()] = 0; }
TEST_F(TwinDeathTest, AStorePastTheEndOfSharedMemory) {
  Launch({1, 32, 132}, 0, StoreAt, 1);
  EXPECT_DEATH(Launch({1, 32, 132}, 0, StoreAt, 2),
               kAddressSanitizer ? "heap-buffer-overflow" : "wrote past the end of its shared");
}

enum class Access { kMatrices, kMatricesTransposed, kCopy };
QUIRE_KERNEL(32, 1) AccessAt(Access access, int64_t byte, const char* from) {
  uint32_t registers[4];
  char* const at = ptx::Smem() + byte;
  if (access == Access::kMatrices) ptx::LoadMatrices(registers, at);
  if (access == Access::kMatricesTransposed) ptx::LoadMatricesTransposed(registers, at);
  if (access == Access::kCopy) {
    if (ptx::ThreadIndex() == 0) ptx::CopyAsync(at, from, true);
    ptx::CommitGroup();
    ptx::WaitForGroups<0>();
  }
}
TEST_F(TwinDeathTest, AMisplacedMatrixRowOrCopy) {
  const Line lines[2] = {};
  const auto* const from = reinterpret_cast<const char*>(lines);
  for (const Access access : {Access::kMatrices, Access::kMatricesTransposed, Access::kCopy}) {
    const auto launch = [&](int64_t byte) {
      Launch({1, 32, 500}, 0, AccessAt, access, byte, from);
    };
    launch(480);
    EXPECT_DEATH(launch(8), "is not a multiple of 16 .byte 8 of 500");
    EXPECT_DEATH(launch(496), "lies outside shared memory .byte 496 of 500");
    EXPECT_DEATH(launch(-16), "lies outside shared memory .byte -16 of 500");
  }
  EXPECT_DEATH(Launch({1, 32, 500}, 0, AccessAt, Access::kCopy, int64_t{0}, from + 4),
               "block 0, thread 0: CopyAsync: the source is not a multiple of 16");
}

// --- Copies ---

enum class CopyFault { kNone, kNoWait, kOneGroupTooFew, kNotCommitted };

// Two groups; looks at the first copy's target after a wait that should be enough, or is not.
QUIRE_KERNEL(32, 1) CopyAndLook(CopyFault fault, const Line* from, float* out) {
  auto* const shared = reinterpret_cast<Line*>(ptx::Smem()) + ptx::ThreadIndex();
  ptx::CopyAsync(shared, from, true);
  if (fault != CopyFault::kNotCommitted) ptx::CommitGroup();
  if (fault == CopyFault::kOneGroupTooFew) ptx::WaitForGroups<1>();
  if (fault == CopyFault::kNone || fault == CopyFault::kNotCommitted) ptx::WaitForGroups<0>();
  out[ptx::ThreadIndex()] = shared->values[3];
  ptx::CommitGroup();
  ptx::WaitForGroups<0>();
}
TEST_F(TwinDeathTest, ACopyIsNotThereBeforeItsWait) {
  const Line from = {{1, 2, 3, 4}};
  float out[32] = {};
  const auto launch = [&](CopyFault fault, uint64_t seed) {
    Launch({1, 32, 512}, seed, CopyAndLook, fault, &from, &out[0]);
  };
  for (const CopyFault fault :
       {CopyFault::kNoWait, CopyFault::kOneGroupTooFew, CopyFault::kNotCommitted}) {
    launch(CopyFault::kNone, 0);
    EXPECT_EQ(out[31], 4);
    if (kAddressSanitizer) {
      EXPECT_DEATH(launch(fault, 0), "use-after-poison");
      continue;
    }
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      launch(fault, seed);
      EXPECT_TRUE(std::isnan(out[31])) << seed;
    }
  }
}

// What another thread issued is there after its wait and a barrier, not after its wait alone; here
// warp 1 reads what warp 0 copied.
QUIRE_KERNEL(64, 1) CopyForOthers(bool barrier, const Line* from, float* out) {
  auto* const shared = reinterpret_cast<Line*>(ptx::Smem());
  const int thread = ptx::ThreadIndex();
  if (thread < 32) ptx::CopyAsync(shared + thread, from, true);
  ptx::CommitGroup();
  ptx::WaitForGroups<0>();
  if (barrier) ptx::SyncBlock();
  if (thread >= 32) out[thread - 32] = shared[thread - 32].values[0];
}
TEST_F(TwinDeathTest, ACopyIsThereForOthersAfterABarrier) {
  const Line from = {{1, 2, 3, 4}};
  float out[32] = {};
  const auto launch = [&](bool barrier, uint64_t seed) {
    Launch({1, 64, 512}, seed, CopyForOthers, barrier, &from, &out[0]);
  };
  int missing = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    launch(true, seed);
    EXPECT_EQ(out[31], 1) << seed;
    if (kThreadSanitizer) continue;
    launch(false, seed);
    if (std::isnan(out[31])) ++missing;
  }
  if (kThreadSanitizer) {
    ExpectRace([&] { launch(false, 0); });
  } else {
    EXPECT_GT(missing, 0);
  }
}

QUIRE_KERNEL(32, 1) CopyWithoutSource(const Line* from) {
  auto* const shared = reinterpret_cast<Line*>(ptx::Smem()) + ptx::ThreadIndex();
  shared->values[0] = kNan;
  ptx::CopyAsync(shared, from, false);
  ptx::CommitGroup();
  ptx::WaitForGroups<0>();
  ptx::Check(shared->values[0] == 0);
}
TEST(TwinTest, ACopyThatIsNotValidDoesNotReadItsSource) {
  const uint64_t before = Resumes();
  Launch({1, 32, 512}, 0, CopyWithoutSource, reinterpret_cast<const Line*>(uintptr_t{64}));
  EXPECT_EQ(Resumes() - before, 32u);  // every thread ran to its end in one go
}

QUIRE_KERNEL(32, 1) ExitWithCopies(bool committed, const Line* from) {
  ptx::CopyAsync(ptx::Smem() + 16 * ptx::ThreadIndex(), from, true);
  if (committed) ptx::CommitGroup();
}
TEST_F(TwinDeathTest, AnExitWithCopiesInFlight) {
  const Line from = {};
  for (const bool committed : {false, true}) {
    EXPECT_DEATH(Launch({1, 32, 512}, 0, ExitWithCopies, committed, &from),
                 "block 0, thread 0: the thread ended with copies in flight");
  }
}

// --- Lanes and barriers that disagree ---

QUIRE_KERNEL(64, 1) SkipBarrier(int from, int to) {
  if (ptx::ThreadIndex() < from || ptx::ThreadIndex() >= to) ptx::SyncBlock();
}
TEST_F(TwinDeathTest, ADeadlockIsReported) {
  EXPECT_DEATH(Launch({1, 64}, 0, SkipBarrier, 0, 32),
               "nothing can run .deadlock. in block 0:\n  warp 0: 32 threads have ended\n"
               "  warp 1: 0 threads have ended, 32 wait at SyncBlock\n");
  EXPECT_DEATH(Launch({1, 64}, 1, SkipBarrier, 5, 6),
               "warp 0: 1 threads have ended, 31 wait at SyncBlock for the other lanes");
}

QUIRE_KERNEL(kThreads, 1) NamedBarriers(int threads_of_last) {
  ptx::SyncNamed(4, ptx::ThreadIndex() < 96 ? kThreads : threads_of_last);
}
TEST_F(TwinDeathTest, ANamedBarrierOfTheWrongSize) {
  Launch({1, kThreads}, 0, NamedBarriers, kThreads);
  EXPECT_DEATH(Launch({1, kThreads}, 0, NamedBarriers, 64), "different numbers of threads");
  EXPECT_DEATH(Launch({1, kThreads}, 0, NamedBarriers, 40), "not whole warps of the block");
  EXPECT_DEATH(Launch({1, kThreads}, 0, NamedBarriers, 160), "not whole warps of the block");
}
QUIRE_KERNEL(kThreads, 1) NumberedBarrier(int barrier) { ptx::SyncNamed(barrier, kThreads); }
TEST_F(TwinDeathTest, ANamedBarrierThatDoesNotExist) {
  EXPECT_DEATH(Launch({1, kThreads}, 0, NumberedBarrier, 0), "not one of 1 to 15");
  EXPECT_DEATH(Launch({1, kThreads}, 0, NumberedBarrier, 16), "not one of 1 to 15");
}
QUIRE_KERNEL(kThreads, 1) WaitForMore() {
  if (ptx::ThreadIndex() < 64) ptx::SyncNamed(7, 96);
}
TEST_F(TwinDeathTest, ANamedBarrierThatTooFewReach) {
  EXPECT_DEATH(Launch({1, kThreads}, 2, WaitForMore), "32 wait at SyncNamed.7, 96.");
}

QUIRE_KERNEL(32, 1) DifferentOperations() {
  if (ptx::ThreadIndex() == 9) {
    ptx::Shuffle(1.0f, 0);
  } else {
    ptx::Any(true);
  }
}
QUIRE_KERNEL(32, 1) DifferentElements() {
  float c[4] = {};
  const uint32_t a[4] = {};
  if (ptx::ThreadIndex() == 31) {
    ptx::MultiplyAdd(c, a, 0, 0, Half{});
  } else {
    ptx::MultiplyAdd(c, a, 0, 0, BFloat16{});
  }
}
TEST_F(TwinDeathTest, LanesAtDifferentOperations) {
  EXPECT_DEATH(Launch({1, 32}, 0, DifferentOperations),
               "block 0, thread 9: lanes of one warp are at different operations: Shuffle here, "
               "Any, All or Ballot before");
  EXPECT_DEATH(Launch({1, 32}, 0, DifferentElements), "MultiplyAdd of Half here");
}

QUIRE_KERNEL(32, 1) ShuffleFrom(int lane) { ptx::Shuffle(1, lane); }
QUIRE_KERNEL(32, 1) ShuffleBy(int mask) { ptx::ShuffleXor(1.0f, mask); }
TEST_F(TwinDeathTest, ALaneThatDoesNotExist) {
  EXPECT_DEATH(Launch({1, 32}, 0, ShuffleFrom, 32), "the lane is not one of 0 to 31");
  EXPECT_DEATH(Launch({1, 32}, 0, ShuffleFrom, -1), "the lane is not one of 0 to 31");
  EXPECT_DEATH(Launch({1, 32}, 0, ShuffleBy, 32), "the mask is not one of 0 to 31");
}

QUIRE_KERNEL(32, 1) CheckThread() { ptx::Check(ptx::BlockIndex() == 0 || ptx::ThreadIndex() != 6); }
TEST_F(TwinDeathTest, AFailedCheckNamesBlockAndThread) {
  Launch({1, 32}, 0, CheckThread);
  EXPECT_DEATH(Launch({2, 32}, 0, CheckThread), "block 1, thread 6: ptx::Check failed");
}

TEST_F(TwinDeathTest, ALaunchThatNoGpuTakes) {
  EXPECT_DEATH(Launch({0, 32}, 0, CheckThread), "without blocks");
  EXPECT_DEATH(Launch({1, 0}, 0, CheckThread), "whole warps");
  EXPECT_DEATH(Launch({1, 33}, 0, CheckThread), "whole warps");
  EXPECT_DEATH(Launch({1, 1056}, 0, CheckThread), "whole warps");
  EXPECT_DEATH(Launch({1, 32, 232449}, 0, CheckThread), "more shared memory");
}

}  // namespace
}  // namespace quire::twin
