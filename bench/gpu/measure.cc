#include "bench/gpu/measure.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "bench/gpu/yardsticks.h"

namespace quire::bench {
namespace {

constexpr int kMostSamples = 50;
constexpr int kLeastSamples = 9;
constexpr double kBudgetUs = 2e5;

// About 50 microseconds: longer than a host needs to queue an event, a graph and an event.
constexpr int64_t kDelayClocks = 90000;

class Event {
 public:
  Event() { Check(cudaEventCreate(&event_), "making an event"); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cudaEventDestroy(event_); }

  void Record() const { Check(cudaEventRecord(event_, BenchStream()), "recording an event"); }
  double MicrosecondsTo(const Event& end) const {
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, event_, end.event_), "reading an event");
    return 1e3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

struct Span {
  Event begin;
  Event end;
};

void Wait() { Check(cudaStreamSynchronize(BenchStream()), "running what is measured"); }

template <typename Work>
void QueueSample(const Span& span, Work work) {
  LaunchDelay(kDelayClocks);
  span.begin.Record();
  work();
  span.end.Record();
}

}  // namespace

int32_t ColdCopies(int64_t bytes, int64_t room) {
  const int64_t wanted = std::clamp<int64_t>(kColdBytes / bytes + 1, 2, 128);
  return static_cast<int32_t>(std::max<int64_t>(1, std::min(wanted, room / bytes)));
}

Timing Measure(size_t count, int32_t calls, const std::function<void(size_t)>& queue) {
  for (size_t i = 0; i < count; ++i) queue(i);
  const Span first;
  QueueSample(first, [&] { queue(0); });
  Wait();
  const double estimate = std::max(1.0, first.begin.MicrosecondsTo(first.end));
  const int samples =
      static_cast<int>(std::clamp<double>(kBudgetUs / estimate, kLeastSamples, kMostSamples));
  const std::vector<Span> spans(static_cast<size_t>(samples));
  for (size_t i = 0; i < spans.size(); ++i) {
    QueueSample(spans[i], [&] { queue((i + 1) % count); });
  }
  Wait();
  std::vector<double> us;
  for (const Span& span : spans) us.push_back(span.begin.MicrosecondsTo(span.end) / calls);
  std::sort(us.begin(), us.end());
  const auto at = [&](double quantile) {
    return us[static_cast<size_t>(std::lround(quantile * static_cast<double>(us.size() - 1)))];
  };
  return {at(0.5), at(0.95), samples};
}

}  // namespace quire::bench
