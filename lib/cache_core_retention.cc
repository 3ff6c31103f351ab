// Retention: from the ranges of a request to what a page is worth when it is given back.

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/cache_core.h"
#include "lib/reclaimer_retaining.h"

namespace quire {

absl::Status CacheCore::CheckRetention(std::span<const Retention> retention) {
  for (size_t i = 0; i < retention.size(); ++i) {
    const Retention& entry = retention[i];
    const auto error = [i](const auto&... what) {
      return absl::InvalidArgumentError(absl::StrCat("StartOptions.retention[", i, "]", what...));
    };
    if (entry.begin < 0 || entry.end <= entry.begin) {
      return error(" is tokens [", entry.begin, ", ", entry.end,
                   "); begin must be at least 0 and end greater than begin");
    }
    if (entry.priority < 0 || entry.priority >= RetainingReclaimer::kPriorities) {
      return error(".priority is ", entry.priority, "; it must be 0 to ",
                   RetainingReclaimer::kPriorities - 1);
    }
    if (entry.lifetime_steps < 0) {
      return error(".lifetime_steps is ", entry.lifetime_steps,
                   "; it must be at least 0, where 0 is as long as the page is cached");
    }
  }
  return absl::OkStatus();
}

// Keeps the ranges of the sequence that `slot`, still free, will have. `made`: what the account's
// policies need to honour retention, at its first request that asks for it; else nothing. Nobody
// sees any of it before HonourRetention.
absl::Status CacheCore::PrepareRetention(int32_t account, int32_t slot,
                                         std::span<const Retention> retention,
                                         std::vector<std::unique_ptr<Reclaimer>>* made) {
  static_assert(RetainingReclaimer::kDefault == kDefaultPriority);
  if (retention_.empty()) retention_.resize(states_.size());
  KeepRetention(slot, retention);
  if (groups_[0].accounts[account].retains) return absl::OkStatus();
  for (int32_t g = 0; g < group_count(); ++g) {
    auto retaining = std::make_unique<RetainingReclaimer>();
    const bool ok = retaining->Init(ReclaimerGroupOf(g), step_);
    made->push_back(std::move(retaining));
    if (ok) continue;
    return absl::ResourceExhaustedError(absl::StrCat(
        "no memory for the retention of group ", g, "'s ", groups_[g].options.page_count,
        " pages; start without StartOptions.retention"));
  }
  return absl::OkStatus();
}

// From the account's first request that asks for it: all others pay nothing.
void CacheCore::HonourRetention(int32_t account, std::vector<std::unique_ptr<Reclaimer>> made) {
  for (int32_t g = 0; g < group_count(); ++g) {
    Account& payer = groups_[g].accounts[account];
    static_cast<RetainingReclaimer&>(*made[g]).Wrap(std::move(payer.cached));
    payer.cached = std::move(made[g]);
    if (groups_[g].sole != nullptr) groups_[g].sole = payer.cached.get();
    payer.retains = groups_[g].retains = groups_[g].counts_uses = true;
  }
}

void CacheCore::KeepRetention(int32_t slot, std::span<const Retention> retention) {
  SequenceRetention& kept = retention_[static_cast<size_t>(slot)];
  kept.ranges.assign(retention.begin(), retention.end());
  std::stable_sort(kept.ranges.begin(), kept.ranges.end(),
                   [](const Retention& a, const Retention& b) { return a.begin < b.begin; });
  kept.longest = 0;
}

// The highest priority of what the sequence has, or had before a Truncate, from the page on; and
// the latest end. What was truncated counts, for it may be cached below this page.
void CacheCore::AddRetention(const State& state, int32_t slot, int32_t group, int32_t logical,
                             Release* release) const {
  const SequenceRetention& kept = retention_[static_cast<size_t>(slot)];
  const int32_t begin = logical * groups_[group].options.tokens_per_page;
  const int32_t end = std::max({kept.longest, state.length, begin + 1});
  int32_t priority = 0;
  int64_t expiry = 0;
  int32_t covered = begin;  // up to here, by what was looked at
  bool gap = false;
  for (const Retention& entry : kept.ranges) {
    if (entry.begin >= end) break;
    if (entry.end <= begin) continue;
    gap = gap || entry.begin > covered;
    covered = std::max(covered, entry.end);
    priority = std::max(priority, entry.priority);
    if (entry.priority <= kDefaultPriority) continue;
    const bool ends =
        entry.lifetime_steps > 0 && entry.lifetime_steps < RetainingReclaimer::kForever - step_;
    expiry = std::max(expiry, ends ? step_ + entry.lifetime_steps : RetainingReclaimer::kForever);
  }
  if (gap || covered < end) priority = std::max(priority, kDefaultPriority);
  release->priority = static_cast<uint8_t>(priority);
  release->expiry = expiry;
}

// Before ReleasePage, where an account of the group retains: the reclaimer hears of every sequence
// that lets the page go, not of the last one alone.
void CacheCore::NoteRelease(const State& state, int32_t slot, int32_t group, int32_t logical,
                            Release* release) {
  const PageId page = Row(group, slot)[logical];
  if (!index_.keyed(group, page)) return;  // will be free, and what it was worth is long over
  release->priority = kDefaultPriority;
  release->expiry = 0;
  if (state.retains) AddRetention(state, slot, group, logical, release);
  Group& g = groups_[group];
  if (g.options.lookback_tokens != kAllTokens) {
    CachedOf(g, page).Note(page, *release);  // of use without the pages before it
    return;
  }
  Reclaimer::Worth& passed = retention_[static_cast<size_t>(slot)].passed[group];
  Raise(passed, release);
  passed = CachedOf(g, page).Note(page, *release);
}

// To at least that priority and expiry.
void CacheCore::Raise(const Reclaimer::Worth& least, Release* release) const {
  const bool over = least.priority > kDefaultPriority && least.expiry <= step_;
  const int32_t priority = over ? kDefaultPriority : least.priority;
  release->priority = std::max(release->priority, static_cast<uint8_t>(priority));
  if (priority > kDefaultPriority) release->expiry = std::max(release->expiry, least.expiry);
}

void CacheCore::BeginStep() {
  for (Group& g : groups_) {
    for (Account& account : g.accounts) {
      if (account.retains) account.cached->BeginStep(step_);
    }
  }
}

}  // namespace quire
