// Attention in float64, attention as a naive program of the element type would compute it, and the
// rule that compares a kernel with both.

#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_REFERENCE_H_
#define QUIRE_TESTS_SUPPORT_ATTENTION_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/attention_case.h"

namespace quire::testing {

struct HeadResult {
  std::vector<double> output;
  double lse;
};

// The keys and values of one row and KV head, as numbers.
struct HeadKv {
  std::vector<double> keys;
  std::vector<double> values;
};

inline HeadKv DecodeKv(const AttentionCase& c, size_t row, int32_t kv_head) {
  const CaseShape& s = c.shape();
  HeadKv kv;
  if (s.rows[row].queries == 0) return kv;
  for (int64_t t = 0; t < s.rows[row].length; ++t) {
    const bool seen = t >= c.KeysBegin(row, 0);
    for (int32_t d = 0; d < s.head_dim; ++d) {
      kv.keys.push_back(seen ? c.Key(row, t, kv_head, d) : NAN);
      kv.values.push_back(seen ? c.Value(row, t, kv_head, d) : NAN);
    }
  }
  return kv;
}

// One query token and head. naive: every step rounded to the element type (fp32: to fp32), as a
// framework's matrix product, softmax and matrix product do; the sums themselves in fp32.
inline HeadResult ReferenceHead(const AttentionCase& c, const HeadKv& kv, size_t row, int32_t j,
                                int32_t head, bool naive) {
  const CaseShape& s = c.shape();
  const auto dim = static_cast<size_t>(s.head_dim);
  const auto step = [&](double x) { return naive ? Rounded(x, s.dtype) : x; };
  const auto add = [&](double x) { return naive ? static_cast<float>(x) : x; };
  std::vector<double> query(dim);
  for (size_t d = 0; d < dim; ++d) query[d] = c.Query(row, j, head, static_cast<int32_t>(d));
  std::vector<double> scores;
  double max = s.sinks ? c.Sink(head) : -std::numeric_limits<double>::infinity();
  const int64_t begin = c.KeysBegin(row, j);
  const int64_t end = c.KeysEnd(row, j);
  for (int64_t t = begin; t < end; ++t) {
    const double* key = kv.keys.data() + t * s.head_dim;
    double dot = 0;
    for (size_t d = 0; d < dim; ++d) dot = add(dot + query[d] * key[d]);
    double score = step(step(dot) * c.scale());
    if (s.soft_cap != 0) score = step(s.soft_cap * std::tanh(score / s.soft_cap));
    scores.push_back(score);
    max = std::max(max, score);
  }
  HeadResult result = {std::vector<double>(dim, 0.0), max};
  if (std::isinf(max)) return result;  // no key, no sink
  double sum = s.sinks ? std::exp(c.Sink(head) - max) : 0;
  for (double& score : scores) {
    score = add(std::exp(score - max));
    sum = add(sum + score);
  }
  result.lse = max + std::log(sum);
  for (int64_t t = begin; t < end; ++t) {
    const double* value = kv.values.data() + t * s.head_dim;
    const double weight = step(scores[static_cast<size_t>(t - begin)] / sum);
    for (size_t d = 0; d < dim; ++d) result.output[d] = add(result.output[d] + weight * value[d]);
  }
  for (double& out : result.output) out = step(out);
  return result;
}

// The rule of FlashAttention's tests: over all outputs of a call, the largest error against float64
// may be at most twice the largest error of the naive computation above, plus 1e-5 (fp16, bf16) or
// 1e-6 (fp32). Values are of size 1. An LSE is fp32 whatever the element type: it may be off by
// 2e-6 of 1, of itself or of the size of the products that a score sums up, whichever is largest.
// Infinities must be equal, and nothing may be NaN.
struct WorstError {
  double kernel = 0;
  double naive = 0;
};

// One query token and head against float64.
inline void CompareHead(const AttentionCase& c, const HeadKv& kv, size_t row, int32_t j,
                        int32_t head, WorstError* worst) {
  const HeadResult exact = ReferenceHead(c, kv, row, j, head, false);
  const HeadResult naive = ReferenceHead(c, kv, row, j, head, true);
  const auto where = [&] {
    return ::testing::Message() << "row " << row << " query " << j << " head " << head;
  };
  for (int32_t d = 0; d < c.shape().head_dim; ++d) {
    const double want = exact.output[static_cast<size_t>(d)];
    const double got = c.Output(row, j, head, d);
    ASSERT_TRUE(std::isfinite(got)) << where() << " element " << d << ": " << got;
    worst->kernel = std::max(worst->kernel, std::abs(got - want));
    worst->naive = std::max(worst->naive, std::abs(naive.output[static_cast<size_t>(d)] - want));
  }
  const double lse = c.Lse(row, j, head);
  if (std::isinf(exact.lse)) {
    ASSERT_EQ(lse, exact.lse) << where();
  } else {
    const double size = std::max({1.0, std::abs(exact.lse), double{c.shape().key_size}});
    ASSERT_NEAR(lse, exact.lse, 2e-6 * size) << where();
  }
}

inline void ExpectCloseToFloat64(const AttentionCase& c) {
  const CaseShape& s = c.shape();
  WorstError worst;
  for (size_t row = 0; row < s.rows.size(); ++row) {
    for (int32_t kv_head = 0; kv_head < s.kv_heads; ++kv_head) {
      const HeadKv kv = DecodeKv(c, row, kv_head);
      for (int32_t j = 0; j < s.rows[row].queries; ++j) {
        for (int32_t g = 0; g < s.group; ++g) {
          CompareHead(c, kv, row, j, kv_head * s.group + g, &worst);
          if (::testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
  const double slack = s.dtype == DType::kFloat32 ? 1e-6 : 1e-5;
  EXPECT_LE(worst.kernel, 2 * worst.naive + slack);
}

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_REFERENCE_H_
