// Stats, and the laws that hold between any two calls.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "lib/cache_core.h"

namespace quire {

// Into what an earlier call has filled, without an allocation.
void CacheCore::FillStats(Stats* stats) const {
  stats->sequences = sequence_count_;
  stats->index_nodes = index_.node_count() - 1 - index_.root_count();
  stats->tokens_looked_up = tokens_looked_up_;
  stats->tokens_hit = tokens_hit_;
  stats->missed = missed_;
  stats->commits_not_indexed = commits_not_indexed_;
  stats->out_of_room = out_of_room_;
  stats->copies_failed = copies_failed_;
  stats->ghost_bytes = 0;
  stats->metadata_bytes =
      index_.bytes() + static_cast<int64_t>(states_.bytes() + tail_tokens_.bytes());
  stats->groups.resize(groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    GroupStats& out = stats->groups[g];
    out.pages_free = group.allocator.free_count();
    out.pages_cached = 0;
    for (const Account& account : group.accounts) {
      out.pages_cached += account.cached->size();
      stats->ghost_bytes += account.cached->ghost_bytes();
      stats->metadata_bytes += account.cached->bytes();
    }
    out.pages_live = group.options.page_count - out.pages_free - out.pages_cached;
    out.bytes_live = out.pages_live * group.options.page_bytes;
    out.evictions = group.evictions;
    out.copies = group.copies;
    if (!options_.quotas.empty()) FillTenants(group, &out.tenants);
    stats->metadata_bytes += static_cast<int64_t>(group.holds.bytes() + group.account_of.bytes()) +
                             static_cast<int64_t>(group.options.page_count) * 8 +
                             static_cast<int64_t>(group.scrubs.bytes());
  }
  // Each plan has room for every page: a plan's list and the next one's change places.
  const size_t lists = 1 + outstanding_.size() + spare_plans_.size();
  stats->metadata_bytes += static_cast<int64_t>(lists * scrubs_.capacity() * sizeof(PageScrub));
}

absl::Status CacheCore::Validate() const {
  std::vector<uint32_t> pins(index_.node_capacity(), 0);
  const auto count_pin = [&pins](const CopyRecord& record) {
    if (record.node != kNoNode) ++pins[static_cast<uint32_t>(record.node)];
  };
  std::for_each(pending_.begin(), pending_.end(), count_pin);
  for (const auto& plan : outstanding_) {
    std::for_each(plan->records.begin(), plan->records.end(), count_pin);
  }
  int32_t alive = 0;
  for (int32_t slot = 0; slot < options_.max_sequences; ++slot) {
    if (!states_[static_cast<size_t>(slot)].alive) continue;
    ++alive;
    if (absl::Status status = ValidateSequence(slot, &pins); !status.ok()) return status;
  }
  if (alive != sequence_count_ ||
      alive + static_cast<int32_t>(free_slots_.size()) != options_.max_sequences) {
    return absl::InternalError("sequence slots are lost or doubled");
  }
  for (int32_t g = 0; g < group_count(); ++g) {
    if (absl::Status status = ValidateGroup(g); !status.ok()) return status;
    if (absl::Status status = ValidateHolds(g); !status.ok()) return status;
    if (absl::Status status = ValidateAccounts(g); !status.ok()) return status;
    if (absl::Status status = ValidateScrubs(g); !status.ok()) return status;
  }
  return index_.Validate(pins);
}

absl::Status CacheCore::ValidateSequence(int32_t slot, std::vector<uint32_t>* pins) const {
  const State& state = states_[static_cast<size_t>(slot)];
  const auto error = [slot](const std::string& what) {
    return absl::InternalError(absl::StrCat("sequence in slot ", slot, ": ", what));
  };
  ++(*pins)[static_cast<uint32_t>(state.tip)];
  if (state.tip_units != index_.depth(state.tip)) return error("tip is at another depth");
  if (state.chain_whole && state.tip_units != state.length / unit_) {
    return error("claims an unbroken chain and has a gap");
  }
  if (state.length < 0 || state.length > state.capacity) return error("length past capacity");
  for (int32_t g = 0; g < group_count(); ++g) {
    const int64_t tokens_per_page = groups_[g].options.tokens_per_page;
    const Extent& extent = state.extents[g];
    const PageId* row = Row(g, slot);
    if (extent.first_page > extent.page_count) return error("more pages left than there were");
    if (extent.page_count * tokens_per_page < state.length) return error("tokens without a page");
    if (state.capacity > state.length && extent.page_count * tokens_per_page < state.capacity) {
      return error("capacity without a page");
    }
    for (int32_t p = 0; p < extent.page_count; ++p) {
      const auto page = static_cast<int32_t>(row[p]);
      const bool resident = p >= extent.first_page;
      if (resident != (page >= 0 && page < groups_[g].options.page_count)) {
        return error(absl::StrCat("group ", g, " slot ", p, " names page ", page));
      }
      const int64_t start = p * tokens_per_page;
      // What Reserve promised is writable: one reference, no key.
      if (resident && start + tokens_per_page > state.length && start < state.capacity &&
          state.capacity > state.length && !Writable(g, row[p])) {
        return error(absl::StrCat("may write page ", page, " of group ", g, ", which is shared"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CacheCore::ValidateGroup(int32_t g) const {
  const Group& group = groups_[g];
  const auto error = [g](const std::string& what) {
    return absl::InternalError(absl::StrCat("group ", g, ": ", what));
  };
  std::vector<int32_t> holders(static_cast<size_t>(group.options.page_count), 0);
  for (int32_t slot = 0; slot < options_.max_sequences; ++slot) {
    const State& state = states_[static_cast<size_t>(slot)];
    if (!state.alive) continue;
    const Extent& extent = state.extents[g];
    for (int32_t p = extent.first_page; p < extent.page_count; ++p) {
      ++holders[static_cast<size_t>(Row(g, slot)[p])];
    }
  }
  int32_t free = 0;
  int32_t cached = 0;
  for (int32_t p = 0; p < group.options.page_count; ++p) {
    const PageId page{p};
    const int32_t refs = group.allocator.refs(page);
    const bool keyed = index_.keyed(g, page);
    const bool held = group.holds[static_cast<size_t>(p)] > 0;
    if (std::max(refs, 0) != holders[static_cast<size_t>(p)]) {
      return error(absl::StrCat("page ", p, " has ", refs, " references and ",
                                holders[static_cast<size_t>(p)], " holders"));
    }
    free += refs < 0;
    if (refs < 0 && (keyed || held)) return error(absl::StrCat("free page ", p, " is in use"));
    const bool reclaimable = refs == 0 && !held;
    cached += reclaimable;
    if (reclaimable && !keyed) return error(absl::StrCat("page ", p, " is lost"));
    if (reclaimable != CachedOf(group, page).Contains(page)) {
      return error(absl::StrCat("page ", p, ": cached and reclaimable disagree"));
    }
  }
  for (const Account& account : group.accounts) {
    cached -= account.cached->size();
    if (const std::string fault = account.cached->Fault(); !fault.empty()) return error(fault);
  }
  if (free != group.allocator.free_count() || cached != 0) {
    return error("free + live + cached does not add up to the pool");
  }
  return absl::OkStatus();
}

absl::Status CacheCore::ValidateHolds(int32_t g) const {
  std::vector<int32_t> holds(static_cast<size_t>(groups_[g].options.page_count), 0);
  const auto count = [&](const CopyRecord& record) {
    if (static_cast<int32_t>(record.copy.group) != g) return;
    ++holds[static_cast<size_t>(record.copy.from_page)];
    ++holds[static_cast<size_t>(record.copy.to_page)];
  };
  std::for_each(pending_.begin(), pending_.end(), count);
  for (const auto& plan : outstanding_) {
    std::for_each(plan->records.begin(), plan->records.end(), count);
  }
  int32_t total = 0;
  for (size_t p = 0; p < holds.size(); ++p) {
    total += holds[p];
    if (holds[p] != groups_[g].holds[p]) {
      return absl::InternalError(absl::StrCat("group ", g, " page ", p, " counts ",
                                              groups_[g].holds[p], " holds and has ", holds[p]));
    }
  }
  if (total != groups_[g].held) return absl::InternalError("the sum of holds is wrong");
  return absl::OkStatus();
}

}  // namespace quire
