#include "lib/prefix_index.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "lib/check.h"

namespace quire {

absl::Status PrefixIndex::Init(int32_t unit, std::span<const IndexGroup> groups, int32_t max_nodes,
                               int32_t max_sequences, uint64_t seed) {
  unit_ = unit;
  seed_ = seed;
  groups_.assign(groups.begin(), groups.end());
  node_words_ = (sizeof(Node) + groups.size() * sizeof(PageId) + 7) / 8;
  max_nodes_ = max_nodes;
  const auto below_roots = static_cast<size_t>(max_nodes);
  node_limit_ = 2 * below_roots + static_cast<size_t>(max_sequences) + 1;  // and the default root
  // At most two thirds full with one node for each unit of each page, which is what a full pool
  // has; the rare nodes beyond that may fill it further. Roots are not in it.
  size_t expected = 0;
  for (const IndexGroup& group : groups_) {
    expected += static_cast<size_t>(group.page_count) * static_cast<size_t>(group.units_per_page);
  }
  expected = std::min(expected, below_roots);
  slot_count_ = std::max(expected + expected / 2, below_roots + below_roots / 16) + 1;
  bool ok = nodes_.Allocate(node_limit_ * node_words_) &&
            tokens_.Allocate(node_limit_ * static_cast<size_t>(unit)) &&
            free_nodes_.Allocate(node_limit_) && slots_.Allocate(slot_count_);
  for (const IndexGroup& group : groups_) {
    keys_.emplace_back();
    ok = ok && keys_.back().Allocate(static_cast<size_t>(group.page_count));
    if (!ok) break;
    for (size_t i = 0; i < keys_.back().size(); ++i) {
      keys_.back()[i] = {kNoNode, kNoPage, kNoPage};
    }
  }
  if (!ok) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a prefix index of ", max_nodes,
                                                     " nodes; lower max_index_nodes"));
  }
  const NodeId root = NewNode(kNoNode, RootKey(""), 0);
  QUIRE_CHECK(root == kDefaultRoot, "the first node is the default root");
  Pin(root);
  return absl::OkStatus();
}

bool PrefixIndex::Divide(std::span<const int32_t> budgets) {
  for (const int32_t budget : budgets) budgets_.push_back({.used = 0, .max = budget});
  if (!node_account_.Allocate(node_limit_)) return false;
  node_account_[0] = static_cast<uint8_t>(budgets.size() - 1);
  return true;
}

int64_t PrefixIndex::bytes() const {
  // Nodes never used are address space and no memory.
  const size_t node_bytes = node_words_ * sizeof(uint64_t) + sizeof(NodeId) +
                            static_cast<size_t>(unit_) * sizeof(TokenId);
  size_t total = node_fresh_ * node_bytes + slots_.bytes();
  if (!budgets_.empty()) total += node_fresh_;
  for (const auto& keys : keys_) total += keys.bytes();
  return static_cast<int64_t>(total);
}

NodeId PrefixIndex::FindRoot(const std::string& name) const {
  if (name.empty()) return kDefaultRoot;
  const auto [begin, end] = roots_.equal_range(RootKey(name));
  const auto it =
      std::find_if(begin, end, [&](const auto& entry) { return entry.second.name == name; });
  return it == end ? kNoNode : it->second.node;
}

NodeId PrefixIndex::InternRoot(const std::string& name, int32_t account) {
  const NodeId found = FindRoot(name);
  if (found != kNoNode) return found;
  // The entry first: only that allocates.
  const auto entry = roots_.emplace(RootKey(name), Root{name, kNoNode});
  entry->second.node = NewNode(kNoNode, entry->first, 0);
  const NodeId root = entry->second.node;
  if (root == kNoNode) {
    roots_.erase(entry);
  } else if (!budgets_.empty()) {
    node_account_[static_cast<size_t>(root)] = static_cast<uint8_t>(account);
  }
  return root;
}

void PrefixIndex::HashUnits(uint64_t parent_key, const TokenId* tokens, int32_t count,
                            uint64_t* keys) const {
  const auto unit = static_cast<size_t>(unit_);
  const size_t bytes = unit * sizeof(TokenId);
  for (int32_t i = 0; i < count; ++i) {
    const uint64_t hash = HashBytes(tokens + static_cast<size_t>(i) * unit, bytes, seed_);
    parent_key = ChainKey(parent_key, hash);
    keys[i] = parent_key;
    __builtin_prefetch(&slots_[Home(Tag(parent_key))]);
  }
}

NodeId PrefixIndex::Candidate(uint64_t key) const {
  const uint32_t tag = Tag(key);
  for (size_t i = Home(tag); slots_[i] != 0; i = NextSlot(i)) {
    if (static_cast<uint32_t>(slots_[i] >> 32) != tag) continue;
    const NodeId node{static_cast<uint32_t>(slots_[i])};
    PrefetchNode(node);
    __builtin_prefetch(tokens(node));
    return node;
  }
  return kNoNode;
}

bool PrefixIndex::IsChild(NodeId node, NodeId parent, const TokenId* tokens) const {
  const bool same =
      At(node).parent == parent &&
      std::memcmp(this->tokens(node), tokens, static_cast<size_t>(unit_) * sizeof(TokenId)) == 0;
  NoteCandidate(same);
  return same;
}

NodeId PrefixIndex::FindChild(NodeId parent, uint64_t key, const TokenId* tokens) const {
  const uint32_t tag = Tag(key);
  for (size_t i = Home(tag); slots_[i] != 0; i = NextSlot(i)) {
    if (static_cast<uint32_t>(slots_[i] >> 32) != tag) continue;
    const NodeId node{static_cast<uint32_t>(slots_[i])};
    if (IsChild(node, parent, tokens)) return node;
  }
  return kNoNode;
}

bool PrefixIndex::HasRoomBelow(NodeId parent) const {
  if (budgets_.empty()) return node_count_ - 1 - root_count() < max_nodes_;
  const Budget& budget = budgets_[node_account_[static_cast<size_t>(parent)]];
  return budget.used < budget.max;
}

NodeId PrefixIndex::NewNode(NodeId parent, uint64_t key, int32_t depth) {
  if (parent != kNoNode && !HasRoomBelow(parent)) return kNoNode;
  NodeId id;
  if (node_free_ > 0) {
    id = free_nodes_[--node_free_];
  } else {
    if (node_fresh_ == node_limit_) return kNoNode;
    id = NodeId{static_cast<uint32_t>(node_fresh_++)};
  }
  At(id) = Node{.key = key,
                .parent = parent,
                .first_child = kNoNode,
                .next_sibling = kNoNode,
                .prev_sibling = kNoNode,
                .depth = depth,
                .uses = 0,
                .indexed = 1};
  std::fill_n(PagesOf(id), groups_.size(), kNoPage);
  ++node_count_;
  if (!budgets_.empty() && parent != kNoNode) {
    const uint8_t account = node_account_[static_cast<size_t>(parent)];
    node_account_[static_cast<size_t>(id)] = account;
    ++budgets_[account].used;
  }
  return id;
}

void PrefixIndex::PrefetchInserts(int32_t count) const {
  const size_t from_free = std::min(node_free_, static_cast<size_t>(count));
  for (size_t i = 0; i < from_free; ++i) {
    const NodeId node = free_nodes_[node_free_ - 1 - i];
    PrefetchNode(node);
    __builtin_prefetch(tokens(node), 1);
  }
}

NodeId PrefixIndex::Insert(NodeId parent, uint64_t key, const TokenId* tokens) {
  QUIRE_DCHECK(indexed(parent), "a child of a node that cannot be found cannot be found either");
  const NodeId found = FindChild(parent, key, tokens);
  if (found != kNoNode) return found;
  const NodeId id = NewNode(parent, key, At(parent).depth + 1);
  if (id == kNoNode) return kNoNode;
  std::memcpy(&tokens_[static_cast<size_t>(id) * static_cast<size_t>(unit_)], tokens,
              static_cast<size_t>(unit_) * sizeof(TokenId));
  Node& up = At(parent);
  ++up.uses;
  At(id).next_sibling = up.first_child;
  if (up.first_child != kNoNode) At(up.first_child).prev_sibling = id;
  up.first_child = id;
  InsertSlot(key, id);
  return id;
}

void PrefixIndex::InsertSlot(uint64_t key, NodeId node) {
  size_t i = Home(Tag(key));
  while (slots_[i] != 0) i = NextSlot(i);
  slots_[i] = (static_cast<uint64_t>(Tag(key)) << 32) | static_cast<uint32_t>(node);
}

void PrefixIndex::EraseSlot(uint64_t key, NodeId node) {
  const uint64_t wanted = (static_cast<uint64_t>(Tag(key)) << 32) | static_cast<uint32_t>(node);
  size_t hole = Home(Tag(key));
  while (slots_[hole] != wanted) {
    QUIRE_CHECK(slots_[hole] != 0, "the prefix index lost a node");
    hole = NextSlot(hole);
  }
  // Backward shift: pull later slots of the run into the hole unless that would put one before its
  // home. No tombstones, so the table never has to be rebuilt.
  for (size_t i = NextSlot(hole); slots_[i] != 0; i = NextSlot(i)) {
    const size_t home = Home(static_cast<uint32_t>(slots_[i] >> 32));
    const size_t from_home = i >= home ? i - home : i + slot_count_ - home;
    const size_t from_hole = i >= hole ? i - hole : i + slot_count_ - hole;
    if (from_home < from_hole) continue;
    slots_[hole] = slots_[i];
    hole = i;
  }
  slots_[hole] = 0;
}

void PrefixIndex::Attach(NodeId node, int32_t group, PageId page) {
  PageKey& key = KeyOf(group, page);
  QUIRE_CHECK(key.node == kNoNode, "a page has one key at most");
  key.node = node;
  PageId& oldest = PagesOf(node)[group];
  if (oldest == kNoPage) {
    key.next = key.prev = page;
    oldest = page;
  } else {
    PageKey& first = KeyOf(group, oldest);
    key.prev = first.prev;
    key.next = oldest;
    KeyOf(group, first.prev).next = page;
    first.prev = page;
  }
  ++At(node).uses;
}

void PrefixIndex::Detach(int32_t group, PageId page) {
  PageKey& key = KeyOf(group, page);
  const NodeId node = key.node;
  QUIRE_CHECK(node != kNoNode, "the page has no key");
  PageId& oldest = PagesOf(node)[group];
  if (key.next == page) {
    oldest = kNoPage;
  } else {
    if (oldest == page) oldest = key.next;
    KeyOf(group, key.next).prev = key.prev;
    KeyOf(group, key.prev).next = key.next;
  }
  key = {kNoNode, kNoPage, kNoPage};
  Drop(node);
}

void PrefixIndex::Drop(NodeId node) {
  while (node != kNoNode) {
    Node& record = At(node);
    QUIRE_CHECK(record.uses > 0, "a node was given back twice");
    if (--record.uses > 0) return;
    Unindex(node);
    const NodeId parent = record.parent;
    free_nodes_[node_free_++] = node;
    --node_count_;
    if (!budgets_.empty() && parent != kNoNode) {
      --budgets_[node_account_[static_cast<size_t>(node)]].used;
    }
    node = parent;  // had a use for this child
  }
}

void PrefixIndex::Unindex(NodeId node) {
  Node& record = At(node);
  if (record.indexed == 0) return;
  record.indexed = 0;
  if (record.parent != kNoNode) {
    EraseSlot(record.key, node);
    UnlinkFromParent(node);
    return;
  }
  const auto [begin, end] = roots_.equal_range(record.key);
  const auto it =
      std::find_if(begin, end, [&](const auto& entry) { return entry.second.node == node; });
  if (it != end) roots_.erase(it);
}

void PrefixIndex::UnlinkFromParent(NodeId node) {
  Node& record = At(node);
  if (record.prev_sibling != kNoNode) {
    At(record.prev_sibling).next_sibling = record.next_sibling;
  } else {
    At(record.parent).first_child = record.next_sibling;
  }
  if (record.next_sibling != kNoNode) {
    At(record.next_sibling).prev_sibling = record.prev_sibling;
  }
  record.next_sibling = record.prev_sibling = kNoNode;
}

absl::Status PrefixIndex::Validate(std::span<const uint32_t> pins) const {
  if (absl::Status status = ValidateUses(pins); !status.ok()) return status;
  if (absl::Status status = ValidateBudgets(); !status.ok()) return status;
  return ValidateRings();
}

absl::Status PrefixIndex::ValidateBudgets() const {
  std::vector<int32_t> used(budgets_.size(), 0);
  for (size_t i = 1; i < node_fresh_ && !budgets_.empty(); ++i) {
    const Node& node = At(NodeId{static_cast<uint32_t>(i)});
    if (node.parent == kNoNode || (node.uses == 0 && node.indexed == 0)) continue;
    ++used[node_account_[i]];
    if (node_account_[i] != node_account_[static_cast<size_t>(node.parent)]) {
      return absl::InternalError(absl::StrCat("node ", i, " is another account's than its parent"));
    }
  }
  for (size_t a = 0; a < used.size(); ++a) {
    if (used[a] == budgets_[a].used && used[a] <= budgets_[a].max) continue;
    return absl::InternalError(absl::StrCat("account ", a, " has ", used[a], " nodes of ",
                                            budgets_[a].max, " and counts ", budgets_[a].used));
  }
  return absl::OkStatus();
}

absl::Status PrefixIndex::ValidateNode(NodeId id) const {
  const Node& node = At(id);
  if (node.parent == kNoNode) return absl::OkStatus();
  if (node.depth != At(node.parent).depth + 1) {
    return absl::InternalError(absl::StrCat("node ", static_cast<uint32_t>(id), ": wrong depth"));
  }
  if (node.indexed == 0) return absl::OkStatus();
  uint64_t key;
  HashUnits(At(node.parent).key, tokens(id), 1, &key);
  if (key != node.key || FindChild(node.parent, key, tokens(id)) != id) {
    return absl::InternalError(
        absl::StrCat("node ", static_cast<uint32_t>(id), " is indexed but cannot be found"));
  }
  return absl::OkStatus();
}

absl::Status PrefixIndex::ValidateUses(std::span<const uint32_t> pins) const {
  // A node given back has no uses and is not indexed; count what uses every other one.
  std::vector<uint32_t> uses(pins.begin(), pins.end());
  uses.resize(node_fresh_, 0);
  ++uses[0];  // the default root's own
  int32_t alive = 0;
  uint64_t listed = 0;
  for (size_t i = 0; i < node_fresh_; ++i) {
    const NodeId id{static_cast<uint32_t>(i)};
    const Node& node = At(id);
    if (node.uses == 0 && node.indexed == 0) continue;
    ++alive;
    if (absl::Status status = ValidateNode(id); !status.ok()) return status;
    if (node.parent != kNoNode) ++uses[static_cast<uint32_t>(node.parent)];
    for (NodeId child = node.first_child; child != kNoNode; child = At(child).next_sibling) {
      if (At(child).parent != id || At(child).indexed == 0) {
        return absl::InternalError("a child's parent is another node");
      }
      ++listed;
    }
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (size_t p = 0; p < keys_[g].size(); ++p) {
      const NodeId node = keys_[g][p].node;
      if (node != kNoNode) ++uses[static_cast<uint32_t>(node)];
    }
  }
  uint64_t slots = 0;
  for (size_t i = 0; i < slot_count_; ++i) slots += slots_[i] != 0;
  if (slots != listed) return absl::InternalError("children and table disagree");
  if (alive != node_count_) return absl::InternalError("node count is wrong");
  for (size_t i = 0; i < node_fresh_; ++i) {
    const Node& node = At(NodeId{static_cast<uint32_t>(i)});
    if (node.uses == 0 && node.indexed == 0 && uses[i] == 0) continue;
    if (node.uses != uses[i]) {
      return absl::InternalError(
          absl::StrCat("node ", i, " counts ", node.uses, " uses and has ", uses[i]));
    }
  }
  return absl::OkStatus();
}

absl::Status PrefixIndex::ValidateRings() const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (size_t p = 0; p < keys_[g].size(); ++p) {
      const PageKey& key = keys_[g][p];
      if (key.node == kNoNode) continue;
      const PageId page{static_cast<int32_t>(p)};
      if (KeyOf(static_cast<int32_t>(g), key.next).prev != page ||
          KeyOf(static_cast<int32_t>(g), key.prev).next != page ||
          KeyOf(static_cast<int32_t>(g), key.next).node != key.node) {
        return absl::InternalError(absl::StrCat("group ", g, " page ", p, ": broken ring"));
      }
      if (PagesOf(key.node)[g] == kNoPage || At(key.node).depth % groups_[g].units_per_page != 0) {
        return absl::InternalError(absl::StrCat("group ", g, " page ", p, ": on the wrong node"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace quire
