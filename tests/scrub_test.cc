// Options::scrub_released, case by case: which pages a plan scrubs, what must wait for it, and what
// a failed scrub means. tests/scrub_canary_test.cc looks at the bytes.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/device.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

using Ids32 = std::vector<int32_t>;

const absl::Status kFailed = absl::InternalError("the device lost it");

// Pages of 4 tokens; a partly matching page is always worth a copy.
std::unique_ptr<KvCache> Scrubbing(int32_t page_count, bool prefix_caching = true,
                                   int32_t lookback = kAllTokens) {
  Options options = OneGroup(4, page_count, lookback);
  options.min_copy_tokens = 1;
  options.prefix_caching = prefix_caching;
  options.scrub_released = true;
  return NewCache(options);
}

Ids32 Scrubs(const Plan& plan) {
  Ids32 pages;
  for (const PageScrub& scrub : plan.scrubs) {
    EXPECT_EQ(scrub.tier, Tier::kDevice);
    pages.push_back(static_cast<int32_t>(scrub.page));
  }
  std::sort(pages.begin(), pages.end());
  return pages;
}

Ids32 TakeScrubs(KvCache& cache) {
  EXPECT_OK(cache.Validate());
  const Plan plan = cache.TakePlan();
  EXPECT_OK(cache.Validate());
  EXPECT_TRUE(plan.copies.empty());
  EXPECT_EQ(plan.scrubs.empty(), plan.ticket == kNoTicket);
  const Ids32 pages = Scrubs(plan);
  cache.Retire(plan.ticket);
  EXPECT_OK(cache.Validate());
  return pages;
}

Sequence Reserved(KvCache& cache, const Tokens& prompt, int32_t count) {
  Sequence sequence = MustStart(cache, prompt);
  EXPECT_OK(sequence.Reserve(count));
  return sequence;
}

bool LostData(Sequence& sequence) {
  return sequence.Reserve(1).code() == absl::StatusCode::kDataLoss;
}

// --- Which pages, and when.

TEST(ScrubTest, OffByDefault) {
  EXPECT_FALSE(Options().scrub_released);
  const auto cache = NewCache(OneGroup(4, 3));
  Compute(*cache, Iota(0, 6));
  EXPECT_EQ(cache->TakePlan().ticket, kNoTicket);
  Compute(*cache, Iota(100, 12));  // evicts
  EXPECT_EQ(cache->TakePlan().ticket, kNoTicket);
}

TEST(ScrubTest, WhatIsReleasedAndNotCachedStandsInTheNextPlanOnce) {
  const auto cache = Scrubbing(8);
  Compute(*cache, Iota(0, 6));  // page 0 stays cached
  EXPECT_EQ(TakeScrubs(*cache), Ids32{1});
  EXPECT_EQ(TakeScrubs(*cache), Ids32{});
  const auto uncached = Scrubbing(8, /*prefix_caching=*/false);
  Compute(*uncached, Iota(0, 6));
  EXPECT_EQ(TakeScrubs(*uncached), (Ids32{0, 1}));
}

// The pages that never were anybody's need no scrub; those evicted for a batch go straight to it.
TEST(ScrubTest, EvictedPagesAreScrubbedForWhoGetsThemAtOnce) {
  const auto cache = Scrubbing(3);
  Compute(*cache, Iota(0, 8));
  EXPECT_EQ(TakeScrubs(*cache), Ids32{});
  Sequence sequence = Reserved(*cache, Iota(100, 9), 9);
  EXPECT_EQ(StatsOf(*cache).evictions, 2);
  EXPECT_EQ(TakeScrubs(*cache), (Ids32{0, 1}));
  EXPECT_OK(sequence.Commit(Iota(100, 9)));
}

TEST(ScrubTest, EvictedForAnotherTenantToo) {
  Options options = OneGroup(4, 4);
  options.scrub_released = true;
  options.quotas = {{.tenant = "a", .guaranteed_permille = 500, .max_permille = 500}};
  const auto cache = NewCache(options);
  const Namespace a = Namespace().SetTenant("a");
  Compute(*cache, Iota(0, 8), a);
  Sequence sequence = MustStart(*cache, Iota(100, 4), a);  // at its maximum: recycles its own
  EXPECT_OK(sequence.Reserve(4));
  EXPECT_EQ(TakeScrubs(*cache).size(), 1u);
}

TEST(ScrubTest, AGroupOfItsOwn) {
  Options options = MakeOptions({Group(4, 5), Group(4, 5, /*lookback_tokens=*/3)});
  options.scrub_released = true;
  options.prefix_caching = false;
  const auto cache = NewCache(options);
  Sequence sequence = Compute(*cache, Iota(0, 8));
  const Plan plan = cache->TakePlan();
  EXPECT_EQ(Scrubs(plan), Ids32{0});  // left the window of the second group
  ASSERT_EQ(plan.scrubs.size(), 1u);
  EXPECT_EQ(plan.scrubs[0].group, GroupId{1});
  cache->Retire(plan.ticket);
}

TEST(ScrubTest, FreedTwiceBeforeThePlanIsListedOnce) {
  const auto cache = Scrubbing(4);
  Reserved(*cache, Iota(0, 4), 4);
  Sequence again = Reserved(*cache, Iota(0, 4), 4);
  EXPECT_EQ(PagesOf(again), Ids32{0});
  EXPECT_OK(cache->Validate());
  again = Sequence();
  EXPECT_EQ(TakeScrubs(*cache), Ids32{0});
}

TEST(ScrubTest, FreedWhileThePlanIsOutstandingIsListedAgain) {
  const auto cache = Scrubbing(4);
  Reserved(*cache, Iota(0, 4), 4);
  const Plan plan = cache->TakePlan();
  EXPECT_EQ(Scrubs(plan), Ids32{0});
  Reserved(*cache, Iota(0, 4), 4);
  const Plan next = cache->TakePlan();
  EXPECT_EQ(Scrubs(next), Ids32{0});
  EXPECT_EQ(Scrubs(plan), Ids32{0});  // valid until it retires
  cache->Retire(plan.ticket);
  cache->Retire(next.ticket);
  EXPECT_EQ(TakeScrubs(*cache), Ids32{});
}

TEST(ScrubTest, TheTargetOfACopyIsScrubbedInTheSamePlan) {
  const auto cache = Scrubbing(3);
  Sequence owner = Compute(*cache, Iota(0, 6));
  Sequence fork = MustFork(owner);
  Reserved(*cache, Iota(100, 4), 4);
  EXPECT_OK(fork.Reserve(1));
  const Plan plan = cache->TakePlan();
  EXPECT_EQ(Scrubs(plan), Ids32{2});
  ASSERT_EQ(plan.copies.size(), 1u);
  EXPECT_EQ(plan.copies[0].to_page, PageId{2});
  EXPECT_EQ(plan.copies[0].from_page, PageId{1});
  cache->Retire(plan.ticket);
  EXPECT_OK(fork.Commit(Iota(50, 1)));
}

TEST(ScrubTest, ACancelledCopysTargetIsScrubbed) {
  const auto cache = Scrubbing(3);
  Sequence owner = Compute(*cache, Iota(0, 6));
  Sequence fork = MustFork(owner);
  EXPECT_OK(fork.Reserve(1));
  fork = Sequence();
  EXPECT_EQ(TakeScrubs(*cache), Ids32{2});
}

TEST(ScrubTest, ACopysSourceThatRetireFreesIsScrubbedAfterwards) {
  const auto cache = Scrubbing(4);
  Sequence owner = Compute(*cache, Iota(0, 6));
  Sequence fork = MustFork(owner);
  EXPECT_OK(fork.Reserve(1));
  const Plan plan = cache->TakePlan();
  ASSERT_EQ(plan.copies.size(), 1u);
  owner = Sequence();  // page 1 waits for the copy
  EXPECT_EQ(cache->TakePlan().ticket, kNoTicket);
  cache->Retire(plan.ticket);
  EXPECT_EQ(TakeScrubs(*cache), Ids32{1});
}

// The page stays within one namespace, whose tokens it holds.
TEST(ScrubTest, APageWrittenInPlaceIsNot) {
  const auto cache = Scrubbing(2);
  Compute(*cache, Iota(0, 8));
  Sequence sequence = Reserved(*cache, Iota(0, 7) + Iota(50, 1), 1);
  EXPECT_EQ(sequence.length(), 7);
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 1}));
  EXPECT_EQ(TakeScrubs(*cache), Ids32{});
  EXPECT_OK(sequence.Commit(Iota(50, 1)));
  EXPECT_OK(cache->Validate());
}

TEST(ScrubTest, TruncateScrubsThePagesItGivesBackAndNotTheOneItKeeps) {
  const auto cache = Scrubbing(4, /*prefix_caching=*/false);
  Sequence sequence = Compute(*cache, Iota(0, 10));
  EXPECT_OK(sequence.Truncate(5));
  EXPECT_EQ(TakeScrubs(*cache), Ids32{2});
}

TEST(ScrubTest, PagesThatLeaveTheWindow) {
  const auto cache = Scrubbing(4, /*prefix_caching=*/false, /*lookback=*/3);
  Sequence sequence = Compute(*cache, Iota(0, 12));
  EXPECT_EQ(TakeScrubs(*cache), (Ids32{0, 1}));
}

TEST(ScrubTest, ClearCached) {
  const auto cache = Scrubbing(4);
  Compute(*cache, Iota(0, 8));
  Sequence keeper = Compute(*cache, Iota(0, 4) + Iota(50, 5));  // page 0 is its own, too
  EXPECT_EQ(TakeScrubs(*cache), Ids32{});
  cache->ClearCached();
  EXPECT_EQ(TakeScrubs(*cache), Ids32{1});
  const Ids32 pages = PagesOf(keeper);
  keeper = Sequence();
  EXPECT_EQ(TakeScrubs(*cache), pages);
}

// One plan for all ranks, whatever their pages look like.
TEST(ScrubTest, SeveralDevicesFollowOnePlan) {
  const auto cache = Scrubbing(3);
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<std::span<uint8_t>> pools;
  for (const int32_t kv_heads : {1, 3}) {
    const KvLayout layout = {
        .layers = 2, .kv_heads = kv_heads, .head_dim = 8, .tokens_per_page = 4};
    devices.push_back(NewCpuDevice({.groups = {{.layout = layout, .page_count = 3}}}).value());
    void* pool = devices.back()->view(Tier::kDevice, GroupId{0}, 0)->k;
    pools.push_back({static_cast<uint8_t*>(pool), static_cast<size_t>(3 * layout.page_bytes())});
    std::fill(pools.back().begin(), pools.back().end(), 7);
  }
  Compute(*cache, Iota(0, 6));  // page 1 becomes free
  const Plan plan = cache->TakePlan();
  for (const auto& device : devices) EXPECT_OK(device->Copy(plan, Stream()));
  cache->Retire(plan.ticket);
  for (const std::span<uint8_t> pool : pools) {
    const size_t page = pool.size() / 3;
    EXPECT_EQ(std::count(pool.begin(), pool.end(), 0), static_cast<std::ptrdiff_t>(page));
    const std::span<uint8_t> second = pool.subspan(page, page);
    EXPECT_EQ(std::count(second.begin(), second.end(), 0), std::ssize(second));
  }
}

// --- What must wait for the plan.

TEST(ScrubTest, CommitToAPageBeforeItsScrubWasHandedOverIsACheck) {
  const auto cache = Scrubbing(4);
  Reserved(*cache, Iota(0, 4), 4);
  Sequence sequence = Reserved(*cache, Iota(0, 4), 4);
  EXPECT_DEATH(static_cast<void>(sequence.Commit(Iota(0, 1))), "commit before TakePlan: a scrub");
  EXPECT_OK(sequence.Commit({}));
  cache->Retire(cache->TakePlan().ticket);
  EXPECT_OK(sequence.Commit(Iota(0, 4)));
}

// Reserving ahead is not writing ahead.
TEST(ScrubTest, OnlyThePagesOfTheCommittedTokensMatter) {
  const auto cache = Scrubbing(4);
  Sequence other = Compute(*cache, Iota(100, 8));
  Sequence sequence = Compute(*cache, Iota(0, 2));
  EXPECT_OK(other.Truncate(4));
  cache->ClearCached();  // frees page 1, which other indexed
  EXPECT_OK(sequence.Reserve(6));
  EXPECT_EQ(PagesOf(sequence), (Ids32{2, 1}));
  EXPECT_DEATH(static_cast<void>(sequence.Commit(Iota(2, 3))), "commit before TakePlan: a scrub");
  EXPECT_OK(sequence.Commit(Iota(2, 2)));
  EXPECT_DEATH(static_cast<void>(sequence.Commit(Iota(4, 1))), "commit before TakePlan: a scrub");
  EXPECT_EQ(TakeScrubs(*cache), Ids32{1});
  EXPECT_OK(sequence.Commit(Iota(4, 4)));
  EXPECT_OK(cache->Validate());
}

// --- Failures.

TEST(ScrubTest, AFailedScrubOfAFreePageIsRepeated) {
  const auto cache = Scrubbing(4);
  Reserved(*cache, Iota(0, 8), 8);
  cache->Retire(cache->TakePlan().ticket, kFailed);
  EXPECT_EQ(TakeScrubs(*cache), (Ids32{0, 1}));
  EXPECT_EQ(TakeScrubs(*cache), Ids32{});
  EXPECT_EQ(cache->stats().copies_failed, 0);
}

// Its owner may have written there, and may be about to say so.
TEST(ScrubTest, AFailedScrubUnderAReservation) {
  const auto cache = Scrubbing(4, /*prefix_caching=*/false);
  Sequence sequence = Compute(*cache, Iota(0, 2));
  Reserved(*cache, Iota(0, 4), 4);
  EXPECT_OK(sequence.Reserve(6));
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 1}));
  const Plan plan = cache->TakePlan();
  Sequence fork = MustFork(sequence);  // has nothing of page 1
  cache->Retire(plan.ticket, kFailed);
  EXPECT_OK(cache->Validate());
  EXPECT_EQ(sequence.length(), 2);
  EXPECT_EQ(sequence.valid_length(), 2);
  EXPECT_TRUE(Says(sequence.Reserve(6), absl::StatusCode::kDataLoss, {"first 2 of 2 tokens"}));
  EXPECT_OK(fork.Reserve(6));
  cache->Retire(cache->TakePlan().ticket);
  fork = MustFork(sequence);  // neither has one that comes later
  EXPECT_OK(fork.Reserve(1));
  cache->Retire(cache->TakePlan().ticket);
  fork = Sequence();
  EXPECT_OK(sequence.Truncate(2));
  EXPECT_OK(sequence.Reserve(6));
  cache->Retire(cache->TakePlan().ticket);
  EXPECT_OK(sequence.Commit(Iota(2, 6)));
}

// Also to tokens that would still go to a good page: the bad one is in the sequence's table.
TEST(ScrubTest, AfterAFailedScrubNothingIsCommittedBeforeTruncate) {
  const auto cache = Scrubbing(4);
  Sequence sequence = Compute(*cache, Iota(0, 2));
  Reserved(*cache, Iota(100, 4), 4);
  EXPECT_OK(sequence.Reserve(6));
  const Plan plan = cache->TakePlan();
  EXPECT_EQ(Scrubs(plan), Ids32{1});
  cache->Retire(plan.ticket, kFailed);
  EXPECT_EQ(sequence.Commit(Iota(2, 1)).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(LostData(sequence));
  // Not cured by the next plan: what was written before it is gone after it.
  Reserved(*cache, Iota(200, 4), 4);
  EXPECT_EQ(TakeScrubs(*cache), Ids32{2});
  EXPECT_EQ(sequence.Commit(Iota(2, 6)).code(), absl::StatusCode::kDataLoss);
  EXPECT_OK(sequence.Truncate(sequence.valid_length()));
  EXPECT_EQ(sequence.length(), 2);
  EXPECT_EQ(TakeScrubs(*cache), Ids32{1});
  EXPECT_OK(Feed(*cache, sequence, Iota(2, 6)));
  EXPECT_OK(cache->Validate());
}

TEST(ScrubTest, AFailedScrubUnderTokensReachesAllWhoHaveThePage) {
  const auto cache = Scrubbing(6);
  Reserved(*cache, Iota(100, 8), 8);
  Sequence owner = Reserved(*cache, Iota(0, 12), 12);
  const Plan plan = cache->TakePlan();
  EXPECT_EQ(Scrubs(plan), (Ids32{0, 1}));
  EXPECT_OK(owner.Commit(Iota(0, 12)));
  Sequence heir = MustStart(*cache, Iota(0, 13));
  Sequence other = Compute(*cache, Iota(50, 4));
  ASSERT_EQ(heir.length(), 12);
  cache->Retire(plan.ticket, kFailed);
  EXPECT_OK(cache->Validate());
  EXPECT_EQ(PagesOf(owner), (Ids32{0, 1, 2}));
  for (Sequence* sequence : {&owner, &heir}) {
    EXPECT_TRUE(LostData(*sequence));
    EXPECT_EQ(sequence->valid_length(), 0);
    EXPECT_OK(sequence->Truncate(0));
  }
  EXPECT_FALSE(LostData(other));
  EXPECT_EQ(cache->MatchLength(Iota(0, 13)), 0);
  EXPECT_EQ(TakeScrubs(*cache), (Ids32{0, 1, 2}));
  EXPECT_EQ(cache->stats().copies_failed, 0);
}

TEST(ScrubTest, AFailedScrubOfAPageThatIsCachedByNow) {
  const auto cache = Scrubbing(6);
  Reserved(*cache, Iota(100, 4), 4);
  Sequence owner = Reserved(*cache, Iota(0, 8), 8);
  const Plan plan = cache->TakePlan();
  EXPECT_EQ(Scrubs(plan), Ids32{0});
  EXPECT_OK(owner.Commit(Iota(0, 8)));
  owner = Sequence();
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 8);
  cache->Retire(plan.ticket, kFailed);
  EXPECT_LT(cache->MatchLength(Iota(0, 9)), 8);
  const Ids32 again = TakeScrubs(*cache);
  EXPECT_EQ(std::count(again.begin(), again.end(), 0), 1);
}

// A copy takes the whole page with it, what was not scrubbed included.
TEST(ScrubTest, AFailedScrubFollowsTheCopiesOfThePage) {
  for (const bool copy_taken : {true, false}) {
    const auto cache = Scrubbing(4);
    Reserved(*cache, Iota(100, 4), 4);
    Sequence owner = Reserved(*cache, Iota(0, 2), 2);
    const Plan plan = cache->TakePlan();
    EXPECT_OK(owner.Commit(Iota(0, 2)));
    Sequence fork = MustFork(owner);
    EXPECT_OK(fork.Reserve(1));
    Ticket copies = kNoTicket;
    if (copy_taken) {
      copies = cache->TakePlan().ticket;
      EXPECT_OK(fork.Commit(Iota(2, 1)));
    }
    owner = Sequence();  // the page is only held now
    cache->Retire(plan.ticket, kFailed);
    EXPECT_OK(cache->Validate());
    EXPECT_EQ(fork.valid_length(), 0);
    EXPECT_TRUE(LostData(fork));
    EXPECT_EQ(cache->stats().copies_failed, 1);
    cache->Retire(copies);
    EXPECT_OK(fork.Truncate(0));
    EXPECT_EQ(TakeScrubs(*cache), (Ids32{0, 1}));
  }
}

TEST(ScrubTest, WhatALaterPlanScrubsIsItsOwnAffair) {
  const auto cache = Scrubbing(4);
  Reserved(*cache, Iota(0, 8), 8);
  const Plan first = cache->TakePlan();
  Reserved(*cache, Iota(0, 8), 8);
  const Plan second = cache->TakePlan();
  EXPECT_EQ(Scrubs(second), (Ids32{0, 1}));
  Sequence owner = Reserved(*cache, Iota(0, 4), 4);
  EXPECT_OK(owner.Commit(Iota(0, 4)));
  Reserved(*cache, Iota(50, 4), 4);  // listed once more
  cache->Retire(first.ticket, kFailed);
  EXPECT_EQ(owner.valid_length(), 4);
  cache->Retire(second.ticket);
  EXPECT_EQ(owner.valid_length(), 4);
  EXPECT_EQ(TakeScrubs(*cache).size(), 1u);
}

TEST(ScrubTest, WithSeveralPageSizesTheIndexIsGivenUp) {
  Options options = MakeOptions({Group(4, 8), Group(8, 8)});
  options.scrub_released = true;
  const auto cache = NewCache(options);
  Compute(*cache, Iota(200, 8));
  Reserved(*cache, Iota(100, 8), 8);
  Sequence owner = Reserved(*cache, Iota(0, 8), 8);
  const Plan plan = cache->TakePlan();
  ASSERT_FALSE(plan.scrubs.empty());
  EXPECT_OK(owner.Commit(Iota(0, 8)));
  EXPECT_EQ(cache->MatchLength(Iota(200, 9)), 8);
  cache->Retire(plan.ticket, kFailed);
  EXPECT_OK(cache->Validate());
  EXPECT_EQ(cache->MatchLength(Iota(200, 9)), 0);
  EXPECT_TRUE(LostData(owner));
  EXPECT_EQ(owner.valid_length(), 0);
}

}  // namespace
}  // namespace quire::testing
