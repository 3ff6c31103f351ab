#include "lib/new_reclaimer.h"

#include "lib/check.h"
#include "lib/reclaimer_learned.h"
#include "lib/reclaimer_simple.h"

namespace quire {

namespace {

template <typename Policy>
std::unique_ptr<Reclaimer> New(const ReclaimerGroup& group) {
  auto reclaimer = std::make_unique<Policy>();
  if (!reclaimer->Init(group)) return nullptr;
  return reclaimer;
}

}  // namespace

std::unique_ptr<Reclaimer> NewReclaimer(Reclaim policy, const ReclaimerGroup& group) {
  switch (policy) {
    case Reclaim::kLru:
      return New<LruReclaimer>(group);
    case Reclaim::kLearned:
      return New<LearnedReclaimer>(group);
  }
  QUIRE_CHECK(false, "unknown policy; Create refuses it");
}

}  // namespace quire
