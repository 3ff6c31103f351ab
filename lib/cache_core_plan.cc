// Plans: handing copies over, retiring them, and what a failed copy does to pages that others
// already share. What they say about scrubs is in cache_core_scrub.cc.

#include <algorithm>
#include <utility>

#include "lib/cache_core.h"
#include "lib/check.h"

namespace quire {

Plan CacheCore::TakePlan() {
  ++step_;
  if (!retention_.empty()) BeginStep();
  if (pending_.empty() && scrubs_.empty()) return {};
  std::unique_ptr<PlanRecord> plan;
  if (spare_plans_.empty()) {
    plan = std::make_unique<PlanRecord>();
    plan->records.reserve(pending_.capacity());
    plan->copies.reserve(pending_.capacity());
    plan->scrubs.reserve(scrubs_.capacity());
  } else {
    plan = std::move(spare_plans_.back());
    spare_plans_.pop_back();
  }
  plan->ticket = Ticket{++last_ticket_};
  plan->records.swap(pending_);
  for (const CopyRecord& record : plan->records) {
    plan->copies.push_back(record.copy);
  }
  if (!scrubs_.empty()) TakeScrubs(plan.get());
  const Plan result{plan->ticket, plan->copies, plan->scrubs};
  outstanding_.push_back(std::move(plan));
  return result;
}

void CacheCore::Retire(Ticket ticket, bool failed) {
  if (ticket == kNoTicket) return;
  QUIRE_CHECK(!outstanding_.empty() && outstanding_.front()->ticket == ticket,
              "tickets retire once each, in the order they were taken");
  std::unique_ptr<PlanRecord> plan = std::move(outstanding_.front());
  outstanding_.erase(outstanding_.begin());
  if (failed) FailPlan(plan.get());
  for (const CopyRecord& record : plan->records) {
    const auto group = static_cast<int32_t>(record.copy.group);
    if (record.node != kNoNode) index_.Unpin(record.node);
    Unhold(group, record.copy.from_page);
    Unhold(group, record.copy.to_page);
  }
  plan->records.clear();
  plan->copies.clear();
  plan->scrubs.clear();
  spare_plans_.push_back(std::move(plan));
}

void CacheCore::Hold(int32_t group, PageId page) {
  Group& g = groups_[group];
  uint16_t& holds = g.holds[static_cast<size_t>(page)];
  QUIRE_CHECK(holds < UINT16_MAX, "too many outstanding copies of one page: Retire plans");
  ++holds;
  ++g.held;
}

void CacheCore::Unhold(int32_t group, PageId page) {
  Group& g = groups_[group];
  uint16_t& holds = g.holds[static_cast<size_t>(page)];
  QUIRE_CHECK(holds > 0, "a page was released from a plan twice");
  --holds;
  --g.held;
  if (holds == 0 && g.allocator.refs(page) == 0) Park(group, page);
}

// The target has lost its last reference. If its copy was not handed over yet, forget it; once it
// was, a device may be writing, and the page stays held until Retire.
void CacheCore::CancelCopyTo(int32_t group, PageId page) {
  const auto it = std::find_if(pending_.begin(), pending_.end(), [&](const CopyRecord& record) {
    return static_cast<int32_t>(record.copy.group) == group && record.copy.to_page == page;
  });
  if (it == pending_.end()) return;
  const CopyRecord record = *it;
  pending_.erase(it);
  if (record.node != kNoNode) index_.Unpin(record.node);
  --groups_[group].copies;
  --groups_[group].accounts[AccountOf(groups_[group], page)].copies;
  // The caller parks the target itself.
  --groups_[group].holds[static_cast<size_t>(page)];
  --groups_[group].held;
  Unhold(group, record.copy.from_page);
}

// A copy failed: its target never holds what its key or its sequences say, and neither does
// anything computed on top of it or copied from it. A scrub failed: what is in the page, beside
// what its sequences wrote, is not known, and that went into copies of it, too.
void CacheCore::FailPlan(PlanRecord* plan) {
  std::vector<CopyRecord> tainted;
  const auto taint = [&tainted](CopyRecord& record) {
    if (!std::exchange(record.failed, true)) tainted.push_back(record);
  };
  std::for_each(plan->records.begin(), plan->records.end(), taint);
  if (!plan->scrubs.empty()) FailScrubs(*plan, &tainted);
  for (size_t i = 0; i < tainted.size(); ++i) {
    const CopyRecord record = tainted[i];
    copies_failed_ += record.copy.from_page == kNoPage ? 0 : 1;
    FailTarget(record);
    // Copies of the bad page, in plans that run after this one.
    const auto follow = [&](CopyRecord& later) {
      if (later.copy.group == record.copy.group && later.copy.from_page == record.copy.to_page) {
        taint(later);
      }
    };
    for (const auto& later_plan : outstanding_) {
      std::for_each(later_plan->records.begin(), later_plan->records.end(), follow);
    }
    std::for_each(pending_.begin(), pending_.end(), follow);
  }
}

void CacheCore::FailTarget(const CopyRecord& record) {
  const auto group = static_cast<int32_t>(record.copy.group);
  const PageId page = record.copy.to_page;
  const int32_t account = AccountOf(groups_[group], page);
  const NodeId node =
      uniform_ && index_.keyed(group, page) ? index_.node_of(group, page) : record.node;
  // Who is affected: holders of the page (it does not leave a window while it is held), and those
  // who hit what was computed on top of it, which they have as an ancestor. Holders also if all
  // their tokens stand before it: they may have written the next ones there.
  const int32_t logical = record.page_start / groups_[group].options.tokens_per_page;
  for (int32_t slot = 0; slot < options_.max_sequences; ++slot) {
    State& state = states_[static_cast<size_t>(slot)];
    if (!state.alive) continue;
    if (state.account != account) continue;  // shares nothing with it, but may stand on a root
    const Extent& extent = state.extents[group];
    const bool holds = logical >= extent.first_page && logical < extent.page_count &&
                       Row(group, slot)[logical] == page;
    const bool stands_on_it =
        state.length > record.page_start && node != kNoNode && IsBelow(state.tip, node);
    if (holds || stands_on_it) {
      state.valid_length = std::min(state.valid_length, record.page_start);
    }
  }
  // With one page size, whatever was indexed on top of the page hangs below the page's own node.
  // With several, smaller pages may have been indexed before the copied one was full, and nothing
  // names them: give up the account's index rather than trust one of them, and tell everyone who
  // goes on from where the owner stood (record.node).
  if (!uniform_) {
    UnindexEverything(account);
  } else if (node != kNoNode) {
    UnindexSubtree(node);
  }
}

// Is `node` `ancestor`, or below it? Also true of nodes that left the index.
bool CacheCore::IsBelow(NodeId node, NodeId ancestor) const {
  while (index_.depth(node) > index_.depth(ancestor)) node = index_.parent(node);
  return node == ancestor;
}

// `node` and everything below it can no longer be found, and no page keeps a key there. The nodes
// that sequences stand on stay as unindexed shells.
void CacheCore::UnindexSubtree(NodeId node) {
  subtree_.assign(1, node);
  for (size_t i = 0; i < subtree_.size(); ++i) {
    index_.Pin(subtree_[i]);
    for (NodeId child = index_.newest_child(subtree_[i]); child != kNoNode;
         child = index_.older_sibling(child)) {
      subtree_.push_back(child);
    }
  }
  for (const NodeId id : subtree_) {
    index_.Unindex(id);
    DetachAllPages(id);
  }
  for (size_t i = subtree_.size(); i-- > 0;) index_.Unpin(subtree_[i]);
}

void CacheCore::DetachAllPages(NodeId node) {
  for (int32_t g = 0; g < group_count(); ++g) {
    Group& group = groups_[g];
    for (PageId page = index_.page(node, g); page != kNoPage; page = index_.page(node, g)) {
      const bool cached =
          group.allocator.refs(page) == 0 && group.holds[static_cast<size_t>(page)] == 0;
      Reclaimer& reclaimer = CachedOf(group, page);  // told before: it may ask for the page's node
      cached ? reclaimer.Erase(page) : reclaimer.Forget(page);
      index_.Detach(g, page);
      if (cached) FreePage(group, page);
    }
  }
}

// All that the account has in the index, or all that anybody has.
void CacheCore::UnindexEverything(int32_t account) {
  const auto spared = [account](int32_t other) {
    return account != kAllAccounts && other != account;
  };
  for (int32_t g = 0; g < group_count(); ++g) {
    for (int32_t p = 0; p < groups_[g].options.page_count; ++p) {
      const PageId page{p};
      if (!index_.keyed(g, page) || spared(AccountOf(groups_[g], page))) continue;
      const NodeId node = index_.node_of(g, page);
      index_.Pin(node);
      index_.Unindex(node);
      DetachAllPages(node);
      index_.Unpin(node);
    }
  }
  // Nodes without a page, on which sequences stand or which lead to nodes that went.
  for (int32_t slot = 0; slot < options_.max_sequences; ++slot) {
    const State& state = states_[static_cast<size_t>(slot)];
    if (!state.alive || spared(state.account)) continue;
    for (NodeId node = state.tip; index_.parent(node) != kNoNode; node = index_.parent(node)) {
      index_.Unindex(node);
    }
  }
}

void CacheCore::ClearCached() {
  // A copy that fails later must still find who built on its target.
  const auto remember = [this](CopyRecord& record) {
    const auto group = static_cast<int32_t>(record.copy.group);
    if (record.node != kNoNode || !index_.keyed(group, record.copy.to_page)) return;
    record.node = index_.node_of(group, record.copy.to_page);
    index_.Pin(record.node);
  };
  for (const auto& plan : outstanding_) {
    std::for_each(plan->records.begin(), plan->records.end(), remember);
  }
  UnindexEverything(kAllAccounts);
  // What a sequence goes on to commit stands on tokens from before: no lookup may find that either.
  for (int32_t slot = 0; slot < options_.max_sequences; ++slot) {
    State& state = states_[static_cast<size_t>(slot)];
    if (!state.alive || state.length == 0) continue;
    state.write_cache = state.chain_whole = false;
  }
}

}  // namespace quire
