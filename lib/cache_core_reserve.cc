// Reserve: from "how many tokens" to pages and copies. First the exact need, then the taking; the
// second half cannot fail.

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "lib/cache_core.h"
#include "lib/check.h"
#include "lib/out_of_memory.h"

namespace quire {

absl::Status CacheCore::ReserveAll(std::span<Sequence* const> sequences,
                                   std::span<const int32_t> counts) {
  QUIRE_CHECK(sequences.size() == counts.size(), "one count for each sequence");
  if (options_.strict_tenants) {
    if (absl::Status status = CheckOneTenant(sequences); !status.ok()) return status;
  }
  const uint64_t batch = ++last_batch_;
  takers_.clear();
  for (size_t i = 0; i < sequences.size(); ++i) {
    QUIRE_CHECK(sequences[i] != nullptr, "a sequence of the batch is null");
    State& state = StateOf(*sequences[i]);
    QUIRE_CHECK(state.batch != batch, "the same sequence twice in one batch");
    state.batch = batch;
    if (state.valid_length != kAllValid) return DataLoss(state);
    // The common step: the page at hand has room and is writable.
    if (counts[i] >= 0 && counts[i] <= state.capacity - state.length) continue;
    if (takers_.empty()) {
      shared_tails_.clear();
      overdue_ = false;
      std::fill(needs_.begin(), needs_.end(), Need());
    }
    takers_.push_back(static_cast<int32_t>(i));
    // Only its errors allocate: scratch was set aside by Create.
    if (absl::Status status =
            OrBare(absl::StatusCode::kInvalidArgument,
                   [&] { return AddNeed(state, sequences[i]->slot_, counts[i]); });
        !status.ok()) {
      return status;
    }
  }
  if (takers_.empty()) return absl::OkStatus();
  if (!shared_tails_.empty()) SubtractLastForks();
  for (int32_t g = 0; g < group_count(); ++g) {
    if (Fits(g)) continue;
    ++out_of_room_;
    return Bare(absl::StatusCode::kResourceExhausted);
  }
  if (spare_plans_.empty() && !SetPlanAside()) return Bare(absl::StatusCode::kResourceExhausted);
  for (size_t i = 0; overdue_ && i < takers_.size(); ++i) {
    const int32_t slot = sequences[takers_[i]]->slot_;
    ReleasePastWindow(states_[static_cast<size_t>(slot)], slot);
  }
  for (const int32_t i : takers_) TakePages(*sequences[i], counts[i]);
  return absl::OkStatus();
}

absl::Status CacheCore::AddNeed(const State& state, int32_t slot, int32_t count) {
  if (count < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot reserve ", count, " tokens; the count must be at least 0"));
  }
  const int64_t end = static_cast<int64_t>(state.length) + count;
  if (end > options_.max_sequence_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("the sequence would have ", end,
                                                   " tokens; max_sequence_tokens is ",
                                                   options_.max_sequence_tokens));
  }
  for (int32_t g = 0; g < group_count(); ++g) {
    const Extent& extent = state.extents[g];
    const int64_t pages = CeilDiv(end, groups_[g].options.tokens_per_page);
    // Pages kept back only because a copy is outstanding will leave: they make nothing impossible.
    const int32_t first_needed = FirstNeeded(g, state.length);
    const int64_t resident = pages - std::max(extent.first_page, first_needed);
    if (resident > groups_[g].accounts[state.account].limit) {
      return NeverFits(absl::StrCat("growing from ", state.length, " to ", end, " tokens"), g,
                       state.account, resident);
    }
    Need& need = NeedOf(g, state.account);
    need.pages += std::max<int64_t>(0, pages - extent.page_count);
    if (extent.first_page < first_needed) {
      overdue_ = true;
      need.pages -= Overdue(g, slot, extent.first_page, first_needed);
    }
    if (!TailMustBeCopied(g, state, slot)) continue;
    ++need.pages;
    const PageId tail = Row(g, slot)[state.length / groups_[g].options.tokens_per_page];
    if (!index_.keyed(g, tail)) {
      shared_tails_.emplace_back(g, tail);
    } else if (MayTakeOver(g, tail)) {
      ++need.avoidable;
    }
  }
  return absl::OkStatus();
}

// Pages [first, end) have left the window. How many of them may leave now and nobody else holds? A
// copy had them at the last Commit; to wait for the next one would be to wait for ever, if what it
// needs first are these pages. One that two of the batch hold is not counted, though both let it
// go: a batch may be told to wait that would fit, but one of them alone never is.
int32_t CacheCore::Overdue(int32_t group, int32_t slot, int32_t first, int32_t end) const {
  const Group& g = groups_[group];
  int32_t pages = 0;
  for (; first < end; ++first) {
    const PageId page = Row(group, slot)[first];
    if (g.holds[static_cast<size_t>(page)] > 0) break;
    pages += g.allocator.refs(page) == 1;
  }
  return pages;
}

// Forks copy a shared tail one after the other, and the last holder finds itself alone and writes
// in place. So where all holders of an unindexed tail are in the batch, one copy less is needed.
void CacheCore::SubtractLastForks() {
  std::sort(shared_tails_.begin(), shared_tails_.end());
  for (size_t i = 0; i < shared_tails_.size();) {
    size_t end = i;
    while (end < shared_tails_.size() && shared_tails_[end] == shared_tails_[i]) ++end;
    const auto [group, page] = shared_tails_[i];
    const Group& g = groups_[group];
    if (static_cast<int32_t>(end - i) == g.allocator.refs(page)) {
      --NeedOf(group, AccountOf(g, page)).pages;
    }
    i = end;
  }
}

bool CacheCore::Writable(int32_t group, PageId page) const {
  return groups_[group].allocator.refs(page) == 1 && !index_.keyed(group, page);
}

// May an indexed tail be taken out of the index and written in place? Not while an outstanding copy
// names it: if that fails, its key is what leads to those who built on it.
bool CacheCore::MayTakeOver(int32_t group, PageId page) const {
  const Group& g = groups_[group];
  return g.allocator.refs(page) == 1 && g.holds[static_cast<size_t>(page)] == 0;
}

bool CacheCore::TailMustBeCopied(int32_t group, const State& state, int32_t slot) const {
  const int32_t tokens_per_page = groups_[group].options.tokens_per_page;
  if (state.length % tokens_per_page == 0) return false;
  return !Writable(group, Row(group, slot)[state.length / tokens_per_page]);
}

absl::Status CacheCore::DataLoss(const State& state) const {
  return OrBare(absl::StatusCode::kDataLoss, [&] {
    return absl::DataLossError(
        absl::StrCat("a page copy or scrub this sequence depends on failed; its first ",
                     std::min(state.length, state.valid_length), " of ", state.length,
                     " tokens are good: Truncate to that or drop the sequence"));
  });
}

absl::Status CacheCore::NeverFits(const std::string& what, int32_t group, int32_t account,
                                  int64_t pages) const {
  return absl::InvalidArgumentError(absl::StrCat(what, " needs ", pages, " pages of group ", group,
                                                 " at one time; ", LimitOf(group, account),
                                                 ": it can never fit"));
}

void CacheCore::TakePages(const Sequence& sequence, int32_t count) {
  State& state = StateOf(sequence);
  const int32_t end = state.length + count;
  int32_t capacity = INT32_MAX;
  for (int32_t g = 0; g < group_count(); ++g) {
    const int32_t tokens_per_page = groups_[g].options.tokens_per_page;
    PageId* row = Row(g, sequence.slot_);
    Extent& extent = state.extents[g];
    if (TailMustBeCopied(g, state, sequence.slot_)) {
      PageId& tail = row[state.length / tokens_per_page];
      Need& need = NeedOf(g, state.account);
      if (need.avoid > 0 && index_.keyed(g, tail) && MayTakeOver(g, tail)) {
        // The pool has no page for the copy, and this sequence alone holds the page. Giving up one
        // cached page beats refusing a request that fits: a pool filled by one request would
        // otherwise wait for ever because of an accidental match.
        CachedOf(groups_[g], tail).Forget(tail);
        index_.Detach(g, tail);
        --need.avoid;
      } else {
        PlanCopy(g, sequence, &tail);
      }
    }
    const auto pages = static_cast<int32_t>(CeilDiv(end, tokens_per_page));
    if (pages > extent.page_count) {
      TakeFrom(g, state.account, {row + extent.page_count, row + pages});
      extent.page_count = pages;
    }
    const int64_t room = static_cast<int64_t>(extent.page_count) * tokens_per_page;
    capacity = static_cast<int32_t>(std::min<int64_t>(capacity, room));
  }
  state.capacity = std::min(capacity, options_.max_sequence_tokens);
}

// Free pages first, then cached ones in the reclaimer's order. REQUIRES that there are enough.
void CacheCore::TakeFrom(int32_t group, int32_t account, std::span<PageId> out) {
  Group& g = groups_[group];
  const auto count = static_cast<int32_t>(out.size());
  const bool quotas = g.account_of.size() > 0;
  if (quotas) {
    Charge(group, account, count);
  } else if (count > g.allocator.free_count()) {
    Evict(group, account, count - g.allocator.free_count());
  }
  const absl::Status status = g.allocator.Allocate(out);
  QUIRE_CHECK(status.ok(), "the need of a batch was computed wrongly");
  for (size_t i = 0; quotas && i < out.size(); ++i) {
    g.account_of[static_cast<size_t>(out[i])] = static_cast<uint8_t>(account);
  }
  if (g.scrubs.size() > 0) MarkUsed(g, out);
}

void CacheCore::Evict(int32_t group, int32_t account, int32_t count) {
  // In batches, stage by stage, so that the cache misses of one stage overlap. The reclaimer's
  // order is a chain that cannot be fetched ahead; so each victim is given up while the chain's
  // next link is on its way.
  constexpr int32_t kBatch = 32;
  std::array<std::array<PageId, kBatch>, 2> victims;
  Group& g = groups_[group];
  Reclaimer& cached = *g.accounts[account].cached;
  g.evictions += count;
  g.accounts[account].evictions += count;
  int32_t waiting = 0;  // victims of the batch at hand
  for (int turn = 0; count > 0 || waiting > 0; turn ^= 1) {
    const std::span<const PageId> batch(victims[turn].data(), static_cast<size_t>(waiting));
    for (const PageId page : batch) index_.PrefetchNode(index_.node_of(group, page));
    for (const PageId page : batch) index_.PrefetchSlot(index_.node_of(group, page));
    const int32_t next = std::min(count, kBatch);
    int32_t taken = 0;
    for (int32_t i = 0; i < std::max(waiting, next); ++i) {
      if (i < next) {
        const PageId page = cached.Take();
        index_.PrefetchKey(group, page);
        g.allocator.Prefetch(page);
        if (g.counts_uses && index_.next_duplicate(group, page) != page) {
          // At once: a policy spares a page with cached successors unless it has a duplicate, and
          // would take this one for the duplicate that stays.
          index_.Detach(group, page);
          FreePage(g, page);
        } else {
          victims[turn ^ 1][taken++] = page;
        }
      }
      if (i < waiting) {
        index_.Detach(group, batch[i]);
        FreePage(g, batch[i]);
      }
    }
    count -= next;
    waiting = taken;
  }
}

// Replaces *tail, which may not be written, by a page of the sequence's own and plans the copy.
void CacheCore::PlanCopy(int32_t group, const Sequence& sequence, PageId* tail) {
  Group& g = groups_[group];
  State& state = StateOf(sequence);
  const int32_t tokens_per_page = g.options.tokens_per_page;
  const int32_t page_start = state.length / tokens_per_page * tokens_per_page;
  const int32_t token_count = state.length - page_start;
  PageId source = *tail;
  if (g.held > 0 && g.holds[static_cast<size_t>(source)] > 0) {
    // The shared tail is itself the target of a copy of this very plan, whose copies may run in any
    // order: copy from where that one copies.
    if (const CopyRecord* const first = PendingCopyTo(group, source); first != nullptr) {
      QUIRE_CHECK(token_count <= first->copy.token_count,
                  "tokens were committed before the plan that copies their page was taken");
      source = first->copy.from_page;
    }
  }
  PageId target;
  TakeFrom(group, state.account, {&target, 1});
  pending_.push_back({.copy = {.group = GroupId{group},
                               .from_tier = Tier::kDevice,
                               .to_tier = Tier::kDevice,
                               .from_page = source,
                               .to_page = target,
                               .token_count = token_count},
                      .page_start = page_start,
                      .node = !uniform_ && state.write_cache ? state.tip : kNoNode});
  if (pending_.back().node != kNoNode) index_.Pin(pending_.back().node);
  Hold(group, source);
  Hold(group, target);
  ++g.copies;
  ++g.accounts[state.account].copies;
  Release release = ReleaseOf(state);
  if (g.retains) {
    NoteRelease(state, sequence.slot_, group, state.length / tokens_per_page, &release);
  }
  ReleasePage(group, std::exchange(*tail, target), release);
}

}  // namespace quire
