// A whole serving engine in one thread, and every step of it decided by a seed: requests that come,
// share prefixes, fork, speculate and are aborted at any moment; a KvCache; and ranks (tensor
// parallelism) that carry out copies and kernels late, each at its own pace, with answers that come
// out of order, twice or never, copies that fail and resets.
//
// Each token's bytes on each rank are a stamp of everything they depend on (namespace, weights,
// token prefix, group, rank). A kernel checks every byte it reads. A step is one move of one of
// those involved: the engine's next phase, a rank's next entries, an arriving answer, a client.
//
// What must hold, and is a violation otherwise:
//   - No result that the engine relies on was computed from another's bytes. And if no copy failed
//     between queueing and running, nobody's was, relied on or not.
//   - With Options::scrub_released: in the pages of a kernel's rows nothing is left of another
//     namespace, in slots that nobody reads either.
//   - Whatever CheckFits accepted gets on.
//   - No page of an outstanding plan is handed out again.
//   - When all is dropped and the fences have drained, every page is free or cached; after
//     ClearCached, free.
//   - KvCache::Validate.

#ifndef QUIRE_TESTS_SUPPORT_SIMULATION_H_
#define QUIRE_TESTS_SUPPORT_SIMULATION_H_

#include <cstdint>
#include <ostream>
#include <string>

namespace quire::testing {

// Mistakes that an engine can make, to see that they are found.
enum class EngineFault {
  kNone,
  kRetiresAtTheFirstAnswer,  // does not wait for the other ranks
  kRetiresWithoutStatus,     // OK, whatever was answered
  kGivesUpWithoutAFence,     // a lost answer is taken for a good one
  kTakesAnyAnswer,           // a duplicate counts for the oldest ticket
  kIgnoresRefusedCopies,     // Device::Copy's own answer
  kDeliversEarly,            // does not wait for the plans that a result depends on
  kSkipsARank,               // one rank is not given the plans
  kKeepsTheCacheAfterAReset,
  kKeepsTheCacheAcrossWeights,
  kForgetsToRetire,
  kSkipsScrubs,
};

struct SimulationCounts {
  int64_t launches = 0;
  int64_t results = 0;       // of one sequence in one launch, judged
  int64_t results_void = 0;  // nobody relies on them
  int64_t tokens_read = 0;   // compared with their stamp, on all ranks
  int64_t hits = 0;          // tokens
  int64_t copies = 0;
  int64_t scrubs = 0;
  int64_t plans_failed = 0;
  int64_t answers_ignored = 0;  // duplicates, and late ones
  int64_t fences = 0;
  int64_t resets = 0;
  int64_t aborts = 0;
  int64_t preemptions = 0;
  int64_t losses = 0;  // sequences told kDataLoss
  int64_t forks = 0;
  int64_t truncates = 0;
  int64_t drafts_rejected = 0;
  int64_t finished = 0;       // requests
  int64_t drains = 0;         // times that every page was accounted for
  uint32_t abort_phases = 0;  // a bit for each phase of the engine's step before which one came
};

void Add(const SimulationCounts& more, SimulationCounts* sum);
std::ostream& operator<<(std::ostream& out, const SimulationCounts& counts);

struct SimulationReport {
  uint64_t hash = 0;      // of every page id, ticket, copy, status and length
  std::string violation;  // empty: none
  SimulationCounts counts;
};

SimulationReport RunSimulation(uint64_t seed, int32_t steps,
                               EngineFault fault = EngineFault::kNone);

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_SIMULATION_H_
