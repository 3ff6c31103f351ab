// The rule of reuse: how much of a prompt the cache can stand in for.
//
// To resume at token t a group needs the pages that cover [t - lookback, t): all of them for full
// attention, the last window for a sliding window. One number a group, one walk down the tree, O(1)
// state a group: how far back the pages reach without a gap. The longest t at which every group can
// resume wins; a partly matching page may then extend it.

#ifndef QUIRE_LIB_MATCH_H_
#define QUIRE_LIB_MATCH_H_

#include <array>
#include <cstdint>
#include <span>

#include "lib/prefix_index.h"
#include "quire/kv_cache.h"
#include "quire/options.h"
#include "quire/types.h"

namespace quire {

inline constexpr int32_t kMaxGroups = 8;

struct MatchRules {
  int32_t unit;           // tokens of a node
  int32_t aligned_units;  // full hits are multiples of this: every group at a page border
  int32_t min_copy_tokens;
  std::span<const GroupOptions> groups;
};

struct MatchResult {
  int32_t tokens = 0;     // usable prefix, < prompt length
  NodeId tip = kNoNode;   // node of the last whole unit below `tokens`
  int32_t tip_units = 0;  // its depth
  bool partial = false;   // the tail page of some group is partly used: to be copied
  // Page to copy the tail from; kNoPage where `tokens` is at a page border of the group.
  std::array<PageId, kMaxGroups> tail{};
  MissTokens missed;
};

// Walks `prompt` down from `root`. If rows is not empty, rows[g] receives the page of each whole
// page of group g on the way (entries past the result are garbage). Changes nothing in the index.
// O(prompt) with at most 16 children looked at for the partly matching page: those of the last unit
// that the index knows. If that one's own page is gone, pages that partly match before it are not
// looked for: a hit can be shorter than the longest there is, and is never wrong.
MatchResult MatchPrefix(const PrefixIndex& index, const MatchRules& rules, NodeId root,
                        std::span<const TokenId> prompt, std::span<PageId* const> rows);

}  // namespace quire

#endif  // QUIRE_LIB_MATCH_H_
