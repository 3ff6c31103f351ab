// The bitwise promises of attention.h that every back end keeps: what a row's output and LSE must
// not depend on. A program defines `Kernels` and `InvariantKernels`, lists of kernels as types, in
// quire::testing and then includes this file.
//
// Any mode: page ids, page length and strides; and from run to run with the same number of workers.
// kBatchInvariant: the workers, and the rest of the batch.

#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_INVARIANCE_SUITE_H_
#define QUIRE_TESTS_SUPPORT_ATTENTION_INVARIANCE_SUITE_H_

#include <cstdint>
#include <iterator>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_kernels.h"

namespace quire::testing {

// Longer than a split, so that parts are merged; an odd mixture of everything else.
template <typename Kernel>
CaseShape MixedShape(DType dtype) {
  return {.rows = {{700}, {513, 5}, {64}, {1}, {130, 130}, {1100, 2}},
          .dtype = dtype,
          .kv_heads = 2,
          .group = 3,
          .head_dim = Kernel::Fit(16),
          .tokens_per_page = 16};
}

// The types to compare bits in: where kernels are slow, the first stands for all.
template <typename Kernel>
std::vector<DType> TypesForBits() {
  if (Kernel::kSlow) return {Kernel::kTypes[0]};
  return {std::begin(Kernel::kTypes), std::end(Kernel::kTypes)};
}

// All bits of a case's result, query by query.
inline std::vector<std::vector<char>> AllBits(const AttentionCase& c) {
  std::vector<std::vector<char>> bits;
  for (size_t row = 0; row < c.shape().rows.size(); ++row) {
    for (int32_t j = 0; j < c.shape().rows[row].queries; ++j) bits.push_back(c.Bits(row, j));
  }
  return bits;
}

template <typename Kernel>
std::vector<std::vector<char>> BitsOf(const CaseShape& shape, int32_t workers = 3) {
  AttentionCase c(Fitted<Kernel>(shape));
  Attend<Kernel>(c, workers);
  return AllBits(c);
}

template <typename Kernel>
class AnyModeTest : public ::testing::Test {};
TYPED_TEST_SUITE(AnyModeTest, Kernels);

TYPED_TEST(AnyModeTest, PageIdsDoNotMatter) {
  for (const DType dtype : TypesForBits<TypeParam>()) {
    CaseShape shape = MixedShape<TypeParam>(dtype);
    const auto bits = BitsOf<TypeParam>(shape);
    for (const uint32_t order : {2u, 3u}) {
      shape.page_order = order;
      shape.spare_pages = 50;
      EXPECT_EQ(BitsOf<TypeParam>(shape), bits);
    }
  }
}

TYPED_TEST(AnyModeTest, PageLengthAndStridesDoNotMatter) {
  for (const DType dtype : TypesForBits<TypeParam>()) {
    CaseShape shape = MixedShape<TypeParam>(dtype);
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
  for (const DType dtype : TypesForBits<TypeParam>()) {
    AttentionCase c(MixedShape<TypeParam>(dtype));
    Attend<TypeParam>(c, 4);
    const auto bits = AllBits(c);
    for (int i = 0; i < TypeParam::kRepeats; ++i) {
      Attend<TypeParam>(c, 4);
      EXPECT_EQ(AllBits(c), bits);
    }
  }
}

template <typename Kernel>
class RowInvariantTest : public ::testing::Test {};
TYPED_TEST_SUITE(RowInvariantTest, InvariantKernels);

TYPED_TEST(RowInvariantTest, ThreadsDoNotMatter) {
  for (const DType dtype : TypesForBits<TypeParam>()) {
    const auto bits = BitsOf<TypeParam>(MixedShape<TypeParam>(dtype), 1);
    for (const int32_t workers : {2, 3, 7, 64}) {
      SCOPED_TRACE(workers);
      EXPECT_EQ(BitsOf<TypeParam>(MixedShape<TypeParam>(dtype), workers), bits);
    }
  }
}

TYPED_TEST(RowInvariantTest, OneLongRowOnManyThreads) {
  for (const int32_t length : {5000, 17000}) {  // from 16384 keys on a GPU's splits are longer
    const CaseShape shape = {.rows = {{length}},
                             .dtype = TypeParam::kTypes[0],
                             .kv_heads = 1,
                             .group = 2,
                             .head_dim = TypeParam::Fit(16)};
    const auto bits = BitsOf<TypeParam>(shape, 1);
    for (const int32_t workers : {2, 3, 5, 16}) {
      EXPECT_TRUE(BitsOf<TypeParam>(shape, workers) == bits) << workers << " workers";
    }
  }
}

TYPED_TEST(RowInvariantTest, TheRestOfTheBatchDoesNotMatter) {
  for (const DType dtype : TypesForBits<TypeParam>()) {
    const CaseShape mixed = MixedShape<TypeParam>(dtype);
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

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_INVARIANCE_SUITE_H_
