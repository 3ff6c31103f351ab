// S3-FIFO, after "FIFO queues are all you need for cache eviction" (Yang, Zhang, Qiu, Yue, Vinayak,
// SOSP 2023), for pages that form a tree.
//
// A new page enters a small queue, a tenth of the pool. What was hit when it comes to the old end
// there moves on to the main queue; what was not, leaves, and its key is remembered. A page with a
// remembered key enters the main queue at once. There each hit, up to three, buys one more round.
//
// Not as in the paper: one hit is enough to move on, because a page has at most one in each
// request; a page with a cached child leaves after it, by ReclaimerQueues.

#ifndef QUIRE_LIB_RECLAIMER_S3_FIFO_H_
#define QUIRE_LIB_RECLAIMER_S3_FIFO_H_

#include <cstdint>
#include <string>

#include "lib/ghosts.h"
#include "lib/huge_memory.h"
#include "lib/reclaimer.h"
#include "lib/reclaimer_queues.h"

namespace quire {

class S3FifoReclaimer final : public Reclaimer {
 public:
  [[nodiscard]] bool Init(const ReclaimerGroup& group);

  void Insert(PageId page, const Release&) override;
  void Revive(PageId page) override;
  void Erase(PageId page) override { queues_.Erase(page); }
  void Forget(PageId page) override { queues_.Forget(page); }
  PageId Take() override;

  bool counts_uses() const override { return true; }
  bool Indexed(PageId page) override;
  void HitLive(PageId page) override { CountHit(page); }

  void Prefetch(PageId page) const override { queues_.Prefetch(page); }
  void PrefetchRemembered(uint64_t key) const override { ghosts_.Prefetch(key); }
  bool Contains(PageId page) const override { return queues_.cached().Contains(page); }
  int32_t size() const override { return queues_.cached().size(); }
  int64_t bytes() const override;
  int64_t ghost_bytes() const override { return ghosts_.bytes(); }
  std::string Fault() const override { return queues_.Fault(); }

 private:
  static constexpr int32_t kSmall = 0;
  static constexpr int32_t kMain = 1;

  struct Use {
    uint8_t hits;  // up to 3, since the page came into its queue or went its last round
    uint8_t queue;
  };
  Use& At(PageId page) { return uses_[static_cast<size_t>(page)]; }
  void CountHit(PageId page);
  void Enter(PageId page, int32_t queue);

  ReclaimerGroup group_;
  int32_t small_pages_ = 1;
  ReclaimerQueues queues_;
  Ghosts ghosts_;
  HugeArray<Use> uses_;  // [page]
  GhostClock clock_;
};

}  // namespace quire

#endif  // QUIRE_LIB_RECLAIMER_S3_FIFO_H_
