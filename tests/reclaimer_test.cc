#include "lib/reclaimer.h"

#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

std::unique_ptr<Reclaimer> NewLru(int32_t page_count, const std::vector<int32_t>& inserted = {}) {
  std::unique_ptr<Reclaimer> lru = NewReclaimer(Reclaim::kLru, page_count);
  for (const int32_t page : inserted) lru->Insert(PageId{page});
  return lru;
}

// Everything that is left, in the order in which it would be given up.
std::vector<int32_t> TakeAll(Reclaimer& lru) {
  std::vector<int32_t> order;
  while (lru.size() > 0) order.push_back(static_cast<int32_t>(lru.Take()));
  return order;
}

using Order = std::vector<int32_t>;

TEST(ReclaimerTest, BeginsEmpty) {
  const auto lru = NewLru(3);
  EXPECT_EQ(lru->size(), 0);
  for (int32_t p = 0; p < 3; ++p) EXPECT_FALSE(lru->Contains(PageId{p}));
  EXPECT_GT(lru->bytes(), 0);
}

TEST(ReclaimerTest, TakesTheOldestFirst) {
  const auto lru = NewLru(5, {3, 0, 4, 1});
  EXPECT_EQ(lru->size(), 4);
  EXPECT_EQ(TakeAll(*lru), (Order{3, 0, 4, 1}));
}

TEST(ReclaimerTest, TakeErases) {
  const auto lru = NewLru(2, {1, 0});
  EXPECT_EQ(lru->Take(), PageId{1});
  EXPECT_EQ(lru->size(), 1);
  EXPECT_FALSE(lru->Contains(PageId{1}));
  EXPECT_TRUE(lru->Contains(PageId{0}));
}

TEST(ReclaimerTest, EraseAnywhereKeepsTheOrderOfTheRest) {
  for (const auto& [erased, rest] : std::vector<std::pair<int32_t, Order>>{
           {0, {1, 2, 3}}, {1, {0, 2, 3}}, {2, {0, 1, 3}}, {3, {0, 1, 2}}}) {
    const auto lru = NewLru(4, {0, 1, 2, 3});
    lru->Erase(PageId{erased});
    EXPECT_FALSE(lru->Contains(PageId{erased}));
    EXPECT_EQ(lru->size(), 3);
    EXPECT_EQ(TakeAll(*lru), rest) << erased;
  }
}

TEST(ReclaimerTest, InsertedAgainIsTheYoungest) {
  const auto lru = NewLru(3, {0, 1, 2});
  lru->Erase(PageId{0});
  lru->Insert(PageId{0});
  EXPECT_EQ(TakeAll(*lru), (Order{1, 2, 0}));
  lru->Insert(PageId{1});
  EXPECT_EQ(TakeAll(*lru), (Order{1}));
}

TEST(ReclaimerTest, PoolOfOnePage) {
  const auto lru = NewLru(1);
  for (int i = 0; i < 3; ++i) {
    lru->Insert(PageId{0});
    EXPECT_TRUE(lru->Contains(PageId{0}));
    EXPECT_EQ(lru->Take(), PageId{0});
    EXPECT_EQ(lru->size(), 0);
  }
}

TEST(ReclaimerTest, PrefetchChangesNothing) {
  const auto lru = NewLru(3, {2, 0});
  for (int32_t p = 0; p < 3; ++p) lru->Prefetch(PageId{p});
  EXPECT_EQ(TakeAll(*lru), (Order{2, 0}));
}

TEST(ReclaimerTest, AgreesWithAListOverRandomCalls) {
  constexpr int32_t kPages = 17;
  const auto lru = NewLru(kPages);
  std::list<int32_t> model;
  std::mt19937 random(1);
  for (int step = 0; step < 20000; ++step) {
    const auto page = static_cast<int32_t>(random() % kPages);
    const auto at = std::find(model.begin(), model.end(), page);
    ASSERT_EQ(lru->Contains(PageId{page}), at != model.end());
    if (random() % 4 == 0 && !model.empty()) {
      ASSERT_EQ(lru->Take(), PageId{model.front()});
      model.pop_front();
    } else if (at == model.end()) {
      lru->Insert(PageId{page});
      model.push_back(page);
    } else {
      lru->Erase(PageId{page});
      model.erase(at);
    }
    ASSERT_EQ(lru->size(), static_cast<int32_t>(model.size()));
  }
  EXPECT_EQ(TakeAll(*lru), Order(model.begin(), model.end()));
}

TEST(ReclaimerDeathTest, MisuseStopsTheProcess) {
  const auto lru = NewLru(3, {1});
  EXPECT_DEATH(lru->Insert(PageId{1}), "the page is cached already");
  EXPECT_DEATH(lru->Erase(PageId{0}), "the page is not cached");
  lru->Erase(PageId{1});
  EXPECT_DEATH(lru->Erase(PageId{1}), "the page is not cached");
  EXPECT_DEATH(lru->Take(), "no page is cached");
}

// The only page is its own neighbour's neighbour: a link that says "out" must not look like that.
TEST(ReclaimerDeathTest, DoubleInsertOfTheOnlyPage) {
  const auto lru = NewLru(1, {0});
  EXPECT_DEATH(lru->Insert(PageId{0}), "the page is cached already");
}

}  // namespace
}  // namespace quire
