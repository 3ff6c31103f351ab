// The whole engine under simulation (tests/support/simulation.h): requests, cache and ranks in one
// thread, every step decided by a seed.
//
//   QUIRE_SIMULATION_SEEDS   how many seeds to run; 2000 in an optimised build, 40 otherwise
//   QUIRE_SIMULATION_FIRST   the first of them; 0
//   QUIRE_SIMULATION_STEPS   steps of each; 5000
//   QUIRE_SIMULATION_SEED    runs this one alone
//
// A failure prints its seed and step. quire_simulation FIRST COUNT prints the hash of each trace;
// tests/simulation/compare_builds.sh compares them between compilers and levels of optimisation.

#include "tests/support/simulation.h"

#include <array>
#include <cstdio>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/seeded.h"
#include "tests/support/simulation_tracker.h"

namespace quire::testing {
namespace {

#ifdef NDEBUG
constexpr uint64_t kSeeds = 2000, kReplays = 200;
#else
constexpr uint64_t kSeeds = 40, kReplays = 8;
#endif

// A bit for each point at which a request was aborted: before each phase of the engine's step, and
// between two ranks of copying and launching. See Simulation::AbortSomebody.
constexpr uint32_t kAllAbortPoints = 0x17D5;

int32_t Steps() { return static_cast<int32_t>(FromEnvironment("QUIRE_SIMULATION_STEPS", 5000)); }

void ExpectAllHappened(const SimulationCounts& counts) {
  EXPECT_GT(counts.results, 0);
  EXPECT_GT(counts.results_void, 0);
  EXPECT_GT(counts.hits, 0);
  EXPECT_GT(counts.copies, 0);
  EXPECT_GT(counts.scrubs, 0);
  EXPECT_GT(counts.plans_failed, 0);
  EXPECT_GT(counts.answers_ignored, 0);
  EXPECT_GT(counts.fences, 0);
  EXPECT_GT(counts.resets, 0);
  EXPECT_GT(counts.preemptions, 0);
  EXPECT_GT(counts.losses, 0);
  EXPECT_GT(counts.forks, 0);
  EXPECT_GT(counts.truncates, 0);
  EXPECT_GT(counts.drafts_rejected, 0);
  EXPECT_GT(counts.finished, 0);
  EXPECT_GT(counts.drains, 0);
  EXPECT_EQ(counts.abort_phases, kAllAbortPoints);
}

TEST(SimulationTest, NobodyReadsAnothersBytesAndNoPageIsLost) {
  const int64_t alone = FromEnvironment("QUIRE_SIMULATION_SEED", -1);
  const auto first =
      static_cast<uint64_t>(alone >= 0 ? alone : FromEnvironment("QUIRE_SIMULATION_FIRST", 0));
  const auto count =
      static_cast<uint64_t>(alone >= 0 ? 1 : FromEnvironment("QUIRE_SIMULATION_SEEDS", kSeeds));
  SimulationCounts counts;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const SimulationReport report = RunSimulation(seed, Steps());
    EXPECT_EQ(report.violation, "") << "QUIRE_SIMULATION_SEED=" << seed;
    Add(report.counts, &counts);
  }
  std::cout << "scorecard: simulation: " << count << " seeds from " << first << ": " << counts
            << '\n';
  if (count >= kSeeds) ExpectAllHappened(counts);
}

std::string HashesHere(uint64_t count, int32_t steps) {
  std::ostringstream lines;
  for (uint64_t seed = 0; seed < count; ++seed) {
    lines << seed << ' ' << std::hex << std::setfill('0') << std::setw(16)
          << RunSimulation(seed, steps).hash << std::dec << '\n';
  }
  return lines.str();
}

TEST(SimulationTest, ASeedGivesTheSameTraceAgainAndInAnotherProcess) {
  const std::string first = HashesHere(kReplays, Steps());
  EXPECT_EQ(HashesHere(kReplays, Steps()), first);
  const std::string command = std::string(QUIRE_SIMULATION) + " 0 " + std::to_string(kReplays) +
                              ' ' + std::to_string(Steps()) + " 2> /dev/null";
  std::FILE* pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string other;
  std::array<char, 4096> buffer;
  for (size_t got; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    other.append(buffer.data(), got);
  }
  EXPECT_EQ(pclose(pipe), 0);
  EXPECT_EQ(other, first);
}

// Otherwise the test above would compare nothing.
TEST(SimulationTest, OtherSeedsAndOtherLengthsGiveOtherTraces) {
  EXPECT_NE(RunSimulation(1, 500).hash, RunSimulation(2, 500).hash);
  EXPECT_NE(RunSimulation(1, 500).hash, RunSimulation(1, 501).hash);
}

// What an engine can do wrong, each alone; and that the simulation says what it must.
struct FaultCase {
  const char* name;
  EngineFault fault;
  const char* says;
};

void PrintTo(const FaultCase& fault, std::ostream* out) { *out << fault.name; }

class SimulationFaultTest : public ::testing::TestWithParam<FaultCase> {};

TEST_P(SimulationFaultTest, IsFound) {
  constexpr uint64_t kMostSeeds = 60;
  for (uint64_t seed = 0; seed < kMostSeeds; ++seed) {
    const SimulationReport report = RunSimulation(seed, Steps(), GetParam().fault);
    if (report.violation.empty()) continue;
    EXPECT_NE(report.violation.find(GetParam().says), std::string::npos) << report.violation;
    return;
  }
  FAIL() << "not found in " << kMostSeeds << " seeds";
}

constexpr const char* kBytes = "bytes of another";

INSTANTIATE_TEST_SUITE_P(
    All, SimulationFaultTest,
    ::testing::Values(
        FaultCase{"RetiresAtTheFirstAnswer", EngineFault::kRetiresAtTheFirstAnswer, kBytes},
        FaultCase{"RetiresWithoutStatus", EngineFault::kRetiresWithoutStatus, kBytes},
        FaultCase{"GivesUpWithoutAFence", EngineFault::kGivesUpWithoutAFence, kBytes},
        FaultCase{"TakesAnyAnswer", EngineFault::kTakesAnyAnswer, kBytes},
        FaultCase{"IgnoresRefusedCopies", EngineFault::kIgnoresRefusedCopies, kBytes},
        FaultCase{"DeliversEarly", EngineFault::kDeliversEarly, kBytes},
        FaultCase{"SkipsARank", EngineFault::kSkipsARank, kBytes},
        FaultCase{"KeepsTheCacheAfterAReset", EngineFault::kKeepsTheCacheAfterAReset, kBytes},
        FaultCase{"KeepsTheCacheAcrossWeights", EngineFault::kKeepsTheCacheAcrossWeights, kBytes},
        FaultCase{"SkipsScrubs", EngineFault::kSkipsScrubs, "bytes of another namespace"},
        // Pages run out, or failures are never told: whichever comes first.
        FaultCase{"ForgetsToRetire", EngineFault::kForgetsToRetire, ""}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(CompletionTrackerTest, RetiresInOrderOnceWithTheWorstStatus) {
  const absl::Status lost = absl::DataLossError("");
  CompletionTracker tracker(2);
  EXPECT_TRUE(tracker.empty());
  tracker.Add(Ticket{1});
  tracker.Add(Ticket{2});
  EXPECT_TRUE(tracker.Answer(0, Ticket{2}, absl::OkStatus()));
  EXPECT_TRUE(tracker.Answer(1, Ticket{2}, absl::OkStatus()));
  EXPECT_FALSE(tracker.TakeDone().has_value());  // the first one is still open
  EXPECT_TRUE(tracker.Answer(1, Ticket{1}, lost));
  EXPECT_FALSE(tracker.Answer(1, Ticket{1}, absl::OkStatus()));  // twice
  EXPECT_TRUE(tracker.Owes(0));
  EXPECT_FALSE(tracker.Owes(1));
  EXPECT_FALSE(tracker.TakeDone().has_value());
  EXPECT_TRUE(tracker.Answer(0, Ticket{1}, absl::OkStatus()));
  EXPECT_EQ(tracker.TakeDone(), std::pair(Ticket{1}, lost));
  EXPECT_EQ(tracker.TakeDone(), std::pair(Ticket{2}, absl::OkStatus()));
  EXPECT_FALSE(tracker.TakeDone().has_value());
  EXPECT_FALSE(tracker.Answer(0, Ticket{1}, lost));  // late
}

TEST(CompletionTrackerTest, AFenceAnswersForOneRankUpToATicket) {
  const absl::Status unknown = absl::UnavailableError("");
  CompletionTracker tracker(2);
  for (uint64_t t = 1; t <= 3; ++t) tracker.Add(Ticket{t});
  tracker.Answer(0, Ticket{1}, absl::OkStatus());
  tracker.Fence(0, Ticket{2}, unknown);
  for (uint64_t t = 1; t <= 3; ++t) tracker.Answer(1, Ticket{t}, absl::OkStatus());
  EXPECT_EQ(tracker.TakeDone(), std::pair(Ticket{1}, absl::OkStatus()));
  EXPECT_EQ(tracker.TakeDone(), std::pair(Ticket{2}, unknown));
  EXPECT_FALSE(tracker.TakeDone().has_value());
  EXPECT_EQ(tracker.oldest(), Ticket{3});
}

}  // namespace
}  // namespace quire::testing
