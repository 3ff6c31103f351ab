#include "lib/page_lists.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

namespace quire {

bool PageLists::Init(const ReclaimerGroup& group, int32_t list_count, bool counted) {
  group_ = group;
  counted_ = counted;
  const auto pages = static_cast<size_t>(group.page_count);
  if (!links_.Allocate(pages + static_cast<size_t>(list_count))) return false;
  if (counted) {
    if (!children_.Allocate(group.index->node_capacity())) return false;
    many_children_.reserve(pages / kMany + 1);
  }
  filled_.resize((static_cast<size_t>(list_count) + 63) / 64);
  for (size_t i = 0; i < pages; ++i) links_[i] = {kOut, kOut};
  for (int32_t list = 0; list < list_count; ++list) At(Head(list)) = {Head(list), Head(list)};
  return true;
}

NodeId PageLists::ParentNode(PageId page) const {
  NodeId node = group_.index->node_of(group_.group, page);
  for (int32_t i = 0; i < group_.units_per_page; ++i) node = group_.index->parent(node);
  return group_.index->parent(node) == kNoNode ? kNoNode : node;
}

void PageLists::LinkAfter(int32_t before, PageId page) {
  const auto i = static_cast<int32_t>(page);
  Links& left = At(before);
  if (before >= group_.page_count) {  // behind a head: the list's oldest now
    const int32_t list = before - group_.page_count;
    filled_[static_cast<size_t>(list / 64)] |= uint64_t{1} << (list % 64);
    ++old_end_changes_;
    last_changed_ = list;
  }
  At(i) = {before, left.next};
  At(left.next).prev = i;
  left.next = i;
}

void PageLists::PushYoungest(PageId page, int32_t list) {
  QUIRE_CHECK(!Contains(page), "the page is cached already");
  const int32_t youngest = At(Head(list)).prev;
  LinkAfter(youngest, page);
  ++size_;
  if (!counted_) return;
  const NodeId parent = ParentNode(page);
  if (parent != kNoNode) ChildCame(parent);
}

void PageLists::Unlink(PageId page) {
  Links& links = At(static_cast<int32_t>(page));
  if (links.prev != kOut) {
    At(links.prev).next = links.next;
    At(links.next).prev = links.prev;
    if (links.prev == links.next) {  // nothing left but the head
      const int32_t list = links.prev - group_.page_count;
      filled_[static_cast<size_t>(list / 64)] &= ~(uint64_t{1} << (list % 64));
    }
  }
  links = {kOut, kOut};
}

void PageLists::Remove(PageId page) {
  QUIRE_CHECK(Contains(page), "the page is not cached");
  Unlink(page);
  --size_;
  if (!counted_) return;
  const NodeId parent = ParentNode(page);
  if (parent != kNoNode && CountOneLess(parent) == 0) LastChildLeft(parent);
}

void PageLists::ChildCame(NodeId parent) {
  uint16_t& count = children_[static_cast<size_t>(parent)];
  if (count == kMany) return AddToMany(parent);
  ++count;
}

int32_t PageLists::CountOneLess(NodeId parent) {
  uint16_t& count = children_[static_cast<size_t>(parent)];
  if (count == kMany && TakeFromMany(parent)) return kMany;
  return --count;
}

// Where the node stands in many_children_, or would stand.
size_t PageLists::ManyPlace(NodeId parent) const {
  const auto it =
      std::lower_bound(many_children_.begin(), many_children_.end(), parent,
                       [](const auto& entry, NodeId node) { return entry.first < node; });
  return static_cast<size_t>(it - many_children_.begin());
}

// Out of line: hardly any node has so many children, and the common path stays short.
[[gnu::noinline, gnu::cold]] void PageLists::AddToMany(NodeId parent) {
  const size_t place = ManyPlace(parent);
  if (!HasMany(place, parent)) {
    many_children_.emplace(many_children_.begin() + static_cast<ptrdiff_t>(place), parent, 0);
  }
  ++many_children_[place].second;
}

[[gnu::noinline, gnu::cold]] bool PageLists::TakeFromMany(NodeId parent) {
  const size_t place = ManyPlace(parent);
  if (!HasMany(place, parent)) return false;
  if (--many_children_[place].second == 0) {
    many_children_.erase(many_children_.begin() + static_cast<ptrdiff_t>(place));
  }
  return true;
}

// The last cached child is gone: pages of `parent` that waited for that may leave now.
void PageLists::LastChildLeft(NodeId parent) {
  const PageId first = group_.index->page(parent, group_.group);
  if (first == kNoPage) return;
  PageId page = first;
  do {
    if (IsAside(static_cast<int32_t>(page))) {
      LinkAfter(Head(At(static_cast<int32_t>(page)).next), page);
    }
    page = group_.index->next_duplicate(group_.group, page);
  } while (page != first);
}

void PageLists::MoveToYoungest(PageId page, int32_t list) {
  QUIRE_DCHECK(Contains(page) && !IsAside(static_cast<int32_t>(page)), "the page is in no list");
  Unlink(page);
  LinkAfter(At(Head(list)).prev, page);
}

void PageLists::SetAside(PageId page, int32_t list) {
  QUIRE_DCHECK(HasCachedChild(page), "nothing would bring the page back");
  Unlink(page);
  At(static_cast<int32_t>(page)) = {kOut, list};
}

std::string PageLists::Fault() const {
  std::vector<int32_t> children(children_.size(), 0);
  int32_t cached = 0;
  for (int32_t p = 0; p < group_.page_count; ++p) {
    if (!Contains(PageId{p})) continue;
    ++cached;
    if (!counted_) continue;
    const NodeId parent = ParentNode(PageId{p});
    if (parent != kNoNode) ++children[static_cast<size_t>(parent)];
    if (IsAside(p) &&
        children_[static_cast<size_t>(group_.index->node_of(group_.group, PageId{p}))] == 0) {
      return absl::StrCat("page ", p, " was set aside and has no cached child");
    }
  }
  if (cached != size_) return absl::StrCat(cached, " pages are cached and ", size_, " counted");
  for (size_t i = 0; i < children.size(); ++i) {
    const NodeId node{static_cast<uint32_t>(i)};
    int32_t counted = children_[i];
    if (const size_t place = ManyPlace(node); counted == kMany && HasMany(place, node)) {
      counted += many_children_[place].second;
    }
    if (children[i] != counted) {
      return absl::StrCat("node ", i, " has ", children[i], " cached children and counts ",
                          counted);
    }
  }
  return {};
}

}  // namespace quire
