// PageLists: the cached pages of a group in several lists, each in the order of arrival, so that
// only pages without a cached successor leave from the old end.
//
// A parent is released after its children, so in one list it stands behind them. With several lists
// it may reach the old end of its own while a child waits in another. Then it is set aside, and
// comes back to the old end when its last cached child has gone: each page is set aside at most
// once for each time that it is released, which keeps every call O(1).
//
//   state of a page     links                  counts as cached
//   out                 {kOut, kOut}           no
//   in a list           neighbours             yes
//   set aside           {kOut, list}           yes; has a cached child

#ifndef QUIRE_LIB_PAGE_LISTS_H_
#define QUIRE_LIB_PAGE_LISTS_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lib/check.h"
#include "lib/huge_memory.h"
#include "lib/reclaimer.h"

namespace quire {

class PageLists {
 public:
  // False if there is no memory. `counted` keeps the number of cached children of each node;
  // without it every page is free to leave, which is right if there is one list.
  [[nodiscard]] bool Init(const ReclaimerGroup& group, int32_t list_count, bool counted);

  void PushYoungest(PageId page, int32_t list);
  // Out of wherever it is. REQUIRES: cached, and still indexed.
  void Remove(PageId page);
  // Moves a page of a list to the young end of another.
  void MoveToYoungest(PageId page, int32_t list);

  // The oldest page of the list, or kNoPage.
  PageId Oldest(int32_t list) const {
    const int32_t next = At(Head(list)).next;
    return next == Head(list) ? kNoPage : PageId{next};
  }
  // A page with a duplicate is a spare one: what follows can be found without it.
  bool HasCachedChild(PageId page) const {
    return counted_ &&
           children_[static_cast<size_t>(group_.index->node_of(group_.group, page))] > 0 &&
           group_.index->next_duplicate(group_.group, page) == page;
  }
  // Calls f(list) for each list that has a page, in order.
  template <typename F>
  void ForEachList(F f) const {
    for (size_t word = 0; word < filled_.size(); ++word) {
      for (uint64_t bits = filled_[word]; bits != 0; bits &= bits - 1) {
        f(static_cast<int32_t>(word * 64) + std::countr_zero(bits));
      }
    }
  }
  // REQUIRES: the page is in `list` and has a cached child.
  void SetAside(PageId page, int32_t list);

  bool Contains(PageId page) const {
    const Links& links = At(static_cast<int32_t>(page));
    return links.prev != kOut || links.next != kOut;
  }
  void Prefetch(PageId page) const { __builtin_prefetch(&links_[static_cast<size_t>(page)], 1); }
  int32_t size() const { return size_; }
  int64_t bytes() const { return static_cast<int64_t>(links_.bytes() + children_.bytes()); }
  std::string Fault() const;

  // Counts the times that a list got another oldest page by getting one more: it began, or a page
  // came back. Who remembers which list is next looks at it, and at which list that was last.
  uint64_t old_end_changes() const { return old_end_changes_; }
  int32_t last_changed() const { return last_changed_; }

 private:
  static constexpr int32_t kOut = -1;
  struct Links {
    int32_t prev;
    int32_t next;
  };
  Links& At(int32_t i) { return links_[static_cast<size_t>(i)]; }
  const Links& At(int32_t i) const { return links_[static_cast<size_t>(i)]; }
  int32_t Head(int32_t list) const { return group_.page_count + list; }
  bool IsAside(int32_t page) const { return At(page).prev == kOut && At(page).next != kOut; }

  // The node of the page before this one, or kNoNode at a root.
  NodeId ParentNode(PageId page) const;
  void LinkAfter(int32_t before, PageId page);
  void Unlink(PageId page);
  void ChildCame(NodeId parent);
  int32_t CountOneLess(NodeId parent);
  void LastChildLeft(NodeId parent);
  size_t ManyPlace(NodeId parent) const;
  void AddToMany(NodeId parent);
  bool TakeFromMany(NodeId parent);
  bool HasMany(size_t place, NodeId parent) const {
    return place < many_children_.size() && many_children_[place].first == parent;
  }

  ReclaimerGroup group_;
  bool counted_ = false;
  int32_t size_ = 0;
  uint64_t old_end_changes_ = 0;
  int32_t last_changed_ = -1;
  std::vector<uint64_t> filled_;  // a bit for each list that has a page
  HugeArray<Links> links_;        // [page], then one head for each list
  // [node] cached pages right below it, up to kMany; what is more stands in many_children_, by
  // node. At most page_count / kMany nodes can be there at a time, and as many have room: a page is
  // given back in destructors, where no allocation may fail.
  static constexpr uint16_t kMany = UINT16_MAX;
  HugeArray<uint16_t> children_;
  std::vector<std::pair<NodeId, int32_t>> many_children_;
};

}  // namespace quire

#endif  // QUIRE_LIB_PAGE_LISTS_H_
