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
constexpr int32_t kLeastEpochPages = 16;

}  // namespace

bool LearnedReclaimer::Init(const ReclaimerGroup& group) {
  group_ = group;
  epoch_pages_ = std::max(kLeastEpochPages, group.page_count / ReuseModel::kEpochsPerPool);
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
    indexed_ = 0;
    model_.Tick();
    chosen_ = -1;
  }
  const Ghost ghost = ghosts_.Take(KeyOf(page));
  const bool known = ghost.uses > 0 && model_.Age(ghost.epoch) < ReuseModel::kEpochs;
  Use& use = At(page);
  use = {.epoch = 0, .page_class = 0, .uses = known ? ghost.uses : uint8_t{0}};
  CountUse(&use);
  if (known) model_.Hit(ghost.page_class, ghost.epoch);
  return known;
}

void LearnedReclaimer::Insert(PageId page, const Release& release) {
  Use& use = At(page);
  use.page_class = static_cast<uint8_t>(ClassOf(use.uses, release));
  use.epoch = model_.now();
  model_.Enter(use.page_class);
  lists_.PushYoungest(page, use.page_class);
}

void LearnedReclaimer::Revive(PageId page) {
  Use& use = At(page);
  model_.Hit(use.page_class, use.epoch);
  CountUse(&use);
  lists_.Remove(page);
  chosen_ = -1;
}

void LearnedReclaimer::Erase(PageId page) {
  const Use& use = At(page);
  model_.Leave(use.page_class, use.epoch);
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
    const Ghost forgotten = ghosts_.Put(
        KeyOf(page), {.tag = 0, .epoch = use.epoch, .page_class = use.page_class, .uses = use.uses},
        model_.now());
    if (forgotten.uses > 0) model_.Leave(forgotten.page_class, forgotten.epoch);
    lists_.Remove(page);
    if (const PageId next = lists_.Oldest(list); next != kNoPage) Prefetch(next);
    return page;
  }
}

// The list whose oldest page is worth least; of equal ones, the one that waits longest.
int32_t LearnedReclaimer::Choose() {
  const auto before = [](double value, uint16_t age, double other, uint16_t other_age) {
    return value < other || (value == other && age > other_age);
  };
  if (chosen_ >= 0 && chosen_at_ == lists_.old_end_changes()) {
    const PageId page = lists_.Oldest(chosen_);
    if (page != kNoPage) {
      const uint16_t age = model_.Age(At(page).epoch);
      if (before(model_.Value(chosen_, age), age, other_value_, other_age_)) return chosen_;
    }
  }
  double value = std::numeric_limits<double>::infinity();
  uint16_t age = 0;
  other_value_ = value;
  other_age_ = 0;
  chosen_ = -1;
  for (int32_t list = 0; list < kFamilies * kMembers; ++list) {
    const PageId page = lists_.Oldest(list);
    if (page == kNoPage) continue;
    const uint16_t this_age = model_.Age(At(page).epoch);
    const double this_value = model_.Value(list, this_age);
    if (before(this_value, this_age, value, age)) {
      other_value_ = value;
      other_age_ = age;
      value = this_value;
      age = this_age;
      chosen_ = list;
    } else if (before(this_value, this_age, other_value_, other_age_)) {
      other_value_ = this_value;
      other_age_ = this_age;
    }
  }
  QUIRE_CHECK(chosen_ >= 0, "every cached page is set aside");
  chosen_at_ = lists_.old_end_changes();
  return chosen_;
}

int64_t LearnedReclaimer::bytes() const {
  return lists_.bytes() + model_.bytes() + ghosts_.bytes() + static_cast<int64_t>(uses_.bytes());
}

}  // namespace quire
