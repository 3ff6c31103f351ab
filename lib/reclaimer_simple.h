// The policies without a model: what the default is compared with.

#ifndef QUIRE_LIB_RECLAIMER_SIMPLE_H_
#define QUIRE_LIB_RECLAIMER_SIMPLE_H_

#include <cstdint>
#include <string>

#include "lib/page_lists.h"
#include "lib/reclaimer.h"

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

}  // namespace quire

#endif  // QUIRE_LIB_RECLAIMER_SIMPLE_H_
