// The CUDA kernel of Merge on the host twin: the suite of every back end, and its grid.

#include <cstdint>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/merge_suite.h"
#include "tests/support/twin_backend.h"

namespace quire::testing {
namespace {

INSTANTIATE_TYPED_TEST_SUITE_P(Twin, MergeTest, TwinBackends);

TEST(TwinMergeTest, FewBlocksDoAllHeads) {
  MergeCase want(DType::kBFloat16, 2, 7, 5, 40);
  want.Fill({0.5f, 1});
  ASSERT_EQ(TwinBackend<2>::Merge(want.params), LaunchError::kOk);
  for (const int32_t few : {1, 2, 3}) {
    MergeCase c(DType::kBFloat16, 2, 7, 5, 40);
    c.Fill({0.5f, 1});
    cuda::MergeArgs args;
    int32_t blocks;
    ASSERT_EQ(cuda::PrepareMerge(c.params, &args, &blocks), LaunchError::kOk);
    EXPECT_EQ(blocks, 9);  // 35 heads, 4 warps a block
    twin::Launch({.blocks = few, .threads = cuda::kBlockThreads}, 2,
                 [&] { cuda::MergeKernel<BFloat16>(args); });
    EXPECT_EQ(c.output, want.output);
    EXPECT_EQ(c.lse, want.lse);
  }
}

}  // namespace
}  // namespace quire::testing
