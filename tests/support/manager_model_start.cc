// What a prompt must hit, and who is let in.

#include <algorithm>
#include <numeric>
#include <sstream>

#include "tests/support/model.h"

namespace quire::testing {

namespace {

int LeastCommonMultiple(const Options& options) {
  int result = 1;
  for (const GroupOptions& group : options.groups) result = std::lcm(result, group.tokens_per_page);
  return result;
}

}  // namespace

bool Model::CanResume(const std::vector<int>& path, int at, Known least) const {
  for (int g = 0; g < groups(); ++g) {
    const int per_page = TokensPerPage(g);
    // A window of one token needs no page, but the prefix must be known all the same.
    const int64_t lookback = std::max<int64_t>(1, Lookback(g));
    if (Lookback(g) == 0 && least == Known::kMaybe) continue;
    for (int64_t slot = std::max<int64_t>(0, at - lookback) / per_page; slot * per_page < at;
         ++slot) {
      const int node = path[static_cast<size_t>((slot + 1) * per_page - 1)];
      const bool found = std::any_of(pages_[g].begin(), pages_[g].end(), [&](const Page& page) {
        return page.indexed >= least && page.cells.back().node == node;
      });
      if (!found) return false;
    }
  }
  return true;
}

// One group only: the longest common prefix with a page that follows `at`.
int Model::BestPartial(const std::vector<int>& path, int at, int limit, bool* exact) const {
  const int per_page = TokensPerPage(0);
  const int start = at == 0 ? parents_[static_cast<size_t>(path[0])] : path[at - 1];
  const auto siblings = units_.find(start);
  // The cache looks at the newest 16 only, and only behind the last unit that its index knows: one
  // whose page is gone may still be known, as the place where a sequence stands.
  *exact = siblings == units_.end() ||
           (siblings->second.size() <= 16 &&
            (limit < at + per_page ||
             siblings->second.count(path[static_cast<size_t>(at + per_page - 1)]) == 0));
  int best = 0;
  for (const Page& page : pages_[0]) {
    if (page.indexed != Known::kYes) continue;
    int common = 0;
    while (common < std::min(per_page, limit - at) &&
           page.cells[common].node == path[static_cast<size_t>(at + common)]) {
      ++common;
    }
    best = std::max(best, common);
  }
  return best >= options_.min_copy_tokens ? best : 0;
}

void Model::ExpectHit(const std::vector<int>& path, int hit) {
  const int limit = static_cast<int>(path.size()) - 1;
  if (hit < 0 || hit > std::max(limit, 0)) Fail("the hit leaves no token to compute");
  const int step = LeastCommonMultiple(options_);
  int sure = 0, possible = 0;
  for (int at = 0; at <= limit; at += step) {
    if (CanResume(path, at, Known::kYes)) sure = at;
    if (CanResume(path, at, Known::kMaybe)) possible = at;
  }
  std::ostringstream what;
  what << "hit " << hit << " of " << path.size() << " tokens; resumable at " << sure;
  if (!options_.prefix_caching) {
    if (hit != 0) Fail("a hit although prefix_caching is off");
    return;
  }
  if (hit < sure) return Fail("the hit is too short: " + what.str());
  if (hit > sure) ++counts["partial hit"];
  if (hit > 0) ++counts["hit"];
  if (windows_) return;  // a partial hit may resume where a full one cannot
  if (hit / step * step > possible) return Fail("the hit is too long: " + what.str());
  if (groups() > 1 || options_.max_index_nodes > 0) return;
  for (const Page& page : pages_[0]) {
    if (page.indexed == Known::kMaybe) return;
  }
  if (limit <= sure) return;
  bool exact = false;
  const int partial = BestPartial(path, sure, limit, &exact);
  if (exact && hit != sure + partial) {
    what << " + " << partial;
    Fail("the hit is not the longest: " + what.str());
  }
}

void Model::Do(const MatchOp& op) {
  const Seen before = See();
  const int hit = cache_->MatchLength(op.prompt, NamespaceOf(op.ns));
  if (See() != before) Fail("MatchLength changed something");
  if (op.prompt.empty()) {
    if (hit != 0) Fail("MatchLength of nothing is not 0");
    return;
  }
  ExpectHit(PathOf(op.ns, op.prompt), hit);
}

void Model::Do(const StartOp& op) {
  const Namespace ns = NamespaceOf(op.ns);
  const Seen before = See();
  const Stats stats = cache_->stats();
  const int match = cache_->MatchLength(op.prompt, ns);
  const bool full = live() == options_.max_sequences;
  bool is_good = Fits(op.ns, static_cast<int64_t>(op.prompt.size()), 1);
  for (const Retention& range : op.retention) {
    is_good = is_good && range.begin >= 0 && range.begin < range.end && range.priority >= 0 &&
              range.priority <= 100 && range.lifetime_steps >= 0;
  }
  absl::StatusOr<Sequence> started = cache_->Start(
      op.prompt, ns, {.read_cache = op.read, .write_cache = op.write, .retention = op.retention});
  if (!started.ok()) {
    ++counts["Start refused"];
    if (See() != before) Fail("a refused Start changed something");
    if (!is_good) {
      if (!Says(started.status(), absl::StatusCode::kInvalidArgument, {})) {
        Fail("Start of what can never be answered " + started.status().ToString());
      }
    } else if (!full || !IsBare(started.status(), absl::StatusCode::kResourceExhausted)) {
      Fail("Start answered " + started.status().ToString());
    }
    return;
  }
  if (full || !is_good) return Fail("Start should have been refused");
  const int hit = started->length();
  if (started->hit_tokens() != hit) Fail("hit_tokens() is not length() after Start");
  if (hit != (op.read ? match : 0)) Fail("Start and MatchLength do not agree");
  auto seq = std::make_unique<Seq>();
  seq->handle = *std::move(started);
  seq->ns = op.ns;
  seq->account = AccountOf(op.ns);
  seq->retention = op.retention;
  if (!op.retention.empty()) BeginToRetain(seq->account);
  seq->path = PathOf(op.ns, op.prompt);
  if (op.read) ExpectHit(seq->path, hit);
  seq->path.resize(static_cast<size_t>(hit));
  seq->todo.assign(op.prompt.begin() + hit, op.prompt.end());
  seq->write = op.write;
  seq->certain = options_.max_index_nodes == 0;
  seq->tables.resize(static_cast<size_t>(groups()));
  seq->passed.resize(static_cast<size_t>(groups()));
  seqs_.push_back(std::move(seq));
  Adopt({seqs_.back().get()}, stats, /*allocates=*/false);
}

}  // namespace quire::testing
