// Random operations on the cache and on the model of tests/support/model.h, with a full audit after
// each. See docs/testing.md for how to reproduce a seed.
//
//   QUIRE_MODEL_SEED=17   run this seed only; a failure is shortened before it is printed
//   QUIRE_MODEL_SEEDS=N   run N seeds instead of the default
//   QUIRE_MODEL_FIRST=K   begin with seed K

#include "tests/support/model.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace quire::testing {
namespace {

constexpr int kOpsPerSeed = 300;
constexpr int kSeeds = 1000;

int FromEnvironment(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoi(value);
}

// What runs now, for the handler of a CHECK.
uint64_t current_seed = 0;
const std::vector<Op>* current_ops = nullptr;

// Not safe in general, but the process is about to end anyway and this is worth trying.
void PrintSeedAndAbort(int) {
  std::signal(SIGABRT, SIG_DFL);
  const std::string last =
      current_ops == nullptr || current_ops->empty() ? "" : Print({current_ops->back()});
  std::fprintf(stderr, "seed %llu, operation %zu: %s\n",
               static_cast<unsigned long long>(current_seed), current_ops->size(), last.c_str());
  std::abort();
}

struct Outcome {
  std::vector<Op> ops;
  std::string error;
};

Outcome RunSeed(uint64_t seed, std::map<std::string, int64_t>* counts) {
  Outcome outcome;
  current_seed = seed;
  current_ops = &outcome.ops;
  Model model(DrawOptions(seed));
  OpSource source(seed);
  while (outcome.error.empty() && outcome.ops.size() < kOpsPerSeed) {
    for (const Op& op : source.Next(model)) {
      outcome.ops.push_back(op);
      outcome.error = model.Run(op);
      if (!outcome.error.empty()) break;
    }
  }
  for (const auto& [what, count] : model.counts) (*counts)[what] += count;
  (*counts)["operation"] += static_cast<int64_t>(outcome.ops.size());
  current_ops = nullptr;
  return outcome;
}

// In a child, because a CHECK ends the process.
bool FailsInChild(const Options& options, const std::vector<Op>& ops) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(0);
    _exit(Replay(options, ops).empty() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

// Leaves out whatever the failure does not need.
std::vector<Op> Shorten(const Options& options, std::vector<Op> ops) {
  for (size_t chunk = ops.size() / 2, before = 0; chunk > 0;
       chunk = chunk > 1 ? chunk / 2 : ops.size() < before) {
    before = ops.size();
    for (size_t at = 0; at + chunk <= ops.size();) {
      std::vector<Op> fewer = ops;
      fewer.erase(fewer.begin() + at, fewer.begin() + at + chunk);
      if (FailsInChild(options, fewer)) {
        ops = fewer;
      } else {
        at += chunk;
      }
    }
  }
  return ops;
}

void PrintShortened(uint64_t seed) {
  const Options options = DrawOptions(seed);
  // The operations are drawn again in the child's way: the list may end in a CHECK.
  std::vector<Op> ops;
  Model model(options);
  OpSource source(seed);
  while (ops.size() < kOpsPerSeed) {
    bool failed = false;
    for (const Op& op : source.Next(model)) {
      ops.push_back(op);
      failed = FailsInChild(options, ops);
      if (failed) break;
      if (!model.Run(op).empty()) return;
    }
    if (failed) break;
  }
  const std::vector<Op> shorter = Shorten(options, ops);
  if (!FailsInChild(options, shorter)) return;
  std::printf("%s\nEXPECT_EQ(Replay(options, {\n%s}), \"\");\n", Print(options).c_str(),
              Print(shorter).c_str());
  std::fflush(stdout);
  ADD_FAILURE() << Replay(options, shorter);
}

TEST(ModelTest, RandomOperations) {
  std::signal(SIGABRT, PrintSeedAndAbort);
  const int only = FromEnvironment("QUIRE_MODEL_SEED", -1);
  if (only >= 0) {
    PrintShortened(static_cast<uint64_t>(only));
    std::signal(SIGABRT, SIG_DFL);
    return;
  }
  std::map<std::string, int64_t> counts;
  const int first = FromEnvironment("QUIRE_MODEL_FIRST", 0);
  const int seeds = FromEnvironment("QUIRE_MODEL_SEEDS", kSeeds);
  int failures = 0;
  for (int seed = first; seed < first + seeds && failures < 3; ++seed) {
    const Outcome outcome = RunSeed(static_cast<uint64_t>(seed), &counts);
    if (outcome.error.empty()) continue;
    ++failures;
    ADD_FAILURE() << "seed " << seed << ", operation " << outcome.ops.size() << ", "
                  << outcome.ops.back() << "\n"
                  << outcome.error << "\nQUIRE_MODEL_SEED=" << seed
                  << " prints a short list of operations";
  }
  std::signal(SIGABRT, SIG_DFL);
  for (const auto& [what, count] : counts) {
    std::printf("%10lld  %s\n", static_cast<long long>(count), what.c_str());
  }
  if (failures > 0 || seeds < kSeeds) return;
  // A run that no longer reaches something tests less than it did.
  for (const char* what :
       {"hit", "partial hit", "copy", "evicted", "Fork", "Truncate", "Truncate refused",
        "left a window", "failed plan", "Start refused", "Reserve: RESOURCE_EXHAUSTED",
        "Reserve: INVALID_ARGUMENT", "Reserve: DATA_LOSS", "Commit: DATA_LOSS"}) {
    EXPECT_GT(counts[what], 100) << what;
  }
}

// Found by the model: the failed page has left the window of a fork that outlived the sequence the
// copy was for, and nothing of it is in the index to lead there.
TEST(ModelTest, DamageFollowsForksPastTheWindow) {
  for (const bool caching : {false, true}) {
    for (const bool write : {false, true}) {
      Options options = OneGroup(2, 16, 1);
      options.prefix_caching = caching;
      EXPECT_EQ(Replay(options,
                       {
                           StartOp{0, {1, 2, 3, 4, 5, 6, 7, 8}, true, write},
                           ReserveOp{0, 3},
                           CommitOp{0, {1, 2, 3}},
                           ForkOp{0},
                           ReserveOp{0, 1},
                           TakePlanOp{true},
                           ForkOp{0},
                           DropOp{0},
                           ReserveOp{1, 5},
                           CommitOp{1, {4, 5, 6, 7}},
                           RetireOp{},
                       }),
                "")
          << "caching " << caching << ", write " << write;
    }
  }
}

}  // namespace
}  // namespace quire::testing
