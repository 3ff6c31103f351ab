// What quire_replay was asked to do.

#ifndef QUIRE_BENCH_REPLAY_ARGUMENTS_H_
#define QUIRE_BENCH_REPLAY_ARGUMENTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/replay/cost_model.h"
#include "bench/replay/generate.h"
#include "bench/replay/policies.h"
#include "bench/replay/trace.h"

namespace replay {

struct Arguments {
  std::string trace;  // a file; empty: generate
  ReadOptions read;
  GenerateOptions generate;

  bool serving = false;
  std::vector<int32_t> pages;  // empty: DefaultPages
  std::vector<PolicyName> policies;
  bool lifetimes = false;
  CostModel cost;

  // Serving.
  double speed = 1;
  int32_t max_batch = 256;
  int32_t token_budget = 2048;

  std::string json;  // files; empty: not wanted
  std::string report;
};

// kInvalidArgument says which flag is wrong and what it takes; kCancelled for --help.
absl::StatusOr<Arguments> ParseArguments(int argc, char** argv);

// "1000,10000": each from 1 to 2^30.
absl::StatusOr<std::vector<int32_t>> ParsePages(const std::string& text);

// Sizes that show a curve where none are asked for: a 64th, a 16th and a quarter of the distinct
// pages, but room for the longest request.
std::vector<int32_t> DefaultPages(const Trace& trace, int64_t distinct_pages);

extern const char kUsage[];

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_ARGUMENTS_H_
