// Plans: handing copies over, retiring them, and what a failed copy does to pages that others
// already share. What they say about scrubs is in cache_core_scrub.cc.

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include "lib/cache_core.h"
#include "lib/check.h"

namespace quire {

// Before a copy is planned: all that TakePlan and Retire need for it, which cannot answer that
// there is no memory. False if there is none.
bool CacheCore::SetPlanAside() {
  try {
    auto plan = std::make_unique<PlanRecord>();
    plan->records.reserve(pending_.capacity());
    plan->copies.reserve(pending_.capacity());
    plan->scrubs.reserve(scrubs_.capacity());
    const size_t plans = outstanding_.size() + 1;
    if (outstanding_.capacity() < plans) outstanding_.reserve(2 * plans);
    if (spare_plans_.capacity() < plans) spare_plans_.reserve(2 * plans);
    spare_plans_.push_back(std::move(plan));
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

Plan CacheCore::TakePlan() {
  ++step_;
  if (!retention_.empty()) BeginStep();
  if (pending_.empty() && scrubs_.empty()) return {};
  if (spare_plans_.empty()) {
    QUIRE_CHECK(pending_.empty(), "a copy was planned that no plan was set aside for");
    // Reserve sets one aside for pages that it hands out; these are free, and can wait.
    if (!SetPlanAside()) return {};
  }
  std::unique_ptr<PlanRecord> plan = std::move(spare_plans_.back());
  spare_plans_.pop_back();
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
  if (holds == 0 && g.allocator.refs(page) == 0) Park(group, page, {.held = true});
}

// The copy to that page that was not handed over yet, or nullptr; there is one at most.
const CacheCore::CopyRecord* CacheCore::PendingCopyTo(int32_t group, PageId page) const {
  const auto it = std::find_if(pending_.begin(), pending_.end(), [&](const CopyRecord& record) {
    return static_cast<int32_t>(record.copy.group) == group && record.copy.to_page == page;
  });
  return it == pending_.end() ? nullptr : &*it;
}

// The target has lost its last reference. If its copy was not handed over yet, forget it; once it
// was, a device may be writing, and the page stays held until Retire.
void CacheCore::CancelCopyTo(int32_t group, PageId page) {
  const CopyRecord* const found = PendingCopyTo(group, page);
  if (found == nullptr) return;
  const CopyRecord record = *found;
  pending_.erase(pending_.begin() + (found - pending_.data()));
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
// what its sequences wrote, is not known, and that went into copies of it, too. Allocates nothing,
// for nobody could be told.
void CacheCore::FailPlan(PlanRecord* plan) {
  // The plan and those after it, in the order in which they run.
  const size_t plans = outstanding_.size() + 2;
  const auto records_of = [&](size_t i) -> std::vector<CopyRecord>& {
    if (i == 0) return plan->records;
    return i + 1 < plans ? outstanding_[i - 1]->records : pending_;
  };
  // Copies of a bad page stand in later plans, for a plan's copies may run in any order.
  const auto fail = [&](const CopyRecord& record, size_t i) {
    FailTarget(record);
    for (size_t j = i + 1; j < plans; ++j) {
      for (CopyRecord& later : records_of(j)) {
        const bool follows =
            later.copy.group == record.copy.group && later.copy.from_page == record.copy.to_page;
        if (follows && later.state == CopyState::kGood) later.state = CopyState::kFailing;
      }
    }
  };
  for (CopyRecord& record : plan->records) {
    if (record.state == CopyState::kGood) record.state = CopyState::kFailing;
  }
  FailScrubs(*plan, [&fail](const CopyRecord& record) { fail(record, 0); });
  for (size_t i = 0; i < plans; ++i) {
    for (CopyRecord& record : records_of(i)) {
      if (record.state != CopyState::kFailing) continue;
      record.state = CopyState::kFailed;
      ++copies_failed_;
      fail(record, i);
    }
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

// `root` and everything below it can no longer be found, and no page keeps a key there. The nodes
// that sequences stand on stay as unindexed shells. Children first, so that the way back up is in
// the tree itself; the nodes on it are pinned.
void CacheCore::UnindexSubtree(NodeId root) {
  NodeId node = root;
  index_.Pin(node);
  while (true) {
    if (const NodeId child = index_.newest_child(node); child != kNoNode) {
      node = child;
      index_.Pin(node);
      continue;
    }
    const NodeId parent = index_.parent(node);
    index_.Unindex(node);
    DetachAllPages(node);
    index_.Unpin(node);
    if (node == root) return;
    node = parent;
  }
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
