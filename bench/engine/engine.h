// A small serving engine with continuous batching: the example of how an engine uses Quire.
//
// Every step computes some tokens of many requests in one call of the model: one token for each
// that is generating, a chunk for each whose prompt is not done. To the engine both are the same
// thing, a stream whose known tokens are longer than what its Sequence holds:
//
//   tokens    p p p p p p p p p p g g g       prompt, then what was generated
//   computed  |------ length -----|           K/V is in the pages
//   to do                          |---->     `remaining`: 1 is a decode, more is a prefill
//
// So a request that was preempted, found half of itself in the cache or lost a page to a failed
// copy needs no code of its own: its length is shorter, and it goes on from there.
//
// A step, call by call (docs/linking.md tells the same story):
//   ReserveAll for what runs; while it answers "no room", preempt the latest arrival
//   Start + Reserve for what waits, while there is room, a slot and budget
//   TakePlan -> Device::Copy -> Retire
//   MakePageTable -> Model::Forward -> CommitAll
//   sample; Fork where a prompt has parallel samples; drop what is finished

#ifndef QUIRE_BENCH_ENGINE_ENGINE_H_
#define QUIRE_BENCH_ENGINE_ENGINE_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "quire/device.h"
#include "quire/kv_cache.h"

namespace engine {

using RequestId = int32_t;

struct Request {
  std::vector<quire::TokenId> prompt;  // with BOS, if the model wants one
  int32_t max_new_tokens = 16;         // fewer if the model says BOS, which ends a text
  float temperature = 0;               // 0: greedy
  uint64_t seed = 1;                   // sample i draws from seed + i
  int32_t samples = 1;                 // answers wanted; the prompt is computed once for all
  bool stop_at_bos = true;             // false: always max_new_tokens, for measurements
};

struct Result {
  std::vector<std::vector<quire::TokenId>> samples;  // generated tokens, without a BOS at the end
  int32_t unfinished = 0;                            // samples still going on
  int32_t hit_tokens = 0;   // of the prompt, found in the cache at the first start
  int32_t preemptions = 0;  // of all its samples
  double seconds_to_first_token = 0;
};

struct EngineStats {
  int64_t steps = 0;
  int64_t tokens_computed = 0;         // all that went through the model
  int64_t prompt_tokens_computed = 0;  // of those, tokens of prompts
  int64_t tokens_generated = 0;
  int64_t preemptions = 0;
  int64_t failed_copies = 0;  // plans that the device could not carry out
  int32_t peak_running = 0;
};

struct EngineOptions {
  int32_t tokens_per_page = 16;
  int32_t page_count = 256;
  int32_t max_running = 32;  // streams that run at one time; each parallel sample is one
  int32_t step_tokens = 64;  // most tokens computed in one step
  bool prefix_caching = true;
};

// A look at what runs, for measurements and pictures.
struct RunningView {
  RequestId request;
  int32_t sample;
  const quire::Sequence* sequence;  // until the next call on the engine
};

class Engine {
 public:
  // `model` is borrowed. `device` stands in for the one that the model's kernels make otherwise; it
  // must have the pages that `options` describe.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      Model* model, const EngineOptions& options, std::unique_ptr<quire::Device> device = nullptr);

  // Queues a request. kInvalidArgument at once for one that can never run, with the reason; ids
  // count up from 0.
  absl::StatusOr<RequestId> Submit(Request request);

  // One step for all that runs; false when there is nothing to do. A status is an error of the
  // machine or of this code, never of a request. A plan that the device could not carry out is no
  // error: what it cost is computed again.
  absl::StatusOr<bool> Step();

  // Steps until nothing is left to do.
  absl::Status Run();

  // Grows as the request does; the reference stays good as long as the engine.
  const Result& result(RequestId id) const { return results_[static_cast<size_t>(id)]; }
  const EngineStats& stats() const { return stats_; }
  const quire::KvCache& cache() const { return *cache_; }
  quire::KvCache* mutable_cache() { return cache_.get(); }
  std::vector<RunningView> Running() const;

 private:
  using Clock = std::chrono::steady_clock;

  // One token stream: a request, or after the fork one of its samples.
  struct Stream {
    RequestId request = 0;
    int32_t sample = 0;
    int32_t samples_to_fork = 0;  // more samples that wait for the prompt to be computed
    int32_t prompt_tokens = 0;
    int32_t max_tokens = 0;  // prompt and generated
    bool stop_at_bos = true;
    float temperature = 0;
    uint64_t seed = 0;
    std::vector<quire::TokenId> tokens;
    Sampler sampler{0, 0};
    quire::Sequence sequence;  // empty while it waits
    bool done = false;

    int32_t remaining() const { return static_cast<int32_t>(tokens.size()) - sequence.length(); }
    int32_t slots() const { return 1 + samples_to_fork; }
  };

  struct Work {  // what one stream computes in this step
    Stream* stream;
    int32_t count;
  };

  Engine(Model* model, const EngineOptions& options, std::unique_ptr<quire::Device> device,
         std::unique_ptr<quire::KvCache> cache, std::vector<quire::KvView> kv);

  void ForgetLostTokens();
  void ScheduleRunning();
  absl::Status ReserveForRunning(bool* preempted);
  void Preempt();
  absl::Status Admit();
  absl::StatusOr<bool> StartWaiting(Stream* stream);
  bool CarryOutCopies();
  absl::Status Compute();
  absl::Status ForkSamples(Stream* stream, std::span<const float> logits);
  void Extend(Stream* stream, std::span<const float> logits);
  absl::Status SampleAll();
  int32_t slots_in_use() const;

  Model* const model_;
  const EngineOptions options_;
  const std::unique_ptr<quire::Device> device_;
  const std::unique_ptr<quire::KvCache> cache_;  // outlives the Sequences of the streams below
  const std::vector<quire::KvView> kv_;          // [layers]

  std::deque<std::unique_ptr<Stream>> waiting_;   // front goes next
  std::vector<std::unique_ptr<Stream>> running_;  // in order of arrival
  std::deque<Result> results_;                    // a deque: result() hands out references
  std::vector<Clock::time_point> arrivals_;
  EngineStats stats_;

  // The step at hand; kept so that a warm step does not allocate.
  int32_t budget_ = 0;
  std::vector<Work> work_;
  std::vector<quire::Sequence*> sequences_;
  std::vector<int32_t> counts_;
  std::vector<quire::TokenId> tokens_;
  std::vector<int32_t> query_begin_;
  std::vector<int32_t> wanted_;
  std::vector<int64_t> row_begin_;
  std::vector<int32_t> lengths_;
  std::vector<float> logits_;
};

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_ENGINE_H_
