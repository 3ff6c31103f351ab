// Quotas: what a tenant is guaranteed, what it may have at most, and who gives pages up.

#include <algorithm>
#include <array>
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

Namespace Tenant(const std::string& name) { return Namespace().SetTenant(name); }

// One token a page, so that a prompt of n tokens is n pages.
Options WithQuotas(int32_t pages, std::vector<Quota> quotas) {
  Options options = OneGroup(1, pages);
  options.reclaim = Reclaim::kLru;
  options.quotas = std::move(quotas);
  return options;
}

// What a request leaves when it is done: `count` cached pages.
void Cache(KvCache& cache, const std::string& tenant, TokenId first, int32_t count) {
  Compute(cache, Iota(first, count), Tenant(tenant));
}

// One request after another, each of `length` tokens nobody saw before.
void Flood(KvCache& cache, const std::string& tenant, int32_t requests, int32_t length) {
  for (int32_t i = 0; i < requests; ++i) Cache(cache, tenant, 100000 + 1000 * i, length);
}

TenantStats TenantOf(const KvCache& cache, size_t tenant, size_t group = 0) {
  return cache.stats().groups[group].tenants[tenant];
}

int32_t UsedBy(const KvCache& cache, size_t tenant, size_t group = 0) {
  const TenantStats stats = TenantOf(cache, tenant, group);
  return stats.pages_live + stats.pages_cached;
}

int32_t Hit(const KvCache& cache, const std::string& tenant, TokenId first, int32_t count) {
  return cache.MatchLength(Iota(first, count) + Tokens{-1}, Tenant(tenant));
}

TEST(QuotaTest, StatsNameTheTenants) {
  EXPECT_TRUE(NewCache(OneGroup(1, 10))->stats().groups[0].tenants.empty());
  const auto cache = NewCache(WithQuotas(
      10, {{.tenant = "a", .guaranteed_permille = 250, .max_permille = 550}, {.tenant = "b"}}));
  Cache(*cache, "b", 0, 2);
  const Sequence sequence = Compute(*cache, Iota(0, 3), Tenant("a"));
  Cache(*cache, "a", 50, 1);
  Cache(*cache, "somebody", 0, 1);
  const std::vector<TenantStats> tenants = cache->stats().groups[0].tenants;
  ASSERT_EQ(tenants.size(), 3u);
  const auto expect = [&](size_t i, const char* tenant, int32_t live, int32_t cached,
                          int32_t guaranteed, int32_t max) {
    EXPECT_EQ(tenants[i].tenant, tenant);
    EXPECT_EQ(tenants[i].pages_live, live) << i;
    EXPECT_EQ(tenants[i].pages_cached, cached) << i;
    EXPECT_EQ(tenants[i].guaranteed_pages, guaranteed) << i;
    EXPECT_EQ(tenants[i].max_pages, max) << i;
  };
  expect(0, "a", 3, 1, 2, 6);  // guarantees are rounded down, maxima up
  expect(1, "b", 0, 2, 0, 10);
  expect(2, "", 0, 1, 0, 10);
  EXPECT_OK(cache->Validate());
}

TEST(QuotaTest, AFloodLeavesTheGuaranteedCachedPages) {
  const auto cache = NewCache(WithQuotas(10, {{.tenant = "a", .guaranteed_permille = 400}}));
  Cache(*cache, "a", 0, 6);
  Flood(*cache, "b", 50, 6);
  EXPECT_EQ(UsedBy(*cache, 0), 4);  // only down to the guarantee
  EXPECT_EQ(Hit(*cache, "a", 0, 6), 4);
  EXPECT_EQ(UsedBy(*cache, 1), 6);
  EXPECT_OK(cache->Validate());
}

TEST(QuotaTest, AFloodLeavesTheGuaranteedFreePages) {
  const auto cache = NewCache(WithQuotas(10, {{.tenant = "a", .guaranteed_permille = 400}}));
  Sequence b = Compute(*cache, Iota(0, 6), Tenant("b"));
  EXPECT_EQ(StatsOf(*cache).pages_free, 4);
  Sequence more = MustStart(*cache, Iota(50, 2), Tenant("b"));
  EXPECT_NO_ROOM(more.Reserve(1));
  // They are there when the tenant comes.
  Sequence a = Compute(*cache, Iota(0, 4), Tenant("a"));
  EXPECT_NO_ROOM(a.Reserve(1));
  EXPECT_OK(cache->Validate());
}

TEST(QuotaTest, WhatIsNotGuaranteedIsAnybodys) {
  const auto cache = NewCache(WithQuotas(10, {{.tenant = "a", .guaranteed_permille = 400}}));
  Cache(*cache, "a", 0, 10);
  EXPECT_EQ(UsedBy(*cache, 0), 10);  // more than its guarantee while nobody wants it
  Cache(*cache, "b", 0, 1);
  EXPECT_EQ(UsedBy(*cache, 0), 9);
  EXPECT_EQ(UsedBy(*cache, 1), 1);
}

TEST(QuotaTest, TheMaximumHoldsUnderAFlood) {
  const auto cache = NewCache(WithQuotas(10, {{.tenant = "a", .max_permille = 300}}));
  for (int32_t i = 0; i < 20; ++i) {
    Cache(*cache, "a", 1000 * i, 2);
    EXPECT_LE(UsedBy(*cache, 0), 3);
    EXPECT_EQ(Hit(*cache, "a", 1000 * i, 2), 2) << "recycles its older pages for the new ones";
  }
  EXPECT_EQ(UsedBy(*cache, 0), 3);
  EXPECT_EQ(StatsOf(*cache).pages_free, 7);
  Sequence live = Compute(*cache, Iota(0, 3), Tenant("a"));
  EXPECT_NO_ROOM(MustStart(*cache, Iota(50, 2), Tenant("a")).Reserve(1));
  EXPECT_OK(cache->Validate());
}

TEST(QuotaTest, AtItsMaximumATenantTakesNothingFromOthers) {
  const auto cache = NewCache(WithQuotas(10, {{.tenant = "a", .max_permille = 300}}));
  Cache(*cache, "b", 0, 7);
  Cache(*cache, "a", 0, 3);
  Cache(*cache, "a", 50, 3);
  EXPECT_EQ(Hit(*cache, "b", 0, 7), 7);
  EXPECT_EQ(Hit(*cache, "a", 0, 3), 0);
  EXPECT_EQ(Hit(*cache, "a", 50, 3), 3);
}

// Its guarantee is full of its own cached pages, and all else is in use.
TEST(QuotaTest, AtItsGuaranteeATenantRecyclesItsOwnPages) {
  const auto cache = NewCache(WithQuotas(10, {{.tenant = "a", .guaranteed_permille = 400}}));
  Cache(*cache, "a", 0, 4);
  const Sequence b = Compute(*cache, Iota(0, 6), Tenant("b"));
  Cache(*cache, "a", 50, 3);
  EXPECT_EQ(Hit(*cache, "a", 0, 4), 1);
  EXPECT_EQ(Hit(*cache, "a", 50, 3), 3);
  EXPECT_OK(cache->Validate());
}

TEST(QuotaTest, WhoIsMostAboveItsGuaranteeGives) {
  const auto cache =
      NewCache(WithQuotas(12, {{.tenant = "a", .guaranteed_permille = 334}, {.tenant = "b"}}));
  Cache(*cache, "a", 0, 7);  // 3 above the 4 that it is guaranteed
  Cache(*cache, "b", 0, 5);
  Cache(*cache, "c", 0, 1);
  EXPECT_EQ(UsedBy(*cache, 0), 7);
  EXPECT_EQ(UsedBy(*cache, 1), 4);
  Cache(*cache, "c", 50, 1);  // then it is 3, 4 and 2: b again
  EXPECT_EQ(UsedBy(*cache, 1), 3);
  Cache(*cache, "c", 60, 1);  // a tie of a, b and the one who asks: the first
  EXPECT_EQ(UsedBy(*cache, 0), 6);
  EXPECT_EQ(UsedBy(*cache, 1), 3);
  EXPECT_EQ(UsedBy(*cache, 2), 3);
}

TEST(QuotaTest, OthersShareOneAccountWithoutAGuarantee) {
  const auto cache =
      NewCache(WithQuotas(10, {{.tenant = "", .guaranteed_permille = 300, .max_permille = 300}}));
  Compute(*cache, Iota(0, 2));  // no tenant is not the tenant ""
  Cache(*cache, "x", 0, 2);
  Cache(*cache, "y", 0, 3);
  EXPECT_EQ(UsedBy(*cache, 1), 7);
  Cache(*cache, "z", 0, 7);
  EXPECT_EQ(UsedBy(*cache, 1), 7);
  EXPECT_EQ(Hit(*cache, "x", 0, 2), 0);
  Cache(*cache, "", 0, 3);
  EXPECT_EQ(UsedBy(*cache, 0), 3);
  EXPECT_EQ(Hit(*cache, "z", 0, 7), 7);
}

TEST(QuotaTest, TwoTenantsInABatchAllOrNothing) {
  const auto cache = NewCache(WithQuotas(
      10, {{.tenant = "a", .guaranteed_permille = 300, .max_permille = 500}, {.tenant = "b"}}));
  Cache(*cache, "a", 1000, 4);
  Cache(*cache, "b", 1000, 6);
  Sequence a = MustStart(*cache, Iota(0, 5), Tenant("a"));
  Sequence b = MustStart(*cache, Iota(0, 6), Tenant("b"));
  const std::array<Sequence*, 2> batch = {&a, &b};
  const auto reserve = [&](int32_t for_a, int32_t for_b) {
    return cache->ReserveAll(batch, std::array{for_a, for_b});
  };
  const std::string before = Snapshot(*cache, {&a, &b});
  // Either would fit alone: a's third page leaves b none of its eighth.
  EXPECT_NO_ROOM(reserve(4, 7));
  EXPECT_NO_ROOM(reserve(5, 6));
  EXPECT_EQ(Snapshot(*cache, {&a, &b}), before);
  EXPECT_OK(cache->Validate());
  EXPECT_OK(reserve(4, 6));
  EXPECT_EQ(TenantOf(*cache, 0).pages_live, 4);
  EXPECT_EQ(TenantOf(*cache, 1).pages_live, 6);
  EXPECT_OK(cache->Validate());
}

TEST(QuotaTest, NeverFitsNamesTheQuota) {
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  const auto cache = NewCache(WithQuotas(
      10, {{.tenant = "acme", .max_permille = 300}, {.tenant = "b", .guaranteed_permille = 200}}));
  const std::vector<std::string> words = {"4 pages", "pool has 10", "tenant 'acme' may have 3",
                                          "quotas[0].max_permille", "never fit"};
  EXPECT_OK(cache->CheckFits(3, 1, Tenant("acme")));
  EXPECT_TRUE(Says(cache->CheckFits(4, 1, Tenant("acme")), kInvalid, words));
  EXPECT_TRUE(Says(StatusOf(cache->Start(Iota(0, 4), Tenant("acme"))), kInvalid, words));
  Sequence sequence = MustStart(*cache, Iota(0, 3), Tenant("acme"));
  EXPECT_TRUE(Says(sequence.Reserve(4), kInvalid, words));

  const std::vector<std::string> others = {"9 pages", "tenants without a quota may have 8",
                                           "2 are guaranteed to other tenants"};
  EXPECT_OK(cache->CheckFits(8, 1));
  EXPECT_TRUE(Says(cache->CheckFits(9, 1), kInvalid, others));
  EXPECT_TRUE(Says(cache->CheckFits(9, 1, Tenant("x")), kInvalid, others));
  EXPECT_OK(cache->CheckFits(10, 1, Tenant("b")));
  EXPECT_TRUE(Says(cache->CheckFits(11, 1, Tenant("b")), kInvalid,
                   {"pool has 10 (groups[0].page_count):"}));
}

// Pages past a window are given back, so a long request fits a small share.
TEST(QuotaTest, AWindowFitsASmallShare) {
  Options options = WithQuotas(10, {{.tenant = "a", .max_permille = 400}});
  options.groups[0].lookback_tokens = 2;
  const auto cache = NewCache(options);
  EXPECT_OK(cache->CheckFits(100, 1, Tenant("a")));
  EXPECT_FALSE(cache->CheckFits(100, 4, Tenant("a")).ok());
  Sequence a = MustStart(*cache, Iota(0, 20), Tenant("a"));
  for (int32_t i = 0; i < 20; ++i) ASSERT_OK(Feed(*cache, a, {i}));
  EXPECT_EQ(UsedBy(*cache, 0), 4);
  EXPECT_OK(cache->Validate());
}

TEST(QuotaTest, ASharedPageIsChargedOnceAndACopyToo) {
  Options options = WithQuotas(10, {{.tenant = "a", .max_permille = 300}});
  options.groups[0].tokens_per_page = 4;
  const auto cache = NewCache(options);
  Sequence a = Compute(*cache, Iota(0, 6), Tenant("a"));
  Sequence fork = MustFork(a);
  EXPECT_EQ(UsedBy(*cache, 0), 2);
  ASSERT_OK(fork.Reserve(1));  // a copy of the page that both stand in
  EXPECT_EQ(UsedBy(*cache, 0), 3);
  RunPlan(*cache);
  EXPECT_OK(fork.Commit(Tokens{6}));
  EXPECT_NO_ROOM(fork.Reserve(2));
  EXPECT_OK(cache->Validate());
}

// A partly matching page, and the quota has no page for the copy: it is taken over, as it would be
// if the pool were full.
TEST(QuotaTest, AtItsMaximumACopyIsAvoided) {
  Options options = WithQuotas(10, {{.tenant = "a", .max_permille = 100}});
  options.groups[0].tokens_per_page = 4;
  options.min_copy_tokens = 1;
  const auto cache = NewCache(options);
  Cache(*cache, "a", 0, 4);
  Sequence a = MustStart(*cache, {0, 1, 50}, Tenant("a"));
  ASSERT_EQ(a.length(), 2);
  EXPECT_OK(a.Reserve(2));
  EXPECT_TRUE(RunPlan(*cache).empty());
  EXPECT_EQ(UsedBy(*cache, 0), 1);
  EXPECT_OK(cache->Validate());
}

// The same between tenants: only as many copies are avoided as the guarantees of others need.
TEST(QuotaTest, BesideAGuaranteeACopyIsAvoided) {
  Options options = WithQuotas(3, {{.tenant = "a", .guaranteed_permille = 334}, {.tenant = "b"}});
  options.groups[0].tokens_per_page = 4;
  options.min_copy_tokens = 1;
  const auto cache = NewCache(options);
  Cache(*cache, "b", 0, 4);
  Cache(*cache, "b", 20, 4);
  Sequence first = MustStart(*cache, {0, 1, 50}, Tenant("b"));
  Sequence second = MustStart(*cache, {20, 21, 50}, Tenant("b"));
  const std::array<Sequence*, 2> batch = {&first, &second};
  EXPECT_OK(cache->ReserveAll(batch, std::array{1, 1}));
  EXPECT_EQ(UsedBy(*cache, 1), 2);  // neither copy: the third page is a's
  EXPECT_EQ(StatsOf(*cache).copies, 0);
  EXPECT_OK(cache->Validate());
}

TEST(QuotaTest, ClearCachedAndUncachedPagesAreNotCharged) {
  Options options = WithQuotas(10, {{.tenant = "a", .max_permille = 500}});
  const auto cache = NewCache(options);
  Cache(*cache, "a", 0, 5);
  cache->ClearCached();
  EXPECT_EQ(UsedBy(*cache, 0), 0);
  Compute(*cache, Iota(0, 5), Tenant("a"), {.read_cache = true, .write_cache = false});
  EXPECT_EQ(UsedBy(*cache, 0), 0);
  EXPECT_OK(cache->Validate());
}

TEST(QuotaTest, CreateRefusesBadQuotas) {
  const auto refuses = [](std::vector<Quota> quotas, const std::vector<std::string>& words) {
    return Says(StatusOf(KvCache::Create(WithQuotas(10, std::move(quotas)))),
                absl::StatusCode::kInvalidArgument, words);
  };
  EXPECT_TRUE(refuses({{.tenant = "a", .guaranteed_permille = -1}},
                      {"quotas[0].guaranteed_permille is -1", "0 to 1000"}));
  EXPECT_TRUE(refuses({{.tenant = "a"}, {.tenant = "b", .guaranteed_permille = 1001}},
                      {"quotas[1].guaranteed_permille is 1001"}));
  EXPECT_TRUE(refuses({{.tenant = "a", .max_permille = 0}}, {"max_permille is 0", "1 to 1000"}));
  EXPECT_TRUE(refuses({{.tenant = "a", .max_permille = 1001}}, {"max_permille is 1001"}));
  EXPECT_TRUE(refuses({{.tenant = "a", .guaranteed_permille = 500, .max_permille = 499}},
                      {"max_permille is 499", "500 to 1000", "not below guaranteed_permille"}));
  EXPECT_TRUE(refuses(
      {{.tenant = "a", .guaranteed_permille = 600}, {.tenant = "b", .guaranteed_permille = 401}},
      {"quotas[1]", "sum of all guarantees to 1001", "at most 1000"}));
  EXPECT_TRUE(refuses({{.tenant = "a"}, {.tenant = "b"}, {.tenant = "a"}},
                      {"quotas[2].tenant is 'a'", "quotas[0]"}));
  std::vector<Quota> many(65);
  for (size_t i = 0; i < many.size(); ++i) many[i].tenant = std::to_string(i);
  EXPECT_TRUE(refuses(many, {"65 entries", "at most 64"}));
  many.pop_back();
  EXPECT_OK(KvCache::Create(WithQuotas(10, many)));
}

// --- Random traffic ---

// Is there any way to take the need that keeps the rules of lib/cache_core_quota.cc? By trying all.
bool SomeWayFits(const std::vector<TenantStats>& tenants, const std::vector<int32_t>& need,
                 int32_t pool, size_t tenant = 0, int32_t promised = 0) {
  if (tenant >= tenants.size() || tenant >= need.size()) return promised <= pool;
  const TenantStats& t = tenants[tenant];
  for (int32_t given = 0; given <= t.pages_cached; ++given) {
    const int32_t used = t.pages_live + t.pages_cached - given + need[tenant];
    if (used > t.max_pages) continue;
    // To others an account gives only above its guarantee; its own need it may take from itself.
    if (used < t.guaranteed_pages && given > need[tenant]) continue;
    if (SomeWayFits(tenants, need, pool, tenant + 1,
                    promised + std::max(used, t.guaranteed_pages))) {
      return true;
    }
  }
  return false;
}

struct Traffic {
  Reclaim reclaim;
  int32_t tokens_per_page;
  bool retention;
  uint64_t seed;
};

class Engine {
 public:
  explicit Engine(const Traffic& traffic)
      : traffic_(traffic), random_(static_cast<uint32_t>(traffic.seed)) {
    Options options =
        WithQuotas(kPages, {{.tenant = "a", .guaranteed_permille = 250, .max_permille = 500},
                            {.tenant = "b", .guaranteed_permille = 334},
                            {.tenant = "c", .max_permille = 250}});
    options.reclaim = traffic.reclaim;
    options.groups[0].tokens_per_page = traffic.tokens_per_page;
    options.min_copy_tokens = 1;
    if (traffic.tokens_per_page > 1) {
      options.groups.push_back(Group(2 * traffic.tokens_per_page, 9, /*lookback_tokens=*/3));
    }
    cache_ = NewCache(options);
  }

  void Step() {
    const uint32_t what = random_() % 8;
    if (sequences_.empty() || (what < 2 && sequences_.size() < 6)) {
      Start();
    } else if (what == 2) {
      const size_t i = random_() % sequences_.size();
      sequences_[i] = std::move(sequences_.back());
      payers_[i] = payers_.back();
      sequences_.pop_back();
      payers_.pop_back();
    } else if (what == 3 && sequences_.size() < 6) {
      const size_t i = random_() % sequences_.size();
      sequences_.push_back(MustFork(sequences_[i]));
      payers_.push_back(payers_[i]);
    } else if (what == 4) {
      Sequence& sequence = sequences_[random_() % sequences_.size()];
      (void)sequence.Truncate(static_cast<int32_t>(random_() % (sequence.length() + 1)));
    } else {
      Batch();
    }
    ASSERT_OK(cache_->Validate());
  }

  int64_t fitted = 0;
  int64_t refused = 0;
  int64_t hit() const { return cache_->stats().tokens_hit; }

 private:
  static constexpr int32_t kPages = 12;

  void Start() {
    const auto payer = static_cast<size_t>(random_() % 4);
    const std::string tenant = std::string("abcx").substr(payer, 1);
    const auto pages = static_cast<int32_t>(random_() % 4);
    const auto tail = static_cast<int32_t>(random_() % 3);
    const Tokens prompt = Iota(0, 1 + pages * traffic_.tokens_per_page) +
                          Iota(1000 * static_cast<TokenId>(random_() % 2), tail);
    std::vector<Retention> retention;
    for (uint32_t i = traffic_.retention ? random_() % 3 : 0; i > 0; --i) {
      const auto begin = static_cast<int32_t>(random_() % 4);
      retention.push_back({.begin = begin,
                           .end = random_() % 2 == 0 ? kAllTokens : begin + 2,
                           .priority = static_cast<int32_t>(random_() % 5) * 25,
                           .lifetime_steps = static_cast<int64_t>(random_() % 6)});
    }
    absl::StatusOr<Sequence> sequence =
        cache_->Start(prompt, Tenant(tenant), {.retention = retention});
    if (!sequence.ok()) return;  // it can never fit
    sequences_.push_back(*std::move(sequence));
    payers_.push_back(payer);
  }

  void Batch() {
    std::vector<Sequence*> batch;
    std::vector<const Sequence*> all;
    std::vector<int32_t> counts;
    std::vector<int32_t> need(4, 0);
    Tokens tokens;
    for (size_t i = 0; i < sequences_.size(); ++i) {
      Sequence& sequence = sequences_[i];
      all.push_back(&sequence);
      if (random_() % 2 == 0) continue;
      batch.push_back(&sequence);
      counts.push_back(static_cast<int32_t>(random_() % 4));
      tokens = tokens + Iota(1000 * static_cast<TokenId>(random_() % 3), counts.back());
      const auto pages = static_cast<int32_t>(sequence.pages(GroupId{0}).size());
      need[payers_[i]] += std::max(0, sequence.length() + counts.back() - pages);
    }
    const Stats before = cache_->stats();
    const std::string snapshot = Snapshot(*cache_, all);
    const absl::Status status = cache_->ReserveAll(batch, counts);
    if (status.code() == absl::StatusCode::kInvalidArgument) return;
    // With one token a page nothing is ever copied, and the need is simply known.
    if (traffic_.tokens_per_page == 1) {
      ASSERT_EQ(status.ok(), SomeWayFits(before.groups[0].tenants, need, kPages));
    }
    ++(status.ok() ? fitted : refused);
    if (!status.ok()) {
      ASSERT_EQ(Snapshot(*cache_, all), snapshot);
      return;
    }
    ASSERT_OK(cache_->Validate());
    RunPlan(*cache_);
    ASSERT_OK(cache_->CommitAll(batch, tokens, counts));
  }

  Traffic traffic_;
  std::mt19937 random_;
  std::unique_ptr<KvCache> cache_;
  std::vector<Sequence> sequences_;
  std::vector<size_t> payers_;
};

TEST(QuotaTest, RandomTrafficKeepsTheRulesAndRefusesOnlyWhatDoesNotFit) {
  for (const Reclaim reclaim : {Reclaim::kLru, Reclaim::kLearned}) {
    for (const int32_t tokens_per_page : {1, 2, 4}) {
      for (const bool retention : {false, true}) {
        int64_t fitted = 0;
        int64_t refused = 0;
        int64_t hit = 0;
        for (uint64_t seed = 0; seed < 12; ++seed) {
          Engine engine({reclaim, tokens_per_page, retention, seed});
          for (int step = 0; step < 300; ++step) {
            engine.Step();
            ASSERT_FALSE(::testing::Test::HasFatalFailure())
                << "policy " << static_cast<int>(reclaim) << ", " << tokens_per_page
                << " tokens a page, retention " << retention << ", seed " << seed << ", step "
                << step;
          }
          fitted += engine.fitted;
          refused += engine.refused;
          hit += engine.hit();
        }
        EXPECT_GT(fitted, 100);
        EXPECT_GT(refused, 100);
        EXPECT_GT(hit, 0);
      }
    }
  }
}

}  // namespace
}  // namespace quire::testing
