// What a replay found out: plain data, written as JSON (json_result.h) and drawn (report.h).

#ifndef QUIRE_BENCH_REPLAY_RESULT_H_
#define QUIRE_BENCH_REPLAY_RESULT_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace replay {

// How long pages stayed: bin b counts pages whose lifetime, in requests from when they were
// written until their memory was given to another page, is in [2^b, 2^(b+1)); bin 0 holds 0 and 1.
// Pages still there at the end are not in it.
struct Lifetimes {
  std::array<int64_t, 32> bins{};
};

// One (policy, pages) in sequential mode.
struct SequentialResult {
  std::string policy;
  int32_t pages = 0;
  int64_t requests = 0;
  int64_t page_refs = 0;
  int64_t hit_pages = 0;
  int64_t hit_tokens = 0;  // sum of min(hit pages * tokens_per_page, input tokens)
  int64_t input_tokens = 0;
  double recompute_saved = 0;  // share of the prefill cost that hits saved, by cost_model.h
  uint64_t hits_fnv1a64 = 0;   // over the hit pages of each request, little-endian uint32
  int64_t evictions = 0;
  double seconds = 0;          // of the replay alone: reading the trace and Belady are apart
  double cpu_seconds = 0;      // processor time of the same: the machine may be shared
  int64_t metadata_bytes = 0;  // the manager's, tokens of the index included
  int64_t ghost_bytes = 0;     // of those, memory of evicted pages
  Lifetimes lifetimes;

  double page_hit_rate() const { return Rate(hit_pages, page_refs); }
  double token_hit_rate() const { return Rate(hit_tokens, input_tokens); }
  double refs_per_second() const {
    return seconds > 0 ? static_cast<double>(page_refs) / seconds : 0;
  }
  static double Rate(int64_t part, int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
  }
};

// The most hits that any policy could have at one size, knowing the future; belady.h says how the
// two differ.
struct BeladyResult {
  int32_t pages = 0;
  int64_t hit_pages = 0;
  int64_t pinned_hit_pages = 0;  // a running request's pages take room too
};

// Of a set of times: nearest-rank percentiles; 0 of an empty set.
struct Percentiles {
  int64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0, most = 0;
};

// State of the pool at one moment of simulated time.
struct Sample {
  double seconds = 0;  // simulated
  int32_t pages_free = 0, pages_live = 0, pages_cached = 0;
  int32_t running = 0, waiting = 0;
};

// One (policy, pages) in serving mode. All times are simulated, by the cost model, but for the
// manager's.
struct ServingResult {
  std::string policy;
  int32_t pages = 0;
  int64_t requests = 0;
  int64_t refused = 0;  // could never fit
  int64_t steps = 0;
  double seconds = 0;  // simulated, until the last answer
  int64_t input_tokens = 0, output_tokens = 0;
  int64_t hit_tokens = 0;         // at first admission
  int64_t rehit_tokens = 0;       // at admission after preemption; not in the hit rate
  int64_t recomputed_tokens = 0;  // computed before and lost by preemption
  int64_t preemptions = 0, evictions = 0;
  Percentiles first_token_ms;     // arrival to first token
  Percentiles between_tokens_ms;  // mean time per output token of a request
  Percentiles end_to_end_ms;
  double tokens_per_second = 0;    // output, simulated
  double requests_per_second = 0;  // simulated
  // Share of the slots of live pages that hold no token, averaged over the steps.
  double fragmentation = 0;
  std::vector<Sample> samples;  // at most 1000, evenly spread
  // Real processor time in the manager's calls a step, microseconds.
  Percentiles manager_us;
  double manager_seconds = 0;
  Lifetimes lifetimes;

  double hit_rate() const {
    return input_tokens > 0 ? static_cast<double>(hit_tokens) / static_cast<double>(input_tokens)
                            : 0;
  }
};

// Everything one run of quire_replay found.
struct Results {
  std::string trace;  // Trace::name
  int64_t requests = 0, page_refs = 0, distinct_pages = 0, skipped_lines = 0;
  int32_t tokens_per_page = 0;
  double read_seconds = 0;
  std::string command;  // as given
  std::vector<SequentialResult> sequential;
  std::vector<BeladyResult> belady;
  int64_t unlimited_hit_pages = 0;  // with room for everything
  std::vector<ServingResult> serving;
  std::string cost_model;  // in words and numbers
};

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_RESULT_H_
