// Traces made on the spot, for traffic that no public trace shows. Seeded: the same options give
// the same trace on any machine.
//
// Sessions begin at random (a Poisson process). A session's prompt is one of a few shared prompts
// (the i-th chosen with a chance of 1 / i) and text of its own; a later turn's is all that was said
// before, its answer included, and more text. Answers are all different. Lengths and pauses are
// heavy-tailed: median * 2^(spread * z), z nearly normal, cut at limits that generate.cc shows.
//
//               chat         agent        rag          sampling
//   shared      4, 800 x 2   6, 13000     1, of 800    3, 1500 x 2   prompts, median x 2^spread
//                            x 1.4
//   first text  5950 x 4     300 x 2.8    40 x 2       200 x 2       tokens
//   later text  43 x 16      400 x 5.7    40 x 2       100 x 2       tokens
//   answer      350 x 2      69 x 4.8     200 x 2      1000 x 2      tokens
//   pause       138 x 2.8    6 x 2        45 x 2       10 x 2        seconds, arrival to arrival
//   goes on     2 / 3        23 / 24      1 / 4        1 / 8         chance after each turn
//
// agent: one later turn in 16 goes on from any turn of its session so far, not the last. rag:
// between shared prompt and text stand 3 to 8 different documents of 20000, the i-th chosen with a
// chance of 1 / i, 1500 x 2 tokens each. sampling: a session is 4, 8, 16 or 32 samples of one
// prompt, at one time; each goes on for itself. A session ends before its prompt passes 131072
// tokens.
//
// Sources. chat's texts, answers and pause: median and 84th percentile over the Mooncake
// conversation trace (FAST'25), turns as inferred by ReadTrace, rounded. agent's answer: the same
// of the Mooncake synthetic trace. agent's shared prompts: of the order that the card of the data
// set semianalysisai/cc-traces-weka-042026 shows for tools and system prompt, 1.4k to 25k together.
// All else is assumed, to make each kind what its name says; chances and numbers of documents,
// prompts and samples among it.

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
  int64_t page_refs = 500000;      // stop after the request that reaches this many; [1, 10^8]
  int32_t tokens_per_page = 512;   // [1, 4096]
  double requests_per_second = 4;  // in the long run, at first fewer; [0.001, 100000]
};

// Request::previous is known, and so are all answers. kInvalidArgument names the field and its
// range.
absl::StatusOr<Trace> Generate(const GenerateOptions& options);

// "chat", "agent", "rag", "sampling"; kInvalidArgument lists them.
absl::StatusOr<Traffic> ParseTraffic(const std::string& name);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_GENERATE_H_
