// What exists because of how the cache works inside, seen through its front door.

#include "lib/cache_core.h"

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

using Ids32 = std::vector<int32_t>;
using Copy = std::tuple<int32_t, int32_t, int32_t>;  // from, to, tokens

std::vector<Copy> Copies(const Plan& plan) {
  std::vector<Copy> copies;
  for (const PageCopy& copy : plan.copies) {
    copies.emplace_back(static_cast<int32_t>(copy.from_page), static_cast<int32_t>(copy.to_page),
                        copy.token_count);
  }
  return copies;
}

const absl::Status kFailed = absl::InternalError("the device lost it");

bool LostData(Sequence& sequence) {
  return sequence.Reserve(1).code() == absl::StatusCode::kDataLoss;
}

// Pages of 4 tokens, and a partly matching page is always worth a copy.
std::unique_ptr<KvCache> Fours(int32_t page_count, int32_t lookback = kAllTokens,
                               int32_t rollback = 0) {
  Options options = OneGroup(4, page_count, lookback);
  options.min_copy_tokens = 1;
  options.max_rollback_tokens = rollback;
  return NewCache(options);
}

// Four holders of one unfinished page, and `free` pages left.
struct FourForks {
  explicit FourForks(int32_t free) : cache(Fours(2 + free)) {
    holders.push_back(Compute(*cache, Iota(0, 6)));
    for (int i = 0; i < 3; ++i) holders.push_back(MustFork(holders[0]));
    for (Sequence& holder : holders) batch.push_back(&holder);
  }
  std::vector<const Sequence*> all() const { return {batch.begin(), batch.end()}; }

  std::unique_ptr<KvCache> cache;
  std::vector<Sequence> holders;
  std::vector<Sequence*> batch;
};

// Each slot's unfinished unit has a place of its own: with slots and units so large, one place too
// few would lie outside the memory.
TEST(CacheCoreTest, EverySlotKeepsItsUnfinishedUnit) {
  constexpr int32_t kSequences = 2048;
  Options options = OneGroup(2048, kSequences);
  options.max_sequences = kSequences;
  options.max_sequence_tokens = 4096;
  auto cache = NewCache(options);
  std::vector<Sequence> sequences;
  for (int32_t i = 0; i < kSequences; ++i) sequences.push_back(Compute(*cache, Tokens{i, 7}));
  const Tokens rest = Iota(2, 2046);
  ASSERT_OK(sequences.back().Reserve(2046));
  ASSERT_OK(sequences.back().Commit(rest));
  Tokens whole = {kSequences - 1, 7};
  whole.insert(whole.end(), rest.begin(), rest.end());
  whole.push_back(0);
  EXPECT_EQ(cache->MatchLength(whole), 2048);
  EXPECT_OK(cache->Validate());
}

TEST(CacheCoreTest, TheLastForkOfABatchNeedsNoPage) {
  FourForks forks(3);
  EXPECT_OK(forks.cache->ReserveAll(forks.batch, Ids32{1, 1, 1, 1}));
  EXPECT_OK(forks.cache->Validate());
  EXPECT_EQ(Copies(forks.cache->TakePlan()), (std::vector<Copy>{{1, 2, 2}, {1, 3, 2}, {1, 4, 2}}));
  EXPECT_EQ(PagesOf(forks.holders[3]), (Ids32{0, 1}));  // the last one writes in place
  EXPECT_EQ(StatsOf(*forks.cache).copies, 3);
  for (Sequence& holder : forks.holders) EXPECT_OK(holder.Commit(Iota(50, 1)));
  EXPECT_OK(forks.cache->Validate());
}

TEST(CacheCoreTest, OnePageTooFewForTheForksChangesNothing) {
  FourForks forks(2);
  const std::string before = Snapshot(*forks.cache, forks.all());
  EXPECT_NO_ROOM(forks.cache->ReserveAll(forks.batch, Ids32{1, 1, 1, 1}));
  EXPECT_EQ(Snapshot(*forks.cache, forks.all()), before);
  EXPECT_EQ(forks.cache->TakePlan().ticket, kNoTicket);
  EXPECT_EQ(forks.cache->stats().out_of_room, 1);
  EXPECT_OK(forks.cache->Validate());
}

// Where one holder stays outside the batch, the tail stays shared and every fork needs its page.
TEST(CacheCoreTest, AHolderOutsideTheBatchKeepsTheTailShared) {
  FourForks forks(2);
  std::vector<Sequence*> three(forks.batch.begin(), forks.batch.end() - 1);
  EXPECT_NO_ROOM(forks.cache->ReserveAll(three, Ids32{1, 1, 1}));
  three.pop_back();
  EXPECT_OK(forks.cache->ReserveAll(three, Ids32{1, 1}));
  EXPECT_EQ(forks.cache->TakePlan().copies.size(), 2u);
  EXPECT_OK(forks.cache->Validate());
}

TEST(CacheCoreTest, RevivedTailIsCopiedThoughNobodyElseHoldsIt) {
  const auto cache = Fours(4);
  Compute(*cache, Iota(0, 8));
  Sequence sequence = MustStart(*cache, Iota(0, 7) + Iota(50, 1));
  EXPECT_EQ(sequence.length(), 7);
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 1}));
  EXPECT_OK(sequence.Reserve(1));
  EXPECT_EQ(Copies(cache->TakePlan()), (std::vector<Copy>{{1, 2, 3}}));
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 2}));
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 8);  // what was cached is whole
  EXPECT_OK(cache->Validate());
}

TEST(CacheCoreTest, WritesInPlaceWhereThePoolHasNoPageForTheCopy) {
  const auto cache = Fours(2);
  Compute(*cache, Iota(0, 8));
  Sequence sequence = MustStart(*cache, Iota(0, 7) + Iota(50, 1));
  EXPECT_OK(sequence.Reserve(1));
  EXPECT_EQ(cache->TakePlan().ticket, kNoTicket);
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 1}));
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 4);  // the page left the index before it is written
  EXPECT_OK(sequence.Commit(Iota(50, 1)));
  EXPECT_EQ(cache->MatchLength(Iota(0, 7) + Iota(50, 2)), 8);
  EXPECT_OK(cache->Validate());
}

TEST(CacheCoreTest, NeverInPlaceWhereAnotherHoldsThePage) {
  const auto cache = Fours(2);
  Compute(*cache, Iota(0, 8));
  Sequence first = MustStart(*cache, Iota(0, 7) + Iota(50, 1));
  Sequence second = MustStart(*cache, Iota(0, 7) + Iota(60, 1));
  EXPECT_NO_ROOM(first.Reserve(1));
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 8);
  second = Sequence();
  EXPECT_OK(first.Reserve(1));
  EXPECT_OK(cache->Validate());
}

// Copies of one plan may run in any order, so none may read what another writes.
TEST(CacheCoreTest, CopyOfAPendingTargetReadsWhereThatOneReads) {
  const auto cache = Fours(6);
  const Sequence owner = Compute(*cache, Iota(0, 6));
  Sequence fork = MustFork(owner);
  EXPECT_OK(fork.Reserve(1));
  Sequence second = MustFork(fork);
  EXPECT_OK(second.Reserve(1));
  EXPECT_OK(cache->Validate());
  EXPECT_EQ(Copies(cache->TakePlan()), (std::vector<Copy>{{1, 2, 2}, {1, 3, 2}}));
}

TEST(CacheCoreTest, CopyThatNobodyWantsIsForgottenBeforeThePlanIsTaken) {
  const auto cache = Fours(6);
  const Sequence owner = Compute(*cache, Iota(0, 6));
  static_cast<void>(MustFork(owner));  // a fork makes the original ask again
  const std::string before = Snapshot(*cache, {&owner});
  for (const bool drop : {true, false}) {
    Sequence fork = MustFork(owner);
    EXPECT_OK(fork.Reserve(1));
    EXPECT_EQ(StatsOf(*cache).copies, 1);
    EXPECT_OK(drop ? absl::OkStatus() : fork.Truncate(4));
    fork = Sequence();
    EXPECT_EQ(cache->TakePlan().ticket, kNoTicket);
    EXPECT_EQ(Snapshot(*cache, {&owner}), before);
    EXPECT_OK(cache->Validate());
  }
}

TEST(CacheCoreTest, PagesOfAPlanAreNotHandedOutBeforeItIsRetired) {
  const auto cache = Fours(4);
  Sequence owner = Compute(*cache, Iota(0, 6));
  Sequence fork = MustFork(owner);
  EXPECT_OK(fork.Reserve(1));
  const Plan plan = cache->TakePlan();
  owner = Sequence();
  fork = Sequence();
  // Page 0 is cached, source and target wait for the plan, page 3 is free.
  EXPECT_EQ(StatsOf(*cache).pages_cached, 1);
  EXPECT_EQ(StatsOf(*cache).pages_live, 2);
  EXPECT_EQ(StatsOf(*cache).bytes_live, 200);
  EXPECT_OK(cache->Validate());

  Sequence other = MustStart(*cache, Iota(100, 12));
  EXPECT_NO_ROOM(other.Reserve(12));
  EXPECT_OK(other.Reserve(8));
  EXPECT_EQ(PagesOf(other), (Ids32{0, 3}));
  cache->Retire(plan.ticket);
  EXPECT_EQ(StatsOf(*cache).pages_free, 2);
  EXPECT_OK(other.Reserve(12));
  EXPECT_OK(cache->Validate());
}

TEST(CacheCoreTest, FailedCopyReachesAllWhoDependOnIt) {
  const auto cache = Fours(16);
  Compute(*cache, Iota(0, 8));
  Sequence owner = MustStart(*cache, Iota(0, 6) + Iota(50, 1));
  EXPECT_OK(owner.Reserve(6));
  const Plan plan = cache->TakePlan();
  EXPECT_OK(owner.Commit(Iota(50, 6)));
  Sequence holder = MustFork(owner);
  Sequence heir = MustStart(*cache, Iota(0, 6) + Iota(50, 7));
  EXPECT_EQ(heir.length(), 12);
  // Its copy reads the page that the failed copy should have written.
  Sequence copier = MustStart(*cache, Iota(0, 6) + Iota(50, 1) + Iota(70, 2));
  EXPECT_EQ(copier.length(), 7);
  EXPECT_OK(copier.Reserve(1));
  Sequence bystander = MustStart(*cache, Iota(0, 9));
  EXPECT_EQ(bystander.length(), 8);
  EXPECT_OK(cache->Validate());

  cache->Retire(plan.ticket, kFailed);
  EXPECT_OK(cache->Validate());
  EXPECT_EQ(cache->stats().copies_failed, 2);
  EXPECT_EQ(cache->MatchLength(Iota(0, 6) + Iota(50, 7)), 6);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 8);
  EXPECT_OK(bystander.Reserve(1));
  for (Sequence* sequence : {&owner, &holder, &heir, &copier}) {
    EXPECT_TRUE(LostData(*sequence));
    EXPECT_EQ(sequence->valid_length(), 4);
    EXPECT_EQ(cache->CommitAll({&sequence, 1}, {}, Ids32{0}).code(), absl::StatusCode::kDataLoss);
    EXPECT_OK(sequence->Truncate(4));
    EXPECT_EQ(sequence->valid_length(), 4);
    EXPECT_OK(Feed(*cache, *sequence, Iota(80, 5)));
    EXPECT_EQ(sequence->valid_length(), 9);
    EXPECT_OK(cache->Validate());
  }
}

// Nobody is left to be told, but what was computed on the copy is not to be found, and its pages
// are free at once: no key names them, so nothing would ever look for them.
TEST(CacheCoreTest, FailedCopyTakesWhatIsCachedBelowItAlong) {
  const auto cache = Fours(16);
  Compute(*cache, Iota(0, 8));
  Sequence owner = MustStart(*cache, Iota(0, 6) + Iota(50, 1));
  EXPECT_OK(owner.Reserve(6));
  const Plan plan = cache->TakePlan();
  EXPECT_OK(owner.Commit(Iota(50, 6)));
  const Tokens below = Iota(0, 6) + Iota(50, 6);
  for (const TokenId branch : {100, 200}) {
    Sequence heir = MustStart(*cache, below + Iota(branch, 1));
    EXPECT_EQ(heir.length(), 12);
    EXPECT_OK(Feed(*cache, heir, Iota(branch, 8)));
  }
  owner = Sequence();
  // 8 to 12 of the owner and two pages of each heir; the target is held by the plan.
  EXPECT_EQ(StatsOf(*cache).pages_cached, 2 + 5 - 1);
  EXPECT_EQ(cache->MatchLength(below + Iota(100, 9)), 20);

  cache->Retire(plan.ticket, kFailed);
  EXPECT_OK(cache->Validate());
  EXPECT_EQ(StatsOf(*cache).pages_cached, 2);
  EXPECT_EQ(StatsOf(*cache).pages_free, 14);
  EXPECT_EQ(cache->MatchLength(below + Iota(100, 9)), 6);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 8);
}

// The page has left everybody's window; the heir is found by where it stands in the tree, also
// after the index was emptied.
TEST(CacheCoreTest, FailedCopyReachesHeirsPastTheWindow) {
  for (const bool clear : {false, true}) {
    const auto cache = Fours(16, /*lookback=*/3);
    Compute(*cache, Iota(0, 8));
    Sequence owner = MustStart(*cache, Iota(0, 6) + Iota(50, 1));
    EXPECT_EQ(owner.length(), 6);
    EXPECT_OK(owner.Reserve(6));
    const Plan plan = cache->TakePlan();
    EXPECT_OK(owner.Commit(Iota(50, 6)));
    Sequence heir = MustStart(*cache, Iota(0, 6) + Iota(50, 7));
    EXPECT_EQ(heir.length(), 12);
    EXPECT_EQ(PagesOf(heir)[1], static_cast<int32_t>(kNoPage));
    if (clear) cache->ClearCached();
    cache->Retire(plan.ticket, kFailed);
    EXPECT_TRUE(LostData(owner));
    EXPECT_TRUE(LostData(heir));
    EXPECT_EQ(heir.valid_length(), 4);
    EXPECT_OK(heir.Truncate(0));
    EXPECT_OK(heir.Reserve(1));
    EXPECT_OK(cache->Validate());
  }
}

// Also where none of the old tokens had a node yet, so that the new ones would hang on the root.
TEST(CacheCoreTest, NothingBuiltOnTokensFromBeforeClearCachedIsFound) {
  constexpr int32_t kNoTruncate = -1;
  for (const auto& [before, kept] : std::vector<std::pair<int32_t, int32_t>>{
           {10, kNoTruncate}, {10, 10}, {10, 8}, {10, 3}, {3, kNoTruncate}, {3, 3}, {3, 1}}) {
    SCOPED_TRACE(std::to_string(before) + " " + std::to_string(kept));
    const auto cache = Fours(32);
    Sequence sequence = Compute(*cache, Iota(0, before));
    cache->ClearCached();
    EXPECT_EQ(cache->MatchLength(Iota(0, 11)), 0);
    EXPECT_OK(kept == kNoTruncate ? absl::OkStatus() : sequence.Truncate(kept));
    EXPECT_OK(Feed(*cache, sequence, Iota(sequence.length(), 30)));
    EXPECT_EQ(cache->MatchLength(Iota(0, 41)), 0);
    EXPECT_OK(cache->Validate());
    sequence = Sequence();
    EXPECT_EQ(StatsOf(*cache).pages_free, 32);
    EXPECT_EQ(cache->stats().index_nodes, 0);
  }
}

TEST(CacheCoreTest, SequenceWithoutATokenIsIndexedAfterClearCached) {
  const auto cache = Fours(8);
  Sequence sequence = MustStart(*cache, Iota(0, 9));
  cache->ClearCached();
  EXPECT_OK(Feed(*cache, sequence, Iota(0, 9)));
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 8);
}

TEST(CacheCoreTest, RollbackAfterAWindowedHit) {
  for (const int32_t rollback : {0, 8}) {
    const auto cache = Fours(16, /*lookback=*/3, rollback);
    Compute(*cache, Iota(0, 32));
    Sequence sequence = MustStart(*cache, Iota(0, 33));
    ASSERT_EQ(sequence.length(), 32);
    const absl::Status status = sequence.Truncate(27);
    if (rollback == 0) {
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_EQ(sequence.length(), 32);
    } else {
      EXPECT_OK(status);
      EXPECT_EQ(sequence.hit_tokens(), 27);
      EXPECT_OK(Feed(*cache, sequence, Iota(70, 5)));
      EXPECT_EQ(cache->MatchLength(Iota(0, 27) + Iota(70, 6)), 32);
    }
    EXPECT_OK(cache->Validate());
  }
}

// The fork is alone on the target then and has nothing to copy, but somebody must still be told.
TEST(CacheCoreDeathTest, CommitOnAPendingCopyThatAnotherPlanned) {
  const auto cache = Fours(6);
  const Sequence first = Compute(*cache, Iota(0, 6));
  Sequence owner = MustFork(first);
  EXPECT_OK(owner.Reserve(1));
  Sequence fork = MustFork(owner);
  owner = Sequence();
  EXPECT_OK(fork.Reserve(1));
  EXPECT_OK(cache->Validate());
  EXPECT_DEATH(static_cast<void>(fork.Commit(Iota(50, 1))), "commit before TakePlan");
  EXPECT_EQ(Copies(cache->TakePlan()), (std::vector<Copy>{{1, 2, 2}}));
  EXPECT_OK(fork.Commit(Iota(50, 1)));
  EXPECT_OK(cache->Validate());
}

// With pages of 4 and 16 tokens a small page may be indexed while the large one below it, the
// copied one, is not full yet: only where the owner stood tells who built on it.
TEST(CacheCoreTest, FailedCopyWithSeveralPageSizesReachesHeirs) {
  const auto cache = NewCache(MakeOptions({Group(4, 64), Group(16, 16)}));
  const Sequence first = Compute(*cache, Iota(0, 8));
  Sequence owner = MustFork(first);
  EXPECT_OK(owner.Reserve(4));
  const Plan plan = cache->TakePlan();
  ASSERT_EQ(plan.copies.size(), 1u);
  EXPECT_EQ(plan.copies[0].group, GroupId{1});
  EXPECT_OK(owner.Commit(Iota(8, 4)));
  StartOptions alone;
  alone.read_cache = false;
  const Sequence other = Compute(*cache, Iota(0, 40), {}, alone);
  Sequence heir = MustStart(*cache, Iota(0, 33));
  EXPECT_EQ(heir.length(), 32);
  EXPECT_EQ(PagesOf(heir)[2], PagesOf(owner)[2]);
  EXPECT_NE(PagesOf(heir, 1)[0], PagesOf(owner, 1)[0]);
  EXPECT_OK(cache->Validate());

  cache->Retire(plan.ticket, kFailed);
  EXPECT_OK(cache->Validate());
  EXPECT_TRUE(LostData(owner));
  EXPECT_TRUE(LostData(heir));
  EXPECT_EQ(cache->MatchLength(Iota(0, 33)), 0);
  EXPECT_OK(heir.Truncate(heir.valid_length()));
  EXPECT_OK(heir.Reserve(1));
  EXPECT_OK(cache->Validate());
}

// A fork of six tokens that went on for `more`, past its window, with the copy of its tail still
// outstanding. Nothing of it is in the index.
struct WindowedFork {
  WindowedFork(int32_t page_count, int32_t more) : cache(NewCache(OneGroup(4, page_count, 4))) {
    original = MustStart(*cache, Iota(0, 30), {}, {.write_cache = false});
    EXPECT_OK(original.Reserve(6));
    EXPECT_OK(original.Commit(Iota(0, 6)));
    fork = MustFork(original);
    EXPECT_OK(fork.Reserve(more));
    plan = cache->TakePlan();
    EXPECT_OK(fork.Commit(Iota(6, more)));
  }
  std::unique_ptr<KvCache> cache;
  Sequence original, fork;
  Plan plan;
};

// Nothing names the failed page but the tables that hold it, so it may not leave them early.
TEST(CacheCoreTest, PageOfAnOutstandingCopyStaysInItsWindow) {
  WindowedFork state(64, 24);
  auto& [cache, original, fork, plan] = state;
  ASSERT_EQ(plan.copies.size(), 1u);
  cache->Retire(plan.ticket, kFailed);
  EXPECT_EQ(fork.valid_length(), 4);
  EXPECT_TRUE(LostData(fork));
  EXPECT_FALSE(LostData(original));
  EXPECT_OK(cache->Validate());
}

// To wait for the next Commit with them would be to wait for ever: it needs a Reserve before.
TEST(CacheCoreTest, PagesThatACopyKeptInAWindowAreRoom) {
  WindowedFork state(5, 10);
  auto& [cache, original, fork, plan] = state;
  ASSERT_EQ(plan.copies.size(), 1u);
  original = Sequence();
  EXPECT_FALSE(fork.Reserve(9).ok());  // the copy is outstanding
  cache->Retire(plan.ticket, absl::OkStatus());
  EXPECT_EQ(cache->stats().groups[0].pages_free, 2);
  EXPECT_EQ(cache->stats().groups[0].pages_live, 3);  // one of them within the window

  EXPECT_FALSE(fork.Reserve(17).ok());
  EXPECT_EQ(cache->stats().groups[0].pages_live, 3);  // what is refused changes nothing
  EXPECT_OK(fork.Reserve(16));
  EXPECT_EQ(cache->stats().groups[0].pages_live, 5);
  EXPECT_EQ(Ids(fork.pages(GroupId{0}).first(3)), (std::vector<int32_t>{-1, -1, -1}));
  EXPECT_OK(cache->Validate());
}

// Its key is what leads to those who built on the target, so it may not be dropped for a write in
// place while the copy may still fail.
TEST(CacheCoreTest, TargetOfAnOutstandingCopyIsNotTakenOver) {
  Options options;
  options.groups = {{.tokens_per_page = 4, .page_count = 9, .lookback_tokens = 4}};
  options.max_rollback_tokens = 8;
  const std::unique_ptr<KvCache> cache = *KvCache::Create(options);
  Sequence original = *cache->Start(Iota(0, 30));
  EXPECT_OK(original.Reserve(6));
  EXPECT_OK(original.Commit(Iota(0, 6)));
  Sequence fork = *original.Fork();
  EXPECT_OK(fork.Reserve(6));
  const Plan plan = cache->TakePlan();
  ASSERT_EQ(plan.copies.size(), 1u);
  EXPECT_OK(fork.Commit(Iota(6, 6)));
  Sequence heir = *cache->Start(Iota(0, 13));
  EXPECT_EQ(heir.length(), 12);
  EXPECT_OK(heir.Reserve(8));
  EXPECT_OK(heir.Commit(Iota(900, 8)));
  EXPECT_OK(fork.Truncate(7));
  const GroupStats before = cache->stats().groups[0];
  Sequence filler = *cache->Start(Iota(500, 10));
  EXPECT_OK(filler.Reserve(4 * (before.pages_free + before.pages_cached)));
  EXPECT_EQ(fork.Reserve(1).code(), absl::StatusCode::kResourceExhausted);
  cache->Retire(plan.ticket, kFailed);
  EXPECT_EQ(heir.valid_length(), 4);
  EXPECT_LE(cache->MatchLength(Iota(0, 13)), 4);
  EXPECT_OK(cache->Validate());
}

}  // namespace
}  // namespace quire::testing
