#include "lib/reclaimer_simple.h"

#include "lib/check.h"

namespace quire {

PageId LruReclaimer::Take() {
  QUIRE_CHECK(lists_.size() > 0, "no page is cached");
  const PageId victim = lists_.Oldest(0);
  lists_.Remove(victim);
  if (lists_.size() > 0) lists_.Prefetch(lists_.Oldest(0));  // most likely the next victim
  return victim;
}

PageId FifoReclaimer::Take() {
  QUIRE_CHECK(size() > 0, "no page is cached");
  while (true) {
    if (const PageId victim = queues_.TakePassed(); victim != kNoPage) return victim;
    queues_.Pass(queues_.Oldest(0));
  }
}

}  // namespace quire
