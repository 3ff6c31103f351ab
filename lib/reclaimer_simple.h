// The policies without a model: what the default is compared with.

#ifndef QUIRE_LIB_RECLAIMER_SIMPLE_H_
#define QUIRE_LIB_RECLAIMER_SIMPLE_H_

#include <cstdint>
#include <string>

#include "lib/page_lists.h"
#include "lib/reclaimer.h"
#include "lib/reclaimer_queues.h"

namespace quire {

// One list: a sequence lets its tail go before its head, so a page always stands behind its
// successors and nothing has to be counted.
class LruReclaimer final : public Reclaimer {
 public:
  [[nodiscard]] bool Init(const ReclaimerGroup& group) { return lists_.Init(group, 1, false); }

  void Insert(PageId page, const Release&) override { lists_.PushYoungest(page, 0); }
  void Revive(PageId page) override { lists_.Remove(page); }
  void Erase(PageId page) override { lists_.Remove(page); }
  PageId Take() override;
  void Prefetch(PageId page) const override { lists_.Prefetch(page); }
  bool Contains(PageId page) const override { return lists_.Contains(page); }
  int32_t size() const override { return lists_.size(); }
  int64_t bytes() const override { return lists_.bytes(); }
  std::string Fault() const override { return lists_.Fault(); }

 private:
  PageLists lists_;
};

// One queue: what got its key first goes first, and a hit changes nothing.
class FifoReclaimer final : public Reclaimer {
 public:
  [[nodiscard]] bool Init(const ReclaimerGroup& group) { return queues_.Init(group); }

  void Insert(PageId page, const Release&) override { queues_.Insert(page); }
  void Revive(PageId page) override { queues_.Revive(page); }
  void Erase(PageId page) override { queues_.Erase(page); }
  void Forget(PageId page) override { queues_.Forget(page); }
  PageId Take() override;
  bool counts_uses() const override { return true; }  // for Indexed()
  bool Indexed(PageId page) override {
    queues_.Enter(page, 0);
    return false;
  }
  void Prefetch(PageId page) const override { queues_.Prefetch(page); }
  bool Contains(PageId page) const override { return queues_.cached().Contains(page); }
  int32_t size() const override { return queues_.cached().size(); }
  int64_t bytes() const override { return queues_.bytes(); }
  std::string Fault() const override { return queues_.Fault(); }

 private:
  ReclaimerQueues queues_;
};

}  // namespace quire

#endif  // QUIRE_LIB_RECLAIMER_SIMPLE_H_
