// Serving: a trace through a KvCache as an engine with continuous batching would take it, in
// simulated time. The page manager is real, the model is a formula (cost_model.h).
//
// A step, as docs/linking.md has it:
//   arrivals that are due queue up, in order; one that can never fit is refused
//   one token for each sequence that is generating, then chunks of prompts, oldest first, up to
//     token_budget; ReserveAll; while that finds no room the latest admitted is preempted: it goes
//     back to the head of the queue and will be computed again, as far as its pages are gone
//   while there are slots, budget and room for all its known tokens, the head of the queue is
//     started (who was preempted in this step is not: others now have what it lacked)
//   TakePlan and Retire (copies cost nothing: moving a page is little next to computing it),
//     CommitAll, and the clock goes on by what the step costs
//
// All ends: running sequences, then the queue, are always in order of admission, the first is never
// preempted while another runs, alone it fits (CheckFits), and since token_budget >= max_batch it
// computes in every step.
//
// A prompt's last token gives the answer's first at the end of its step. The answer's last token is
// never computed, so a page that it would fill is not cached. Token t stands for the page that
// covers it when the answer is complete, so follow-ups find what earlier turns left.

#ifndef QUIRE_BENCH_REPLAY_SERVING_H_
#define QUIRE_BENCH_REPLAY_SERVING_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "bench/replay/cost_model.h"
#include "bench/replay/result.h"
#include "bench/replay/trace.h"
#include "quire/kv_cache.h"
#include "quire/options.h"

namespace replay {

// A step that was just computed; who ended with it is still there.
struct ServingStep {
  int64_t step = 0;  // from 0
  double seconds = 0;
  int32_t prompt_tokens = 0;  // computed, after a preemption answers too
  int32_t decodes = 0;        // sequences that computed the token generated last
  int32_t running = 0, waiting = 0;
  double fragmentation = 0;
  const quire::KvCache* cache = nullptr;
};

struct ServingOptions {
  int32_t pages = 0;  // of the pool
  quire::Reclaim policy = quire::Reclaim::kLru;
  std::string policy_name;      // for the result
  double speed = 1;             // arrivals are divided by it; > 0, infinity: all at once
  bool follow_up_waits = true;  // for the answer before, see arrivals.h
  int32_t max_batch = 256;      // running sequences. [1, 2^20]
  int32_t token_budget = 2048;  // tokens computed in a step. [max_batch, 2^30]
  CostModel cost;
  // Called now and then with the requests that ended and all there are.
  std::function<void(int64_t done, int64_t total)> progress;
  std::function<void(const ServingStep&)> after_step;  // for tests and closer looks
};

// kInvalidArgument: names the option, or the field of the trace, and its range. The result depends
// on the arguments alone, but for manager_us and manager_seconds: those are real time in calls of
// the KvCache, reading the clock included. So run it where nothing else runs, or look at the
// percentiles and not at `most`. What is asked for samples and fragmentation is not in it.
absl::StatusOr<ServingResult> RunServing(const Trace& trace, const ServingOptions& options);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_SERVING_H_
