// The six operations whose instructions are counted. Each is one function of its own: callgrind
// collects between its entry and its return.
//
// Built with flags of its own (CMakeLists.txt), and only with Quire's public headers, so that the
// counts change when the library's hot paths do and for no other reason.
//
// On standard output: a line "operation units" for each, in the order in which they ran.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "quire/block_allocator.h"
#include "quire/kv_cache.h"

namespace {

using quire::KvCache;
using quire::Sequence;
using quire::TokenId;

constexpr int32_t kTokensPerPage = 16;
constexpr int32_t kPages = 256;  // of a prompt
constexpr int32_t kPromptTokens = kPages * kTokensPerPage;
constexpr int32_t kBatch = 256;

void Require(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "golden_operations: %s\n", status.ToString().c_str());
  std::exit(1);
}

std::unique_ptr<KvCache> NewCache(int32_t page_count) {
  quire::Options options;
  options.groups = {{.tokens_per_page = kTokensPerPage, .page_count = page_count}};
  options.max_sequences = kBatch;
  options.max_sequence_tokens = 2 * kPromptTokens;
  absl::StatusOr<std::unique_ptr<KvCache>> cache = KvCache::Create(options);
  Require(cache.status());
  return *std::move(cache);
}

Sequence MustStart(KvCache& cache, std::span<const TokenId> prompt) {
  absl::StatusOr<Sequence> sequence = cache.Start(prompt);
  Require(sequence.status());
  return *std::move(sequence);
}

// `count` tokens that no earlier call gave.
std::vector<TokenId> FreshTokens(int32_t count) {
  static TokenId next = 0;
  std::vector<TokenId> tokens(static_cast<size_t>(count));
  for (TokenId& token : tokens) token = next++;
  return tokens;
}

// 256 running sequences on a pool that is full of cached pages.
struct Batch {
  explicit Batch(KvCache& cache) : counts(kBatch, 1), tokens(FreshTokens(kBatch)) {
    for (int32_t i = 0; i < kBatch; ++i) {
      // Every offset within a page, so that page borders do not fall into one step.
      const std::vector<TokenId> prompt = FreshTokens(kTokensPerPage + i % kTokensPerPage);
      sequences.push_back(MustStart(cache, prompt));
      Require(sequences.back().Reserve(static_cast<int32_t>(prompt.size())));
      Require(sequences.back().Commit(prompt));
    }
    for (Sequence& sequence : sequences) pointers.push_back(&sequence);
  }

  std::vector<Sequence> sequences;
  std::vector<Sequence*> pointers;
  std::vector<int32_t> counts;
  std::vector<TokenId> tokens;
};

}  // namespace

// Named without mangling, for callgrind's options.
extern "C" {

[[gnu::noinline]] void golden_allocate_release(quire::BlockAllocator& allocator, int32_t pages) {
  quire::PageId page;
  for (int32_t i = 0; i < pages; ++i) {
    Require(allocator.Allocate({&page, 1}));
    allocator.Release(page);
  }
}

[[gnu::noinline]] void golden_lookup(const KvCache& cache, std::span<const TokenId> prompt) {
  // The last token is never hit.
  if (cache.MatchLength(prompt) != kPromptTokens) std::exit(1);
}

[[gnu::noinline]] void golden_reserve_evicting(Sequence& sequence) {
  Require(sequence.Reserve(kPromptTokens));
}

[[gnu::noinline]] void golden_commit(Sequence& sequence, std::span<const TokenId> tokens) {
  Require(sequence.Commit(tokens));
}

[[gnu::noinline]] void golden_release(Sequence& sequence) { sequence = Sequence(); }

[[gnu::noinline]] void golden_decode_step(KvCache& cache, Batch& batch) {
  Require(cache.ReserveAll(batch.pointers, batch.counts));
  const quire::Plan plan = cache.TakePlan();
  Require(cache.CommitAll(batch.pointers, batch.tokens, batch.counts));
  cache.Retire(plan.ticket);
}

}  // extern "C"

int main() {
  absl::StatusOr<quire::BlockAllocator> allocator = quire::BlockAllocator::Create(kPages);
  Require(allocator.status());
  golden_allocate_release(*allocator, kPages);
  std::printf("allocate_release %d\n", kPages);

  // Four prompts fill the pool with cached pages; the fifth evicts the first.
  const std::unique_ptr<KvCache> cache = NewCache(4 * kPages);
  std::vector<TokenId> prompt;
  for (int i = 0; i < 4; ++i) {
    prompt = FreshTokens(kPromptTokens);
    Sequence sequence = MustStart(*cache, prompt);
    Require(sequence.Reserve(kPromptTokens));
    Require(sequence.Commit(prompt));
  }
  prompt.push_back(-1);
  golden_lookup(*cache, prompt);
  std::printf("lookup %d\n", kPages);

  prompt = FreshTokens(kPromptTokens);
  Sequence sequence = MustStart(*cache, prompt);
  golden_reserve_evicting(sequence);
  std::printf("reserve_evicting %d\n", kPages);
  golden_commit(sequence, prompt);
  std::printf("commit %d\n", kPages);
  golden_release(sequence);
  std::printf("release %d\n", kPages);

  // A sixteenth of the sequences takes a new page in each step, and evicts one for it.
  Batch batch(*cache);
  for (int i = 0; i < 2 * kTokensPerPage; ++i) {
    batch.tokens = FreshTokens(kBatch);
    Require(cache->ReserveAll(batch.pointers, batch.counts));
    Require(cache->CommitAll(batch.pointers, batch.tokens, batch.counts));
  }
  batch.tokens = FreshTokens(kBatch);
  const int64_t evictions = cache->stats().groups[0].evictions;
  golden_decode_step(*cache, batch);
  if (cache->stats().groups[0].evictions - evictions != kBatch / kTokensPerPage) {
    std::fprintf(stderr, "golden_operations: the decode step evicted another number of pages\n");
    return 1;
  }
  std::printf("decode_step %d\n", kBatch);
  return 0;
}
