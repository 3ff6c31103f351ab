// The default policy: the page whose expected hits for each unit of memory and time are fewest goes
// first, as learned from the pages before it. docs/policies.md explains and measures it.
//
// What tells pages apart is what any manager knows of them: how often the page was used, evicted
// and back included; whether it ended its request; how much of its request was new, for a short new
// question in a long context comes from a conversation that goes on; and whether anything was
// known.
//
// Cost: O(1) a page but for the choice of a list, O(classes) once for a run of pages, and what
// ReuseModel says. 8 bytes of memory a page beyond the lists, 8 bytes for each ghost.

#ifndef QUIRE_LIB_RECLAIMER_LEARNED_H_
#define QUIRE_LIB_RECLAIMER_LEARNED_H_

#include <cstdint>
#include <string>

#include "lib/ghosts.h"
#include "lib/huge_memory.h"
#include "lib/page_lists.h"
#include "lib/reclaimer.h"
#include "lib/reuse_model.h"

namespace quire {

class LearnedReclaimer final : public Reclaimer {
 public:
  LearnedReclaimer() : model_(kFamilies, kMembers) {}
  [[nodiscard]] bool Init(const ReclaimerGroup& group);

  void Insert(PageId page, const Release& release) override;
  void Revive(PageId page) override;
  void Erase(PageId page) override;
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

  // The class of a page with this many uses at such a release; for tests.
  static int32_t ClassOf(int32_t uses, const Release& release);

 private:
  // Families: the last page of its request, never used before (often filled in part, and then never
  // the same again); one use; two; three; more.
  static constexpr int32_t kFamilies = 5;
  // Members: the new part of the request in powers of two, up to 2^6 units or more, and whether the
  // request went on from something.
  static constexpr int32_t kNewParts = 8;
  static constexpr int32_t kMembers = 2 * kNewParts;

  // Four bytes, because there is one for every page. Epochs wrap after 2^13, 128 times the pool: a
  // page that nobody touched for so long looks young again, which costs a worse victim and no more.
  static constexpr uint32_t kEpochMask = (1 << 13) - 1;
  static constexpr uint32_t kMostOrder = (1 << 8) - 1;
  static constexpr uint32_t kMostUses = (1 << 4) - 1;
  struct Use {
    uint32_t epoch : 13;  // when it was last let go
    uint32_t order : 8;   // and when within that epoch
    uint32_t page_class : 7;
    uint32_t uses : 4;
  };
  static_assert(sizeof(Use) == 4 && kFamilies * kMembers <= 128);
  Use& At(PageId page) { return uses_[static_cast<size_t>(page)]; }
  static void CountUse(Use* use) {
    if (use->uses < kMostUses) ++use->uses;
  }
  uint16_t AgeOf(const Use& use) const {
    return static_cast<uint16_t>((model_.now() - use.epoch) & kEpochMask);
  }
  // The epoch in full, for the model.
  uint16_t EpochOf(const Use& use) const {
    return static_cast<uint16_t>(model_.now() - AgeOf(use));
  }
  // What the model gained and lost against least recently used order, both in hits, and the pages
  // asked for; all fade like what the model has seen.
  struct Account {
    float gained = 0;  // hits of pages that are older than what that order would keep
    float lost = 0;    // misses of pages that it would have kept
    float asked = 0;
  };
  int32_t Choose();
  double ValueOf(int32_t list, const Use& use) const {
    return pause_left_ > 0 ? 0 : model_.Value(list, AgeOf(use));
  }
  // How long it was not touched, finer than the model's ages: what is worth the same goes in the
  // order in which it was let go.
  uint32_t WaitOf(const Use& use) const {
    return AgeOf(use) * (kMostOrder + 1) + (kMostOrder - use.order);
  }
  uint64_t KeyOf(PageId page) const {
    return group_.index->key(group_.index->node_of(group_.group, page));
  }

  ReclaimerGroup group_;
  PageLists lists_;  // one for each class
  ReuseModel model_;
  Ghosts ghosts_;
  HugeArray<Use> uses_;  // [page]
  int32_t epoch_pages_ = 1;
  Account account_;
  int32_t kept_age_ = ReuseModel::kEpochs;  // what that order would keep is younger
  int32_t kept_pages_ = 0;                  // cached pages when one was last taken
  int32_t pause_left_ = 0;                  // epochs in which least recently used order chooses
  int32_t pause_ = 0;                       // how long that was the last time
  int32_t indexed_ = 0;                     // pages in this epoch
  int32_t released_ = 0;                    // pages let go in this epoch
  int32_t order_shift_ = 0;

  void Judge(uint16_t age, bool hit);
  void Settle();

  // The list that gives the next victim, as long as nothing has changed and its oldest page is
  // worth no more than the best of the other lists.
  int32_t chosen_ = -1;
  uint64_t chosen_at_ = 0;  // lists_.old_end_changes()
  double other_value_ = 0;
  uint32_t other_wait_ = 0;
};

}  // namespace quire

#endif  // QUIRE_LIB_RECLAIMER_LEARNED_H_
