// NewReclaimer: from Options::reclaim to the policy.

#ifndef QUIRE_LIB_NEW_RECLAIMER_H_
#define QUIRE_LIB_NEW_RECLAIMER_H_

#include <memory>

#include "lib/reclaimer.h"
#include "quire/options.h"

namespace quire {

// nullptr if there is no memory. REQUIRES: the index is initialised.
std::unique_ptr<Reclaimer> NewReclaimer(Reclaim policy, const ReclaimerGroup& group);

}  // namespace quire

#endif  // QUIRE_LIB_NEW_RECLAIMER_H_
