#include "lib/reclaimer_frequency.h"

#include <algorithm>
#include <limits>

#include "lib/check.h"

namespace quire {

bool FrequencyReclaimer::Init(const ReclaimerGroup& group) {
  group_ = group;
  worth_ = std::max<int64_t>(1, int64_t{group.page_count} * 5 / 8);
  clock_ = GhostClock(group.page_count);
  return lists_.Init(group, kMostUses, group.closed) &&
         uses_.Allocate(static_cast<size_t>(group.page_count)) &&
         ghosts_.Init(8 * int64_t{group.page_count});
}

bool FrequencyReclaimer::Indexed(PageId page) {
  ++indexed_;
  clock_.Tick();
  const Ghost ghost = ghosts_.Take(group_.key(page));
  Use& use = At(page);
  use.uses = ghost.uses;
  CountUse(&use);
  return ghost.uses > 0;
}

void FrequencyReclaimer::Insert(PageId page, const Release&) {
  Use& use = At(page);
  use.released = indexed_;
  lists_.PushYoungest(page, use.uses - 1);
}

void FrequencyReclaimer::Revive(PageId page) {
  CountUse(&At(page));
  lists_.Remove(page);
}

PageId FrequencyReclaimer::Take() {
  QUIRE_CHECK(size() > 0, "no page is cached");
  while (true) {
    // Each list is in order of release, so its oldest page is its least.
    PageId oldest = kNoPage;
    int32_t oldest_list = 0;
    int64_t longest = std::numeric_limits<int64_t>::min();
    for (int32_t list = 0; list < kMostUses; ++list) {
      const PageId page = lists_.Oldest(list);
      if (page == kNoPage) continue;
      const int64_t overdue = int64_t{indexed_ - At(page).released} - worth_ * list;
      if (overdue <= longest) continue;
      longest = overdue;
      oldest = page;
      oldest_list = list;
    }
    QUIRE_CHECK(oldest != kNoPage, "every cached page is set aside");
    if (lists_.HasCachedChild(oldest)) {
      lists_.SetAside(oldest, oldest_list);
      continue;
    }
    ghosts_.Put(group_.key(oldest),
                {.tag = 0, .epoch = clock_.now(), .page_class = 0, .uses = At(oldest).uses},
                clock_.now());
    lists_.Remove(oldest);
    return oldest;
  }
}

int64_t FrequencyReclaimer::bytes() const {
  return lists_.bytes() + ghosts_.bytes() + static_cast<int64_t>(uses_.bytes());
}

}  // namespace quire
