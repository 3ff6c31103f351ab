// The CUDA kernel of CopyPages on the host twin: the suite of every back end, and its launches.

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/copy_pages_suite.h"
#include "tests/support/twin_backend.h"

namespace quire::testing {
namespace {

INSTANTIATE_TYPED_TEST_SUITE_P(Twin, CopyPagesTest, TwinBackends);

TEST(TwinCopyPagesTest, FewBlocksDoAllUnits) {
  for (const int32_t few : {1, 2, 7}) {
    CopyPool pool(6, 80000, 70007);  // three chunks, the last one short
    pool.Copies({0, 4, 5}, {1, 3, 2});
    pool.Pieces(2, 6 * 80000);
    const TestVector<char> want = pool.Expected();
    cuda::CopyPagesArgs args;
    int32_t blocks;
    ASSERT_EQ(cuda::PrepareCopyPages(pool.params, 0, &args, &blocks), LaunchError::kOk);
    EXPECT_EQ(blocks, 3 * 2 * 3);
    EXPECT_EQ(args.count, 3);
    twin::Launch({.blocks = few, .threads = cuda::kBlockThreads}, 1,
                 [&] { cuda::CopyPagesKernel(args); });
    EXPECT_EQ(pool.memory, want);
  }
}

TEST(TwinCopyPagesTest, ALaunchHoldsFiveHundredCopies) {
  const std::vector<PageId> from(1200, PageId{0});
  const std::vector<PageId> to(1200, PageId{1});
  alignas(16) char memory[32];
  CopyPagesParams params = {};
  params.base = memory;
  params.page_stride = params.page_bytes = 16;
  params.page_count = 2;
  params.count = 1200;
  params.from = from.data();
  params.to = to.data();
  cuda::CopyPagesArgs args;
  int32_t blocks;
  std::vector<int32_t> counts;
  for (int32_t first = 0; first < 1200; first += args.count) {
    ASSERT_EQ(cuda::PrepareCopyPages(params, first, &args, &blocks), LaunchError::kOk);
    ASSERT_GT(args.count, 0);
    counts.push_back(args.count);
  }
  EXPECT_EQ(counts, (std::vector<int32_t>{500, 500, 200}));
  // Units are counted in 31 bits: pages of ten million chunks go in launches of fewer.
  params.page_stride = params.page_bytes = int64_t{10000000} * cuda::kCopyChunkBytes;
  ASSERT_EQ(cuda::PrepareCopyPages(params, 0, &args, &blocks), LaunchError::kOk);
  EXPECT_EQ(args.count, 214);
  EXPECT_EQ(args.units, 2140000000);
  EXPECT_EQ(blocks, cuda::kMaxBlocks);
}

}  // namespace
}  // namespace quire::testing
