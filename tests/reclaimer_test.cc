// What every policy must keep, and which page each of them gives up in small cases worked out by
// hand.

#include "lib/reclaimer.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/reclaimer_tree.h"

namespace quire::testing {
namespace {

using Order = std::vector<int>;
constexpr int kRoot = ReclaimerTree::kRoot;

Order Sorted(Order order) {
  std::sort(order.begin(), order.end());
  return order;
}

// --- What every policy must keep ---

class ReclaimerTest : public ::testing::TestWithParam<Reclaim> {};
using ReclaimerDeathTest = ReclaimerTest;

INSTANTIATE_TEST_SUITE_P(Every, ReclaimerTest, ::testing::ValuesIn(kEveryPolicy), PolicyOfTest);
INSTANTIATE_TEST_SUITE_P(Every, ReclaimerDeathTest, ::testing::ValuesIn(kEveryPolicy),
                         PolicyOfTest);

TEST_P(ReclaimerTest, BeginsEmpty) {
  ReclaimerTree tree(GetParam(), 3);
  EXPECT_EQ(tree.policy().size(), 0);
  for (int p = 0; p < 3; ++p) EXPECT_FALSE(tree.policy().Contains(PageId{p}));
  EXPECT_GT(tree.policy().bytes(), tree.policy().ghost_bytes());
  EXPECT_EQ(tree.policy().Fault(), "");
}

TEST_P(ReclaimerTest, EveryCachedPageCanBeTakenOnce) {
  ReclaimerTree tree(GetParam(), 8);
  tree.Cache({3, 0, 4, 1, 7, 6});
  EXPECT_EQ(tree.policy().size(), 6);
  EXPECT_TRUE(tree.policy().Contains(PageId{4}));
  EXPECT_FALSE(tree.policy().Contains(PageId{2}));
  EXPECT_EQ(Sorted(tree.TakeAll()), (Order{0, 1, 3, 4, 6, 7}));
  EXPECT_EQ(tree.policy().size(), 0);
  EXPECT_FALSE(tree.policy().Contains(PageId{4}));
  EXPECT_EQ(tree.policy().Fault(), "");
}

TEST_P(ReclaimerTest, AHeldPageIsNotCached) {
  ReclaimerTree tree(GetParam(), 4);
  tree.Index(2);
  EXPECT_FALSE(tree.policy().Contains(PageId{2}));
  tree.Release(2);
  EXPECT_TRUE(tree.policy().Contains(PageId{2}));
  tree.Hit(2);
  EXPECT_FALSE(tree.policy().Contains(PageId{2}));
  EXPECT_EQ(tree.policy().size(), 0);
  tree.Hit(2);
  tree.Release(2);
  EXPECT_FALSE(tree.policy().Contains(PageId{2}));
  tree.Release(2);
  EXPECT_EQ(tree.TakeAll(), Order{2});
}

TEST_P(ReclaimerTest, EraseAndReviveAnywhereLeaveTheRest) {
  for (int out = 0; out < 4; ++out) {
    Order rest;
    {
      ReclaimerTree tree(GetParam(), 4);
      tree.Cache({0, 1, 2, 3});
      tree.LoseKey(out);
      EXPECT_FALSE(tree.policy().Contains(PageId{out}));
      EXPECT_EQ(tree.policy().size(), 3);
      EXPECT_EQ(tree.policy().Fault(), "");
      rest = tree.TakeAll();
    }
    Order expected = {0, 1, 2, 3};
    expected.erase(expected.begin() + out);
    EXPECT_EQ(rest, expected);
    ReclaimerTree tree(GetParam(), 4);
    tree.Cache({0, 1, 2, 3});
    tree.Hit(out);
    EXPECT_FALSE(tree.policy().Contains(PageId{out}));
    EXPECT_EQ(tree.policy().Fault(), "");
    EXPECT_EQ(tree.TakeAll(), expected);
    tree.Release(out);
    EXPECT_EQ(tree.TakeAll(), Order{out});
  }
}

// All that no policy has a reason to tell apart goes in the order in which it came.
TEST_P(ReclaimerTest, PagesUsedOnceGoOldestFirst) {
  ReclaimerTree tree(GetParam(), 40);
  Order pages;
  for (int i = 0; i < 40; ++i) pages.push_back((i * 7) % 40);
  tree.Cache(pages);
  EXPECT_EQ(tree.TakeAll(), pages);
}

// A sequence lets its tail go first; but even if it did not, the head would not go before it.
TEST_P(ReclaimerTest, ATailGoesBeforeItsHead) {
  for (const Order& released : {Order{2, 1, 0}, Order{0, 1, 2}, Order{1, 0, 2}}) {
    if (GetParam() == Reclaim::kLru && released != Order{2, 1, 0}) continue;  // relies on it
    ReclaimerTree tree(GetParam(), 3);
    tree.Index(0, kRoot, 5);
    tree.Index(1, 0, 5);
    tree.Index(2, 1, 5);
    for (const int page : released) tree.Release(page);
    EXPECT_EQ(tree.TakeAll(), (Order{2, 1, 0}));
  }
}

TEST_P(ReclaimerTest, PoolOfOnePage) {
  ReclaimerTree tree(GetParam(), 1);
  for (int i = 0; i < 3; ++i) {
    tree.Index(0, kRoot, i % 2);
    tree.Release(0);
    EXPECT_TRUE(tree.policy().Contains(PageId{0}));
    tree.HitAndRelease(0);
    EXPECT_EQ(tree.Take(), 0);
    EXPECT_EQ(tree.policy().size(), 0);
  }
}

TEST_P(ReclaimerTest, PrefetchChangesNothing) {
  ReclaimerTree tree(GetParam(), 3);
  tree.Cache({2, 0});
  for (int p = 0; p < 3; ++p) tree.policy().Prefetch(PageId{p});
  tree.policy().PrefetchRemembered(0);
  tree.policy().PrefetchRemembered(UINT64_MAX);
  EXPECT_EQ(tree.TakeAll(), (Order{2, 0}));
}

// Requests of a random tree of prompts, some of them at the same time, pages that lose their keys
// in any order among them. Every victim is looked at.
class Churn {
 public:
  Churn(Reclaim policy, bool closed, uint32_t seed)
      : closed_(closed), tree_(policy, kPages, closed), random_(seed) {
    for (int p = 0; p < kPages; ++p) free_.push_back(p);
  }

  void Step() {
    if (random_() % 32 == 0) LoseSomeKeys();
    if (requests_.empty() || (requests_.size() < 4 && random_() % 2 == 0)) {
      Begin();
    } else {
      End(random_() % requests_.size());
    }
    Check();
  }
  const Order& victims() const { return victims_; }
  int hits() const { return hits_; }

 private:
  static constexpr int kPages = 41;

  void Begin() {
    Order request;
    int parent = kRoot;
    const int length = 1 + static_cast<int>(random_() % 8);
    bool found = true;
    for (int i = 0; i < length; ++i) {
      // Few at the root, and some tokens more often than others.
      const auto token = static_cast<TokenId>(std::min(random_() % 4, random_() % 4));
      const int page = found ? tree_.Find(parent, token) : kRoot;
      if (page != kRoot) {
        tree_.Hit(page);
        ++hits_;
        parent = page;
      } else {
        found = false;
        if (free_.empty() && tree_.policy().size() == 0) break;
        if (free_.empty()) Take();
        tree_.Index(free_.back(), parent, token);
        parent = free_.back();
        free_.pop_back();
      }
      request.push_back(parent);
    }
    requests_.push_back(request);
  }

  void End(size_t i) {
    const Order& request = requests_[i];
    for (size_t p = request.size(); p-- > 0;) {
      tree_.Release(request[p],
                    {.new_units = 1, .continues = i % 2 == 0, .last = p + 1 == request.size()});
      FreeIfLost(request[p]);
    }
    requests_.erase(requests_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  // As ClearCached and a failed copy do: a page and all below it, from the top.
  void LoseSomeKeys() {
    const int top = static_cast<int>(random_() % kPages);
    if (!tree_.keyed(top)) return;
    const NodeId ancestor = tree_.node_of(top);
    Order below;
    for (int p = 0; p < kPages; ++p) {
      if (!tree_.keyed(p)) continue;
      NodeId node = tree_.node_of(p);
      while (node != kDefaultRoot && node != ancestor) node = tree_.index().parent(node);
      if (node == ancestor) below.push_back(p);
    }
    for (const int p : below) {
      tree_.LoseKey(p);
      FreeIfLost(p);
    }
  }
  void FreeIfLost(int page) {
    if (!tree_.keyed(page) && !tree_.live(page)) free_.push_back(page);
  }

  void Take() {
    std::map<int, bool> may_leave;  // the cached ones
    for (int p = 0; p < kPages; ++p) {
      if (tree_.cached(p)) may_leave[p] = !closed_ || !tree_.HasCachedChild(p);
    }
    const int victim = tree_.Take();
    ASSERT_TRUE(may_leave.count(victim)) << "page " << victim << " was not cached";
    ASSERT_TRUE(may_leave[victim]) << "page " << victim << " has a cached child";
    victims_.push_back(victim);
    free_.push_back(victim);
  }

  void Check() {
    int cached = 0;
    for (int p = 0; p < kPages; ++p) {
      ASSERT_EQ(tree_.policy().Contains(PageId{p}), tree_.cached(p)) << "page " << p;
      cached += tree_.cached(p) ? 1 : 0;
    }
    ASSERT_EQ(tree_.policy().size(), cached);
    ASSERT_EQ(tree_.policy().Fault(), "");
  }

  bool closed_;
  ReclaimerTree tree_;
  std::mt19937 random_;
  std::vector<int> free_;
  std::vector<Order> requests_;  // pages, head first
  Order victims_;
  int hits_ = 0;
};

Order VictimsOf(Reclaim policy, bool closed, uint32_t seed) {
  Churn churn(policy, closed, seed);
  for (int step = 0; step < 4000 && !::testing::Test::HasFatalFailure(); ++step) churn.Step();
  EXPECT_GT(churn.victims().size(), 1000u);
  EXPECT_GT(churn.hits(), 1000);
  return churn.victims();
}

TEST_P(ReclaimerTest, NeverTakesAPageWithACachedChild) {
  for (uint32_t seed = 1; seed <= 3; ++seed) VictimsOf(GetParam(), true, seed);
}

TEST_P(ReclaimerTest, WithAWindowEveryPageMayLeave) { VictimsOf(GetParam(), false, 4); }

TEST_P(ReclaimerTest, TheSameCallsGiveTheSameVictims) {
  const Order victims = VictimsOf(GetParam(), true, 5);
  EXPECT_EQ(VictimsOf(GetParam(), true, 5), victims);
  EXPECT_NE(VictimsOf(GetParam(), true, 6), victims);
}

TEST_P(ReclaimerDeathTest, MisuseStopsTheProcess) {
  ReclaimerTree tree(GetParam(), 3);
  tree.Cache({1});
  tree.Index(0);
  EXPECT_DEATH(tree.policy().Insert(PageId{1}, {}), "the page is cached already");
  EXPECT_DEATH(tree.policy().Erase(PageId{0}), "the page is not cached");
  EXPECT_DEATH(tree.policy().Revive(PageId{0}), "the page is not cached");
  tree.policy().Erase(PageId{1});
  EXPECT_DEATH(tree.policy().Erase(PageId{1}), "the page is not cached");
  EXPECT_DEATH(tree.policy().Take(), "no page is cached");
}

// The only page is its own neighbour's neighbour: a link that says "out" must not look like that.
TEST_P(ReclaimerDeathTest, DoubleInsertOfTheOnlyPage) {
  ReclaimerTree tree(GetParam(), 1);
  tree.Cache({0});
  EXPECT_DEATH(tree.policy().Insert(PageId{0}, {}), "the page is cached already");
}

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
