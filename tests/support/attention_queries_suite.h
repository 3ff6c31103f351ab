// Bitwise promises about single queries, which the CPU and the plain kernel of a GPU keep: a
// query's bits depend on what it sees and on no other query of its row. A program defines
// `InvariantKernels` in quire::testing and then includes this file.

#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_QUERIES_SUITE_H_
#define QUIRE_TESTS_SUPPORT_ATTENTION_QUERIES_SUITE_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_invariance_suite.h"
#include "tests/support/attention_kernels.h"

namespace quire::testing {

template <typename Kernel>
class QueryInvariantTest : public ::testing::Test {};
TYPED_TEST_SUITE(QueryInvariantTest, InvariantKernels);

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

TYPED_TEST(QueryInvariantTest, ChunkedPrefillEqualsWholePrefill) {
  for (const DType dtype : TypesForBits<TypeParam>()) {
    SCOPED_TRACE(::testing::Message() << "dtype " << static_cast<int>(dtype));
    const CaseShape shape = {.dtype = dtype, .kv_heads = 1, .group = 3, .head_dim = 16};
    if (TypeParam::kSlow) {
      ExpectChunksEqualWhole<TypeParam>(shape, 150, {7, 64});
    } else {
      ExpectChunksEqualWhole<TypeParam>(shape, 600, {7, 64, 100, 333});
    }
  }
}

TYPED_TEST(QueryInvariantTest, TokenByTokenDecodeEqualsPrefill) {
  for (const DType dtype : TypesForBits<TypeParam>()) {
    SCOPED_TRACE(::testing::Message() << "dtype " << static_cast<int>(dtype));
    ExpectChunksEqualWhole<TypeParam>(
        {.dtype = dtype, .kv_heads = 1, .group = 1, .head_dim = 8, .tokens_per_page = 16},
        TypeParam::kSlow ? 70 : 530, {1});
    ExpectChunksEqualWhole<TypeParam>({.dtype = dtype, .kv_heads = 1, .group = 5, .head_dim = 64},
                                      TypeParam::kSlow ? 40 : 140, {1});
  }
}

TYPED_TEST(QueryInvariantTest, ChunksEqualWholeWithWindowSoftCapAndSinks) {
  for (const DType dtype : TypesForBits<TypeParam>()) {
    SCOPED_TRACE(::testing::Message() << "dtype " << static_cast<int>(dtype));
    for (const int32_t window : {3, 64, 101}) {
      ExpectChunksEqualWhole<TypeParam>({.dtype = dtype,
                                         .kv_heads = 1,
                                         .group = 2,
                                         .head_dim = 24,
                                         .window = window,
                                         .soft_cap = 3,
                                         .sinks = true},
                                        TypeParam::kSlow ? 120 : 230,
                                        {TypeParam::kSlow ? 31 : 1, 50});
    }
  }
}

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

TYPED_TEST(QueryInvariantTest, ValuesAreAddedInOneOrder) {
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
TYPED_TEST(QueryInvariantTest, KeysThatAQueryDoesNotSeeDoNotMatter) {
  for (const DType dtype : TypesForBits<TypeParam>()) {
    for (const int32_t window : {0, 70, 71}) {
      if (TypeParam::kSlow && window == 70) continue;
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

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_QUERIES_SUITE_H_
