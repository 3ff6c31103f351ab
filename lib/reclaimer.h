// Reclaimer: which cached page is given up when free pages run out.
//
// One per group. The core tells it what happens to pages; it owns nothing but an order and what it
// remembers. Every cached page is in it and can be taken, so a failure to allocate never evicts.
//
// Prefix-closed: a page whose successor in the prefix tree is cached is never taken, because the
// successor could not be found without it. (Not so in groups with a window: there a page is of use
// without its predecessors.) Deterministic, and no clock: time is counted in pages indexed.
//
// docs/policies.md says what each policy does and how they compare.

#ifndef QUIRE_LIB_RECLAIMER_H_
#define QUIRE_LIB_RECLAIMER_H_

#include <cstdint>
#include <string>

#include "lib/prefix_index.h"
#include "quire/types.h"

namespace quire {

// What is known of a page when the last sequence that holds it lets go: about that sequence.
struct Release {
  int32_t new_units = 0;   // units that no earlier sequence had, as far as is remembered
  bool continues = false;  // more than one unit was known: it went on from something
  bool last = false;       // this is its last indexed page
  bool held = false;       // it let go some time ago, when a copy still needed the page; all else
                           // is unknown, and the page before this one may have gone since
  uint8_t priority = 50;   // see Retention in kv_cache.h
  int64_t expiry = 0;      // the step at which a priority above the default ends
};

class Reclaimer {
 public:
  virtual ~Reclaimer() = default;

  // --- States of a page: out, or cached ---
  virtual void Insert(PageId page, const Release& release) = 0;  // REQUIRES: out, and indexed
  virtual void Revive(PageId page) = 0;  // a prompt hit it: out again. REQUIRES: cached
  virtual void Erase(PageId page) = 0;   // it loses its key: out. REQUIRES: cached, still indexed
  // The victim, now out; if it has a duplicate it loses its key before the next call.
  virtual PageId Take() = 0;  // REQUIRES: size() > 0
  // It loses its key while it is out. Whoever gets a page must not meet what was known of it when
  // another had it: which page that is depends on all who use the pool.
  virtual void Forget(PageId) {}

  // --- What only some policies want to know ---
  // Asks for the two calls below; a policy that does not count uses is spared them.
  virtual bool counts_uses() const { return false; }
  // The page has got its key. True if a page with that key is remembered: it was here before.
  virtual bool Indexed(PageId) { return false; }
  virtual void HitLive(PageId) {}  // a prompt hit it while others held it

  // --- What only RetainingReclaimer wants to know ---
  // A sequence lets the page go, others may still hold it. Before Insert, if that follows. What the
  // page is worth from now on.
  struct Worth {
    uint8_t priority = 0;  // see Retention in kv_cache.h
    int64_t expiry = 0;    // the step at which a priority above the default ends
  };
  virtual Worth Note(PageId, const Release&) { return {}; }
  virtual void BeginStep(int64_t) {}  // the number of the step, in increasing order

  // --- Reading ---
  virtual void Prefetch(PageId page) const = 0;       // a change of its state comes soon
  virtual void PrefetchRemembered(uint64_t) const {}  // Indexed() of a page with that key
  virtual bool Contains(PageId page) const = 0;       // cached?
  virtual int32_t size() const = 0;
  virtual int64_t bytes() const = 0;                 // all of it
  virtual int64_t ghost_bytes() const { return 0; }  // of that, memory of pages given up

  // Is what it keeps for closedness right? "" or what is wrong. O(pages).
  virtual std::string Fault() const { return {}; }
};

// The group that a Reclaimer serves. `index` outlives it.
struct ReclaimerGroup {
  const PrefixIndex* index = nullptr;
  int32_t group = 0;
  int32_t page_count = 0;
  int32_t units_per_page = 1;
  bool closed = true;  // false: the group has a window

  // By which a page is remembered. REQUIRES: the page is indexed.
  uint64_t key(PageId page) const { return index->key(index->node_of(group, page)); }
};

}  // namespace quire

#endif  // QUIRE_LIB_RECLAIMER_H_
