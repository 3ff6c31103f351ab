// The manager's operations, hot (everything in cache) and on a pool of a million pages whose ids
// are shuffled. items_per_second counts pages, sequences or references, as each benchmark says;
// main.cc turns them into nanoseconds and holds them against the targets.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

#include "bench/micro/yardsticks.h"
#include "quire/block_allocator.h"
#include "quire/kv_cache.h"

namespace quire::bench {

namespace {

constexpr int32_t kMillion = 1 << 20;
constexpr int32_t kTokensPerPage = 16;
constexpr int32_t kPromptTokens = 4096;
constexpr int32_t kPromptPages = kPromptTokens / kTokensPerPage;

// Processor time of this thread: the manager neither waits nor uses other threads, and on a shared
// machine wall time measures the neighbours.
double Now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// --- Allocator ---

// A pool whose free list is shuffled and half of whose pages are live.
class ShuffledPool {
 public:
  explicit ShuffledPool(int32_t pages)
      : allocator_(*BlockAllocator::Create(pages)), live_(static_cast<size_t>(pages)) {
    (void)allocator_.Allocate(live_);
    for (const int32_t i : Shuffled(pages, 1)) {
      if (static_cast<size_t>(i) < live_.size() / 2) continue;
      allocator_.Release(live_[static_cast<size_t>(i)]);
    }
    live_.resize(live_.size() / 2);
    const std::vector<int32_t> order = Shuffled(static_cast<int32_t>(live_.size()), 2);
    std::vector<PageId> shuffled;
    for (const int32_t i : order) shuffled.push_back(live_[static_cast<size_t>(i)]);
    live_ = std::move(shuffled);
  }

  // Releases the `batch` pages that were allocated longest ago and allocates as many.
  void Turn(size_t batch) {
    const std::span<PageId> pages = std::span(live_).subspan(at_, batch);
    for (const PageId page : pages) allocator_.Release(page);
    (void)allocator_.Allocate(pages);
    at_ = at_ + 2 * batch > live_.size() ? 0 : at_ + batch;
  }

 private:
  BlockAllocator allocator_;
  std::vector<PageId> live_;
  size_t at_ = 0;
};

void BM_AllocateRelease(benchmark::State& state) {
  ShuffledPool pool(static_cast<int32_t>(state.range(0)));
  const auto batch = static_cast<size_t>(state.range(1));
  for (auto _ : state) pool.Turn(batch);
  state.SetItemsProcessed(state.iterations() * state.range(1));
}
BENCHMARK(BM_AllocateRelease)->ArgNames({"pages", "batch"})->Args({1024, 1})->Args({1024, 64});
BENCHMARK(BM_AllocateRelease)->ArgNames({"pages", "batch"})->Args({kMillion, 1});
BENCHMARK(BM_AllocateRelease)->ArgNames({"pages", "batch"})->Args({kMillion, 64});

// --- A cache full of prompts ---

// Prompts of kPromptTokens, told apart from their first token on.
std::vector<TokenId> MakePrompt(int32_t which) {
  std::vector<TokenId> prompt(kPromptTokens);
  uint32_t x = static_cast<uint32_t>(which) * 2654435761u + 12345u;
  for (TokenId& token : prompt) {
    x = x * 1664525u + 1013904223u;
    token = static_cast<TokenId>(x >> 15);
  }
  return prompt;
}

void Require(const absl::Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "benchmark: %s\n", status.ToString().c_str());
    std::abort();
  }
}

// Holds `pages` pages. Filled so that page ids are shuffled among the prompts: sequences grow a
// page at a time in turns.
class FullCache {
 public:
  explicit FullCache(int32_t pages) : prompt_count_(pages / kPromptPages) {
    Options options;
    options.groups = {{.tokens_per_page = kTokensPerPage, .page_count = pages}};
    options.max_sequences = prompt_count_ + 8;
    options.max_sequence_tokens = 2 * kPromptTokens;
    cache_ = *KvCache::Create(options);
    std::vector<Sequence> sequences;
    for (int32_t i = 0; i < prompt_count_; ++i) {
      prompts_.push_back(MakePrompt(i));
      sequences.push_back(*cache_->Start(prompts_.back()));
    }
    const std::vector<int32_t> order = Shuffled(prompt_count_, 3);
    for (int32_t page = 0; page < kPromptPages; ++page) {
      for (const int32_t i : order) {
        Sequence& sequence = sequences[static_cast<size_t>(i)];
        Require(sequence.Reserve(kTokensPerPage));
        Require(sequence.Commit(
            std::span(prompts_[static_cast<size_t>(i)])
                .subspan(static_cast<size_t>(page) * kTokensPerPage, kTokensPerPage)));
      }
    }
    order_ = Shuffled(prompt_count_, 4);
  }

  KvCache& cache() { return *cache_; }
  int32_t prompt_count() const { return prompt_count_; }
  const std::vector<TokenId>& NextPrompt() {
    at_ = at_ + 1 == order_.size() ? 0 : at_ + 1;
    return prompts_[static_cast<size_t>(order_[at_])];
  }

 private:
  int32_t prompt_count_;
  std::unique_ptr<KvCache> cache_;
  std::vector<std::vector<TokenId>> prompts_;
  std::vector<int32_t> order_;
  size_t at_ = 0;
};

// One large cache serves all benchmarks that need one: filling it takes seconds.
FullCache& CacheOf(int32_t pages) {
  static std::unique_ptr<FullCache> large;
  static std::unique_ptr<FullCache> small;
  std::unique_ptr<FullCache>& cache = pages == kMillion ? large : small;
  if (cache == nullptr) cache = std::make_unique<FullCache>(pages);
  return *cache;
}

constexpr int32_t kHotPages = 4 * kPromptPages;

void BM_Lookup(benchmark::State& state) {
  FullCache& full = CacheOf(static_cast<int32_t>(state.range(0)));
  int64_t pages = 0;
  for (auto _ : state) {
    const int32_t tokens = full.cache().MatchLength(full.NextPrompt());
    pages += tokens / kTokensPerPage;
    benchmark::DoNotOptimize(tokens);
  }
  state.SetItemsProcessed(pages);
}
BENCHMARK(BM_Lookup)->ArgName("pages")->Arg(kHotPages)->Arg(kMillion);

// Lookup, pin and release of a whole cached prompt.
void BM_StartDrop(benchmark::State& state) {
  FullCache& full = CacheOf(static_cast<int32_t>(state.range(0)));
  int64_t pages = 0;
  for (auto _ : state) {
    absl::StatusOr<Sequence> sequence = full.cache().Start(full.NextPrompt());
    pages += sequence->length() / kTokensPerPage;
  }
  state.SetItemsProcessed(pages);
}
BENCHMARK(BM_StartDrop)->ArgName("pages")->Arg(kHotPages)->Arg(kMillion);

// --- Churn: every new page evicts one ---

enum class Phase { kReclaim, kCommit, kRelease };

// New prompts through a pool that is full of cached pages. Only one phase is timed.
void Churn(benchmark::State& state, Phase timed) {
  const auto pages = static_cast<int32_t>(state.range(0));
  FullCache& full = CacheOf(pages);
  static int32_t fresh = 1 << 24;  // prompts that no cache has seen
  for (auto _ : state) {
    const std::vector<TokenId> prompt = MakePrompt(fresh++);
    Sequence sequence = *full.cache().Start(prompt);
    const double start = Now();
    Require(sequence.Reserve(kPromptTokens));
    const double reserved = Now();
    Require(sequence.Commit(prompt));
    const double committed = Now();
    sequence = Sequence();
    const double released = Now();
    state.SetIterationTime(timed == Phase::kReclaim  ? reserved - start
                           : timed == Phase::kCommit ? committed - reserved
                                                     : released - committed);
  }
  state.SetItemsProcessed(state.iterations() * kPromptPages);
}
void BM_Reclaim(benchmark::State& state) { Churn(state, Phase::kReclaim); }
void BM_CommitPage(benchmark::State& state) { Churn(state, Phase::kCommit); }
void BM_Release(benchmark::State& state) { Churn(state, Phase::kRelease); }
BENCHMARK(BM_Reclaim)->ArgName("pages")->Arg(kHotPages)->Arg(kMillion)->UseManualTime();
BENCHMARK(BM_CommitPage)->ArgName("pages")->Arg(kHotPages)->Arg(kMillion)->UseManualTime();
BENCHMARK(BM_Release)->ArgName("pages")->Arg(kHotPages)->Arg(kMillion)->UseManualTime();

// Bytes of bookkeeping for each page of a full pool: with the tokens that the index keeps to
// confirm hits (4 bytes each), and without.
void BM_Metadata(benchmark::State& state) {
  const auto pages = static_cast<int32_t>(state.range(0));
  FullCache& full = CacheOf(pages);
  int64_t bytes = 0;
  for (auto _ : state) bytes = full.cache().stats().metadata_bytes;
  const auto a_page = static_cast<double>(bytes) / pages;
  state.counters["bytes_a_page"] = a_page;
  state.counters["bytes_a_page_without_tokens"] = a_page - 4 * kTokensPerPage;
}
BENCHMARK(BM_Metadata)->ArgName("pages")->Arg(kMillion)->Iterations(1);

// --- Replay of a trace, one page id a token ---

// Requests of about 24 pages, made like a conversation log: three of four go on from an earlier
// request's prefix, later ones more likely, and add pages of their own. (Real traces are not ours
// to ship; this one has the same shape: chained ids, most of them used once.)
std::vector<std::vector<TokenId>> MakeTrace(int32_t requests) {
  std::vector<std::vector<TokenId>> trace;
  uint32_t x = 1;
  const auto random = [&x](uint32_t n) {
    x = x * 1664525u + 1013904223u;
    return static_cast<size_t>((x >> 8) % n);
  };
  TokenId fresh = 0;
  for (int32_t i = 0; i < requests; ++i) {
    std::vector<TokenId> request;
    if (i > 0 && random(4) != 0) {
      const size_t back = 1 + random(std::min(400, i));
      const std::vector<TokenId>& earlier = trace[trace.size() - back];
      request.assign(earlier.begin(), earlier.begin() + random(earlier.size()) + 1);
    }
    for (size_t own = 1 + random(24); own > 0; --own) request.push_back(fresh++);
    trace.push_back(std::move(request));
  }
  return trace;
}

// Each reference is looked up, and inserted if it is not there: Start, Reserve, Commit, release.
void BM_Replay(benchmark::State& state) {
  static const std::vector<std::vector<TokenId>> trace = MakeTrace(12000);
  Options options;
  options.groups = {{.tokens_per_page = 1, .page_count = static_cast<int32_t>(state.range(0))}};
  options.max_sequences = 1;
  int64_t references = 0;
  int64_t hits = 0;
  for (auto _ : state) {
    const std::unique_ptr<KvCache> cache = *KvCache::Create(options);
    for (const std::vector<TokenId>& request : trace) {
      Sequence sequence = *cache->Start(request);
      const std::span<const TokenId> rest =
          std::span(request).subspan(static_cast<size_t>(sequence.length()));
      Require(sequence.Reserve(static_cast<int32_t>(rest.size())));
      Require(sequence.Commit(rest));
      references += static_cast<int64_t>(request.size());
    }
    hits = cache->stats().tokens_hit;
  }
  state.counters["millions_per_second"] =
      benchmark::Counter(static_cast<double>(references) * 1e-6, benchmark::Counter::kIsRate);
  state.counters["hits"] = static_cast<double>(hits);
}
BENCHMARK(BM_Replay)->ArgName("pages")->Arg(10000)->Unit(benchmark::kMillisecond);

// --- A decode step ---

constexpr int32_t kStepsTimed = 16;

// 256 running sequences, one token each a step, on a pool that is always full: eviction included.
// Finished sequences are replaced outside the timed part.
class Decode {
 public:
  Decode(int32_t pages, bool window) {
    Options options;
    options.groups = {{.tokens_per_page = kTokensPerPage, .page_count = pages}};
    if (window) {
      options.groups.push_back(
          {.tokens_per_page = kTokensPerPage, .page_count = pages, .lookback_tokens = 1023});
    }
    options.max_sequences = kBatch;
    options.max_sequence_tokens = kMaxLength + kStepsTimed;
    cache_ = *KvCache::Create(options);
    sequences_.resize(kBatch);
    for (int32_t i = 0; i < kBatch; ++i) {
      // Lengths spread out, so that page borders and ends do not fall into one step.
      Replace(i, 16 + i * (kMaxLength - 32) / kBatch);
      pointers_[static_cast<size_t>(i)] = &sequences_[static_cast<size_t>(i)];
    }
    counts_.assign(kBatch, 1);
  }

  void Step() {
    Require(cache_->ReserveAll(pointers_, counts_));
    const Plan plan = cache_->TakePlan();
    for (TokenId& token : tokens_) token = next_token_++;
    Require(cache_->CommitAll(pointers_, tokens_, counts_));
    cache_->Retire(plan.ticket);
  }

  void ReplaceFinished() {
    for (int32_t i = 0; i < kBatch; ++i) {
      if (sequences_[static_cast<size_t>(i)].length() + 1 >= kMaxLength) Replace(i, 16);
    }
  }

  static constexpr int32_t kBatch = 256;
  static constexpr int32_t kMaxLength = 2048;

 private:
  void Replace(int32_t i, int32_t length) {
    std::vector<TokenId> prompt(static_cast<size_t>(length));
    for (TokenId& token : prompt) token = next_token_++;
    Sequence& sequence = sequences_[static_cast<size_t>(i)];
    sequence = Sequence();
    sequence = *cache_->Start(prompt);
    Require(sequence.Reserve(length));
    Require(sequence.Commit(prompt));
  }

  std::unique_ptr<KvCache> cache_;
  std::vector<Sequence> sequences_;
  std::array<Sequence*, kBatch> pointers_{};
  std::vector<int32_t> counts_;
  std::array<TokenId, kBatch> tokens_{};
  TokenId next_token_ = 0;
};

void BM_Step(benchmark::State& state) {
  Decode decode(static_cast<int32_t>(state.range(0)), state.range(1) != 0);
  // Until the pool is full of cached pages.
  for (int i = 0; i < 2 * Decode::kMaxLength; ++i) {
    decode.ReplaceFinished();
    decode.Step();
  }
  for (auto _ : state) {
    const double start = Now();
    for (int i = 0; i < kStepsTimed; ++i) decode.Step();
    state.SetIterationTime(Now() - start);
    decode.ReplaceFinished();
  }
  state.SetItemsProcessed(state.iterations() * kStepsTimed * Decode::kBatch);
}
BENCHMARK(BM_Step)
    ->ArgNames({"pages", "window"})
    ->Args({40960, 0})
    ->Args({40960, 1})
    ->UseManualTime();

}  // namespace

}  // namespace quire::bench
