// When the requests of a trace arrive in simulated time.
//
// A first turn arrives when the trace says, counted from the trace's first arrival and divided by
// `speed`. A follow-up comes from somebody who has read the answer, so it cannot arrive before that
// is there:
//
//   think   = max(0, trace's time between the two turns / speed - what the previous turn takes
//             alone, with nothing cached, by the cost model)
//   arrives = max(its own time, end of the previous turn + think)
//
// (A trace does not say when its answers ended; the time alone stands for that.) So where the
// simulated system is fast enough the trace's times stay, and where it is slower the users come
// later, as they would. A turn that was refused ends when it arrives.

#ifndef QUIRE_BENCH_REPLAY_ARRIVALS_H_
#define QUIRE_BENCH_REPLAY_ARRIVALS_H_

#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/replay/cost_model.h"
#include "bench/replay/trace.h"

namespace replay {

// All simulated times are whole nanoseconds: sums of them are the same on any machine.
using Nanoseconds = int64_t;

class Arrivals {
 public:
  struct Options {
    double speed = 1;             // > 0; infinity: all first turns arrive at once
    bool follow_up_waits = true;  // false: every request arrives at its own time
    CostModel cost;               // for the time alone
    int32_t token_budget = 1;     // the same
  };

  // kInvalidArgument: a speed that is not above 0 or makes times too long, or a request whose
  // `previous` does not come before it.
  static absl::StatusOr<Arrivals> Create(const Trace& trace, const Options& options);

  bool empty() const { return due_.empty(); }
  // When the next one arrives, of those whose time is known; there must be one.
  Nanoseconds next() const { return due_.top().first; }
  // Takes the next one: in order of time, then of the trace.
  int32_t Pop();

  // When a request that was taken arrived.
  Nanoseconds arrived(int32_t request) const { return times_[static_cast<size_t>(request)]; }

  // `request` has ended: its follow-ups get their times.
  void Ended(int32_t request, Nanoseconds now);

 private:
  Arrivals() = default;
  void LinkFollowUps(const Trace& trace, const Options& options);

  using Due = std::pair<Nanoseconds, int32_t>;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::vector<Nanoseconds> times_;  // own times; once known, those of arrival
  // Follow-ups of a request as a list: a turn may be continued more than once.
  std::vector<int32_t> first_follow_up_, next_follow_up_;
  std::vector<Nanoseconds> think_;
};

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_ARRIVALS_H_
