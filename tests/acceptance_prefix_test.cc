// What other caches of this kind promise or got wrong, asked of this one: the pool, prefixes, and
// prompts that diverge inside a page. The number before a test is its item in the list of such
// behaviours that the tests were written from.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/block_allocator.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

using Ids32 = std::vector<int32_t>;

constexpr int32_t kNever = 1 << 30;

// Pages of 4 tokens.
std::unique_ptr<KvCache> Fours(int32_t page_count, int32_t min_copy_tokens = kNever) {
  Options options = OneGroup(4, page_count);
  options.min_copy_tokens = min_copy_tokens;
  return NewCache(options);
}

BlockAllocator NewAllocator(int32_t page_count) {
  absl::StatusOr<BlockAllocator> allocator = BlockAllocator::Create(page_count);
  EXPECT_OK(allocator);
  return *std::move(allocator);
}

Ids32 Take(BlockAllocator& allocator, size_t count) {
  std::vector<PageId> pages(count);
  EXPECT_OK(allocator.Allocate(pages));
  return Ids(pages);
}

// The prompt and one token more, since a hit always leaves one.
int32_t Known(const KvCache& cache, const Tokens& prompt, const Namespace& ns = {}) {
  return cache.MatchLength(prompt + Iota(9000, 1), ns);
}

// C1. No page is set aside: the whole pool is handed out.
TEST(AcceptancePrefixTest, FreshPoolHandsOutAscendingIds) {
  const auto cache = Fours(3);
  const Sequence sequence = Compute(*cache, Iota(0, 12));
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 1, 2}));
  EXPECT_EQ(StatsOf(*cache).pages_free, 0);
}

// C2
TEST(AcceptancePrefixTest, CachedPagesReviveFromFrontMiddleAndBack) {
  const auto cache = Fours(4);
  for (int i = 0; i < 4; ++i) Compute(*cache, Iota(10 * i, 4));
  EXPECT_EQ(StatsOf(*cache).pages_cached, 4);
  std::vector<Sequence> live;
  for (const int i : {1, 0, 3}) {
    live.push_back(MustStart(*cache, Iota(10 * i, 5)));
    EXPECT_EQ(PagesOf(live.back()), (Ids32{i}));
    EXPECT_OK(cache->Validate());
  }
  EXPECT_EQ(StatsOf(*cache).pages_cached, 1);
  Sequence other = MustStart(*cache, Iota(50, 8));
  EXPECT_OK(other.Reserve(4));
  EXPECT_EQ(PagesOf(other), (Ids32{2}));
  EXPECT_NO_ROOM(other.Reserve(8));  // nothing is left to reclaim
  EXPECT_OK(cache->Validate());
}

// C3
TEST(AcceptancePrefixTest, TakingManyEqualsTakingOneByOne) {
  BlockAllocator bulk = NewAllocator(6);
  BlockAllocator single = NewAllocator(6);
  for (const size_t count : {0u, 2u, 4u}) {
    Ids32 one_by_one;
    for (size_t i = 0; i < count; ++i) one_by_one.push_back(Take(single, 1)[0]);
    EXPECT_EQ(Take(bulk, count), one_by_one);
    EXPECT_EQ(bulk.free_count(), single.free_count());
  }
  EXPECT_EQ(bulk.free_count(), 0);
}

// C4
TEST(AcceptancePrefixTest, OverAllocationChangesNothing) {
  const auto cache = Fours(4);
  Compute(*cache, Iota(0, 8));
  const Sequence holder = Compute(*cache, Iota(100, 4));
  Sequence sequence = MustStart(*cache, Iota(200, 16));
  const std::string before = Snapshot(*cache, {&holder, &sequence});
  EXPECT_NO_ROOM(sequence.Reserve(16));
  EXPECT_EQ(Snapshot(*cache, {&holder, &sequence}), before);
  EXPECT_EQ(Known(*cache, Iota(0, 8)), 8);
  EXPECT_OK(sequence.Reserve(12));
  EXPECT_OK(cache->Validate());
}

// C5
TEST(AcceptancePrefixDeathTest, WrongReleasesAreCaught) {
  BlockAllocator allocator = NewAllocator(2);
  const PageId page{Take(allocator, 1)[0]};
  EXPECT_DEATH(allocator.Release(PageId{1}), "double release");  // never handed out
  EXPECT_DEATH(allocator.Release(PageId{2}), "not in the pool");
  allocator.Release(page);
  EXPECT_DEATH(allocator.Release(page), "double release");
}

// C6
TEST(AcceptancePrefixDeathTest, OnePageTwiceInOneReleaseIsCaught) {
  BlockAllocator allocator = NewAllocator(2);
  const PageId page{Take(allocator, 1)[0]};
  const std::vector<PageId> twice = {page, page};
  EXPECT_DEATH(
      {
        for (const PageId id : twice) allocator.Release(id);
      },
      "double release");
  allocator.Release(page);
  Ids32 all = Take(allocator, 2);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, (Ids32{0, 1}));
}

// C7
TEST(AcceptancePrefixTest, LivePrefixIsSharedUntilTheLastHolderGoes) {
  const auto cache = Fours(8);
  Sequence first = Compute(*cache, Iota(0, 12));
  Sequence second = MustStart(*cache, Iota(0, 9));
  EXPECT_EQ(second.hit_tokens(), 8);
  EXPECT_EQ(PagesOf(second), (Ids32{0, 1}));
  EXPECT_EQ(StatsOf(*cache).pages_live, 3);
  first = Sequence();
  EXPECT_EQ(StatsOf(*cache).pages_live, 2);
  second = Sequence();
  EXPECT_EQ(StatsOf(*cache).pages_live, 0);
  EXPECT_EQ(StatsOf(*cache).pages_cached, 3);
  EXPECT_OK(cache->Validate());
}

// C8
TEST(AcceptancePrefixTest, PagesOfAFinishedOwnerAreRevived) {
  const auto cache = Fours(8);
  Compute(*cache, Iota(0, 8));
  EXPECT_EQ(StatsOf(*cache).pages_cached, 2);
  const Sequence second = MustStart(*cache, Iota(0, 9));
  EXPECT_EQ(PagesOf(second), (Ids32{0, 1}));
  EXPECT_EQ(StatsOf(*cache).pages_cached, 0);
  EXPECT_EQ(StatsOf(*cache).pages_live, 2);
  EXPECT_EQ(StatsOf(*cache).evictions, 0);
  EXPECT_OK(cache->Validate());
}

// C9
TEST(AcceptancePrefixTest, UnfinishedLastPageIsNeitherSharedNorKept) {
  const auto cache = Fours(8, /*min_copy_tokens=*/1);
  Sequence first = Compute(*cache, Iota(0, 10));
  EXPECT_EQ(Known(*cache, Iota(0, 10)), 8);
  EXPECT_EQ(PagesOf(first)[2], 2);
  first = Sequence();
  const Sequence second = Compute(*cache, Iota(100, 4));
  EXPECT_EQ(PagesOf(second), (Ids32{2}));  // before any page that was never used
  EXPECT_OK(cache->Validate());
}

// C10
TEST(AcceptancePrefixTest, TailPagesGoBeforeHeadPages) {
  const auto cache = Fours(4);
  Compute(*cache, Iota(0, 16));
  for (const int32_t left : {12, 8, 4, 0}) {
    StartOptions once;
    once.write_cache = false;
    Sequence other = MustStart(*cache, Iota(100, 16), {}, once);
    EXPECT_OK(other.Reserve(16 - left));
    EXPECT_EQ(Known(*cache, Iota(0, 16)), left);
    EXPECT_OK(cache->Validate());
  }
}

// C11
TEST(AcceptancePrefixTest, PagesJustHitAreNotReclaimedForTheSameRequest) {
  const auto cache = Fours(4);
  Compute(*cache, Iota(0, 8));
  Compute(*cache, Iota(100, 8));
  // The hit pages were released first, so without the hit they would go first.
  Sequence sequence = MustStart(*cache, Iota(0, 16));
  EXPECT_OK(sequence.Reserve(8));
  Ids32 pages = PagesOf(sequence);
  EXPECT_EQ(Ids32(pages.begin(), pages.begin() + 2), (Ids32{0, 1}));
  std::sort(pages.begin(), pages.end());
  EXPECT_EQ(pages, (Ids32{0, 1, 2, 3}));
  EXPECT_EQ(Known(*cache, Iota(0, 8)), 8);
  EXPECT_EQ(Known(*cache, Iota(100, 8)), 0);
  EXPECT_OK(cache->Validate());
}

// C12
TEST(AcceptancePrefixTest, ReusedPageLosesItsOldKey) {
  const auto cache = Fours(2);
  Compute(*cache, Iota(0, 8));
  const Sequence second = Compute(*cache, Iota(100, 8));
  EXPECT_EQ(Known(*cache, Iota(0, 8)), 0);
  EXPECT_EQ(Known(*cache, Iota(100, 8)), 8);
  EXPECT_EQ(cache->stats().index_nodes, 2);
  EXPECT_EQ(StatsOf(*cache).evictions, 2);
  EXPECT_OK(cache->Validate());
}

// C13
TEST(AcceptancePrefixTest, WholePromptHitLeavesATokenToCompute) {
  for (const auto& [min_copy, hit] : {std::pair{kNever, 4}, std::pair{1, 7}}) {
    const auto cache = Fours(8, min_copy);
    Compute(*cache, Iota(0, 8));
    const Sequence second = MustStart(*cache, Iota(0, 8));
    EXPECT_EQ(second.hit_tokens(), hit);
    EXPECT_EQ(cache->stats().missed.last_token, 2);  // one of each prompt
    EXPECT_OK(cache->Validate());
  }
}

// C14
TEST(AcceptancePrefixTest, DuplicatePagesCoexistAndOneOutlivesTheOther) {
  const auto cache = Fours(4);
  StartOptions blind;
  blind.read_cache = false;
  {
    const Sequence second = MustStart(*cache, Iota(0, 8), {}, blind);
    Compute(*cache, Iota(0, 8), {}, blind);
    Compute(*cache, Iota(0, 8), {}, blind);
  }
  EXPECT_EQ(StatsOf(*cache).pages_cached, 4);
  EXPECT_EQ(cache->stats().index_nodes, 2);
  Sequence other = MustStart(*cache, Iota(100, 8));
  EXPECT_OK(other.Reserve(8));
  EXPECT_EQ(StatsOf(*cache).evictions, 2);
  const Sequence heir = MustStart(*cache, Iota(0, 9));
  EXPECT_EQ(PagesOf(heir), (Ids32{2, 3}));
  EXPECT_OK(cache->Validate());
}

// C15
TEST(AcceptancePrefixTest, CachingOffFindsNothingAndReusesWarmPages) {
  Options options = OneGroup(4, 8);
  options.prefix_caching = false;
  const auto cache = NewCache(options);
  Compute(*cache, Iota(0, 8));
  EXPECT_EQ(cache->stats().index_nodes, 0);
  EXPECT_EQ(StatsOf(*cache).pages_free, 8);
  const Sequence second = Compute(*cache, Iota(0, 8));
  EXPECT_EQ(second.hit_tokens(), 0);
  EXPECT_EQ(PagesOf(second), (Ids32{0, 1}));  // the last freed go first
  EXPECT_OK(cache->Validate());
}

// C16
TEST(AcceptancePrefixTest, RequestThatDoesNotReadDoesNotCount) {
  const auto cache = Fours(8);
  const Sequence first = Compute(*cache, Iota(0, 8));
  const int64_t looked_up = cache->stats().tokens_looked_up;
  StartOptions blind;
  blind.read_cache = false;
  const Sequence second = MustStart(*cache, Iota(0, 9), {}, blind);
  EXPECT_EQ(second.hit_tokens(), 0);
  EXPECT_EQ(cache->stats().tokens_looked_up, looked_up);
  EXPECT_EQ(cache->stats().tokens_hit, 0);
}

// C17
TEST(AcceptancePrefixTest, NamespacesShareOnlyWithThemselves) {
  std::vector<Namespace> names(7);
  names[1].SetTenant("a");
  names[2].SetTenant("b");
  names[3].SetLora("b");
  names[4].AddMedia(0, "picture");
  names[5].AddMedia(4, "picture");
  names[6].AddMedia(0, "another");
  const auto cache = Fours(32);
  std::vector<Sequence> live;
  for (const Namespace& name : names) {
    EXPECT_EQ(Known(*cache, Iota(0, 8), name), 0);
    live.push_back(Compute(*cache, Iota(0, 8), name));
    EXPECT_EQ(Known(*cache, Iota(0, 8), name), 8);
  }
  EXPECT_EQ(StatsOf(*cache).pages_live, 14);
  EXPECT_OK(cache->Validate());
}

// C18
TEST(AcceptancePrefixTest, TenantNamedLikeAnAdapterStaysApart) {
  const auto cache = Fours(8);
  Compute(*cache, Iota(0, 8), Namespace().SetLora("acme"));
  EXPECT_EQ(Known(*cache, Iota(0, 8), Namespace().SetTenant("acme")), 0);
  EXPECT_EQ(Known(*cache, Iota(0, 8), Namespace().SetTenant("").SetLora("acme")), 0);
  EXPECT_EQ(Known(*cache, Iota(0, 8), Namespace().SetLora("acme")), 8);
}

// C19
TEST(AcceptancePrefixTest, OneTokenChangesEveryLaterKeyAndNoEarlierOne) {
  const Tokens prompt = Iota(0, 16);
  for (size_t k = 0; k < prompt.size(); ++k) {
    const auto cache = Fours(16);
    const Sequence first = Compute(*cache, prompt);
    Tokens changed = prompt;
    changed[k] = 777;
    const Sequence second = Compute(*cache, changed);
    const auto same = static_cast<int32_t>(k / 4);
    EXPECT_EQ(second.hit_tokens(), 4 * same);
    EXPECT_EQ(cache->stats().index_nodes, 4 + 4 - same);
    EXPECT_EQ(Known(*cache, prompt), 16);
    EXPECT_EQ(Known(*cache, changed), 16);
  }
}

// C20. The index counts in units of the smallest page; larger pages see the same borders.
TEST(AcceptancePrefixTest, UnitOfTheIndexDoesNotMovePageBorders) {
  Options mixed = MakeOptions({Group(4, 16), Group(8, 8)});
  Options eights = OneGroup(8, 8);
  mixed.min_copy_tokens = eights.min_copy_tokens = kNever;
  const auto fine = NewCache(mixed);
  const auto coarse = NewCache(eights);
  const Sequence a = Compute(*fine, Iota(0, 29));
  const Sequence b = Compute(*coarse, Iota(0, 29));
  for (int32_t count = 1; count <= 30; ++count) {
    EXPECT_EQ(fine->MatchLength(Iota(0, count)), coarse->MatchLength(Iota(0, count))) << count;
  }
  EXPECT_EQ(PagesOf(a, 1), PagesOf(b));
}

// C21
TEST(AcceptancePrefixTest, DivergenceInsideAPageLosesNothing) {
  const auto cache = Fours(16, /*min_copy_tokens=*/1);
  const Tokens trunk = Iota(0, 12);
  const Tokens branch = Iota(0, 6) + Iota(50, 6);
  Compute(*cache, trunk);
  for (int i = 0; i < 3; ++i) {
    const std::string before = Snapshot(*cache, {});
    EXPECT_EQ(Known(*cache, branch), i == 0 ? 6 : 12);
    EXPECT_EQ(Snapshot(*cache, {}), before);  // looking changes nothing
    Compute(*cache, branch);
    EXPECT_EQ(Known(*cache, trunk), 12);
    EXPECT_EQ(Known(*cache, branch), 12);
    EXPECT_EQ(cache->stats().index_nodes, 5);
    EXPECT_OK(cache->Validate());
  }
}

// C22
TEST(AcceptancePrefixTest, HitsRoundDownToPagesAndTheTailIsFreedOnce) {
  const auto cache = Fours(8);
  for (int round = 0; round < 3; ++round) {
    const Sequence sequence = Compute(*cache, Iota(0, 11));
    EXPECT_EQ(sequence.hit_tokens(), round == 0 ? 0 : 8);
    EXPECT_EQ(StatsOf(*cache).pages_live, 3);
    EXPECT_EQ(StatsOf(*cache).pages_free, 5);
    EXPECT_OK(cache->Validate());
  }
  EXPECT_EQ(StatsOf(*cache).pages_cached, 2);
  EXPECT_EQ(StatsOf(*cache).pages_free, 6);
}

// C23
TEST(AcceptancePrefixTest, DivergenceKeepsKeysAndReferencesOfTheTrunk) {
  const auto cache = Fours(16, /*min_copy_tokens=*/1);
  const Sequence trunk = Compute(*cache, Iota(0, 12));
  const Ids32 pages = PagesOf(trunk);
  {
    const Sequence branch = Compute(*cache, Iota(0, 6) + Iota(50, 6));
    EXPECT_EQ(PagesOf(branch)[0], pages[0]);
    EXPECT_EQ(StatsOf(*cache).pages_live, 5);
  }
  EXPECT_EQ(PagesOf(trunk), pages);
  EXPECT_EQ(StatsOf(*cache).pages_live, 3);
  EXPECT_EQ(StatsOf(*cache).pages_cached, 2);
  EXPECT_EQ(Known(*cache, Iota(0, 12)), 12);
  EXPECT_OK(cache->Validate());
}

// C24
TEST(AcceptancePrefixTest, ReferencedPathIsNeverReclaimed) {
  const auto cache = Fours(4);
  Sequence holder = Compute(*cache, Iota(0, 12));
  Sequence second = MustStart(*cache, Iota(0, 9));
  holder = Sequence();  // page 2 is cached, 0 and 1 are held by the second
  Sequence greedy = MustStart(*cache, Iota(100, 12));
  EXPECT_NO_ROOM(greedy.Reserve(12));
  EXPECT_OK(greedy.Reserve(8));
  EXPECT_EQ(Known(*cache, Iota(0, 12)), 8);
  EXPECT_EQ(PagesOf(second), (Ids32{0, 1}));
  second = Sequence();
  greedy = Sequence();
  EXPECT_EQ(StatsOf(*cache).pages_live, 0);
  EXPECT_EQ(StatsOf(*cache).pages_cached, 2);
  EXPECT_OK(cache->Validate());
}

// C25. One policy so far.
TEST(AcceptancePrefixTest, LeastRecentlyReleasedGoesFirst) {
  const auto cache = Fours(3);
  for (const TokenId first : {0, 10, 20}) Compute(*cache, Iota(first, 4));
  static_cast<void>(MustStart(*cache, Iota(0, 5)));  // a hit makes it the youngest
  EXPECT_EQ(Known(*cache, Iota(10, 4)), 4);          // a look does not
  std::vector<Sequence> live;
  for (const TokenId victim : {10, 20, 0}) {
    EXPECT_EQ(Known(*cache, Iota(victim, 4)), 4);
    live.push_back(Compute(*cache, Iota(100 + victim, 4)));
    EXPECT_EQ(Known(*cache, Iota(victim, 4)), 0);
  }
  EXPECT_OK(cache->Validate());
}

// C26
TEST(AcceptancePrefixTest, EvictionsCountPagesReallyGivenUp) {
  const auto cache = Fours(8);
  Compute(*cache, Iota(0, 24));
  Sequence sequence = MustStart(*cache, Iota(100, 32));
  for (const int32_t tokens : {4, 8, 9, 20, 32}) {
    const GroupStats before = StatsOf(*cache);
    EXPECT_OK(sequence.Reserve(tokens));
    const GroupStats after = StatsOf(*cache);
    EXPECT_EQ(after.evictions - before.evictions, before.pages_cached - after.pages_cached);
    EXPECT_EQ(after.pages_live, (tokens + 3) / 4);
  }
  EXPECT_EQ(StatsOf(*cache).evictions, 6);
  EXPECT_OK(cache->Validate());
}

// C27
TEST(AcceptancePrefixTest, HitInsideAPageCopiesToAPageOfItsOwn) {
  const auto cache = Fours(8, /*min_copy_tokens=*/1);
  Compute(*cache, Iota(0, 8));
  Sequence sequence = MustStart(*cache, Iota(0, 6) + Iota(50, 3));
  EXPECT_EQ(sequence.hit_tokens(), 6);
  EXPECT_OK(sequence.Reserve(3));
  const std::vector<PageCopy> copies = RunPlan(*cache);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].from_page, PageId{1});
  EXPECT_EQ(copies[0].to_page, PageId{2});
  EXPECT_EQ(copies[0].token_count, 2);
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 2, 3}));
  EXPECT_EQ(Known(*cache, Iota(0, 8)), 8);
  EXPECT_OK(cache->Validate());
}

// C28
TEST(AcceptancePrefixTest, SourceAndTargetStayUntilTheCopyIsRetired) {
  const auto cache = Fours(4, /*min_copy_tokens=*/1);
  Compute(*cache, Iota(0, 8));
  Sequence sequence = MustStart(*cache, Iota(0, 6) + Iota(50, 1));
  EXPECT_OK(sequence.Reserve(1));
  const Plan plan = cache->TakePlan();
  sequence = Sequence();
  EXPECT_EQ(StatsOf(*cache).pages_live, 2);
  Sequence greedy = MustStart(*cache, Iota(100, 16));
  EXPECT_NO_ROOM(greedy.Reserve(12));  // page 0 is cached, page 3 free
  cache->Retire(plan.ticket);
  EXPECT_EQ(StatsOf(*cache).pages_live, 0);
  EXPECT_EQ(StatsOf(*cache).pages_cached, 2);
  EXPECT_OK(greedy.Reserve(12));
  EXPECT_OK(cache->Validate());
}

// C29. Without events: the filled copy gets a key of its own, and its source keeps the old one.
TEST(AcceptancePrefixTest, CopiedPageIsFoundOnceItIsFull) {
  const auto cache = Fours(8, /*min_copy_tokens=*/1);
  Compute(*cache, Iota(0, 8));
  const Tokens prompt = Iota(0, 6) + Iota(50, 2);
  Sequence sequence = MustStart(*cache, prompt);
  EXPECT_OK(Feed(*cache, sequence, Iota(50, 1)));
  EXPECT_EQ(Known(*cache, prompt), 6);
  EXPECT_OK(Feed(*cache, sequence, Iota(51, 1)));
  EXPECT_EQ(Known(*cache, prompt), 8);
  EXPECT_EQ(Known(*cache, Iota(0, 8)), 8);
  EXPECT_EQ(PagesOf(MustStart(*cache, prompt + Iota(60, 1))), PagesOf(sequence));
  EXPECT_OK(cache->Validate());
}

}  // namespace
}  // namespace quire::testing
