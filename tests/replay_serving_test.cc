// Serving mode: small traces whose times, hits and preemptions were computed by hand, and a storm
// of many requests in a small pool that must keep every promise.

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "bench/replay/serving.h"
#include "bench/replay/trace.h"
#include "gtest/gtest.h"

namespace replay {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Adds a request; ids are those of the prompt's pages, then of the answer's (trace.h).
Request& Add(Trace* trace, int64_t arrival_ms, int32_t input, int32_t output,
             const std::vector<int32_t>& ids) {
  const int32_t page = trace->tokens_per_page;
  Request request;
  request.arrival_ms = arrival_ms;
  request.input_tokens = input;
  request.output_tokens = output;
  request.first_id = static_cast<int64_t>(trace->ids.size());
  request.input_pages = (input + page - 1) / page;
  request.output_pages = output == 0 ? 0 : (input + output + page - 1) / page - input / page;
  EXPECT_EQ(static_cast<int32_t>(ids.size()), request.input_pages + request.output_pages);
  trace->ids.insert(trace->ids.end(), ids.begin(), ids.end());
  trace->requests.push_back(request);
  return trace->requests.back();
}

Trace NewTrace() {
  Trace trace;
  trace.name = "by hand";
  trace.tokens_per_page = 4;
  trace.tenants = {""};
  return trace;
}

// A step takes 1 ms, a prompt token 1 ms more, a decode 0.1 ms and 1 us for each token it reads.
ServingOptions Small() {
  ServingOptions options;
  options.pages = 64;
  options.max_batch = 4;
  options.token_budget = 100;
  options.cost = {1, 1000, kInfinity, 100, 1000};
  return options;
}

// Runs it and checks the manager after each step.
ServingResult Serve(const Trace& trace, ServingOptions options) {
  const auto inner = options.after_step;
  options.after_step = [&](const ServingStep& step) {
    const absl::Status valid = step.cache->Validate();
    EXPECT_TRUE(valid.ok()) << "step " << step.step << ": " << valid;
    if (inner) inner(step);
  };
  absl::StatusOr<ServingResult> result = RunServing(trace, options);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *result : ServingResult{};
}

TEST(Serving, APrefixIsSharedAndTimesAreThoseOfTheCostModel) {
  Trace trace = NewTrace();
  Add(&trace, 0, 10, 3, {1, 2, 3, /*answer*/ 4, 5});
  Add(&trace, 100, 12, 1, {1, 2, 6, /*answer*/ 7});
  const ServingResult result = Serve(trace, Small());

  EXPECT_EQ(result.requests, 2);
  EXPECT_EQ(result.refused, 0);
  EXPECT_EQ(result.input_tokens, 22);
  EXPECT_EQ(result.output_tokens, 4);
  EXPECT_EQ(result.hit_tokens, 8);  // pages 1 and 2
  EXPECT_EQ(result.steps, 4);
  // The first: 1 + 10 ms to its first token, then 1.1 ms + 11 us and 1.1 ms + 12 us. The second:
  // idle until 100 ms, then 1 + 4 ms.
  EXPECT_EQ(result.first_token_ms.count, 2);
  EXPECT_DOUBLE_EQ(result.first_token_ms.p50, 5);
  EXPECT_DOUBLE_EQ(result.first_token_ms.most, 11);
  EXPECT_EQ(result.between_tokens_ms.count, 1);  // of one token there is nothing between
  EXPECT_DOUBLE_EQ(result.between_tokens_ms.p50, 2.223 / 2);
  EXPECT_DOUBLE_EQ(result.end_to_end_ms.p50, 5);
  EXPECT_DOUBLE_EQ(result.end_to_end_ms.most, 13.223);
  EXPECT_DOUBLE_EQ(result.seconds, 0.105);
  EXPECT_DOUBLE_EQ(result.tokens_per_second, 4 / 0.105);
  EXPECT_DOUBLE_EQ(result.requests_per_second, 2 / 0.105);
  // Three pages of 4 in every step, with 10, 11, 12 and 12 tokens.
  EXPECT_DOUBLE_EQ(result.fragmentation, (2 / 12.0 + 1 / 12.0) / 4);
  ASSERT_EQ(result.samples.size(), 4u);
  EXPECT_EQ(result.samples[0].pages_live, 3);
  EXPECT_EQ(result.samples[0].pages_free, 61);
  EXPECT_DOUBLE_EQ(result.samples[3].seconds, 0.105);
  EXPECT_EQ(result.samples[3].pages_live, 3);
  EXPECT_EQ(result.samples[3].pages_cached, 1);  // the first's page with its answer
  EXPECT_EQ(result.manager_us.count, 4);
  EXPECT_EQ(result.preemptions, 0);
  EXPECT_EQ(result.evictions, 0);
}

TEST(Serving, DecodesComeFirstAndPromptsShareTheRestOfTheBudget) {
  Trace trace = NewTrace();
  Add(&trace, 0, 2, 3, {1, 2, 3});
  Add(&trace, 0, 9, 1, {11, 12, 13, 14});
  Add(&trace, 0, 1, 1, {21, 22});
  ServingOptions options = Small();
  options.max_batch = 2;
  options.token_budget = 4;
  std::vector<std::array<int32_t, 4>> steps;
  options.after_step = [&](const ServingStep& step) {
    steps.push_back({step.prompt_tokens, step.decodes, step.running, step.waiting});
  };
  const ServingResult result = Serve(trace, options);
  // The third waits for a place: the first ends with step 3.
  const std::vector<std::array<int32_t, 4>> expected = {
      {4, 0, 2, 1}, {3, 1, 2, 1}, {3, 1, 2, 1}, {2, 0, 2, 0}};
  EXPECT_EQ(steps, expected);
  // Steps: 1 + 4; 1 + 3 + 0.1 + 0.003; 1 + 3 + 0.1 + 0.004; 1 + 2 ms.
  EXPECT_DOUBLE_EQ(result.first_token_ms.p50, 16.207);
  EXPECT_DOUBLE_EQ(result.first_token_ms.mean, (5 + 16.207 + 16.207) / 3);
  EXPECT_DOUBLE_EQ(result.end_to_end_ms.mean, (13.207 + 16.207 + 16.207) / 3);
  EXPECT_DOUBLE_EQ(result.between_tokens_ms.most, (13.207 - 5) / 2);
}

TEST(Serving, ALongPromptIsComputedInChunks) {
  Trace trace = NewTrace();
  Add(&trace, 0, 10, 1, {1, 2, 3, 4});
  ServingOptions options = Small();
  options.token_budget = 4;
  const ServingResult result = Serve(trace, options);
  EXPECT_EQ(result.steps, 3);
  EXPECT_DOUBLE_EQ(result.first_token_ms.most, 3 + 10);
  // Room is taken as it is used: pages 1, 2 and 3 with 4, 8 and 10 tokens.
  EXPECT_DOUBLE_EQ(result.fragmentation, (2 / 12.0) / 3);
}

TEST(Serving, AFollowUpWaitsForTheAnswerAndHitsIt) {
  Trace trace = NewTrace();
  Add(&trace, 0, 10, 3, {1, 2, 3, /*answer*/ 4, 5});
  Add(&trace, 5, 14, 1, {1, 2, 4, 6, /*answer*/ 7}).previous = 0;
  ServingResult result = Serve(trace, Small());
  EXPECT_EQ(result.hit_tokens, 12);  // page 4 has the prompt's last tokens and the answer's first
  EXPECT_DOUBLE_EQ(result.seconds, 0.013223 + 0.003);
  EXPECT_DOUBLE_EQ(result.first_token_ms.p50, 3);  // from when it could arrive

  // Without waiting it comes while the first prompt is computed: only pages 1 and 2 are there.
  ServingOptions impatient = Small();
  impatient.follow_up_waits = false;
  result = Serve(trace, impatient);
  EXPECT_EQ(result.hit_tokens, 8);
}

TEST(Serving, AFollowUpKeepsItsTimeToThink) {
  Trace trace = NewTrace();
  Add(&trace, 0, 8, 1, {101, 102, 103});  // in front: 9 ms
  Add(&trace, 0, 10, 3, {1, 2, 3, 4, 5});
  Add(&trace, 20, 14, 1, {1, 2, 4, 6, 7}).previous = 1;
  ServingOptions options = Small();
  options.max_batch = 1;
  const ServingResult result = Serve(trace, options);
  // Alone the second would have ended at 13.223 ms, and its user then thought 6.777 ms. Now it ends
  // at 22.223 ms, so the third comes at 29 ms and takes 3.
  EXPECT_EQ(result.hit_tokens, 12);
  EXPECT_DOUBLE_EQ(result.seconds, 0.032);
  EXPECT_DOUBLE_EQ(result.end_to_end_ms.most, 22.223);
}

TEST(Serving, SpeedDividesArrivals) {
  Trace trace = NewTrace();
  Add(&trace, 1000, 4, 1, {1, 2});
  Add(&trace, 1100, 4, 1, {3, 4});
  ServingOptions options = Small();
  EXPECT_DOUBLE_EQ(Serve(trace, options).seconds, 0.105);
  options.speed = 2;
  EXPECT_DOUBLE_EQ(Serve(trace, options).seconds, 0.055);
  options.speed = kInfinity;
  EXPECT_DOUBLE_EQ(Serve(trace, options).seconds, 0.009);
}

TEST(Serving, WhoCanNeverFitIsRefusedAndTheRestGoesOn) {
  Trace trace = NewTrace();
  Add(&trace, 0, 16, 1, {1, 2, 3, 4, 5});
  Add(&trace, 0, 8, 5, {11, 12, 13, 14});  // 12 tokens are computed: just fits
  Add(&trace, 0, 8, 6, {21, 22, 23, 24});  // 13 do not
  Add(&trace, 10, 4, 1, {31, 32}).previous = 0;
  ServingOptions options = Small();
  options.pages = 3;
  std::vector<int64_t> done;
  options.progress = [&](int64_t part, int64_t all) {
    EXPECT_EQ(all, 4);
    done.push_back(part);
  };
  const ServingResult result = Serve(trace, options);
  EXPECT_EQ(result.requests, 4);
  EXPECT_EQ(result.refused, 2);
  EXPECT_EQ(result.input_tokens, 12);
  EXPECT_EQ(result.output_tokens, 6);
  EXPECT_EQ(result.end_to_end_ms.count, 2);
  ASSERT_FALSE(done.empty());
  EXPECT_EQ(done.back(), 4);
}

TEST(Serving, ATraceThatIsAllRefusedOrEmptyEnds) {
  Trace trace = NewTrace();
  ServingResult result = Serve(trace, Small());
  EXPECT_EQ(result.steps, 0);
  EXPECT_EQ(result.seconds, 0);
  EXPECT_EQ(result.tokens_per_second, 0);
  Add(&trace, 7, 16, 1, {1, 2, 3, 4, 5});
  ServingOptions options = Small();
  options.pages = 2;
  result = Serve(trace, options);
  EXPECT_EQ(result.refused, 1);
  EXPECT_EQ(result.steps, 0);
}

TEST(Serving, APromptWithoutAnAnswerEndsWhenItIsComputed) {
  Trace trace = NewTrace();
  Add(&trace, 0, 8, 0, {1, 2});
  Add(&trace, 50, 8, 0, {1, 2});
  const ServingResult result = Serve(trace, Small());
  EXPECT_EQ(result.first_token_ms.count, 0);
  EXPECT_EQ(result.end_to_end_ms.count, 2);
  // Page 1 is shared. Of page 2 the last token is computed in any case, and copying the other 3 is
  // not worth it (Options::min_copy_tokens).
  EXPECT_EQ(result.hit_tokens, 4);
  EXPECT_DOUBLE_EQ(result.end_to_end_ms.p50, 5);
}

TEST(Serving, WithoutRoomTheLatestMakesItAndComesBack) {
  Trace trace = NewTrace();
  Add(&trace, 0, 8, 12, {1, 2, /*answer*/ 3, 4, 5});
  Add(&trace, 0, 8, 10, {11, 12, /*answer*/ 13, 14, 15});
  Add(&trace, 0, 4, 1, {21, /*answer*/ 22});
  ServingOptions options = Small();
  options.pages = 6;
  options.max_batch = 2;
  std::vector<int32_t> running;
  options.after_step = [&](const ServingStep& step) { running.push_back(step.running); };
  const ServingResult result = Serve(trace, options);
  // The first two have 3 full pages each when both want a fourth. The second goes; the first takes
  // its last page, then the next, and ends 7 steps later. The second finds its first page and
  // computes 8 tokens, and the newest, again. The third is behind it, and so waits all that time.
  std::vector<int32_t> expected(5, 2);    // the prompts, 4 decodes
  expected.insert(expected.end(), 7, 1);  // the first alone
  expected.push_back(2);                  // the second comes back, the third runs
  expected.insert(expected.end(), 4, 1);  // the second ends
  EXPECT_EQ(running, expected);
  EXPECT_EQ(result.preemptions, 1);
  EXPECT_EQ(result.hit_tokens, 0);  // what a preempted request finds is not a hit
  EXPECT_EQ(result.rehit_tokens, 4);
  EXPECT_EQ(result.recomputed_tokens, 8);
  // Two by the first. The second takes the page that the first had not filled, then two of its full
  // ones and later another; the third takes one.
  EXPECT_EQ(result.evictions, 6);
  EXPECT_EQ(result.end_to_end_ms.count, 3);
}

TEST(Serving, WhoFoundNoRoomIsTriedAgainWhenThereIsMore) {
  Trace trace = NewTrace();
  Add(&trace, 0, 8, 12, {1, 2, /*answer*/ 3, 4, 5});
  Add(&trace, 0, 8, 1, {11, 12, /*answer*/ 13});
  Add(&trace, 0, 12, 1, {21, 22, 23, /*answer*/ 24});
  ServingOptions options = Small();
  options.pages = 6;
  std::vector<int32_t> running;
  options.after_step = [&](const ServingStep& step) { running.push_back(step.running); };
  const ServingResult result = Serve(trace, options);
  // Of 6 pages the first two take 4. When the second has ended, the first has 3: 3 are left.
  std::vector<int32_t> expected(2, 2);
  expected.insert(expected.end(), 10, 1);
  EXPECT_EQ(running, expected);
  EXPECT_EQ(result.preemptions, 0);
}

TEST(Serving, APromptWaitsUntilAllOfItHasRoom) {
  Trace trace = NewTrace();
  Add(&trace, 0, 12, 1, {1, 2, 3, 4});
  Add(&trace, 0, 12, 1, {11, 12, 13, 14});
  ServingOptions options = Small();
  options.pages = 5;
  options.token_budget = 8;
  std::vector<int32_t> running;
  options.after_step = [&](const ServingStep& step) { running.push_back(step.running); };
  const ServingResult result = Serve(trace, options);
  // After its first chunk the first has 2 pages; the third is promised to it, so 2 are left.
  EXPECT_EQ(running, (std::vector<int32_t>{1, 1, 1, 1}));
  EXPECT_EQ(result.preemptions, 0);
}

TEST(Serving, PagesInUseBySomebodyElseNeedNoRoom) {
  Trace trace = NewTrace();
  Add(&trace, 0, 12, 8, {1, 2, 3, /*answer*/ 4, 5});
  Add(&trace, 14, 13, 1, {1, 2, 3, 11, /*answer*/ 12});
  ServingOptions options = Small();
  options.pages = 5;
  int32_t most = 0;
  options.after_step = [&](const ServingStep& step) { most = std::max(most, step.running); };
  const ServingResult result = Serve(trace, options);
  EXPECT_EQ(most, 2);
  EXPECT_EQ(result.hit_tokens, 12);
  EXPECT_EQ(result.preemptions, 0);
}

TEST(Serving, TenantsShareNothing) {
  Trace trace = NewTrace();
  Add(&trace, 0, 10, 1, {1, 2, 3, 4});
  Add(&trace, 50, 10, 1, {1, 2, 3, 4});
  EXPECT_EQ(Serve(trace, Small()).hit_tokens, 8);
  trace.tenants = {"a", "b"};
  trace.requests[1].tenant = 1;
  EXPECT_EQ(Serve(trace, Small()).hit_tokens, 0);
  trace.requests[0].tenant = 1;
  EXPECT_EQ(Serve(trace, Small()).hit_tokens, 8);
}

TEST(Serving, LifetimesEndWhenAPageIsHandedOutAgain) {
  Trace trace = NewTrace();
  for (int32_t i = 0; i < 4; ++i) Add(&trace, 100 * i, 8, 0, {2 * i, 2 * i + 1});
  ServingOptions options = Small();
  options.pages = 4;
  const ServingResult result = Serve(trace, options);
  // The third request takes the first's two pages, two requests later; the fourth the second's.
  std::array<int64_t, 32> expected{};
  expected[1] = 4;
  EXPECT_EQ(result.lifetimes.bins, expected);
}

TEST(Serving, AHitDoesNotEndAPagesLife) {
  Trace trace = NewTrace();
  Add(&trace, 0, 8, 0, {1, 2});
  Add(&trace, 50, 8, 0, {1, 3});
  const ServingResult result = Serve(trace, Small());
  EXPECT_EQ(result.hit_tokens, 4);
  EXPECT_EQ(result.lifetimes.bins, (std::array<int64_t, 32>{}));
}

// Many requests with shared prefixes, follow-ups and two tenants.
Trace Storm() {
  Trace trace = NewTrace();
  trace.tenants = {"a", "b"};
  uint64_t state = 1;
  const auto below = [&](uint64_t limit) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int32_t>((state >> 33) % limit);
  };
  for (int32_t i = 0; i < 300; ++i) {
    const int32_t input = 1 + below(40);
    const int32_t output = below(30);
    const int32_t prompt_pages = (input + 3) / 4;
    const int32_t answer_pages = output == 0 ? 0 : (input + output + 3) / 4 - input / 4;
    const int32_t shared = below(5);  // pages of one of three long prefixes
    const int32_t prefix = 1000000 * (1 + below(3));
    std::vector<int32_t> ids;
    for (int32_t p = 0; p < prompt_pages + answer_pages; ++p) {
      ids.push_back(p < std::min(shared, prompt_pages) ? prefix + p : 100 * i + p);
    }
    Request& request = Add(&trace, 3 * i, input, output, ids);
    if (i > 0 && below(3) == 0) request.previous = below(static_cast<uint64_t>(i));
    request.tenant = below(2);
  }
  return trace;
}

TEST(Serving, AStormInASmallPoolKeepsEveryPromise) {
  const Trace trace = Storm();
  ServingOptions options = Small();
  options.pages = 20;  // the largest request needs 17
  options.max_batch = 4;
  options.token_budget = 16;
  int32_t most_running = 0, most_tokens = 0;
  double last = 0;
  options.after_step = [&](const ServingStep& step) {
    most_running = std::max(most_running, step.running);
    most_tokens = std::max(most_tokens, step.prompt_tokens + step.decodes);
    EXPECT_GT(step.seconds, last);
    last = step.seconds;
    EXPECT_GE(step.fragmentation, 0);
    EXPECT_LT(step.fragmentation, 1);
  };
  const ServingResult result = Serve(trace, options);
  EXPECT_EQ(most_running, 4);
  EXPECT_EQ(most_tokens, 16);
  EXPECT_GT(result.preemptions, 10);
  EXPECT_GT(result.hit_tokens, 0);
  EXPECT_GT(result.rehit_tokens, 0);
  EXPECT_EQ(result.refused, 0);
  EXPECT_EQ(result.end_to_end_ms.count, 300);
  // The oldest gets on in every step, so there are no more steps than tokens.
  EXPECT_LE(result.steps, result.input_tokens + result.output_tokens);
  ASSERT_GE(result.samples.size(), 500u);
  ASSERT_LE(result.samples.size(), 1000u);
  for (const Sample& sample : result.samples) {
    EXPECT_EQ(sample.pages_free + sample.pages_live + sample.pages_cached, 20);
  }
}

void ExpectSame(const Percentiles& a, const Percentiles& b) {
  EXPECT_EQ(a.count, b.count);
  EXPECT_EQ(a.mean, b.mean);
  EXPECT_EQ(a.p50, b.p50);
  EXPECT_EQ(a.p99, b.p99);
  EXPECT_EQ(a.most, b.most);
}

TEST(Serving, TheSameAgainGivesTheSame) {
  const Trace trace = Storm();
  ServingOptions options = Small();
  options.pages = 20;
  const ServingResult a = Serve(trace, options);
  const ServingResult b = Serve(trace, options);
  EXPECT_EQ(a.steps, b.steps);
  EXPECT_EQ(a.seconds, b.seconds);
  EXPECT_EQ(a.hit_tokens, b.hit_tokens);
  EXPECT_EQ(a.rehit_tokens, b.rehit_tokens);
  EXPECT_EQ(a.recomputed_tokens, b.recomputed_tokens);
  EXPECT_EQ(a.preemptions, b.preemptions);
  EXPECT_EQ(a.evictions, b.evictions);
  EXPECT_EQ(a.fragmentation, b.fragmentation);
  EXPECT_EQ(a.lifetimes.bins, b.lifetimes.bins);
  ExpectSame(a.first_token_ms, b.first_token_ms);
  ExpectSame(a.between_tokens_ms, b.between_tokens_ms);
  ExpectSame(a.end_to_end_ms, b.end_to_end_ms);
  ASSERT_EQ(a.samples.size(), b.samples.size());
  for (size_t i = 0; i < a.samples.size(); ++i) {
    EXPECT_EQ(a.samples[i].seconds, b.samples[i].seconds);
    EXPECT_EQ(a.samples[i].pages_live, b.samples[i].pages_live);
  }
}

TEST(Serving, RefusesOptionsThatCannotWork) {
  Trace trace = NewTrace();
  Add(&trace, 0, 4, 1, {1, 2});
  const auto message = [&](const ServingOptions& options) {
    const absl::Status status = RunServing(trace, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  ServingOptions options = Small();
  options.max_batch = 0;
  EXPECT_EQ(message(options), "max_batch is 0; it must be in [1, 1048576]");
  options = Small();
  options.token_budget = 3;
  EXPECT_EQ(message(options), "token_budget is 3; it must be in [4, 1073741824]");
  options = Small();
  options.pages = 0;
  EXPECT_NE(message(options).find("page_count"), std::string::npos) << message(options);
  options = Small();
  options.speed = 0;
  EXPECT_NE(message(options).find("speed is 0"), std::string::npos);
  options = Small();
  options.cost.prefill_us = -1;
  EXPECT_NE(message(options).find("prefill_us is -1"), std::string::npos);
  options = Small();
  options.cost.fixed_ms = 1e13;
  EXPECT_NE(message(options).find("a hundred years"), std::string::npos);
  trace.requests[0].input_tokens = 0;
  EXPECT_EQ(message(Small()),
            "request 0 of by hand: input_tokens is 0; it must be in [1, 2147483646]");
}

}  // namespace
}  // namespace replay
