// 2Q, after "2Q: A Low Overhead High Performance Buffer Management Replacement Algorithm" (Johnson,
// Shasha, VLDB 1994, the full version), for pages that form a tree.
//
// A new page enters a queue, a quarter of the pool ("A1in"), where hits change nothing: they are
// taken for one use. The keys of what leaves it are remembered, as many as half the pool ("A1out").
// A page with a remembered key was wanted again later: it is kept in order of last use ("Am").

#ifndef QUIRE_LIB_RECLAIMER_2Q_H_
#define QUIRE_LIB_RECLAIMER_2Q_H_

#include <cstdint>
#include <string>

#include "lib/ghosts.h"
#include "lib/huge_memory.h"
#include "lib/reclaimer.h"
#include "lib/reclaimer_queues.h"

namespace quire {

class TwoQueueReclaimer final : public Reclaimer {
 public:
  [[nodiscard]] bool Init(const ReclaimerGroup& group);

  void Insert(PageId page, const Release&) override;
  void Revive(PageId page) override { queues_.Revive(page); }
  void Erase(PageId page) override { queues_.Erase(page); }
  void Forget(PageId page) override { queues_.Forget(page); }
  PageId Take() override;

  bool counts_uses() const override { return true; }  // for Indexed()
  bool Indexed(PageId page) override;

  void Prefetch(PageId page) const override { queues_.Prefetch(page); }
  void PrefetchRemembered(uint64_t key) const override { ghosts_.Prefetch(key); }
  bool Contains(PageId page) const override { return queues_.cached().Contains(page); }
  int32_t size() const override { return queues_.cached().size(); }
  int64_t bytes() const override;
  int64_t ghost_bytes() const override { return ghosts_.bytes(); }
  std::string Fault() const override { return queues_.Fault(); }

 private:
  static constexpr int32_t kNew = 0;                        // "A1in"
  static constexpr int32_t kOften = ReclaimerQueues::kOwn;  // "Am"

  ReclaimerGroup group_;
  int32_t new_pages_ = 0;
  ReclaimerQueues queues_;
  Ghosts ghosts_;          // "A1out"
  HugeArray<bool> often_;  // [page]
  GhostClock clock_;
};

}  // namespace quire

#endif  // QUIRE_LIB_RECLAIMER_2Q_H_
