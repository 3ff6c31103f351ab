// The contract of Sequence, call by call.

#include "quire/sequence.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

using Ids32 = std::vector<int32_t>;

// Pages of 4 tokens.
std::unique_ptr<KvCache> Fours(int32_t page_count, int32_t lookback = kAllTokens,
                               int32_t rollback = 0) {
  Options options = OneGroup(4, page_count, lookback);
  options.max_rollback_tokens = rollback;
  return NewCache(options);
}

bool LostData(const absl::Status& status) { return status.code() == absl::StatusCode::kDataLoss; }

TEST(SequenceTest, DefaultIsEmptyAndMayBeAssignedTo) {
  const auto cache = Fours(4);
  Sequence sequence;
  EXPECT_TRUE(sequence.empty());
  sequence = MustStart(*cache, Iota(0, 4));
  EXPECT_FALSE(sequence.empty());
  EXPECT_EQ(sequence.length(), 0);
  EXPECT_EQ(sequence.capacity(), 0);
  EXPECT_EQ(sequence.hit_tokens(), 0);
  EXPECT_EQ(sequence.valid_length(), 0);
  EXPECT_TRUE(sequence.pages(GroupId{0}).empty());
}

TEST(SequenceTest, MoveKeepsThePagesAndEmptiesTheSource) {
  const auto cache = Fours(4);
  Sequence source = Compute(*cache, Iota(0, 6));
  Sequence target = std::move(source);
  EXPECT_TRUE(source.empty());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(target.length(), 6);
  EXPECT_EQ(PagesOf(target), (Ids32{0, 1}));
  EXPECT_EQ(cache->stats().sequences, 1);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, MoveAssignmentReleasesWhatItReplaces) {
  const auto cache = Fours(4);
  Sequence kept = Compute(*cache, Iota(0, 6));
  Sequence replaced = Compute(*cache, Iota(100, 6));
  EXPECT_EQ(StatsOf(*cache).pages_live, 4);
  replaced = std::move(kept);
  EXPECT_TRUE(kept.empty());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(PagesOf(replaced), (Ids32{0, 1}));
  EXPECT_EQ(cache->stats().sequences, 1);
  EXPECT_EQ(StatsOf(*cache).pages_live, 2);
  EXPECT_EQ(StatsOf(*cache).pages_cached, 1);  // the full page of the other
  Sequence& same = replaced;
  replaced = std::move(same);
  EXPECT_EQ(PagesOf(replaced), (Ids32{0, 1}));
  replaced = Sequence();
  EXPECT_TRUE(replaced.empty());
  EXPECT_EQ(StatsOf(*cache).pages_live, 0);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, ReserveIsAbsoluteAndAskingTwiceIsAskingOnce) {
  const auto cache = Fours(8);
  Sequence sequence = MustStart(*cache, Iota(0, 10));
  EXPECT_OK(sequence.Reserve(0));
  EXPECT_EQ(StatsOf(*cache).pages_live, 0);
  for (const int32_t tokens : {3, 3, 2, 4, 0}) {
    EXPECT_OK(sequence.Reserve(tokens));
    EXPECT_EQ(sequence.capacity(), 4);
    EXPECT_EQ(PagesOf(sequence), (Ids32{0}));
  }
  EXPECT_OK(sequence.Reserve(5));
  EXPECT_EQ(sequence.capacity(), 8);
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 1}));
  EXPECT_EQ(sequence.length(), 0);
  EXPECT_EQ(StatsOf(*cache).pages_live, 2);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, RefusedReserveChangesNothing) {
  const auto cache = Fours(4);
  Sequence other = Compute(*cache, Iota(100, 8));
  Sequence sequence = Compute(*cache, Iota(0, 2));
  const std::string before = Snapshot(*cache, {&sequence, &other});
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_TRUE(Says(sequence.Reserve(-1), kInvalid, {"-1", "at least 0"}));
  EXPECT_TRUE(Says(sequence.Reserve(15), kInvalid, {"needs 5 pages", "has 4", "never fit"}));
  EXPECT_TRUE(Says(sequence.Reserve(1023), kInvalid, {"1025", "max_sequence_tokens is 1024"}));
  EXPECT_NO_ROOM(sequence.Reserve(14));
  EXPECT_EQ(Snapshot(*cache, {&sequence, &other}), before);
  EXPECT_EQ(cache->stats().out_of_room, 1);
  EXPECT_OK(sequence.Reserve(6));
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, CapacityEndsAtTheLongestSequence) {
  Options options = OneGroup(4, 8);
  options.max_sequence_tokens = 6;
  const auto cache = NewCache(options);
  Sequence sequence = MustStart(*cache, Iota(0, 6));
  EXPECT_OK(sequence.Reserve(6));
  EXPECT_EQ(sequence.capacity(), 6);
  EXPECT_FALSE(sequence.Reserve(7).ok());
}

TEST(SequenceTest, RejectedDraftsAreNeverCommitted) {
  const auto cache = Fours(8);
  Sequence sequence = Compute(*cache, Iota(0, 6));
  EXPECT_OK(sequence.Reserve(4));  // one token and three drafts: written to 6, 7, 8, 9
  EXPECT_EQ(sequence.capacity(), 12);
  const std::array<const Sequence*, 1> batch = {&sequence};
  const std::array<int32_t, 1> counts = {4};
  std::array<int64_t, 1> row_begin;
  std::array<int32_t, 1> lengths;
  const PageTableView table =
      cache->MakePageTable(batch, counts, GroupId{0}, {.row_begin = row_begin, .lengths = lengths});
  EXPECT_EQ(table.lengths[0], 10);
  EXPECT_EQ(Ids({table.page_ids + table.row_begin[0], 3}), PagesOf(sequence));

  EXPECT_OK(sequence.Commit(Tokens{6, 50}));  // two of them accepted
  EXPECT_EQ(sequence.length(), 8);
  EXPECT_EQ(sequence.capacity(), 12);
  EXPECT_EQ(cache->MatchLength(Iota(0, 7) + Tokens{50, 1}), 8);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 4);
  EXPECT_OK(sequence.Reserve(4));  // the same page again
  EXPECT_EQ(StatsOf(*cache).pages_live, 3);
  EXPECT_EQ(cache->TakePlan().ticket, kNoTicket);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, CommitsSeveralTokensAcrossPages) {
  const auto cache = Fours(8);
  Sequence sequence = MustStart(*cache, Iota(0, 12));
  EXPECT_OK(sequence.Reserve(11));
  EXPECT_OK(sequence.Commit({}));
  EXPECT_EQ(sequence.length(), 0);
  EXPECT_OK(sequence.Commit(Iota(0, 3)));
  EXPECT_EQ(cache->MatchLength(Iota(0, 12)), 0);
  EXPECT_OK(sequence.Commit(Iota(3, 8)));
  EXPECT_EQ(sequence.length(), 11);
  EXPECT_EQ(cache->MatchLength(Iota(0, 12)), 8);
  EXPECT_OK(sequence.Commit(Iota(11, 1)));
  EXPECT_EQ(cache->MatchLength(Iota(0, 13)), 12);
  EXPECT_EQ(sequence.capacity(), 12);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, TruncateGivesBackPagesPastTheEnd) {
  const auto cache = Fours(8);
  Sequence sequence = Compute(*cache, Iota(0, 11));
  const std::string before = Snapshot(*cache, {&sequence});
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_TRUE(Says(sequence.Truncate(-1), kInvalid, {"-1", "0 to length(), 11"}));
  EXPECT_TRUE(Says(sequence.Truncate(12), kInvalid, {"12", "11"}));
  EXPECT_EQ(Snapshot(*cache, {&sequence}), before);

  EXPECT_OK(sequence.Truncate(8));
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 1}));
  EXPECT_EQ(sequence.capacity(), 8);
  EXPECT_OK(sequence.Truncate(4));
  EXPECT_EQ(PagesOf(sequence), (Ids32{0}));
  EXPECT_EQ(StatsOf(*cache).pages_cached, 1);  // the full page stays findable
  EXPECT_EQ(StatsOf(*cache).pages_free, 6);
  EXPECT_OK(Feed(*cache, sequence, Iota(50, 4)));
  EXPECT_EQ(StatsOf(*cache).copies, 0);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 8);
  EXPECT_EQ(cache->MatchLength(Iota(0, 4) + Iota(50, 5)), 8);
  EXPECT_OK(sequence.Truncate(0));
  EXPECT_TRUE(sequence.pages(GroupId{0}).empty());
  EXPECT_EQ(StatsOf(*cache).pages_live, 0);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, TruncateInsideAnUnfinishedPageWritesInPlace) {
  const auto cache = Fours(8);
  Sequence sequence = Compute(*cache, Iota(0, 7));
  EXPECT_OK(sequence.Truncate(5));
  EXPECT_EQ(sequence.capacity(), 5);
  EXPECT_OK(Feed(*cache, sequence, Iota(50, 3)));
  EXPECT_EQ(StatsOf(*cache).copies, 0);
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 1}));
  EXPECT_EQ(cache->MatchLength(Iota(0, 5) + Iota(50, 4)), 8);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 4);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, TruncateInsideAnIndexedPageCopies) {
  const auto cache = Fours(8);
  Sequence sequence = Compute(*cache, Iota(0, 8));
  EXPECT_OK(sequence.Truncate(5));
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 1}));
  EXPECT_OK(sequence.Reserve(3));
  const std::vector<PageCopy> copies = RunPlan(*cache);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].from_page, PageId{1});
  EXPECT_EQ(copies[0].to_page, PageId{2});
  EXPECT_EQ(copies[0].token_count, 1);
  EXPECT_OK(sequence.Commit(Iota(50, 3)));
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 2}));
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 8);
  EXPECT_EQ(cache->MatchLength(Iota(0, 5) + Iota(50, 4)), 8);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, TruncateInsideASharedPageLeavesTheOtherAlone) {
  const auto cache = Fours(3);
  Sequence owner = Compute(*cache, Iota(0, 7));
  Sequence fork = MustFork(owner);
  EXPECT_OK(fork.Truncate(6));
  EXPECT_EQ(PagesOf(fork), PagesOf(owner));
  Sequence other = Compute(*cache, Iota(100, 1));
  EXPECT_NO_ROOM(fork.Reserve(1));  // the copy needs a page
  other = Sequence();
  EXPECT_OK(fork.Reserve(1));
  const std::vector<PageCopy> copies = RunPlan(*cache);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].token_count, 2);
  EXPECT_EQ(PagesOf(fork), (Ids32{0, 2}));
  EXPECT_EQ(PagesOf(owner), (Ids32{0, 1}));
  EXPECT_EQ(owner.length(), 7);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, TruncateNeedsThePagesOfTheWindow) {
  const auto cache = Fours(8, /*lookback=*/4);
  Sequence sequence = Compute(*cache, Iota(0, 16));
  EXPECT_EQ(PagesOf(sequence), (Ids32{-1, -1, -1, 3}));
  const std::string before = Snapshot(*cache, {&sequence});
  for (const int32_t length : {15, 13, 12, 8, 1}) {
    EXPECT_TRUE(Says(sequence.Truncate(length), absl::StatusCode::kFailedPrecondition,
                     {"group 0", "max_rollback_tokens"}));
  }
  EXPECT_EQ(Snapshot(*cache, {&sequence}), before);
  EXPECT_OK(sequence.Truncate(16));
  EXPECT_OK(sequence.Truncate(0));  // from nothing one can always begin
  EXPECT_OK(Feed(*cache, sequence, Iota(50, 4)));
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, MaxRollbackTokensKeepWhatTruncateNeeds) {
  const auto cache = Fours(8, /*lookback=*/4, /*rollback=*/4);
  Sequence sequence = Compute(*cache, Iota(0, 16));
  EXPECT_EQ(PagesOf(sequence), (Ids32{-1, -1, 2, 3}));
  EXPECT_EQ(sequence.Truncate(11).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_OK(sequence.Truncate(14));
  EXPECT_OK(sequence.Truncate(12));
  EXPECT_EQ(PagesOf(sequence), (Ids32{-1, -1, 2}));
  EXPECT_OK(Feed(*cache, sequence, Iota(50, 4)));
  EXPECT_EQ(sequence.length(), 16);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, ForkSharesEveryPageUpToLength) {
  const auto cache = Fours(8);
  Compute(*cache, Iota(0, 4));
  Sequence owner = Compute(*cache, Iota(0, 6));
  EXPECT_OK(owner.Reserve(6));
  EXPECT_EQ(owner.capacity(), 12);
  Sequence fork = MustFork(owner);
  EXPECT_EQ(fork.length(), 6);
  EXPECT_EQ(fork.capacity(), 6);
  EXPECT_EQ(owner.capacity(), 6);  // both have to ask before they write the shared page
  EXPECT_EQ(owner.hit_tokens(), 4);
  EXPECT_EQ(fork.hit_tokens(), 4);
  EXPECT_EQ(PagesOf(fork), (Ids32{0, 1}));
  EXPECT_EQ(PagesOf(owner), (Ids32{0, 1, 2}));
  EXPECT_EQ(StatsOf(*cache).pages_live, 3);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, ForkAtAPageBorderLeavesTheOriginalsRoom) {
  const auto cache = Fours(8);
  Sequence owner = Compute(*cache, Iota(0, 8));
  EXPECT_OK(owner.Reserve(2));
  Sequence fork = MustFork(owner);
  EXPECT_EQ(owner.capacity(), 12);
  EXPECT_EQ(fork.capacity(), 8);
  EXPECT_OK(owner.Commit(Iota(50, 2)));
  EXPECT_OK(Feed(*cache, fork, Iota(60, 2)));
  EXPECT_EQ(StatsOf(*cache).copies, 0);
  EXPECT_EQ(PagesOf(owner), (Ids32{0, 1, 2}));
  EXPECT_EQ(PagesOf(fork), (Ids32{0, 1, 3}));
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, TheLastWriterWritesInPlace) {
  const auto cache = Fours(8);
  Sequence owner = Compute(*cache, Iota(0, 6));
  Sequence fork = MustFork(owner);
  EXPECT_OK(fork.Reserve(2));
  const std::vector<PageCopy> copies = RunPlan(*cache);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].from_page, PageId{1});
  EXPECT_EQ(copies[0].to_page, PageId{2});
  EXPECT_EQ(copies[0].token_count, 2);
  EXPECT_OK(owner.Reserve(2));
  EXPECT_EQ(cache->TakePlan().ticket, kNoTicket);
  EXPECT_OK(owner.Commit(Iota(50, 2)));
  EXPECT_OK(fork.Commit(Iota(60, 2)));
  EXPECT_EQ(PagesOf(owner), (Ids32{0, 1}));
  EXPECT_EQ(PagesOf(fork), (Ids32{0, 2}));
  EXPECT_EQ(cache->MatchLength(Iota(0, 6) + Iota(50, 3)), 8);
  EXPECT_EQ(cache->MatchLength(Iota(0, 6) + Iota(60, 3)), 8);
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, ForkThatIsDroppedCostsNoCopy) {
  const auto cache = Fours(8);
  Sequence owner = Compute(*cache, Iota(0, 6));
  static_cast<void>(MustFork(owner));
  EXPECT_OK(Feed(*cache, owner, Iota(6, 2)));
  EXPECT_EQ(StatsOf(*cache).copies, 0);
  EXPECT_EQ(PagesOf(owner), (Ids32{0, 1}));
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, ForkNeedsAFreeSequence) {
  Options options = OneGroup(4, 8);
  options.max_sequences = 2;
  const auto cache = NewCache(options);
  Sequence owner = Compute(*cache, Iota(0, 6));
  Sequence fork = MustFork(owner);
  EXPECT_NO_ROOM(owner.Fork());
  EXPECT_NO_ROOM(cache->Start(Iota(0, 6)));
  EXPECT_EQ(cache->stats().sequences, 2);
  fork = Sequence();
  EXPECT_OK(owner.Fork());
  EXPECT_OK(cache->Validate());
}

TEST(SequenceTest, HitTokensFollowTruncateAndNothingElse) {
  const auto cache = Fours(8);
  Compute(*cache, Iota(0, 9));
  Sequence sequence = MustStart(*cache, Iota(0, 9));
  EXPECT_EQ(sequence.hit_tokens(), 8);
  EXPECT_EQ(sequence.length(), 8);
  EXPECT_OK(Feed(*cache, sequence, Iota(8, 3)));
  EXPECT_EQ(sequence.hit_tokens(), 8);
  EXPECT_OK(sequence.Truncate(9));
  EXPECT_EQ(sequence.hit_tokens(), 8);
  EXPECT_OK(sequence.Truncate(5));
  EXPECT_EQ(sequence.hit_tokens(), 5);
  EXPECT_EQ(MustFork(sequence).hit_tokens(), 5);
  EXPECT_OK(Feed(*cache, sequence, Iota(50, 3)));
  EXPECT_EQ(sequence.hit_tokens(), 5);
}

TEST(SequenceTest, TruncateToValidLengthHealsAFailedCopy) {
  const auto cache = Fours(8);
  Sequence owner = Compute(*cache, Iota(0, 6));
  Sequence fork = MustFork(owner);
  EXPECT_OK(fork.Reserve(2));
  const Plan plan = cache->TakePlan();
  EXPECT_OK(fork.Commit(Iota(50, 1)));
  EXPECT_EQ(fork.valid_length(), 7);
  cache->Retire(plan.ticket, absl::InternalError("the device lost it"));
  EXPECT_EQ(cache->stats().copies_failed, 1);
  EXPECT_EQ(fork.length(), 7);
  EXPECT_EQ(fork.valid_length(), 4);
  EXPECT_EQ(owner.valid_length(), 6);

  EXPECT_TRUE(Says(fork.Reserve(1), absl::StatusCode::kDataLoss, {"first 4 of 7", "Truncate"}));
  EXPECT_TRUE(LostData(fork.Commit(Iota(51, 1))));
  EXPECT_EQ(fork.length(), 7);
  EXPECT_OK(fork.Truncate(5));  // not far enough
  EXPECT_EQ(fork.valid_length(), 4);
  EXPECT_TRUE(LostData(fork.Reserve(1)));
  EXPECT_OK(fork.Truncate(4));
  EXPECT_EQ(fork.valid_length(), 4);
  EXPECT_OK(Feed(*cache, fork, Iota(60, 4)));
  EXPECT_EQ(fork.valid_length(), 8);
  EXPECT_OK(Feed(*cache, owner, Iota(6, 2)));
  EXPECT_OK(cache->Validate());
}

TEST(SequenceDeathTest, CommitPastCapacity) {
  const auto cache = Fours(8);
  Sequence sequence = MustStart(*cache, Iota(0, 6));
  EXPECT_DEATH(static_cast<void>(sequence.Commit(Iota(0, 1))), "commit past capacity");
  EXPECT_OK(sequence.Reserve(4));
  EXPECT_DEATH(static_cast<void>(sequence.Commit(Iota(0, 5))), "commit past capacity");
  EXPECT_OK(sequence.Commit(Iota(0, 4)));
}

TEST(SequenceDeathTest, CommitAfterForkOrTruncateWithoutReserve) {
  const auto cache = Fours(8);
  Sequence owner = Compute(*cache, Iota(0, 6));
  EXPECT_OK(owner.Reserve(1));
  Sequence fork = MustFork(owner);
  EXPECT_DEATH(static_cast<void>(owner.Commit(Iota(6, 1))), "again after Fork or Truncate");
  EXPECT_DEATH(static_cast<void>(fork.Commit(Iota(6, 1))), "again after Fork or Truncate");
  EXPECT_OK(owner.Reserve(1));
  EXPECT_DEATH(static_cast<void>(owner.Commit(Iota(6, 1))), "commit before TakePlan");
  RunPlan(*cache);
  EXPECT_OK(owner.Truncate(5));
  EXPECT_DEATH(static_cast<void>(owner.Commit(Iota(6, 1))), "again after Fork or Truncate");
}

TEST(SequenceDeathTest, UseOfAnEmptySequence) {
  const auto cache = Fours(8);
  Sequence moved = MustStart(*cache, Iota(0, 6));
  const Sequence target = std::move(moved);
  const char* message = "the sequence is empty";
  // NOLINTBEGIN(bugprone-use-after-move)
  EXPECT_DEATH(static_cast<void>(moved.length()), message);
  EXPECT_DEATH(static_cast<void>(moved.capacity()), message);
  EXPECT_DEATH(static_cast<void>(moved.hit_tokens()), message);
  EXPECT_DEATH(static_cast<void>(moved.valid_length()), message);
  EXPECT_DEATH(static_cast<void>(moved.pages(GroupId{0})), message);
  EXPECT_DEATH(static_cast<void>(moved.Reserve(1)), message);
  EXPECT_DEATH(static_cast<void>(moved.Commit({})), message);
  EXPECT_DEATH(static_cast<void>(moved.Truncate(0)), message);
  EXPECT_DEATH(static_cast<void>(moved.Fork()), message);
  // NOLINTEND(bugprone-use-after-move)
  EXPECT_DEATH(static_cast<void>(target.pages(GroupId{1})), "no such group");
}

TEST(SequenceDeathTest, MustNotOutliveItsCache) {
  auto cache = Fours(8);
  const Sequence sequence = MustStart(*cache, Iota(0, 6));
  EXPECT_DEATH(cache.reset(), "a Sequence outlives its KvCache");
}

}  // namespace
}  // namespace quire::testing
