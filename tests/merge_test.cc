// Merge on the CPU: the suite of every back end, and threads.

#include <cstdint>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_threads.h"
#include "tests/support/kernel_backends.h"
#include "tests/support/merge_suite.h"

namespace quire::testing {
namespace {

INSTANTIATE_TYPED_TEST_SUITE_P(Cpu, MergeTest, CpuBackend);

TEST(MergeCpuTest, ManyTokensOnManyThreads) {
  TestThreads one(1);
  TestThreads many(5);
  MergeCase want(DType::kBFloat16, 2, 300, 4, 128);
  want.Fill({0.5f, 1});
  want.params.threads = one.get();
  ASSERT_EQ(cpu::Merge(want.params), LaunchError::kOk);
  MergeCase got(DType::kBFloat16, 2, 300, 4, 128);
  got.Fill({0.5f, 1});
  got.params.threads = many.get();
  ASSERT_EQ(cpu::Merge(got.params), LaunchError::kOk);
  EXPECT_EQ(got.output, want.output);
  EXPECT_EQ(got.lse, want.lse);
}

TEST(MergeCpuTest, ThreadsThatCannotRun) {
  const Threads threads = {.workers = 2, .context = nullptr, .run = nullptr};
  MergeCase c(DType::kFloat32, 2, 3, 2, 8);
  c.Fill({1, 2});
  c.params.threads = &threads;
  EXPECT_EQ(cpu::Merge(c.params), LaunchError::kBadArgument);
}

}  // namespace
}  // namespace quire::testing
