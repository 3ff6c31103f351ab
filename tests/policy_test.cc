// Every policy under a whole KvCache: random traffic, every invariant after every step.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"
#include "tests/support/reclaimer_tree.h"

namespace quire::testing {
namespace {

enum class Shape { kOneGroup, kTwoPageLengths, kFullAndWindow };

Options OptionsOf(Shape shape, Reclaim reclaim) {
  Options options;
  switch (shape) {
    case Shape::kOneGroup:
      options = OneGroup(4, 40);
      break;
    case Shape::kTwoPageLengths:
      options = MakeOptions({Group(4, 40), Group(8, 22)});
      break;
    case Shape::kFullAndWindow:
      options = MakeOptions({Group(4, 40), Group(4, 24, 9)});
      break;
  }
  options.reclaim = reclaim;
  return options;
}

// Conversations that share openings and go on, a few at a time, in a pool that is too small.
class Traffic {
 public:
  Traffic(const Options& options, uint32_t seed) : cache_(NewCache(options)), random_(seed) {}

  void Step() {
    const uint32_t choice = random_() % 8;
    if (running_.empty() || (running_.size() < 4 && choice < 3)) {
      Begin();
    } else if (choice == 7) {
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(random_() % running_.size()));
    } else {
      GoOn(running_[random_() % running_.size()]);
    }
    ASSERT_OK(cache_->Validate());
  }

  const KvCache& cache() const { return *cache_; }
  int64_t hits() const { return hits_; }

 private:
  struct Running {
    Sequence sequence;
    Tokens prompt;
  };

  Tokens RandomTokens(int count) {
    Tokens tokens;
    for (int i = 0; i < count; ++i) tokens.push_back(static_cast<TokenId>(random_() % 3));
    return tokens;
  }

  void Begin() {
    // Some go on from what was there, some begin anew.
    Tokens prompt = RandomTokens(2);
    if (!past_.empty() && random_() % 4 != 0) {
      prompt = past_[past_.size() - 1 - random_() % std::min<size_t>(past_.size(), 40)];
    }
    prompt.resize(std::min<size_t>(prompt.size(), 4 + random_() % 48));
    prompt = prompt + RandomTokens(1 + static_cast<int>(random_() % 12));
    Sequence sequence = MustStart(*cache_, prompt);
    ASSERT_LE(sequence.hit_tokens(), LongestCommitted(prompt));
    hits_ += sequence.hit_tokens();
    running_.push_back({std::move(sequence), prompt});
  }

  int32_t LongestCommitted(const Tokens& prompt) const {
    size_t longest = 0;
    for (const Tokens& past : past_) {
      size_t same = 0;
      while (same < past.size() && same < prompt.size() && past[same] == prompt[same]) ++same;
      longest = std::max(longest, same);
    }
    return static_cast<int32_t>(longest);
  }

  // The rest of the prompt in pieces, then answers of one token.
  void GoOn(Running& running) {
    const auto done = static_cast<size_t>(running.sequence.length());
    if (done >= running.prompt.size()) running.prompt = running.prompt + RandomTokens(1);
    const size_t count = std::min<size_t>(running.prompt.size() - done, 1 + random_() % 16);
    const auto begin = running.prompt.begin() + static_cast<std::ptrdiff_t>(done);
    const Tokens tokens(begin, begin + static_cast<std::ptrdiff_t>(count));
    const absl::Status status = Feed(*cache_, running.sequence, tokens);
    if (absl::IsResourceExhausted(status)) {
      running_.erase(running_.begin());  // the oldest makes room
      return;
    }
    ASSERT_OK(status);
    past_.push_back(Tokens(running.prompt.begin(), begin + static_cast<std::ptrdiff_t>(count)));
  }

  std::unique_ptr<KvCache> cache_;
  std::mt19937 random_;
  std::vector<Tokens> past_;  // committed
  std::deque<Running> running_;
  int64_t hits_ = 0;
};

class PolicyTest : public ::testing::TestWithParam<std::tuple<Reclaim, Shape>> {};

std::string NameOf(const ::testing::TestParamInfo<PolicyTest::ParamType>& info) {
  const std::string policy = PolicyNameOf(std::get<0>(info.param));
  switch (std::get<1>(info.param)) {
    case Shape::kOneGroup:
      return policy + "OneGroup";
    case Shape::kTwoPageLengths:
      return policy + "TwoPageLengths";
    case Shape::kFullAndWindow:
      return policy + "FullAndWindow";
  }
  return policy;
}

INSTANTIATE_TEST_SUITE_P(Every, PolicyTest,
                         ::testing::Combine(::testing::ValuesIn(kEveryPolicy),
                                            ::testing::Values(Shape::kOneGroup,
                                                              Shape::kTwoPageLengths,
                                                              Shape::kFullAndWindow)),
                         NameOf);

TEST_P(PolicyTest, RandomTrafficKeepsEveryInvariant) {
  const auto [reclaim, shape] = GetParam();
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    Traffic traffic(OptionsOf(shape, reclaim), seed);
    for (int step = 0; step < 3000 && !HasFatalFailure(); ++step) traffic.Step();
    for (const GroupStats& group : traffic.cache().stats().groups) EXPECT_GT(group.evictions, 200);
    EXPECT_GT(traffic.hits(), 1000);
  }
}

// One request after another; the tokens hit by each. What comes after the prompt is never
// committed, so that all of the prompt may be hit and no page is there twice.
std::vector<int32_t> HitsOf(const Options& options, const std::vector<Tokens>& prompts) {
  const std::unique_ptr<KvCache> cache = NewCache(options);
  std::vector<int32_t> hits;
  for (const Tokens& prompt : prompts) {
    Sequence sequence = MustStart(*cache, prompt + Tokens{-1});
    hits.push_back(sequence.hit_tokens());
    EXPECT_OK(Feed(*cache, sequence, Tokens(prompt.begin() + sequence.length(), prompt.end())));
  }
  return hits;
}

std::vector<Tokens> SomePrompts(uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<Tokens> prompts;
  for (int i = 0; i < 600; ++i) {
    Tokens prompt;
    if (!prompts.empty() && random() % 3 != 0) prompt = prompts[random() % prompts.size()];
    prompt.resize(std::min<size_t>(prompt.size(), random() % 24));
    for (size_t more = 1 + random() % 6; more > 0; --more) {
      prompt.push_back(static_cast<TokenId>(random() % 5));
    }
    prompts.push_back(prompt);
  }
  return prompts;
}

// Where nothing has to go, the policy has no say.
TEST(PoliciesTest, WithRoomForAllEveryPolicyHitsTheSame) {
  const std::vector<Tokens> prompts = SomePrompts(1);
  Options options = OneGroup(1, 20000);
  options.reclaim = Reclaim::kLru;
  const std::vector<int32_t> hits = HitsOf(options, prompts);
  EXPECT_GT(*std::max_element(hits.begin(), hits.end()), 10);
  for (const Reclaim reclaim : kEveryPolicy) {
    options.reclaim = reclaim;
    EXPECT_EQ(HitsOf(options, prompts), hits) << PolicyNameOf(reclaim);
  }
}

// What LRU is, written down plainly: prefixes in the order in which they were let go, the tail of a
// prompt before its head.
std::vector<int32_t> PlainLru(size_t pages, const std::vector<Tokens>& prompts) {
  std::deque<Tokens> cached;
  std::vector<int32_t> hits;
  for (const Tokens& prompt : prompts) {
    const auto prefix = [&](size_t length) {
      return Tokens(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(length));
    };
    size_t hit = 0;
    while (hit < prompt.size()) {
      const auto found = std::find(cached.begin(), cached.end(), prefix(hit + 1));
      if (found == cached.end()) break;
      cached.erase(found);
      ++hit;
    }
    hits.push_back(static_cast<int32_t>(hit));
    while (cached.size() + prompt.size() > pages) cached.pop_front();
    for (size_t length = prompt.size(); length > 0; --length) cached.push_back(prefix(length));
  }
  return hits;
}

TEST(PoliciesTest, LruHitsWhatAPlainListHits) {
  for (const int32_t pages : {40, 100, 300}) {
    const std::vector<Tokens> prompts = SomePrompts(2);
    Options options = OneGroup(1, pages);
    options.reclaim = Reclaim::kLru;
    EXPECT_EQ(HitsOf(options, prompts), PlainLru(static_cast<size_t>(pages), prompts)) << pages;
  }
}

// Two pages with one key, and a third page behind them. Two must go: one of the two stays.
TEST(PolicyTest, DuplicatesDoNotLeaveTogetherBeforeWhatFollows) {
  for (int i = 0; i < 6; ++i) {
    Options options = OneGroup(1, 3);
    options.reclaim = static_cast<Reclaim>(i);
    const auto cache = NewCache(options);
    {
      Sequence a = MustStart(*cache, {1, 2});
      Sequence b = MustStart(*cache, {1, 2});
      ASSERT_OK(Feed(*cache, a, {1}));
      ASSERT_OK(Feed(*cache, b, {1, 2}));
    }
    EXPECT_EQ(StatsOf(*cache).pages_cached, 3);
    Compute(*cache, {7, 8});
    EXPECT_EQ(cache->MatchLength(Tokens{1, 2, 3}), 1) << "policy " << i;
    EXPECT_OK(cache->Validate());
  }
}

}  // namespace
}  // namespace quire::testing
