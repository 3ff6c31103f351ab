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

// The model chooses as long as it has not lost more hits against least recently used order than one
// in two thousand of the pages asked for, and a request's worth more, since the fate of one request
// is chance. What it decides is judged only when the page is asked for again, so it loses some more
// before that is seen. docs/policies.md says how much that was.
constexpr float kMayLose = 0.0005F;
constexpr float kSlack = 32;
constexpr float kFade = 0.9995F;  // each epoch, like what the model has seen
// Then that order takes over for as long as it takes to index twice the pool, and four times as
// long each time that the model has failed again: it goes on learning meanwhile.
constexpr int32_t kFirstPause = 2 * ReuseModel::kEpochsPerPool;
constexpr int32_t kLongestPause = 128 * ReuseModel::kEpochsPerPool;

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
    Settle();
  }
  const Ghost ghost = ghosts_.Take(KeyOf(page));
  const bool known = ghost.uses > 0 && model_.Age(ghost.epoch) < ReuseModel::kEpochs;
  Use& use = At(page);
  use = {};
  if (known) use.uses = std::min<uint32_t>(ghost.uses, kMostUses);
  CountUse(&use);
  account_.asked += 1;
  if (known) {
    Judge(model_.Age(ghost.epoch), false);
    model_.Hit(ghost.page_class, ghost.epoch);
  }
  return known;
}

// Would least recently used order have had the page? Its epoch may stand on the border: then nobody
// knows.
void LearnedReclaimer::Judge(uint16_t age, bool hit) {
  if (hit && age > kept_age_) account_.gained += 1;
  if (!hit && age < kept_age_) account_.lost += 1;
}

// Once an epoch: who chooses, the model or least recently used order?
void LearnedReclaimer::Settle() {
  if (kept_pages_ > 0) kept_age_ = model_.AgeOfLast(kept_pages_);
  account_.gained *= kFade;
  account_.lost *= kFade;
  account_.asked *= kFade;
  if (pause_left_ > 0) {
    if (--pause_left_ == 0) account_ = {};
  } else if (account_.lost - account_.gained > kSlack + kMayLose * account_.asked) {
    pause_ = pause_ == 0 ? kFirstPause : std::min(4 * pause_, kLongestPause);
    pause_left_ = pause_;
  }
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
  account_.asked += 1;
  Judge(AgeOf(use), true);
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
  kept_pages_ = lists_.size();
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
      if (before(ValueOf(chosen_, use), WaitOf(use), other_value_, other_wait_)) {
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
    const double this_value = ValueOf(list, use);
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
