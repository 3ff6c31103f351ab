// Which page each policy without a model gives up, in small cases worked out by hand.

#include <vector>

#include "gtest/gtest.h"
#include "lib/reclaimer.h"
#include "tests/support/reclaimer_tree.h"

namespace quire::testing {
namespace {

using Order = std::vector<int>;
constexpr int kRoot = ReclaimerTree::kRoot;

// --- LRU ---

TEST(LruTest, AHitMakesAPageTheYoungest) {
  ReclaimerTree tree(Reclaim::kLru, 3);
  tree.Cache({0, 1, 2});
  tree.HitAndRelease(0);
  EXPECT_EQ(tree.TakeAll(), (Order{1, 2, 0}));
}

// Order of release, not of hits: page 1 is hit first and let go last.
TEST(LruTest, CountsFromTheRelease) {
  ReclaimerTree tree(Reclaim::kLru, 3);
  tree.Cache({0, 1, 2});
  tree.Hit(1);
  tree.HitAndRelease(0);
  tree.Release(1);
  EXPECT_EQ(tree.TakeAll(), (Order{2, 0, 1}));
}

// Two requests share page 0; the tail of the older goes first, what they share last.
TEST(LruTest, TheOldestTailGoesFirst) {
  ReclaimerTree tree(Reclaim::kLru, 4);
  tree.Index(0, kRoot, 1);
  tree.Index(1, 0, 1);
  tree.Release(1);
  tree.Release(0);
  tree.Hit(0);
  tree.Index(2, 0, 2);
  tree.Index(3, 2, 2);
  for (const int page : {3, 2, 0}) tree.Release(page);
  EXPECT_EQ(tree.TakeAll(), (Order{1, 3, 2, 0}));
}

// --- FIFO ---

TEST(FifoTest, NeitherHitsNorTheReleaseChangeThePlace) {
  ReclaimerTree tree(Reclaim::kFifo, 4);
  for (const int page : {2, 0, 3, 1}) tree.Index(page);
  for (const int page : {1, 0, 3, 2}) tree.Release(page);
  tree.HitAndRelease(2);
  tree.HitAndRelease(0);
  EXPECT_EQ(tree.TakeAll(), (Order{2, 0, 3, 1}));
}

// Page 0 is the oldest but held when a victim is needed; it goes as soon as it may.
TEST(FifoTest, AHeldPageIsPassedOverAndGoesNext) {
  ReclaimerTree tree(Reclaim::kFifo, 4);
  tree.Index(0);
  tree.Cache({1, 2, 3});
  EXPECT_EQ(tree.Take(), 1);
  tree.Release(0);
  EXPECT_EQ(tree.Take(), 0);
  EXPECT_EQ(tree.TakeAll(), (Order{2, 3}));
}

// The order is 0, 1, 2, 3. When 0 and 1 come to the old end, 3 stands below them, so 2 goes first;
// once 3 has gone they go at once.
TEST(FifoTest, APageWaitsForWhatWasBuiltOnIt) {
  ReclaimerTree tree(Reclaim::kFifo, 5);
  tree.Index(0, kRoot, 1);
  tree.Index(1, 0, 1);
  tree.Cache({2});
  tree.Index(3, 1, 1);
  tree.Cache({4});
  for (const int page : {3, 1, 0}) tree.Release(page);
  EXPECT_EQ(tree.TakeAll(), (Order{2, 3, 1, 0, 4}));
}

// With a new key a page is a new page, also if it kept its place from before.
TEST(FifoTest, ANewKeyIsANewPlace) {
  ReclaimerTree tree(Reclaim::kFifo, 3);
  tree.Index(0);
  tree.Cache({1});
  tree.LoseKey(0);  // held, so nobody tells the policy
  tree.Release(0);
  tree.Cache({0});
  EXPECT_EQ(tree.TakeAll(), (Order{1, 0}));
}

// --- Aged frequency ---

// Pages of 16 are indexed, let go and given up one after another: how many go before page 0?
int OutlivedBy0(ReclaimerTree& tree) {
  for (int i = 0; i < 1000; ++i) {
    tree.Index(15, kRoot, 1000 + i);
    tree.Release(15);
    if (tree.Take() == 0) return i;
  }
  return 1000;
}

// An earlier use is worth 16 * 5 / 8 = 10 pages. Page 0 is let go when one page was indexed, so it
// counts as let go at 1 + 10 * 2 = 21. The others are let go at 2, 3, ...; of equal ones the page
// with fewer uses goes, so those of 2 to 21 do: 20 pages.
TEST(AgedFrequencyTest, APageUsedThriceOutlivesYoungerOnesButNotForEver) {
  ReclaimerTree tree(Reclaim::kAgedFrequency, 16);
  tree.Cache({0});
  tree.HitAndRelease(0);
  tree.HitAndRelease(0);
  EXPECT_EQ(OutlivedBy0(tree), 20);
}

TEST(AgedFrequencyTest, AHitOfAHeldPageIsAUse) {
  ReclaimerTree tree(Reclaim::kAgedFrequency, 16);
  tree.Index(0);
  tree.Hit(0);
  tree.Release(0);
  tree.Release(0);
  EXPECT_EQ(OutlivedBy0(tree), 10);
}

// Four earlier uses count: 1 + 10 * 4, not 1 + 10 * 9.
TEST(AgedFrequencyTest, MoreUsesThanFiveAreNotCounted) {
  ReclaimerTree tree(Reclaim::kAgedFrequency, 16);
  tree.Cache({0});
  for (int i = 0; i < 9; ++i) tree.HitAndRelease(0);
  EXPECT_EQ(OutlivedBy0(tree), 40);
}

// Given up after two uses; the third is its second earlier use.
TEST(AgedFrequencyTest, UsesAreRememberedWhenAPageIsGivenUp) {
  ReclaimerTree tree(Reclaim::kAgedFrequency, 16);
  tree.Cache({0});
  tree.HitAndRelease(0);
  EXPECT_EQ(tree.Take(), 0);
  EXPECT_FALSE(tree.Index(1, kRoot, 77));  // another key
  tree.LoseKey(1);
  EXPECT_TRUE(tree.Index(0));
  tree.Release(0);
  EXPECT_EQ(OutlivedBy0(tree), 20);
}

// A pool of one page has room for eight keys: two of ten are forgotten, those that went first.
TEST(AgedFrequencyTest, TheOldestUsesAreForgottenFirst) {
  ReclaimerTree tree(Reclaim::kAgedFrequency, 1);
  const auto index_and_take = [&tree](TokenId token) {
    const bool remembered = tree.Index(0, ReclaimerTree::kRoot, token);
    tree.Release(0);
    EXPECT_EQ(tree.Take(), 0);
    return remembered;
  };
  for (TokenId token = 1; token <= 10; ++token) EXPECT_FALSE(index_and_take(token));
  for (TokenId token = 3; token <= 10; ++token) EXPECT_TRUE(index_and_take(token));
  EXPECT_FALSE(index_and_take(2));
}

// By uses alone 0 would go before 1, which stands below it; but 2 goes, then 1, and 0 at once.
TEST(AgedFrequencyTest, AHeadWaitsForItsTail) {
  ReclaimerTree tree(Reclaim::kAgedFrequency, 16);
  tree.Index(0, kRoot, 1);
  tree.Index(1, 0, 1);
  for (int i = 0; i < 3; ++i) tree.HitAndRelease(1);  // as no core would: only the tail
  tree.Hit(1);
  for (const int page : {1, 0}) tree.Release(page);
  tree.Release(1);
  tree.Cache({2});
  EXPECT_EQ(tree.TakeAll(), (Order{2, 1, 0}));
}

// --- S3-FIFO: of 20 pages the small queue has 2 ---

// Small: 0 1 2 3. Page 0 was hit, moves on; 1 and 2 leave. One page in small is less than its
// share, so the main queue gives the next.
TEST(S3FifoTest, OneHitWondersLeaveAndAPageThatWasHitMovesOn) {
  ReclaimerTree tree(Reclaim::kS3Fifo, 20);
  tree.Cache({0, 1, 2, 3});
  tree.HitAndRelease(0);
  EXPECT_EQ(tree.TakeAll(), (Order{1, 2, 0, 3}));
}

// Page 1 comes back while it is remembered: to main, and small gives the victims down to its share.
TEST(S3FifoTest, ARememberedPageEntersTheMainQueue) {
  ReclaimerTree tree(Reclaim::kS3Fifo, 20);
  tree.Cache({1});
  EXPECT_EQ(tree.Take(), 1);
  EXPECT_TRUE(tree.Index(1));
  tree.Release(1);
  EXPECT_FALSE(tree.Index(2));
  tree.Release(2);
  tree.Cache({3, 4});
  EXPECT_EQ(tree.TakeAll(), (Order{2, 3, 1, 4}));
}

// In the main queue, by way of a first life: 0, 1, 2. Page 0 goes one round more for its hit.
TEST(S3FifoTest, AHitInTheMainQueueBuysARound) {
  ReclaimerTree tree(Reclaim::kS3Fifo, 20);
  tree.Cache({0, 1, 2});
  EXPECT_EQ(tree.TakeAll(), (Order{0, 1, 2}));
  tree.Cache({0, 1, 2});
  tree.HitAndRelease(0);
  EXPECT_EQ(tree.TakeAll(), (Order{1, 2, 0}));
}

// Page 0 has five hits and 1 three, so both go three rounds, and 0 comes first again; page 2 with
// two hits goes two.
TEST(S3FifoTest, ThreeRoundsAtMost) {
  ReclaimerTree tree(Reclaim::kS3Fifo, 20);
  tree.Cache({0, 1, 2});
  tree.TakeAll();
  tree.Cache({0, 1, 2});
  for (int i = 0; i < 5; ++i) tree.HitAndRelease(0);
  for (int i = 0; i < 3; ++i) tree.HitAndRelease(1);
  for (int i = 0; i < 2; ++i) tree.HitAndRelease(2);
  EXPECT_EQ(tree.TakeAll(), (Order{2, 0, 1}));
}

// The third life begins in the small queue.
TEST(S3FifoTest, WhatLeavesTheMainQueueIsNotRemembered) {
  ReclaimerTree tree(Reclaim::kS3Fifo, 20);
  tree.Cache({0});
  tree.TakeAll();
  EXPECT_TRUE(tree.Index(0));
  tree.Release(0);
  tree.TakeAll();
  EXPECT_FALSE(tree.Index(0));
}

// A held page that passed goes first when it is let go; with a hit meanwhile it goes to main.
TEST(S3FifoTest, AHitAfterAPageHasPassedMovesItOn) {
  for (const bool hit : {false, true}) {
    ReclaimerTree tree(Reclaim::kS3Fifo, 20);
    tree.Index(0);
    tree.Cache({1, 2, 3});
    EXPECT_EQ(tree.Take(), 1);  // page 0 has passed
    if (hit) tree.Hit(0);
    if (hit) tree.Release(0);
    tree.Release(0);
    EXPECT_EQ(tree.TakeAll(), hit ? (Order{2, 0, 3}) : (Order{0, 2, 3}));
  }
}

// What a held page was hit for under a key that it lost, does not count under the next.
TEST(S3FifoTest, ANewKeyHasNoHits) {
  ReclaimerTree tree(Reclaim::kS3Fifo, 20);
  tree.Index(0);
  tree.Hit(0);
  tree.LoseKey(0);
  tree.Release(0);
  tree.Release(0);
  tree.Cache({0, 1, 2});
  EXPECT_EQ(tree.TakeAll(), (Order{0, 1, 2}));
}

// --- 2Q: of 8 pages the queue of new ones has 2 ---

TEST(TwoQueueTest, HitsOfNewPagesChangeNothing) {
  ReclaimerTree tree(Reclaim::k2Q, 8);
  tree.Cache({0, 1, 2, 3});
  tree.HitAndRelease(0);
  EXPECT_EQ(tree.TakeAll(), (Order{0, 1, 2, 3}));
}

// Page 0 comes back while it is remembered. New: 1 2 3, one too many; then page 0 is the oldest of
// those used often; then the rest.
TEST(TwoQueueTest, ARememberedPageIsUsedOften) {
  ReclaimerTree tree(Reclaim::k2Q, 8);
  tree.Cache({0});
  EXPECT_EQ(tree.Take(), 0);
  EXPECT_TRUE(tree.Index(0));
  tree.Release(0);
  tree.Cache({1, 2, 3});
  EXPECT_EQ(tree.TakeAll(), (Order{1, 0, 2, 3}));
}

TEST(TwoQueueTest, OftenUsedPagesGoInOrderOfUse) {
  ReclaimerTree tree(Reclaim::k2Q, 8);
  tree.Cache({0, 1, 2});
  tree.TakeAll();
  tree.Cache({0, 1, 2});
  tree.HitAndRelease(0);
  EXPECT_EQ(tree.TakeAll(), (Order{1, 2, 0}));
}

// Page 0 had a place among the new ones when it lost its key; with the key of page 1 from before it
// is used often, and has no place there.
TEST(TwoQueueTest, AnOftenUsedPageHasNoPlaceAmongTheNew) {
  ReclaimerTree tree(Reclaim::k2Q, 8);
  tree.Index(1, kRoot, 7);
  tree.Release(1);
  EXPECT_EQ(tree.Take(), 1);
  tree.Index(0);
  tree.LoseKey(0);
  tree.Release(0);
  EXPECT_TRUE(tree.Index(0, kRoot, 7));
  tree.Release(0);
  tree.Cache({1, 2, 3});
  EXPECT_EQ(tree.TakeAll(), (Order{1, 0, 2, 3}));
}

// What leaves the often used is not remembered: a third life begins as a new page.
TEST(TwoQueueTest, OftenUsedPagesAreNotRemembered) {
  ReclaimerTree tree(Reclaim::k2Q, 8);
  tree.Cache({0});
  tree.TakeAll();
  EXPECT_TRUE(tree.Index(0));
  tree.Release(0);
  tree.TakeAll();
  EXPECT_FALSE(tree.Index(0));
}

}  // namespace
}  // namespace quire::testing
