// The simulation behind RunServing: one run of one trace.

#ifndef QUIRE_BENCH_REPLAY_SERVER_H_
#define QUIRE_BENCH_REPLAY_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/replay/arrivals.h"
#include "bench/replay/result.h"
#include "bench/replay/serving.h"
#include "bench/replay/serving_stats.h"
#include "bench/replay/trace.h"
#include "quire/kv_cache.h"
#include "quire/namespace.h"
#include "quire/sequence.h"
#include "quire/types.h"

namespace replay {

// Tokens that a request computes in all. The answer's last one is never computed.
int64_t TotalTokens(const Request& request);

// serving.h tells what a step does; this is its state.
class Server {
 public:
  // Borrows `trace` and `options`, which must have been checked.
  Server(const Trace& trace, const ServingOptions& options, Arrivals arrivals,
         std::unique_ptr<quire::KvCache> cache);

  absl::StatusOr<ServingResult> Run();

 private:
  struct Progress {  // of a request, running or not
    int32_t generated = 0;
    int32_t computed = 0;  // tokens that it had when it was preempted
    bool started = false;
    Nanoseconds first_token = 0;
  };
  struct Running {
    int32_t request = 0;
    quire::Sequence sequence;
    int32_t pages_seen = 0;  // of its page table, by lives_
  };
  struct Work {  // what one of running_ computes in this step
    int32_t index;
    int32_t count;
    bool decodes;
  };

  const Request& request(int32_t index) const {
    return trace_.requests[static_cast<size_t>(index)];
  }
  Progress& progress(int32_t index) { return progress_[static_cast<size_t>(index)]; }
  // Tokens that are known: the prompt and what was generated.
  int32_t Known(int32_t index) { return request(index).input_tokens + progress(index).generated; }
  int32_t Remaining(const Running& running) {
    return Known(running.request) - running.sequence.length();
  }
  int32_t PagesFor(int32_t tokens) const {
    return static_cast<int32_t>((int64_t{tokens} + trace_.tokens_per_page - 1) /
                                trace_.tokens_per_page);
  }

  void TakeArrivals();
  absl::Status Step();
  void AddWork(int32_t index);
  void ScheduleRunning();
  absl::Status ReserveForRunning();
  void Preempt();
  int32_t Room();
  absl::Status Admit();
  absl::StatusOr<bool> StartNext();
  void CountStart(int32_t index, int32_t hit_tokens);
  absl::Status Compute();
  absl::Status Advance();
  void Watch();
  void EndStep();
  bool Generate(int32_t index);
  ServingResult Finish();

  // Calls `calls` and counts their time as the manager's.
  template <typename Calls>
  auto Timed(const Calls& calls);
  void Drop(quire::Sequence* sequence);

  const Trace& trace_;
  const ServingOptions& options_;
  Arrivals arrivals_;
  const std::unique_ptr<quire::KvCache> cache_;  // outlives the sequences below
  std::vector<quire::Namespace> namespaces_;     // by tenant; one empty where there is one tenant

  Nanoseconds now_ = 0;
  std::deque<int32_t> waiting_;   // front goes next
  std::vector<Running> running_;  // in order of admission
  std::vector<Progress> progress_;
  int32_t room_refused_ = -1;  // what the head of the queue did not find enough; -1: not tried
  int64_t started_ = 0, ended_ = 0;

  // The step at hand.
  int32_t budget_ = 0;
  std::vector<Work> work_;
  std::vector<quire::Sequence*> sequences_;
  std::vector<int32_t> counts_;
  std::vector<quire::TokenId> tokens_;
  double manager_step_ = 0;  // seconds
  ServingStep view_;

  ServingResult result_;
  std::vector<double> first_token_ms_, between_tokens_ms_, end_to_end_ms_, manager_us_;
  double fragmentation_sum_ = 0;
  SampleKeeper samples_;
  PageLives lives_;
};

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_SERVER_H_
