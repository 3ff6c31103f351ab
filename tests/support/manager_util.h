// Small helpers shared by the tests of the manager.

#ifndef QUIRE_TESTS_SUPPORT_MANAGER_UTIL_H_
#define QUIRE_TESTS_SUPPORT_MANAGER_UTIL_H_

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/kv_cache.h"

namespace quire::testing {

using Tokens = std::vector<TokenId>;

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

// first, first + 1, ...: tokens that are all different.
inline Tokens Iota(TokenId first, int32_t count) {
  Tokens tokens(static_cast<size_t>(count));
  for (int32_t i = 0; i < count; ++i) tokens[static_cast<size_t>(i)] = first + i;
  return tokens;
}

inline Tokens operator+(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline GroupOptions Group(int32_t tokens_per_page, int32_t page_count,
                          int32_t lookback_tokens = kAllTokens) {
  GroupOptions group;
  group.tokens_per_page = tokens_per_page;
  group.page_count = page_count;
  group.page_bytes = 100;
  group.lookback_tokens = lookback_tokens;
  return group;
}

// Small limits, so that a test that forgets one notices.
inline Options MakeOptions(std::vector<GroupOptions> groups) {
  Options options;
  options.groups = std::move(groups);
  options.max_sequences = 16;
  options.max_sequence_tokens = 1024;
  return options;
}

inline Options OneGroup(int32_t tokens_per_page, int32_t page_count,
                        int32_t lookback_tokens = kAllTokens) {
  return MakeOptions({Group(tokens_per_page, page_count, lookback_tokens)});
}

inline std::unique_ptr<KvCache> NewCache(const Options& options) {
  absl::StatusOr<std::unique_ptr<KvCache>> cache = KvCache::Create(options);
  if (!cache.ok()) {
    std::cerr << "KvCache::Create: " << cache.status() << '\n';
    std::abort();
  }
  return *std::move(cache);
}

inline Sequence MustStart(KvCache& cache, const Tokens& prompt, const Namespace& ns = {},
                          const StartOptions& options = {}) {
  absl::StatusOr<Sequence> sequence = cache.Start(prompt, ns, options);
  if (!sequence.ok()) {
    std::cerr << "KvCache::Start: " << sequence.status() << '\n';
    std::abort();
  }
  return *std::move(sequence);
}

inline Sequence MustFork(const Sequence& sequence) {
  absl::StatusOr<Sequence> fork = sequence.Fork();
  if (!fork.ok()) {
    std::cerr << "Sequence::Fork: " << fork.status() << '\n';
    std::abort();
  }
  return *std::move(fork);
}

// Takes the plan and retires it at once, as an engine on one stream may.
inline std::vector<PageCopy> RunPlan(KvCache& cache) {
  const Plan plan = cache.TakePlan();
  std::vector<PageCopy> copies(plan.copies.begin(), plan.copies.end());
  cache.Retire(plan.ticket);
  return copies;
}

// One step of an engine: make room, carry the copies out, write, commit.
inline absl::Status Feed(KvCache& cache, Sequence& sequence, const Tokens& tokens) {
  const absl::Status reserved = sequence.Reserve(static_cast<int32_t>(tokens.size()));
  if (!reserved.ok()) return reserved;
  RunPlan(cache);
  return sequence.Commit(tokens);
}

// Starts the prompt and computes all of it that was not hit.
inline Sequence Compute(KvCache& cache, const Tokens& prompt, const Namespace& ns = {},
                        const StartOptions& options = {}) {
  Sequence sequence = MustStart(cache, prompt, ns, options);
  const absl::Status fed =
      Feed(cache, sequence, Tokens(prompt.begin() + sequence.length(), prompt.end()));
  if (!fed.ok()) {
    std::cerr << "Feed: " << fed << '\n';
    std::abort();
  }
  return sequence;
}

inline std::vector<int32_t> Ids(std::span<const PageId> pages) {
  std::vector<int32_t> ids;
  for (const PageId page : pages) ids.push_back(static_cast<int32_t>(page));
  return ids;
}

inline std::vector<int32_t> PagesOf(const Sequence& sequence, int32_t group = 0) {
  return Ids(sequence.pages(GroupId{group}));
}

inline GroupStats StatsOf(const KvCache& cache, int32_t group = 0) {
  return cache.stats().groups[static_cast<size_t>(group)];
}

// Expected, not a failure of anything: a code and nothing else.
inline ::testing::AssertionResult IsBare(const absl::Status& status, absl::StatusCode code) {
  if (status.code() != code) return ::testing::AssertionFailure() << "is " << status;
  if (!status.message().empty()) {
    return ::testing::AssertionFailure() << "has a message: " << status;
  }
  return ::testing::AssertionSuccess();
}

// The message must tell its reader which field and what would be right.
inline ::testing::AssertionResult Says(const absl::Status& status, absl::StatusCode code,
                                       const std::vector<std::string>& words) {
  if (status.code() != code) return ::testing::AssertionFailure() << "is " << status;
  const std::string message(status.message());
  if (message.empty()) return ::testing::AssertionFailure() << "has no message";
  for (const std::string& word : words) {
    if (message.find(word) == std::string::npos) {
      return ::testing::AssertionFailure() << "does not say '" << word << "': " << message;
    }
  }
  return ::testing::AssertionSuccess();
}

// All that a caller can see of a cache and its sequences, apart from the counters that count calls
// (they move when a call is refused, too).
std::string Snapshot(const KvCache& cache, const std::vector<const Sequence*>& sequences);

}  // namespace quire::testing

#define EXPECT_OK(expression) EXPECT_EQ(::quire::testing::StatusOf((expression)).ToString(), "OK")
#define ASSERT_OK(expression) ASSERT_EQ(::quire::testing::StatusOf((expression)).ToString(), "OK")

// Bare "not now".
#define EXPECT_NO_ROOM(expression)                                               \
  EXPECT_TRUE(::quire::testing::IsBare(::quire::testing::StatusOf((expression)), \
                                       absl::StatusCode::kResourceExhausted))

#endif  // QUIRE_TESTS_SUPPORT_MANAGER_UTIL_H_
