#include "lib/reclaimer_learned.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "lib/check.h"

namespace quire {

namespace {

// Ghosts: as many as are followed (ReuseModel::kEpochs is eight times the pool), but at most 32 MiB
// of them or two for each page, whichever is more.
int64_t GhostCount(int32_t page_count) {
  constexpr int64_t kEnough = int64_t{1} << 22;
  const int64_t pages = page_count;
  return std::min(8 * pages, std::max(kEnough, 2 * pages));
}

// An epoch costs some thousands of additions: in the smallest pools it is longer.
constexpr int32_t kLeastEpochPages = 32;

}  // namespace

bool LearnedReclaimer::Init(const ReclaimerGroup& group) {
  group_ = group;
  epoch_pages_ = std::max(kLeastEpochPages, group.page_count / ReuseModel::kEpochsPerPool);
  while (epoch_pages_ >> order_shift_ > static_cast<int32_t>(kMostOrder) / 2) ++order_shift_;
  return lists_.Init(group, kFamilies * kMembers, group.closed) &&
         uses_.Allocate(static_cast<size_t>(group.page_count)) &&
         ghosts_.Init(GhostCount(group.page_count));
}

int32_t LearnedReclaimer::ClassOf(int32_t uses, const Release& release) {
  const int32_t family = release.last && uses <= 1 ? 0 : std::min(uses, kFamilies - 1);
  const auto part = static_cast<uint32_t>(std::max(1, release.new_units) - 1);
  const int32_t new_part = std::min<int32_t>(std::bit_width(part), kNewParts - 1);
  return family * kMembers + new_part * 2 + (release.continues ? 1 : 0);
}

bool LearnedReclaimer::Indexed(PageId page) {
  if (++indexed_ >= epoch_pages_) {
    indexed_ = released_ = 0;
    model_.Tick();
    chosen_ = -1;
  }
  const Ghost ghost = ghosts_.Take(KeyOf(page));
  const bool known = ghost.uses > 0 && model_.Age(ghost.epoch) < ReuseModel::kEpochs;
  Use& use = At(page);
  use = {};
  if (known) use.uses = std::min<uint32_t>(ghost.uses, kMostUses);
  CountUse(&use);
  if (known) model_.Hit(ghost.page_class, ghost.epoch);
  return known;
}

void LearnedReclaimer::Insert(PageId page, const Release& release) {
  Use& use = At(page);
  const int32_t page_class = ClassOf(static_cast<int32_t>(use.uses), release);
  use.page_class = static_cast<uint32_t>(page_class) & 127;
  use.epoch = model_.now() & kEpochMask;
  use.order = std::min(static_cast<uint32_t>(released_++ >> order_shift_), kMostOrder);
  model_.Enter(page_class);
  lists_.PushYoungest(page, page_class);
}

void LearnedReclaimer::Revive(PageId page) {
  Use& use = At(page);
  model_.Hit(static_cast<int32_t>(use.page_class), EpochOf(use));
  CountUse(&use);
  lists_.Remove(page);
  chosen_ = -1;
}

void LearnedReclaimer::Erase(PageId page) {
  const Use& use = At(page);
  model_.Leave(static_cast<int32_t>(use.page_class), EpochOf(use));
  lists_.Remove(page);
  chosen_ = -1;
}

PageId LearnedReclaimer::Take() {
  QUIRE_CHECK(lists_.size() > 0, "no page is cached");
  while (true) {
    const int32_t list = Choose();
    const PageId page = lists_.Oldest(list);
    if (lists_.HasCachedChild(page)) {
      lists_.SetAside(page, list);
      continue;
    }
    const Use& use = At(page);
    const Ghost forgotten = ghosts_.Put(KeyOf(page),
                                        {.tag = 0,
                                         .epoch = EpochOf(use),
                                         .page_class = static_cast<uint8_t>(use.page_class),
                                         .uses = static_cast<uint8_t>(use.uses)},
                                        model_.now());
    if (forgotten.uses > 0) model_.Leave(forgotten.page_class, forgotten.epoch);
    lists_.Remove(page);
    if (const PageId next = lists_.Oldest(list); next != kNoPage) Prefetch(next);
    return page;
  }
}

// The list whose oldest page is worth least; of equal ones, the one that waits longest.
int32_t LearnedReclaimer::Choose() {
  const auto before = [](double value, uint32_t wait, double other, uint32_t other_wait) {
    return value < other || (value == other && wait > other_wait);
  };
  // A page that came back to the chosen list itself is looked at like any other there.
  const uint64_t changes = lists_.old_end_changes() - chosen_at_;
  if (chosen_ >= 0 && (changes == 0 || (changes == 1 && lists_.last_changed() == chosen_))) {
    chosen_at_ += changes;
    const PageId page = lists_.Oldest(chosen_);
    if (page != kNoPage) {
      const Use& use = At(page);
      if (before(model_.Value(chosen_, AgeOf(use)), WaitOf(use), other_value_, other_wait_)) {
        return chosen_;
      }
    }
  }
  double value = std::numeric_limits<double>::infinity();
  uint32_t wait = 0;
  other_value_ = value;
  other_wait_ = 0;
  chosen_ = -1;
  lists_.ForEachList([&](int32_t list) {
    const Use& use = At(lists_.Oldest(list));
    const double this_value = model_.Value(list, AgeOf(use));
    const uint32_t this_wait = WaitOf(use);
    if (chosen_ < 0 || before(this_value, this_wait, value, wait)) {
      other_value_ = value;
      other_wait_ = wait;
      value = this_value;
      wait = this_wait;
      chosen_ = list;
    } else if (before(this_value, this_wait, other_value_, other_wait_)) {
      other_value_ = this_value;
      other_wait_ = this_wait;
    }
  });
  QUIRE_CHECK(chosen_ >= 0, "every cached page is set aside");
  chosen_at_ = lists_.old_end_changes();
  return chosen_;
}

int64_t LearnedReclaimer::bytes() const {
  return lists_.bytes() + model_.bytes() + ghosts_.bytes() + static_cast<int64_t>(uses_.bytes());
}

}  // namespace quire
