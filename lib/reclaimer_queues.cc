#include "lib/reclaimer_queues.h"

#include "absl/strings/str_cat.h"
#include "lib/check.h"

namespace quire {

bool ReclaimerQueues::Init(const ReclaimerGroup& group) {
  page_count_ = group.page_count;
  return order_.Init(group, kMaxQueues, false) && cached_.Init(group, kOwn + 1, group.closed) &&
         queue_.Allocate(static_cast<size_t>(group.page_count));
}

void ReclaimerQueues::LeaveQueue(PageId page) {
  order_.Remove(page);
  --counts_[queue_[static_cast<size_t>(page)]];
}

void ReclaimerQueues::Enter(PageId page, int32_t queue) {
  Forget(page);
  order_.PushYoungest(page, queue);
  queue_[static_cast<size_t>(page)] = static_cast<uint8_t>(queue);
  ++counts_[static_cast<size_t>(queue)];
}

void ReclaimerQueues::Pass(PageId page) {
  QUIRE_CHECK(page != kNoPage, "every cached page is set aside");
  LeaveQueue(page);
  if (cached_.Contains(page)) cached_.MoveToYoungest(page, kPassed);
}

void ReclaimerQueues::Erase(PageId page) {
  Forget(page);
  cached_.Remove(page);
}

PageId ReclaimerQueues::TakeOldest(int32_t list) {
  while (true) {
    const PageId page = cached_.Oldest(list);
    if (page == kNoPage) return kNoPage;
    if (cached_.HasCachedChild(page)) {
      cached_.SetAside(page, list);
      continue;
    }
    cached_.Remove(page);
    return page;
  }
}

int64_t ReclaimerQueues::bytes() const {
  return order_.bytes() + cached_.bytes() + static_cast<int64_t>(queue_.bytes());
}

std::string ReclaimerQueues::Fault() const {
  std::array<int32_t, kMaxQueues> counts{};
  for (int32_t p = 0; p < page_count_; ++p) {
    if (HasPlace(PageId{p})) ++counts[queue_[static_cast<size_t>(p)]];
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == counts_[i]) continue;
    return absl::StrCat("queue ", i, " has ", counts[i], " pages and counts ", counts_[i]);
  }
  return cached_.Fault();
}

}  // namespace quire
