// ReclaimerQueues: first in, first out, for the policies that are built of that.
//
// A page enters a queue when it gets its key and keeps its place there, cached or live: a hit does
// not move it. A policy decides at the old end: move the page to another queue, or let it pass. A
// page that has passed has no place any more. It goes before all that wait in a queue: at once if
// it may, else when its last cached child has gone, or when the sequences that hold it let go.
//
// A page leaves the old end of a queue once for each time that it entered one, which keeps every
// call O(1) amortised.

#ifndef QUIRE_LIB_RECLAIMER_QUEUES_H_
#define QUIRE_LIB_RECLAIMER_QUEUES_H_

#include <array>
#include <cstdint>
#include <string>

#include "lib/huge_memory.h"
#include "lib/page_lists.h"
#include "lib/reclaimer.h"

namespace quire {

class ReclaimerQueues {
 public:
  // Lists of cached(): in a queue, passed, and one that is the policy's own.
  static constexpr int32_t kPlaced = 0;
  static constexpr int32_t kPassed = 1;
  static constexpr int32_t kOwn = 2;
  static constexpr int32_t kMaxQueues = 2;

  [[nodiscard]] bool Init(const ReclaimerGroup& group);

  // To the young end of `queue`, from wherever the page has a place.
  void Enter(PageId page, int32_t queue);
  bool HasPlace(PageId page) const { return order_.Contains(page); }
  PageId Oldest(int32_t queue) const { return order_.Oldest(queue); }
  // Pages with a place there, live ones too.
  int32_t count(int32_t queue) const { return counts_[static_cast<size_t>(queue)]; }
  // The page, Oldest() of a queue, gives up its place. Stops the process at kNoPage: a policy that
  // looks for a victim has then no page left that may leave, though some are cached.
  void Pass(PageId page);

  // The page becomes cached, in its place or among those that have passed.
  void Insert(PageId page) { cached_.PushYoungest(page, HasPlace(page) ? kPlaced : kPassed); }
  void Revive(PageId page) { cached_.Remove(page); }
  void Erase(PageId page);
  void Forget(PageId page) {
    if (HasPlace(page)) LeaveQueue(page);
  }
  // The first page that has passed and may leave, now out; kNoPage if there is none.
  PageId TakePassed() { return TakeOldest(kPassed); }
  // The same of a list of cached().
  PageId TakeOldest(int32_t list);

  PageLists& cached() { return cached_; }
  const PageLists& cached() const { return cached_; }
  void Prefetch(PageId page) const {
    cached_.Prefetch(page);
    order_.Prefetch(page);
  }
  int64_t bytes() const;
  std::string Fault() const;

 private:
  void LeaveQueue(PageId page);

  int32_t page_count_ = 0;
  PageLists order_;   // the queues
  PageLists cached_;  // the cached pages; counts children
  std::array<int32_t, kMaxQueues> counts_{};
  HugeArray<uint8_t> queue_;  // [page] where its place is, if it has one
};

}  // namespace quire

#endif  // QUIRE_LIB_RECLAIMER_QUEUES_H_
