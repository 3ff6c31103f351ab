// Options::scrub_released: which pages the device must zero, and what a failure to do so means.
//
// One rule: a page that becomes free is listed, once, and the next plan scrubs the list. Nobody
// need know why it became free, nor wait for the plan to end: whoever gets the page queues later.
// Hence a page may be handed out while it is listed, if its new owner takes the plan before it
// writes there (AwaitsScrub), or while the plan is outstanding.

#include <algorithm>
#include <functional>

#include "absl/strings/str_cat.h"
#include "lib/cache_core.h"
#include "lib/out_of_memory.h"

namespace quire {

absl::Status CacheCore::InitScrubs() {
  size_t pages = 0;
  for (Group& group : groups_) {
    const auto count = static_cast<size_t>(group.options.page_count);
    pages += count;
    if (!group.scrubs.Allocate(count)) {
      return absl::ResourceExhaustedError(absl::StrCat("no memory to note which of ", count,
                                                       " pages are scrubbed; lower page_count or "
                                                       "set scrub_released to false"));
    }
  }
  scrubs_.reserve(pages);
  if (!SetPlanAside()) return Bare(absl::StatusCode::kResourceExhausted);
  return absl::OkStatus();
}

void CacheCore::ListScrub(Group& g, PageId page) {
  ScrubMark& mark = g.scrubs[static_cast<size_t>(page)];
  if (mark.state == ScrubMark::kListed) return;
  mark.state = ScrubMark::kListed;
  const auto group = static_cast<int32_t>(&g - groups_.data());
  scrubs_.push_back({GroupId{group}, Tier::kDevice, page});
}

// The pages were just taken from the free ones.
void CacheCore::MarkUsed(Group& g, std::span<const PageId> pages) {
  for (const PageId page : pages) {
    ScrubMark& mark = g.scrubs[static_cast<size_t>(page)];
    if (mark.state == ScrubMark::kClean) mark.state = ScrubMark::kUsed;
  }
}

void CacheCore::TakeScrubs(PlanRecord* plan) {
  plan->scrubs.swap(scrubs_);
  for (const PageScrub& scrub : plan->scrubs) {
    Group& g = groups_[static_cast<size_t>(scrub.group)];
    ScrubMark& mark = g.scrubs[static_cast<size_t>(scrub.page)];
    mark.plan = static_cast<uint64_t>(plan->ticket);
    mark.state = g.allocator.refs(scrub.page) < 0 ? ScrubMark::kClean : ScrubMark::kUsed;
  }
}

// Would the next `count` tokens go to a page that a plan, taken later, scrubs after they were
// written?
bool CacheCore::AwaitsScrub(const State& state, int32_t slot, int32_t count) const {
  for (int32_t g = 0; g < group_count(); ++g) {
    const int32_t tokens_per_page = groups_[g].options.tokens_per_page;
    const int32_t end = static_cast<int32_t>(CeilDiv(state.length + count, tokens_per_page));
    for (int32_t p = state.length / tokens_per_page; p < end; ++p) {
      const auto page = static_cast<size_t>(Row(g, slot)[p]);
      if (groups_[g].scrubs[page].state == ScrubMark::kListed) return true;
    }
  }
  return false;
}

// Free pages are listed again. Those that somebody has now may hold what another left there, beside
// what was written since: they are given up like targets of a failed copy. Pages that a later plan
// scrubs, or that are listed, are that plan's affair.
void CacheCore::FailScrubs(const PlanRecord& plan,
                           const std::function<void(const CopyRecord&)>& fail) {
  const auto ticket = static_cast<uint64_t>(plan.ticket);
  const auto suspect = [&](int32_t group, PageId page) {
    const ScrubMark& mark = groups_[group].scrubs[static_cast<size_t>(page)];
    return mark.plan == ticket && mark.state == ScrubMark::kUsed;
  };
  const auto taint = [&](int32_t group, PageId page, int32_t page_start) {
    groups_[group].scrubs[static_cast<size_t>(page)].plan = 0;  // each page once
    CopyRecord record;
    record.copy = {.group = GroupId{group},
                   .from_tier = Tier::kDevice,
                   .to_tier = Tier::kDevice,
                   .from_page = kNoPage,
                   .to_page = page,
                   .token_count = 0};
    record.page_start = page_start;
    fail(record);
  };
  bool in_use = false;
  for (const PageScrub& scrub : plan.scrubs) {
    const auto group = static_cast<int32_t>(scrub.group);
    const ScrubMark& mark = groups_[group].scrubs[static_cast<size_t>(scrub.page)];
    in_use = in_use || suspect(group, scrub.page);
    if (mark.plan == ticket && mark.state == ScrubMark::kClean) {
      ListScrub(groups_[group], scrub.page);
    }
  }
  for (int32_t slot = 0; in_use && slot < options_.max_sequences; ++slot) {
    const State& state = states_[static_cast<size_t>(slot)];
    for (int32_t g = 0; state.alive && g < group_count(); ++g) {
      const PageId* row = Row(g, slot);
      for (int32_t p = state.extents[g].first_page; p < state.extents[g].page_count; ++p) {
        if (suspect(g, row[p])) taint(g, row[p], p * groups_[g].options.tokens_per_page);
      }
    }
  }
  // In no sequence any more: cached, or only held.
  for (const PageScrub& scrub : plan.scrubs) {
    const auto group = static_cast<int32_t>(scrub.group);
    if (!suspect(group, scrub.page)) continue;
    int32_t page_start = INT32_MAX;  // nobody stands on a page without a key
    if (index_.keyed(group, scrub.page)) {
      const int32_t depth = index_.depth(index_.node_of(group, scrub.page));
      page_start = (depth - groups_[group].units_per_page) * unit_;
    }
    taint(group, scrub.page, page_start);
  }
}

absl::Status CacheCore::ValidateScrubs(int32_t group) const {
  const Group& g = groups_[group];
  if (g.scrubs.size() == 0) return absl::OkStatus();
  const auto error = [group](PageId page, const char* what) {
    return absl::InternalError(
        absl::StrCat("group ", group, " page ", static_cast<int32_t>(page), what));
  };
  int64_t listed = 0;  // marks that say so, less entries
  int64_t taken = 0;
  const uint64_t oldest =
      outstanding_.empty() ? last_ticket_ + 1 : static_cast<uint64_t>(outstanding_.front()->ticket);
  for (int32_t p = 0; p < g.options.page_count; ++p) {
    const ScrubMark& mark = g.scrubs[static_cast<size_t>(p)];
    const bool free = g.allocator.refs(PageId{p}) < 0;
    listed += mark.state == ScrubMark::kListed ? 1 : 0;
    taken += mark.plan >= oldest ? 1 : 0;
    if (mark.plan > last_ticket_) return error(PageId{p}, " is scrubbed by a plan to come");
    if (free && mark.state == ScrubMark::kUsed) return error(PageId{p}, " is free, not scrubbed");
    if (!free && mark.state == ScrubMark::kClean) return error(PageId{p}, " is not known as used");
  }
  for (const PageScrub& scrub : scrubs_) {
    if (static_cast<int32_t>(scrub.group) != group) continue;
    --listed;
    if (g.scrubs[static_cast<size_t>(scrub.page)].state != ScrubMark::kListed) {
      return error(scrub.page, " is listed and does not know");
    }
  }
  for (const auto& plan : outstanding_) {
    for (const PageScrub& scrub : plan->scrubs) {
      if (static_cast<int32_t>(scrub.group) != group) continue;
      const ScrubMark& mark = g.scrubs[static_cast<size_t>(scrub.page)];
      taken -= mark.plan == static_cast<uint64_t>(plan->ticket) ? 1 : 0;
    }
  }
  if (listed != 0 || taken != 0) {
    return absl::InternalError(
        absl::StrCat("group ", group, ": pages and plans disagree on scrubs"));
  }
  for (int32_t slot = 0; slot < options_.max_sequences; ++slot) {
    const State& state = states_[static_cast<size_t>(slot)];
    const int32_t pages =
        state.alive ? static_cast<int32_t>(CeilDiv(state.length, g.options.tokens_per_page)) : 0;
    for (int32_t p = state.extents[group].first_page; p < pages; ++p) {
      const PageId page = Row(group, slot)[p];
      if (g.scrubs[static_cast<size_t>(page)].state != ScrubMark::kListed) continue;
      // The next plan scrubs it and then copies its tokens there.
      if (PendingCopyTo(group, page) != nullptr) continue;
      return error(page, " has tokens and is yet to be scrubbed");
    }
  }
  return absl::OkStatus();
}

}  // namespace quire
