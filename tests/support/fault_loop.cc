#include "tests/support/fault_loop.h"

#include <algorithm>
#include <new>

#include "gtest/gtest.h"
#include "tests/support/fault_points.h"

namespace quire::testing {
namespace {

// A call that goes wrong may reach other points each time; more than this is a loop without end.
constexpr int64_t kMostPoints = 100000;

struct Call {
  absl::StatusCode answer = absl::StatusCode::kUnknown;
  FaultCount count;
  int64_t heap_kept = 0;  // more than before the call
};

Call MakeCall(FaultWorld& world, int64_t first, bool stays) {
  Call call;
  const int64_t before = Live().heap;
  bool escaped = false;
  ArmFaults(first, stays);
  try {
    call.answer = world.Run();
  } catch (const std::bad_alloc&) {
    escaped = true;
  }
  call.count = DisarmFaults();
  call.heap_kept = Live().heap - before;
  EXPECT_FALSE(escaped) << "an exception left the library";
  return call;
}

// What happens when nothing fails.
struct Expected {
  Call call;
  std::string before;
  std::string after;
  std::string end;
};

Expected Undisturbed(const FaultScenario& scenario) {
  Expected expected;
  const auto world = scenario.set_up();
  expected.before = world->State();
  expected.call = MakeCall(*world, 0, false);
  expected.after = world->State();
  expected.end = world->Finish();
  return expected;
}

// The call answered as it may, and what can be seen is as it was. True: it failed.
bool CheckAnswer(const FaultScenario& scenario, const Expected& expected, FaultWorld& world,
                 const Call& call) {
  const std::string state = world.State();
  if (call.answer == expected.call.answer && state == expected.after) return false;
  const auto& may = scenario.may_answer;
  EXPECT_TRUE(std::find(may.begin(), may.end(), call.answer) != may.end())
      << "answered " << absl::StatusCodeToString(call.answer);
  EXPECT_EQ(state, expected.before) << "a call that failed changed something";
  EXPECT_LE(call.heap_kept, std::max(scenario.may_keep, expected.call.heap_kept))
      << "a call that failed keeps more than one that did not";
  world.CheckFailed();
  return true;
}

enum class Reached { kNo, kUnmoved, kFailed };

// One fault, or all from `first` on; then, if `second` is not 0, one in the repeated call.
Reached RunOne(const FaultScenario& scenario, const Expected& expected, int64_t first, bool stays,
               int64_t second) {
  Reached reached = Reached::kNo;
  const LiveBytes live = Live();
  {
    const auto world = scenario.set_up();
    const Call call = MakeCall(*world, first, stays);
    bool failed = false;
    if (call.count.failed == 0) {
      EXPECT_EQ(call.answer, expected.call.answer);
      EXPECT_EQ(world->State(), expected.after);
    } else {
      failed = CheckAnswer(scenario, expected, *world, call);
      reached = failed ? Reached::kFailed : Reached::kUnmoved;
    }
    if (failed && second > 0) {
      const Call again = MakeCall(*world, second, false);
      if (again.count.failed == 0) reached = Reached::kNo;
      failed = CheckAnswer(scenario, expected, *world, again);
    }
    if (failed) {
      const Call next = MakeCall(*world, 0, false);
      EXPECT_EQ(next.answer, expected.call.answer) << "the next call";
      EXPECT_EQ(world->State(), expected.after) << "the next call";
    }
    EXPECT_EQ(world->Finish(), expected.end) << "what comes after";
  }
  EXPECT_EQ(Live().heap, live.heap) << "heap bytes leaked";
  EXPECT_EQ(Live().mapped, live.mapped) << "mapped bytes leaked";
  return reached;
}

}  // namespace

FaultResult RunFaultLoop(const FaultScenario& scenario, bool pairs) {
  const ::testing::ScopedTrace trace(__FILE__, __LINE__, scenario.name);
  const bool had_failure = ::testing::Test::HasFailure();
  const Expected expected = Undisturbed(scenario);
  const FaultCount& points = expected.call.count;
  FaultResult result;
  result.heap = points.reached[static_cast<size_t>(FaultKind::kHeap)] +
                points.reached[static_cast<size_t>(FaultKind::kAligned)];
  result.maps = points.reached[static_cast<size_t>(FaultKind::kMap)] +
                points.reached[static_cast<size_t>(FaultKind::kAdvice)];
  result.gpu_calls = points.reached[static_cast<size_t>(FaultKind::kGpuCall)];
  EXPECT_EQ(points.points() > 0, scenario.allocates) << points.points() << " fault points";
  for (const bool stays : {false, true}) {
    int64_t& runs = stays ? result.persistent : result.single;
    for (int64_t n = 1;; ++n) {
      const ::testing::ScopedTrace where(
          __FILE__, __LINE__, "point " + std::to_string(n) + (stays ? " and all after it" : ""));
      const Reached reached = RunOne(scenario, expected, n, stays, 0);
      if (reached == Reached::kNo) break;
      ++runs;
      if (reached == Reached::kUnmoved) ++result.unmoved;
      if (n > kMostPoints || (::testing::Test::HasFailure() && !had_failure)) return result;
      for (int64_t m = 1; pairs && !stays && reached == Reached::kFailed; ++m) {
        if (RunOne(scenario, expected, n, false, m) == Reached::kNo) break;
        ++result.pairs;
      }
    }
    // Each point was made to fail: a call may reach more of them when one fails, never fewer.
    EXPECT_GE(runs, points.points());
  }
  return result;
}

}  // namespace quire::testing
