#include "lib/match.h"

#include <algorithm>

#include "lib/check.h"

namespace quire {

namespace {

// Children compared for a partly matching page, newest first. A bound, because a popular prefix may
// have any number of successors and a lookup must not be made slow by them.
constexpr int kMaxPartialCandidates = 16;

// Units looked up together, so that their cache misses overlap. The first batch is small: most
// short prompts miss early.
constexpr int32_t kFirstBatch = 8;
constexpr int32_t kBatch = 64;

class Walk {
 public:
  Walk(const PrefixIndex& index, const MatchRules& rules, std::span<const TokenId> prompt,
       std::span<PageId* const> rows)
      : index_(index),
        rules_(rules),
        prompt_(prompt),
        rows_(rows),
        limit_(static_cast<int32_t>(prompt.size()) - 1) {
    for (size_t g = 0; g < rules.groups.size(); ++g) {
      units_per_page_[g] = rules.groups[g].tokens_per_page / rules.unit;
      until_page_[g] = units_per_page_[g];
    }
    until_aligned_ = rules.aligned_units;
  }

  MatchResult Run(NodeId root) {
    result_.tip = root;
    result_.tail.fill(kNoPage);
    node_ = root;
    WalkUnits();
    const int32_t full = result_.tokens;
    const int32_t known = std::max(TryPartial(), units_ * rules_.unit);
    CountMisses(full, known);
    return result_;
  }

 private:
  void WalkUnits() {
    const int32_t max_units = limit_ / rules_.unit;
    std::array<uint64_t, kBatch> keys;
    std::array<NodeId, kBatch> candidates;
    int32_t batch = kFirstBatch;
    while (units_ < max_units) {
      const int32_t count = std::min(batch, max_units - units_);
      const TokenId* tokens = prompt_.data() + static_cast<size_t>(units_) * rules_.unit;
      index_.HashUnits(index_.key(node_), tokens, count, keys.data());
      for (int32_t i = 0; i < count; ++i) candidates[i] = index_.Candidate(keys[i]);
      for (int32_t i = 0; i < count; ++i, tokens += rules_.unit) {
        const NodeId child = index_.Confirm(candidates[i], node_, keys[i], tokens);
        if (child == kNoNode) return;
        Step(child);
      }
      batch = kBatch;
    }
  }

  // One more whole unit matched: what does it mean for each group?
  void Step(NodeId child) {
    node_ = child;
    ++units_;
    const int32_t tokens = units_ * rules_.unit;
    for (size_t g = 0; g < rules_.groups.size(); ++g) {
      if (--until_page_[g] > 0) continue;
      until_page_[g] = units_per_page_[g];
      const PageId page = index_.page(child, static_cast<int32_t>(g));
      if (page == kNoPage) reach_[g] = tokens;
      if (!rows_.empty()) rows_[g][units_ / units_per_page_[g] - 1] = page;
    }
    if (--until_aligned_ > 0) return;
    until_aligned_ = rules_.aligned_units;
    for (size_t g = 0; g < rules_.groups.size(); ++g) {
      if (reach_[g] > std::max(0, tokens - rules_.groups[g].lookback_tokens)) return;
    }
    result_.tokens = tokens;
    result_.tip = child;
    result_.tip_units = units_;
  }

  // Can every group resume at `end`, past the last whole unit, and from which pages would the tail
  // be copied? `below` is a node whose path agrees with the prompt up to `end`.
  bool CanSupply(int32_t end, NodeId below, std::array<PageId, kMaxGroups>* tail) const {
    for (size_t g = 0; g < rules_.groups.size(); ++g) {
      const GroupOptions& group = rules_.groups[g];
      (*tail)[g] = kNoPage;
      if (reach_[g] > std::max(0, end - group.lookback_tokens)) return false;
      if (end % group.tokens_per_page == 0) continue;
      const int32_t page_end = end / group.tokens_per_page + 1;
      // The page hangs on the node of its last unit; any successor down there has the same first
      // tokens. The newest is as good as another.
      NodeId node = below;
      while (node != kNoNode && index_.depth(node) < page_end * units_per_page_[g]) {
        node = index_.newest_child(node);
      }
      if (node == kNoNode) return false;
      (*tail)[g] = index_.page(node, static_cast<int32_t>(g));
      if ((*tail)[g] == kNoPage) return false;
    }
    return true;
  }

  bool WorthCopying(int32_t end) const {
    return end - result_.tokens >= rules_.min_copy_tokens && end > best_end_;
  }

  // Tries to go beyond the aligned hit by copying a partly matching page. Returns how many tokens
  // of the prompt are known to the index at all.
  int32_t TryPartial() {
    const int32_t whole = units_ * rules_.unit;
    const TokenId* wanted = prompt_.data() + whole;
    const int32_t room = limit_ - whole;
    int32_t known = whole;
    std::array<PageId, kMaxGroups> tail;
    std::array<PageId, kMaxGroups> best_tail;
    NodeId child = room > 0 ? index_.newest_child(node_) : kNoNode;
    for (int i = 0; child != kNoNode && i < kMaxPartialCandidates; ++i) {
      const TokenId* have = index_.tokens(child);
      int32_t same = 0;
      while (same < std::min(room, rules_.unit) && have[same] == wanted[same]) ++same;
      known = std::max(known, whole + same);
      if (same > 0 && WorthCopying(whole + same) && CanSupply(whole + same, child, &tail)) {
        best_end_ = whole + same;
        best_tail = tail;
      }
      child = index_.older_sibling(child);
    }
    if (best_end_ == 0 && WorthCopying(whole) && CanSupply(whole, node_, &tail)) {
      best_end_ = whole;
      best_tail = tail;
    }
    if (best_end_ > 0) {
      result_.tokens = best_end_;
      result_.tip = node_;
      result_.tip_units = units_;
      result_.tail = best_tail;
      result_.partial = true;
    }
    return known;
  }

  void CountMisses(int32_t full, int32_t known) {
    MissTokens& missed = result_.missed;
    missed.last_token = 1;
    missed.absent = limit_ - known;
    const int32_t whole = units_ * rules_.unit;
    const int32_t aligned = rules_.aligned_units * rules_.unit;
    const bool gone = full < whole - whole % aligned;
    (gone ? missed.page_gone : missed.unaligned) = known - result_.tokens;
  }

  const PrefixIndex& index_;
  const MatchRules& rules_;
  std::span<const TokenId> prompt_;
  std::span<PageId* const> rows_;
  const int32_t limit_;  // a hit always leaves one token to compute
  NodeId node_ = kNoNode;
  int32_t units_ = 0;  // whole units matched
  int32_t until_aligned_ = 0;
  int32_t best_end_ = 0;
  std::array<int32_t, kMaxGroups> units_per_page_{};
  std::array<int32_t, kMaxGroups> until_page_{};  // units until the group's next page border
  std::array<int32_t, kMaxGroups> reach_{};  // pages without a gap from here to the last border
  MatchResult result_;
};

}  // namespace

MatchResult MatchPrefix(const PrefixIndex& index, const MatchRules& rules, NodeId root,
                        std::span<const TokenId> prompt, std::span<PageId* const> rows) {
  QUIRE_DCHECK(!prompt.empty(), "Start refuses an empty prompt");
  return Walk(index, rules, prompt, rows).Run(root);
}

}  // namespace quire
