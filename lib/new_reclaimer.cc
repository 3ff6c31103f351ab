#include "lib/new_reclaimer.h"

#include "lib/check.h"
#include "lib/reclaimer_2q.h"
#include "lib/reclaimer_frequency.h"
#include "lib/reclaimer_learned.h"
#include "lib/reclaimer_s3_fifo.h"
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
    case Reclaim::kFifo:
      return New<FifoReclaimer>(group);
    case Reclaim::kAgedFrequency:
      return New<FrequencyReclaimer>(group);
    case Reclaim::kS3Fifo:
      return New<S3FifoReclaimer>(group);
    case Reclaim::k2Q:
      return New<TwoQueueReclaimer>(group);
    case Reclaim::kLearned:
      return New<LearnedReclaimer>(group);
  }
  QUIRE_CHECK(false, "unknown policy; Create refuses it");
}

}  // namespace quire
