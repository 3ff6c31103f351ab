// Every fault point of every call: operator new in all its forms, mmap, madvise, aligned_alloc, and
// each call of a GPU's runtime fails, once and from then on. After each the state equals the state
// before, nothing has leaked, and the same call made again does what it would have done.
//
// QUIRE_FAULT_PAIRS=1: also every pair of faults, one in the call and one in its repetition.
// QUIRE_FAULT_TABLE=1: prints a line for each scenario.
// After SQLite's malloc tests (sqlite.org/testing.html) and Abseil's exception_safety_testing.h.

#include "tests/support/fault_loop.h"

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"
#include "kernels/cpu/parallel.h"
#include "lib/huge_memory.h"
#include "tests/support/fault_cache.h"
#include "tests/support/fault_pages.h"
#include "tests/support/fault_points.h"
#include "tests/support/fault_replacements.h"
#include "tests/support/fault_scenarios.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

bool IsSet(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' && std::string(value) != "0";
}

struct Totals {
  int64_t scenarios = 0;
  int64_t without_points = 0;  // of them: nothing there can fail
  FaultResult sum;

  void Add(const FaultResult& result) {
    ++scenarios;
    without_points += result.heap + result.maps + result.gpu_calls == 0 ? 1 : 0;
    sum.heap += result.heap;
    sum.maps += result.maps;
    sum.gpu_calls += result.gpu_calls;
    sum.single += result.single;
    sum.persistent += result.persistent;
    sum.unmoved += result.unmoved;
    sum.pairs += result.pairs;
  }
};

// Of all tests below, in the order in which they ran.
Totals all_of_them;

Totals RunAll(const std::vector<FaultScenario>& scenarios) {
  Totals totals;
  const bool table = IsSet("QUIRE_FAULT_TABLE");
  if (table) {
    std::printf("%-58s %6s %5s %5s %7s %7s %8s %8s\n", "scenario", "heap", "maps", "calls",
                "single", "onward", "unmoved", "pairs");
  }
  for (const FaultScenario& scenario : scenarios) {
    const FaultResult r = RunFaultLoop(scenario, IsSet("QUIRE_FAULT_PAIRS"));
    totals.Add(r);
    all_of_them.Add(r);
    if (!table) continue;
    std::printf("%-58s %6ld %5ld %5ld %7ld %7ld %8ld %8ld\n", scenario.name.c_str(), r.heap, r.maps,
                r.gpu_calls, r.single, r.persistent, r.unmoved, r.pairs);
  }
  return totals;
}

// The switch, before anything is concluded from it.

TEST(FaultPointsTest, TheNthPointFailsOnceOrFromThenOn) {
  ArmFaults(2, false);
  const std::array<bool, 4> once = {FaultHere(FaultKind::kHeap), FaultHere(FaultKind::kMap),
                                    FaultHere(FaultKind::kHeap), FaultHere(FaultKind::kHeap)};
  const FaultCount single = DisarmFaults();
  EXPECT_EQ(once, (std::array<bool, 4>{false, true, false, false}));
  EXPECT_EQ(single.points(), 4);
  EXPECT_EQ(single.reached[static_cast<size_t>(FaultKind::kMap)], 1);
  EXPECT_EQ(single.failed, 1);
  ArmFaults(2, true);
  for (int i = 0; i < 4; ++i) FaultHere(FaultKind::kHeap);
  EXPECT_EQ(DisarmFaults().failed, 3);
  EXPECT_FALSE(FaultHere(FaultKind::kHeap));
}

TEST(FaultPointsTest, EveryFormOfNewAndEveryMapIsAPoint) {
  const auto fails = [](auto allocate) {
    ArmFaults(1, true);
    bool failed = false;
    try {
      failed = allocate() == nullptr;
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    return DisarmFaults().points() == 1 && failed;
  };
  constexpr std::align_val_t kAlign{64};
  EXPECT_TRUE(fails([] { return ::operator new(8); }));
  EXPECT_TRUE(fails([] { return ::operator new[](8); }));
  EXPECT_TRUE(fails([] { return ::operator new(8, std::nothrow); }));
  EXPECT_TRUE(fails([] { return ::operator new[](8, std::nothrow); }));
  EXPECT_TRUE(fails([] { return ::operator new(8, kAlign); }));
  EXPECT_TRUE(fails([] { return ::operator new[](8, kAlign); }));
  EXPECT_TRUE(fails([] { return ::operator new(8, kAlign, std::nothrow); }));
  EXPECT_TRUE(fails([] { return ::operator new[](8, kAlign, std::nothrow); }));
  EXPECT_TRUE(fails([] { return MapMemory(8); }));  // of the library: it is linked to ours
  EXPECT_TRUE(fails([] {
    void* volatile memory = std::aligned_alloc(64, 64);  // or the compiler knows it to succeed
    return memory;
  }));
}

TEST(FaultPointsTest, WhatIsLiveIsCounted) {
  const LiveBytes before = Live();
  void* heap = ::operator new(1000);
  void* mapped = MapMemory(5000);
  EXPECT_GE(Live().heap - before.heap, 1000);
  EXPECT_EQ(Live().mapped - before.mapped, 5000);
  ::operator delete(heap);
  UnmapMemory(mapped, 5000);
  EXPECT_EQ(Live(), before);
}

// The loop itself has to be able to fail: at a call that leaks, that has done half of its work,
// that lets an exception out, or that cannot be made again.
enum class Planted { kNothing, kLeak, kHalfDone, kThrows, kStuck };

std::array<std::unique_ptr<char[]>, 64> lost;  // what was leaked, so that only the loop finds it
size_t lost_count = 0;

struct PlantedWorld : FaultWorld {
  explicit PlantedWorld(Planted the_fault) : planted(the_fault) {}
  absl::StatusCode Run() override {
    if (stuck) return absl::StatusCode::kResourceExhausted;
    if (planted == Planted::kHalfDone) ++done;
    std::unique_ptr<char[]> first(new (std::nothrow) char[10]);
    if (first == nullptr) return Failed();
    const std::unique_ptr<char[]> second(planted == Planted::kThrows ? new char[20]
                                                                     : new (std::nothrow) char[20]);
    if (second == nullptr) {
      if (planted == Planted::kLeak) lost.at(lost_count++) = std::move(first);
      return Failed();
    }
    if (planted != Planted::kHalfDone) ++done;
    return absl::StatusCode::kOk;
  }
  absl::StatusCode Failed() {
    stuck = planted == Planted::kStuck;
    return absl::StatusCode::kResourceExhausted;
  }
  std::string State() override { return std::to_string(done); }
  Planted planted;
  int done = 0;
  bool stuck = false;
};

// What the loop says of a planted fault; "" if nothing.
std::string FoundIn(Planted planted) {
  ::testing::TestPartResultArray results;
  {
    const ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
    RunFaultLoop({.name = "planted",
                  .set_up = [planted] { return std::make_unique<PlantedWorld>(planted); }},
                 /*pairs=*/true);
  }
  std::string found;
  for (int i = 0; i < results.size(); ++i) found += results.GetTestPartResult(i).message();
  while (lost_count > 0) lost[--lost_count].reset();
  return found;
}

TEST(FaultLoopTest, FindsWhatIsPlanted) {
  const auto finds = [](Planted planted, const char* words) {
    return FoundIn(planted).find(words) != std::string::npos;
  };
  EXPECT_EQ(FoundIn(Planted::kNothing), "");
  EXPECT_TRUE(finds(Planted::kLeak, "heap bytes leaked"));
  EXPECT_TRUE(finds(Planted::kHalfDone, "changed something"));
  EXPECT_TRUE(finds(Planted::kThrows, "an exception left"));
  EXPECT_TRUE(finds(Planted::kStuck, "the next call"));
}

TEST(FaultLoopTest, CountsRunsAndPairs) {
  const FaultResult result = RunFaultLoop(
      {.name = "good", .set_up = [] { return std::make_unique<PlantedWorld>(Planted::kNothing); }},
      /*pairs=*/true);
  EXPECT_EQ(result.heap, 2);
  EXPECT_EQ(result.single, 2);
  EXPECT_EQ(result.persistent, 2);
  EXPECT_EQ(result.pairs, 4);
}

TEST(FaultLoopTest, Creation) { EXPECT_GE(RunAll(CreateScenarios()).sum.maps, 50); }
TEST(FaultLoopTest, StartAndWhatLooks) { EXPECT_GE(RunAll(StartScenarios()).sum.heap, 50); }
TEST(FaultLoopTest, Sequences) { EXPECT_GE(RunAll(SequenceScenarios()).scenarios, 20); }
TEST(FaultLoopTest, Plans) { EXPECT_GE(RunAll(PlanScenarios()).scenarios, 10); }
TEST(FaultLoopTest, Devices) { EXPECT_GE(RunAll(DeviceScenarios()).sum.gpu_calls, 20); }
TEST(FaultLoopTest, Kernels) { EXPECT_GE(RunAll(KernelScenarios()).sum.heap, 2); }

// Of all scenarios above: fewer points than this, and what can fail is no longer made to.
TEST(FaultLoopTest, Together) {
  const FaultResult& s = all_of_them.sum;
  const int64_t points = s.heap + s.maps + s.gpu_calls;
  const int64_t can_fail = all_of_them.scenarios - all_of_them.without_points;
  std::printf(
      "scorecard: faults: %ld scenarios, of them %ld with points that can fail: %ld (heap %ld, "
      "maps %ld, GPU calls %ld); %ld runs with one fault, %ld with all from one on, %ld pairs\n",
      all_of_them.scenarios, can_fail, points, s.heap, s.maps, s.gpu_calls, s.single, s.persistent,
      s.pairs);
  if (all_of_them.scenarios == 0) GTEST_SKIP() << "the others were left out";
  EXPECT_GE(can_fail, 40);
  EXPECT_GE(points, 1000);
  EXPECT_EQ(s.single, points);
  EXPECT_EQ(s.persistent, points);
}

// Copies: the device fails a ticket, or all from one on. That changes what is cached, as
// documented, so what is compared is what stands in the pages: nothing is found, and nothing
// trusted, under tokens that it was not computed from; the rest works on.
TEST(FaultLoopTest, EveryTicketFails) {
  constexpr int32_t kRounds = 5;
  int64_t runs = 0;
  int64_t told = 0;
  int64_t checked = 0;
  for (const bool mixed : {false, true}) {
    Options options = mixed ? MixedOptions() : SmallOptions();
    for (GroupOptions& group : options.groups) group.page_count *= 3;
    for (const size_t depth : {0, 1, 4}) {
      StampedEngine good(options, 0, false, depth);
      good.Work(kRounds);
      good.FinishAndCheck();
      EXPECT_EQ(good.told(), 0);
      ASSERT_GE(good.tickets(), 10u);
      for (const bool stays : {false, true}) {
        for (uint64_t ticket = 1; ticket <= good.tickets(); ++ticket) {
          SCOPED_TRACE(::testing::Message() << "ticket " << ticket << (stays ? " and on" : "")
                                            << ", depth " << depth << ", mixed " << mixed);
          StampedEngine engine(options, ticket, stays, depth);
          engine.Work(kRounds);
          engine.FinishAndCheck();
          ++runs;
          told += engine.told();
          checked += engine.checked();
          if (HasFailure()) return;
        }
      }
    }
  }
  std::printf(
      "scorecard: tickets: %ld runs with failed ones, told %ld times, %ld stamps compared\n", runs,
      told, checked);
  EXPECT_GT(told, runs / 2);
}

// Limits: pages, sequences and nodes run out at every point of a script.

struct Limited {
  std::unique_ptr<KvCache> cache;
  std::vector<Sequence> sequences;
  int64_t refused = 0;

  std::vector<const Sequence*> All() const {
    std::vector<const Sequence*> all;
    for (const Sequence& sequence : sequences) all.push_back(&sequence);
    return all;
  }

  // What is refused has changed nothing; without the other sequences it goes well, or never will.
  template <typename Call>
  bool Try(Call call) {
    const std::string before = Snapshot(*cache, All());
    absl::StatusCode code = call();
    if (code == absl::StatusCode::kOk) return true;
    ++refused;
    EXPECT_EQ(Snapshot(*cache, All()), before);
    if (code == absl::StatusCode::kInvalidArgument) return false;
    EXPECT_EQ(code, absl::StatusCode::kResourceExhausted);
    if (sequences.size() > 1) sequences.erase(sequences.begin(), sequences.end() - 1);
    code = call();
    if (code == absl::StatusCode::kOk) return true;
    sequences.clear();
    return false;
  }

  void Request(const Tokens& prompt) {
    const auto start = [&] {
      absl::StatusOr<Sequence> sequence = cache->Start(prompt);
      if (sequence.ok()) sequences.push_back(*std::move(sequence));
      return sequence.status().code();
    };
    if (!Try(start)) return;
    const auto size = static_cast<int32_t>(prompt.size());
    const auto reserve = [&] {
      return sequences.back().Reserve(size - sequences.back().length()).code();
    };
    if (!Try(reserve)) return;
    RunPlan(*cache);
    const Tokens rest(prompt.begin() + sequences.back().length(), prompt.end());
    EXPECT_OK(sequences.back().Commit(rest));
    const auto fork = [&] {
      absl::StatusOr<Sequence> made = sequences.back().Fork();
      if (made.ok()) sequences.push_back(*std::move(made));
      return made.status().code();
    };
    if (!Try(fork)) return;
    if (!Try([&] { return sequences.back().Reserve(1).code(); })) return;
    RunPlan(*cache);
    EXPECT_OK(sequences.back().Commit(Iota(3, 1)));
  }
};

// The script under these options; returns what was refused.
int64_t RunLimited(const Options& options, Stats* stats) {
  Limited limited = {.cache = NewCache(options), .sequences = {}};
  limited.sequences.reserve(64);
  for (int32_t i = 0; i < 3; ++i) {
    limited.Request(Iota(0, 10) + Iota(100 * (i + 1), 9));
    EXPECT_OK(limited.cache->Validate());
  }
  *stats = limited.cache->stats();
  limited.sequences.clear();
  EXPECT_OK(limited.cache->Validate());
  const GroupStats group = StatsOf(*limited.cache);
  EXPECT_EQ(group.pages_live, 0);
  EXPECT_EQ(group.pages_free + group.pages_cached, options.groups[0].page_count);
  return limited.refused;
}

TEST(FaultLoopTest, PagesAndSequencesRunOutEverywhere) {
  Stats stats;
  int32_t refusing = 0;
  for (int32_t pages = 1; pages <= 32; ++pages) {
    SCOPED_TRACE(pages);
    Options options = SmallOptions();
    options.groups[0].page_count = pages;
    refusing += RunLimited(options, &stats) > 0 ? 1 : 0;
  }
  EXPECT_GT(refusing, 8);
  EXPECT_LT(refusing, 32);
  refusing = 0;
  for (int32_t sequences = 1; sequences <= 8; ++sequences) {
    SCOPED_TRACE(sequences);
    Options options = SmallOptions();
    options.max_sequences = sequences;
    options.groups[0].page_count = 64;
    refusing += RunLimited(options, &stats) > 0 ? 1 : 0;
  }
  EXPECT_EQ(refusing, 5);  // three requests, each with a fork
}

TEST(FaultLoopTest, NodesRunOutEverywhereAndNothingFails) {
  Options options = SmallOptions();
  options.groups[0].page_count = 64;
  Stats enough;
  RunLimited(options, &enough);
  for (int32_t nodes = 1; nodes <= enough.index_nodes; ++nodes) {
    SCOPED_TRACE(nodes);
    options.max_index_nodes = nodes;
    Stats stats;
    EXPECT_EQ(RunLimited(options, &stats), 0);
    EXPECT_EQ(stats.index_nodes, nodes);
    EXPECT_EQ(stats.commits_not_indexed > 0, nodes < enough.index_nodes);
  }
}

// Threads that the kernels start themselves, in a build without OpenMP: what cannot be started is
// done by the caller.
TEST(FaultLoopTest, TasksRunWithoutMemoryForThreads) {
  for (const bool stays : {false, true}) {
    for (int64_t n = 1; n <= 6; ++n) {
      std::array<std::atomic<int32_t>, 9> runs{};
      auto task = [&](int32_t i) { ++runs[static_cast<size_t>(i)]; };
      ArmFaults(n, stays);
      cpu::ParallelFor(nullptr, 9, task);
      DisarmFaults();
      for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
    }
  }
}

}  // namespace
}  // namespace quire::testing
