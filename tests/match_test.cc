#include "lib/match.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

constexpr int32_t kUnit = 4;
constexpr int32_t kNoCopies = 1 << 30;

// A tree of units of four tokens, on which a test hangs the pages it wants.
class Tree {
 public:
  Tree(std::vector<GroupOptions> groups, int32_t aligned_units, int32_t min_copy_tokens)
      : groups_(std::move(groups)),
        rules_{kUnit, aligned_units, min_copy_tokens, groups_},
        rows_(groups_.size(), std::vector<PageId>(256, PageId{-7})) {
    std::vector<IndexGroup> index_groups;
    for (const GroupOptions& group : groups_) {
      index_groups.push_back({group.page_count, group.tokens_per_page / kUnit});
    }
    EXPECT_OK(index_.Init(kUnit, index_groups, /*max_nodes=*/512, /*max_sequences=*/4, /*seed=*/0));
  }

  // The nodes of a path, which stay though they have no page.
  std::vector<NodeId> Grow(const Tokens& path) {
    std::vector<NodeId> nodes;
    NodeId node = kDefaultRoot;
    for (size_t i = 0; i + kUnit <= path.size(); i += kUnit) {
      uint64_t key = 0;
      index_.HashUnits(index_.key(node), &path[i], 1, &key);
      node = index_.Insert(node, key, &path[i]);
      index_.Pin(node);
      nodes.push_back(node);
    }
    return nodes;
  }

  void Hang(NodeId node, int32_t group, int32_t page) { index_.Attach(node, group, PageId{page}); }

  // Every missed token must have exactly one reason.
  MatchResult Match(const Tokens& prompt) {
    std::vector<PageId*> rows;
    for (auto& row : rows_) rows.push_back(row.data());
    const MatchResult result = MatchPrefix(index_, rules_, kDefaultRoot, prompt, rows);
    const MissTokens& missed = result.missed;
    EXPECT_EQ(missed.last_token, 1);
    EXPECT_EQ(missed.disabled, 0);
    EXPECT_GE(std::min({missed.absent, missed.page_gone, missed.unaligned}), 0);
    EXPECT_EQ(
        result.tokens + missed.last_token + missed.absent + missed.page_gone + missed.unaligned,
        static_cast<int64_t>(prompt.size()));
    // Without rows it looks, but finds the same.
    EXPECT_EQ(MatchPrefix(index_, rules_, kDefaultRoot, prompt, {}).tokens, result.tokens);
    return result;
  }

  std::vector<int32_t> Row(int32_t group, size_t pages) const {
    return Ids(std::span(rows_[static_cast<size_t>(group)]).first(pages));
  }

 private:
  PrefixIndex index_;
  std::vector<GroupOptions> groups_;
  MatchRules rules_;
  std::vector<std::vector<PageId>> rows_;
};

// One group of full attention; `units` units of 0, 1, 2, ... indexed, unit i on page 10 + i.
struct Chain {
  explicit Chain(int32_t units, int32_t min_copy_tokens = kNoCopies, int32_t lookback = kAllTokens,
                 const std::vector<int32_t>& gone = {})
      : tree({Group(kUnit, 256, lookback)}, 1, min_copy_tokens),
        nodes(tree.Grow(Iota(0, units * kUnit))) {
    for (int32_t i = 0; i < units; ++i) {
      if (std::find(gone.begin(), gone.end(), i) == gone.end()) {
        tree.Hang(nodes[static_cast<size_t>(i)], 0, 10 + i);
      }
    }
  }
  Tree tree;
  std::vector<NodeId> nodes;
};

using Pages = std::vector<int32_t>;

TEST(MatchTest, LongestRunOfFullPages) {
  Chain chain(3);
  const MatchResult result = chain.tree.Match(Iota(0, 8) + Iota(50, 4));
  EXPECT_EQ(result.tokens, 8);
  EXPECT_EQ(result.tip, chain.nodes[1]);
  EXPECT_EQ(result.tip_units, 2);
  EXPECT_FALSE(result.partial);
  EXPECT_EQ(result.tail[0], kNoPage);
  EXPECT_EQ(chain.tree.Row(0, 2), (Pages{10, 11}));
  EXPECT_EQ(result.missed.absent, 3);
}

TEST(MatchTest, NothingKnown) {
  Chain chain(3);
  const MatchResult result = chain.tree.Match(Iota(50, 9));
  EXPECT_EQ(result.tokens, 0);
  EXPECT_EQ(result.tip, kDefaultRoot);
  EXPECT_EQ(result.missed.absent, 8);
}

TEST(MatchTest, LeavesATokenToCompute) {
  Chain chain(2);
  EXPECT_EQ(chain.tree.Match(Iota(0, 9)).tokens, 8);
  const MatchResult result = chain.tree.Match(Iota(0, 8));
  EXPECT_EQ(result.tokens, 4);
  EXPECT_EQ(result.missed.unaligned, 3);  // known, but inside a page
  EXPECT_EQ(chain.tree.Match(Iota(0, 1)).tokens, 0);

  Chain copying(2, /*min_copy_tokens=*/1);
  EXPECT_EQ(copying.tree.Match(Iota(0, 8)).tokens, 7);
  EXPECT_EQ(copying.tree.Match(Iota(0, 1)).tokens, 0);
}

// The walk goes in batches of 8 and then 64 units.
TEST(MatchTest, LongPrompts) {
  constexpr int32_t kUnits = 200;
  Chain chain(kUnits);
  for (const int32_t units : {7, 8, 9, 71, 72, 73, 136, 137, 200}) {
    const MatchResult result = chain.tree.Match(Iota(0, units * kUnit) + Iota(5000, 1));
    EXPECT_EQ(result.tokens, units * kUnit);
    const Pages row = chain.tree.Row(0, static_cast<size_t>(units));
    for (int32_t i = 0; i < units; ++i) ASSERT_EQ(row[static_cast<size_t>(i)], 10 + i);
  }
}

TEST(MatchTest, PartialPageFromTheThresholdOn) {
  const Tokens prompt = Iota(0, 7) + Iota(50, 4);  // three tokens into the second page
  Chain enough(2, /*min_copy_tokens=*/3);
  MatchResult result = enough.tree.Match(prompt);
  EXPECT_EQ(result.tokens, 7);
  EXPECT_TRUE(result.partial);
  EXPECT_EQ(result.tail[0], PageId{11});
  EXPECT_EQ(result.tip, enough.nodes[0]);
  EXPECT_EQ(result.tip_units, 1);
  EXPECT_EQ(result.missed.absent, 3);

  Chain too_few(2, /*min_copy_tokens=*/4);
  result = too_few.tree.Match(prompt);
  EXPECT_EQ(result.tokens, 4);
  EXPECT_FALSE(result.partial);
  EXPECT_EQ(result.missed.unaligned, 3);
  EXPECT_EQ(result.missed.absent, 3);
}

TEST(MatchTest, PartialPageIsTheChildThatAgreesLongest) {
  Tree tree({Group(kUnit, 64)}, 1, /*min_copy_tokens=*/1);
  tree.Hang(tree.Grow({1, 2, 9, 9})[0], 0, 3);
  tree.Hang(tree.Grow({1, 2, 3, 9})[0], 0, 4);
  tree.Hang(tree.Grow({1, 9, 9, 9})[0], 0, 5);
  tree.Grow({1, 2, 3, 4});  // agrees longest, but has no page
  const MatchResult result = tree.Match({1, 2, 3, 4});
  EXPECT_EQ(result.tokens, 3);
  EXPECT_EQ(result.tail[0], PageId{4});
}

// A popular prefix has any number of successors; only the sixteen newest are looked at.
TEST(MatchTest, OnlyTheNewestChildrenAreCompared) {
  for (const int32_t younger : {15, 16}) {
    Tree tree({Group(kUnit, 64)}, 1, /*min_copy_tokens=*/1);
    tree.Hang(tree.Grow({1, 2, 3, 4})[0], 0, 40);
    for (int32_t i = 0; i < younger; ++i) {
      tree.Hang(tree.Grow(Iota(100 * (i + 1), kUnit))[0], 0, i);
    }
    const MatchResult result = tree.Match({1, 2, 3, 50, 51});
    EXPECT_EQ(result.tokens, younger == 15 ? 3 : 0);
    EXPECT_EQ(result.missed.absent, younger == 15 ? 1 : 4);
  }
}

TEST(MatchTest, WindowNeedsOnlyItsLastPages) {
  const Tokens prompt = Iota(0, 17);
  // Lookback 4 at 16 is exactly page 3, lookback 5 is page 2 as well.
  EXPECT_EQ(Chain(4, kNoCopies, 4, {0, 1, 2}).tree.Match(prompt).tokens, 16);
  EXPECT_EQ(Chain(4, kNoCopies, 5, {0, 1, 2}).tree.Match(prompt).tokens, 0);
  EXPECT_EQ(Chain(4, kNoCopies, 5, {0, 1}).tree.Match(prompt).tokens, 16);
  EXPECT_EQ(Chain(4, kNoCopies, 0, {0, 1, 2, 3}).tree.Match(prompt).tokens, 16);
}

TEST(MatchTest, WindowBehindAGapResumesBeforeIt) {
  Chain chain(4, kNoCopies, /*lookback=*/5, /*gone=*/{2});
  const MatchResult result = chain.tree.Match(Iota(0, 19));
  EXPECT_EQ(result.tokens, 8);
  EXPECT_EQ(result.tip, chain.nodes[1]);
  EXPECT_EQ(result.missed.page_gone, 8);
  EXPECT_EQ(result.missed.absent, 2);
  // Beyond the gap there are enough pages again.
  EXPECT_EQ(Chain(5, kNoCopies, 5, {2}).tree.Match(Iota(0, 21)).tokens, 20);
  // Full attention never gets over one.
  EXPECT_EQ(Chain(5, kNoCopies, kAllTokens, {2}).tree.Match(Iota(0, 21)).tokens, 8);
}

TEST(MatchTest, PartialPageBehindAGapIsOfNoUse) {
  // At 15 a window of 5 needs [10, 15): pages 2 and 3.
  const Tokens prompt = Iota(0, 15) + Iota(50, 2);
  EXPECT_EQ(Chain(4, 1, 5, {0, 1}).tree.Match(prompt).tokens, 15);
  const MatchResult result = Chain(4, 1, 5, {2}).tree.Match(prompt);
  EXPECT_EQ(result.tokens, 8);
  EXPECT_EQ(result.missed.page_gone, 7);
}

TEST(MatchTest, EveryGroupMustBeAbleToResume) {
  const auto match = [](const Pages& full, const Pages& window) {
    Tree tree({Group(kUnit, 64), Group(kUnit, 64, /*lookback=*/4)}, 1, kNoCopies);
    const std::vector<NodeId> nodes = tree.Grow(Iota(0, 16));
    for (const int32_t unit : full) tree.Hang(nodes[static_cast<size_t>(unit)], 0, unit);
    for (const int32_t unit : window) tree.Hang(nodes[static_cast<size_t>(unit)], 1, 20 + unit);
    return tree.Match(Iota(0, 17)).tokens;
  };
  EXPECT_EQ(match({0, 1, 2, 3}, {3}), 16);
  EXPECT_EQ(match({0, 1, 2}, {2, 3}), 12);
  EXPECT_EQ(match({0, 1, 2}, {3}), 0);
  EXPECT_EQ(match({0, 1, 2, 3}, {1}), 8);
  EXPECT_EQ(match({1, 2, 3}, {0, 1, 2, 3}), 0);
}

// Pages of 4, 8 and 12 tokens meet every 24.
TEST(MatchTest, FullHitsEndWhereThePagesOfAllGroupsDo) {
  Tree tree({Group(4, 64), Group(8, 64), Group(12, 64)}, /*aligned_units=*/6, kNoCopies);
  const std::vector<NodeId> nodes = tree.Grow(Iota(0, 48));
  for (int32_t i = 0; i < 12; ++i) {
    const NodeId node = nodes[static_cast<size_t>(i)];
    tree.Hang(node, 0, i);
    if ((i + 1) % 2 == 0) tree.Hang(node, 1, 20 + i);
    if ((i + 1) % 3 == 0) tree.Hang(node, 2, 40 + i);
  }
  EXPECT_EQ(tree.Match(Iota(0, 24)).tokens, 0);
  const MatchResult result = tree.Match(Iota(0, 47));
  EXPECT_EQ(result.tokens, 24);
  EXPECT_EQ(result.tip, nodes[5]);
  EXPECT_EQ(result.missed.unaligned, 22);
  EXPECT_EQ(tree.Row(0, 6), (Pages{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(tree.Row(1, 3), (Pages{21, 23, 25}));
  EXPECT_EQ(tree.Row(2, 2), (Pages{42, 45}));
  EXPECT_EQ(tree.Match(Iota(0, 49)).tokens, 48);
}

// Between two borders of the large pages a hit needs a copy of a large page, if there is one whose
// first tokens are the prompt's.
TEST(MatchTest, PartialHitNeedsEveryGroupsPage) {
  for (const bool large_page : {true, false}) {
    Tree tree({Group(4, 64), Group(8, 64)}, /*aligned_units=*/2, /*min_copy_tokens=*/2);
    const std::vector<NodeId> nodes = tree.Grow(Iota(0, 16));
    for (int32_t i = 0; i < 4; ++i) tree.Hang(nodes[static_cast<size_t>(i)], 0, i);
    tree.Hang(nodes[1], 1, 20);
    if (large_page) tree.Hang(nodes[3], 1, 21);

    MatchResult result = tree.Match(Iota(0, 12) + Iota(50, 3));  // at a border of the small pages
    EXPECT_EQ(result.tokens, large_page ? 12 : 8);
    EXPECT_EQ(result.partial, large_page);
    EXPECT_EQ(result.tip, nodes[large_page ? 2 : 1]);
    EXPECT_EQ(result.tail[0], kNoPage);
    EXPECT_EQ(result.tail[1], large_page ? PageId{21} : kNoPage);
    EXPECT_EQ(result.missed.unaligned, large_page ? 0 : 4);

    result = tree.Match(Iota(0, 14) + Iota(50, 3));  // inside a page of either
    EXPECT_EQ(result.tokens, large_page ? 14 : 8);
    EXPECT_EQ(result.tail[0], large_page ? PageId{3} : kNoPage);
    EXPECT_EQ(result.tail[1], large_page ? PageId{21} : kNoPage);
  }
}

}  // namespace
}  // namespace quire::testing
