// The parts of the argument checks: what each needs, where arrays are device memory.

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/check.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"

namespace quire::testing {
namespace {

TEST(KernelCheckTest, AShapeNeedsNoArrays) {
  AttentionCase c({.rows = {{40}, {33, 3}}});
  AttentionParams params = c.params();
  params.table = {.page_ids = nullptr,
                  .row_begin = nullptr,
                  .lengths = nullptr,
                  .batch = 2,
                  .tokens_per_page = 16};
  params.query_begin = nullptr;
  params.query = nullptr;
  params.output = nullptr;
  params.kv.k = params.kv.v = nullptr;
  EXPECT_EQ(CheckAttentionShape(params), LaunchError::kOk);
  EXPECT_EQ(CheckAttention(params), LaunchError::kBadArgument);
  params.window = -1;
  EXPECT_EQ(CheckAttentionShape(params), LaunchError::kBadArgument);
}

TEST(KernelCheckTest, RowsAreCheckedWithoutPagesIfNotWanted) {
  AttentionCase c({.rows = {{40}, {33, 3}}});
  AttentionParams params = c.params();
  params.kv.k = params.kv.v = nullptr;
  EXPECT_EQ(CheckAttentionRows(params, /*pages=*/true), LaunchError::kOk);
  params.table.page_ids = nullptr;
  params.table.row_begin = nullptr;
  EXPECT_EQ(CheckAttentionRows(params, /*pages=*/false), LaunchError::kOk);
  EXPECT_EQ(CheckAttentionRows(params, /*pages=*/true), LaunchError::kBadArgument);
  const std::vector<int32_t> lengths = {40, 2};  // fewer than row 1 has queries
  params.table.lengths = lengths.data();
  EXPECT_EQ(CheckAttentionRows(params, /*pages=*/false), LaunchError::kBadArgument);
}

TEST(KernelCheckTest, OffsetsOfPiecesAreReadIfWanted) {
  alignas(16) char pool[64] = {};
  const PageId from[] = {PageId{0}};
  const PageId to[] = {PageId{1}};
  const int64_t offsets[] = {0, -16};
  CopyPagesParams params = {};
  params.base = pool;
  params.page_stride = params.page_bytes = 16;
  params.page_count = 2;
  params.count = 1;
  params.from = from;
  params.to = to;
  params.piece_count = 2;
  params.piece_offsets = offsets;
  EXPECT_EQ(CheckCopyPages(params, /*offsets=*/false), LaunchError::kOk);
  EXPECT_EQ(CheckCopyPages(params, /*offsets=*/true), LaunchError::kBadArgument);
  params.piece_offsets = nullptr;
  EXPECT_EQ(CheckCopyPages(params, /*offsets=*/false), LaunchError::kBadArgument);
}

TEST(KernelCheckTest, SizesBeyond64BitsOfAMerge) {
  alignas(16) float outputs[8] = {}, output[8] = {}, lses[1] = {}, lse[1] = {};
  MergeParams params = {};
  params.dtype = DType::kFloat32;
  params.heads = 1;
  params.head_dim = 8;
  params.token_count = params.part_count = 1;
  params.outputs = outputs;
  params.output = output;
  params.lses = lses;
  params.lse = lse;
  params.lse_stride = int64_t{1} << 58;  // of a part that is not there
  EXPECT_EQ(CheckMerge(params), LaunchError::kOk);
  params.lse_stride = INT64_MAX;
  EXPECT_EQ(CheckMerge(params), LaunchError::kBadArgument);
  params.lse_stride = 0;
  params.heads = params.token_count = INT32_MAX;
  params.head_dim = 256;
  EXPECT_EQ(CheckMerge(params), LaunchError::kBadArgument);
}

}  // namespace
}  // namespace quire::testing
