// Four sweeps: pages of the pool, tokens of a prompt, sequences of a batch, tokens of a page.
//
// Each run reports nanoseconds an item (as items_per_second), the heap allocations of what it
// timed, and the cost of one dependent cache miss in a footprint like its own: beyond the caches
// nothing that touches memory at random is flat, and that says how much of a growth is the
// machine's.

#include "bench/micro/sweeps.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "bench/micro/workloads.h"
#include "bench/micro/yardsticks.h"
#include "quire/kv_cache.h"

namespace quire::bench {

namespace {

constexpr int32_t kTenMillion = 10'000'128;  // whole prompts
constexpr int32_t kLongestPrompt = 1 << 20;
constexpr int32_t kPageLengthPrompt = 1 << 16;

// What two readings of the clock take. It is subtracted: the shortest stretches are not much
// longer.
double ClockSeconds() {
  static const double seconds = [] {
    double best = 1;
    for (int i = 0; i < 1000; ++i) {
      const double begin = Now();
      best = std::min(best, Now() - begin);
    }
    return best;
  }();
  return seconds;
}

// Time and allocations of what runs between Begin and End, for each iteration.
class Meter {
 public:
  explicit Meter(benchmark::State& state) : state_(state), clock_(ClockSeconds()) {}

  void Begin() {
    before_ = Allocations();
    begin_ = Now();
  }
  void End() {
    state_.SetIterationTime(std::max(1e-9, Now() - begin_ - clock_));
    allocations_ += Allocations() - before_;
  }
  int64_t allocations() const { return allocations_; }

 private:
  benchmark::State& state_;
  double clock_;
  double begin_ = 0;
  int64_t before_ = 0;
  int64_t allocations_ = 0;
};

// Nanoseconds of a dependent cache miss in `bytes`, rounded up to a power of two.
double ChaseNs(int64_t bytes) {
  constexpr uint64_t kLine = 64;
  static std::map<uint64_t, double> known;
  const uint64_t rounded = std::bit_ceil(std::max<uint64_t>(static_cast<uint64_t>(bytes), 4096));
  double& ns = known[rounded];
  if (ns > 0) return ns;
  const PointerChase chase(rounded / kLine);
  constexpr int64_t kSteps = 1 << 16;
  uint32_t at = chase.Walk(0, kSteps);
  ns = 1e9;
  for (int i = 0; i < 3; ++i) {
    const double begin = Now();
    at = chase.Walk(at, kSteps);
    ns = std::min(ns, (Now() - begin) * 1e9 / kSteps);
  }
  benchmark::DoNotOptimize(at);
  return ns;
}

// `items`: of one iteration. `footprint`: bytes of the manager's memory that it may touch.
void Report(benchmark::State& state, int64_t n, int64_t items, int64_t allocations,
            int64_t footprint) {
  state.SetComplexityN(n);
  state.SetItemsProcessed(state.iterations() * items);
  state.counters["allocations"] =
      static_cast<double>(allocations) / static_cast<double>(state.iterations());
  state.counters["chase_ns"] = ChaseNs(footprint);
}

// --- Pages of the pool; an iteration is the same work in each ---

// Not those of manager_bench.cc, whose prompts have been evicted by now.
FullCache& PoolOf(int32_t pages) {
  static std::map<int32_t, std::unique_ptr<FullCache>> pools;
  std::unique_ptr<FullCache>& pool = pools[pages];
  if (pool == nullptr) pool = std::make_unique<FullCache>(pages);
  return *pool;
}

void PoolAllocateRelease(benchmark::State& state) {
  const auto pages = static_cast<int32_t>(state.range(0));
  constexpr size_t kBatch = 64;
  static std::map<int32_t, std::unique_ptr<ShuffledPool>> pools;
  std::unique_ptr<ShuffledPool>& pool = pools[pages];
  if (pool == nullptr) pool = std::make_unique<ShuffledPool>(pages);
  constexpr int kTurns = 64;
  Meter meter(state);
  for (auto _ : state) {
    meter.Begin();
    for (int i = 0; i < kTurns; ++i) pool->Turn(kBatch);
    meter.End();
  }
  Report(state, pages, kTurns * kBatch, meter.allocations(), int64_t{8} * pages);
}

void PoolLookup(benchmark::State& state) {
  const auto pages = static_cast<int32_t>(state.range(0));
  FullCache& full = PoolOf(pages);
  int32_t least = kPromptTokens;
  Meter meter(state);
  for (auto _ : state) {
    const std::vector<TokenId>& prompt = full.NextPrompt();
    meter.Begin();
    least = std::min(least, full.cache().MatchLength(prompt));
    meter.End();
  }
  if (least < kPromptTokens - 1) state.SkipWithError("a prompt was evicted: run lookups first");
  Report(state, pages, kPromptPages, meter.allocations(), full.cache().stats().metadata_bytes);
}

void PoolReclaim(benchmark::State& state) {
  const auto pages = static_cast<int32_t>(state.range(0));
  FullCache& full = PoolOf(pages);
  Meter meter(state);
  for (auto _ : state) {
    const std::vector<TokenId> prompt = MakePrompt(FreshPrompt());
    Sequence sequence = *full.cache().Start(prompt);
    meter.Begin();
    Require(sequence.Reserve(kPromptTokens));
    meter.End();
    Require(sequence.Commit(prompt));
  }
  Report(state, pages, kPromptPages, meter.allocations(), full.cache().stats().metadata_bytes);
}

// --- Tokens of a prompt, and tokens of a page ---

// A new prompt, computed and left in the cache.
std::vector<TokenId> Cached(KvCache& cache, int32_t tokens) {
  std::vector<TokenId> prompt = MakePrompt(FreshPrompt(), tokens);
  Sequence sequence = *cache.Start(prompt);
  Require(sequence.Reserve(tokens));
  Require(sequence.Commit(prompt));
  return prompt;
}

// Room for two prompts of `tokens`, so that the second does not evict the first.
KvCache& PromptCache(int32_t tokens, int32_t tokens_per_page) {
  static std::map<std::pair<int32_t, int32_t>, std::unique_ptr<KvCache>> caches;
  std::unique_ptr<KvCache>& cache = caches[{tokens, tokens_per_page}];
  if (cache == nullptr) {
    Options options;
    options.groups = {
        {.tokens_per_page = tokens_per_page, .page_count = 2 * tokens / tokens_per_page}};
    options.max_sequences = 2;
    options.max_sequence_tokens = tokens + 1;
    cache = *KvCache::Create(options);
    // Until it evicts: the first use of the bookkeeping's memory is the operating system's to pay.
    for (int i = 0; i < 3; ++i) Cached(*cache, tokens);
  }
  return *cache;
}

int64_t Footprint(const KvCache& cache, int64_t pages) {
  return cache.stats().metadata_bytes * pages / cache.options().groups[0].page_count;
}

// A whole cached prompt: found, pinned and dropped again.
void Hit(benchmark::State& state, KvCache& cache, int32_t tokens, int64_t pages) {
  std::vector<TokenId> prompt = Cached(cache, tokens);
  prompt.push_back(0);  // the last token is never hit
  int32_t least = tokens;
  Meter meter(state);
  for (auto _ : state) {
    meter.Begin();
    least = std::min(least, cache.Start(prompt)->length());
    meter.End();
  }
  if (least < tokens) state.SkipWithError("the prompt was not cached");
  Report(state, pages, pages, meter.allocations(), Footprint(cache, pages));
}

// New tokens, all of a prompt in one call, into pages that are reserved.
void Commit(benchmark::State& state, KvCache& cache, int32_t tokens, int64_t pages) {
  Meter meter(state);
  for (auto _ : state) {
    const std::vector<TokenId> prompt = MakePrompt(FreshPrompt(), tokens);
    Sequence sequence = *cache.Start(prompt);
    Require(sequence.Reserve(tokens));
    meter.Begin();
    Require(sequence.Commit(prompt));
    meter.End();
  }
  Report(state, pages, pages, meter.allocations(), Footprint(cache, pages));
}

void PromptHit(benchmark::State& state) {
  const auto tokens = static_cast<int32_t>(state.range(0));
  Hit(state, PromptCache(kLongestPrompt, kTokensPerPage), tokens, tokens / kTokensPerPage);
}

void PromptCommit(benchmark::State& state) {
  const auto tokens = static_cast<int32_t>(state.range(0));
  Commit(state, PromptCache(kLongestPrompt, kTokensPerPage), tokens, tokens / kTokensPerPage);
}

void PageLengthHit(benchmark::State& state) {
  const auto length = static_cast<int32_t>(state.range(0));
  Hit(state, PromptCache(kPageLengthPrompt, length), kPageLengthPrompt, kPageLengthPrompt / length);
}

void PageLengthCommit(benchmark::State& state) {
  const auto length = static_cast<int32_t>(state.range(0));
  Commit(state, PromptCache(kPageLengthPrompt, length), kPageLengthPrompt,
         kPageLengthPrompt / length);
}

// --- Sequences of a batch ---

void BatchStep(benchmark::State& state) {
  constexpr int32_t kMaxLength = 256;
  const auto batch = static_cast<int32_t>(state.range(0));
  // Room for all at their longest: what finished ones leave fills the rest.
  Decode decode({.batch = batch,
                 .max_length = kMaxLength,
                 .pages = batch * (kMaxLength / kTokensPerPage + 1)});
  Meter meter(state);
  for (auto _ : state) {
    meter.Begin();
    for (int i = 0; i < kStepsTimed; ++i) decode.Step();
    meter.End();
    decode.ReplaceFinished();
  }
  Report(state, batch, int64_t{kStepsTimed} * batch, meter.allocations(),
         decode.cache().stats().metadata_bytes);
}

constexpr std::array kSweeps = {
    Sweep{"Sweep_Pool_AllocateRelease", "pool: allocate + release, a page", benchmark::o1},
    Sweep{"Sweep_Pool_Lookup", "pool: lookup, a page", benchmark::o1},
    Sweep{"Sweep_Pool_Reclaim", "pool: reclaim, a page", benchmark::o1},
    Sweep{"Sweep_Prompt_Hit", "prompt: hit and drop, a page", benchmark::oN},
    Sweep{"Sweep_Prompt_Commit", "prompt: commit, a page", benchmark::oN},
    Sweep{"Sweep_Batch_Step", "batch: decode step, a sequence", benchmark::oN},
    Sweep{"Sweep_PageLength_Hit", "page length: hit and drop, a page", benchmark::oN},
    Sweep{"Sweep_PageLength_Commit", "page length: commit, a page", benchmark::oN},
};

using Function = void (*)(benchmark::State&);
constexpr std::array<Function, kSweeps.size()> kFunctions = {
    PoolAllocateRelease, PoolLookup, PoolReclaim,   PromptHit,
    PromptCommit,        BatchStep,  PageLengthHit, PageLengthCommit};

std::vector<int64_t> Sizes(int64_t low, int64_t high, int64_t factor) {
  std::vector<int64_t> sizes;
  for (int64_t size = low; size <= high; size *= factor) sizes.push_back(size);
  return sizes;
}

}  // namespace

std::span<const Sweep> Sweeps() { return kSweeps; }

void RegisterSweeps(bool full) {
  std::vector<int64_t> pools = Sizes(1024, full ? 4 * kMillion : kMillion, 4);
  if (full) pools.push_back(kTenMillion);
  const std::vector<int64_t> prompts = Sizes(1024, kLongestPrompt, 4);
  const std::vector<int64_t> batches = Sizes(1, 4096, 4);
  const std::vector<int64_t> page_lengths = Sizes(1, 256, 2);
  for (size_t i = 0; i < kSweeps.size(); ++i) {
    auto* added = benchmark::RegisterBenchmark(kSweeps[i].name, kFunctions[i]);
    const bool of_pool = i < 3;
    const bool of_prompt = i == 3 || i == 4;
    const bool of_batch = i == 5;
    added->ArgName(of_pool ? "pages" : of_prompt ? "tokens" : of_batch ? "sequences" : "tpp");
    for (const int64_t size : of_pool     ? pools
                              : of_prompt ? prompts
                              : of_batch  ? batches
                                          : page_lengths) {
      added->Arg(size);
    }
    added->UseManualTime()->Complexity();
  }
}

}  // namespace quire::bench
