#include "bench/replay/percentiles.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace replay {

Percentiles PercentilesOf(std::vector<double> values) {
  Percentiles result;
  if (values.empty()) return result;
  std::sort(values.begin(), values.end());
  // In whole numbers: a rounding error of a product with 0.99 could be a rank too far.
  const auto at = [&](size_t percent) { return values[(values.size() * percent + 99) / 100 - 1]; };
  result.count = static_cast<int64_t>(values.size());
  // Of sorted values, so that the order they came in does not change the sum.
  result.mean =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  result.p50 = at(50);
  result.p90 = at(90);
  result.p95 = at(95);
  result.p99 = at(99);
  result.most = values.back();
  return result;
}

}  // namespace replay
