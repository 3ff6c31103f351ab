// ReclaimerTree: a policy over a small real prefix index, so that a test can say which page stands
// below which, and drive it as the core does. Pages are plain numbers here; a unit is one token.

#ifndef QUIRE_TESTS_SUPPORT_RECLAIMER_TREE_H_
#define QUIRE_TESTS_SUPPORT_RECLAIMER_TREE_H_

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lib/new_reclaimer.h"
#include "lib/prefix_index.h"
#include "lib/reclaimer.h"

namespace quire::testing {

inline constexpr Reclaim kEveryPolicy[] = {
    Reclaim::kLru,    Reclaim::kFifo, Reclaim::kAgedFrequency,
    Reclaim::kS3Fifo, Reclaim::k2Q,   Reclaim::kLearned};

inline std::string PolicyNameOf(Reclaim policy) {
  switch (policy) {
    case Reclaim::kLru:
      return "Lru";
    case Reclaim::kFifo:
      return "Fifo";
    case Reclaim::kAgedFrequency:
      return "AgedFrequency";
    case Reclaim::kS3Fifo:
      return "S3Fifo";
    case Reclaim::k2Q:
      return "TwoQueue";
    case Reclaim::kLearned:
      return "Learned";
  }
  return "Unknown";
}

inline std::string PolicyOfTest(const ::testing::TestParamInfo<Reclaim>& info) {
  return PolicyNameOf(info.param);
}

class ReclaimerTree {
 public:
  static constexpr int kRoot = -1;

  ReclaimerTree(Reclaim policy, int32_t page_count, bool closed = true)
      : refs_(static_cast<size_t>(page_count), 0) {
    const IndexGroup group = {page_count, 1};
    // Twice the nodes: without closedness some have no page.
    if (!index_.Init(1, {&group, 1}, 2 * page_count, 1, 0).ok()) std::abort();
    policy_ = NewReclaimer(
        policy, {.index = &index_, .group = 0, .page_count = page_count, .closed = closed});
    if (policy_ == nullptr) std::abort();
  }

  Reclaimer& policy() { return *policy_; }
  const PrefixIndex& index() const { return index_; }
  int32_t page_count() const { return static_cast<int32_t>(refs_.size()); }
  NodeId node_of(int page) const { return index_.node_of(0, PageId{page}); }
  bool keyed(int page) const { return index_.keyed(0, PageId{page}); }
  bool live(int page) const { return refs_[static_cast<size_t>(page)] > 0; }
  bool cached(int page) const { return keyed(page) && !live(page); }

  // The page below `parent` (a page with a key, or kRoot) with this token, or kRoot.
  int Find(int parent, TokenId token) const {
    const NodeId node = index_.FindChild(NodeOrRoot(parent), KeyBelow(parent, token), &token);
    if (node == kNoNode || index_.page(node, 0) == kNoPage) return kRoot;
    return static_cast<int>(index_.page(node, 0));
  }

  // A free page is written and gets its key, held once. Was it remembered?
  bool Index(int page, int parent, TokenId token) {
    const NodeId node = index_.Insert(NodeOrRoot(parent), KeyBelow(parent, token), &token);
    if (node == kNoNode) std::abort();
    index_.Attach(node, 0, PageId{page});
    ++refs_[static_cast<size_t>(page)];
    return policy_->counts_uses() && policy_->Indexed(PageId{page});
  }
  void Hit(int page) {
    if (refs_[static_cast<size_t>(page)]++ == 0) {
      policy_->Revive(PageId{page});
    } else if (policy_->counts_uses()) {
      policy_->HitLive(PageId{page});
    }
  }
  void Release(int page, const quire::Release& release = {}) {
    if (--refs_[static_cast<size_t>(page)] == 0 && keyed(page)) {
      policy_->Insert(PageId{page}, release);
    }
  }
  // The page loses its key: a cached one is free, a live one goes on without it.
  void LoseKey(int page) {
    if (cached(page)) {
      policy_->Erase(PageId{page});
    } else {
      policy_->Forget(PageId{page});
    }
    index_.Detach(0, PageId{page});
  }
  int Take() {
    const PageId victim = policy_->Take();
    index_.Detach(0, victim);
    return static_cast<int>(victim);
  }

  bool HasCachedChild(int page) const {
    for (int p = 0; p < page_count(); ++p) {
      if (cached(p) && index_.parent(node_of(p)) == node_of(page)) return true;
    }
    return false;
  }

  // --- For the short cases ---
  // A page of its own: below the root, with a token that no other page number gives.
  bool Index(int page) { return Index(page, kRoot, page); }
  // The same, and let go at once, each in turn.
  void Cache(const std::vector<int>& pages) {
    for (const int page : pages) {
      Index(page);
      Release(page);
    }
  }
  void HitAndRelease(int page) {
    Hit(page);
    Release(page);
  }
  // Everything that is cached, in the order in which it is given up.
  std::vector<int> TakeAll() {
    std::vector<int> order;
    while (policy_->size() > 0) order.push_back(Take());
    return order;
  }

 private:
  NodeId NodeOrRoot(int parent) const { return parent == kRoot ? kDefaultRoot : node_of(parent); }
  uint64_t KeyBelow(int parent, TokenId token) const {
    uint64_t key = 0;
    index_.HashUnits(index_.key(NodeOrRoot(parent)), &token, 1, &key);
    return key;
  }

  PrefixIndex index_;
  std::unique_ptr<Reclaimer> policy_;
  std::vector<int32_t> refs_;  // [page]
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_RECLAIMER_TREE_H_
