#include "lib/reclaimer_s3_fifo.h"

#include <algorithm>

#include "lib/check.h"

namespace quire {

namespace {

constexpr uint8_t kMostHits = 3;

}  // namespace

bool S3FifoReclaimer::Init(const ReclaimerGroup& group) {
  group_ = group;
  small_pages_ = std::max(1, group.page_count / 10);
  clock_ = GhostClock(group.page_count);
  return queues_.Init(group) && uses_.Allocate(static_cast<size_t>(group.page_count)) &&
         ghosts_.Init(group.page_count);
}

void S3FifoReclaimer::CountHit(PageId page) {
  Use& use = At(page);
  if (use.hits < kMostHits) ++use.hits;
}

void S3FifoReclaimer::Enter(PageId page, int32_t queue) {
  queues_.Enter(page, queue);
  At(page).queue = static_cast<uint8_t>(queue);
}

bool S3FifoReclaimer::Indexed(PageId page) {
  clock_.Tick();
  const bool known = ghosts_.Take(group_.key(page)).uses > 0;
  At(page).hits = 0;
  Enter(page, known ? kMain : kSmall);
  return known;
}

// A page that was hit after it had passed is still wanted: it goes where hits count.
void S3FifoReclaimer::Insert(PageId page, const Release&) {
  Use& use = At(page);
  if (!queues_.HasPlace(page) && use.hits > 0) {
    Enter(page, kMain);
    use.hits = 0;
  }
  queues_.Insert(page);
}

void S3FifoReclaimer::Revive(PageId page) {
  CountHit(page);
  queues_.Revive(page);
}

PageId S3FifoReclaimer::Take() {
  QUIRE_CHECK(size() > 0, "no page is cached");
  while (true) {
    if (const PageId victim = queues_.TakePassed(); victim != kNoPage) {
      if (At(victim).queue == kSmall) {
        ghosts_.Put(group_.key(victim),
                    {.tag = 0, .epoch = clock_.now(), .page_class = 0, .uses = 1}, clock_.now());
      }
      return victim;
    }
    const bool small = queues_.count(kSmall) >= small_pages_ || queues_.count(kMain) == 0;
    const PageId oldest = queues_.Oldest(small ? kSmall : kMain);
    if (oldest == kNoPage || At(oldest).hits == 0) {
      queues_.Pass(oldest);
      continue;
    }
    Use& use = At(oldest);
    use.hits = small ? uint8_t{0} : static_cast<uint8_t>(use.hits - 1);
    Enter(oldest, kMain);
  }
}

int64_t S3FifoReclaimer::bytes() const {
  return queues_.bytes() + ghosts_.bytes() + static_cast<int64_t>(uses_.bytes());
}

}  // namespace quire
