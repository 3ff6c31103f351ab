#include "lib/reclaimer.h"

#include "lib/check.h"
#include "lib/huge_memory.h"

namespace quire {

namespace {

// A doubly linked list through an array indexed by page: oldest first. The entry past the last page
// is the list's head, so that no link is ever a special case.
class LruReclaimer final : public Reclaimer {
 public:
  [[nodiscard]] bool Init(int32_t page_count) {
    head_ = page_count;
    if (!links_.Allocate(static_cast<size_t>(page_count) + 1)) return false;
    for (size_t i = 0; i < links_.size(); ++i) links_[i] = {kOut, kOut};
    links_[static_cast<size_t>(head_)] = {head_, head_};
    return true;
  }

  void Insert(PageId page) override {
    const auto i = static_cast<int32_t>(page);
    QUIRE_CHECK(At(i).next == kOut, "the page is cached already");
    Links& head = At(head_);
    At(i) = {head.prev, head_};
    At(head.prev).next = i;
    head.prev = i;
    ++size_;
  }

  void Erase(PageId page) override {
    Links& links = At(static_cast<int32_t>(page));
    QUIRE_CHECK(links.next != kOut, "the page is not cached");
    At(links.prev).next = links.next;
    At(links.next).prev = links.prev;
    links = {kOut, kOut};
    --size_;
  }

  PageId Take() override {
    QUIRE_CHECK(size_ > 0, "no page is cached");
    const PageId victim{At(head_).next};
    Erase(victim);
    __builtin_prefetch(&At(At(head_).next), 1);  // most likely the next victim
    return victim;
  }

  void Prefetch(PageId page) const override {
    __builtin_prefetch(links_.data() + static_cast<size_t>(page), 1);
  }

  bool Contains(PageId page) const override {
    return links_[static_cast<size_t>(page)].next != kOut;
  }
  int32_t size() const override { return size_; }
  int64_t bytes() const override { return static_cast<int64_t>(links_.bytes()); }

 private:
  static constexpr int32_t kOut = -1;
  struct Links {
    int32_t prev;
    int32_t next;
  };
  Links& At(int32_t i) { return links_[static_cast<size_t>(i)]; }

  HugeArray<Links> links_;
  int32_t head_ = 0;
  int32_t size_ = 0;
};

}  // namespace

std::unique_ptr<Reclaimer> NewReclaimer(Reclaim policy, int32_t page_count) {
  QUIRE_CHECK(policy == Reclaim::kLru, "unknown policy; Create refuses it");
  auto reclaimer = std::make_unique<LruReclaimer>();
  if (!reclaimer->Init(page_count)) return nullptr;
  return reclaimer;
}

}  // namespace quire
