// RetainingReclaimer: priorities and lifetimes around any policy (Retention in kv_cache.h). Pages
// of the default priority belong to the inner policy. The others stand here, in one list for each
// priority, each in the order of arrival. The list of the lowest priority gives first; the inner
// policy has the default's place among them.
//
// Prefix-closed, without counting children:
//   * The core notes, for each page that a sequence lets go, the highest priority and the latest
//     expiry of all that follows the page in that sequence, and of what the pages that the sequence
//     let go before it are worth by then: others may have raised those and hold a duplicate of this
//     one. Who holds a page holds its parent, and lets that go later. Both are kept as maxima until
//     they are over, so a parent has at least its children's priority and expiry. (But a page that
//     a copy needed when it was let go is cached later than its parent, and may outlive it.)
//   * A child in a lower list goes first. In the same list it arrived first, as in lib/reclaimer_
//     simple.h. Of pages whose lifetime ends at one step the deeper ones reach the inner policy
//     first, and of equally deep ones, who came first.
// What a page was before it got its key says nothing about what it holds now: Indexed forgets it.
//
// O(1) a page, O(log n) where a lifetime is limited; BeginStep also for each page whose lifetime
// ends. No allocation after Init.

#ifndef QUIRE_LIB_RECLAIMER_RETAINING_H_
#define QUIRE_LIB_RECLAIMER_RETAINING_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "lib/huge_memory.h"
#include "lib/page_lists.h"
#include "lib/reclaimer.h"

namespace quire {

class RetainingReclaimer final : public Reclaimer {
 public:
  static constexpr int32_t kPriorities = 101;
  static constexpr int32_t kDefault = 50;
  static constexpr int64_t kForever = INT64_MAX;

  // False if there is no memory. `step` is the number of the current step.
  [[nodiscard]] bool Init(const ReclaimerGroup& group, int64_t step);
  // Before anything else: the policy, with what is cached already.
  void Wrap(std::unique_ptr<Reclaimer> inner) { inner_ = std::move(inner); }

  void Insert(PageId page, const Release& release) override;
  void Revive(PageId page) override;
  void Erase(PageId page) override;
  PageId Take() override;
  void Forget(PageId page) override { inner_->Forget(page); }

  bool counts_uses() const override { return true; }
  bool Indexed(PageId page) override;
  void HitLive(PageId page) override { inner_->HitLive(page); }
  Worth Note(PageId page, const Release& release) override;
  void BeginStep(int64_t step) override;

  void Prefetch(PageId page) const override;
  void PrefetchRemembered(uint64_t key) const override { inner_->PrefetchRemembered(key); }
  bool Contains(PageId page) const override {
    return lists_.Contains(page) || inner_->Contains(page);
  }
  int32_t size() const override { return lists_.size() + inner_->size(); }
  int64_t bytes() const override;
  int64_t ghost_bytes() const override { return inner_->ghost_bytes(); }
  std::string Fault() const override;

 private:
  // What is known of a page while it is indexed, cached or not. All zero: the default.
  struct Kept {
    int64_t expiry;     // of a priority above the default
    uint64_t queued;    // how many had a limited lifetime before it
    int32_t new_units;  // of its last Release, for the inner policy
    bool continues;     //
    bool last;          //
    bool ordered;       // cached since its holder let it go, and so before its parent was
    int8_t over;        // priority - kDefault
  };
  static constexpr int32_t kNotQueued = 0;  // places count from 1

  Kept& At(PageId page) { return kept_[static_cast<size_t>(page)]; }
  const Kept& At(PageId page) const { return kept_[static_cast<size_t>(page)]; }
  int32_t PriorityOf(PageId page) const { return kDefault + At(page).over; }
  void EndIfOver(Kept* kept) const;
  std::string OrderFault(PageId page) const;
  void LeaveLists(PageId page);
  void KeepDuplicatesOf(PageId page);

  // The queue of lifetimes: a binary heap, its places numbered from 1.
  bool EndsBefore(PageId a, PageId b) const;
  void Queue(PageId page);
  void Unqueue(PageId page);
  void Place(int32_t place, PageId page);
  void MoveUp(int32_t place, PageId page);
  void MoveDown(int32_t place, PageId page);

  ReclaimerGroup group_;
  std::unique_ptr<Reclaimer> inner_;
  PageLists lists_;           // one for each priority; the default's stays empty
  HugeArray<Kept> kept_;      // [page]
  HugeArray<PageId> queue_;   // [place]; place 0 is not used
  HugeArray<int32_t> place_;  // [page] its place, or kNotQueued
  int32_t queued_ = 0;
  uint64_t ever_queued_ = 0;
  int64_t step_ = 0;
  // Every list below the default, and below the first of these, is empty; likewise those above it.
  int32_t low_ = kDefault;
  int32_t high_ = kPriorities;
};

}  // namespace quire

#endif  // QUIRE_LIB_RECLAIMER_RETAINING_H_
