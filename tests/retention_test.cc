// Priorities and lifetimes of a request's parts, seen from the front door.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

using Ranges = std::vector<Retention>;

// One token a page.
Options Plain(int32_t pages, Reclaim reclaim = Reclaim::kLru) {
  Options options = OneGroup(1, pages);
  options.reclaim = reclaim;
  return options;
}

Sequence Serve(KvCache& cache, const Tokens& prompt, const Ranges& retention = {}) {
  return Compute(cache, prompt, {}, {.retention = retention});
}

// Other people's requests, none of them seen before.
void Flood(KvCache& cache, int32_t requests, int32_t length, const Ranges& retention = {}) {
  static TokenId first = 100000;
  for (int32_t i = 0; i < requests; ++i) Serve(cache, Iota(first += 1000, length), retention);
}

int32_t Cached(const KvCache& cache, const Tokens& prompt) {
  return cache.MatchLength(prompt + Tokens{-1});
}

TEST(RetentionTest, AHighPrioritySurvivesAFlood) {
  for (const Reclaim reclaim : {Reclaim::kLru, Reclaim::kLearned}) {
    const auto cache = NewCache(Plain(20, reclaim));
    Serve(*cache, Iota(0, 6), Ranges{{.priority = 80}});
    Flood(*cache, 50, 10);
    EXPECT_EQ(Cached(*cache, Iota(0, 6)), 6);
    EXPECT_OK(cache->Validate());
  }
}

TEST(RetentionTest, WithoutItTheFloodTakesAll) {
  const auto cache = NewCache(Plain(20));
  Serve(*cache, Iota(0, 6), Ranges{{.priority = 50}});
  Flood(*cache, 50, 10);
  EXPECT_EQ(Cached(*cache, Iota(0, 6)), 0);
}

TEST(RetentionTest, ItIsSoft) {
  const auto cache = NewCache(Plain(10));
  Serve(*cache, Iota(0, 6), Ranges{{.priority = 100}});
  Serve(*cache, Iota(50, 4), Ranges{{.priority = 60}});
  Sequence large = Serve(*cache, Iota(100, 7));  // 60 goes first, then what is needed, tail first
  EXPECT_EQ(Cached(*cache, Iota(50, 4)), 0);
  EXPECT_EQ(Cached(*cache, Iota(0, 6)), 3);
  EXPECT_OK(large.Reserve(3));
  EXPECT_EQ(Cached(*cache, Iota(0, 6)), 0);
  EXPECT_OK(cache->Validate());
}

TEST(RetentionTest, ALowPriorityGoesFirst) {
  const auto cache = NewCache(Plain(12));
  Serve(*cache, Iota(0, 4));
  Serve(*cache, Iota(50, 4), Ranges{{.priority = 49}});
  Serve(*cache, Iota(70, 4), Ranges{{.priority = 10}});
  Flood(*cache, 1, 3);
  EXPECT_EQ(Cached(*cache, Iota(70, 4)), 1);
  Flood(*cache, 1, 5);
  EXPECT_EQ(Cached(*cache, Iota(70, 4)), 0);
  EXPECT_EQ(Cached(*cache, Iota(50, 4)), 0);
  EXPECT_EQ(Cached(*cache, Iota(0, 4)), 4);
}

TEST(RetentionTest, OnlyTheSystemPrompt) {
  const auto cache = NewCache(Plain(20));
  Serve(*cache, Iota(0, 5) + Iota(50, 5), Ranges{{.begin = 0, .end = 5, .priority = 80}});
  Flood(*cache, 10, 12);
  EXPECT_EQ(Cached(*cache, Iota(0, 5) + Iota(50, 5)), 5);
}

TEST(RetentionTest, WhatIsCommittedLaterCounts) {
  const auto cache = NewCache(Plain(20));
  {
    Sequence sequence = Serve(*cache, Iota(0, 3), Ranges{{.priority = 80}});
    ASSERT_OK(Feed(*cache, sequence, Iota(3, 3)));
  }
  Flood(*cache, 10, 12);
  EXPECT_EQ(Cached(*cache, Iota(0, 6)), 6);
}

// A parent never leaves before its child: what leads to a retained page is retained, too.
TEST(RetentionTest, WhatLeadsToARetainedPageIsRetained) {
  for (const Reclaim reclaim : {Reclaim::kLru, Reclaim::kLearned}) {
    const auto cache = NewCache(Plain(20, reclaim));
    Serve(*cache, Iota(0, 8),
          Ranges{{.begin = 0, .end = 3, .priority = 10}, {.begin = 5, .end = 6, .priority = 80}});
    Flood(*cache, 10, 12);
    EXPECT_EQ(Cached(*cache, Iota(0, 8)), 6);
    EXPECT_OK(cache->Validate());
  }
}

// What follows a low part by default keeps that part at the default.
TEST(RetentionTest, ALowPartThatLeadsToADefaultPartIsDefault) {
  const auto cache = NewCache(Plain(12));
  Serve(*cache, Iota(50, 4));
  Serve(*cache, Iota(0, 6), Ranges{{.begin = 0, .end = 3, .priority = 0}});
  Flood(*cache, 1, 6);
  EXPECT_EQ(Cached(*cache, Iota(50, 4)), 0);  // older
  EXPECT_EQ(Cached(*cache, Iota(0, 6)), 6);
}

// What is truncated stays cached with its priority, so what leads to it keeps that too.
TEST(RetentionTest, TruncatedPartsCount) {
  const auto cache = NewCache(Plain(20));
  {
    Sequence sequence = Serve(*cache, Iota(0, 6), Ranges{{.begin = 4, .end = 6, .priority = 80}});
    ASSERT_OK(sequence.Truncate(2));
  }
  Flood(*cache, 10, 12);
  EXPECT_EQ(Cached(*cache, Iota(0, 6)), 6);
}

// Nothing stands below what follows, so it is worth what its own request says.
TEST(RetentionTest, WhatATruncateToNothingCutsCountsNoMore) {
  const auto cache = NewCache(Plain(20));
  {
    Sequence sequence = Serve(*cache, Iota(0, 6), Ranges{{.begin = 4, .end = 6, .priority = 80}});
    ASSERT_OK(sequence.Truncate(0));
    ASSERT_OK(Feed(*cache, sequence, Iota(100, 4)));
  }
  {
    Sequence other = MustStart(*cache, Iota(0, 7));  // lets pages go that the first one marked
    ASSERT_EQ(other.hit_tokens(), 6);
    ASSERT_OK(other.Truncate(0));
    ASSERT_OK(Feed(*cache, other, Iota(200, 4)));
  }
  Flood(*cache, 10, 12);
  EXPECT_EQ(Cached(*cache, Iota(0, 6)), 6);
  EXPECT_EQ(Cached(*cache, Iota(100, 4)), 0);
  EXPECT_EQ(Cached(*cache, Iota(200, 4)), 0);
}

TEST(RetentionTest, OfOverlappingRangesTheHighestCounts) {
  const auto cache = NewCache(Plain(20));
  Serve(*cache, Iota(0, 8),
        Ranges{{.begin = 2, .end = 5, .priority = 90},
               {.begin = 0, .priority = 20},
               {.begin = 3, .end = 6, .priority = 70}});
  Flood(*cache, 1, 14);
  EXPECT_EQ(Cached(*cache, Iota(0, 8)), 6);
  Sequence live = Serve(*cache, Iota(500, 15));
  EXPECT_EQ(Cached(*cache, Iota(0, 8)), 5);
}

TEST(RetentionTest, WhenItsLifetimeIsOverAPageGoesLikeOthers) {
  const auto cache = NewCache(Plain(20));
  Serve(*cache, Iota(0, 5), Ranges{{.priority = 80, .lifetime_steps = 10}});
  for (int step = 0; step < 9; ++step) {
    Flood(*cache, 1, 10);  // one TakePlan
    ASSERT_EQ(Cached(*cache, Iota(0, 5)), 5) << step;
  }
  cache->TakePlan();
  EXPECT_OK(cache->Validate());
  EXPECT_EQ(Cached(*cache, Iota(0, 5)), 5);  // as just given back
  Flood(*cache, 1, 13);
  EXPECT_EQ(Cached(*cache, Iota(0, 5)), 5) << "older ones go before";
  Flood(*cache, 1, 12);
  EXPECT_EQ(Cached(*cache, Iota(0, 5)), 0);
}

TEST(RetentionTest, ALifetimeBeginsWhenThePageIsGivenBack) {
  const auto cache = NewCache(Plain(20));
  {
    Sequence sequence = Serve(*cache, Iota(0, 5), Ranges{{.priority = 80, .lifetime_steps = 3}});
    for (int step = 0; step < 20; ++step) cache->TakePlan();
  }
  Flood(*cache, 2, 15);
  EXPECT_EQ(Cached(*cache, Iota(0, 5)), 5);
  Flood(*cache, 3, 15);
  EXPECT_EQ(Cached(*cache, Iota(0, 5)), 0);
}

TEST(RetentionTest, AnotherRequestProlongsItAndNoneShortensIt) {
  const auto cache = NewCache(Plain(20));
  const Tokens prompt = Iota(0, 5);
  Serve(*cache, prompt, Ranges{{.priority = 80, .lifetime_steps = 10}});
  Serve(*cache, prompt + Tokens{50});  // by default
  Serve(*cache, prompt + Tokens{60}, Ranges{{.priority = 10}});
  Flood(*cache, 5, 12);
  EXPECT_EQ(Cached(*cache, prompt), 5);
  Serve(*cache, prompt + Tokens{70}, Ranges{{.priority = 60, .lifetime_steps = 20}});
  Flood(*cache, 15, 12);
  EXPECT_EQ(Cached(*cache, prompt), 5);
  Flood(*cache, 6, 12);
  EXPECT_EQ(Cached(*cache, prompt), 0);
}

TEST(RetentionTest, ForksInherit) {
  const auto cache = NewCache(Plain(20));
  {
    Sequence sequence = Serve(*cache, Iota(0, 4), Ranges{{.priority = 80}});
    Sequence fork = MustFork(sequence);
    sequence = Sequence();
    ASSERT_OK(Feed(*cache, fork, Iota(4, 2)));
  }
  Flood(*cache, 10, 12);
  EXPECT_EQ(Cached(*cache, Iota(0, 6)), 6);
}

// A slot that retained once does not do so for its next sequence.
TEST(RetentionTest, TheNextSequenceHasItsOwn) {
  const auto cache = NewCache(Plain(20));
  Serve(*cache, Iota(0, 3), Ranges{{.priority = 80}});
  Serve(*cache, Iota(50, 3));
  Flood(*cache, 10, 12);
  EXPECT_EQ(Cached(*cache, Iota(0, 3)), 3);
  EXPECT_EQ(Cached(*cache, Iota(50, 3)), 0);
}

TEST(RetentionTest, PartlyCoveredPagesCount) {
  Options options = Plain(8);
  options.groups[0].tokens_per_page = 4;
  const auto cache = NewCache(options);
  Serve(*cache, Iota(0, 12), Ranges{{.begin = 3, .end = 5, .priority = 80}});
  Flood(*cache, 10, 24);
  EXPECT_EQ(Cached(*cache, Iota(0, 12)), 8);
}

// A window's pages are given back one by one while the sequence goes on.
TEST(RetentionTest, PagesThatLeaveAWindow) {
  Options options = Plain(12);
  options.groups[0].lookback_tokens = 2;
  const auto cache = NewCache(options);
  {
    Sequence sequence = MustStart(*cache, Iota(0, 8), {}, {.retention = Ranges{{.priority = 80}}});
    for (int32_t i = 0; i < 8; ++i) ASSERT_OK(Feed(*cache, sequence, {i}));
  }
  Flood(*cache, 10, 4);
  EXPECT_EQ(Cached(*cache, Iota(0, 8)), 8);
  EXPECT_EQ(Cached(*cache, Iota(0, 4)), 4);
}

TEST(RetentionTest, StartRefusesBadRanges) {
  const auto cache = NewCache(Plain(20));
  const auto refuses = [&](const Ranges& ranges, const std::vector<std::string>& words) {
    return Says(StatusOf(cache->Start(Iota(0, 4), {}, {.retention = ranges})),
                absl::StatusCode::kInvalidArgument, words);
  };
  EXPECT_TRUE(refuses({{.begin = -1}}, {"retention[0] is tokens [-1, ", "at least 0"}));
  EXPECT_TRUE(refuses({{}, {.begin = 4, .end = 4}},
                      {"retention[1] is tokens [4, 4)", "end greater than begin"}));
  EXPECT_TRUE(refuses({{.priority = -1}}, {"retention[0].priority is -1", "0 to 100"}));
  EXPECT_TRUE(refuses({{.priority = 101}}, {"retention[0].priority is 101", "0 to 100"}));
  EXPECT_TRUE(refuses({{.lifetime_steps = -1}}, {"retention[0].lifetime_steps is -1"}));
  EXPECT_EQ(cache->stats().sequences, 0);
  EXPECT_OK(cache->Start(Iota(0, 4), {}, {.retention = Ranges{{.begin = 100, .end = 200}}}));
}

TEST(RetentionTest, CostsMemoryOnlyWhereItIsUsed) {
  Options options = Plain(1000);
  options.quotas = {{.tenant = "a"}};
  const auto cache = NewCache(options);
  Serve(*cache, Iota(0, 4));
  const int64_t before = cache->stats().metadata_bytes;
  Serve(*cache, Iota(0, 4), Ranges{{.priority = 60}});
  const int64_t once = cache->stats().metadata_bytes - before;
  EXPECT_GT(once, 0);
  EXPECT_LT(once, 42 * 1000);
  Serve(*cache, Iota(50, 4), Ranges{{.priority = 70}});
  EXPECT_LT(cache->stats().metadata_bytes - before, once + 1000);
}

// Requests from a small tree of prompts with any ranges. Whatever is given up, each page that is
// left has the page before it: then every node of the index has a page, for one token is one page
// and a last token that is never computed keeps requests from filling a page twice.
TEST(RetentionTest, RandomTrafficIsPrefixClosed) {
  for (const Reclaim reclaim : {Reclaim::kLru, Reclaim::kLearned}) {
    int64_t evictions = 0;
    int64_t hits = 0;
    for (uint32_t seed = 0; seed < 40; ++seed) {
      const auto cache = NewCache(Plain(24, reclaim));
      std::mt19937 random(seed);
      std::vector<Sequence> alive;
      for (int step = 0; step < 300; ++step) {
        Tokens prompt;
        for (uint32_t left = 1 + random() % 9; left > 0; --left) {
          prompt.push_back(static_cast<TokenId>(random() % 2));
        }
        Ranges ranges;
        for (uint32_t left = random() % 4; left > 0; --left) {
          const auto begin = static_cast<int32_t>(random() % 6);
          const auto length = static_cast<int32_t>(1 + random() % 6);
          ranges.push_back({.begin = begin,
                            .end = random() % 2 == 0 ? kAllTokens : begin + length,
                            .priority = static_cast<int32_t>(random() % 11) * 10,
                            .lifetime_steps = static_cast<int64_t>(random() % 12)});
        }
        Sequence sequence = MustStart(*cache, prompt + Tokens{-1}, {}, {.retention = ranges});
        const Tokens rest(prompt.begin() + sequence.length(), prompt.end());
        if (sequence.Reserve(static_cast<int32_t>(rest.size())).ok()) {
          RunPlan(*cache);
          ASSERT_OK(sequence.Commit(rest));
          if (random() % 3 == 0) alive.push_back(MustFork(sequence));
          if (random() % 4 == 0) {
            ASSERT_OK(sequence.Truncate(static_cast<int32_t>(random() % prompt.size())));
          }
          if (random() % 2 == 0) alive.push_back(std::move(sequence));
        }
        sequence = Sequence();
        while (alive.size() > random() % 4) {
          std::swap(alive[random() % alive.size()], alive.back());
          alive.pop_back();
        }
        ASSERT_OK(cache->Validate());
        const Stats stats = cache->stats();
        ASSERT_EQ(stats.index_nodes, stats.groups[0].pages_live + stats.groups[0].pages_cached)
            << "policy " << static_cast<int>(reclaim) << ", seed " << seed << ", step " << step;
      }
      evictions += cache->stats().groups[0].evictions;
      hits += cache->stats().tokens_hit;
    }
    EXPECT_GT(evictions, 1000);
    EXPECT_GT(hits, 1000);
  }
}

}  // namespace
}  // namespace quire::testing
