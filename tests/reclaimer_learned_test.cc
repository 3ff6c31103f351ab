#include "lib/reclaimer_learned.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/indexed_pages.h"

namespace quire {
namespace {

using Order = std::vector<int32_t>;

constexpr int32_t kEpochPages = 32;  // of all pools up to 2048 pages
constexpr int32_t kLists = 80;

// A learned policy over a small index. Tokens name pages: the same token below the same parent is
// the same key.
class Pool {
 public:
  explicit Pool(int32_t page_count, int32_t units_per_page = 1, bool closed = true)
      : pages_(page_count, units_per_page) {
    EXPECT_TRUE(learned_.Init(pages_.group(closed)));
    for (int32_t p = page_count; p-- > 0;) free_.push_back(p);
  }

  // Indexes a page, evicting if need be, as a live one.
  int32_t Add(TokenId token, NodeId parent = kDefaultRoot) {
    if (free_.empty()) Take();
    const int32_t page = free_.back();
    free_.pop_back();
    pages_.Attach(page, parent, token);
    known_ = learned_.Indexed(PageId{page});
    return page;
  }
  // Indexes a page and lets it go.
  int32_t Cache(TokenId token, const Release& release = {}, NodeId parent = kDefaultRoot) {
    const int32_t page = Add(token, parent);
    learned_.Insert(PageId{page}, release);
    return page;
  }
  int32_t Take() {
    const auto page = static_cast<int32_t>(learned_.Take());
    pages_.Detach(page);
    free_.push_back(page);
    return page;
  }
  // Gives up a page that is not cached.
  void Free(int32_t page) {
    pages_.Detach(page);
    free_.push_back(page);
  }
  Order TakeAll() {
    Order order;
    while (learned_.size() > 0) order.push_back(Take());
    return order;
  }
  // Time goes on: pages of fresh keys come and are given back at once.
  void Pass(int32_t epochs) {
    for (int32_t i = 0; i < epochs * kEpochPages; ++i) Free(Add(fresh_++));
  }
  // A page comes, is let go and hit again and again, and goes. 256 times, and what is let go in the
  // rest of this epoch has the same order, so that the lists decide: fewer uses first.
  void Churn(int32_t times = 256) {
    const int32_t page = Add(fresh_++);
    for (int32_t i = 0; i < times; ++i) {
      learned_.Insert(PageId{page}, {});
      learned_.Revive(PageId{page});
    }
    Free(page);
  }
  bool known() const { return known_; }  // by the last Add
  LearnedReclaimer& learned() { return learned_; }
  IndexedPages& pages() { return pages_; }

 private:
  IndexedPages pages_;
  LearnedReclaimer learned_;
  Order free_;
  bool known_ = false;
  TokenId fresh_ = 1 << 20;
};

// --- Classes ---

TEST(LearnedReclaimerTest, ClassesByUsesNewPartAndOrigin) {
  struct Case {
    int32_t uses;
    Release release;
    int32_t page_class;
  };
  for (const Case& c :
       std::vector<Case>{// Uses: one family each, four and more in the last.
                         {1, {}, 16},
                         {2, {}, 32},
                         {3, {}, 48},
                         {4, {}, 64},
                         {5, {}, 64},
                         {255, {}, 64},
                         // The last page of a request, if it was never used before.
                         {1, {.last = true}, 0},
                         {2, {.last = true}, 32},
                         {4, {.last = true}, 64},
                         // The new part, in powers of two.
                         {1, {.new_units = -1}, 16},
                         {1, {.new_units = 1}, 16},
                         {1, {.new_units = 2}, 18},
                         {1, {.new_units = 3}, 20},
                         {1, {.new_units = 4}, 20},
                         {1, {.new_units = 5}, 22},
                         {1, {.new_units = 8}, 22},
                         {1, {.new_units = 9}, 24},
                         {1, {.new_units = 16}, 24},
                         {1, {.new_units = 17}, 26},
                         {1, {.new_units = 33}, 28},
                         {1, {.new_units = 64}, 28},
                         {1, {.new_units = 65}, 30},
                         {1, {.new_units = INT32_MAX}, 30},
                         // Whether it went on from something.
                         {1, {.continues = true}, 17},
                         {3, {.new_units = 64, .continues = true}, 61},
                         {9, {.new_units = 65, .continues = true, .last = true}, 79},
                         {1, {.new_units = 65, .continues = true, .last = true}, 15}}) {
    EXPECT_EQ(LearnedReclaimer::ClassOf(c.uses, c.release), c.page_class)
        << c.uses << " " << c.release.new_units;
  }
}

// --- With nothing learned ---

TEST(LearnedReclaimerTest, BeginsEmptyAndCountsUses) {
  Pool pool(3);
  EXPECT_TRUE(pool.learned().counts_uses());
  EXPECT_EQ(pool.learned().size(), 0);
  for (int32_t p = 0; p < 3; ++p) EXPECT_FALSE(pool.learned().Contains(PageId{p}));
  EXPECT_EQ(pool.learned().Fault(), "");
}

TEST(LearnedReclaimerTest, OneClassLeavesInOrderOfArrival) {
  Pool pool(40);
  Order inserted;
  for (TokenId t = 0; t < 40; ++t) inserted.push_back(pool.Cache(t));
  EXPECT_EQ(pool.learned().size(), 40);
  EXPECT_EQ(pool.TakeAll(), inserted);
}

// Least recently used first, whatever the class, within an epoch and over several.
TEST(LearnedReclaimerTest, ColdStartIsLeastRecentlyUsed) {
  Pool pool(64);
  Order order;
  std::mt19937 random(1);
  for (TokenId t = 0; t < 48; ++t) {
    order.push_back(pool.Add(t));
    for (uint32_t more = random() % 4; more > 0; --more)
      pool.learned().HitLive(PageId{order.back()});
    pool.learned().Insert(PageId{order.back()}, {.new_units = static_cast<int32_t>(random() % 100),
                                                 .continues = random() % 2 == 0,
                                                 .last = random() % 2 == 0});
    if (t == 5) {  // revived, it is the youngest when it is let go again
      pool.learned().Revive(PageId{order[1]});
    }
    if (t % 8 == 7) pool.Pass(1);
  }
  pool.learned().Insert(PageId{order[1]}, {.new_units = 9});
  std::rotate(order.begin() + 1, order.begin() + 2, order.end());
  EXPECT_EQ(pool.TakeAll(), order);
}

// An epoch has 32 pages at least. Its border neither hides the order nor turns it round, and until
// the first look at what was learned, in epoch 16, hits change nothing.
TEST(LearnedReclaimerTest, UntilSomethingIsLearnedTheOrderIsThatOfRelease) {
  for (const bool learned : {false, true}) {
    Pool pool(1024);
    Order order;
    for (TokenId t = 0; t < 15 * kEpochPages / 2; ++t) {
      pool.learned().Revive(PageId{pool.Cache(2 * t, {.new_units = 64})});  // stays live
      order.push_back(pool.Cache(2 * t + 1, {.new_units = t % 2 == 0 ? 1 : 9}));
    }
    for (int32_t i = 3; i < kEpochPages; ++i) pool.Free(pool.Add(1 << 19));
    const int32_t hit = pool.Cache(1 << 18, {.new_units = 64});
    order.push_back(hit);
    order.push_back(pool.Cache(1 << 17, {.new_units = 9}));  // the last page but one of epoch 15
    if (learned) pool.Free(pool.Add(1 << 19));
    const Order taken = pool.TakeAll();
    if (learned) {
      EXPECT_EQ(taken.back(), hit);
    } else {
      EXPECT_EQ(taken, order);
    }
  }
}

// Of the same value, age and order, the list that stands first: where epochs are long, two, four
// or more releases that follow one another have the same order, so that it fits a byte.
TEST(LearnedReclaimerTest, InLargePoolsTheOrderIsCoarse) {
  // 8192 pages make epochs of 128, whose order is counted in twos.
  for (const auto& [page_count, together] : std::vector<std::pair<int32_t, int64_t>>{
           {2048, 1}, {64 * 127 + 63, 1}, {64 * 128, 2}, {64 * 255, 2}, {64 * 256, 4}}) {
    Pool pool(page_count);
    Order expected;
    for (int32_t i = 0; i < 28; ++i) {  // in fours from the last family to the second
      expected.push_back(pool.Add(i));
      for (int32_t more = i % 4; more < 3; ++more) pool.learned().HitLive(PageId{expected.back()});
      pool.learned().Insert(PageId{expected.back()}, {});
      if ((i + 1) % together == 0) std::reverse(expected.end() - together, expected.end());
    }
    EXPECT_EQ(pool.TakeAll(), expected) << page_count;
  }
}

// Pages may be let go far more often than new ones come. What is beyond the byte is the youngest of
// its epoch, and older than the next.
TEST(LearnedReclaimerTest, TheOrderSaturates) {
  Pool pool(64);
  const int32_t first = pool.Cache(2, {.last = true});
  pool.Churn(252);
  Order order = {first};
  for (TokenId t = 10; t < 14; ++t) {  // their orders are 253, 254, 255 and 255
    order.push_back(pool.Add(t));
    for (TokenId more = t; more < 13; ++more) pool.learned().HitLive(PageId{order.back()});
    pool.learned().Insert(PageId{order.back()}, {});
  }
  std::swap(order[3], order[4]);  // fewer uses
  pool.Pass(1);
  order.push_back(pool.Cache(3, {.last = true}));
  EXPECT_EQ(pool.TakeAll(), order);
}

// Ages 8 and 9 are worth the same. The list of the greater age goes first, but what stands behind
// in it waits its turn.
TEST(LearnedReclaimerTest, OfEqualValueTheOlderGoesFirstInWhateverList) {
  Pool pool(8);
  const auto twice = [&pool](TokenId token) {
    const int32_t page = pool.Add(token);
    pool.learned().HitLive(PageId{page});
    pool.learned().Insert(PageId{page}, {});
    return page;
  };
  const int32_t oldest = twice(1);
  pool.Pass(1);
  const int32_t once = pool.Cache(2);
  const int32_t behind = twice(3);
  pool.Pass(8);
  EXPECT_EQ(pool.TakeAll(), (Order{oldest, once, behind}));
}

// --- Uses and ghosts ---

// The family that a page is in shows how often it was used: where order does not, it decides.
TEST(LearnedReclaimerTest, RevivalsAndLiveHitsCountAsUses) {
  Pool pool(8);
  pool.Churn();
  const int32_t a = pool.Cache(1);
  pool.learned().Revive(PageId{a});
  pool.learned().Revive(PageId{pool.Cache(9)});  // stays live
  pool.learned().HitLive(PageId{a});
  pool.learned().Insert(PageId{a}, {});  // three uses
  const int32_t b = pool.Add(2);
  pool.learned().HitLive(PageId{b});
  pool.learned().Insert(PageId{b}, {});  // two
  const int32_t c = pool.Add(3);
  for (int i = 0; i < 3; ++i) pool.learned().HitLive(PageId{c});
  pool.learned().Insert(PageId{c}, {});  // four
  EXPECT_EQ(pool.TakeAll(), (Order{b, a, c}));
}

TEST(LearnedReclaimerTest, UsesSaturate) {
  for (const int32_t hits : {13, 14, 15, 16, 17, 256}) {  // else 17 would look like 1
    Pool pool(8);
    pool.Churn();
    for (const bool known : {false, true}) {  // the second time both bring their uses
      const int32_t page = pool.Add(1);
      EXPECT_EQ(pool.known(), known);
      for (int32_t i = 0; !known && i < hits; ++i) pool.learned().HitLive(PageId{page});
      pool.learned().Insert(PageId{page}, {});
      const int32_t other = pool.Add(2);
      if (!known) pool.learned().HitLive(PageId{other});
      pool.learned().Insert(PageId{other}, {});
      EXPECT_EQ(pool.TakeAll(), (Order{other, page})) << hits;
    }
  }
}

TEST(LearnedReclaimerTest, AGhostIsFoundOnceAndBringsUsesBack) {
  Pool pool(8);
  pool.Churn();
  const int32_t page = pool.Add(1);
  EXPECT_FALSE(pool.known());
  pool.learned().HitLive(PageId{page});
  pool.learned().Insert(PageId{page}, {});
  pool.Take();
  const int32_t again = pool.Add(1);
  EXPECT_TRUE(pool.known());
  const int32_t duplicate = pool.Add(1);
  EXPECT_FALSE(pool.known());
  const int32_t other = pool.Add(2);  // two uses; the one that came back has three
  pool.learned().HitLive(PageId{other});
  for (const int32_t p : {duplicate, again, other}) pool.learned().Insert(PageId{p}, {});
  EXPECT_EQ(pool.TakeAll(), (Order{duplicate, other, again}));
}

TEST(LearnedReclaimerTest, OnlyEvictedPagesLeaveGhosts) {
  Pool pool(8);
  const int32_t page = pool.Cache(1);
  pool.learned().Erase(PageId{page});
  EXPECT_FALSE(pool.learned().Contains(PageId{page}));
  pool.Free(page);
  pool.Cache(1);
  EXPECT_FALSE(pool.known());
}

TEST(LearnedReclaimerTest, AGhostOutOfTheEpochsIsTooOld) {
  for (const int32_t epochs : {0, 1, 511, 512, 600}) {
    Pool pool(64);
    pool.Cache(1);
    pool.Take();
    pool.Pass(epochs);
    pool.Churn();
    const int32_t page = pool.Add(1);
    EXPECT_EQ(pool.known(), epochs < 512) << epochs;
    // Its uses are forgotten too.
    const int32_t other = pool.Add(2);
    pool.learned().HitLive(PageId{other});
    pool.learned().HitLive(PageId{other});
    pool.learned().Insert(PageId{other}, {});
    pool.learned().HitLive(PageId{page});
    pool.learned().Insert(PageId{page}, {});
    const int32_t same = epochs < 512 ? other : page;  // three uses each, or two and three
    EXPECT_EQ(pool.Take(), same) << epochs;
  }
}

// --- Learning ---

// Requests of two kinds: a page of the first comes back `later` epochs after it was let go, one of
// the second never. True if at the end a fresh page of the second goes before an old one of the
// first. Old is first one epoch older, and then by the order of release only: where no hit was
// seen at all an epoch may be worth something, but classes are alike.
bool PrefersThoseThatComeBack(const Release& returning, const Release& never, int32_t begin = 0) {
  Pool pool(64);
  pool.Pass(begin);
  TokenId token = 0;
  std::deque<TokenId> waiting;
  for (int32_t i = 0; i < 2000; ++i) {
    waiting.push_back(token);
    pool.Cache(token++, returning);
    pool.Cache(token++, never);
    if (waiting.size() <= 40) continue;
    const TokenId back = waiting.front();  // as a new request, whose page is then dropped for good
    waiting.pop_front();
    const int32_t page = pool.Add(back);
    pool.Free(page);
  }
  pool.TakeAll();
  const int32_t old = pool.Cache(token++, returning);
  pool.Pass(1);
  const int32_t fresh = pool.Cache(token++, never);
  if (pool.TakeAll() != Order{fresh, old}) return false;
  const int32_t before = pool.Cache(token++, returning);
  const int32_t after = pool.Cache(token++, never);
  return pool.TakeAll() == Order{after, before};
}

TEST(LearnedReclaimerTest, AClassThatNeverComesBackGoesBeforeAnOlderThatAlwaysDoes) {
  const Release a = {.new_units = 2, .continues = true};
  const Release b = {.new_units = 100};
  EXPECT_TRUE(PrefersThoseThatComeBack(a, b));
  EXPECT_TRUE(PrefersThoseThatComeBack(b, a));
}

// A page keeps 13 bits of its epoch, and the model and ghosts 16. What is learned across a wrap or
// only after it is the same.
TEST(LearnedReclaimerTest, LearnsAfterEpochsWrap) {
  for (const int32_t begin : {(1 << 13) - 30, 1 << 13, (1 << 16) - 30, 1 << 16}) {
    EXPECT_TRUE(PrefersThoseThatComeBack({.new_units = 2}, {.new_units = 100}, begin)) << begin;
  }
}

TEST(LearnedReclaimerTest, APageLooksYoungAgainAfterEpochsWrap) {
  for (const int32_t epochs : {4000, (1 << 13) - 20, (1 << 13) - 3}) {
    Pool pool(64);
    const int32_t old = pool.Cache(1, {.new_units = 2});
    pool.Pass(epochs);
    const int32_t young = pool.Cache(2, {.new_units = 100});
    pool.Pass(10);
    const bool wraps = epochs + 10 >= 1 << 13;
    EXPECT_EQ(pool.TakeAll(), wraps ? (Order{young, old}) : (Order{old, young})) << epochs;
  }
}

TEST(LearnedReclaimerTest, ALastPageThatNeverRecursGoesFirst) {
  const Release middle = {.new_units = 10};
  const Release last = {.new_units = 10, .last = true};
  EXPECT_TRUE(PrefersThoseThatComeBack(middle, last));
  EXPECT_TRUE(PrefersThoseThatComeBack(last, middle));
}

// Pages of one class all come back at 40 epochs, and of another at 16: a fresh page of the first is
// worth least, one of nearly 40 epochs most. So when its oldest page goes by another way than
// Take(), a list may be the next that was not so before.
TEST(LearnedReclaimerTest, AnOldEndThatLeavesMayUncoverTheNextVictim) {
  constexpr Release kFar = {.new_units = 2};
  constexpr Release kNear = {.new_units = 100};
  for (const bool revive : {true, false}) {
    Pool pool(1024);
    std::deque<int32_t> far;
    std::deque<int32_t> near;
    auto cache = [&pool, token = 0](std::deque<int32_t>* pages, const Release& release,
                                    size_t epochs) mutable {
      pages->push_back(pool.Cache(token++, release));
      if (pages->size() <= epochs * kEpochPages / 2) return;
      pool.learned().Revive(PageId{pages->front()});
      pool.Free(pages->front());
      pages->pop_front();
    };
    for (int32_t i = 0; i < 1000 * kEpochPages / 2; ++i) {
      cache(&far, kFar, 40);
      cache(&near, kNear, 16);
    }
    pool.TakeAll();
    const int32_t old = pool.Cache(-1, kFar);
    pool.Pass(36);
    const int32_t first = pool.Cache(-2, kNear);
    const int32_t second = pool.Cache(-3, kNear);
    const int32_t fresh = pool.Cache(-4, kFar);
    EXPECT_EQ(pool.Take(), first);  // the old page hides the fresh one behind it
    if (revive) {
      pool.learned().Revive(PageId{old});
    } else {
      pool.learned().Erase(PageId{old});
    }
    EXPECT_EQ(pool.TakeAll(), (Order{fresh, second})) << revive;
  }
}

// --- The guard ---

// Requests of one page. Each step lets go pages of two classes, and asks again for those that were
// let go some steps before; these are then dropped for good. Watches in which epochs all victims
// went in the order of release.
class TwoClasses {
 public:
  struct Kind {
    int32_t pages = 1;       // in each step
    int32_t back_after = 0;  // steps; 0 is never
  };
  void Run(const Kind& first, const Kind& second, int32_t steps) {
    const std::array<Kind, 2> kinds = {first, second};
    for (int32_t i = 0; i < steps; ++i, ++step_) {
      for (int32_t k = 0; k < 2; ++k) {
        const Kind& kind = kinds[static_cast<size_t>(k)];
        for (int32_t n = 0; n < kind.pages; ++n) {
          LetGo(Token(step_, k, n), {.new_units = k == 0 ? 2 : 100});
          if (kind.back_after > 0) Ask(Token(step_ - kind.back_after, k, n));
        }
      }
    }
  }
  int64_t epoch() const { return indexed_ / kEpochPages; }
  // The epochs, from that one on, in which a victim went before one that was let go earlier.
  std::vector<int64_t> EpochsOutOfOrder(int64_t from) const {
    return {out_of_order_.lower_bound(from), out_of_order_.end()};
  }
  // In all those epochs something was taken, so that silence means order.
  bool TookInEach(int64_t begin, int64_t end) const {
    for (int64_t e = begin; e < end; ++e) {
      if (!took_.contains(e)) return false;
    }
    return true;
  }
  int64_t hits() const { return hits_; }

 private:
  static constexpr int32_t kPages = 256;

  static TokenId Token(int32_t step, int32_t kind, int32_t n) { return step * 16 + kind * 8 + n; }
  int32_t Add(TokenId token) {
    const int64_t before = epoch();
    if (released_.size() == kPages) {
      const int32_t page = pool_.Take();
      if (page != released_.begin()->second.page) out_of_order_.insert(before);
      took_.insert(before);
      const int64_t at = released_when_[page];
      cached_.erase(released_.at(at).token);
      released_.erase(at);
    }
    ++indexed_;
    return pool_.Add(token);
  }
  void LetGo(TokenId token, const Release& release) {
    const int32_t page = Add(token);
    pool_.learned().Insert(PageId{page}, release);
    cached_[token] = page;
    released_when_[page] = releases_;
    released_[releases_++] = {page, token};
  }
  void Ask(TokenId token) {
    const auto it = cached_.find(token);
    if (it == cached_.end()) {
      if (token >= 0) pool_.Free(Add(token));
      return;
    }
    const int32_t page = it->second;
    pool_.learned().Revive(PageId{page});
    released_.erase(released_when_[page]);
    cached_.erase(it);
    pool_.Free(page);
    ++hits_;
  }

  struct Released {
    int32_t page;
    TokenId token;
  };
  Pool pool_{kPages};
  int32_t step_ = 0;
  int64_t indexed_ = 0;
  int64_t releases_ = 0;
  int64_t hits_ = 0;
  std::map<int64_t, Released> released_;  // what is cached, by the order of release
  std::map<int32_t, int64_t> released_when_;
  std::map<TokenId, int32_t> cached_;
  std::set<int64_t> out_of_order_;
  std::set<int64_t> took_;
};

// The first class comes back later than least recently used order would keep it, and the second
// never: the model keeps the first. Then the first never comes back, and the second soon. The pause
// is long enough to learn the old ways anew, so the same happens again, and pauses grow.
TEST(LearnedReclaimerTest, WhenTrafficTurnsLeastRecentlyUsedOrderTakesOverForAWhile) {
  TwoClasses traffic;
  traffic.Run({.back_after = 240}, {}, 440);
  for (const int64_t pause : {128, 512, 2048, 8192, 8192}) {
    const int64_t turned = traffic.epoch();
    traffic.Run({}, {.pages = 4, .back_after = 10}, 150);
    const std::vector<int64_t> losing = traffic.EpochsOutOfOrder(turned);
    ASSERT_FALSE(losing.empty());
    const int64_t begin = losing.back() + 1;
    EXPECT_LT(begin, turned + 24) << pause;
    while (traffic.epoch() < begin + pause + 7) traffic.Run({.back_after = 240}, {}, 1);
    const std::vector<int64_t> again = traffic.EpochsOutOfOrder(begin);
    ASSERT_FALSE(again.empty());
    EXPECT_EQ(again.front(), begin + pause);
    EXPECT_TRUE(traffic.TookInEach(begin, again.front())) << pause;
  }
}

TEST(LearnedReclaimerTest, AModelThatDoesNotLoseIsNeverPaused) {
  TwoClasses traffic;
  traffic.Run({.back_after = 200}, {}, 500);
  const int64_t learned = traffic.epoch();
  const int64_t hits = traffic.hits();
  traffic.Run({.back_after = 200}, {}, 8000);
  EXPECT_EQ(static_cast<int64_t>(traffic.EpochsOutOfOrder(learned).size()),
            traffic.epoch() + 1 - learned);
  EXPECT_EQ(traffic.hits() - hits, 8000);
}

// --- Closedness ---

TEST(LearnedReclaimerTest, AParentWaitsForItsCachedChild) {
  Pool pool(40);
  const int32_t parent = pool.Cache(1);
  pool.Pass(1);
  const int32_t other = pool.Cache(2, {.new_units = 9});
  pool.Pass(1);
  const int32_t child = pool.Cache(3, {.new_units = 99}, pool.pages().node_of(parent));
  EXPECT_EQ(pool.TakeAll(), (Order{other, child, parent}));
}

TEST(LearnedReclaimerTest, InAWindowParentsGoWhenTheyAreDue) {
  Pool pool(40, 1, /*closed=*/false);
  const int32_t parent = pool.Cache(1);
  pool.Pass(1);
  const int32_t child = pool.Cache(3, {.new_units = 99}, pool.pages().node_of(parent));
  EXPECT_EQ(pool.TakeAll(), (Order{parent, child}));
}

TEST(LearnedReclaimerTest, AParentSetAsideMayBeRevivedOrErased) {
  for (const bool revive : {true, false}) {
    Pool pool(40);
    const int32_t parent = pool.Cache(1);
    pool.Pass(1);
    const int32_t child = pool.Cache(3, {.new_units = 99}, pool.pages().node_of(parent));
    pool.Pass(1);
    const int32_t other = pool.Cache(2, {.new_units = 99}, pool.pages().node_of(child));
    EXPECT_EQ(pool.Take(), other);  // the two others were set aside
    pool.Pass(1);
    const int32_t below = pool.Cache(4, {}, pool.pages().node_of(parent));
    if (revive) {
      pool.learned().Revive(PageId{parent});
    } else {
      pool.learned().Erase(PageId{parent});
    }
    EXPECT_EQ(pool.TakeAll(), (Order{child, below}));
    EXPECT_EQ(pool.learned().Fault(), "");
  }
}

// --- Against an implementation that remembers nothing between two victims ---

// The same rules told plainly: lists are vectors, and each victim is chosen among all lists anew.
// What pages are worth, and ghosts, are the real ones, which have tests of their own.
class SlowLearned {
 public:
  explicit SlowLearned(const IndexedPages* pages, int32_t page_count, bool closed)
      : pages_(pages), closed_(closed), model_(5, 16), use_(static_cast<size_t>(page_count)) {
    EXPECT_TRUE(ghosts_.Init(8 * page_count));
  }
  bool Indexed(int32_t page) {
    if (++indexed_ % kEpochPages == 0) {
      model_.Tick();
      released_ = 0;
      Settle();
    }
    const Ghost ghost = ghosts_.Take(pages_->key(page));
    const bool known = ghost.uses > 0 && model_.Age(ghost.epoch) < ReuseModel::kEpochs;
    ++asked_;
    if (known) {
      if (model_.Age(ghost.epoch) < kept_age_) ++lost_;
      model_.Hit(ghost.page_class, ghost.epoch);
      Forget(ghost.epoch);
    }
    At(page) = {.uses = std::min(15, (known ? ghost.uses : 0) + 1)};
    return known;
  }
  void HitLive(int32_t page) { At(page).uses = std::min(15, At(page).uses + 1); }
  void Insert(int32_t page, const Release& release) {
    At(page).page_class = LearnedReclaimer::ClassOf(At(page).uses, release);
    At(page).epoch = model_.now();
    At(page).order = std::min(255, released_++);
    model_.Enter(At(page).page_class);
    released_at_.insert(Now());
    List(page).push_back(page);
    cached_.insert(page);
  }
  void Revive(int32_t page) {
    ++asked_;
    if (model_.Age(At(page).epoch) > kept_age_) ++gained_;
    model_.Hit(At(page).page_class, At(page).epoch);
    Forget(At(page).epoch);
    HitLive(page);
    Remove(page);
  }
  void Erase(int32_t page) {
    model_.Leave(At(page).page_class, At(page).epoch);
    Forget(At(page).epoch);
    Remove(page);
  }
  int32_t Take() {
    kept_pages_ = static_cast<int64_t>(cached_.size());
    while (true) {
      const int32_t page = Best();
      if (HasChild(pages_->node_of(page)) &&
          pages_->index().next_duplicate(0, PageId{page}) == PageId{page}) {
        ++set_aside_;
        List(page).erase(List(page).begin());
        continue;
      }
      const Use& use = At(page);
      const Ghost forgotten = ghosts_.Put(pages_->key(page),
                                          {.tag = 0,
                                           .epoch = use.epoch,
                                           .page_class = static_cast<uint8_t>(use.page_class),
                                           .uses = static_cast<uint8_t>(use.uses)},
                                          model_.now());
      if (forgotten.uses > 0) {
        model_.Leave(forgotten.page_class, forgotten.epoch);
        Forget(forgotten.epoch);
      }
      Remove(page);
      return page;
    }
  }
  const std::set<int32_t>& cached() const { return cached_; }
  int64_t pauses() const { return pauses_; }
  // The model chooses, and has learned for a while.
  bool chooses() const { return Now() > (pauses_ > 0 ? pause_end_ + 2 : 27); }
  int64_t set_aside() const { return set_aside_; }

 private:
  struct Use {
    int32_t page_class = 0;
    int32_t uses = 0;
    uint16_t epoch = 0;
    int32_t order = 0;  // among those of the epoch
  };
  Use& At(int32_t page) { return use_[static_cast<size_t>(page)]; }
  std::vector<int32_t>& List(int32_t page) {
    return lists_[static_cast<size_t>(At(page).page_class)];
  }
  bool HasChild(NodeId node) const {
    return closed_ && std::any_of(cached_.begin(), cached_.end(),
                                  [&](int32_t p) { return pages_->parent_of(p) == node; });
  }
  int64_t Now() const { return indexed_ / kEpochPages; }
  // A page let go then is hit or given up for good. The oldest are in no list any more.
  void Forget(uint16_t epoch) {
    const auto it = released_at_.find(Now() - model_.Age(epoch));
    if (it != released_at_.end()) released_at_.erase(it);
  }
  // The guard: a pause when the model lost 32 hits and .0005 of what was asked for, 128 epochs at
  // first, four times as long the next time and at most 8192.
  void Settle() {
    released_at_.erase(released_at_.begin(), released_at_.upper_bound(Now() - ReuseModel::kEpochs));
    if (kept_pages_ > 0) {
      kept_age_ = ReuseModel::kEpochs;
      if (static_cast<int64_t>(released_at_.size()) >= kept_pages_) {
        kept_age_ = Now() - *std::next(released_at_.rbegin(), kept_pages_ - 1);
      }
    }
    for (float* count : {&gained_, &lost_, &asked_}) *count *= .9995F;
    if (Now() < pause_end_) return;
    if (Now() == pause_end_) {
      gained_ = lost_ = asked_ = 0;
    } else if (lost_ - gained_ > 32 + .0005F * asked_) {
      pause_end_ = Now() + (128 << std::min<int64_t>(6, 2 * pauses_++));
    }
  }
  int32_t Best() {
    int32_t best = -1;
    for (int32_t list = 0; list < kLists; ++list) {
      if (lists_[static_cast<size_t>(list)].empty()) continue;
      const int32_t page = lists_[static_cast<size_t>(list)].front();
      const auto rank = [this](int32_t p) {  // least value, then longest wait
        const uint16_t age = model_.Age(At(p).epoch);
        const double value = Now() < pause_end_ ? 0 : model_.Value(At(p).page_class, age);
        return std::tuple(value, -static_cast<int32_t>(age), At(p).order);
      };
      if (best < 0 || rank(page) < rank(best)) best = page;
    }
    return best;
  }
  void Remove(int32_t page) {
    auto& list = List(page);
    list.erase(std::remove(list.begin(), list.end(), page), list.end());
    cached_.erase(page);
    const NodeId node = pages_->parent_of(page);
    if (!closed_ || node == kDefaultRoot || HasChild(node)) return;
    const PageId first = pages_->index().page(node, 0);
    if (first == kNoPage) return;
    PageId next = first;
    do {
      const auto p = static_cast<int32_t>(next);
      if (cached_.contains(p) && std::count(List(p).begin(), List(p).end(), p) == 0) {
        List(p).insert(List(p).begin(), p);
      }
      next = pages_->index().next_duplicate(0, next);
    } while (next != first);
  }

  const IndexedPages* pages_;
  bool closed_;
  ReuseModel model_;
  Ghosts ghosts_;
  int64_t indexed_ = 0;
  int32_t released_ = 0;
  int64_t set_aside_ = 0;
  std::multiset<int64_t> released_at_;  // epochs, of pages not hit since and not given up for good
  int64_t kept_pages_ = 0;
  int64_t kept_age_ = ReuseModel::kEpochs;
  float gained_ = 0;
  float lost_ = 0;
  float asked_ = 0;
  int64_t pauses_ = 0;
  int64_t pause_end_ = -1;
  std::vector<Use> use_;
  std::array<std::vector<int32_t>, kLists> lists_;
  std::set<int32_t> cached_;
};

// Sequences as the manager has them: each holds pages along one path, hits what is there, indexes
// what is not, and lets go from the end.
class Soak {
 public:
  Soak(int32_t page_count, int32_t units_per_page, bool closed, uint32_t seed)
      : pages_(page_count, units_per_page),
        slow_(&pages_, page_count, closed),
        closed_(closed),
        random_(seed),
        refs_(static_cast<size_t>(page_count)) {
    EXPECT_TRUE(learned_.Init(pages_.group(closed)));
    for (int32_t p = page_count; p-- > 0;) free_.push_back(p);
  }

  void Run(int32_t steps) {
    for (int32_t step = 0; step < steps; ++step) {
      if (sequences_.size() < 3 && Random(2) == 0) {
        sequences_.emplace_back();
        ASSERT_NO_FATAL_FAILURE(Start(&sequences_.back()));
      } else if (!sequences_.empty()) {
        const auto i = sequences_.begin() +
                       static_cast<int64_t>(Random(static_cast<int32_t>(sequences_.size())));
        LetGo(*i);
        sequences_.erase(i);
      }
      if (Random(50) == 0) EraseOne();
      ASSERT_EQ(learned_.size(), static_cast<int32_t>(slow_.cached().size()));
      if (step % 16 == 0) {
        ASSERT_EQ(learned_.Fault(), "");
      }
    }
    for (const Sequence& sequence : sequences_) LetGo(sequence);
    while (learned_.size() > 0) ASSERT_NO_FATAL_FAILURE(Take());
    ASSERT_TRUE(slow_.cached().empty());
    ASSERT_EQ(learned_.Fault(), "");
  }

  // Instead of paths: single pages whose fate turns against the model as soon as it chooses.
  bool turns = false;
  int64_t takes = 0;
  int64_t known = 0;
  int64_t hits = 0;
  int64_t set_aside() const { return slow_.set_aside(); }
  int64_t pauses() const { return slow_.pauses(); }

 private:
  struct Sequence {
    std::vector<int32_t> pages;
    int32_t fresh = 0;
    int32_t kind = 0;
  };
  int32_t Random(int32_t n) { return static_cast<int32_t>(random_() % static_cast<uint32_t>(n)); }

  // Few tokens near the root and more below, so that paths come back.
  void Start(Sequence* sequence) {
    NodeId node = kDefaultRoot;
    const int32_t length = turns ? 1 : 1 + Random(8);
    for (int32_t i = 0; i < length; ++i) {
      const TokenId token = turns ? NextToken(sequence) : Random(Random(3) == 0 ? 40 : 3);
      int32_t page = Find(node, token);
      if (page < 0 || Random(20) == 0) {  // or two computed the same
        if (free_.empty() && learned_.size() == 0) return;
        if (free_.empty()) {
          ASSERT_NO_FATAL_FAILURE(Take());
        }
        page = free_.back();
        free_.pop_back();
        pages_.Attach(page, node, token);
        const bool found = learned_.Indexed(PageId{page});
        ASSERT_EQ(found, slow_.Indexed(page));
        known += found ? 1 : 0;
        ++sequence->fresh;
      } else if (refs_[static_cast<size_t>(page)] == 0) {
        learned_.Revive(PageId{page});
        slow_.Revive(page);
        ++hits;
      } else {
        learned_.HitLive(PageId{page});
        slow_.HitLive(page);
      }
      ++refs_[static_cast<size_t>(page)];
      sequence->pages.push_back(page);
      node = pages_.node_of(page);
    }
  }
  // Pages of kind 0 come back after 200 others of them, until the model chooses. Then pages of kind
  // 1 come back, after 40 others, and more of them come.
  TokenId NextToken(Sequence* sequence) {
    const bool turned = slow_.chooses();
    const int32_t back = turned ? 1 : 0;
    const bool again = Random(turned ? 9 : 3) < (turned ? 4 : 1);
    sequence->kind = again ? back : Random(turned ? 5 : 2) > 0 ? 1 : 0;
    int32_t& count = counts_[static_cast<size_t>(sequence->kind)];
    const int32_t number = again ? std::max(0, count - (turned ? 40 : 200)) : count++;
    return number * 2 + sequence->kind;
  }
  int32_t Find(NodeId parent, TokenId token) const {
    for (size_t p = 0; p < refs_.size(); ++p) {
      const auto page = static_cast<int32_t>(p);
      if (pages_.keyed(page) && pages_.parent_of(page) == parent &&
          *pages_.index().tokens(pages_.node_of(page)) == token) {
        return static_cast<int32_t>(pages_.index().page(pages_.node_of(page), 0));
      }
    }
    return -1;
  }
  void LetGo(const Sequence& sequence) {
    Release release = {.new_units = Random(2) == 0 ? sequence.fresh : Random(100),
                       .continues = sequence.fresh < static_cast<int32_t>(sequence.pages.size())};
    if (turns) release.new_units = sequence.kind == 0 ? 2 : 100;
    for (size_t i = sequence.pages.size(); i-- > 0;) {
      const int32_t page = sequence.pages[i];
      release.last = i + 1 == sequence.pages.size();
      if (--refs_[static_cast<size_t>(page)] > 0) continue;
      learned_.Insert(PageId{page}, release);
      slow_.Insert(page, release);
    }
  }
  void Take() {
    const int32_t expected = slow_.Take();
    ASSERT_EQ(learned_.Take(), PageId{expected});
    ASSERT_FALSE(learned_.Contains(PageId{expected}));
    const bool spare = pages_.index().next_duplicate(0, PageId{expected}) != PageId{expected};
    for (const int32_t page : slow_.cached()) {
      ASSERT_TRUE(!closed_ || spare || pages_.parent_of(page) != pages_.node_of(expected));
    }
    pages_.Detach(expected);
    free_.push_back(expected);
    ++takes;
  }
  void EraseOne() {
    if (slow_.cached().empty()) return;
    const auto page =
        std::next(slow_.cached().begin(), Random(static_cast<int32_t>(slow_.cached().size())));
    const int32_t erased = *page;
    learned_.Erase(PageId{erased});
    slow_.Erase(erased);
    pages_.Detach(erased);
    free_.push_back(erased);
  }

  IndexedPages pages_;
  LearnedReclaimer learned_;
  SlowLearned slow_;
  bool closed_;
  std::mt19937 random_;
  std::vector<int32_t> refs_;
  Order free_;
  std::vector<Sequence> sequences_;
  std::array<int32_t, 2> counts_{};
};

TEST(LearnedReclaimerSoakTest, SmallPools) {
  int64_t pauses = 0;
  for (int32_t pages = 1; pages <= 20; ++pages) {
    Soak soak(pages, 1, true, static_cast<uint32_t>(pages));
    ASSERT_NO_FATAL_FAILURE(soak.Run(6000)) << pages;
    EXPECT_GT(soak.takes, 100);
    EXPECT_GT(soak.known, 20);
    pauses += soak.pauses();
  }
  EXPECT_GT(pauses, 10);  // chance alone makes the model lose here
}

TEST(LearnedReclaimerSoakTest, ManyPages) {
  Soak soak(150, 1, true, 7);
  ASSERT_NO_FATAL_FAILURE(soak.Run(20000));
  EXPECT_GT(soak.takes, 10000);
  EXPECT_GT(soak.known, 1000);
  EXPECT_GT(soak.hits, 1000);
  EXPECT_GT(soak.set_aside(), 100);
}

TEST(LearnedReclaimerSoakTest, PagesOfTwoUnitsAndWindows) {
  for (const bool closed : {true, false}) {
    Soak soak(40, 2, closed, 3);
    ASSERT_NO_FATAL_FAILURE(soak.Run(6000));
    EXPECT_GT(soak.takes, 2000);
    EXPECT_EQ(soak.set_aside() > 0, closed);
  }
}

TEST(LearnedReclaimerSoakTest, TrafficThatTurns) {
  Soak soak(256, 1, true, 5);
  soak.turns = true;
  ASSERT_NO_FATAL_FAILURE(soak.Run(60000));
  EXPECT_GT(soak.takes, 10000);
  EXPECT_GE(soak.pauses(), 2);
}

// --- Memory ---

TEST(LearnedReclaimerTest, BytesAreReportedWithGhostsApart) {
  for (const int32_t page_count : {1, 100, 4096}) {
    Pool pool(page_count);
    EXPECT_EQ(pool.learned().ghost_bytes(), 64 * page_count);  // eight for each page
    PageLists lists;
    ASSERT_TRUE(lists.Init(pool.pages().group(), kLists, true));
    EXPECT_EQ(pool.learned().bytes(),
              lists.bytes() + 64 * page_count + 4 * page_count + ReuseModel(5, 16).bytes());
  }
}

// From 2^19 pages on there are no more than 2^22 ghosts, and from 2^21 pages two for each.
TEST(LearnedReclaimerTest, GhostsOfLargePoolsAreFewer) {
  const PrefixIndex no_index;
  for (const auto& [page_count, ghosts] : std::vector<std::pair<int32_t, int64_t>>{
           {1 << 19, 1 << 22}, {1 << 20, 1 << 22}, {1 << 21, 1 << 22}, {1 << 22, 1 << 23}}) {
    LearnedReclaimer learned;
    ASSERT_TRUE(learned.Init({.index = &no_index, .page_count = page_count, .closed = false}));
    EXPECT_EQ(learned.ghost_bytes(), 8 * ghosts);
  }
}

TEST(LearnedReclaimerDeathTest, MisuseStopsTheProcess) {
  Pool pool(4);
  EXPECT_DEATH(pool.learned().Take(), "no page is cached");
  const int32_t page = pool.Cache(1);
  EXPECT_DEATH(pool.learned().Insert(PageId{page}, {}), "the page is cached already");
  pool.learned().Erase(PageId{page});
  EXPECT_DEATH(pool.learned().Revive(PageId{page}), "the page is not cached");
}

}  // namespace
}  // namespace quire
