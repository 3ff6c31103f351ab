// Traces made on the spot, for traffic that no public trace shows. Seeded: the same options give
// the same trace on any machine.

#ifndef QUIRE_BENCH_REPLAY_GENERATE_H_
#define QUIRE_BENCH_REPLAY_GENERATE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "bench/replay/trace.h"

namespace replay {

enum class Traffic : uint8_t {
  kChat,      // many users, several turns each, thinking time between; a few system prompts
  kAgent,     // few agents with long shared tool prompts; each step appends to a growing context,
              // seconds apart, and some agents branch or start over from an earlier point
  kRag,       // system prompt, then documents of a popular few and a long tail, then a question
  kSampling,  // one prompt sampled k times at once, some samples going on
};

struct GenerateOptions {
  Traffic traffic = Traffic::kChat;
  uint64_t seed = 1;
  int64_t page_refs = 500000;     // stop after the request that reaches this many
  int32_t tokens_per_page = 512;  // [1, 4096]
  double requests_per_second = 4;
};

// kInvalidArgument names the field and its range.
absl::StatusOr<Trace> Generate(const GenerateOptions& options);

// "chat", "agent", "rag", "sampling"; kInvalidArgument lists them.
absl::StatusOr<Traffic> ParseTraffic(const std::string& name);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_GENERATE_H_
