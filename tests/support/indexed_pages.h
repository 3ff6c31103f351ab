// IndexedPages: a small real PrefixIndex whose tree the test chooses, for what asks it who stands
// below whom.

#ifndef QUIRE_TESTS_SUPPORT_INDEXED_PAGES_H_
#define QUIRE_TESTS_SUPPORT_INDEXED_PAGES_H_

#include <array>
#include <cstdint>

#include "gtest/gtest.h"
#include "lib/prefix_index.h"
#include "lib/reclaimer.h"

namespace quire {

// One group; a unit is one token.
class IndexedPages {
 public:
  explicit IndexedPages(int32_t page_count, int32_t units_per_page = 1)
      : page_count_(page_count), units_per_page_(units_per_page) {
    const std::array<IndexGroup, 1> groups = {IndexGroup{page_count, units_per_page}};
    // More than pages need: a node without a page stays while there are pages below it.
    const int32_t nodes = 8 * page_count * units_per_page;
    EXPECT_TRUE(index_.Init(/*unit=*/1, groups, nodes, /*max_sequences=*/1, /*seed=*/1).ok());
  }

  // Gives the page a key below `parent`, which differs from its siblings' by `token`. Two pages of
  // equal parent and token are duplicates.
  NodeId Attach(int32_t page, NodeId parent, TokenId token) {
    NodeId node = parent;
    for (int32_t i = 0; i < units_per_page_; ++i) {
      uint64_t key = 0;
      index_.HashUnits(index_.key(node), &token, 1, &key);
      node = index_.Insert(node, key, &token);
    }
    index_.Attach(node, 0, PageId{page});
    return node;
  }
  void Detach(int32_t page) { index_.Detach(0, PageId{page}); }

  ReclaimerGroup group(bool closed = true) const {
    return {.index = &index_,
            .group = 0,
            .page_count = page_count_,
            .units_per_page = units_per_page_,
            .closed = closed};
  }
  const PrefixIndex& index() const { return index_; }
  NodeId node_of(int32_t page) const { return index_.node_of(0, PageId{page}); }
  bool keyed(int32_t page) const { return index_.keyed(0, PageId{page}); }
  uint64_t key(int32_t page) const { return index_.key(node_of(page)); }
  // The node of the page before this one; the root's at the first.
  NodeId parent_of(int32_t page) const {
    NodeId node = node_of(page);
    for (int32_t i = 0; i < units_per_page_; ++i) node = index_.parent(node);
    return node;
  }

 private:
  int32_t page_count_;
  int32_t units_per_page_;
  PrefixIndex index_;
};

}  // namespace quire

#endif  // QUIRE_TESTS_SUPPORT_INDEXED_PAGES_H_
