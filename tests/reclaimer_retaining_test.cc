#include "lib/reclaimer_retaining.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lib/new_reclaimer.h"
#include "lib/prefix_index.h"

namespace quire {
namespace {

constexpr int64_t kForever = RetainingReclaimer::kForever;

// A tree of pages, each at its own node below `parent` (-1: the root), and the reclaimer. Unless it
// is `closed` parents may have a lower priority than their children.
class Fixture {
 public:
  explicit Fixture(const std::vector<int32_t>& parents, int64_t step = 0, bool closed = false) {
    const auto pages = static_cast<int32_t>(parents.size());
    const IndexGroup group = {.page_count = pages, .units_per_page = 1};
    EXPECT_TRUE(index_.Init(1, std::array{group}, pages + 1, 1, 0).ok());
    std::vector<NodeId> nodes;
    for (int32_t p = 0; p < pages; ++p) {
      const NodeId parent = parents[p] < 0 ? kDefaultRoot : nodes[parents[p]];
      const TokenId token = p;
      uint64_t key = 0;
      index_.HashUnits(index_.key(parent), &token, 1, &key);
      nodes.push_back(index_.Insert(parent, key, &token));
      index_.Attach(nodes.back(), 0, PageId{p});
    }
    const ReclaimerGroup served = {
        .index = &index_, .group = 0, .page_count = pages, .closed = closed};
    EXPECT_TRUE(reclaimer_.Init(served, step));
    reclaimer_.Wrap(NewReclaimer(Reclaim::kLru, served));
    for (int32_t p = 0; p < pages; ++p) EXPECT_FALSE(reclaimer_.Indexed(PageId{p}));
  }

  RetainingReclaimer& operator*() { return reclaimer_; }
  RetainingReclaimer* operator->() { return &reclaimer_; }

  void Release(int32_t page, int32_t priority, int64_t expiry = kForever) {
    const quire::Release release = {.priority = static_cast<uint8_t>(priority), .expiry = expiry};
    reclaimer_.Note(PageId{page}, release);
    reclaimer_.Insert(PageId{page}, release);
    EXPECT_EQ(reclaimer_.Fault(), "");
  }

  std::vector<int32_t> TakeAll() {
    std::vector<int32_t> order;
    while (reclaimer_.size() > 0) {
      order.push_back(static_cast<int32_t>(reclaimer_.Take()));
      EXPECT_FALSE(reclaimer_.Contains(PageId{order.back()}));
      EXPECT_EQ(reclaimer_.Fault(), "");
    }
    return order;
  }

 private:
  PrefixIndex index_;
  RetainingReclaimer reclaimer_;
};

using Order = std::vector<int32_t>;

// Pages without a parent.
Order Apart(int32_t count) { return Order(static_cast<size_t>(count), -1); }

TEST(RetainingReclaimerTest, LowestPriorityFirstAndTheOldestOfEach) {
  Fixture pages(Apart(9));
  for (const auto& [page, priority] : std::vector<std::pair<int32_t, int32_t>>{
           {0, 100}, {1, 50}, {2, 0}, {3, 51}, {4, 50}, {5, 49}, {6, 0}, {7, 51}, {8, 49}}) {
    pages.Release(page, priority);
  }
  EXPECT_EQ(pages->size(), 9);
  EXPECT_EQ(pages.TakeAll(), (Order{2, 6, 5, 8, 1, 4, 3, 7, 0}));
}

TEST(RetainingReclaimerTest, ALowerPageThatComesLaterStillGoesFirst) {
  Fixture pages(Apart(6));
  pages.Release(0, 70);
  pages.Release(1, 40);
  EXPECT_EQ(pages->Take(), PageId{1});
  EXPECT_EQ(pages->Take(), PageId{0});
  pages.Release(2, 60);
  pages.Release(3, 30);
  pages.Release(4, 55);
  pages.Release(5, 20);
  EXPECT_EQ(pages.TakeAll(), (Order{5, 3, 4, 2}));
}

TEST(RetainingReclaimerTest, ALifetimeEndsAtItsStep) {
  Fixture pages(Apart(4), /*step=*/10);
  pages.Release(0, 90, 13);
  pages.Release(1, 90, 12);
  pages.Release(2, 50);
  pages.Release(3, 90);
  pages->BeginStep(11);
  EXPECT_EQ(pages->Take(), PageId{2});
  pages->BeginStep(12);
  EXPECT_EQ(pages->Fault(), "");
  pages.Release(2, 50);  // after 1, which counts as released when its lifetime was over
  pages->BeginStep(14);  // a step may be left out
  EXPECT_EQ(pages.TakeAll(), (Order{1, 2, 0, 3}));
}

TEST(RetainingReclaimerTest, ALifetimeDoesNotSaveALowPriority) {
  Fixture pages(Apart(2));
  pages.Release(0, 10, 5);
  pages.Release(1, 50);
  pages->BeginStep(6);
  EXPECT_EQ(pages.TakeAll(), (Order{0, 1}));
}

TEST(RetainingReclaimerTest, OfPagesThatEndTogetherTheDeeperGoFirst) {
  Fixture pages({-1, 0, 1, 2, 0});
  for (const int32_t page : {0, 3, 1, 4, 2}) pages.Release(page, 80, 7);
  pages->BeginStep(7);
  EXPECT_EQ(pages.TakeAll(), (Order{3, 2, 1, 4, 0}));
}

TEST(RetainingReclaimerTest, KeepsTheHighestPriorityAndTheLatestEnd) {
  Fixture pages(Apart(4));
  pages.Release(0, 60, 30);
  pages->Revive(PageId{0});
  pages.Release(0, 90, 20);  // 90, until 30
  pages.Release(1, 80, kForever);
  pages.Release(2, 20);
  pages->Revive(PageId{2});
  pages.Release(2, 50);
  pages->Revive(PageId{2});
  pages.Release(2, 20);  // somebody wanted it by default
  pages->BeginStep(29);
  EXPECT_EQ(pages->Take(), PageId{2});
  EXPECT_EQ(pages->Take(), PageId{1});
  pages.Release(1, 80, kForever);
  pages->BeginStep(30);
  EXPECT_EQ(pages.TakeAll(), (Order{0, 1}));
}

TEST(RetainingReclaimerTest, NotedWhileOthersHoldIt) {
  Fixture pages(Apart(2));
  pages->Note(PageId{0}, {.priority = 90, .expiry = 20});
  pages.Release(0, 50);
  pages.Release(1, 50);
  EXPECT_EQ(pages.TakeAll(), (Order{1, 0}));
  pages->BeginStep(20);  // over while it is not cached
  pages.Release(0, 50);
  pages.Release(1, 50);
  EXPECT_EQ(pages.TakeAll(), (Order{0, 1}));
}

TEST(RetainingReclaimerTest, ANewKeyForgetsWhatThePageWas) {
  Fixture pages(Apart(2));
  pages->Note(PageId{0}, {.priority = 90, .expiry = kForever});
  EXPECT_FALSE(pages->Indexed(PageId{0}));
  pages.Release(0, 10);
  pages.Release(1, 50);
  EXPECT_EQ(pages.TakeAll(), (Order{0, 1}));
}

TEST(RetainingReclaimerTest, WrapsWhatIsCachedAlready) {
  PrefixIndex index;
  const IndexGroup group = {.page_count = 3, .units_per_page = 1};
  ASSERT_TRUE(index.Init(1, std::array{group}, 4, 1, 0).ok());
  for (TokenId p = 0; p < 3; ++p) {
    uint64_t key = 0;
    index.HashUnits(index.key(kDefaultRoot), &p, 1, &key);
    index.Attach(index.Insert(kDefaultRoot, key, &p), 0, PageId{p});
  }
  const ReclaimerGroup served = {.index = &index, .group = 0, .page_count = 3};
  std::unique_ptr<Reclaimer> inner = NewReclaimer(Reclaim::kLru, served);
  inner->Insert(PageId{2}, {});
  inner->Insert(PageId{0}, {});
  RetainingReclaimer pages;
  ASSERT_TRUE(pages.Init(served, 0));
  pages.Wrap(std::move(inner));
  EXPECT_EQ(pages.size(), 2);
  EXPECT_TRUE(pages.Contains(PageId{2}));
  pages.Note(PageId{1}, {.priority = 40});
  pages.Note(PageId{1}, {.priority = 40});
  pages.Insert(PageId{1}, {});  // was used by default before anybody asked
  EXPECT_EQ(pages.Take(), PageId{2});
  pages.Erase(PageId{0});
  EXPECT_EQ(pages.Take(), PageId{1});
  EXPECT_EQ(pages.size(), 0);
  EXPECT_GT(pages.bytes(), 0);
}

TEST(RetainingReclaimerTest, FaultFindsAPageThatWouldOutliveItsParent) {
  Fixture pages({-1, 0, 1}, 0, /*closed=*/true);
  for (const int32_t page : {2, 1, 0}) pages.Release(page, 80 - page);
  pages->Revive(PageId{1});
  EXPECT_EQ(pages->Fault(), "");  // somebody holds the page between
  pages->Indexed(PageId{1});
  pages->Note(PageId{1}, {.priority = 77, .expiry = kForever});
  pages->Insert(PageId{1}, {});
  EXPECT_EQ(pages->Fault(), "page 2 would stay without the page before it");
}

// A copy needed page 2 when its holder let it go; meanwhile the page before it was made anew by a
// request that is worth less. Once the page was in use again, it is like any other.
TEST(RetainingReclaimerTest, APageThatWasHeldMayOutliveItsParentOnce) {
  Fixture pages({-1, 0, 1}, 0, /*closed=*/true);
  pages->Note(PageId{2}, {.priority = 80, .expiry = kForever});
  pages->Insert(PageId{2}, {.held = true});
  pages.Release(1, 60);
  EXPECT_EQ(pages->Take(), PageId{1});
  pages.Release(1, 70);
  pages->Revive(PageId{2});
  pages->Insert(PageId{2}, {});
  EXPECT_EQ(pages->Fault(), "page 2 would stay without the page before it");
}

TEST(RetainingReclaimerDeathTest, MisuseStopsTheProcess) {
  Fixture pages(Apart(2));
  pages.Release(0, 90);
  EXPECT_DEATH((*pages).Insert(PageId{0}, {}), "the page is cached already");
  EXPECT_DEATH(pages->Erase(PageId{1}), "the page is not cached");
  pages->Erase(PageId{0});
  EXPECT_DEATH(pages->Take(), "no page is cached");
}

// The same by looking at all pages at each call.
struct ModelPage {
  bool cached = false;
  int32_t priority = 0;
  int64_t expiry = 0;
  int64_t arrived = 0;
};

class PlainModel {
 public:
  PlainModel(const Order& parents) : pages(parents.size()), depth_(parents.size(), 0) {
    for (size_t p = 0; p < parents.size(); ++p) {
      if (parents[p] >= 0) depth_[p] = depth_[parents[p]] + 1;
    }
  }

  void Release(int32_t page, int32_t priority, int64_t expiry) {
    ModelPage& p = pages[page];
    if (p.priority > 50 && p.expiry <= step_) p = {.cached = false, .priority = 50};
    if (priority > 50) p.expiry = std::max(p.priority > 50 ? p.expiry : 0, expiry);
    p.priority = std::max(p.priority, priority);
    if (p.priority > 50 && p.expiry <= step_) p.priority = 50;
    p.cached = true;
    p.arrived = ++clock_;
  }

  void BeginStep(int64_t step) {
    step_ = step;
    Order over;
    for (size_t p = 0; p < pages.size(); ++p) {
      const ModelPage& page = pages[p];
      if (page.cached && page.priority > 50 && page.expiry <= step) {
        over.push_back(static_cast<int32_t>(p));
      }
    }
    std::stable_sort(over.begin(), over.end(), [&](int32_t a, int32_t b) {
      if (pages[a].expiry != pages[b].expiry) return pages[a].expiry < pages[b].expiry;
      if (depth_[a] != depth_[b]) return depth_[a] > depth_[b];
      return pages[a].arrived < pages[b].arrived;
    });
    for (const int32_t p : over) {
      pages[p].priority = 50;
      pages[p].arrived = ++clock_;
    }
  }

  int32_t Take() {
    int32_t victim = -1;
    for (size_t p = 0; p < pages.size(); ++p) {
      if (!pages[p].cached) continue;
      const ModelPage& best = pages[victim < 0 ? p : static_cast<size_t>(victim)];
      const bool before = pages[p].priority != best.priority ? pages[p].priority < best.priority
                                                             : pages[p].arrived < best.arrived;
      if (victim < 0 || before) victim = static_cast<int32_t>(p);
    }
    pages[victim].cached = false;
    return victim;
  }

  std::vector<ModelPage> pages;

 private:
  Order depth_;
  int64_t clock_ = 0;
  int64_t step_ = 0;
};

TEST(RetainingReclaimerTest, AgreesWithAPlainModelOverRandomCalls) {
  constexpr int32_t kPages = 23;
  std::mt19937 random(1);
  Order parents;
  for (int32_t p = 0; p < kPages; ++p)
    parents.push_back(static_cast<int32_t>(random() % (p + 1)) - 1);
  Fixture pages(parents);
  PlainModel model(parents);
  int64_t step = 0;
  int taken = 0;
  for (int call = 0; call < 20000; ++call) {
    const auto page = static_cast<int32_t>(random() % kPages);
    ModelPage& modelled = model.pages[page];
    ASSERT_EQ(pages->Contains(PageId{page}), modelled.cached);
    const uint32_t what = random() % 8;
    if (what == 0 && pages->size() > 0) {
      ++taken;
      ASSERT_EQ(static_cast<int32_t>(pages->Take()), model.Take()) << call;
    } else if (what == 1) {
      pages->BeginStep(++step);
      model.BeginStep(step);
    } else if (!modelled.cached) {
      if (random() % 2 == 0) {
        pages->Indexed(PageId{page});
        modelled = {};
      }
      const auto priority = static_cast<int32_t>(random() % 5) * 25;
      const int64_t expiry =
          random() % 4 == 0 ? kForever : step + 1 + static_cast<int64_t>(random() % 9);
      pages.Release(page, priority, expiry);
      model.Release(page, priority, expiry);
    } else if (random() % 2 == 0) {
      pages->Revive(PageId{page});
      modelled.cached = false;
    } else {
      pages->Erase(PageId{page});
      modelled.cached = false;
    }
    ASSERT_EQ(pages->Fault(), "") << call;
  }
  EXPECT_GT(taken, 1000);
}

}  // namespace
}  // namespace quire
