// Every task once, on the caller's threads or on the default ones.

#include "kernels/cpu/parallel.h"

#include <atomic>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/attention_threads.h"

namespace quire::cpu {
namespace {

void ExpectEachTaskOnce(const Threads* threads) {
  for (const int32_t count : {0, 1, 2, 3, 100}) {
    std::vector<std::atomic<int32_t>> runs(static_cast<size_t>(count));
    auto task = [&](int32_t i) { ++runs[static_cast<size_t>(i)]; };
    ParallelFor(threads, count, task);
    for (const std::atomic<int32_t>& run : runs) EXPECT_EQ(run.load(), 1);
  }
}

TEST(ParallelTest, EachTaskOnceOnDefaultThreads) { ExpectEachTaskOnce(nullptr); }

TEST(ParallelTest, EachTaskOnceOnTheCallersThreads) {
  testing::TestThreads threads(3);
  ExpectEachTaskOnce(threads.get());
}

TEST(ParallelTest, WorkersAreThoseThatRunAtOnce) {
  EXPECT_GE(WorkerCount(nullptr), 1);
  testing::TestThreads three(3);
  EXPECT_EQ(WorkerCount(three.get()), 3);
  testing::TestThreads many(1 << 30);
  EXPECT_EQ(WorkerCount(many.get()), 1024);
}

}  // namespace
}  // namespace quire::cpu
