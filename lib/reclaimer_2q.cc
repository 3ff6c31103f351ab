#include "lib/reclaimer_2q.h"

#include "lib/check.h"

namespace quire {

bool TwoQueueReclaimer::Init(const ReclaimerGroup& group) {
  group_ = group;
  new_pages_ = group.page_count / 4;
  clock_ = GhostClock(group.page_count);
  return queues_.Init(group) && often_.Allocate(static_cast<size_t>(group.page_count)) &&
         ghosts_.Init(group.page_count / 2);
}

bool TwoQueueReclaimer::Indexed(PageId page) {
  clock_.Tick();
  const bool known = ghosts_.Take(group_.key(page)).uses > 0;
  often_[static_cast<size_t>(page)] = known;
  if (!known) queues_.Enter(page, kNew);
  return known;
}

void TwoQueueReclaimer::Insert(PageId page, const Release&) {
  if (often_[static_cast<size_t>(page)]) {
    queues_.cached().PushYoungest(page, kOften);
  } else {
    queues_.Insert(page);
  }
}

PageId TwoQueueReclaimer::Take() {
  QUIRE_CHECK(size() > 0, "no page is cached");
  while (true) {
    if (const PageId victim = queues_.TakePassed(); victim != kNoPage) {
      ghosts_.Put(group_.key(victim), {.tag = 0, .epoch = clock_.now(), .page_class = 0, .uses = 1},
                  clock_.now());
      return victim;
    }
    if (queues_.count(kNew) <= new_pages_) {
      if (const PageId victim = queues_.TakeOldest(kOften); victim != kNoPage) return victim;
    }
    // Too many new pages, or no other that may leave.
    queues_.Pass(queues_.Oldest(kNew));
  }
}

int64_t TwoQueueReclaimer::bytes() const {
  return queues_.bytes() + ghosts_.bytes() + static_cast<int64_t>(often_.bytes());
}

}  // namespace quire
