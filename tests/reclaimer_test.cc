// What every policy must keep. Which page each of them gives up: reclaimer_victims_test.cc.

#include "lib/reclaimer.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
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

}  // namespace
}  // namespace quire::testing
