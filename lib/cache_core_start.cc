// Start: the longest usable prefix, found and pinned in one step; and what can never fit.

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "lib/cache_core.h"

namespace quire {

MatchRules CacheCore::Rules() const {
  return {.unit = unit_,
          .aligned_units = aligned_units_,
          .min_copy_tokens = options_.min_copy_tokens,
          .groups = options_.groups};
}

absl::StatusOr<Sequence> CacheCore::Start(std::span<const TokenId> prompt, const Namespace& ns,
                                          const StartOptions& options) {
  if (prompt.empty()) {
    return absl::InvalidArgumentError("the prompt is empty; a sequence begins with one token");
  }
  if (absl::Status status = CheckRetention(options.retention); !status.ok()) return status;
  if (absl::Status status = CheckFits(static_cast<int64_t>(prompt.size()), 1, ns); !status.ok()) {
    return status;
  }
  if (free_slots_.empty()) return absl::Status(absl::StatusCode::kResourceExhausted, "");
  const int32_t payer = PayerOf(ns);
  if (!options.retention.empty()) {
    if (absl::Status status = PrepareRetention(payer); !status.ok()) return status;
  }

  NodeId root = kDefaultRoot;
  if (options_.prefix_caching && !ns.empty()) {
    const std::string name = ns.Encode();
    root = options.write_cache ? index_.InternRoot(name) : index_.FindRoot(name);
  }
  Sequence sequence = NewSequence();
  State& state = StateOf(sequence);
  const bool known = root != kNoNode;
  state.account = static_cast<uint8_t>(payer);
  if (!options.retention.empty()) KeepRetention(state, sequence.slot_, options.retention);
  state.tip = known ? root : kDefaultRoot;
  state.write_cache = options_.prefix_caching && options.write_cache && known;
  state.chain_whole = state.write_cache;
  index_.Pin(state.tip);

  if (!options.read_cache) return sequence;
  tokens_looked_up_ += static_cast<int64_t>(prompt.size());
  if (!options_.prefix_caching) {
    missed_.disabled += static_cast<int64_t>(prompt.size());
    return sequence;
  }
  if (!known) {
    missed_.last_token += 1;
    missed_.absent += static_cast<int64_t>(prompt.size()) - 1;
    return sequence;
  }
  std::array<PageId*, kMaxGroups> rows;
  for (int32_t g = 0; g < group_count(); ++g) rows[g] = Row(g, sequence.slot_);
  const MatchResult match =
      MatchPrefix(index_, Rules(), root, prompt, std::span(rows.data(), groups_.size()));
  PinMatch(state, sequence.slot_, match);
  const int32_t whole = match.tip_units * unit_;
  std::copy(prompt.begin() + whole, prompt.begin() + match.tokens, TailTokens(sequence.slot_));
  tokens_hit_ += match.tokens;
  missed_.last_token += match.missed.last_token;
  missed_.absent += match.missed.absent;
  missed_.page_gone += match.missed.page_gone;
  missed_.unaligned += match.missed.unaligned;
  return sequence;
}

void CacheCore::PinMatch(State& state, int32_t slot, const MatchResult& match) {
  MoveTip(state, match.tip, match.tip_units);
  state.known_units = match.tip_units;
  state.length = state.hit_tokens = state.capacity = match.tokens;
  for (int32_t g = 0; g < group_count(); ++g) {
    const GroupOptions& options = groups_[g].options;
    PageId* row = Row(g, slot);
    Extent& extent = state.extents[g];
    const int32_t full_pages = match.tokens / options.tokens_per_page;
    extent.first_page =
        std::max(0, match.tokens - options.lookback_tokens) / options.tokens_per_page;
    extent.page_count = full_pages;
    // Room for Truncate to go back, as far as it is still there.
    const int32_t wanted = FirstNeeded(g, match.tokens);
    while (extent.first_page > wanted && row[extent.first_page - 1] != kNoPage) {
      --extent.first_page;
    }
    std::fill(row, row + std::min(extent.first_page, full_pages), kNoPage);
    const int32_t ahead = groups_[g].ahead;
    for (int32_t p = extent.first_page; p < full_pages; ++p) {
      if (ahead > 0 && p + ahead < full_pages) PrefetchPage(g, row[p + ahead]);
      PinHit(g, row[p]);
    }
    if (match.partial && match.tail[g] != kNoPage) {
      row[full_pages] = match.tail[g];
      PinHit(g, row[full_pages]);
      ++extent.page_count;
    }
  }
}

int32_t CacheCore::MatchLength(std::span<const TokenId> prompt, const Namespace& ns) const {
  if (prompt.empty() || !options_.prefix_caching) return 0;
  const NodeId root = ns.empty() ? kDefaultRoot : index_.FindRoot(ns.Encode());
  if (root == kNoNode) return 0;
  return MatchPrefix(index_, Rules(), root, prompt, {}).tokens;
}

absl::Status CacheCore::CheckFits(int64_t total_tokens, int32_t step_tokens,
                                  const Namespace& ns) const {
  if (total_tokens < 1 || step_tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat("total_tokens is ", total_tokens,
                                                   " and step_tokens ", step_tokens,
                                                   "; both must be at least 1"));
  }
  if (total_tokens > options_.max_sequence_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("the request needs ", total_tokens,
                                                   " tokens; max_sequence_tokens is ",
                                                   options_.max_sequence_tokens));
  }
  const int32_t payer = PayerOf(ns);
  for (int32_t g = 0; g < group_count(); ++g) {
    const GroupOptions& group = groups_[g].options;
    const int32_t limit = groups_[g].accounts[payer].limit;
    int64_t peak = CeilDiv(total_tokens, group.tokens_per_page);
    if (group.lookback_tokens != kAllTokens && peak > limit) {
      // Pages that leave the window are given back, so the peak is that of one step. Which step is
      // the worst depends on how page borders fall; they repeat within tokens_per_page steps.
      const int64_t kept =
          static_cast<int64_t>(group.lookback_tokens) + options_.max_rollback_tokens;
      // Until something leaves the window the need only grows: those steps, of which a large window
      // has a billion, are not looked at one by one.
      const int64_t first = std::min(kept / step_tokens, (total_tokens - 1) / step_tokens);
      peak = 0;
      for (int64_t step = first; step <= first + group.tokens_per_page; ++step) {
        const int64_t length = std::min(step * step_tokens, total_tokens);
        const int64_t end = std::min(length + step_tokens, total_tokens);
        const int64_t resident = CeilDiv(end, group.tokens_per_page) -
                                 std::max<int64_t>(0, length - kept) / group.tokens_per_page;
        peak = std::max(peak, resident);
        if (end == total_tokens) break;
      }
    }
    if (peak > limit) return NeverFits("the request", g, payer, peak);
  }
  return absl::OkStatus();
}

}  // namespace quire
