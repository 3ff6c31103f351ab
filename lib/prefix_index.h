// PrefixIndex: which pages hold the K/V of which token prefix.
//
// A tree. Each node stands for one unit of tokens (unit = the smallest tokens_per_page) after a
// given parent; its path to the root is a whole prefix, and the root is a namespace. A key plus a
// page's own tokens would be no proof (two prefixes with equal keys give a wrong hit one page
// later), so a hit needs equal tokens AND the parent node that was matched one step before. The
// hash table only finds the candidate.
//
// Pages hang on nodes, one list per group: a page of k units hangs on the node of its last unit.
// The list is a ring in order of age, because two sequences may compute the same tokens before
// either could have shared; a hit takes the oldest.
//
// A node's life: `uses` counts its pages, its children and the sequences that stand on it (pins).
// With windows a parent's page goes before its child's, so a node without a page stays as long as
// something needs the way through it. At zero uses it is given back at once, and so upwards. A node
// that was unindexed (failed copy, ClearCached) can no longer be found and only waits for that.
//
// Memory: a node in use takes 36 + 4 * groups bytes and its tokens 4 * unit, the table 12 bytes for
// each unit of a page, a page 12 bytes. The address space is fixed at creation: no heap allocation
// afterwards, namespaces apart.

#ifndef QUIRE_LIB_PREFIX_INDEX_H_
#define QUIRE_LIB_PREFIX_INDEX_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "lib/hash.h"
#include "lib/huge_memory.h"
#include "quire/types.h"

namespace quire {

enum class NodeId : uint32_t {};
inline constexpr NodeId kDefaultRoot{0};  // the empty namespace; never dies
inline constexpr NodeId kNoNode{UINT32_MAX};

// One group as the index sees it.
struct IndexGroup {
  int32_t page_count;
  int32_t units_per_page;
};

class PrefixIndex {
 public:
  PrefixIndex() = default;

  // kResourceExhausted if there is no memory. Roots of namespaces have a budget of their own, since
  // every node and every sequence may need one: max_nodes + max_sequences.
  absl::Status Init(int32_t unit, std::span<const IndexGroup> groups, int32_t max_nodes,
                    int32_t max_sequences, uint64_t seed);
  // Right after Init: an account has at most budgets[account] of the nodes below roots, whatever
  // others take. kDefaultRoot is the last one's. False if there is no memory.
  [[nodiscard]] bool Divide(std::span<const int32_t> budgets);

  // --- Namespaces ---
  // The root of a namespace; kNoNode if nothing was ever indexed there.
  NodeId FindRoot(const std::string& name) const;
  // The same, made if needed; kNoNode if nodes have run out. `account` is who pays for the nodes.
  // Where the heap has run out nothing has changed.
  NodeId InternRoot(const std::string& name, int32_t account = 0);

  // --- Finding ---
  // Keys of `count` consecutive units below a parent with `parent_key`, and a prefetch of where
  // they would stand. A walk asks for a batch at a time, so that its cache misses overlap.
  void HashUnits(uint64_t parent_key, const TokenId* tokens, int32_t count, uint64_t* keys) const;
  // The first node that may be `key`'s (kNoNode if none), its lines prefetched. Not yet a hit.
  NodeId Candidate(uint64_t key) const;
  // The child of `parent` with exactly these tokens, or kNoNode. `candidate` is Candidate(key).
  NodeId Confirm(NodeId candidate, NodeId parent, uint64_t key, const TokenId* tokens) const {
    if (candidate == kNoNode) return kNoNode;
    if (IsChild(candidate, parent, tokens)) return candidate;
    return FindChild(parent, key, tokens);
  }
  NodeId FindChild(NodeId parent, uint64_t key, const TokenId* tokens) const;

  // --- Growing ---
  // The child of `parent` with these tokens, found or made; kNoNode if nodes have run out. `key` is
  // from HashUnits. REQUIRES indexed(parent).
  NodeId Insert(NodeId parent, uint64_t key, const TokenId* tokens);
  // Fetches the nodes that the next `count` calls of Insert will use.
  void PrefetchInserts(int32_t count) const;
  void Attach(NodeId node, int32_t group, PageId page);  // as the youngest of its ring
  void Detach(int32_t group, PageId page);               // may end the node, and its parents
  void Pin(NodeId node) { ++At(node).uses; }
  void Unpin(NodeId node) { Drop(node); }

  // Takes the node out of the table and out of its parent's children: it can no longer be found.
  void Unindex(NodeId node);

  // --- Reading ---
  bool keyed(int32_t group, PageId page) const { return KeyOf(group, page).node != kNoNode; }
  NodeId node_of(int32_t group, PageId page) const { return KeyOf(group, page).node; }
  PageId page(NodeId node, int32_t group) const { return PagesOf(node)[group]; }
  PageId next_duplicate(int32_t group, PageId page) const { return KeyOf(group, page).next; }
  uint64_t key(NodeId node) const { return At(node).key; }
  NodeId parent(NodeId node) const { return At(node).parent; }
  int32_t depth(NodeId node) const { return At(node).depth; }  // units from the root
  bool indexed(NodeId node) const { return At(node).indexed != 0; }
  NodeId newest_child(NodeId node) const { return At(node).first_child; }
  NodeId older_sibling(NodeId node) const { return At(node).next_sibling; }
  const TokenId* tokens(NodeId node) const {
    return &tokens_[static_cast<size_t>(node) * static_cast<size_t>(unit_)];
  }
  int32_t node_count() const { return node_count_; }  // roots of named namespaces included
  int32_t root_count() const { return static_cast<int32_t>(roots_.size()); }
  int64_t bytes() const;

  // A batch of pages about to be attached or detached: fetch their keys, then (the keys being
  // there) their nodes, then where the nodes stand in the table. Tokens are not needed for that.
  void PrefetchKey(int32_t group, PageId page) const { __builtin_prefetch(&KeyOf(group, page)); }
  void PrefetchNode(NodeId node) const {
    const char* record = reinterpret_cast<const char*>(&At(node));
    __builtin_prefetch(record);
    __builtin_prefetch(record + sizeof(Node));  // a record may lie across two cache lines
  }
  void PrefetchSlot(NodeId node) const {
    __builtin_prefetch(&slots_[Home(Tag(At(node).key))]);
    if (At(node).parent != kNoNode) __builtin_prefetch(&At(At(node).parent));
  }

  // Every invariant of the tree, the table and the rings; pins[node] is what sequences say they
  // hold. O(nodes + pages).
  absl::Status Validate(std::span<const uint32_t> pins) const;
  size_t node_capacity() const { return node_limit_; }

 private:
  struct Node {  // followed by one PageId per group: the oldest page of its ring, or kNoPage
    uint64_t key;
    NodeId parent;
    NodeId first_child;  // the newest; children are a doubly linked list
    NodeId next_sibling;
    NodeId prev_sibling;
    int32_t depth;
    uint32_t uses : 31;
    uint32_t indexed : 1;
  };
  struct PageKey {
    NodeId node;  // kNoNode: not in the index
    PageId next;  // ring of pages with one key
    PageId prev;
  };

  // A slot of the table: tag in the high half, node in the low half; 0 is empty (node 0 is a root
  // and never in the table). The tag alone says where the slot belongs, so that erasing never has
  // to look at a node.
  static uint32_t Tag(uint64_t key) { return static_cast<uint32_t>(key >> 32); }
  size_t Home(uint32_t tag) const {
    return static_cast<size_t>((static_cast<uint64_t>(tag) * slot_count_) >> 32);
  }
  size_t NextSlot(size_t i) const { return i + 1 == slot_count_ ? 0 : i + 1; }

  Node& At(NodeId id) {
    return *reinterpret_cast<Node*>(nodes_.data() + static_cast<size_t>(id) * node_words_);
  }
  const Node& At(NodeId id) const {
    return *reinterpret_cast<const Node*>(nodes_.data() + static_cast<size_t>(id) * node_words_);
  }
  PageId* PagesOf(NodeId id) { return reinterpret_cast<PageId*>(&At(id) + 1); }
  const PageId* PagesOf(NodeId id) const { return reinterpret_cast<const PageId*>(&At(id) + 1); }
  PageKey& KeyOf(int32_t group, PageId page) { return keys_[group][static_cast<size_t>(page)]; }
  const PageKey& KeyOf(int32_t group, PageId page) const {
    return keys_[group][static_cast<size_t>(page)];
  }

  uint64_t RootKey(const std::string& name) const {
    return HashBytes(name.data(), name.size(), seed_);
  }
  bool IsChild(NodeId node, NodeId parent, const TokenId* tokens) const;
  bool HasRoomBelow(NodeId parent) const;
  NodeId NewNode(NodeId parent, uint64_t key, int32_t depth);
  void Drop(NodeId node);  // one use less; ends nodes upwards while they have none
  void InsertSlot(uint64_t key, NodeId node);
  void EraseSlot(uint64_t key, NodeId node);
  void UnlinkFromParent(NodeId node);
  absl::Status ValidateNode(NodeId node) const;
  absl::Status ValidateUses(std::span<const uint32_t> pins) const;
  absl::Status ValidateBudgets() const;
  absl::Status ValidateRings() const;

  int32_t unit_ = 0;
  uint64_t seed_ = 0;
  size_t node_words_ = 0;  // uint64_t words of a node record
  size_t node_limit_ = 0;  // node ids are below this
  size_t node_fresh_ = 0;  // ids never used begin here
  size_t node_free_ = 0;   // entries of free_nodes_ in use
  int32_t node_count_ = 0;
  int32_t max_nodes_ = 0;  // below a root
  struct Budget {
    int32_t used;
    int32_t max;
  };
  std::vector<Budget> budgets_;      // [account]; empty: nodes are not divided
  HugeArray<uint8_t> node_account_;  // [node] of those with budgets
  uint64_t slot_count_ = 0;
  HugeArray<uint64_t> nodes_;
  HugeArray<NodeId> free_nodes_;  // given back; a stack and no list, so that a batch can look ahead
  HugeArray<TokenId> tokens_;
  HugeArray<uint64_t> slots_;
  std::vector<HugeArray<PageKey>> keys_;  // [group][page]
  std::vector<IndexGroup> groups_;
  // By the root's key; never iterated as a whole. Not Abseil's table, which is broken by an
  // allocation that fails.
  struct Root {
    std::string name;
    NodeId node;
  };
  std::unordered_multimap<uint64_t, Root> roots_;
};

}  // namespace quire

#endif  // QUIRE_LIB_PREFIX_INDEX_H_
