// Tokens written, committed, taken back.

#include <algorithm>
#include <sstream>

#include "tests/support/model.h"

namespace quire::testing {

namespace {

int Unit(const Options& options) {
  int unit = options.groups[0].tokens_per_page;
  for (const GroupOptions& group : options.groups) unit = std::min(unit, group.tokens_per_page);
  return unit;
}

}  // namespace

void Model::WriteTokens(Seq& seq, const Tokens& tokens) {
  int node = seq.path.empty() ? seq.ns % kNamespaces : seq.path.back();
  auto at = static_cast<int64_t>(seq.path.size());
  for (const TokenId token : tokens) {
    node = Child(node, token);
    // What is computed from damaged pages is damaged.
    uint64_t taint = 0;
    for (int g = 0; g < groups(); ++g) {
      for (int64_t from = std::max<int64_t>(0, at - Lookback(g)); from < at; ++from) {
        const PageId id = seq.tables[g][from / TokensPerPage(g)];
        if (id == kNoPage) return Fail("a page within the lookback is gone");
        const Cell& cell = PageAt(g, id).cells[from % TokensPerPage(g)];
        if (cell.taint != 0) taint = taint == 0 ? cell.taint : std::min(taint, cell.taint);
      }
    }
    for (int g = 0; g < groups(); ++g) {
      const PageId id = seq.tables[g][at / TokensPerPage(g)];
      CheckClean(PageAt(g, id));
      PageAt(g, id).cells[at % TokensPerPage(g)] = {node, taint};
    }
    ++at;
  }
}

void Model::AfterCommit(Seq& seq, int old_length) {
  const auto length = static_cast<int>(seq.path.size());
  const bool write = seq.write && options_.prefix_caching;
  for (int g = 0; g < groups(); ++g) {
    const int per_page = TokensPerPage(g);
    for (int slot = old_length / per_page; (slot + 1) * per_page <= length; ++slot) {
      if (!write) continue;
      Page& page = PageAt(g, seq.tables[g][slot]);
      page.indexed = seq.certain ? Known::kYes : Known::kMaybe;
      page.priority = 0;  // what was before says nothing about this
      page.unsure = false;
    }
  }
  const int unit = Unit(options_);
  for (int end = (old_length / unit + 1) * unit; write && end <= length; end += unit) {
    const int start = end - unit;
    units_[start == 0 ? seq.ns % kNamespaces : seq.path[start - 1]].insert(seq.path[end - 1]);
  }
  // Exactly what lies below the horizon goes, and nothing else, but for pages of copies.
  std::vector<std::vector<PageId>> expected = seq.tables;
  for (int g = 0; g < groups(); ++g) {
    for (const int slot : PastWindow(seq, g)) {
      expected[g][static_cast<size_t>(slot)] = kNoPage;
      ++counts["left a window"];
    }
  }
  Adopt({&seq}, cache_->stats(), /*allocates=*/false);
  if (seq.tables != expected) Fail("Commit gave back other pages than those that left the window");
}

void Model::Do(const CommitOp& op) {
  Seq* seq = At(op.seq);
  if (seq == nullptr) return;
  CommitAllOp all{{op.seq}, op.tokens, {static_cast<int>(op.tokens.size())}};
  Do(all);
}

void Model::Do(const CommitAllOp& op) {
  if (plan_pending_) CarryOutPlan(false);
  if (!error_.empty()) return;
  std::vector<Seq*> seqs;
  std::vector<Sequence*> handles;
  std::vector<int> taken;
  Tokens flat;
  bool lost = false;
  size_t begin = 0;
  for (size_t i = 0; i < op.seqs.size(); ++i) {
    Seq* seq = At(op.seqs[i]);
    if (seq == nullptr || std::count(seqs.begin(), seqs.end(), seq) > 0) return;
    const int room = seq->handle.capacity() - static_cast<int>(seq->path.size());
    const int count = std::min(op.counts[i], room);
    const Tokens tokens(op.tokens.begin() + begin, op.tokens.begin() + begin + count);
    begin += static_cast<size_t>(op.counts[i]);
    if (count == 0) continue;
    seqs.push_back(seq);
    handles.push_back(&seq->handle);
    taken.push_back(count);
    lost = lost || seq->handle.valid_length() < seq->handle.length();
    WriteTokens(*seq, tokens);
    flat.insert(flat.end(), tokens.begin(), tokens.end());
  }
  if (seqs.empty() || !error_.empty()) return;
  const int64_t not_indexed = cache_->stats().commits_not_indexed;
  const Seen before = See();
  const absl::Status status =
      seqs.size() == 1 ? handles[0]->Commit(flat) : cache_->CommitAll(handles, flat, taken);
  if (!status.ok()) {
    ++counts["Commit: " + std::string(absl::StatusCodeToString(status.code()))];
    if (!lost || !absl::IsDataLoss(status)) Fail("Commit answered " + status.ToString());
    if (See() != before) Fail("a refused Commit changed something");
    return;
  }
  if (lost) return Fail("Commit went on although data was lost");
  counts["tokens"] += static_cast<int64_t>(flat.size());
  if (cache_->stats().commits_not_indexed > not_indexed) {
    if (options_.max_index_nodes == 0 && !only_windows_ && !shells_) {
      return Fail("no index nodes left, though there are enough for every page");
    }
    for (Seq* seq : seqs) seq->certain = false;
  }
  begin = 0;
  for (size_t i = 0; i < seqs.size() && error_.empty(); ++i) {
    Seq& seq = *seqs[i];
    const auto old_length = static_cast<int>(seq.path.size());
    for (int j = 0; j < taken[i]; ++j, ++begin) {
      const int node = seq.path.empty() ? seq.ns % kNamespaces : seq.path.back();
      seq.path.push_back(Child(node, flat[begin]));
      if (!seq.todo.empty() && seq.todo[0] == flat[begin]) {
        seq.todo.erase(seq.todo.begin());
      } else {
        seq.todo.clear();
      }
    }
    AfterCommit(seq, old_length);
  }
}

void Model::Do(const DraftOp& op) {
  Seq* seq = At(op.seq);
  if (seq == nullptr) return;
  if (plan_pending_) CarryOutPlan(false);
  for (int at = static_cast<int>(seq->path.size()); at < seq->handle.capacity(); ++at) {
    for (int g = 0; g < groups(); ++g) {
      const PageId page = seq->tables[g][at / TokensPerPage(g)];
      CheckClean(PageAt(g, page));
      PageAt(g, page).cells[at % TokensPerPage(g)] = Cell();
    }
  }
}

void Model::Do(const TruncateOp& op) {
  Seq* seq = At(op.seq);
  if (seq == nullptr) return;
  const auto length = static_cast<int>(seq->path.size());
  const int to = op.length;
  bool holds = true;
  for (int g = 0; g < groups() && to >= 0 && to <= length; ++g) {
    for (int64_t at = std::max<int64_t>(0, to - Lookback(g)); at < to; ++at) {
      holds = holds && seq->tables[g][at / TokensPerPage(g)] != kNoPage;
    }
    // With a window of one token nothing is read, but the rest of the page is written.
    const int per_page = TokensPerPage(g);
    if (to % per_page != 0) holds = holds && seq->tables[g][to / per_page] != kNoPage;
  }
  const Seen before = See();
  const int valid = seq->handle.valid_length();
  const absl::Status status = seq->handle.Truncate(to);
  if (!status.ok() && See() != before) Fail("a refused Truncate changed something");
  if (to < 0 || to > length) {
    if (!Says(status, absl::StatusCode::kInvalidArgument, {})) Fail("Truncate beyond the length");
    return;
  }
  if (!holds) {
    ++counts["Truncate refused"];
    if (!Says(status, absl::StatusCode::kFailedPrecondition, {})) {
      Fail("Truncate to pages that are gone answered " + status.ToString());
    }
    return;
  }
  if (!status.ok()) return Fail("Truncate answered " + status.ToString());
  ++counts["Truncate"];
  const std::vector<std::vector<PageId>> old = seq->tables;
  seq->longest = std::max(seq->longest, length);
  seq->path.resize(static_cast<size_t>(to));
  seq->todo.clear();
  Adopt({seq}, cache_->stats(), /*allocates=*/false);
  if (to == 0) {  // another text may follow, and owes nothing to this one
    seq->longest = 0;
    seq->passed.assign(static_cast<size_t>(groups()), {});
  }
  for (int g = 0; g < groups(); ++g) {
    const size_t kept = static_cast<size_t>(PagesFor(g, to));
    const std::vector<PageId>& table = seq->tables[g];
    if (to < length && table.size() != kept) Fail("Truncate did not give back what lies past it");
    if (!std::equal(old[g].begin(), old[g].begin() + kept, table.begin())) {
      Fail("Truncate changed pages before the length");
    }
  }
  if (seq->handle.valid_length() != std::min(valid, to)) Fail("valid_length after Truncate");
  seq->may_lose = valid < to;
}

}  // namespace quire::testing
