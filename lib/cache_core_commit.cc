// Commit and Truncate: a sequence's tokens become certain, or are forgotten.

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "lib/cache_core.h"
#include "lib/check.h"
#include "lib/out_of_memory.h"

namespace quire {

absl::Status CacheCore::CommitAll(std::span<Sequence* const> sequences,
                                  std::span<const TokenId> tokens,
                                  std::span<const int32_t> counts) {
  QUIRE_CHECK(sequences.size() == counts.size(), "one count for each sequence");
  if (options_.strict_tenants) {
    if (absl::Status status = CheckOneTenant(sequences); !status.ok()) return status;
  }
  const uint64_t batch = ++last_batch_;
  int64_t total = 0;
  // Everything that can be refused is looked at before the first sequence changes.
  for (size_t i = 0; i < sequences.size(); ++i) {
    QUIRE_CHECK(sequences[i] != nullptr, "a sequence of the batch is null");
    State& state = StateOf(*sequences[i]);
    QUIRE_CHECK(state.batch != batch, "the same sequence twice in one batch");
    state.batch = batch;
    QUIRE_CHECK(counts[i] >= 0 && counts[i] <= state.capacity - state.length,
                "commit past capacity: Reserve first, and again after Fork or Truncate");
    QUIRE_CHECK(counts[i] == 0 || pending_.empty() || !AwaitsPlan(state, sequences[i]->slot_),
                "commit before TakePlan: a copy to this sequence's page was not handed over");
    QUIRE_CHECK(
        counts[i] == 0 || scrubs_.empty() || !AwaitsScrub(state, sequences[i]->slot_, counts[i]),
        "commit before TakePlan: a scrub of this sequence's page was not handed over");
    total += counts[i];
    if (state.valid_length != kAllValid) return DataLoss(state);
  }
  QUIRE_CHECK(total == static_cast<int64_t>(tokens.size()), "counts must add up to the tokens");
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto count = static_cast<size_t>(counts[i]);
    CommitOne(*sequences[i], tokens.first(count));
    tokens = tokens.subspan(count);
  }
  return absl::OkStatus();
}

// Is the page that the next token goes to the target of a copy that nobody was told to make?
bool CacheCore::AwaitsPlan(const State& state, int32_t slot) const {
  return std::any_of(pending_.begin(), pending_.end(), [&](const CopyRecord& record) {
    const auto g = static_cast<int32_t>(record.copy.group);
    const int32_t page = state.length / groups_[g].options.tokens_per_page;
    return page < state.extents[g].page_count && Row(g, slot)[page] == record.copy.to_page;
  });
}

void CacheCore::CommitOne(const Sequence& sequence, std::span<const TokenId> tokens) {
  State& state = states_[static_cast<size_t>(sequence.slot_)];
  if (state.chain_whole) IndexTokens(state, sequence.slot_, tokens);
  state.length += static_cast<int32_t>(tokens.size());
  // After indexing: a page that leaves the window in this very step is cached, not freed.
  ReleasePastWindow(state, sequence.slot_);
}

void CacheCore::IndexTokens(State& state, int32_t slot, std::span<const TokenId> tokens) {
  TokenId* tail = TailTokens(slot);
  int32_t units = state.tip_units;
  const int32_t offset = state.length - units * unit_;
  if (tokens.size() == 1 && offset + 1 < unit_) {
    tail[offset] = tokens[0];  // fifteen of sixteen decode steps
    return;
  }
  if (offset > 0) {
    const auto take = std::min(tokens.size(), static_cast<size_t>(unit_ - offset));
    std::copy_n(tokens.data(), take, tail + offset);
    tokens = tokens.subspan(take);
    if (offset + static_cast<int32_t>(take) < unit_) return;
    state.chain_whole = IndexUnits(state, slot, tail, units, 1);
    ++units;
  }
  const auto whole = static_cast<int32_t>(tokens.size()) / unit_;
  if (whole > 0 && state.chain_whole) {
    state.chain_whole = IndexUnits(state, slot, tokens.data(), units, whole);
  }
  const std::span<const TokenId> rest = tokens.subspan(static_cast<size_t>(whole) * unit_);
  std::copy(rest.begin(), rest.end(), tail);
}

// False if not all could be indexed: what follows cannot be found either, then.
bool CacheCore::IndexUnits(State& state, int32_t slot, const TokenId* tokens, int32_t first,
                           int32_t count) {
  // The cache misses of a batch overlap: keys, table slots, nodes to be used, keys of the pages.
  constexpr int32_t kBatch = 32;
  std::array<uint64_t, kBatch> keys;
  if (!index_.indexed(state.tip)) return false;
  for (; count > 0; count -= kBatch, first += kBatch) {
    const int32_t batch = std::min(count, kBatch);
    index_.HashUnits(index_.key(state.tip), tokens, batch, keys.data());
    index_.PrefetchInserts(batch);
    for (int32_t g = 0; g < group_count() && batch > 1; ++g) {
      const int32_t units_per_page = groups_[g].units_per_page;
      const PageId* row = Row(g, slot);
      for (int32_t p = first / units_per_page; p < (first + batch) / units_per_page; ++p) {
        index_.PrefetchKey(g, row[p]);
        if (!groups_[g].counts_uses) continue;
        groups_[g].accounts[state.account].cached->PrefetchRemembered(
            keys[(p + 1) * units_per_page - 1 - first]);
      }
    }
    for (int32_t i = 0; i < batch; ++i, tokens += unit_) {
      if (!IndexUnit(state, slot, tokens, keys[i], first + i + 1)) return false;
    }
  }
  return true;
}

bool CacheCore::IndexUnit(State& state, int32_t slot, const TokenId* tokens, uint64_t key,
                          int32_t units) {
  const NodeId node = index_.Insert(state.tip, key, tokens);
  if (node == kNoNode) {
    ++commits_not_indexed_;
    return false;
  }
  MoveTip(state, node, units);
  for (int32_t g = 0; g < group_count(); ++g) {
    const int32_t units_per_page = groups_[g].units_per_page;
    if (units_per_page > 1 && units % units_per_page != 0) continue;
    // If the same tokens are indexed already, this page joins them as the youngest duplicate.
    const PageId page = Row(g, slot)[units / units_per_page - 1];
    index_.Attach(node, g, page);
    if (groups_[g].counts_uses && CachedOf(groups_[g], page).Indexed(page) &&
        state.known_units >= units - units_per_page) {
      state.known_units = units;
    }
  }
  return true;
}

// The first logical page that a sequence of `length` tokens keeps, for what comes and for Truncate.
int32_t CacheCore::FirstNeeded(int32_t group, int32_t length) const {
  const GroupOptions& options = groups_[group].options;
  if (options.lookback_tokens == kAllTokens) return 0;
  const int64_t horizon =
      static_cast<int64_t>(length) - options.lookback_tokens - options_.max_rollback_tokens;
  return horizon <= 0 ? 0 : static_cast<int32_t>(horizon / options.tokens_per_page);
}

// Only this sequence's reference goes: others, and the index, may keep the page.
void CacheCore::ReleasePastWindow(State& state, int32_t slot) {
  for (int32_t g = 0; g < group_count(); ++g) {
    const int32_t first = FirstNeeded(g, state.length);
    Extent& extent = state.extents[g];
    for (; extent.first_page < first; ++extent.first_page) {
      PageId& page = Row(g, slot)[extent.first_page];
      // A page that an outstanding copy names stays until Retire has said whether its contents, and
      // so ours, are good. The next Reserve that takes pages, or Commit, releases it.
      if (groups_[g].held > 0 && groups_[g].holds[static_cast<size_t>(page)] > 0) break;
      Release release = ReleaseOf(state);
      if (groups_[g].retains) NoteRelease(state, slot, g, extent.first_page, &release);
      ReleasePage(g, std::exchange(page, kNoPage), release);
    }
  }
}

absl::Status CacheCore::Truncate(const Sequence& sequence, int32_t length) {
  State& state = StateOf(sequence);
  if (length < 0 || length > state.length) {
    return OrBare(absl::StatusCode::kInvalidArgument, [&] {
      return absl::InvalidArgumentError(absl::StrCat(
          "cannot truncate to ", length, " tokens; it must be 0 to length(), ", state.length));
    });
  }
  for (int32_t g = 0; g < group_count(); ++g) {
    const GroupOptions& options = groups_[g].options;
    // The next token may begin a page and look at no other; then nothing is needed.
    const bool fresh =
        length % options.tokens_per_page == 0 && (length == 0 || options.lookback_tokens == 0);
    const int32_t needed =
        fresh ? INT32_MAX : std::max(0, length - options.lookback_tokens) / options.tokens_per_page;
    if (state.extents[g].first_page > needed) {
      return OrBare(absl::StatusCode::kFailedPrecondition, [&] {
        return absl::FailedPreconditionError(absl::StrCat(
            "cannot truncate from ", state.length, " to ", length, " tokens: group ", g,
            " has given back pages that position needs; raise Options.max_rollback_tokens"));
      });
    }
  }
  for (int32_t g = 0; g < group_count(); ++g) {
    const int32_t tokens_per_page = groups_[g].options.tokens_per_page;
    const auto keep = static_cast<int32_t>((static_cast<int64_t>(length) + tokens_per_page - 1) /
                                           tokens_per_page);
    Extent& extent = state.extents[g];
    const PageId* row = Row(g, sequence.slot_);
    for (int32_t p = extent.page_count - 1; p >= std::max(keep, extent.first_page); --p) {
      Release release = ReleaseOf(state);
      if (groups_[g].retains) NoteRelease(state, sequence.slot_, g, p, &release);
      ReleasePage(g, row[p], release);
    }
    extent.page_count = std::min(extent.page_count, keep);
    extent.first_page = std::min(extent.first_page, extent.page_count);
  }
  if (!retention_.empty()) {
    // What is cut stays cached below what is kept, if anything is, and must not outlive it.
    SequenceRetention& kept = retention_[static_cast<size_t>(sequence.slot_)];
    kept.longest = length == 0 ? 0 : std::max(kept.longest, state.length);
    if (length == 0) kept.passed.fill({});
  }
  TruncateChain(state, sequence.slot_, length);
  state.length = state.capacity = length;
  state.hit_tokens = std::min(state.hit_tokens, length);
  if (length <= state.valid_length) state.valid_length = kAllValid;
  return absl::OkStatus();
}

// Walks the tip back to the last whole unit below `length`, and recovers the tokens of the unit
// that is now unfinished: they stand in its node.
void CacheCore::TruncateChain(State& state, int32_t slot, int32_t length) {
  const int32_t units = length / unit_;
  const int32_t rest = length % unit_;
  NodeId node = state.tip;
  NodeId cut = kNoNode;
  for (int32_t depth = state.tip_units; depth > units; --depth) {
    cut = node;
    node = index_.parent(node);
  }
  const bool same_unit = state.chain_whole && state.length / unit_ == units;
  if (cut != kNoNode) std::copy_n(index_.tokens(cut), rest, TailTokens(slot));
  const bool tokens_known = rest == 0 || cut != kNoNode || same_unit;
  MoveTip(state, node, std::min(state.tip_units, units));
  state.known_units = std::min(state.known_units, state.tip_units);
  state.chain_whole = state.write_cache && state.tip_units == units && tokens_known;
}

}  // namespace quire
