// What other caches of this kind promise or got wrong, asked of this one: windows, groups of
// layers, speculation, copies in flight and preemption. The number before a test is its item in the
// list of such behaviours that the tests were written from.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

using Ids32 = std::vector<int32_t>;

constexpr int32_t kNever = 1 << 30;

// A partly matching page is not copied.
std::unique_ptr<KvCache> WholePages(std::vector<GroupOptions> groups) {
  Options options = MakeOptions(std::move(groups));
  options.min_copy_tokens = kNever;
  return NewCache(options);
}

// Pages of 4 tokens, and a partly matching page is always worth a copy.
std::unique_ptr<KvCache> Fours(int32_t page_count) {
  Options options = OneGroup(4, page_count);
  options.min_copy_tokens = 1;
  return NewCache(options);
}

int32_t Known(const KvCache& cache, const Tokens& prompt) {
  return cache.MatchLength(prompt + Iota(9000, 1));
}

// C30. Given back by Commit, when the step that reads them is queued; not by Reserve before it.
TEST(AcceptanceLifecycleTest, PagesLeaveTheWindowAtCommit) {
  const auto cache = WholePages({Group(4, 8, /*lookback_tokens=*/3)});
  Sequence sequence = Compute(*cache, Iota(0, 8));
  EXPECT_EQ(PagesOf(sequence), (Ids32{-1, 1}));
  EXPECT_OK(sequence.Reserve(4));
  EXPECT_EQ(PagesOf(sequence), (Ids32{-1, 1, 2}));
  EXPECT_EQ(StatsOf(*cache).pages_live, 2);
  EXPECT_OK(sequence.Commit(Iota(8, 4)));
  EXPECT_EQ(PagesOf(sequence), (Ids32{-1, -1, 2}));
  EXPECT_EQ(StatsOf(*cache).pages_live, 1);
  EXPECT_EQ(StatsOf(*cache).pages_cached, 2);
  EXPECT_OK(cache->Validate());
}

// C31
TEST(AcceptanceLifecycleTest, WindowHitNeedsOnlyTheLastWindow) {
  const auto cache = WholePages({Group(4, 5, /*lookback_tokens=*/4)});
  Compute(*cache, Iota(0, 16));
  Sequence other = MustStart(*cache, Iota(100, 12));
  EXPECT_OK(other.Reserve(12));  // reclaims the two pages that left the window first
  EXPECT_EQ(StatsOf(*cache).evictions, 2);
  const Sequence heir = MustStart(*cache, Iota(0, 17));
  EXPECT_EQ(heir.hit_tokens(), 16);
  EXPECT_EQ(PagesOf(heir), (Ids32{-1, -1, -1, 3}));
  // Shorter prompts: nothing before page 2 is left to resume on.
  EXPECT_EQ(Known(*cache, Iota(0, 12)), 12);
  EXPECT_EQ(Known(*cache, Iota(0, 8)), 0);
  EXPECT_OK(cache->Validate());
}

// C33
TEST(AcceptanceLifecycleTest, HitIsTheLongestThatEveryGroupCanResume) {
  const auto cache = WholePages({Group(4, 8), Group(4, 8, /*lookback_tokens=*/4)});
  Compute(*cache, Iota(0, 16));
  EXPECT_EQ(Known(*cache, Iota(0, 16)), 16);
  // Takes one cached page of each group: the tail of the full one, the head of the window.
  Sequence other = MustStart(*cache, Iota(100, 20));
  EXPECT_OK(other.Reserve(20));
  const Sequence heir = MustStart(*cache, Iota(0, 17));
  EXPECT_EQ(heir.hit_tokens(), 12);
  EXPECT_EQ(PagesOf(heir, 0), (Ids32{0, 1, 2}));
  EXPECT_EQ(PagesOf(heir, 1), (Ids32{-1, -1, 2}));
  EXPECT_EQ(cache->stats().missed.page_gone, 4);
  EXPECT_OK(cache->Validate());
}

// C33
TEST(AcceptanceLifecycleTest, DifferentPageSizesMeetAtTheirCommonMultiple) {
  const auto cache = WholePages({Group(4, 32), Group(8, 16), Group(12, 16)});
  const Sequence owner = Compute(*cache, Iota(0, 60));
  for (int32_t count = 1; count <= 60; ++count) {
    EXPECT_EQ(cache->MatchLength(Iota(0, count)), (count - 1) / 24 * 24) << count;
  }
  const Sequence heir = MustStart(*cache, Iota(0, 60));
  EXPECT_EQ(PagesOf(heir, 0).size(), 12u);
  EXPECT_EQ(PagesOf(heir, 1).size(), 6u);
  EXPECT_EQ(PagesOf(heir, 2).size(), 4u);
  EXPECT_OK(cache->Validate());
}

// C34. A hit is pinned by Start, in all groups, before anyone takes a page.
TEST(AcceptanceLifecycleTest, NewPagesOfOneGroupNeverCostHitsOfAnother) {
  const auto cache = WholePages({Group(4, 4), Group(4, 3)});
  const Sequence small = Compute(*cache, Iota(200, 4));
  Compute(*cache, Iota(0, 8));
  Sequence other = MustStart(*cache, Iota(100, 12));
  EXPECT_NO_ROOM(other.Reserve(12));  // group 0 has room, group 1 has not
  EXPECT_EQ(StatsOf(*cache, 0).evictions, 0);
  EXPECT_EQ(Known(*cache, Iota(0, 8)), 8);

  const Sequence heir = MustStart(*cache, Iota(0, 9));
  EXPECT_NO_ROOM(other.Reserve(8));
  EXPECT_OK(cache->Validate());
  EXPECT_EQ(PagesOf(heir, 0), (Ids32{1, 2}));
  EXPECT_EQ(PagesOf(heir, 1), (Ids32{1, 2}));
  EXPECT_EQ(Known(*cache, Iota(0, 8)), 8);
}

// C35
TEST(AcceptanceLifecycleTest, NeedIsWhatIsTakenAtEveryStep) {
  const auto cache = WholePages({Group(4, 16), Group(8, 16, /*lookback_tokens=*/9)});
  Sequence sequence = MustStart(*cache, Iota(0, 60));
  for (const int32_t step : {3, 1, 5, 4, 2, 9, 1, 16}) {
    const int32_t end = sequence.length() + step;
    const std::vector<GroupStats> before = cache->stats().groups;
    const Ids32 need = {(end + 3) / 4 - static_cast<int32_t>(PagesOf(sequence, 0).size()),
                        (end + 7) / 8 - static_cast<int32_t>(PagesOf(sequence, 1).size())};
    EXPECT_OK(sequence.Reserve(step));
    EXPECT_EQ(StatsOf(*cache, 0).pages_live - before[0].pages_live, need[0]);
    EXPECT_EQ(StatsOf(*cache, 1).pages_live - before[1].pages_live, need[1]);
    EXPECT_OK(sequence.Commit(Iota(sequence.length(), step)));
    EXPECT_OK(cache->Validate());
  }
}

// C35. Room for exactly the need is enough, one page less is not.
TEST(AcceptanceLifecycleTest, ExactRoomIsEnough) {
  for (const int32_t pages : {4, 5}) {
    const auto cache = Fours(pages);
    Sequence owner = Compute(*cache, Iota(0, 6));
    Sequence fork = MustFork(owner);
    const std::vector<Sequence*> both = {&owner, &fork};
    // Two pages are held; one copy of the shared tail, and a third page for each.
    const absl::Status status = cache->ReserveAll(both, Ids32{4, 6});
    if (pages == 4) {
      EXPECT_NO_ROOM(status);
      EXPECT_EQ(StatsOf(*cache).pages_free, 2);
    } else {
      EXPECT_OK(status);
      EXPECT_EQ(StatsOf(*cache).pages_free, 0);
    }
    EXPECT_OK(cache->Validate());
  }
}

// C36
TEST(AcceptanceLifecycleTest, LongWindowedPromptIsAdmittedOversizedFullOneIsNot) {
  const auto full = WholePages({Group(4, 8)});
  EXPECT_TRUE(Says(full->CheckFits(1000, 4), absl::StatusCode::kInvalidArgument,
                   {"250 pages", "groups[0].page_count", "8"}));
  EXPECT_EQ(full->Start(Iota(0, 1000)).status().code(), absl::StatusCode::kInvalidArgument);

  const auto window = WholePages({Group(4, 4, /*lookback_tokens=*/7)});
  EXPECT_OK(window->CheckFits(1000, 4));
  EXPECT_TRUE(Says(window->CheckFits(1000, 64), absl::StatusCode::kInvalidArgument,
                   {"groups[0].page_count"}));
  Sequence sequence = MustStart(*window, Iota(0, 1000));
  while (sequence.length() < 1000) {
    ASSERT_OK(Feed(*window, sequence, Iota(sequence.length(), 4)));
  }
  EXPECT_OK(window->Validate());
}

// C38
TEST(AcceptanceLifecycleTest, DraftTokensNeverBecomeKeysAndDoNotLeak) {
  const auto cache = Fours(8);
  Sequence sequence = Compute(*cache, Iota(0, 6));
  EXPECT_OK(sequence.Reserve(8));
  EXPECT_EQ(sequence.length(), 6);
  EXPECT_GE(sequence.capacity(), 14);
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 1, 2, 3}));
  EXPECT_OK(sequence.Commit(Iota(6, 2)));  // two of eight drafts were right
  EXPECT_EQ(Known(*cache, Iota(0, 14)), 8);
  EXPECT_EQ(cache->stats().index_nodes, 2);
  EXPECT_OK(sequence.Reserve(8));  // the room is still there
  EXPECT_EQ(StatsOf(*cache).pages_live, 4);
  EXPECT_OK(sequence.Truncate(8));
  EXPECT_EQ(StatsOf(*cache).pages_live, 2);
  EXPECT_EQ(StatsOf(*cache).pages_free, 6);
  EXPECT_OK(cache->Validate());
}

// C40. Kernels run on one ordered stream; only the pages of plans have to wait.
TEST(AcceptanceLifecycleTest, PagesOfPlansInFlightComeBackInTicketOrder) {
  const auto cache = Fours(6);
  Sequence owner = Compute(*cache, Iota(0, 6));
  std::vector<Plan> plans;
  std::vector<Sequence> forks;
  for (int i = 0; i < 2; ++i) {
    forks.push_back(MustFork(owner));
    EXPECT_OK(forks.back().Reserve(1));
    plans.push_back(cache->TakePlan());
    ASSERT_EQ(plans.back().copies.size(), 1u);
  }
  forks.clear();
  owner = Sequence();  // aborted while its copies are under way
  EXPECT_EQ(StatsOf(*cache).pages_live, 3);
  EXPECT_EQ(StatsOf(*cache).pages_free, 2);
  cache->Retire(plans[0].ticket);
  EXPECT_EQ(StatsOf(*cache).pages_live, 2);
  EXPECT_EQ(StatsOf(*cache).pages_free, 3);
  cache->Retire(plans[1].ticket);
  EXPECT_EQ(StatsOf(*cache).pages_live, 0);
  EXPECT_EQ(StatsOf(*cache).pages_free, 5);
  EXPECT_OK(cache->Validate());
}

// C42. Of a copy, not of a load: what a failure reaches is truncated and leaves the index.
TEST(AcceptanceLifecycleTest, FailedCopyTruncatesAndUnindexes) {
  const auto cache = Fours(8);
  Compute(*cache, Iota(0, 8));
  const Tokens prompt = Iota(0, 6) + Iota(50, 6);
  Sequence sequence = MustStart(*cache, prompt);
  EXPECT_OK(sequence.Reserve(6));
  const Plan plan = cache->TakePlan();
  EXPECT_OK(sequence.Commit(Iota(50, 6)));
  EXPECT_EQ(Known(*cache, prompt), 12);
  cache->Retire(plan.ticket, absl::InternalError("lost"));
  EXPECT_EQ(sequence.valid_length(), 4);
  EXPECT_EQ(sequence.Reserve(1).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Known(*cache, prompt), 6);
  EXPECT_EQ(Known(*cache, Iota(0, 8)), 8);
  EXPECT_OK(sequence.Truncate(sequence.valid_length()));
  EXPECT_OK(Feed(*cache, sequence, Iota(4, 2) + Iota(50, 6)));
  EXPECT_EQ(Known(*cache, prompt), 12);
  EXPECT_OK(cache->Validate());
}

// C43
TEST(AcceptanceLifecycleTest, PreemptedRequestFindsItsOwnPages) {
  const auto cache = Fours(6);
  const Tokens all = Iota(0, 14);
  Sequence victim = Compute(*cache, Iota(0, 10));
  EXPECT_OK(Feed(*cache, victim, Iota(10, 3)));
  Sequence urgent = MustStart(*cache, Iota(100, 12));
  EXPECT_NO_ROOM(urgent.Reserve(12));
  victim = Sequence();
  EXPECT_OK(urgent.Reserve(12));
  EXPECT_OK(urgent.Commit(Iota(100, 12)));
  urgent = Sequence();
  victim = MustStart(*cache, all);
  EXPECT_EQ(victim.hit_tokens(), 12);
  EXPECT_EQ(PagesOf(victim), (Ids32{0, 1, 2}));
  EXPECT_EQ(StatsOf(*cache).evictions, 0);
  EXPECT_OK(cache->Validate());
}

// C44. It does not refuse: live sequences keep their pages, and nothing old is found.
TEST(AcceptanceLifecycleTest, ClearCachedDropsEveryKey) {
  const auto cache = Fours(8);
  Compute(*cache, Iota(100, 8));
  Sequence live = Compute(*cache, Iota(0, 8));
  const Ids32 pages = PagesOf(live);
  cache->ClearCached();
  EXPECT_EQ(Known(*cache, Iota(100, 8)), 0);
  EXPECT_EQ(Known(*cache, Iota(0, 8)), 0);
  EXPECT_EQ(StatsOf(*cache).pages_cached, 0);
  EXPECT_EQ(StatsOf(*cache).pages_free, 6);
  EXPECT_EQ(PagesOf(live), pages);
  EXPECT_OK(Feed(*cache, live, Iota(8, 8)));
  EXPECT_EQ(Known(*cache, Iota(0, 16)), 0);
  live = Sequence();
  EXPECT_EQ(StatsOf(*cache).pages_free, 8);
  EXPECT_OK(cache->Validate());
}

// C50. The long run against a model is in model_test.cc; this one ends idle and counts.
TEST(AcceptanceLifecycleTest, PoolTotalsBalanceAtIdle) {
  const auto cache = NewCache(MakeOptions({Group(4, 24), Group(8, 12, /*lookback_tokens=*/9)}));
  std::mt19937 random(1);
  std::vector<Sequence> live;
  for (int i = 0; i < 600; ++i) {
    const auto pick = random() % 4;
    if (pick == 0 || live.empty()) {
      absl::StatusOr<Sequence> started = cache->Start(Iota(static_cast<int32_t>(random() % 3), 20));
      if (started.ok()) live.push_back(*std::move(started));
      continue;
    }
    const size_t at = random() % live.size();
    Sequence& sequence = live[at];
    const auto count = static_cast<int32_t>(random() % 12);
    if (pick == 1) {
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(at));
    } else if (pick == 2) {
      absl::StatusOr<Sequence> fork = sequence.Fork();
      if (fork.ok()) live.push_back(*std::move(fork));
    } else if (sequence.length() + count <= 90) {
      static_cast<void>(Feed(*cache, sequence, Iota(sequence.length(), count)));
    }
    ASSERT_OK(cache->Validate());
  }
  live.clear();
  RunPlan(*cache);
  for (int32_t g = 0; g < 2; ++g) {
    EXPECT_EQ(StatsOf(*cache, g).pages_live, 0);
    EXPECT_EQ(StatsOf(*cache, g).pages_free + StatsOf(*cache, g).pages_cached, g == 0 ? 24 : 12);
  }
  cache->ClearCached();
  EXPECT_EQ(StatsOf(*cache, 0).pages_free, 24);
  EXPECT_EQ(StatsOf(*cache, 1).pages_free, 12);
  EXPECT_EQ(cache->stats().index_nodes, 0);
  EXPECT_OK(cache->Validate());
}

}  // namespace
}  // namespace quire::testing
