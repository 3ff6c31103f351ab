// Sequential mode: the requests of a trace one after another through a KvCache, prompts only. No
// arrival times, no answers, one request in flight: what is left is the policy alone, so a number
// from here can be compared with any simulator's to the last hit.
//
// The convention: a page is one token of the cache, its id the token's value. Each request hits the
// longest prefix of its ids that is there before it changes anything; then the rest is written,
// its own pages pinned, and it ends. A hit leaves at least one token to compute, so a sentinel
// follows the ids that no request ever writes.

#ifndef QUIRE_BENCH_REPLAY_SEQUENTIAL_H_
#define QUIRE_BENCH_REPLAY_SEQUENTIAL_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/replay/cost_model.h"
#include "bench/replay/policies.h"
#include "bench/replay/progress.h"
#include "bench/replay/result.h"
#include "bench/replay/trace.h"

namespace replay {

struct SequentialOptions {
  PolicyName policy = {"lru", quire::Reclaim::kLru};
  int32_t pages = 0;       // [1, 2^30]
  CostModel cost = {};     // for recompute_saved
  bool lifetimes = false;  // costs a second replay, so that the timed one stays bare
  Progress* progress = nullptr;
};

// kInvalidArgument: a request that can never fit (see CheckRequestsFit); nothing was replayed then.
// kResourceExhausted: no memory for the cache's bookkeeping.
absl::StatusOr<SequentialResult> RunSequential(const Trace& trace,
                                               const SequentialOptions& options);

// Can each prompt of the trace, and one token more, be in a pool of so many pages at one time?
// kInvalidArgument names the first that cannot, and how many pages the longest needs.
absl::Status CheckRequestsFit(const Trace& trace, int32_t pages);

// Pages of the longest prompt.
int32_t LongestPrompt(const Trace& trace);

// FNV-1a, 64 bits, over the counts, each as four bytes, the lowest first. Its constants:
// http://www.isthe.com/chongo/tech/comp/fnv/.
uint64_t HashCounts(std::span<const int32_t> counts);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_SEQUENTIAL_H_
