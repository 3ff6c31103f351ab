// Append, page copy and merge on a GPU: the suites of every back end, and what a launcher that
// cannot read slots leaves to the kernel.

#include <cstddef>
#include <cstdint>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/gpu/gpu_kernels.h"
#include "tests/support/append_kv_suite.h"
#include "tests/support/copy_pages_suite.h"
#include "tests/support/merge_suite.h"

namespace quire::testing {
namespace {

INSTANTIATE_TYPED_TEST_SUITE_P(Gpu, AppendKvTest, GpuBackend);
INSTANTIATE_TYPED_TEST_SUITE_P(Gpu, CopyPagesTest, GpuBackend);
INSTANTIATE_TYPED_TEST_SUITE_P(Gpu, MergeTest, GpuBackend);

TEST(GpuAppendKvTest, CountsWhatItRejects) {
  AppendStep step(DType::kFloat16, 16, 9);
  TestVector<int64_t> slots = step.slots;
  slots[0] = -2;
  slots[3] = kAppendPages * 16;
  slots[4] = -1;  // padding is not rejected
  slots[8] = INT64_MIN;
  for (const size_t t : {0u, 3u, 4u, 8u}) step.slots[t] = -1;
  TestVector<int32_t> rejected = {40};
  step.params.slots = slots.data();
  step.params.rejected = rejected.data();
  ASSERT_EQ(GpuBackend::AppendKv(step.params), LaunchError::kOk);
  EXPECT_EQ(step.pool, step.Expected());
  EXPECT_EQ(rejected[0], 43);
}

// Far more work than all blocks hold at once, against the CPU.
TEST(GpuAppendKvTest, ALongPrompt) {
  AppendStep step(DType::kBFloat16, 1000, 9000, 16);
  step.UseTable({{1, 1}, {4100, 2900}, {0, 0}, {6000, 5000}});
  ASSERT_EQ(GpuBackend::AppendKv(step.params), LaunchError::kOk);
  EXPECT_EQ(step.pool, step.Expected());
}

TEST(GpuCopyPagesTest, ManyLargePages) {
  CopyPool pool(200, 1 << 20, (1 << 20) - 48);
  std::vector<int32_t> from;
  std::vector<int32_t> to;
  for (int32_t i = 0; i < 90; ++i) {
    from.push_back(2 * i);
    to.push_back(199 - 2 * i);
  }
  pool.Copies(from, to);
  ExpectCopied<GpuBackend>(pool);
}

TEST(GpuMergeTest, TheSameBitsAsTheCpu) {
  // Weights of exactly one half: nothing but the order of the additions could differ.
  MergeCase gpu(DType::kFloat32, 2, 300, 5, 128);
  MergeCase cpu(DType::kFloat32, 2, 300, 5, 128);
  gpu.Fill({1, 1});
  cpu.Fill({1, 1});
  ASSERT_EQ(GpuBackend::Merge(gpu.params), LaunchError::kOk);
  ASSERT_EQ(cpu::Merge(cpu.params), LaunchError::kOk);
  EXPECT_EQ(gpu.output, cpu.output);
}

}  // namespace
}  // namespace quire::testing
