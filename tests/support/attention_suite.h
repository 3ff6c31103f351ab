// Attention against float64, over poisoned surroundings (see attention_case.h): shapes, masks,
// layouts, edges. A program defines `Kernels`, a list of kernels as types, in quire::testing and
// then includes this file. Bitwise promises are in attention_invariance_suite.h.

#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_SUITE_H_
#define QUIRE_TESTS_SUPPORT_ATTENTION_SUITE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_kernels.h"
#include "tests/support/attention_reference.h"

namespace quire::testing {

template <typename Kernel>
class AttentionTest : public ::testing::Test {
 protected:
  void Check(const CaseShape& shape) {
    AttentionCase c(Fitted<Kernel>(shape));
    Attend<Kernel>(c);
    ExpectCloseToFloat64(c);
  }
  void CheckAllTypes(CaseShape shape) {
    for (const DType dtype : Kernel::kTypes) {
      SCOPED_TRACE(::testing::Message() << "dtype " << static_cast<int>(dtype));
      shape.dtype = dtype;
      Check(shape);
    }
  }
};

TYPED_TEST_SUITE(AttentionTest, Kernels);

// Bugs elsewhere (docs/testing.md): 3, 4, 9, 23, 28.
TYPED_TEST(AttentionTest, DecodeOfEveryLengthAroundTilesSplitsAndPages) {
  CaseShape shape = {.head_dim = 32};
  for (const int32_t length :
       {1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1023, 1024, 1025}) {
    shape.rows.push_back({length});
  }
  this->CheckAllTypes(shape);
}

// A GPU's splits grow with rows of more than 16384 keys.
TYPED_TEST(AttentionTest, DecodeOfLongRows) {
  this->Check({.rows = {{16383}, {16385}, {20000}}, .kv_heads = 1, .group = 1});
}

// Bugs elsewhere: 25.
TYPED_TEST(AttentionTest, HeadRatios) {
  for (const int32_t group : {1, 2, 3, 4, 5, 6, 7, 8, 12, 71}) {
    SCOPED_TRACE(group);
    this->CheckAllTypes({.rows = {{70}, {130, 3}}, .kv_heads = 3, .group = group, .head_dim = 32});
  }
}

TYPED_TEST(AttentionTest, EveryHeadDim) {
  for (const int32_t head_dim : TypeParam::HeadDims()) {
    SCOPED_TRACE(head_dim);
    this->CheckAllTypes({.rows = {{67}, {20, 2}}, .group = 2, .head_dim = head_dim});
  }
}

// Bugs elsewhere: 27.
TYPED_TEST(AttentionTest, TokensPerPage) {
  for (const int32_t tokens_per_page : {1, 2, 3, 16, 64, 100, 1000}) {
    SCOPED_TRACE(tokens_per_page);
    this->CheckAllTypes({.rows = {{1}, {100}, {101, 5}, {300}},
                         .head_dim = 16,
                         .tokens_per_page = tokens_per_page});
  }
}

// Bugs elsewhere: 26.
TYPED_TEST(AttentionTest, SeveralQueryTokensInOneBatch) {
  CaseShape shape = {.group = 3, .head_dim = 32};
  for (int32_t queries = 0; queries <= 9; ++queries) shape.rows.push_back({60 + queries, queries});
  shape.rows.push_back({9, 9});
  this->CheckAllTypes(shape);
}

TYPED_TEST(AttentionTest, PrefillAndDecodeInOneCall) {
  this->CheckAllTypes({.rows = {{150, 150}, {1}, {600, 40}, {130, 66}, {0, 0}, {700}},
                       .kv_heads = 1,
                       .group = 2,
                       .head_dim = 16});
}

TYPED_TEST(AttentionTest, OnlyPrefillOfWholePrompts) {
  this->CheckAllTypes(
      {.rows = {{1, 1}, {64, 64}, {65, 65}, {190, 190}}, .kv_heads = 2, .group = 1, .head_dim = 8});
}

// Bugs elsewhere: 24.
TYPED_TEST(AttentionTest, Windows) {
  for (const int32_t window : {1, 2, 5, 63, 64, 65, 128, 200, 201, 1000}) {
    SCOPED_TRACE(window);
    this->CheckAllTypes({.rows = {{200}, {1}, {64}, {65, 2}, {200, 130}, {700, 4}},
                         .kv_heads = 1,
                         .group = 3,
                         .head_dim = 16,
                         .tokens_per_page = 16,
                         .window = window});
  }
}

// Bugs elsewhere: 12, 24.
TYPED_TEST(AttentionTest, TableEntriesBeforeTheWindowAreNotRead) {
  // 1024 entries are read, an OS page of them: nothing before that can be touched. They begin in
  // the middle of a tile.
  AttentionCase c(Fitted<TypeParam>({.rows = {{6000, 3}},
                                     .kv_heads = 1,
                                     .group = 1,
                                     .head_dim = 8,
                                     .tokens_per_page = 1,
                                     .window = 1022}));
  ASSERT_EQ(6000 - c.KeysBegin(0, 0), 1024);
  c.ForbidFirstEntries(c.KeysBegin(0, 0));
  Attend<TypeParam>(c);
  ExpectCloseToFloat64(c);
}

TYPED_TEST(AttentionTest, NotCausal) {
  this->CheckAllTypes({.rows = {{40, 50}, {200, 3}, {64, 64}, {0, 2}}, .causal = false});
}

TYPED_TEST(AttentionTest, SoftCap) {
  for (const float key_size : {1.0f, 30.0f}) {  // below the cap, and well into it
    this->CheckAllTypes({.rows = {{100}, {70, 3}}, .soft_cap = 5, .key_size = key_size});
  }
}

TYPED_TEST(AttentionTest, Sinks) {
  this->CheckAllTypes({.rows = {{1}, {100}, {700}, {70, 3}}, .sinks = true});
  this->CheckAllTypes({.rows = {{0, 2}, {70, 3}}, .causal = false, .sinks = true});
}

TYPED_TEST(AttentionTest, ASinkOfMinusInfinityWeighsNothing) {
  for (const DType dtype : TypeParam::kTypes) {
    const CaseShape shape = {.rows = {{0, 2}, {70, 3}}, .dtype = dtype, .causal = false};
    AttentionCase without(Fitted<TypeParam>(shape));
    Attend<TypeParam>(without);
    CaseShape with_sinks = shape;
    with_sinks.sinks = true;
    AttentionCase c(Fitted<TypeParam>(with_sinks));
    std::fill_n(const_cast<float*>(c.params().sinks), c.query_heads(),
                -std::numeric_limits<float>::infinity());
    Attend<TypeParam>(c);
    for (int32_t head = 0; head < c.query_heads(); ++head) {
      EXPECT_EQ(c.Lse(0, 1, head), -std::numeric_limits<float>::infinity());
      EXPECT_EQ(c.Output(0, 1, head, 0), 0);
      EXPECT_EQ(c.Lse(1, 2, head), without.Lse(1, 2, head));
      EXPECT_EQ(c.Output(1, 2, head, 5), without.Output(1, 2, head, 5));
    }
  }
}

TYPED_TEST(AttentionTest, WindowSoftCapAndSinksTogether) {
  this->CheckAllTypes(
      {.rows = {{1}, {100}, {700, 5}, {70, 70}}, .window = 33, .soft_cap = 2, .sinks = true});
}

// Bugs elsewhere: 21.
TYPED_TEST(AttentionTest, Layouts) {
  for (const Layout layout :
       {Layout::kPageMajor, Layout::kSeparate, Layout::kSliced, Layout::kInterleaved}) {
    for (const int32_t tokens_per_page : {16, 100}) {  // pages that end inside a tile, too
      SCOPED_TRACE(::testing::Message()
                   << "layout " << static_cast<int>(layout) << " page " << tokens_per_page);
      this->CheckAllTypes({.rows = {{170}, {70, 3}, {64, 64}},
                           .kv_heads = 3,
                           .group = 2,
                           .head_dim = 40,
                           .tokens_per_page = tokens_per_page,
                           .layout = layout});
    }
  }
}

// Bugs elsewhere: 6, 7.
TYPED_TEST(AttentionTest, EmptyRowsGiveZeroAndMinusInfinity) {
  AttentionCase c(Fitted<TypeParam>({.rows = {{0, 3}, {0, 1}, {0, 0}}, .causal = false}));
  Attend<TypeParam>(c);
  for (size_t row = 0; row < 2; ++row) {
    for (int32_t j = 0; j < c.shape().rows[row].queries; ++j) {
      for (int32_t head = 0; head < c.query_heads(); ++head) {
        EXPECT_EQ(c.Lse(row, j, head), -std::numeric_limits<float>::infinity());
        for (int32_t d = 0; d < c.shape().head_dim; ++d) EXPECT_EQ(c.Output(row, j, head, d), 0);
      }
    }
  }
}

TYPED_TEST(AttentionTest, NoQueriesAndNoRows) {
  AttentionCase no_queries(Fitted<TypeParam>({.rows = {{0, 0}, {50, 0}}}));
  Attend<TypeParam>(no_queries);
  AttentionCase no_rows(Fitted<TypeParam>({.rows = {}}));
  Attend<TypeParam>(no_rows);
  AttentionParams nothing = no_rows.params();
  nothing.table = {.page_ids = nullptr,
                   .row_begin = nullptr,
                   .lengths = nullptr,
                   .batch = 0,
                   .tokens_per_page = 16};
  nothing.query_begin = nullptr;
  nothing.query = nullptr;
  nothing.output = nullptr;
  EXPECT_EQ(TypeParam::Launch(nothing), LaunchError::kOk);
}

// Causal: an empty row has no query. Not causal: it may have one, which sees nothing.
inline CaseShape TwoThirdsEmpty(int32_t batch, bool causal) {
  CaseShape shape = {.kv_heads = 1, .group = 2, .head_dim = 16, .causal = causal};
  for (int32_t i = 0; i < batch; ++i) {
    const int32_t length = i % 3 == 0 ? 1 + i % 70 : 0;
    shape.rows.push_back({length, causal && length == 0 ? 0 : 1});
  }
  return shape;
}

// Bugs elsewhere: 6, 22, 30.
TYPED_TEST(AttentionTest, ABatchOf993TwoThirdsEmpty) {
  for (const bool causal : {true, false}) this->Check(TwoThirdsEmpty(993, causal));
}

// Bugs elsewhere: 22, 30.
TYPED_TEST(AttentionTest, ABatchOf4096TwoThirdsEmpty) { this->Check(TwoThirdsEmpty(4096, true)); }

// An index of the table beyond 2^31: row_begin has 64 bits. Bugs elsewhere: 2.
TYPED_TEST(AttentionTest, RowsThatBeginFarIntoTheTable) {
  AttentionCase c(Fitted<TypeParam>({.rows = {{100}, {70, 3}}}));
  AttentionParams params = c.params();
  constexpr int64_t kFar = (int64_t{1} << 31) + 5;
  const Mapping table(static_cast<size_t>(kFar + 100) * sizeof(PageId));
  if (table.data() == nullptr) GTEST_SKIP() << "8.6 GB of address space cannot be had";
  auto* ids = reinterpret_cast<PageId*>(table.data());
  std::copy_n(params.table.page_ids, 14, ids + kFar);
  TestVector<int64_t> row_begin(2);
  for (size_t row = 0; row < 2; ++row) row_begin[row] = params.table.row_begin[row] + kFar;
  params.table.page_ids = ids;
  params.table.row_begin = row_begin.data();
  params.mode = TypeParam::kMode;
  c.PoisonOutput();
  ASSERT_EQ(TypeParam::Launch(params), LaunchError::kOk);
  ExpectCloseToFloat64(c);
}

// Bugs elsewhere: 1.
TYPED_TEST(AttentionTest, PoolBeyond4GiBytes) {
  for (const Layout layout : {Layout::kPageMajor, Layout::kSeparate}) {
    // 64 KiB a page and layer: 2^32 bytes are 65536 pages.
    this->Check({.rows = {{33}, {70, 2}},
                 .dtype = DType::kBFloat16,
                 .kv_heads = 8,
                 .group = 1,
                 .head_dim = 128,
                 .layout = layout,
                 .spare_pages = 140000 * 128 / TypeParam::Fit(128),
                 .top_pages_only = true});
  }
}

// Bugs elsewhere: 11.
TYPED_TEST(AttentionTest, ExtremeLogits) {
  // Scores of both signs up to a few 1e5 (fp16: as far as keys go). Rows of one key have an LSE
  // equal to their score, however negative.
  for (const DType dtype : TypeParam::kTypes) {
    const float key_size = dtype == DType::kFloat16 ? 1.8e4f : 1e5f;
    CaseShape shape = {.dtype = dtype, .key_size = key_size};
    for (const int32_t length : {1, 1, 1, 1, 2, 100, 600}) shape.rows.push_back({length});
    this->Check(shape);
  }
}

TYPED_TEST(AttentionTest, AVisibleNanIsNotHidden) {
  for (const DType dtype : TypeParam::kTypes) {
    for (const bool key : {true, false}) {
      AttentionCase c(
          Fitted<TypeParam>({.rows = {{100}}, .dtype = dtype, .kv_heads = 1, .group = 4}));
      char* slot = key ? c.KeySlot(0, 50, 0) : c.ValueSlot(0, 50, 0);
      WriteElement(slot, 3, dtype, std::numeric_limits<float>::quiet_NaN());
      Attend<TypeParam>(c);
      for (int32_t head = 0; head < 4; ++head) {
        EXPECT_TRUE(std::isnan(c.Output(0, 0, head, 3)));
        EXPECT_EQ(std::isnan(c.Lse(0, 0, head)), key);
      }
    }
  }
}

TYPED_TEST(AttentionTest, ScoresOfMinusInfinityWeighNothing) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const DType dtype : TypeParam::kTypes) {
    AttentionCase c(Fitted<TypeParam>(
        {.rows = {{100}}, .dtype = dtype, .kv_heads = 1, .group = 2, .head_dim = 8}));
    void* query = const_cast<void*>(c.params().query);
    for (int32_t e = 0; e < 2 * c.shape().head_dim; ++e) WriteElement(query, e, dtype, 1);
    for (int64_t t = 0; t < 100; ++t) WriteElement(c.KeySlot(0, t, 0), 3, dtype, -kInfinity);
    Attend<TypeParam>(c);
    for (int32_t head = 0; head < 2; ++head) {
      EXPECT_EQ(c.Lse(0, 0, head), -kInfinity);
      for (int32_t d = 0; d < 8; ++d) EXPECT_EQ(c.Output(0, 0, head, d), 0);
    }
    // One finite score, in the second tile.
    WriteElement(c.KeySlot(0, 80, 0), 3, dtype, 0);
    Attend<TypeParam>(c);
    for (int32_t d = 0; d < 8; ++d) EXPECT_EQ(c.Output(0, 0, 1, d), c.Value(0, 80, 0, d));
  }
}

TYPED_TEST(AttentionTest, WithoutLseAndWithoutWorkspace) {
  AttentionCase c(Fitted<TypeParam>({.rows = {{100}, {70, 3}}}));
  Attend<TypeParam>(c);
  const std::vector<char> bits = c.Bits(1, 2);
  c.PoisonOutput();
  AttentionParams params = c.params();
  params.mode = TypeParam::kMode;
  ASSERT_EQ(TypeParam::Launch(params), LaunchError::kOk);  // own workspace, own threads
  if (TypeParam::kMode == ScheduleMode::kBatchInvariant) {
    EXPECT_EQ(c.Bits(1, 2), bits);
  }
  c.PoisonOutput();
  params.lse = nullptr;
  ASSERT_EQ(TypeParam::Launch(params), LaunchError::kOk);
  EXPECT_TRUE(std::isnan(c.Lse(1, 2, 0)));
  EXPECT_FALSE(std::isnan(c.Output(1, 2, 0, 0)));
}

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_SUITE_H_
