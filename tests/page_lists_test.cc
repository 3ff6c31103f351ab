#include "lib/page_lists.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/indexed_pages.h"

namespace quire {
namespace {

using Order = std::vector<int32_t>;

// The pages of a list, oldest first, all removed.
Order Drain(PageLists& lists, int32_t list) {
  Order order;
  while (lists.Oldest(list) != kNoPage) {
    order.push_back(static_cast<int32_t>(lists.Oldest(list)));
    lists.Remove(lists.Oldest(list));
  }
  return order;
}

// A root's child 0 with children 1 and 2, and 3 below 1; 4 and 5 at the root; all attached.
class PageListsTest : public testing::Test {
 protected:
  void SetUp() override {
    const NodeId zero = pages_.Attach(0, kDefaultRoot, 10);
    const NodeId one = pages_.Attach(1, zero, 11);
    pages_.Attach(2, zero, 12);
    pages_.Attach(3, one, 13);
    pages_.Attach(4, kDefaultRoot, 14);
    pages_.Attach(5, kDefaultRoot, 15);
    ASSERT_TRUE(lists_.Init(pages_.group(), /*list_count=*/3, /*counted=*/true));
  }
  void Push(int32_t list, const Order& pages) {
    for (const int32_t page : pages) lists_.PushYoungest(PageId{page}, list);
  }
  void Remove(int32_t page) { lists_.Remove(PageId{page}); }
  PageId Oldest(int32_t list) const { return lists_.Oldest(list); }
  bool HasChild(int32_t page) const { return lists_.HasCachedChild(PageId{page}); }

  IndexedPages pages_{10};
  PageLists lists_;
};

using PageListsDeathTest = PageListsTest;

TEST_F(PageListsTest, BeginEmpty) {
  EXPECT_EQ(lists_.size(), 0);
  for (int32_t list = 0; list < 3; ++list) EXPECT_EQ(Oldest(list), kNoPage);
  for (int32_t page = 0; page < 10; ++page) EXPECT_FALSE(lists_.Contains(PageId{page}));
  EXPECT_EQ(lists_.Fault(), "");
  // Links of ten pages and three heads, and a count for each node.
  const auto nodes = static_cast<int64_t>(pages_.index().node_capacity());
  EXPECT_EQ(lists_.bytes(), 13 * 8 + nodes * 2);
}

TEST_F(PageListsTest, EachListIsInOrderOfArrival) {
  Push(1, {4, 3});
  Push(2, {5});
  Push(1, {2});
  EXPECT_EQ(lists_.size(), 4);
  EXPECT_TRUE(lists_.Contains(PageId{3}));
  EXPECT_FALSE(lists_.Contains(PageId{1}));
  EXPECT_EQ(lists_.Fault(), "");
  EXPECT_EQ(Oldest(0), kNoPage);
  EXPECT_EQ(Drain(lists_, 1), (Order{4, 3, 2}));
  EXPECT_EQ(Drain(lists_, 2), (Order{5}));
  EXPECT_EQ(lists_.size(), 0);
  EXPECT_FALSE(lists_.Contains(PageId{3}));
}

TEST_F(PageListsTest, RemoveAnywhereKeepsTheOrderOfTheRest) {
  for (const int32_t removed : {2, 3, 4, 5}) {
    Push(0, {2, 3, 4, 5});
    Remove(removed);
    Order rest = {2, 3, 4, 5};
    rest.erase(std::find(rest.begin(), rest.end(), removed));
    EXPECT_EQ(lists_.size(), 3);
    EXPECT_EQ(lists_.Fault(), "");
    EXPECT_EQ(Drain(lists_, 0), rest);
  }
}

TEST_F(PageListsTest, MoveToYoungestGoesBehindAllOthers) {
  Push(0, {2, 3, 4});
  Push(1, {5});
  lists_.MoveToYoungest(PageId{2}, 0);  // within a list
  lists_.MoveToYoungest(PageId{3}, 1);
  lists_.MoveToYoungest(PageId{4}, 2);  // to an empty one
  EXPECT_EQ(lists_.size(), 4);
  EXPECT_EQ(lists_.Fault(), "");
  EXPECT_EQ(Drain(lists_, 0), (Order{2}));
  EXPECT_EQ(Drain(lists_, 1), (Order{5, 3}));
  EXPECT_EQ(Drain(lists_, 2), (Order{4}));
}

TEST_F(PageListsTest, CachedChildrenAreCounted) {
  EXPECT_FALSE(HasChild(0));
  Push(0, {1});
  EXPECT_TRUE(HasChild(0));  // it need not be cached itself
  Push(1, {2, 3});
  EXPECT_TRUE(HasChild(1));
  EXPECT_FALSE(HasChild(2));
  lists_.MoveToYoungest(PageId{1}, 2);  // still cached
  Remove(2);
  EXPECT_TRUE(HasChild(0));
  Remove(1);
  EXPECT_FALSE(HasChild(0));  // a grandchild is no child
  EXPECT_TRUE(HasChild(1));
  Remove(3);
  EXPECT_FALSE(HasChild(1));
  EXPECT_EQ(lists_.Fault(), "");
}

TEST_F(PageListsTest, SetAsideComesBackToTheOldEndAfterItsLastChild) {
  Push(0, {0, 4});
  Push(1, {2, 1});
  lists_.SetAside(PageId{0}, 0);
  EXPECT_EQ(Oldest(0), PageId{4});
  EXPECT_TRUE(lists_.Contains(PageId{0}));
  EXPECT_EQ(lists_.size(), 4);
  EXPECT_EQ(lists_.Fault(), "");
  Remove(2);
  EXPECT_EQ(Oldest(0), PageId{4});  // page 1 still stands below it
  Push(0, {5});
  Remove(1);
  EXPECT_EQ(lists_.Fault(), "");
  EXPECT_EQ(Drain(lists_, 0), (Order{0, 4, 5}));
  EXPECT_EQ(lists_.size(), 0);
}

TEST_F(PageListsTest, SetAsideComesBackToItsOwnList) {
  Push(2, {0});
  Push(1, {1});
  Push(0, {3});
  lists_.SetAside(PageId{0}, 2);
  lists_.SetAside(PageId{1}, 1);
  EXPECT_EQ(Oldest(1), kNoPage);
  EXPECT_EQ(Oldest(2), kNoPage);
  Remove(3);
  EXPECT_EQ(Oldest(1), PageId{1});
  EXPECT_EQ(Oldest(2), kNoPage);  // not before page 1 has gone too
  Remove(1);
  EXPECT_EQ(Oldest(2), PageId{0});
}

TEST_F(PageListsTest, APageSetAsideMayBeRemoved) {
  Push(0, {1, 4});
  Push(1, {3});
  lists_.SetAside(PageId{1}, 0);
  Remove(1);
  EXPECT_FALSE(lists_.Contains(PageId{1}));
  EXPECT_FALSE(HasChild(0));
  EXPECT_EQ(lists_.size(), 2);
  EXPECT_EQ(lists_.Fault(), "");
  Remove(3);  // nothing waits for it any more
  EXPECT_EQ(Drain(lists_, 0), (Order{4}));
}

// A page in a list with a cached child stays where it is when the child goes.
TEST_F(PageListsTest, OnlyAPageSetAsideIsMoved) {
  Push(0, {4, 0});
  Push(1, {2});
  Remove(2);
  EXPECT_EQ(Drain(lists_, 0), (Order{4, 0}));
}

// What follows a page is found by way of its duplicate too, cached or not.
TEST_F(PageListsTest, APageWithADuplicateIsFreeToLeave) {
  Push(0, {0});
  Push(1, {1, 2});
  EXPECT_TRUE(HasChild(0));
  pages_.Attach(6, kDefaultRoot, 10);  // page 0 again
  ASSERT_EQ(pages_.node_of(6), pages_.node_of(0));
  EXPECT_FALSE(HasChild(0));
  EXPECT_FALSE(HasChild(6));
  EXPECT_FALSE(HasChild(2));
  pages_.Detach(6);
  EXPECT_TRUE(HasChild(0));
  pages_.Attach(6, kDefaultRoot, 10);
  Remove(0);
  pages_.Detach(0);
  Push(2, {6});
  EXPECT_TRUE(HasChild(6));  // it has been counted for both, and 6 is the last
  lists_.SetAside(PageId{6}, 2);
  Remove(1);
  Remove(2);
  EXPECT_EQ(Oldest(2), PageId{6});
  EXPECT_EQ(lists_.Fault(), "");
}

TEST_F(PageListsTest, DuplicatesThatComeLaterDoNotHideAPageSetAside) {
  Push(0, {0});
  Push(2, {1, 2});
  lists_.SetAside(PageId{0}, 0);
  pages_.Attach(6, kDefaultRoot, 10);  // page 0 again
  pages_.Attach(7, kDefaultRoot, 10);
  ASSERT_EQ(pages_.node_of(6), pages_.node_of(0));
  Push(1, {6});
  EXPECT_EQ(lists_.Fault(), "");
  Remove(1);
  EXPECT_EQ(Oldest(0), kNoPage);
  Remove(2);
  EXPECT_EQ(lists_.Fault(), "");
  EXPECT_EQ(Drain(lists_, 0), (Order{0}));
  EXPECT_EQ(Drain(lists_, 1), (Order{6}));
  EXPECT_FALSE(lists_.Contains(PageId{7}));  // was not cached
}

TEST_F(PageListsTest, DuplicateChildrenCountEach) {
  pages_.Attach(6, pages_.node_of(0), 11);  // page 1 again
  Push(0, {0});
  Push(1, {1, 6});
  lists_.SetAside(PageId{0}, 0);
  Remove(1);
  EXPECT_TRUE(HasChild(0));
  EXPECT_EQ(Oldest(0), kNoPage);
  Remove(6);
  EXPECT_EQ(Oldest(0), PageId{0});
}

// The way from a page to the one before it leads over the nodes of its units.
TEST(PageListsUnitsTest, TheParentIsThePageBefore) {
  IndexedPages pages(4, /*units_per_page=*/3);
  const NodeId zero = pages.Attach(0, kDefaultRoot, 1);
  const NodeId one = pages.Attach(1, zero, 2);
  pages.Attach(2, one, 3);
  PageLists lists;
  ASSERT_TRUE(lists.Init(pages.group(), 2, true));
  lists.PushYoungest(PageId{0}, 0);
  lists.PushYoungest(PageId{2}, 1);
  EXPECT_TRUE(lists.HasCachedChild(PageId{1}));
  EXPECT_FALSE(lists.HasCachedChild(PageId{0}));
  lists.PushYoungest(PageId{1}, 1);
  EXPECT_TRUE(lists.HasCachedChild(PageId{0}));
  lists.SetAside(PageId{0}, 0);
  lists.Remove(PageId{2});
  EXPECT_EQ(lists.Fault(), "");
  EXPECT_EQ(lists.Oldest(0), kNoPage);
  lists.Remove(PageId{1});
  EXPECT_EQ(lists.Oldest(0), PageId{0});
}

// A count has two bytes, and what does not fit stands elsewhere: at the border and beyond it no
// child may be lost, or the parent leaves too early or never.
TEST(PageListsManyTest, MoreChildrenThanACountHolds) {
  constexpr int32_t kChildren = 70000;
  IndexedPages pages(kChildren + 3);
  const NodeId parent = pages.Attach(0, kDefaultRoot, 0);
  for (int32_t p = 1; p <= kChildren; ++p) pages.Attach(p, parent, p);
  const NodeId other = pages.Attach(kChildren + 1, kDefaultRoot, 1);
  pages.Attach(kChildren + 2, other, 0);
  PageLists lists;
  ASSERT_TRUE(lists.Init(pages.group(), 3, true));
  lists.PushYoungest(PageId{kChildren + 1}, 2);
  lists.PushYoungest(PageId{kChildren + 2}, 2);
  int32_t cached = 0;
  const auto expect_right = [&] {
    ASSERT_EQ(lists.Fault(), "") << cached;
    ASSERT_EQ(lists.HasCachedChild(PageId{0}), cached > 0) << cached;
    ASSERT_TRUE(lists.HasCachedChild(PageId{kChildren + 1}));
  };
  const auto go_to = [&](int32_t count) {
    while (cached < count) lists.PushYoungest(PageId{++cached}, 1);
    while (cached > count) {
      ASSERT_TRUE(lists.HasCachedChild(PageId{0})) << cached;
      ASSERT_EQ(lists.Oldest(0), kNoPage) << cached;
      lists.Remove(PageId{cached--});
    }
    expect_right();
  };
  lists.PushYoungest(PageId{1}, 1);
  cached = 1;
  for (int round = 0; round < 2; ++round) {  // once more: the first left nothing behind
    lists.PushYoungest(PageId{0}, 0);
    lists.SetAside(PageId{0}, 0);
    for (const int32_t count : {65534, 65535, 65536, 65537, 65535, 65536, 65535, 65534, 65535,
                                kChildren, 65536, 65534, kChildren, 1}) {
      ASSERT_NO_FATAL_FAILURE(go_to(count));
    }
    EXPECT_EQ(lists.Oldest(0), kNoPage);
    lists.Remove(PageId{1});
    cached = 0;
    EXPECT_EQ(lists.Oldest(0), PageId{0});
    ASSERT_NO_FATAL_FAILURE(expect_right());
    lists.Remove(PageId{0});
    lists.PushYoungest(PageId{1}, 1);
    cached = 1;
  }
  EXPECT_EQ(lists.size(), 3);
}

// A node without a page, as windows leave them, has nothing to bring back.
TEST_F(PageListsTest, AParentWithoutAPageIsNoTrouble) {
  Push(0, {3});
  pages_.Detach(1);
  Remove(3);
  EXPECT_EQ(lists_.size(), 0);
  EXPECT_EQ(lists_.Fault(), "");
}

TEST_F(PageListsTest, UncountedListsLetEveryPageGo) {
  PageLists lists;
  ASSERT_TRUE(lists.Init(pages_.group(), 1, /*counted=*/false));
  lists.PushYoungest(PageId{0}, 0);
  lists.PushYoungest(PageId{1}, 0);
  EXPECT_FALSE(lists.HasCachedChild(PageId{0}));
  EXPECT_EQ(lists.Fault(), "");
  EXPECT_EQ(lists.bytes(), 11 * 8);
  EXPECT_EQ(Drain(lists, 0), (Order{0, 1}));
}

TEST_F(PageListsTest, ChangesOfAnOldEndAreCounted) {
  auto changes = [this, last = lists_.old_end_changes()]() mutable {
    const uint64_t count = lists_.old_end_changes() - last;
    last += count;
    return count;
  };
  Push(0, {0});
  EXPECT_EQ(changes(), 1);  // the list began
  EXPECT_EQ(lists_.last_changed(), 0);
  Push(0, {4});
  EXPECT_EQ(changes(), 0);
  Push(1, {1});
  EXPECT_EQ(changes(), 1);
  EXPECT_EQ(lists_.last_changed(), 1);
  lists_.SetAside(PageId{0}, 0);
  EXPECT_EQ(changes(), 0);
  Remove(1);
  EXPECT_EQ(changes(), 1);  // page 0 came back
  EXPECT_EQ(lists_.last_changed(), 0);
  Push(1, {1});
  EXPECT_EQ(changes(), 1);
  Remove(4);
  lists_.SetAside(PageId{0}, 0);
  Remove(1);
  EXPECT_EQ(changes(), 1);  // to a list that had become empty: one change, not two
  EXPECT_EQ(lists_.last_changed(), 0);
  Push(0, {4});
  lists_.MoveToYoungest(PageId{4}, 1);
  EXPECT_EQ(changes(), 1);
  EXPECT_EQ(lists_.last_changed(), 1);
  lists_.MoveToYoungest(PageId{0}, 1);
  EXPECT_EQ(changes(), 0);
}

TEST_F(PageListsTest, FaultSeesAWrongCount) {
  Push(0, {3});
  pages_.Detach(3);  // moves to another parent while it is cached, which nobody may do
  pages_.Attach(3, pages_.node_of(4), 13);
  EXPECT_NE(lists_.Fault().find("cached children and counts"), std::string::npos);
}

TEST_F(PageListsTest, FaultSeesAPageSetAsideForNothing) {
  Push(0, {0});
  Push(1, {1, 2});
  lists_.SetAside(PageId{0}, 0);
  EXPECT_EQ(lists_.Fault(), "");
  pages_.Attach(6, kDefaultRoot, 16);
  pages_.Detach(0);
  pages_.Attach(0, kDefaultRoot, 17);
  EXPECT_EQ(lists_.Fault(), "page 0 was set aside and has no cached child");
}

TEST_F(PageListsDeathTest, MisuseStopsTheProcess) {
  Push(0, {0, 1});
  EXPECT_DEATH(Push(1, {0}), "the page is cached already");
  EXPECT_DEATH(Remove(4), "the page is not cached");
  lists_.SetAside(PageId{0}, 0);
  EXPECT_DEATH(Push(1, {0}), "the page is cached already");
  Remove(0);
  EXPECT_DEATH(Remove(0), "the page is not cached");
}

// What the lists should be, told without links and counts: O(pages) a call.
class ListsModel {
 public:
  ListsModel(const IndexedPages* pages, size_t list_count) : pages_(pages), lists_(list_count) {}

  bool Contains(int32_t page) const { return list_of_.contains(page); }
  bool IsAside(int32_t page) const { return Contains(page) && Place(page) == ListOf(page).end(); }
  bool MustStay(int32_t page) const {
    return HasChild(page) && pages_->index().next_duplicate(0, PageId{page}) == PageId{page};
  }
  bool HasChild(int32_t page) const {
    return std::any_of(list_of_.begin(), list_of_.end(), [&](const auto& entry) {
      return pages_->parent_of(entry.first) == pages_->node_of(page);
    });
  }
  void Push(int32_t page, int32_t list) {
    list_of_[page] = list;
    lists_[static_cast<size_t>(list)].push_back(page);
  }
  void Take(int32_t page) {
    if (!IsAside(page)) Erase(page);
  }
  void Remove(int32_t page) {
    Take(page);
    list_of_.erase(page);
    const PageId first = pages_->index().page(pages_->parent_of(page), 0);
    if (first == kNoPage) return;
    PageId parent = first;
    do {
      const auto p = static_cast<int32_t>(parent);
      if (IsAside(p) && !HasChild(p)) ListOf(p).insert(ListOf(p).begin(), p);
      parent = pages_->index().next_duplicate(0, parent);
    } while (parent != first);
  }
  void SetAside(int32_t page) { Erase(page); }
  const Order& list(int32_t list) const { return lists_[static_cast<size_t>(list)]; }
  size_t size() const { return list_of_.size(); }

 private:
  Order& ListOf(int32_t page) { return lists_[static_cast<size_t>(list_of_.at(page))]; }
  const Order& ListOf(int32_t page) const { return lists_[static_cast<size_t>(list_of_.at(page))]; }
  Order::const_iterator Place(int32_t page) const {
    return std::find(ListOf(page).begin(), ListOf(page).end(), page);
  }
  void Erase(int32_t page) { ListOf(page).erase(Place(page)); }

  const IndexedPages* pages_;
  std::map<int32_t, int32_t> list_of_;
  std::vector<Order> lists_;
};

void ExpectEqual(const PageLists& lists, const ListsModel& model, const IndexedPages& pages,
                 int32_t page_count) {
  ASSERT_EQ(lists.size(), static_cast<int32_t>(model.size()));
  for (int32_t list = 0; list < 4; ++list) {
    ASSERT_EQ(lists.Oldest(list),
              model.list(list).empty() ? kNoPage : PageId{model.list(list).front()});
  }
  for (int32_t page = 0; page < page_count; ++page) {
    ASSERT_EQ(lists.Contains(PageId{page}), model.Contains(page));
    if (!pages.keyed(page)) continue;
    ASSERT_EQ(lists.HasCachedChild(PageId{page}), model.MustStay(page));
  }
  ASSERT_EQ(lists.Fault(), "");
}

// From `list` on, one whose oldest page has a cached child; -1 if there is none.
int32_t ListThatWaits(const PageLists& lists, int32_t list) {
  for (int32_t i = list; i < list + 4; ++i) {
    const PageId page = lists.Oldest(i % 4);
    if (page != kNoPage && lists.HasCachedChild(page)) return i % 4;
  }
  return -1;
}

void Churn(int32_t units_per_page) {
  constexpr int32_t kPages = 24;
  std::mt19937 random(static_cast<uint32_t>(units_per_page));
  IndexedPages pages(kPages, units_per_page);
  std::array<std::pair<NodeId, TokenId>, kPages> place;
  const auto attach = [&](int32_t p) {
    const auto& [parent, token] = place[static_cast<size_t>(p)];
    pages.Attach(p, parent, token);
  };
  for (int32_t p = 0; p < kPages; ++p) {  // below a page before it; some are duplicates
    const auto parent = static_cast<int32_t>(random() % static_cast<uint32_t>(p + 1)) - 1;
    place[static_cast<size_t>(p)] = {parent < 0 ? kDefaultRoot : pages.node_of(parent),
                                     static_cast<TokenId>(random() % 5)};
    attach(p);
  }
  PageLists lists;
  ASSERT_TRUE(lists.Init(pages.group(), 4, true));
  ListsModel model(&pages, 4);
  int64_t aside = 0;
  int64_t detached = 0;
  for (int step = 0; step < 12000; ++step) {
    const auto page = static_cast<int32_t>(random() % kPages);
    const auto list = static_cast<int32_t>(random() % 4);
    std::array<PageId, 4> oldest{};
    for (int32_t i = 0; i < 4; ++i) oldest[static_cast<size_t>(i)] = lists.Oldest(i);
    const uint64_t changes = lists.old_end_changes();
    PageId out = kNoPage;  // leaves the list it is in by this call
    if (!pages.keyed(page)) {
      attach(page);
    } else if (!model.Contains(page) && random() % 4 == 0 &&
               pages.index().next_duplicate(0, PageId{page}) != PageId{page}) {
      pages.Detach(page);  // and its node stays, for a duplicate is left
      ++detached;
    } else if (!model.Contains(page)) {
      lists.PushYoungest(PageId{page}, list);
      model.Push(page, list);
    } else if (const int32_t stuck = ListThatWaits(lists, list); random() % 2 == 0 && stuck >= 0) {
      out = lists.Oldest(stuck);
      lists.SetAside(out, stuck);
      model.SetAside(static_cast<int32_t>(out));
      ++aside;
    } else if (random() % 2 == 0 && !model.IsAside(page)) {
      out = PageId{page};
      lists.MoveToYoungest(out, list);
      model.Take(page);
      model.Push(page, list);
    } else {
      out = PageId{page};
      lists.Remove(out);
      model.Remove(page);
    }
    ASSERT_NO_FATAL_FAILURE(ExpectEqual(lists, model, pages, kPages)) << step;
    // Only a list that is told of has another oldest page, unless the one before it went out.
    const uint64_t changed = lists.old_end_changes() - changes;
    for (int32_t i = 0; i < 4 && changed <= 1; ++i) {
      if (changed == 1 && i == lists.last_changed()) continue;
      const PageId before = oldest[static_cast<size_t>(i)];
      ASSERT_TRUE(lists.Oldest(i) == before || before == out) << step;
    }
  }
  EXPECT_GT(aside, 100);  // else the test says little
  EXPECT_GT(detached, 100);
  for (int32_t list = 0; list < 4; ++list) {
    while (lists.Oldest(list) != kNoPage) {
      ASSERT_EQ(lists.Oldest(list), PageId{model.list(list).front()});
      lists.Remove(lists.Oldest(list));
      model.Remove(model.list(list).front());
    }
  }
}

TEST(PageListsChurnTest, AgreesWithAModelOverRandomCalls) { Churn(1); }
TEST(PageListsChurnTest, AgreesWithAModelWherePagesHaveTwoUnits) { Churn(2); }

}  // namespace
}  // namespace quire
