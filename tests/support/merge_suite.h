// Merge on any back end: attention over parts of the keys, put together, against attention over all
// of them; parts without keys; in place; nothing written on bad input.

#ifndef QUIRE_TESTS_SUPPORT_MERGE_SUITE_H_
#define QUIRE_TESTS_SUPPORT_MERGE_SUITE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_memory.h"

namespace quire::testing {

inline constexpr float kMergeInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kMergeNan = std::numeric_limits<float>::quiet_NaN();

// Parts one after another with a gap behind each; output and LSE begin as NaN.
struct MergeCase {
  MergeCase(DType dtype, int32_t parts, int32_t tokens, int32_t heads, int32_t head_dim) {
    params.dtype = dtype;
    params.heads = heads;
    params.head_dim = head_dim;
    params.token_count = tokens;
    params.part_count = parts;
    const int64_t bytes = lse_count() * head_dim * SizeOf(dtype);
    params.output_stride = bytes + 32;
    params.lse_stride = lse_count() + 3;
    outputs.assign(static_cast<size_t>(parts * params.output_stride), '\xff');
    lses.assign(static_cast<size_t>(parts * params.lse_stride), kMergeNan);
    output.assign(static_cast<size_t>(bytes), '\xff');
    lse.assign(static_cast<size_t>(lse_count()), kMergeNan);
    params.outputs = outputs.data();
    params.lses = lses.data();
    params.output = output.data();
    params.lse = lse.data();
  }
  int64_t lse_count() const { return int64_t{params.token_count} * params.heads; }

  // Element d of a part's head, and its LSE. `index` counts heads: token * heads + head.
  void SetOutput(int32_t part, int64_t index, int32_t d, double value) {
    WriteElement(outputs.data() + part * params.output_stride, index * params.head_dim + d,
                 params.dtype, static_cast<float>(value));
  }
  double PartOutput(int32_t part, int64_t index, int32_t d) const {
    return ReadElement(outputs.data() + part * params.output_stride, index * params.head_dim + d,
                       params.dtype);
  }
  float& PartLse(int32_t part, int64_t index) {
    return lses[static_cast<size_t>(part * params.lse_stride + index)];
  }
  double Output(int64_t index, int32_t d) const {
    return ReadElement(params.output, index * params.head_dim + d, params.dtype);
  }
  // One part's bytes, and its LSEs, to compare.
  TestVector<char> OutputOf(int32_t part) const {
    const char* begin = outputs.data() + part * params.output_stride;
    return {begin, begin + output.size()};
  }
  TestVector<float> LsesOf(int32_t part) const {
    const float* begin = lses.data() + part * params.lse_stride;
    return {begin, begin + lse_count()};
  }
  // Every part's outputs at random, its LSEs as given.
  void Fill(const std::vector<float>& part_lses) {
    for (int32_t part = 0; part < params.part_count; ++part) {
      for (int64_t index = 0; index < lse_count(); ++index) {
        PartLse(part, index) = part_lses[static_cast<size_t>(part)];
        for (int32_t d = 0; d < params.head_dim; ++d) {
          const int64_t key = (part * lse_count() + index) * params.head_dim + d;
          SetOutput(part, index, d, DrawValue(static_cast<uint64_t>(key)));
        }
      }
    }
  }

  TestVector<char> outputs;
  TestVector<float> lses;
  TestVector<char> output;
  TestVector<float> lse;
  MergeParams params = {};
};

// Half a unit in the last place of a number of size 1.
inline double Rounding(DType dtype) {
  if (dtype == DType::kFloat32) return 0x1p-24;
  return dtype == DType::kFloat16 ? 0x1p-11 : 0x1p-8;
}

// Softmax of scores over values of one element each, in float64.
struct Softmax {
  double output = 0;
  double lse = -std::numeric_limits<double>::infinity();
};
inline Softmax SoftmaxOf(const std::vector<double>& scores, const std::vector<double>& values) {
  Softmax result;
  if (scores.empty()) return result;
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double weight = std::exp(scores[i] - max);
    sum += weight;
    result.output += weight * values[i];
  }
  result.output /= sum;
  result.lse = max + std::log(sum);
  return result;
}

// Merges attention over `part_keys[p]` keys a part and compares with attention over all keys. A
// score and a value for each (head, key, element); a head's LSE needs one set of scores.
template <typename Backend>
void ExpectMergesTheUnion(DType dtype, const std::vector<int32_t>& part_keys, int32_t head_dim,
                          double score_size) {
  constexpr int32_t kTokens = 3;
  constexpr int32_t kHeads = 2;
  MergeCase c(dtype, static_cast<int32_t>(part_keys.size()), kTokens, kHeads, head_dim);
  const auto draw = [&](int64_t index, int32_t key, int32_t which) {
    return double{DrawValue(static_cast<uint64_t>((index * 1000 + key) * 1000 + which))};
  };
  std::vector<Softmax> all(static_cast<size_t>(kTokens * kHeads * head_dim));
  double largest = 0;
  for (int64_t index = 0; index < c.lse_count(); ++index) {
    for (int32_t d = 0; d < head_dim; ++d) {
      std::vector<double> scores;
      std::vector<double> values;
      int32_t key = 0;
      for (int32_t part = 0; part < c.params.part_count; ++part) {
        const int32_t first = key;
        for (; key < first + part_keys[static_cast<size_t>(part)]; ++key) {
          scores.push_back(score_size * draw(index, key, 999));
          values.push_back(draw(index, key, d));
          largest = std::max(largest, std::abs(values.back()));
        }
        const Softmax own = SoftmaxOf({scores.begin() + first, scores.end()},
                                      {values.begin() + first, values.end()});
        c.SetOutput(part, index, d, key == first ? kMergeNan : own.output);
        c.PartLse(part, index) = static_cast<float>(own.lse);
      }
      all[static_cast<size_t>(index * head_dim + d)] = SoftmaxOf(scores, values);
    }
  }
  ASSERT_EQ(Backend::Merge(c.params), LaunchError::kOk);
  // Each part and the result are rounded to the type; an LSE is rounded to fp32, which makes a
  // weight wrong by as much of itself; and each part adds a few roundings of fp32.
  const double lse_size = 4 * score_size + 8;
  const double relative = static_cast<double>(part_keys.size() + 4 + lse_size) * 0x1p-23;
  for (int64_t index = 0; index < c.lse_count(); ++index) {
    const double want_lse = all[static_cast<size_t>(index * head_dim)].lse;
    ASSERT_NEAR(c.lse[static_cast<size_t>(index)], want_lse, lse_size * 0x1p-22);
    for (int32_t d = 0; d < head_dim; ++d) {
      ASSERT_NEAR(c.Output(index, d), all[static_cast<size_t>(index * head_dim + d)].output,
                  (2 * Rounding(dtype) + relative) * largest)
          << "head " << index << " element " << d;
    }
  }
}

template <typename Backend>
class MergeTest : public ::testing::Test {};
TYPED_TEST_SUITE_P(MergeTest);

TYPED_TEST_P(MergeTest, IsAttentionOverTheUnionOfTheKeys) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    for (const int32_t head_dim : {8, 64, 72, 128, 200, 256}) {
      ExpectMergesTheUnion<TypeParam>(dtype, {3, 9}, head_dim, 1);
      ExpectMergesTheUnion<TypeParam>(dtype, {1, 0, 5, 2}, head_dim, 4);
    }
    ExpectMergesTheUnion<TypeParam>(dtype, std::vector<int32_t>(40, 2), 16, 3);
  }
}

// What an only part with keys says comes out bit by bit, whatever the others hold.
TYPED_TEST_P(MergeTest, AnEmptyPartCountsForNothing) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    for (const float empty : {-kMergeInfinity, kMergeInfinity}) {
      for (const int32_t full : {0, 1, 2}) {
        MergeCase c(dtype, 3, 2, 3, 40);
        std::vector<float> part_lses(3, empty);
        part_lses[static_cast<size_t>(full)] = -2.7f;
        c.Fill(part_lses);
        for (int64_t index = 0; index < c.lse_count(); ++index) {
          for (int32_t part = 0; part < 3; ++part) {
            if (part != full) c.SetOutput(part, index, 5, kMergeNan);
          }
          c.SetOutput(full, index, 7, -0.0);
          c.SetOutput(full, index, 8, kMergeInfinity);
        }
        ASSERT_EQ(TypeParam::Merge(c.params), LaunchError::kOk);
        EXPECT_EQ(c.output, c.OutputOf(full));
        EXPECT_EQ(c.lse, c.LsesOf(full));
      }
    }
  }
}

// Bugs elsewhere (docs/testing.md): 8.
TYPED_TEST_P(MergeTest, AllPartsEmpty) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    for (const float second : {-kMergeInfinity, kMergeInfinity}) {
      MergeCase c(dtype, 2, 2, 2, 16);
      c.Fill({-kMergeInfinity, second});
      c.SetOutput(0, 1, 3, kMergeNan);
      ASSERT_EQ(TypeParam::Merge(c.params), LaunchError::kOk);
      EXPECT_EQ(c.output, TestVector<char>(c.output.size(), '\0'));
      EXPECT_EQ(c.lse, TestVector<float>(c.lse.size(), -kMergeInfinity));
    }
  }
}

TYPED_TEST_P(MergeTest, OnePart) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    MergeCase c(dtype, 1, 5, 3, 24);
    c.Fill({12.5f});
    ASSERT_EQ(TypeParam::Merge(c.params), LaunchError::kOk);
    EXPECT_EQ(c.output, c.OutputOf(0));
    EXPECT_EQ(c.lse, c.LsesOf(0));
  }
}

TYPED_TEST_P(MergeTest, LargeLses) {
  for (const int32_t larger : {0, 1}) {
    MergeCase c(DType::kFloat32, 2, 1, 2, 16);
    c.Fill(larger == 0 ? std::vector<float>{1e5f, -1e5f} : std::vector<float>{-1e5f, 1e5f});
    ASSERT_EQ(TypeParam::Merge(c.params), LaunchError::kOk);
    EXPECT_EQ(c.output, c.OutputOf(larger));
    EXPECT_EQ(c.lse, c.LsesOf(larger));
  }
  for (const float both : {1e5f, -1e5f}) {
    MergeCase c(DType::kFloat32, 2, 1, 2, 16);
    c.Fill({both, both});
    ASSERT_EQ(TypeParam::Merge(c.params), LaunchError::kOk);
    for (int64_t index = 0; index < c.lse_count(); ++index) {
      // The next float of 1e5 is 0.0078 away.
      EXPECT_NEAR(c.lse[static_cast<size_t>(index)], both + std::log(2.0), 0.0079);
      for (int32_t d = 0; d < 16; ++d) {
        const double mean = (c.PartOutput(0, index, d) + c.PartOutput(1, index, d)) / 2;
        EXPECT_NEAR(c.Output(index, d), mean, 4e-7);
      }
    }
  }
}

TYPED_TEST_P(MergeTest, ANanReachesItsOwnHeadOnly) {
  for (const int32_t part : {0, 1}) {
    MergeCase c(DType::kFloat32, 2, 2, 2, 16);
    c.Fill({0.5f, 1});
    c.PartLse(part, 2) = kMergeNan;
    ASSERT_EQ(TypeParam::Merge(c.params), LaunchError::kOk);
    for (int64_t index = 0; index < c.lse_count(); ++index) {
      EXPECT_EQ(std::isnan(c.lse[static_cast<size_t>(index)]), index == 2);
      for (int32_t d = 0; d < 16; ++d) EXPECT_EQ(std::isnan(c.Output(index, d)), index == 2);
    }
  }
}

TYPED_TEST_P(MergeTest, PartsAreAddedInTheirOrder) {
  MergeCase c(DType::kFloat32, 3, 1, 1, 8);
  c.Fill({2, 2, 2});
  for (int32_t d = 0; d < 8; ++d) {
    // fp32 loses the 1 beside 1e8, but not once 1e8 is gone.
    const bool lost = d % 2 == 0;
    c.SetOutput(0, 0, d, 1e8);
    c.SetOutput(1, 0, d, lost ? 1 : -1e8);
    c.SetOutput(2, 0, d, lost ? -1e8 : 1);
  }
  ASSERT_EQ(TypeParam::Merge(c.params), LaunchError::kOk);
  for (int32_t d = 0; d < 8; ++d) EXPECT_NEAR(c.Output(0, d), d % 2 == 0 ? 0 : 1.0 / 3, 1e-7);
}

// Bugs elsewhere (docs/testing.md): 10.
TYPED_TEST_P(MergeTest, InPlace) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    for (const int32_t on : {0, 1, 2}) {
      for (const int32_t lse_on : {0, 2}) {
        MergeCase apart(dtype, 3, 9, 3, 72);
        MergeCase c(dtype, 3, 9, 3, 72);
        apart.Fill({0.5f, -1, 1.25f});
        c.Fill({0.5f, -1, 1.25f});
        c.params.output = c.outputs.data() + on * c.params.output_stride;
        c.params.lse = c.lses.data() + lse_on * c.params.lse_stride;
        ASSERT_EQ(TypeParam::Merge(apart.params), LaunchError::kOk);
        ASSERT_EQ(TypeParam::Merge(c.params), LaunchError::kOk);
        for (int32_t part = 0; part < 3; ++part) {
          EXPECT_EQ(c.OutputOf(part), part == on ? apart.output : apart.OutputOf(part));
          EXPECT_EQ(c.LsesOf(part), part == lse_on ? apart.lse : apart.LsesOf(part));
        }
      }
    }
  }
}

TYPED_TEST_P(MergeTest, LseIsNotWanted) {
  MergeCase c(DType::kFloat32, 2, 3, 2, 8);
  c.Fill({1, -kMergeInfinity});
  c.params.lse = nullptr;
  ASSERT_EQ(TypeParam::Merge(c.params), LaunchError::kOk);
  EXPECT_EQ(c.output, c.OutputOf(0));
}

TYPED_TEST_P(MergeTest, NoTokensNeedNoMemory) {
  MergeCase c(DType::kFloat16, 2, 0, 2, 8);
  c.params.outputs = c.params.output = nullptr;
  c.params.lses = c.params.lse = nullptr;
  EXPECT_EQ(TypeParam::Merge(c.params), LaunchError::kOk);
}

TYPED_TEST_P(MergeTest, BadArgumentsWriteNothing) {
  const auto refused = [](LaunchError want, const std::function<void(MergeCase&)>& spoil) {
    MergeCase c(DType::kFloat16, 2, 3, 2, 8);
    c.Fill({1, 2});
    const TestVector<char> outputs = c.outputs;
    const TestVector<char> output = c.output;
    spoil(c);
    EXPECT_EQ(TypeParam::Merge(c.params), want);
    EXPECT_EQ(c.outputs, outputs) << "part written";
    EXPECT_EQ(c.output, output) << "output written";
    for (const float lse : c.lse) EXPECT_TRUE(std::isnan(lse)) << "LSE written";
  };
  const auto bad = [&](const std::function<void(MergeCase&)>& spoil) {
    refused(LaunchError::kBadArgument, spoil);
  };
  bad([](MergeCase& c) { c.params.outputs = nullptr; });
  bad([](MergeCase& c) { c.params.lses = nullptr; });
  bad([](MergeCase& c) { c.params.output = nullptr; });
  bad([](MergeCase& c) { c.params.token_count = -1; });
  bad([](MergeCase& c) { c.params.part_count = 0; });
  bad([](MergeCase& c) { c.params.heads = 0; });
  bad([](MergeCase& c) { c.params.head_dim = 0; });
  bad([](MergeCase& c) { c.params.output_stride = -16; });
  bad([](MergeCase& c) { c.params.lse_stride = -1; });
  // On a part, but not exactly.
  bad([](MergeCase& c) { c.params.output = c.outputs.data() + 16; });
  bad([](MergeCase& c) { c.params.lse = c.lses.data() + c.params.lse_stride + 1; });
  refused(LaunchError::kMisaligned, [](MergeCase& c) { c.params.output_stride += 8; });
  refused(LaunchError::kMisaligned, [](MergeCase& c) { c.params.outputs = c.outputs.data() + 8; });
  refused(LaunchError::kMisaligned, [](MergeCase& c) { c.params.output = c.output.data() + 8; });
  refused(LaunchError::kUnsupported, [](MergeCase& c) { c.params.head_dim = 12; });
  refused(LaunchError::kUnsupported, [](MergeCase& c) { c.params.head_dim = 264; });
  refused(LaunchError::kUnsupported, [](MergeCase& c) { c.params.dtype = DType{5}; });
}

REGISTER_TYPED_TEST_SUITE_P(MergeTest, IsAttentionOverTheUnionOfTheKeys,
                            AnEmptyPartCountsForNothing, AllPartsEmpty, OnePart, LargeLses,
                            ANanReachesItsOwnHeadOnly, PartsAreAddedInTheirOrder, InPlace,
                            LseIsNotWanted, NoTokensNeedNoMemory, BadArgumentsWriteNothing);

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_MERGE_SUITE_H_
