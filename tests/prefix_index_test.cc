#include "lib/prefix_index.h"

#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kUnit = 4;
using Unit = std::array<TokenId, kUnit>;

Unit Tokens(TokenId first) { return {first, first + 1, first + 2, first + 3}; }

// An index with pages of one unit (group 0) and of two (group 1).
class PrefixIndexTest : public testing::Test {
 protected:
  void SetUp() override { Init(/*max_nodes=*/32, /*max_sequences=*/4); }

  void Init(int32_t max_nodes, int32_t max_sequences) {
    index_ = PrefixIndex();
    const std::array<IndexGroup, 2> groups = {IndexGroup{8, 1}, IndexGroup{4, 2}};
    ASSERT_TRUE(index_.Init(kUnit, groups, max_nodes, max_sequences, /*seed=*/1).ok());
    pins_.assign(index_.node_capacity(), 0);
  }

  uint64_t Key(NodeId parent, const Unit& unit) const {
    uint64_t key = 0;
    index_.HashUnits(index_.key(parent), unit.data(), 1, &key);
    return key;
  }
  NodeId Insert(NodeId parent, TokenId first) {
    const Unit unit = Tokens(first);
    return index_.Insert(parent, Key(parent, unit), unit.data());
  }
  // A node that stays for as long as the test wants it.
  NodeId Pinned(NodeId parent, TokenId first) {
    const NodeId node = Insert(parent, first);
    if (node != kNoNode) Pin(node);
    return node;
  }
  void Pin(NodeId node) {
    index_.Pin(node);
    ++pins_[static_cast<uint32_t>(node)];
  }
  void Unpin(NodeId node) {
    index_.Unpin(node);
    --pins_[static_cast<uint32_t>(node)];
  }
  // By both ways of looking, which must agree.
  NodeId Find(NodeId parent, uint64_t key, const Unit& unit) const {
    const NodeId found = index_.FindChild(parent, key, unit.data());
    EXPECT_EQ(index_.Confirm(index_.Candidate(key), parent, key, unit.data()), found);
    return found;
  }
  NodeId Find(NodeId parent, TokenId first) const {
    const Unit unit = Tokens(first);
    return Find(parent, Key(parent, unit), unit);
  }
  // Nodes below roots and named roots; the default root is always there.
  int32_t nodes() const { return index_.node_count() - 1; }
  void ExpectValid() const { EXPECT_EQ(index_.Validate(pins_).ToString(), "OK"); }

  // Pages of the ring, oldest first.
  std::vector<int32_t> Ring(NodeId node, int32_t group) const {
    std::vector<int32_t> pages;
    const PageId oldest = index_.page(node, group);
    for (PageId page = oldest; page != kNoPage;) {
      pages.push_back(static_cast<int32_t>(page));
      page = index_.next_duplicate(group, page);
      if (page == oldest) break;
    }
    return pages;
  }

  PrefixIndex index_;
  std::vector<uint32_t> pins_;
};

using PrefixIndexDeathTest = PrefixIndexTest;
using Pages = std::vector<int32_t>;

TEST_F(PrefixIndexTest, FindsWhatWasInserted) {
  const NodeId a = Pinned(kDefaultRoot, 10);
  const NodeId b = Pinned(a, 20);
  EXPECT_EQ(Find(kDefaultRoot, 10), a);
  EXPECT_EQ(Find(a, 20), b);
  EXPECT_EQ(Find(kDefaultRoot, 11), kNoNode);
  EXPECT_EQ(Insert(a, 20), b);  // found, not made again
  EXPECT_EQ(index_.depth(b), 2);
  EXPECT_EQ(index_.parent(b), a);
  EXPECT_EQ(index_.tokens(b)[3], 23);
  EXPECT_EQ(index_.page(b, 0), kNoPage);
  EXPECT_TRUE(index_.indexed(b));
  EXPECT_EQ(nodes(), 2);
  ExpectValid();
}

TEST_F(PrefixIndexTest, SameTokensBelowAnotherParentAreAnotherNode) {
  const NodeId a = Pinned(kDefaultRoot, 10);
  const NodeId b = Pinned(kDefaultRoot, 20);
  const NodeId below_a = Pinned(a, 30);
  const NodeId below_b = Pinned(b, 30);
  EXPECT_NE(below_a, below_b);
  EXPECT_EQ(Find(a, 30), below_a);
  EXPECT_EQ(Find(b, 30), below_b);
  EXPECT_EQ(Find(kDefaultRoot, 30), kNoNode);
  ExpectValid();
}

TEST_F(PrefixIndexTest, KeysOfABatchAreThoseOfOneByOne) {
  std::array<TokenId, 3 * kUnit> tokens{};
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i);
  std::array<uint64_t, 3> keys{};
  index_.HashUnits(index_.key(kDefaultRoot), tokens.data(), 3, keys.data());
  NodeId node = kDefaultRoot;
  for (int32_t i = 0; i < 3; ++i) {
    node = Pinned(node, i * kUnit);
    EXPECT_EQ(index_.key(node), keys[static_cast<size_t>(i)]);
  }
}

// Equal keys are an attacker's or the birthday's work; neither may bring one prompt another's
// pages.
TEST_F(PrefixIndexTest, EqualKeysOfDifferentTokensNeverConfirm) {
  constexpr uint64_t kKey = 0x1234567800000001;
  const NodeId parent = Pinned(kDefaultRoot, 1);
  std::vector<std::pair<NodeId, NodeId>> placed;
  for (const TokenId first : {10, 20, 30}) {
    const Unit unit = Tokens(first);
    EXPECT_EQ(Find(kDefaultRoot, kKey, unit), kNoNode);
    const NodeId below_root = index_.Insert(kDefaultRoot, kKey, unit.data());
    EXPECT_EQ(Find(parent, kKey, unit), kNoNode);  // its parent is another
    const NodeId below_parent = index_.Insert(parent, kKey, unit.data());
    EXPECT_NE(below_root, below_parent);
    placed.emplace_back(below_root, below_parent);
  }
  for (size_t i = 0; i < placed.size(); ++i) {
    const Unit unit = Tokens(10 * (static_cast<TokenId>(i) + 1));
    EXPECT_EQ(Find(kDefaultRoot, kKey, unit), placed[i].first);
    EXPECT_EQ(Find(parent, kKey, unit), placed[i].second);
  }
  EXPECT_EQ(Find(kDefaultRoot, kKey, Unit{10, 11, 12, 14}), kNoNode);  // its last token differs
  EXPECT_EQ(Find(kDefaultRoot, kKey, Unit{9, 11, 12, 13}), kNoNode);   // its first
}

// A table with hardly a free slot, and tags that share a home, lie side by side or wrap around.
TEST_F(PrefixIndexTest, ErasingKeepsTheRestFindable) {
  constexpr int32_t kNodes = 16;
  Init(kNodes, 1);
  const std::array<uint64_t, 5> tags = {0, 1u << 28, 1u << 31, 0xF8000000, 0xFFFFFFFF};
  std::map<std::pair<uint64_t, TokenId>, NodeId> model;
  std::mt19937 random(7);
  for (int step = 0; step < 5000; ++step) {
    const uint64_t key = tags[random() % tags.size()] << 32;
    const auto token = static_cast<TokenId>(random() % 6);
    const Unit unit = Tokens(token);
    const auto at = model.find({key, token});
    if (at != model.end()) {
      index_.Unpin(at->second);
      model.erase(at);
    } else {
      const NodeId node = index_.Insert(kDefaultRoot, key, unit.data());
      ASSERT_EQ(node == kNoNode, model.size() == kNodes);
      if (node != kNoNode) {
        index_.Pin(node);
        model[{key, token}] = node;
      }
    }
    ASSERT_EQ(nodes(), static_cast<int32_t>(model.size()));
    for (const uint64_t tag : tags) {
      for (TokenId first = 0; first < 6; ++first) {
        const auto expected = model.find({tag << 32, first});
        ASSERT_EQ(Find(kDefaultRoot, tag << 32, Tokens(first)),
                  expected == model.end() ? kNoNode : expected->second);
      }
    }
  }
}

TEST_F(PrefixIndexTest, InsertStopsAtTheNodeBudgetAndGoesOnBelowIt) {
  Init(/*max_nodes=*/2, /*max_sequences=*/1);
  const NodeId a = Pinned(kDefaultRoot, 10);
  const NodeId b = Pinned(a, 20);
  EXPECT_EQ(Pinned(b, 30), kNoNode);
  EXPECT_EQ(Insert(a, 20), b);  // what is there needs no node
  ExpectValid();
  Unpin(b);
  const NodeId c = Pinned(a, 30);
  EXPECT_NE(c, kNoNode);
  EXPECT_EQ(Find(a, 20), kNoNode);
  EXPECT_EQ(index_.page(c, 0), kNoPage);
  ExpectValid();
}

TEST_F(PrefixIndexTest, RootsAreInternedAndDieWithTheirLastUse) {
  EXPECT_EQ(index_.FindRoot(""), kDefaultRoot);
  EXPECT_EQ(index_.InternRoot(""), kDefaultRoot);
  EXPECT_EQ(index_.FindRoot("a"), kNoNode);
  const NodeId a = index_.InternRoot("a");
  Pin(a);
  const NodeId b = index_.InternRoot("b");
  Pin(b);
  EXPECT_NE(a, b);
  EXPECT_EQ(index_.InternRoot("a"), a);
  EXPECT_EQ(index_.FindRoot("b"), b);
  EXPECT_EQ(index_.root_count(), 2);
  EXPECT_NE(Pinned(a, 10), Pinned(b, 10));
  EXPECT_EQ(Find(kDefaultRoot, 10), kNoNode);
  ExpectValid();

  Unpin(a);
  EXPECT_EQ(index_.FindRoot("a"), a);  // its child needs it
  Unpin(Find(a, 10));
  EXPECT_EQ(index_.FindRoot("a"), kNoNode);
  EXPECT_EQ(index_.FindRoot("b"), b);
  EXPECT_EQ(index_.root_count(), 1);
  EXPECT_EQ(nodes(), 2);
  ExpectValid();
}

// One node below a root, one sequence: each may need a root of its own.
TEST_F(PrefixIndexTest, RootsHaveABudgetOfTheirOwn) {
  Init(/*max_nodes=*/1, /*max_sequences=*/1);
  Pinned(kDefaultRoot, 10);
  const NodeId a = index_.InternRoot("a");
  Pin(a);
  EXPECT_NE(a, kNoNode);
  const NodeId b = index_.InternRoot("b");
  Pin(b);
  EXPECT_NE(b, kNoNode);
  EXPECT_EQ(index_.InternRoot("c"), kNoNode);
  EXPECT_EQ(index_.FindRoot("c"), kNoNode);
  ExpectValid();
  Unpin(a);
  Pin(index_.InternRoot("c"));
  EXPECT_NE(index_.FindRoot("c"), kNoNode);
  ExpectValid();
}

TEST_F(PrefixIndexTest, DuplicatesStandInOrderOfAge) {
  const NodeId node = Pinned(kDefaultRoot, 10);
  for (const int32_t page : {5, 2, 7, 0}) {
    index_.Attach(node, 0, PageId{page});
    ExpectValid();
  }
  EXPECT_EQ(Ring(node, 0), (Pages{5, 2, 7, 0}));
  EXPECT_EQ(index_.node_of(0, PageId{7}), node);
  EXPECT_FALSE(index_.keyed(0, PageId{1}));
  EXPECT_FALSE(index_.keyed(1, PageId{2}));  // another group's page of that number
  index_.Detach(0, PageId{2});               // from the middle
  EXPECT_EQ(Ring(node, 0), (Pages{5, 7, 0}));
  ExpectValid();
  index_.Detach(0, PageId{5});  // the oldest
  EXPECT_EQ(Ring(node, 0), (Pages{7, 0}));
  ExpectValid();
  index_.Detach(0, PageId{0});  // the youngest
  EXPECT_EQ(Ring(node, 0), (Pages{7}));
  index_.Attach(node, 0, PageId{5});  // comes back as the youngest
  EXPECT_EQ(Ring(node, 0), (Pages{7, 5}));
  ExpectValid();
  index_.Detach(0, PageId{7});
  index_.Detach(0, PageId{5});
  EXPECT_EQ(Ring(node, 0), Pages{});
  EXPECT_FALSE(index_.keyed(0, PageId{5}));
  ExpectValid();
}

TEST_F(PrefixIndexTest, NodeLivesWhileAnythingNeedsItAndDiesUpwards) {
  const NodeId a = Insert(kDefaultRoot, 10);
  const NodeId b = Insert(a, 20);
  const NodeId c = Insert(b, 30);
  index_.Attach(a, 0, PageId{0});
  index_.Attach(b, 1, PageId{0});
  index_.Attach(c, 0, PageId{1});
  Pin(c);
  ExpectValid();
  index_.Detach(0, PageId{1});
  EXPECT_EQ(Find(b, 30), c);  // a sequence stands on it
  index_.Detach(1, PageId{0});
  EXPECT_EQ(Find(a, 20), b);  // it leads to c
  EXPECT_EQ(nodes(), 3);
  ExpectValid();
  Unpin(c);
  EXPECT_EQ(nodes(), 1);
  EXPECT_EQ(Find(a, 20), kNoNode);
  EXPECT_EQ(Find(kDefaultRoot, 10), a);  // it has a page
  ExpectValid();
  index_.Detach(0, PageId{0});
  EXPECT_EQ(nodes(), 0);
  ExpectValid();
}

TEST_F(PrefixIndexTest, ChildrenAreListedNewestFirst) {
  const NodeId a = Pinned(kDefaultRoot, 10);
  const NodeId b = Pinned(kDefaultRoot, 20);
  const NodeId c = Pinned(kDefaultRoot, 30);
  const NodeId d = Pinned(kDefaultRoot, 40);
  const auto children = [this] {
    std::vector<NodeId> list;
    for (NodeId node = index_.newest_child(kDefaultRoot); node != kNoNode;
         node = index_.older_sibling(node)) {
      list.push_back(node);
    }
    return list;
  };
  EXPECT_EQ(children(), (std::vector<NodeId>{d, c, b, a}));
  Unpin(b);  // from the middle
  EXPECT_EQ(children(), (std::vector<NodeId>{d, c, a}));
  ExpectValid();
  Unpin(d);  // the newest
  EXPECT_EQ(children(), (std::vector<NodeId>{c, a}));
  ExpectValid();
  Unpin(a);  // the oldest
  EXPECT_EQ(children(), (std::vector<NodeId>{c}));
  ExpectValid();
}

TEST_F(PrefixIndexTest, UnindexedNodeIsAShellUntilItsLastPin) {
  const NodeId a = Pinned(kDefaultRoot, 10);
  const NodeId b = Pinned(a, 20);
  index_.Unindex(b);
  index_.Unindex(b);  // once is enough
  EXPECT_FALSE(index_.indexed(b));
  EXPECT_EQ(Find(a, 20), kNoNode);
  EXPECT_EQ(index_.newest_child(a), kNoNode);
  EXPECT_EQ(index_.parent(b), a);  // the way up stays, for Truncate
  EXPECT_EQ(index_.tokens(b)[0], 20);
  ExpectValid();

  const NodeId again = Pinned(a, 20);
  EXPECT_NE(again, b);
  EXPECT_EQ(Find(a, 20), again);
  ExpectValid();
  Unpin(b);
  EXPECT_EQ(nodes(), 2);
  EXPECT_EQ(Find(a, 20), again);
  ExpectValid();
}

TEST_F(PrefixIndexTest, UnindexedRootMakesRoomForANewOneOfItsName) {
  const NodeId old = index_.InternRoot("a");
  Pin(old);
  index_.Unindex(old);
  EXPECT_EQ(index_.FindRoot("a"), kNoNode);
  const NodeId fresh = index_.InternRoot("a");
  Pin(fresh);
  EXPECT_NE(fresh, old);
  Unpin(old);
  EXPECT_EQ(index_.FindRoot("a"), fresh);
  ExpectValid();
}

TEST_F(PrefixIndexTest, ValidateSeesAWrongPinCount) {
  const NodeId a = Pinned(kDefaultRoot, 10);
  ExpectValid();
  index_.Pin(a);
  EXPECT_FALSE(index_.Validate(pins_).ok());
  index_.Unpin(a);
  ExpectValid();
  ++pins_[static_cast<uint32_t>(a)];
  EXPECT_FALSE(index_.Validate(pins_).ok());
}

TEST_F(PrefixIndexTest, ValidateSeesAForgedKeyAndAPageOnTheWrongNode) {
  const NodeId a = Pinned(kDefaultRoot, 10);
  index_.Attach(a, 1, PageId{0});  // a page of two units hangs on every second node
  EXPECT_FALSE(index_.Validate(pins_).ok());
  index_.Detach(1, PageId{0});
  ExpectValid();
  const Unit unit = Tokens(20);
  index_.Pin(index_.Insert(a, 99, unit.data()));
  EXPECT_FALSE(index_.Validate(pins_).ok());
}

TEST_F(PrefixIndexDeathTest, MisuseStopsTheProcess) {
  const NodeId a = Pinned(kDefaultRoot, 10);
  index_.Attach(a, 0, PageId{0});
  EXPECT_DEATH(index_.Attach(a, 0, PageId{0}), "one key at most");
  EXPECT_DEATH(index_.Detach(0, PageId{1}), "has no key");
  index_.Detach(0, PageId{0});
  index_.Unpin(a);
  EXPECT_DEATH(index_.Unpin(a), "given back twice");
}

}  // namespace
}  // namespace quire
