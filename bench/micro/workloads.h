// What the manager's benchmarks run on: an allocator in disorder, a cache full of prompts, a batch
// that decodes; and how a stretch of code is measured.

#ifndef QUIRE_BENCH_MICRO_WORKLOADS_H_
#define QUIRE_BENCH_MICRO_WORKLOADS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "quire/block_allocator.h"
#include "quire/kv_cache.h"

namespace quire::bench {

inline constexpr int32_t kMillion = 1 << 20;
inline constexpr int32_t kTokensPerPage = 16;
inline constexpr int32_t kPromptTokens = 4096;
inline constexpr int32_t kPromptPages = kPromptTokens / kTokensPerPage;
inline constexpr int32_t kHotPages = 4 * kPromptPages;

// Seconds of processor time of this thread: the manager neither waits nor uses other threads, and
// on a shared machine wall time measures the neighbours.
double Now();

// Calls of operator new by this thread so far. The manager's arrays are mapped at creation; all
// else that it takes comes from here.
int64_t Allocations();

// Ends the program if a call that must succeed did not.
void Require(const absl::Status& status);

// Tokens told apart by `which` from their first token on.
std::vector<TokenId> MakePrompt(int32_t which, int32_t tokens = kPromptTokens);

// A number for MakePrompt that gives tokens no cache has seen.
int32_t FreshPrompt();

// A pool whose free list is shuffled and half of whose pages are live.
class ShuffledPool {
 public:
  explicit ShuffledPool(int32_t pages);

  // Releases the `batch` pages that were allocated longest ago and allocates as many.
  void Turn(size_t batch);

 private:
  BlockAllocator allocator_;
  std::vector<PageId> live_;
  size_t at_ = 0;
};

// Holds `pages` pages. Filled so that page ids are shuffled among the prompts: sequences grow a
// page at a time in turns.
class FullCache {
 public:
  explicit FullCache(int32_t pages);

  KvCache& cache() { return *cache_; }
  const std::vector<TokenId>& NextPrompt() {
    at_ = at_ + 1 == order_.size() ? 0 : at_ + 1;
    return prompts_[static_cast<size_t>(order_[at_])];
  }

 private:
  std::unique_ptr<KvCache> cache_;
  std::vector<std::vector<TokenId>> prompts_;
  std::vector<int32_t> order_;
  size_t at_ = 0;
};

// One cache of each size serves all benchmarks of manager_bench.cc: filling a large one takes
// seconds. What evicts comes last there.
FullCache& CacheOf(int32_t pages);

// Steps that are timed together: as many as a page has tokens, so that each running sequence
// crosses one page border.
inline constexpr int32_t kStepsTimed = kTokensPerPage;

// Running sequences, one token each a step, on a pool that is always full: eviction included.
// Finished sequences are to be replaced outside the timed part.
class Decode {
 public:
  struct Options {
    int32_t batch = 0;
    int32_t max_length = 0;
    int32_t pages = 0;
    bool window = false;  // a second group, with a sliding window of 1024 keys
  };

  explicit Decode(const Options& options);
  void Step();
  void ReplaceFinished();
  KvCache& cache() { return *cache_; }

 private:
  void Replace(size_t i, int32_t length);

  int32_t max_length_;
  std::unique_ptr<KvCache> cache_;
  std::vector<Sequence> sequences_;
  std::vector<Sequence*> pointers_;
  std::vector<int32_t> counts_;
  std::vector<TokenId> tokens_;
  TokenId next_token_ = 0;
};

}  // namespace quire::bench

#endif  // QUIRE_BENCH_MICRO_WORKLOADS_H_
