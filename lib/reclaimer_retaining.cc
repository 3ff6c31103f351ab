#include "lib/reclaimer_retaining.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "lib/check.h"

namespace quire {

bool RetainingReclaimer::Init(const ReclaimerGroup& group, int64_t step) {
  group_ = group;
  step_ = step;
  const auto pages = static_cast<size_t>(group.page_count);
  return lists_.Init(group, kPriorities, /*counted=*/false) && kept_.Allocate(pages) &&
         queue_.Allocate(pages + 1) && place_.Allocate(pages);
}

void RetainingReclaimer::EndIfOver(Kept* kept) const {
  if (kept->over > 0 && kept->expiry <= step_) kept->over = 0;
}

Reclaimer::Worth RetainingReclaimer::Note(PageId page, const Release& release) {
  Kept& kept = At(page);
  EndIfOver(&kept);
  if (release.priority > kDefault) {
    kept.expiry = kept.over > 0 ? std::max(kept.expiry, release.expiry) : release.expiry;
  }
  kept.over = std::max(kept.over, static_cast<int8_t>(release.priority - kDefault));
  return {.priority = static_cast<uint8_t>(PriorityOf(page)), .expiry = kept.expiry};
}

void RetainingReclaimer::Insert(PageId page, const Release& release) {
  Kept& kept = At(page);
  EndIfOver(&kept);
  kept.ordered = !release.held;
  if (kept.over == 0) {
    inner_->Insert(page, release);
    return;
  }
  kept.new_units = release.new_units;
  kept.continues = release.continues;
  kept.last = release.last;
  const int32_t priority = PriorityOf(page);
  int32_t& lowest = priority < kDefault ? low_ : high_;
  lowest = std::min(lowest, priority);
  lists_.PushYoungest(page, priority);
  if (priority > kDefault && kept.expiry != kForever) Queue(page);
}

void RetainingReclaimer::LeaveLists(PageId page) {
  lists_.Remove(page);
  if (place_[static_cast<size_t>(page)] != kNotQueued) Unqueue(page);
}

void RetainingReclaimer::Revive(PageId page) {
  if (!lists_.Contains(page)) {
    inner_->Revive(page);
    return;
  }
  LeaveLists(page);
  inner_->HitLive(page);  // the inner policy counts it as in use
}

void RetainingReclaimer::Erase(PageId page) {
  if (lists_.Contains(page)) {
    LeaveLists(page);
    inner_->Forget(page);
  } else {
    inner_->Erase(page);
  }
}

PageId RetainingReclaimer::Take() {
  const auto skip_empty = [this](int32_t* lowest, int32_t end) {
    while (*lowest < end && lists_.Oldest(*lowest) == kNoPage) ++*lowest;
    return *lowest < end;
  };
  int32_t list = 0;
  if (skip_empty(&low_, kDefault)) {
    list = low_;
  } else if (inner_->size() > 0) {
    const PageId victim = inner_->Take();
    KeepDuplicatesOf(victim);
    return victim;
  } else {
    QUIRE_CHECK(skip_empty(&high_, kPriorities), "no page is cached");
    list = high_;
  }
  const PageId victim = lists_.Oldest(list);
  LeaveLists(victim);
  inner_->Forget(victim);
  return victim;
}

// The inner policy may give up a page whose successors are cached, because a duplicate is left.
// That one is in use now, for else it would have left before if it is worth less; it must not do so
// later.
void RetainingReclaimer::KeepDuplicatesOf(PageId page) {
  const PrefixIndex& index = *group_.index;
  for (PageId other = index.next_duplicate(group_.group, page); other != page;
       other = index.next_duplicate(group_.group, other)) {
    At(other).over = std::max<int8_t>(At(other).over, 0);
  }
}

bool RetainingReclaimer::Indexed(PageId page) {
  At(page) = {.expiry = 0,
              .queued = 0,
              .new_units = 0,
              .continues = false,
              .last = false,
              .ordered = false,
              .over = -kDefault};
  return inner_->counts_uses() && inner_->Indexed(page);
}

void RetainingReclaimer::BeginStep(int64_t step) {
  step_ = step;
  while (queued_ > 0 && At(queue_[1]).expiry <= step) {
    const PageId page = queue_[1];
    Kept& kept = At(page);
    LeaveLists(page);
    kept.over = 0;
    inner_->Insert(page,
                   {.new_units = kept.new_units, .continues = kept.continues, .last = kept.last});
  }
}

void RetainingReclaimer::Prefetch(PageId page) const {
  lists_.Prefetch(page);
  __builtin_prefetch(&kept_[static_cast<size_t>(page)], 1);
  inner_->Prefetch(page);
}

int64_t RetainingReclaimer::bytes() const {
  return inner_->bytes() + lists_.bytes() +
         static_cast<int64_t>(kept_.bytes() + queue_.bytes() + place_.bytes());
}

// Deeper pages first, so that children go before their parents. Never by page id: ids depend on
// what other tenants do.
bool RetainingReclaimer::EndsBefore(PageId a, PageId b) const {
  if (At(a).expiry != At(b).expiry) return At(a).expiry < At(b).expiry;
  const PrefixIndex& index = *group_.index;
  const int32_t depth_a = index.depth(index.node_of(group_.group, a));
  const int32_t depth_b = index.depth(index.node_of(group_.group, b));
  return depth_a != depth_b ? depth_a > depth_b : At(a).queued < At(b).queued;
}

void RetainingReclaimer::Place(int32_t place, PageId page) {
  queue_[static_cast<size_t>(place)] = page;
  place_[static_cast<size_t>(page)] = place;
}

void RetainingReclaimer::MoveUp(int32_t place, PageId page) {
  for (; place > 1; place /= 2) {
    const PageId above = queue_[static_cast<size_t>(place / 2)];
    if (!EndsBefore(page, above)) break;
    Place(place, above);
  }
  Place(place, page);
}

void RetainingReclaimer::MoveDown(int32_t place, PageId page) {
  while (2 * place <= queued_) {
    int32_t below = 2 * place;
    const auto at = [this](int32_t i) { return queue_[static_cast<size_t>(i)]; };
    if (below < queued_ && EndsBefore(at(below + 1), at(below))) ++below;
    if (!EndsBefore(at(below), page)) break;
    Place(place, at(below));
    place = below;
  }
  Place(place, page);
}

void RetainingReclaimer::Queue(PageId page) {
  At(page).queued = ever_queued_++;
  MoveUp(++queued_, page);
}

void RetainingReclaimer::Unqueue(PageId page) {
  const int32_t place = std::exchange(place_[static_cast<size_t>(page)], kNotQueued);
  const PageId last = queue_[static_cast<size_t>(queued_--)];
  if (last == page) return;
  // It may belong above or below the gap.
  MoveUp(place, last);
  MoveDown(place_[static_cast<size_t>(last)], last);
}

// A cached page whose parent is cached, too, leaves before it: its priority is not above that of
// all pages of the parent's node. Unless it was cached late, because a copy needed it: the parent
// may have gone by then, and another request may have made one that is worth less. That costs a
// page that nobody finds for a while; to keep parents of held pages would cost a count for each
// node. "" or what is wrong.
std::string RetainingReclaimer::OrderFault(PageId page) const {
  if (!At(page).ordered) return {};
  const PrefixIndex& index = *group_.index;
  NodeId parent = index.node_of(group_.group, page);
  for (int32_t i = 0; i < group_.units_per_page; ++i) parent = index.parent(parent);
  const PageId first = index.page(parent, group_.group);
  if (!group_.closed || first == kNoPage) return {};
  PageId other = first;
  do {
    if (!Contains(other) || PriorityOf(other) >= PriorityOf(page)) return {};
    other = index.next_duplicate(group_.group, other);
  } while (other != first);
  return absl::StrCat("page ", static_cast<int32_t>(page),
                      " would stay without the page before it");
}

std::string RetainingReclaimer::Fault() const {
  int32_t queued = 0;
  for (int32_t p = 0; p < group_.page_count; ++p) {
    const PageId page{p};
    const Kept& kept = At(page);
    const int32_t place = place_[static_cast<size_t>(p)];
    const bool here = lists_.Contains(page);
    if (here && inner_->Contains(page)) return absl::StrCat("page ", p, " is cached twice");
    if (Contains(page)) {
      if (std::string fault = OrderFault(page); !fault.empty()) return fault;
    }
    if (here && kept.over == 0) return absl::StrCat("page ", p, " is retained by default");
    if ((place != kNotQueued) != (here && kept.over > 0 && kept.expiry != kForever)) {
      return absl::StrCat("page ", p, " is queued wrongly");
    }
    if (place == kNotQueued) continue;
    ++queued;
    if (place > queued_ || queue_[static_cast<size_t>(place)] != page) {
      return absl::StrCat("page ", p, " is not where it was queued");
    }
    if (kept.expiry <= step_) return absl::StrCat("page ", p, " is retained past its end");
    if (place > 1 && EndsBefore(page, queue_[static_cast<size_t>(place / 2)])) {
      return absl::StrCat("page ", p, " ends before the page above it in the queue");
    }
  }
  if (queued != queued_) return absl::StrCat(queued, " pages are queued and ", queued_, " counted");
  if (std::string fault = lists_.Fault(); !fault.empty()) return fault;
  return inner_->Fault();
}

}  // namespace quire
