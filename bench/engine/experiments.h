// The four experiments of the demo. Each returns what it measured; every token that any of them
// generates is compared with the contiguous reference.

#ifndef QUIRE_BENCH_ENGINE_EXPERIMENTS_H_
#define QUIRE_BENCH_ENGINE_EXPERIMENTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/demo_support.h"
#include "engine/model.h"
#include "engine/page_map.h"
#include "engine/tokenizer.h"

namespace engine {

struct Demo {
  Model* model;
  const Tokenizer* tokenizer;
  Checker* checker;
  Progress* progress;
};

// 1. The same tokens with and without keeping K and V.
struct SpeedResult {
  struct Bucket {
    int32_t from, to;            // lengths
    double with_ms, without_ms;  // median time of a token
  };
  int32_t new_tokens = 0;
  double with_seconds = 0;
  double without_seconds = 0;
  std::vector<Bucket> buckets;
};
absl::StatusOr<SpeedResult> RunSpeed(const Demo& demo);

// 2. Different questions on one long context, one after the other.
struct PromptCachingResult {
  int32_t questions = 0;
  int32_t context_tokens = 0;
  int64_t prefill_tokens_with = 0;
  int64_t prefill_tokens_without = 0;
  double first_token_ms_with = 0;  // median
  double first_token_ms_without = 0;
};
absl::StatusOr<PromptCachingResult> RunPromptCaching(const Demo& demo);

// 3. Requests of mixed length in a quarter of the memory that contiguous buffers would take.
struct MemoryResult {
  int32_t requests = 0;
  int32_t slots = 0;
  int32_t pages = 0;
  int32_t tokens_per_page = 0;
  int32_t contiguous_running = 0;  // maximum-length buffers that fit into the same memory
  int32_t peak_running = 0;
  double fragmentation_percent = 0;  // unused token slots in live pages, average over the steps
  double fragmentation_percent_peak = 0;  // while half of the pool or more is live
  int64_t steps = 0;
  int64_t preemptions = 0;
  int64_t tokens_generated = 0;
  double seconds = 0;
  PageMapPanel picture;  // at the fullest step
};
absl::StatusOr<MemoryResult> RunMemory(const Demo& demo);

// 4. Samples of one prompt.
struct SamplingResult {
  int32_t samples = 0;
  int32_t prompt_tokens = 0;
  int32_t new_tokens = 0;
  int32_t pages_shared = 0;     // right after the fork
  int32_t page_references = 0;  // to them
  int64_t copies_on_write = 0;
  int32_t pages_used = 0;      // at the end
  int32_t pages_separate = 0;  // what as many caches of their own would take
  PageMapPanel picture;
};
absl::StatusOr<SamplingResult> RunSampling(const Demo& demo);

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_EXPERIMENTS_H_
