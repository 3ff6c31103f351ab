// The oracle: one query, one head, one key at a time, in double. Slow, and checked by eye.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

#include "kernels/check.h"
#include "kernels/half.h"
#include "kernels/schedule.h"
#include "quire/attention.h"

namespace quire::cpu {
namespace {

double Load(const void* base, int64_t index, DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<const float*>(base)[index];
    case DType::kFloat16:
      return FromFloat16(static_cast<const uint16_t*>(base)[index]);
    case DType::kBFloat16:
      break;
  }
  return FromBFloat16(static_cast<const uint16_t*>(base)[index]);
}

void Store(void* base, int64_t index, DType dtype, double value) {
  const auto rounded = static_cast<float>(value);
  switch (dtype) {
    case DType::kFloat32:
      static_cast<float*>(base)[index] = rounded;
      return;
    case DType::kFloat16:
      static_cast<uint16_t*>(base)[index] = ToFloat16(rounded);
      return;
    case DType::kBFloat16:
      static_cast<uint16_t*>(base)[index] = ToBFloat16(rounded);
      return;
  }
}

// The head_dim values of K or V at a position of a row.
const void* Find(const PageTableView& table, const void* base, const KvStrides& strides,
                 int32_t row, int32_t head, int64_t position) {
  const PageId page = table.page_ids[table.row_begin[row] + position / table.tokens_per_page];
  return static_cast<const char*>(base) + PageOffset(page, strides.page) + head * strides.head +
         position % table.tokens_per_page * strides.token;
}

double Score(const AttentionParams& p, int64_t query, const void* key) {
  double dot = 0;
  for (int32_t d = 0; d < p.head_dim; ++d) {
    dot += Load(p.query, query + d, p.dtype) * Load(key, d, p.dtype);
  }
  const double score = dot * p.scale;
  return p.soft_cap == 0 ? score : p.soft_cap * std::tanh(score / p.soft_cap);
}

// Query token j of `row`, one query head. `scores` and `sums` are scratch.
void AttendOne(const AttentionParams& p, int32_t row, int32_t j, int32_t query_head,
               std::vector<double>& scores, std::vector<double>& sums) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const int32_t kv_head = query_head / (p.query_heads / p.kv_heads);
  const int64_t index = int64_t{p.query_begin[row] + j} * p.query_heads + query_head;
  const KeyRange keys = KeysOfQuery(WorkShapeOf(p), row, j);

  double max = p.sinks == nullptr ? -kInfinity : p.sinks[query_head];
  scores.clear();
  for (int64_t t = keys.begin; t < keys.end; ++t) {
    const void* key = Find(p.table, p.kv.k, p.kv.k_strides, row, kv_head, t);
    scores.push_back(Score(p, index * p.head_dim, key));
    if (!(scores.back() <= max)) max = scores.back();
  }
  const double reference = max == -kInfinity ? 0 : max;  // all scores -infinity: all weights 0

  double sum = p.sinks == nullptr ? 0 : std::exp(p.sinks[query_head] - reference);
  sums.assign(static_cast<size_t>(p.head_dim), 0.0);
  for (int64_t t = keys.begin; t < keys.end; ++t) {
    const double weight = std::exp(scores[static_cast<size_t>(t - keys.begin)] - reference);
    const void* value = Find(p.table, p.kv.v, p.kv.v_strides, row, kv_head, t);
    sum += weight;
    for (int32_t d = 0; d < p.head_dim; ++d) {
      sums[static_cast<size_t>(d)] += weight * Load(value, d, p.dtype);
    }
  }
  for (int32_t d = 0; d < p.head_dim; ++d) {
    const double value = sum == 0 ? 0 : sums[static_cast<size_t>(d)] / sum;
    Store(p.output, index * p.head_dim + d, p.dtype, value);
  }
  if (p.lse != nullptr) p.lse[index] = static_cast<float>(reference + std::log(sum));
}

}  // namespace

LaunchError AttentionPlain(const AttentionParams& params) {
  if (const LaunchError e = CheckAttention(params); e != LaunchError::kOk) return e;
  if (const LaunchError e = CheckWorkspace(params, WorkspaceBytes(params)); e != LaunchError::kOk) {
    return e;
  }
  // All the memory before the first output, so that nothing is written if there is none.
  std::vector<double> scores;
  std::vector<double> sums;
  int64_t most_keys = 0;  // that a query sees: of its row's queries the last, windowed or not
  const WorkShape shape = WorkShapeOf(params);
  for (int32_t row = 0; row < params.table.batch; ++row) {
    if (QueriesOfRow(shape, row) == 0) continue;
    const KeyRange keys = KeysOfQuery(shape, row, QueriesOfRow(shape, row) - 1);
    most_keys = std::max<int64_t>(most_keys, keys.end - keys.begin);
  }
  try {
    scores.reserve(static_cast<size_t>(most_keys));
    sums.reserve(static_cast<size_t>(params.head_dim));
  } catch (const std::bad_alloc&) {
    return LaunchError::kWorkspaceTooSmall;
  }
  for (int32_t row = 0; row < params.table.batch; ++row) {
    const int32_t queries = params.query_begin[row + 1] - params.query_begin[row];
    for (int32_t j = 0; j < queries; ++j) {
      for (int32_t head = 0; head < params.query_heads; ++head) {
        AttendOne(params, row, j, head, scores, sums);
      }
    }
  }
  return LaunchError::kOk;
}

}  // namespace quire::cpu
