// The plain data at the waist of the design, half two: what a device owes the manager.
//
// The host decides, the device obeys: copy-on-write, the reuse of a partly matching page and
// (later) moves between tiers are all PageCopy entries, so a device needs one verb. Zeroing what
// was given back (Options::scrub_released) travels in the same plan.

#ifndef QUIRE_PLAN_H_
#define QUIRE_PLAN_H_

#include <cstdint>
#include <span>

#include "quire/types.h"

namespace quire {

// Copy the first `token_count` tokens (all layers, K and V) of `from_page` to `to_page`. A device
// may copy more of the page, never less; what lies past token_count is unspecified.
struct PageCopy {
  GroupId group;
  Tier from_tier;
  Tier to_tier;
  PageId from_page;
  PageId to_page;
  int32_t token_count;
};

// Fill with zeros what a copy of the page would move: all of it, where pages have no gaps.
struct PageScrub {
  GroupId group;
  Tier tier;
  PageId page;
};

// What must be complete before the next kernel of the step reads or writes those pages: first all
// scrubs, then all copies. Within one plan no page is both source and target, or target twice, or
// scrubbed twice, and no source is scrubbed, so the scrubs may run in any order, and so may the
// copies; but a target may be scrubbed. Plans run in the order of their tickets. Sources and
// targets of a plan are not handed out again before it is retired; scrubbed pages may be handed out
// as soon as the plan was taken, since whatever uses them is queued later. The spans are owned by
// the KvCache and valid until Retire. An empty plan has ticket kNoTicket. More than 65535
// outstanding copies of one page are a CHECK: retire plans.
struct Plan {
  Ticket ticket = kNoTicket;
  std::span<const PageCopy> copies = {};
  std::span<const PageScrub> scrubs = {};
};

}  // namespace quire

#endif  // QUIRE_PLAN_H_
