// The parts of the serving replay, each alone: percentiles, the cost model, arrivals, samples,
// lifetimes.

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "bench/replay/arrivals.h"
#include "bench/replay/cost_model.h"
#include "bench/replay/percentiles.h"
#include "bench/replay/serving_stats.h"
#include "gtest/gtest.h"

namespace replay {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(Percentiles, NoValuesAreAllZero) {
  const Percentiles none = PercentilesOf({});
  EXPECT_EQ(none.count, 0);
  EXPECT_EQ(none.mean, 0);
  EXPECT_EQ(none.p50, 0);
  EXPECT_EQ(none.most, 0);
}

TEST(Percentiles, OneValueIsEveryPercentile) {
  const Percentiles one = PercentilesOf({7});
  EXPECT_EQ(one.count, 1);
  EXPECT_EQ(one.mean, 7);
  EXPECT_EQ(one.p50, 7);
  EXPECT_EQ(one.p99, 7);
  EXPECT_EQ(one.most, 7);
}

TEST(Percentiles, NearestRankOfAHundred) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Percentiles all = PercentilesOf(values);
  EXPECT_EQ(all.count, 100);
  EXPECT_EQ(all.mean, 50.5);
  EXPECT_EQ(all.p50, 50);
  EXPECT_EQ(all.p90, 90);
  EXPECT_EQ(all.p95, 95);
  EXPECT_EQ(all.p99, 99);
  EXPECT_EQ(all.most, 100);
}

TEST(Percentiles, ARankBetweenTwoIsTheUpper) {
  const Percentiles five = PercentilesOf({50, 10, 40, 20, 30});
  EXPECT_EQ(five.p50, 30);  // rank 2.5 -> 3
  EXPECT_EQ(five.p90, 50);  // rank 4.5 -> 5
  const Percentiles four = PercentilesOf({4, 3, 2, 1});
  EXPECT_EQ(four.p50, 2);  // rank 2
  EXPECT_EQ(four.p90, 4);  // rank 3.6 -> 4
}

TEST(CostModel, SaysItsFormulaWithItsNumbers) {
  CostModel cost;
  cost.fixed_ms = 1.5;
  cost.prefill_us = 2;
  cost.context = 30518;
  cost.decode_us = 0.25;
  cost.read_us_per_ktok = 8;
  EXPECT_EQ(Describe(cost),
            "step = 1.5 ms + 2 us * sum over new prompt tokens t of (1 + t / 30518) + 0.25 us * "
            "decoding sequences + 8 us * 1000 tokens of K/V that those read");
}

TEST(CostModel, AddsUpAStep) {
  CostModel cost;
  cost.fixed_ms = 1;
  cost.prefill_us = 10;
  cost.context = 4;
  cost.decode_us = 3;
  cost.read_us_per_ktok = 500;
  // Tokens 2 and 3: 10 * (1 + 2/4) + 10 * (1 + 3/4).
  EXPECT_EQ(cost.PrefillUs(2, 4), 32.5);
  EXPECT_EQ(cost.StepUs(32.5, 2, 20), 1000 + 32.5 + 6 + 10);
}

TEST(CostModel, RefusesWhatIsOutOfRangeByName) {
  EXPECT_TRUE(CheckCostModel({}).ok());
  EXPECT_TRUE(CheckCostModel({0, 0, kInfinity, 0, 0}).ok());
  const auto message = [](const CostModel& cost) {
    const absl::Status status = CheckCostModel(cost);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_NE(message({-1, 0, 1, 0, 0}).find("fixed_ms is -1;"), std::string::npos);
  EXPECT_NE(message({0, kNan, 1, 0, 0}).find("prefill_us is nan"), std::string::npos);
  EXPECT_NE(message({0, 0, 0, 0, 0}).find("context is 0;"), std::string::npos);
  EXPECT_NE(message({0, 0, kNan, 0, 0}).find("context is nan;"), std::string::npos);
  EXPECT_NE(message({0, 0, 1, kInfinity, 0}).find("decode_us is inf"), std::string::npos);
  EXPECT_NE(message({0, 0, 1, 0, -0.5}).find("read_us_per_ktok is -0.5"), std::string::npos);
}

Request At(int64_t arrival_ms, int32_t previous = -1) {
  Request request;
  request.arrival_ms = arrival_ms;
  request.input_tokens = 10;
  request.output_tokens = 3;
  request.previous = previous;
  return request;
}

// A request of At takes 3 chunks and 2 decode steps alone: 5 + 10 + 0.2 + 0.011 + 0.012 ms.
Arrivals::Options SmallCost() {
  Arrivals::Options options;
  options.cost = {1, 1000, kInfinity, 100, 1000};
  options.token_budget = 4;
  return options;
}
constexpr Nanoseconds kAlone = 15223000;
constexpr Nanoseconds kMs = 1000000;

TEST(Arrivals, AreCountedFromTheFirstAndDividedBySpeed) {
  Trace trace;
  trace.requests = {At(5000), At(5030), At(5030)};
  Arrivals::Options options = SmallCost();
  options.speed = 4;
  absl::StatusOr<Arrivals> arrivals = Arrivals::Create(trace, options);
  ASSERT_TRUE(arrivals.ok()) << arrivals.status();
  EXPECT_EQ(arrivals->next(), 0);
  EXPECT_EQ(arrivals->Pop(), 0);
  EXPECT_EQ(arrivals->next(), 7500000);
  EXPECT_EQ(arrivals->Pop(), 1);
  EXPECT_EQ(arrivals->Pop(), 2);
  EXPECT_TRUE(arrivals->empty());
  EXPECT_EQ(arrivals->arrived(2), 7500000);
}

TEST(Arrivals, AtInfiniteSpeedAllFirstTurnsComeAtOnce) {
  Trace trace;
  trace.requests = {At(0), At(50), At(60, 1)};
  Arrivals::Options options = SmallCost();
  options.speed = kInfinity;
  absl::StatusOr<Arrivals> arrivals = Arrivals::Create(trace, options);
  ASSERT_TRUE(arrivals.ok()) << arrivals.status();
  EXPECT_EQ(arrivals->Pop(), 0);
  EXPECT_EQ(arrivals->next(), 0);
  EXPECT_EQ(arrivals->Pop(), 1);
  EXPECT_TRUE(arrivals->empty());
  arrivals->Ended(1, 123);
  EXPECT_EQ(arrivals->next(), 123);  // no time to think either
}

TEST(Arrivals, AFollowUpWaitsForTheAnswerAndThenThinks) {
  Trace trace;
  trace.requests = {At(0), At(20, 0), At(5, 0), At(1, 2)};
  absl::StatusOr<Arrivals> arrivals = Arrivals::Create(trace, SmallCost());
  ASSERT_TRUE(arrivals.ok()) << arrivals.status();
  EXPECT_EQ(arrivals->Pop(), 0);
  EXPECT_TRUE(arrivals->empty());
  arrivals->Ended(0, kAlone + 7 * kMs);
  // Request 2 came before the answer could be there: no thinking. Request 1 thought 20 ms - alone.
  EXPECT_EQ(arrivals->next(), kAlone + 7 * kMs);
  EXPECT_EQ(arrivals->Pop(), 2);
  EXPECT_EQ(arrivals->next(), 27 * kMs);
  EXPECT_EQ(arrivals->Pop(), 1);
  EXPECT_TRUE(arrivals->empty());
  arrivals->Ended(2, 40 * kMs);
  EXPECT_EQ(arrivals->Pop(), 3);
  EXPECT_EQ(arrivals->arrived(3), 40 * kMs);
}

TEST(Arrivals, AFollowUpIsNotEarlyWhereTheAnswerIs) {
  Trace trace;
  trace.requests = {At(0), At(20, 0)};
  absl::StatusOr<Arrivals> arrivals = Arrivals::Create(trace, SmallCost());
  ASSERT_TRUE(arrivals.ok()) << arrivals.status();
  EXPECT_EQ(arrivals->Pop(), 0);
  arrivals->Ended(0, 2 * kMs);
  EXPECT_EQ(arrivals->next(), 20 * kMs);
}

TEST(Arrivals, FollowUpsNeedNotWait) {
  Trace trace;
  trace.requests = {At(0), At(5, 0)};
  Arrivals::Options options = SmallCost();
  options.follow_up_waits = false;
  absl::StatusOr<Arrivals> arrivals = Arrivals::Create(trace, options);
  ASSERT_TRUE(arrivals.ok()) << arrivals.status();
  EXPECT_EQ(arrivals->Pop(), 0);
  EXPECT_EQ(arrivals->next(), 5 * kMs);
}

TEST(Arrivals, RefusesSpeedsAndTurnsThatCannotBe) {
  Trace trace;
  trace.requests = {At(0), At(10)};
  for (const double speed : {0.0, -1.0, kNan, 1e-300}) {
    Arrivals::Options options = SmallCost();
    options.speed = speed;
    const absl::Status status = Arrivals::Create(trace, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << speed;
    EXPECT_NE(status.message().find("speed"), absl::string_view::npos) << status;
  }
  trace.requests[1].previous = 1;
  const absl::Status status = Arrivals::Create(trace, SmallCost()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "request 1 follows request 1; it can only follow an earlier one");
}

TEST(SampleKeeper, SpreadsAFewOverAllSteps) {
  SampleKeeper keeper(4);
  for (int64_t step = 0; step < 21; ++step) {
    if (!keeper.Wants(step)) continue;
    Sample sample;
    sample.seconds = static_cast<double>(step);
    keeper.Add(sample);
  }
  std::vector<double> steps;
  for (const Sample& sample : keeper.Take()) steps.push_back(sample.seconds);
  EXPECT_EQ(steps, (std::vector<double>{0, 8, 16}));
}

TEST(SampleKeeper, KeepsAllOfAShortRun) {
  SampleKeeper keeper(4);
  for (int64_t step = 0; step < 4; ++step) {
    ASSERT_TRUE(keeper.Wants(step));
    keeper.Add({});
  }
  EXPECT_EQ(keeper.Take().size(), 4u);
}

TEST(PageLives, CountsFromOneHandingOutToTheNext) {
  using quire::PageId;
  PageLives lives(3);
  const std::vector<PageId> all = {PageId{0}, PageId{1}, PageId{2}};
  lives.HandedOut(all, 10);
  const std::vector<PageId> first = {PageId{0}};
  lives.HandedOut(first, 10);  // 0: bin 0
  lives.HandedOut(first, 11);  // 1: bin 0
  const std::vector<PageId> second = {PageId{1}};
  lives.HandedOut(second, 12);    // 2: bin 1
  lives.HandedOut(second, 15);    // 3: bin 1
  lives.HandedOut(second, 1039);  // 1024: bin 10
  std::array<int64_t, 32> expected{};
  expected[0] = 2;
  expected[1] = 2;
  expected[10] = 1;
  EXPECT_EQ(lives.lifetimes().bins, expected);
}

}  // namespace
}  // namespace replay
