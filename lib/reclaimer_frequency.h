// Aged frequency: a page's last use, and for each use before that, at most four, a fixed time more.
// Uses are remembered when a page is given up. What LearnedReclaimer learns stands here as one
// constant.

#ifndef QUIRE_LIB_RECLAIMER_FREQUENCY_H_
#define QUIRE_LIB_RECLAIMER_FREQUENCY_H_

#include <cstdint>
#include <string>

#include "lib/ghosts.h"
#include "lib/huge_memory.h"
#include "lib/page_lists.h"
#include "lib/reclaimer.h"

namespace quire {

class FrequencyReclaimer final : public Reclaimer {
 public:
  [[nodiscard]] bool Init(const ReclaimerGroup& group);

  void Insert(PageId page, const Release&) override;
  void Revive(PageId page) override;
  void Erase(PageId page) override { lists_.Remove(page); }
  PageId Take() override;

  bool counts_uses() const override { return true; }
  bool Indexed(PageId page) override;
  void HitLive(PageId page) override { CountUse(&At(page)); }

  void Prefetch(PageId page) const override {
    lists_.Prefetch(page);
    __builtin_prefetch(&uses_[static_cast<size_t>(page)], 1);
  }
  void PrefetchRemembered(uint64_t key) const override { ghosts_.Prefetch(key); }
  bool Contains(PageId page) const override { return lists_.Contains(page); }
  int32_t size() const override { return lists_.size(); }
  int64_t bytes() const override;
  int64_t ghost_bytes() const override { return ghosts_.bytes(); }
  std::string Fault() const override { return lists_.Fault(); }

 private:
  static constexpr int32_t kMostUses = 5;  // the last and four before

  struct Use {
    uint32_t released;  // pages indexed by then, modulo 2^32
    uint8_t uses;       // 1 to kMostUses
  };
  Use& At(PageId page) { return uses_[static_cast<size_t>(page)]; }
  static void CountUse(Use* use) {
    if (use->uses < kMostUses) ++use->uses;
  }

  ReclaimerGroup group_;
  int64_t worth_ = 1;  // of an earlier use, in pages indexed
  PageLists lists_;    // [uses - 1]
  Ghosts ghosts_;
  HugeArray<Use> uses_;  // [page]
  uint32_t indexed_ = 0;
  GhostClock clock_;
};

}  // namespace quire

#endif  // QUIRE_LIB_RECLAIMER_FREQUENCY_H_
