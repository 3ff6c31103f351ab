// Reclaimer: which cached page is given up when free pages run out.
//
// One per group. The core tells it when a page becomes cached and when it stops being so; it owns
// nothing but its order. Every cached page is in it, so a failure to allocate never evicts. The
// interface is what the next policies (frequency with memory of evicted keys, priorities, quotas)
// need to fit behind; they may only choose among pages whose successors are gone, which
// least-recently-used order gives by itself: a sequence gives back its tail before its head.

#ifndef QUIRE_LIB_RECLAIMER_H_
#define QUIRE_LIB_RECLAIMER_H_

#include <cstdint>
#include <memory>

#include "quire/options.h"
#include "quire/types.h"

namespace quire {

class Reclaimer {
 public:
  virtual ~Reclaimer() = default;

  virtual void Insert(PageId page) = 0;          // became cached. REQUIRES: not in here
  virtual void Erase(PageId page) = 0;           // hit, or lost its key. REQUIRES: in here
  virtual PageId Take() = 0;                     // the victim, erased. REQUIRES: size() > 0
  virtual void Prefetch(PageId page) const = 0;  // Insert or Erase will be called soon
  virtual bool Contains(PageId page) const = 0;  // for Validate
  virtual int32_t size() const = 0;
  virtual int64_t bytes() const = 0;
};

// nullptr if there is no memory. Every call of the policies here is O(1).
std::unique_ptr<Reclaimer> NewReclaimer(Reclaim policy, int32_t page_count);

}  // namespace quire

#endif  // QUIRE_LIB_RECLAIMER_H_
