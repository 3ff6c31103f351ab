#include "bench/replay/arrivals.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"

namespace replay {
namespace {

constexpr double kLongestMs = 1e12;  // 31 years: sums of a few stay far inside Nanoseconds

// What a request takes alone on an idle system with nothing cached.
Nanoseconds AloneNs(const Request& request, const Arrivals::Options& options) {
  const CostModel& cost = options.cost;
  const int64_t prompt = request.input_tokens;
  const int64_t chunks = (prompt + options.token_budget - 1) / options.token_budget;
  const int64_t decodes = std::max<int64_t>(request.output_tokens - 1, 0);
  // The k-th decode step computes token prompt + k - 1 and reads that and all before.
  const int64_t reads = decodes * prompt + decodes * (decodes + 1) / 2;
  const double us = cost.StepUs(cost.PrefillUs(0, prompt), decodes, reads) +
                    cost.fixed_ms * 1000 * static_cast<double>(chunks - 1 + decodes);
  return std::llround(std::min(us, kLongestMs * 1000) * 1000);
}

}  // namespace

absl::StatusOr<Arrivals> Arrivals::Create(const Trace& trace, const Options& options) {
  if (!(options.speed > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the speed is ", options.speed,
                     "; arrivals are divided by it, so it must be above 0 (inf: all at once)"));
  }
  Arrivals arrivals;
  const size_t count = trace.requests.size();
  int64_t first_ms = INT64_MAX;
  for (const Request& request : trace.requests) first_ms = std::min(first_ms, request.arrival_ms);
  arrivals.times_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const Request& request = trace.requests[i];
    if (request.previous < -1 || request.previous >= static_cast<int64_t>(i)) {
      return absl::InvalidArgumentError(absl::StrCat("request ", i, " follows request ",
                                                     request.previous,
                                                     "; it can only follow an earlier one"));
    }
    const double ms = static_cast<double>(request.arrival_ms - first_ms) / options.speed;
    if (ms > kLongestMs) {
      return absl::InvalidArgumentError(
          absl::StrCat("request ", i, " arrives ", ms, " ms after the first at speed ",
                       options.speed, "; more than ", kLongestMs, " ms: take a higher speed"));
    }
    arrivals.times_[i] = std::llround(ms * 1e6);
  }
  arrivals.LinkFollowUps(trace, options);
  return arrivals;
}

void Arrivals::LinkFollowUps(const Trace& trace, const Options& options) {
  const auto count = static_cast<int32_t>(times_.size());
  first_follow_up_.assign(times_.size(), -1);
  next_follow_up_.assign(times_.size(), -1);
  think_.assign(times_.size(), 0);
  for (int32_t request = 0; request < count; ++request) {
    const auto i = static_cast<size_t>(request);
    const int32_t previous = trace.requests[i].previous;
    if (previous < 0 || !options.follow_up_waits) {
      due_.emplace(times_[i], request);
      continue;
    }
    const auto p = static_cast<size_t>(previous);
    think_[i] =
        std::max<Nanoseconds>(0, times_[i] - times_[p] - AloneNs(trace.requests[p], options));
    next_follow_up_[i] = first_follow_up_[p];
    first_follow_up_[p] = request;
  }
}

int32_t Arrivals::Pop() {
  const int32_t request = due_.top().second;
  due_.pop();
  return request;
}

void Arrivals::Ended(int32_t request, Nanoseconds now) {
  for (int32_t next = first_follow_up_[static_cast<size_t>(request)]; next >= 0;
       next = next_follow_up_[static_cast<size_t>(next)]) {
    const auto i = static_cast<size_t>(next);
    times_[i] = std::max(times_[i], now + think_[i]);
    due_.emplace(times_[i], next);
  }
}

}  // namespace replay
