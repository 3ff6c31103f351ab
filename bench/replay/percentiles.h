// Percentiles of measured times.

#ifndef QUIRE_BENCH_REPLAY_PERCENTILES_H_
#define QUIRE_BENCH_REPLAY_PERCENTILES_H_

#include <vector>

#include "bench/replay/result.h"

namespace replay {

// Nearest rank: the p-th percentile is the smallest value that at least p percent of all values do
// not exceed, so it is always one that was seen. All 0 of no values.
Percentiles PercentilesOf(std::vector<double> values);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_PERCENTILES_H_
