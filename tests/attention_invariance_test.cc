// The bitwise promises of attention.h: what a query's output and LSE must not depend on.
// kBatchInvariant (and the plain kernel): pages, strides, threads, chunks, the rest of the batch.
// kBalanced: pages and strides, and from run to run with the same number of threads.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_kernels.h"

namespace quire::testing {
namespace {

// Longer than a split, so that parts are merged; an odd mixture of everything else.
CaseShape MixedShape(DType dtype) {
  return {.rows = {{700}, {513, 5}, {64}, {1}, {130, 130}, {1100, 2}},
          .dtype = dtype,
          .kv_heads = 2,
          .group = 3,
          .head_dim = 16,
          .tokens_per_page = 16};
}

// All bits of a case's result, query by query.
std::vector<std::vector<char>> AllBits(const AttentionCase& c) {
  std::vector<std::vector<char>> bits;
  for (size_t row = 0; row < c.shape().rows.size(); ++row) {
    for (int32_t j = 0; j < c.shape().rows[row].queries; ++j) bits.push_back(c.Bits(row, j));
  }
  return bits;
}

template <typename Kernel>
std::vector<std::vector<char>> BitsOf(const CaseShape& shape, int32_t workers = 3) {
  AttentionCase c(shape);
  Attend<Kernel>(c, workers);
  return AllBits(c);
}

template <typename Kernel>
class AnyModeTest : public ::testing::Test {};
using AllKernels = ::testing::Types<PlainKernel, InvariantKernel, BalancedKernel>;
TYPED_TEST_SUITE(AnyModeTest, AllKernels);

TYPED_TEST(AnyModeTest, PageIdsDoNotMatter) {
  for (const DType dtype : kAllTypes) {
    CaseShape shape = MixedShape(dtype);
    const auto bits = BitsOf<TypeParam>(shape);
    for (const uint32_t order : {2u, 3u}) {
      shape.page_order = order;
      shape.spare_pages = 50;
      EXPECT_EQ(BitsOf<TypeParam>(shape), bits);
    }
  }
}

TYPED_TEST(AnyModeTest, PageLengthAndStridesDoNotMatter) {
  for (const DType dtype : kAllTypes) {
    CaseShape shape = MixedShape(dtype);
    const auto bits = BitsOf<TypeParam>(shape);
    for (const int32_t tokens_per_page : {1, 3, 64, 100}) {
      SCOPED_TRACE(tokens_per_page);
      shape.tokens_per_page = tokens_per_page;
      shape.layout = tokens_per_page % 2 == 0 ? Layout::kSeparate : Layout::kSliced;
      EXPECT_EQ(BitsOf<TypeParam>(shape), bits);
    }
  }
}

TYPED_TEST(AnyModeTest, RunToRunIsTheSame) {
  for (const DType dtype : kAllTypes) {
    AttentionCase c(MixedShape(dtype));
    Attend<TypeParam>(c, 4);
    const auto bits = AllBits(c);
    for (int i = 0; i < 5; ++i) {
      Attend<TypeParam>(c, 4);
      EXPECT_EQ(AllBits(c), bits);
    }
  }
}

template <typename Kernel>
class BatchInvariantTest : public ::testing::Test {};
using InvariantKernels = ::testing::Types<PlainKernel, InvariantKernel>;
TYPED_TEST_SUITE(BatchInvariantTest, InvariantKernels);

TYPED_TEST(BatchInvariantTest, ThreadsDoNotMatter) {
  for (const DType dtype : kAllTypes) {
    const auto bits = BitsOf<TypeParam>(MixedShape(dtype), 1);
    for (const int32_t workers : {2, 3, 7, 64}) {
      SCOPED_TRACE(workers);
      EXPECT_EQ(BitsOf<TypeParam>(MixedShape(dtype), workers), bits);
    }
  }
}

TYPED_TEST(BatchInvariantTest, OneLongRowOnManyThreads) {
  const CaseShape shape = {.rows = {{5000}}, .kv_heads = 1, .group = 2, .head_dim = 16};
  const auto bits = BitsOf<TypeParam>(shape, 1);
  for (const int32_t workers : {2, 3, 5, 16}) EXPECT_EQ(BitsOf<TypeParam>(shape, workers), bits);
}

// A row with all its queries at once, against the same tokens at growing lengths with only the last
// ones.
template <typename Kernel>
void ExpectChunksEqualWhole(CaseShape shape, int32_t length, std::vector<int32_t> chunks) {
  shape.rows = {{length, length, 0}};
  AttentionCase whole(shape);
  Attend<Kernel>(whole);
  for (const int32_t chunk : chunks) {
    SCOPED_TRACE(::testing::Message() << "chunk " << chunk);
    for (int32_t begin = 0; begin < length; begin += chunk) {
      const int32_t end = std::min(length, begin + chunk);
      shape.rows = {{end, end - begin, 0}};
      AttentionCase part(shape);
      Attend<Kernel>(part);
      for (int32_t j = begin; j < end; ++j) {
        ASSERT_EQ(part.Bits(0, j - begin), whole.Bits(0, j)) << "query " << j;
      }
    }
  }
}

TYPED_TEST(BatchInvariantTest, ChunkedPrefillEqualsWholePrefill) {
  for (const DType dtype : kAllTypes) {
    SCOPED_TRACE(::testing::Message() << "dtype " << static_cast<int>(dtype));
    const CaseShape shape = {.dtype = dtype, .kv_heads = 1, .group = 3, .head_dim = 16};
    ExpectChunksEqualWhole<TypeParam>(shape, 600, {7, 64, 100, 333});
  }
}

TYPED_TEST(BatchInvariantTest, TokenByTokenDecodeEqualsPrefill) {
  for (const DType dtype : kAllTypes) {
    SCOPED_TRACE(::testing::Message() << "dtype " << static_cast<int>(dtype));
    ExpectChunksEqualWhole<TypeParam>(
        {.dtype = dtype, .kv_heads = 1, .group = 1, .head_dim = 8, .tokens_per_page = 16}, 530,
        {1});
    ExpectChunksEqualWhole<TypeParam>({.dtype = dtype, .kv_heads = 1, .group = 5, .head_dim = 64},
                                      140, {1});
  }
}

TYPED_TEST(BatchInvariantTest, ChunksEqualWholeWithWindowSoftCapAndSinks) {
  for (const DType dtype : kAllTypes) {
    SCOPED_TRACE(::testing::Message() << "dtype " << static_cast<int>(dtype));
    for (const int32_t window : {3, 64, 101}) {
      ExpectChunksEqualWhole<TypeParam>({.dtype = dtype,
                                         .kv_heads = 1,
                                         .group = 2,
                                         .head_dim = 24,
                                         .window = window,
                                         .soft_cap = 3,
                                         .sinks = true},
                                        230, {1, 50});
    }
  }
}

TYPED_TEST(BatchInvariantTest, TheRestOfTheBatchDoesNotMatter) {
  for (const DType dtype : kAllTypes) {
    const CaseShape mixed = MixedShape(dtype);
    AttentionCase together(mixed);
    Attend<TypeParam>(together);
    for (size_t row = 0; row < mixed.rows.size(); ++row) {
      CaseShape alone = mixed;
      alone.rows = {mixed.rows[row]};
      alone.rows[0].name = static_cast<int32_t>(row);
      AttentionCase c(alone);
      Attend<TypeParam>(c);
      for (int32_t j = 0; j < alone.rows[0].queries; ++j) {
        EXPECT_EQ(c.Bits(0, j), together.Bits(row, j)) << "row " << row << " query " << j;
      }
    }
  }
}

// Keys that a query does not see may be anything, even in slots that another query of its row sees.
// All weights are 1, and values cancel: the result shows in which order they were added, which the
// rounding of an ordinary output to 16 bits would hide.
void WriteCancellingValues(AttentionCase& c, int32_t length) {
  constexpr float kBig = 1 << 24;  // the last bit of an fp32 is 1 or 2 there
  for (int32_t t = 0; t < length; ++t) {
    const float pattern[] = {0.75f, -kBig, kBig, 1.5f};
    for (int32_t d = 0; d < c.shape().head_dim; ++d) {
      WriteElement(c.ValueSlot(0, t, 0), d, c.shape().dtype, pattern[(t + d) % 4]);
    }
  }
}

TYPED_TEST(BatchInvariantTest, ValuesAreAddedInOneOrder) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const int32_t group : {1, 3}) {
      CaseShape shape = {.rows = {{90, 90, 0}},
                         .dtype = dtype,
                         .kv_heads = 1,
                         .group = group,
                         .head_dim = 16,
                         .key_size = 0};
      AttentionCase whole(shape);
      WriteCancellingValues(whole, 90);
      Attend<TypeParam>(whole);
      for (int32_t end = 1; end <= 90; ++end) {
        shape.rows = {{end, 1, 0}};
        AttentionCase decode(shape);
        WriteCancellingValues(decode, end);
        Attend<TypeParam>(decode);
        ASSERT_EQ(decode.Bits(0, 0), whole.Bits(0, end - 1)) << "length " << end;
      }
    }
  }
}

// Keys that a query does not see may be anything, even in slots that another query of its row sees.
// Rounding an output to 16 bits hides most differences in the last bits of its sum: this takes so
// many outputs that some would show.
TEST(BatchInvariantVectorisedTest, ChunkedPrefillEqualsWholePrefillInManyOutputs) {
  for (const DType dtype : kAllTypes) {
    SCOPED_TRACE(::testing::Message() << "dtype " << static_cast<int>(dtype));
    for (const int32_t window : {0, 75}) {
      ExpectChunksEqualWhole<InvariantKernel>(
          {.dtype = dtype, .kv_heads = 1, .group = 3, .head_dim = 128, .window = window}, 330,
          {1, 7, 64});
    }
  }
}

// Keys that a query does not see may be anything, even in slots that another query of its row sees.
TYPED_TEST(BatchInvariantTest, KeysThatAQueryDoesNotSeeDoNotMatter) {
  for (const DType dtype : kAllTypes) {
    for (const int32_t window : {0, 70, 71}) {
      for (const int32_t spoilt : {170, 171}) {  // the tile's middle: even, odd
        AttentionCase c({.rows = {{300, 200}},
                         .dtype = dtype,
                         .kv_heads = 1,
                         .group = 3,
                         .head_dim = 32,
                         .window = window});
        Attend<TypeParam>(c);
        const auto bits = AllBits(c);
        for (int32_t d = 0; d < 32; ++d) {
          const float nan = std::numeric_limits<float>::quiet_NaN();
          WriteElement(c.KeySlot(0, spoilt, 0), d, dtype, nan);
          WriteElement(c.ValueSlot(0, spoilt, 0), d, dtype, nan);
        }
        Attend<TypeParam>(c);
        for (int32_t j = 0; j < 200; ++j) {
          const bool seen = c.KeysBegin(0, j) <= spoilt && spoilt < c.KeysEnd(0, j);
          EXPECT_EQ(c.Bits(0, j) == bits[static_cast<size_t>(j)], !seen)
              << "query " << j << " spoilt " << spoilt;
        }
      }
    }
  }
}

}  // namespace
}  // namespace quire::testing
