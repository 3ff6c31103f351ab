// Results as JSON: for scripts, and for comparing one run with another.

#ifndef QUIRE_BENCH_REPLAY_JSON_RESULT_H_
#define QUIRE_BENCH_REPLAY_JSON_RESULT_H_

#include <string>

#include "bench/replay/result.h"

namespace replay {

std::string JsonOf(const Results& results);

// Of the manager's memory, bytes for each page of the pool, the tokens of its index and what it
// remembers of evicted pages left out.
double BytesPerPage(const SequentialResult& result);

// The bounds at that size; null if they were not computed.
const BeladyResult* BeladyAt(const Results& results, int32_t pages);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_JSON_RESULT_H_
