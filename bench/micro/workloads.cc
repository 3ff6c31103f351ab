#include "bench/micro/workloads.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <span>
#include <utility>

#include "bench/micro/yardsticks.h"

namespace quire::bench {

double Now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void Require(const absl::Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "benchmark: %s\n", status.ToString().c_str());
    std::abort();
  }
}

std::vector<TokenId> MakePrompt(int32_t which, int32_t tokens) {
  std::vector<TokenId> prompt(static_cast<size_t>(tokens));
  uint32_t x = static_cast<uint32_t>(which) * 2654435761u + 12345u;
  for (TokenId& token : prompt) {
    x = x * 1664525u + 1013904223u;
    token = static_cast<TokenId>(x >> 15);
  }
  return prompt;
}

int32_t FreshPrompt() {
  static int32_t fresh = 1 << 24;
  return fresh++;
}

ShuffledPool::ShuffledPool(int32_t pages)
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

void ShuffledPool::Turn(size_t batch) {
  const std::span<PageId> pages = std::span(live_).subspan(at_, batch);
  for (const PageId page : pages) allocator_.Release(page);
  (void)allocator_.Allocate(pages);
  at_ = at_ + 2 * batch > live_.size() ? 0 : at_ + batch;
}

FullCache::FullCache(int32_t pages) {
  const int32_t prompt_count = pages / kPromptPages;
  Options options;
  options.groups = {{.tokens_per_page = kTokensPerPage, .page_count = pages}};
  options.max_sequences = prompt_count + 8;
  options.max_sequence_tokens = 2 * kPromptTokens;
  cache_ = *KvCache::Create(options);
  std::vector<Sequence> sequences;
  for (int32_t i = 0; i < prompt_count; ++i) {
    prompts_.push_back(MakePrompt(i));
    sequences.push_back(*cache_->Start(prompts_.back()));
  }
  const std::vector<int32_t> order = Shuffled(prompt_count, 3);
  for (int32_t page = 0; page < kPromptPages; ++page) {
    for (const int32_t i : order) {
      Sequence& sequence = sequences[static_cast<size_t>(i)];
      Require(sequence.Reserve(kTokensPerPage));
      Require(sequence.Commit(
          std::span(prompts_[static_cast<size_t>(i)])
              .subspan(static_cast<size_t>(page) * kTokensPerPage, kTokensPerPage)));
    }
  }
  order_ = Shuffled(prompt_count, 4);
}

FullCache& CacheOf(int32_t pages) {
  static std::map<int32_t, std::unique_ptr<FullCache>> caches;
  std::unique_ptr<FullCache>& cache = caches[pages];
  if (cache == nullptr) cache = std::make_unique<FullCache>(pages);
  return *cache;
}

Decode::Decode(const Options& options)
    : max_length_(options.max_length),
      counts_(static_cast<size_t>(options.batch), 1),
      tokens_(static_cast<size_t>(options.batch)) {
  quire::Options cache_options;
  cache_options.groups = {{.tokens_per_page = kTokensPerPage, .page_count = options.pages}};
  if (options.window) {
    cache_options.groups.push_back(
        {.tokens_per_page = kTokensPerPage, .page_count = options.pages, .lookback_tokens = 1023});
  }
  cache_options.max_sequences = options.batch;
  cache_options.max_sequence_tokens = max_length_ + kStepsTimed;
  cache_ = *KvCache::Create(cache_options);
  sequences_.resize(static_cast<size_t>(options.batch));
  for (int32_t i = 0; i < options.batch; ++i) {
    const auto index = static_cast<size_t>(i);
    // Lengths spread out, so that page borders and ends do not fall into one step.
    Replace(index, 16 + static_cast<int32_t>(int64_t{i} * (max_length_ - 32) / options.batch));
    pointers_.push_back(&sequences_[index]);
  }
  // Until the pool is full of cached pages.
  for (int i = 0; i < 2 * max_length_; ++i) {
    ReplaceFinished();
    Step();
  }
}

void Decode::Step() {
  Require(cache_->ReserveAll(pointers_, counts_));
  const Plan plan = cache_->TakePlan();
  for (TokenId& token : tokens_) token = next_token_++;
  Require(cache_->CommitAll(pointers_, tokens_, counts_));
  cache_->Retire(plan.ticket);
}

void Decode::ReplaceFinished() {
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (sequences_[i].length() + 1 >= max_length_) Replace(i, 16);
  }
}

void Decode::Replace(size_t i, int32_t length) {
  std::vector<TokenId> prompt(static_cast<size_t>(length));
  for (TokenId& token : prompt) token = next_token_++;
  Sequence& sequence = sequences_[i];
  sequence = Sequence();
  sequence = *cache_->Start(prompt);
  Require(sequence.Reserve(length));
  Require(sequence.Commit(prompt));
}

}  // namespace quire::bench
