// Random operations on the cache and on the model of tests/support/model.h, with a full audit after
// each. A build with sanitizers audits a million operations, any other ten; a failure prints its
// seed and, as C++ to be pasted here, the shortest list of operations that still fails like it.
// docs/testing.md says more.
//
//   --seconds N   run on from the first seed until N seconds are over, then print how much that was
//   --seed S      run this seed only; with --seconds, the first one
//
// For runs through ctest the same as variables, and some more:
//
//   QUIRE_MODEL_SECONDS, QUIRE_MODEL_SEED
//   QUIRE_MODEL_FIRST=K        begin with seed K
//   QUIRE_MODEL_SEEDS=N        run N seeds, however many operations that is
//   QUIRE_MODEL_OPERATIONS=N   audit N operations instead of the default
//   QUIRE_TEST_SHARD=I/N       run part I of N of them, set by CMake

#include "tests/support/model.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/seeded.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define QUIRE_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QUIRE_SANITIZED 1
#endif

namespace quire::testing {
namespace {

constexpr int kOpsPerSeed = 300;
#if defined(QUIRE_SANITIZED) || !defined(NDEBUG)
constexpr int64_t kOperations = 1'000'000;
#else
constexpr int64_t kOperations = 10'000'000;
#endif
constexpr int64_t kLeastSeeds = 1000;
constexpr int kMostViolations = 10;

// ------------------------------------------------------------------------------ runs in a child

// What a child tells, also when it dies on the way.
struct Progress {
  uint64_t seed;
  int64_t seeds;
  int64_t audited;
  int64_t op;  // the one that runs now, of the seed's
  char error[1024];
  char counts[8192];
};

// A CHECK or a sanitizer ends the process, so all that may fail runs in one of its own. Empty, or
// what went wrong; what the child printed about that stands before it.
std::string InChild(Progress* progress, bool quiet, const std::function<std::string()>& run) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    if (quiet && std::freopen("/dev/null", "w", stderr) == nullptr) _exit(0);
    if (quiet) alarm(20);  // a shorter list may never end
    const std::string error = run();
    std::snprintf(progress->error, sizeof(progress->error), "%s", error.c_str());
    if (quiet) _exit(0);
    std::exit(0);  // looks for leaks, too
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return "ended by signal " + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return "exited with " + std::to_string(WEXITSTATUS(status));
  return progress->error;
}

Progress* NewProgress() {
  void* memory =
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  return static_cast<Progress*>(memory);
}

// Draws and runs a seed. Ends before operation `until`, and says which that was.
std::string RunSeed(uint64_t seed, int64_t until, Progress* progress,
                    std::map<std::string, int64_t>* counts, std::vector<Op>* list) {
  Model model(DrawOptions(seed));
  OpSource source(seed);
  std::string error;
  int64_t done = 0;
  while (error.empty() && done < kOpsPerSeed) {
    for (const Op& op : source.Next(model)) {
      if (list != nullptr) list->push_back(op);
      if (done == until) return "";
      progress->op = done++;
      error = model.Run(op);
      if (!error.empty()) break;
    }
  }
  if (counts == nullptr) return error;
  for (const auto& [what, count] : model.counts) (*counts)[what] += count;
  progress->audited += model.audited();
  ++progress->seeds;
  return error;
}

// The operations of a seed up to the one that fails, which is not run.
std::vector<Op> OpsOf(uint64_t seed, int64_t failing) {
  std::vector<Op> ops;
  Progress unused{};
  RunSeed(seed, failing, &unused, nullptr, &ops);
  return ops;
}

// --------------------------------------------------------------------------- the shortest failure

// Numbers differ from list to list.
std::string KindOf(std::string error) {
  std::erase_if(error, [](unsigned char c) { return std::isdigit(c) != 0; });
  return error;
}

// Leaves out whatever `fails` does not need.
std::vector<Op> Shorten(std::vector<Op> ops,
                        const std::function<bool(const std::vector<Op>&)>& fails) {
  for (size_t chunk = std::max<size_t>(1, ops.size() / 2), before = 0; chunk > 0;
       chunk = chunk > 1 ? chunk / 2 : ops.size() < before) {
    before = ops.size();
    for (size_t at = 0; at + chunk <= ops.size();) {
      std::vector<Op> fewer = ops;
      const auto begin = fewer.begin() + static_cast<std::ptrdiff_t>(at);
      fewer.erase(begin, begin + static_cast<std::ptrdiff_t>(chunk));
      if (fails(fewer)) {
        ops = fewer;
      } else {
        at += chunk;
      }
    }
  }
  return ops;
}

void ReportViolation(uint64_t seed, int64_t failing, const std::string& error, Progress* progress) {
  const Options options = DrawOptions(seed);
  const auto failure = [&](const std::vector<Op>& ops) {
    return InChild(progress, /*quiet=*/true, [&] {
      Model model(options);
      std::string wrong;
      for (size_t i = 0; i < ops.size() && wrong.empty(); ++i) wrong = model.Run(ops[i]);
      return wrong;
    });
  };
  std::vector<Op> ops = OpsOf(seed, failing);
  const std::string kind = KindOf(failure(ops));
  if (!kind.empty()) {
    ops = Shorten(std::move(ops),
                  [&](const std::vector<Op>& fewer) { return KindOf(failure(fewer)) == kind; });
  }
  ADD_FAILURE() << "seed " << seed << ", operation " << failing << ": " << error << '\n'
                << (kind.empty() ? "not so when these run alone:\n" : "")
                << PrintTest("Seed" + std::to_string(seed), options, ops);
}

// ------------------------------------------------------------------------------------- the runs

struct Runs {
  uint64_t first = 0;
  uint64_t stride = 1;
  int64_t seeds = 0;       // or, where that is 0, until
  int64_t operations = 0;  // so many are audited, or
  int64_t seconds = 0;     // this time is over
};

std::string RunAll(const Runs& runs, Progress* progress) {
  const auto begin = std::chrono::steady_clock::now();
  const auto more = [&] {
    if (runs.seeds > 0) return progress->seeds < runs.seeds;
    if (runs.seconds == 0) return progress->audited < runs.operations;
    return std::chrono::steady_clock::now() - begin < std::chrono::seconds(runs.seconds);
  };
  std::map<std::string, int64_t> counts;
  std::string error;
  for (progress->seed = runs.first; error.empty() && more(); progress->seed += runs.stride) {
    error = RunSeed(progress->seed, INT64_MAX, progress, &counts, nullptr);
    if (!error.empty()) break;
  }
  std::ostringstream out;
  for (const auto& [what, count] : counts) out << count << ' ' << what << '\n';
  std::snprintf(progress->counts, sizeof(progress->counts), "%s", out.str().c_str());
  return error;
}

std::map<std::string, int64_t> CountsOf(const Progress& progress) {
  std::map<std::string, int64_t> counts;
  std::istringstream in(progress.counts);
  int64_t count = 0;
  for (std::string what; in >> count && std::getline(in >> std::ws, what);) counts[what] = count;
  return counts;
}

// "I/N", I from 0.
std::pair<int, int> Shard() {
  int index = 0, count = 1;
  if (const char* shard = std::getenv("QUIRE_TEST_SHARD"); shard != nullptr) {
    if (std::sscanf(shard, "%d/%d", &index, &count) != 2 || index < 0 || index >= count) {
      ADD_FAILURE() << "QUIRE_TEST_SHARD is " << shard << "; it must be I/N with 0 <= I < N";
    }
  }
  return {index, count};
}

// Until it is done, going on behind a seed that fails where time is the end.
int RunAndReport(Runs runs, Progress* progress) {
  int violations = 0;
  while (violations < kMostViolations) {
    const auto begin = std::chrono::steady_clock::now();
    const std::string error =
        InChild(progress, /*quiet=*/false, [&] { return RunAll(runs, progress); });
    if (error.empty()) return violations;
    ++violations;
    const uint64_t seed = progress->seed;
    ReportViolation(seed, progress->op, error, progress);
    runs.first = seed + runs.stride;
    const auto took = std::chrono::steady_clock::now() - begin;
    runs.seconds -= std::chrono::duration_cast<std::chrono::seconds>(took).count();
    if (runs.seconds <= 0) return violations;
  }
  return violations;
}

// A run that no longer reaches something tests less than it did.
void ExpectAllReached(const Progress& progress) {
  std::map<std::string, int64_t> counts = CountsOf(progress);
  for (const char* what : {"hit",
                           "partial hit",
                           "copy",
                           "evicted",
                           "Fork",
                           "Truncate",
                           "Truncate refused",
                           "left a window",
                           "failed plan",
                           "Start refused",
                           "Reserve: RESOURCE_EXHAUSTED",
                           "Reserve: INVALID_ARGUMENT",
                           "Reserve: DATA_LOSS",
                           "Commit: DATA_LOSS",
                           "ClearCached",
                           "CheckFits refused",
                           "refused for a quota",
                           "gave up to himself",
                           "gave up to others",
                           "retained page",
                           "kept for its priority",
                           "lifetime over",
                           "tail with a key written in place"}) {
    EXPECT_GT(counts[what], 100) << what;
  }
}

TEST(ModelTest, RandomOperations) {
  const auto [index, shards] = Shard();
  const int64_t only = FromEnvironment("QUIRE_MODEL_SEED", -1);
  const int64_t seeds = FromEnvironment("QUIRE_MODEL_SEEDS", 0);
  const int64_t operations = FromEnvironment("QUIRE_MODEL_OPERATIONS", kOperations);
  Runs runs;
  runs.first = static_cast<uint64_t>(FromEnvironment("QUIRE_MODEL_FIRST", 0) + index);
  runs.stride = static_cast<uint64_t>(shards);
  runs.seeds = (seeds + shards - 1) / shards;
  runs.operations = (operations + shards - 1) / shards;
  runs.seconds = FromEnvironment("QUIRE_MODEL_SECONDS", 0);
  if (only >= 0) runs.first = static_cast<uint64_t>(only);
  if (only >= 0 && runs.seconds == 0) runs.seeds = 1;
  Progress* progress = NewProgress();
  const int violations = RunAndReport(runs, progress);
  for (const auto& [what, count] : CountsOf(*progress)) {
    std::printf("%10lld  %s\n", static_cast<long long>(count), what.c_str());
  }
  std::printf(
      "scorecard: model, part %d of %d: audited operations %lld, seeds %lld, violations %d\n",
      index + 1, shards, static_cast<long long>(progress->audited),
      static_cast<long long>(progress->seeds), violations);
  if (violations == 0 && runs.seeds == 0 && runs.seconds == 0) {
    // The parts add up: each asserts its own share of the whole.
    EXPECT_GE(progress->audited * shards, operations);
    if (operations >= kOperations) {
      EXPECT_GE(progress->seeds * shards, kLeastSeeds);
      ExpectAllReached(*progress);
    }
  }
  munmap(progress, sizeof(Progress));
}

// ---------------------------------------------------------------------------- what is printed

// One of each, and each field that may be left out once with and once without.
std::vector<Op> EveryOp() {
  return {
      StartOp{1, {0, 1, -1, 1}, true, false, {{0, kAllTokens, 80, 5}, {2, 3, 0, 0}}},
      StartOp{0, {1, 1, 1, 0, 1, 1}},
      MatchOp{2, {0, 1}},
      FitsOp{3, 12, 2},
      ReserveOp{1, 4},
      TakePlanOp{true},
      DraftOp{1},
      CommitOp{1, {1, 1, 1}},
      ForkOp{1},
      ReserveAllOp{{1, 2}, {1, 2}},
      TakePlanOp{false},
      CommitAllOp{{1, 2}, {0, 1, 0}, {1, 2}},
      RetireOp{},
      TruncateOp{1, 2},
      DropOp{2},
      ClearOp{},
  };
}

Options EveryOption() {
  Options options = OneGroup(2, 16);
  options.groups.push_back(Group(4, 9, 6));
  options.max_sequences = 5;
  options.max_sequence_tokens = 24;
  options.quotas = {{"a", 250, 700}, {"", 0, 500}};
  options.reclaim = Reclaim::kS3Fifo;
  options.min_copy_tokens = 1;
  options.max_rollback_tokens = 3;
  options.max_index_nodes = 99;
  options.hash_seed = 7;
  options.scrub_released = true;
  return options;
}

// Printed text that is part of this program: it compiles and, replayed, finds nothing wrong.
#include "tests/support/model_printed.inc"

TEST(ModelTest, PrintsWhatItCompiles) {
  std::ifstream file(QUIRE_SOURCE_DIR "/tests/support/model_printed.inc");
  std::stringstream compiled;
  compiled << file.rdbuf();
  const std::vector<Op> ops = EveryOp();
  EXPECT_EQ(PrintTest("Printed", EveryOption(), ops), compiled.str())
      << "renew tests/support/model_printed.inc with the text on the left";
  std::vector<bool> kinds(std::variant_size_v<Op>);
  for (const Op& op : ops) kinds[op.index()] = true;
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), false), 0) << "an operation is not printed";
}

TEST(ModelTest, PrintsEveryPolicyByItsName) {
  static constexpr const char* kNames[] = {"kLru",    "kFifo", "kAgedFrequency",
                                           "kS3Fifo", "k2Q",   "kLearned"};
  Options options = OneGroup(1, 4);
  for (int i = 0; i <= static_cast<int>(Reclaim::kLearned); ++i) {
    options.reclaim = static_cast<Reclaim>(i);
    EXPECT_NE(Print(options).find("Reclaim::" + std::string(kNames[i]) + ";"), std::string::npos);
  }
  EXPECT_EQ(Reclaim::kLru, Reclaim{0});
  EXPECT_EQ(static_cast<int>(Reclaim::k2Q), 4);
}

TEST(ModelTest, ShortensToWhatFails) {
  const auto fork_then_drop = [](const std::vector<Op>& ops) {
    const auto fork = std::find_if(ops.begin(), ops.end(),
                                   [](const Op& op) { return std::holds_alternative<ForkOp>(op); });
    return std::any_of(fork, ops.end(),
                       [](const Op& op) { return std::holds_alternative<DropOp>(op); });
  };
  EXPECT_EQ(Print(Shorten(EveryOp(), fork_then_drop)), "    ForkOp{1},\n    DropOp{2},\n");
}

// The list that is printed is the one that ran.
TEST(ModelTest, DrawsTheSameOperationsAgain) {
  Progress progress{};
  std::vector<Op> ran;
  std::map<std::string, int64_t> counts;
  EXPECT_EQ(RunSeed(5, INT64_MAX, &progress, &counts, &ran), "");
  EXPECT_GE(progress.audited, kOpsPerSeed);
  const std::vector<Op> ops = OpsOf(5, 100);
  ASSERT_EQ(ops.size(), 101u);
  ran.resize(ops.size());
  EXPECT_EQ(Print(ops), Print(ran));
  EXPECT_EQ(Replay(DrawOptions(5), ops), "");
}

TEST(ModelTest, TellsHowAChildEnded) {
  Progress* progress = NewProgress();
  const auto end = [&](const std::function<std::string()>& run) {
    return InChild(progress, /*quiet=*/true, run);
  };
  EXPECT_EQ(end([] { return std::string(); }), "");
  EXPECT_EQ(end([] { return std::string("wrong"); }), "wrong");
  EXPECT_EQ(end([]() -> std::string {
              std::signal(SIGABRT, SIG_DFL);
              std::abort();
            }),
            "ended by signal 6");
  EXPECT_EQ(end([]() -> std::string { _exit(23); }), "exited with 23");
  munmap(progress, sizeof(Progress));
}

// ------------------------------------------------------------------------------- what was found

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

// Found by the model: two pages of the same tokens, with successors, were given up by one Reserve,
// because each was a spare one while the other was there.
TEST(ModelTest, DuplicatesAreNotBothSpare) {
  for (int i = 0; i <= static_cast<int>(Reclaim::kLearned); ++i) {
    Options options = OneGroup(1, 16);
    options.max_sequences = 2;
    options.max_sequence_tokens = 22;
    options.reclaim = static_cast<Reclaim>(i);
    EXPECT_EQ(Replay(options,
                     {
                         StartOp{1, {0, 1, 1, 0, 1, 1, 0, 1, 0}},
                         ReserveOp{0, 2},
                         CommitOp{0, {0}},
                         ForkOp{0},
                         ReserveAllOp{{0, 1}, {2, 2}},
                         CommitAllOp{{0, 1}, {0, 0, 0, 1}, {2, 2}},
                         ReserveAllOp{{0, 1}, {1, 1}},
                         CommitAllOp{{0, 1}, {0, 0}, {1, 1}},
                         DropOp{0},
                         DropOp{0},
                         StartOp{0, {1, 1, 0, 1, 1}},
                         ReserveOp{0, 11},
                     }),
              "")
        << i;
  }
}

// Found by the model: the page of {0, 1} got 49 from one request, whose page of {0} went, and the
// page of {0} that was left had only 20 from another. It would have gone before what follows it.
TEST(ModelTest, APageIsWorthWhatFollowsIt) {
  Options options = OneGroup(1, 4);
  options.reclaim = Reclaim::kLru;
  EXPECT_EQ(Replay(options,
                   {
                       StartOp{0, {0, 5}, true, true, {{0, kAllTokens, 20, 0}}},
                       ReserveOp{0, 1},
                       CommitOp{0, {0}},
                       StartOp{0, {0, 1, 9}, false, true, {{0, kAllTokens, 49, 0}}},
                       ReserveOp{1, 2},
                       CommitOp{1, {0, 1}},
                       StartOp{0, {0, 1, 9}, true, true, {{0, kAllTokens, 20, 0}}},
                       DropOp{0},
                       DropOp{0},
                       DropOp{0},
                       StartOp{0, {7, 7, 7}},
                       ReserveOp{0, 3},
                   }),
            "");
}

// Found by the model: the page of {0} went as a spare one, for there was another; that was in use,
// then given back with a low priority, and went before the page of {0, 1}.
TEST(ModelTest, TheDuplicateThatStaysDoesNotGoFirst) {
  Options options = OneGroup(1, 4);
  options.reclaim = Reclaim::kFifo;
  EXPECT_EQ(Replay(options,
                   {
                       StartOp{0, {0, 1, 9}},
                       ReserveOp{0, 2},
                       CommitOp{0, {0, 1}},
                       StartOp{0, {0, 5}, false, true, {{0, kAllTokens, 20, 0}}},
                       ReserveOp{1, 1},
                       CommitOp{1, {0}},
                       DropOp{0},
                       StartOp{0, {7, 7, 7, 7}},
                       ReserveOp{1, 2},
                       DropOp{0},
                       ReserveOp{0, 3},
                   }),
            "");
}

}  // namespace
}  // namespace quire::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    const bool known = name == "--seconds" || name == "--seed";
    if (!known || i + 1 == argc) {
      std::fprintf(stderr, "%s %s: the arguments are --seconds N and --seed S\n", argv[0], argv[i]);
      return 2;
    }
    setenv(name == "--seed" ? "QUIRE_MODEL_SEED" : "QUIRE_MODEL_SECONDS", argv[i + 1], 1);
    ::testing::GTEST_FLAG(filter) = "ModelTest.RandomOperations";
  }
  return RUN_ALL_TESTS();
}
