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
#include "support/attention_case.h"

namespace quire::testing {

struct HeadResult {
  std::vector<double> output;
  double lse;
};

// One query token and head. naive: every step rounded to the element type (fp32: to fp32), as a
// framework's matrix product, softmax and matrix product do; the sums themselves in fp32.
inline HeadResult ReferenceHead(const AttentionCase& c, size_t row, int32_t j, int32_t head,
                                bool naive) {
  const CaseShape& s = c.shape();
  const int32_t kv_head = head / s.group;
  const auto step = [&](double x) { return naive ? Rounded(x, s.dtype) : x; };
  const auto add = [&](double x) { return naive ? static_cast<float>(x) : x; };
  std::vector<double> scores;
  double max = s.sinks ? c.Sink(head) : -std::numeric_limits<double>::infinity();
  const int64_t begin = c.KeysBegin(row, j);
  const int64_t end = c.KeysEnd(row, j);
  for (int64_t t = begin; t < end; ++t) {
    double dot = 0;
    for (int32_t d = 0; d < s.head_dim; ++d) {
      dot = add(dot + c.Query(row, j, head, d) * c.Key(row, t, kv_head, d));
    }
    double score = step(step(dot) * c.scale());
    if (s.soft_cap != 0) score = step(s.soft_cap * std::tanh(score / s.soft_cap));
    scores.push_back(score);
    max = std::max(max, score);
  }
  if (begin >= end && !s.sinks) {
    return {std::vector<double>(static_cast<size_t>(s.head_dim), 0.0),
            -std::numeric_limits<double>::infinity()};
  }
  double sum = s.sinks ? std::exp(c.Sink(head) - max) : 0;
  for (double& score : scores) {
    score = add(std::exp(score - max));
    sum = add(sum + score);
  }
  HeadResult result = {std::vector<double>(static_cast<size_t>(s.head_dim), 0.0),
                       max + std::log(sum)};
  for (int64_t t = begin; t < end; ++t) {
    const double weight = step(scores[static_cast<size_t>(t - begin)] / sum);
    for (int32_t d = 0; d < s.head_dim; ++d) {
      double& out = result.output[static_cast<size_t>(d)];
      out = add(out + weight * c.Value(row, t, kv_head, d));
    }
  }
  for (double& out : result.output) out = step(out);
  return result;
}

// The rule of FlashAttention's tests: over all outputs of a call, the largest error against float64
// may be at most twice the largest error of the naive computation above, plus 1e-5 (fp16, bf16) or
// 1e-6 (fp32). Values are of size 1. An LSE may be off by 2e-6 of its size, or of 1 if that is
// more: it is fp32 whatever the element type. Infinities must be equal, and nothing may be NaN.
inline void ExpectCloseToFloat64(const AttentionCase& c) {
  const CaseShape& s = c.shape();
  double worst = 0;
  double naive_worst = 0;
  for (size_t row = 0; row < s.rows.size(); ++row) {
    for (int32_t j = 0; j < s.rows[row].queries; ++j) {
      for (int32_t head = 0; head < c.query_heads(); ++head) {
        const HeadResult exact = ReferenceHead(c, row, j, head, false);
        const HeadResult naive = ReferenceHead(c, row, j, head, true);
        for (int32_t d = 0; d < s.head_dim; ++d) {
          const double want = exact.output[static_cast<size_t>(d)];
          const double got = c.Output(row, j, head, d);
          ASSERT_TRUE(std::isfinite(got)) << "row " << row << " query " << j << " head " << head
                                          << " element " << d << ": " << got;
          worst = std::max(worst, std::abs(got - want));
          naive_worst =
              std::max(naive_worst, std::abs(naive.output[static_cast<size_t>(d)] - want));
        }
        const double lse = c.Lse(row, j, head);
        if (std::isinf(exact.lse)) {
          ASSERT_EQ(lse, exact.lse) << "row " << row << " query " << j << " head " << head;
        } else {
          ASSERT_NEAR(lse, exact.lse, 2e-6 * std::max(1.0, std::abs(exact.lse)))
              << "row " << row << " query " << j << " head " << head;
        }
      }
    }
  }
  const double slack = s.dtype == DType::kFloat32 ? 1e-6 : 1e-5;
  EXPECT_LE(worst, 2 * naive_worst + slack);
}

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_REFERENCE_H_
