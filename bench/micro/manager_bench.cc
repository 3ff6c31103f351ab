// The manager's operations, hot (everything in cache) and on a pool of a million pages whose ids
// are shuffled. items_per_second counts pages, sequences or references, as each benchmark says;
// main.cc turns them into nanoseconds and holds them against the targets.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "bench/micro/workloads.h"
#include "quire/kv_cache.h"

namespace quire::bench {

namespace {

// --- Allocator ---

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
  for (auto _ : state) {
    const std::vector<TokenId> prompt = MakePrompt(FreshPrompt());
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

void BM_Step(benchmark::State& state) {
  constexpr int32_t kBatch = 256;
  Decode decode({.batch = kBatch,
                 .max_length = 2048,
                 .pages = static_cast<int32_t>(state.range(0)),
                 .window = state.range(1) != 0});
  for (auto _ : state) {
    const double start = Now();
    for (int i = 0; i < kStepsTimed; ++i) decode.Step();
    state.SetIterationTime(Now() - start);
    decode.ReplaceFinished();
  }
  state.SetItemsProcessed(state.iterations() * kStepsTimed * kBatch);
}
BENCHMARK(BM_Step)
    ->ArgNames({"pages", "window"})
    ->Args({40960, 0})
    ->Args({40960, 1})
    ->UseManualTime();

}  // namespace

}  // namespace quire::bench
