#include "bench/replay/serving.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/replay/arrivals.h"
#include "bench/replay/server.h"

namespace replay {
namespace {

constexpr int32_t kMostTokens = 1 << 30;     // of a sequence, and so of a step
constexpr int32_t kMostSequences = 1 << 20;  // Options::max_sequences

absl::Status CheckRange(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", value, "; it must be in [", least, ", ", most, "]"));
}

absl::Status CheckRequests(const Trace& trace) {
  for (size_t i = 0; i < trace.requests.size(); ++i) {
    const Request& request = trace.requests[i];
    absl::Status status = CheckRange("output_tokens", request.output_tokens, 0, INT32_MAX - 1);
    if (status.ok()) {
      status =
          CheckRange("input_tokens", request.input_tokens, 1, INT32_MAX - request.output_tokens);
    }
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("request ", i, " of ", trace.name, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ServingResult> RunServing(const Trace& trace, const ServingOptions& options) {
  absl::Status status = CheckRange("max_batch", options.max_batch, 1, kMostSequences);
  // Else the sequences that generate could use a step up, and no prompt would go on.
  if (status.ok()) {
    status = CheckRange("token_budget", options.token_budget, options.max_batch, kMostTokens);
  }
  if (status.ok()) status = CheckCostModel(options.cost);
  if (status.ok()) status = CheckRequests(trace);
  if (!status.ok()) return status;

  absl::StatusOr<Arrivals> arrivals = Arrivals::Create(
      trace, {options.speed, options.follow_up_waits, options.cost, options.token_budget});
  if (!arrivals.ok()) return arrivals.status();

  // No longer than the trace needs or the pool holds: a page table's row takes address space.
  const int64_t pool_tokens = int64_t{options.pages} * trace.tokens_per_page;
  int64_t longest = 1;
  for (const Request& request : trace.requests) {
    longest = std::max(longest, TotalTokens(request));
  }
  quire::Options cache_options;
  cache_options.groups.resize(1);
  cache_options.groups[0].tokens_per_page = trace.tokens_per_page;
  cache_options.groups[0].page_count = options.pages;
  cache_options.max_sequences = options.max_batch;
  cache_options.max_sequence_tokens =
      static_cast<int32_t>(std::clamp<int64_t>(std::min(longest, pool_tokens), 1, kMostTokens));
  cache_options.reclaim = options.policy;
  absl::StatusOr<std::unique_ptr<quire::KvCache>> cache = quire::KvCache::Create(cache_options);
  if (!cache.ok()) return cache.status();
  return Server(trace, options, *std::move(arrivals), *std::move(cache)).Run();
}

}  // namespace replay
