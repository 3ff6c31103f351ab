#include <algorithm>
#include <sstream>

#include "tests/support/model.h"

namespace quire::testing {

namespace {

constexpr int kNamespaces = 4;

// The same text in two fields, and in both: they must stay apart.
Namespace NamespaceOf(int ns) {
  Namespace result;
  if (ns & 1) result.SetTenant("a");
  if (ns & 2) result.SetLora("a");
  return result;
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int LeastCommonMultiple(const Options& options) {
  int result = 1;
  for (const GroupOptions& group : options.groups) {
    int multiple = result;
    while (multiple % group.tokens_per_page != 0) multiple += result;
    result = multiple;
  }
  return result;
}

int Unit(const Options& options) {
  int unit = options.groups[0].tokens_per_page;
  for (const GroupOptions& group : options.groups) unit = std::min(unit, group.tokens_per_page);
  return unit;
}

// Pages that the tokens [length - lookback - rollback, end) can touch, wherever the pages begin.
int64_t PeakPages(const GroupOptions& group, const Options& options, int64_t end, int64_t step) {
  const int64_t all = CeilDiv(end, group.tokens_per_page);
  if (group.lookback_tokens == kAllTokens) return all;
  const int64_t tokens = int64_t{group.lookback_tokens} + options.max_rollback_tokens + step;
  return std::min(all, 1 + CeilDiv(tokens - 1, group.tokens_per_page));
}

}  // namespace

Model::Model(const Options& options) : options_(options), cache_(NewCache(options)) {
  parents_.assign(kNamespaces, -1);  // the roots
  for (const GroupOptions& group : options.groups) {
    pages_.emplace_back(static_cast<size_t>(group.page_count));
    for (Page& page : pages_.back()) page.cells.resize(static_cast<size_t>(group.tokens_per_page));
    windows_ = windows_ || group.lookback_tokens != kAllTokens;
    only_windows_ = only_windows_ && group.lookback_tokens != kAllTokens;
  }
}

Model::~Model() {
  seqs_.clear();  // before the cache
}

std::string Model::Run(const Op& op) {
  ++now_;
  std::visit([this](const auto& one) { Do(one); }, op);
  if (error_.empty()) Audit();
  return error_;
}

void Model::Fail(const std::string& what) {
  if (error_.empty()) error_ = what;
}

Model::Seq* Model::At(int seq) {
  if (seqs_.empty() || seq < 0) return nullptr;
  return seqs_[static_cast<size_t>(seq) % seqs_.size()].get();
}

int Model::Child(int node, TokenId token) {
  const auto [it, is_new] = children_.emplace(std::pair(node, token), parents_.size());
  if (is_new) parents_.push_back(node);
  return it->second;
}

bool Model::Descends(int node, int ancestor) const {
  while (node >= 0 && node != ancestor) node = parents_[static_cast<size_t>(node)];
  return node == ancestor;
}

std::vector<int> Model::PathOf(int ns, const Tokens& tokens) {
  std::vector<int> path;
  int node = ns % kNamespaces;
  for (const TokenId token : tokens) path.push_back(node = Child(node, token));
  return path;
}

std::string Model::See() const {
  std::vector<const Sequence*> handles;
  for (const auto& seq : seqs_) handles.push_back(&seq->handle);
  return Snapshot(*cache_, handles);
}

// ---------------------------------------------------------------------------------------- lookups

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
  // The cache looks at the newest 16 only.
  *exact = siblings == units_.end() || siblings->second.size() <= 16;
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
  const std::string before = See();
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
  const std::string before = See();
  const Stats stats = cache_->stats();
  const int match = cache_->MatchLength(op.prompt, ns);
  const bool full = live() == options_.max_sequences;
  const auto size = static_cast<int64_t>(op.prompt.size());
  bool can_fit = size >= 1 && size <= options_.max_sequence_tokens;
  bool surely_fits = can_fit;
  for (const GroupOptions& group : options_.groups) {
    const bool fits = PeakPages(group, options_, size, 1) <= group.page_count;
    surely_fits = surely_fits && fits;
    if (group.lookback_tokens == kAllTokens) can_fit = can_fit && fits;
  }
  absl::StatusOr<Sequence> started =
      cache_->Start(op.prompt, ns, {.read_cache = op.read, .write_cache = op.write});
  if (!started.ok()) {
    ++counts["Start refused"];
    if (See() != before) Fail("a refused Start changed something");
    if (absl::IsInvalidArgument(started.status())) {
      if (surely_fits) Fail("Start refused a prompt that fits: " + started.status().ToString());
      if (started.status().message().empty()) Fail("Start refused without a reason");
    } else if (!full || !IsBare(started.status(), absl::StatusCode::kResourceExhausted)) {
      Fail("Start answered " + started.status().ToString());
    }
    return;
  }
  if (full || !can_fit) return Fail("Start should have been refused");
  const int hit = started->length();
  if (started->hit_tokens() != hit) Fail("hit_tokens() is not length() after Start");
  if (hit != (op.read ? match : 0)) Fail("Start and MatchLength do not agree");
  auto seq = std::make_unique<Seq>();
  seq->handle = *std::move(started);
  seq->ns = op.ns;
  seq->path = PathOf(op.ns, op.prompt);
  if (op.read) ExpectHit(seq->path, hit);
  seq->path.resize(static_cast<size_t>(hit));
  seq->todo.assign(op.prompt.begin() + hit, op.prompt.end());
  seq->write = op.write;
  seq->certain = options_.max_index_nodes == 0;
  seq->tables.resize(static_cast<size_t>(groups()));
  seqs_.push_back(std::move(seq));
  Adopt({seqs_.back().get()}, stats, /*allocates=*/false);
}

// ------------------------------------------------------------------------------------ page tables

// Takes the new page tables over, with what they say about pages that were handed out or given
// back.
void Model::Adopt(const std::vector<Seq*>& changed, const Stats& before, bool allocates) {
  for (int g = 0; g < groups(); ++g) {
    std::vector<PageId> taken;
    struct Gone {
      PageId page;
      int slot;
    };
    std::vector<Gone> gone;
    for (Seq* seq : changed) {
      const std::span<const PageId> span = seq->handle.pages(GroupId{g});
      std::vector<PageId> now(span.begin(), span.end());
      std::vector<PageId>& old = seq->tables[g];
      for (size_t slot = 0; slot < std::max(now.size(), old.size()); ++slot) {
        const PageId was = slot < old.size() ? old[slot] : kNoPage;
        const PageId is = slot < now.size() ? now[slot] : kNoPage;
        if (was == is) continue;
        if (was != kNoPage) gone.push_back({was, static_cast<int>(slot)});
        if (is == kNoPage) continue;
        const auto id = static_cast<int32_t>(is);
        if (id < 0 || id >= options_.groups[g].page_count) return Fail("no such page in the pool");
        Page& page = PageAt(g, is);
        const int tail = static_cast<int>(seq->path.size()) % TokensPerPage(g);
        if (allocates) {
          if (page.refs > 0) return Fail("a page was handed out while another sequence holds it");
          if (page.held > 0) return Fail("a page was handed out while a ticket holds it");
          taken.push_back(is);
          if (was != kNoPage && tail != 0) {
            // A copy of a page that waits for its own copy comes from where that one comes from.
            const auto first = plan_targets_.find({g, static_cast<int32_t>(was)});
            const PageId source = first == plan_targets_.end() ? was : first->second.source;
            plan_targets_[{g, id}] = {tail, source};
            ++PageAt(g, source).planned;
          }
        } else if (page.refs == 0 && page.indexed == Known::kNo) {
          return Fail("a page that is not in the index was hit");
        }
        ++page.refs;
      }
      old = std::move(now);
    }
    if (allocates) CheckEvictions(g, taken, before.groups[g]);
    // The tail goes before the head.
    std::stable_sort(gone.begin(), gone.end(),
                     [](const Gone& a, const Gone& b) { return a.slot > b.slot; });
    for (const Gone& one : gone) {
      Unref(g, one.page, one.slot);
      // A source that waits for its copy; when it counts as released is left open.
      if (allocates) PageAt(g, one.page).released_at = -1;
    }
  }
}

void Model::Unref(int group, PageId id, int slot) {
  Page& page = PageAt(group, id);
  if (--page.refs > 0) return;
  page.released_at = page.held + page.planned > 0 ? -1 : now_;
  page.slot = slot;
  const auto target = plan_targets_.find({group, static_cast<int>(id)});
  if (target == plan_targets_.end()) return;
  // Nobody wants the copy any more.
  --PageAt(group, target->second.source).planned;
  plan_targets_.erase(target);
}

void Model::CheckEvictions(int group, const std::vector<PageId>& taken, const GroupStats& before) {
  const int64_t evictions = StatsOf(*cache_, group).evictions - before.evictions;
  const auto count = static_cast<int64_t>(taken.size());
  if (evictions != std::max<int64_t>(0, count - before.pages_free)) {
    Fail("evicted " + std::to_string(evictions) + " pages, for " + std::to_string(count) +
         " wanted and " + std::to_string(before.pages_free) + " free");
  }
  counts["evicted"] += evictions;
  using Age = std::pair<int64_t, int>;
  // Of one release the tail is older; where windows release pages too, ties are left open.
  const auto age = [this](const Page& page) {
    return Age(page.released_at, windows_ ? 0 : -page.slot);
  };
  Age youngest_evicted(-1, 0);
  for (const PageId id : taken) {
    Page& page = PageAt(group, id);
    if (page.indexed == Known::kYes && page.released_at >= 0) {
      youngest_evicted = std::max(youngest_evicted, age(page));
    }
    page.indexed = Known::kNo;
    page.cells.assign(page.cells.size(), Cell());
    page.released_at = -1;
  }
  if (cache_->options().reclaim != Reclaim::kLru) return;  // reclaimer tests know the others' order
  for (const Page& page : pages_[group]) {
    if (page.refs > 0 || page.held > 0 || page.indexed != Known::kYes) continue;
    if (page.released_at >= 0 && age(page) < youngest_evicted) {
      return Fail("evicted a page released at " + std::to_string(youngest_evicted.first) +
                  " although one released at " + std::to_string(page.released_at) + " was left");
    }
  }
}

// ---------------------------------------------------------------------------------------- Reserve

Model::Need Model::NeedOf(const std::vector<Seq*>& seqs, const std::vector<int>& wanted) {
  Need need;
  need.low.resize(static_cast<size_t>(groups()));
  need.high = need.wish = need.low;
  for (int g = 0; g < groups(); ++g) {
    std::map<PageId, int> writers;
    for (size_t i = 0; i < seqs.size(); ++i) {
      const Seq& seq = *seqs[i];
      const auto length = static_cast<int64_t>(seq.path.size());
      const int64_t end = length + wanted[i];
      if (seq.handle.valid_length() < length) need.lost = true;
      if (end > options_.max_sequence_tokens) need.never_fits = true;
      const std::vector<PageId>& table = seq.tables[g];
      const auto have = static_cast<int64_t>(table.size());
      const int64_t more = std::max<int64_t>(0, CeilDiv(end, TokensPerPage(g)) - have);
      need.low[g] += more;
      const int64_t tail = length / TokensPerPage(g);
      if (tail < have && table[tail] != kNoPage) ++writers[table[tail]];
      if (tail < have && table[tail] == kNoPage) ++need.low[g];
      // Pages that only a copy keeps in a window will leave it.
      const int64_t horizon = length - Lookback(g) - options_.max_rollback_tokens;
      int64_t resident = more;
      for (int64_t slot = 0; slot < have; ++slot) {
        resident += table[slot] != kNoPage && (slot + 1) * TokensPerPage(g) > horizon;
      }
      if (resident > options_.groups[g].page_count) need.never_fits = true;
    }
    need.high[g] = need.wish[g] = need.low[g];
    for (const auto& [id, count] : writers) {
      const Page& page = PageAt(g, id);
      // The last holder of a page without a key writes in place.
      const int least = count - (page.refs == count ? 1 : 0);
      need.wish[g] += page.indexed == Known::kNo ? least : count;
      // And the only holder of a page with a key that no copy names, when nothing else is left.
      const bool alone = page.refs == 1 && page.held + page.planned == 0;
      // (Of copies planned but not taken the model knows only the targets.)
      const bool quiet = tickets_.empty() && plan_targets_.empty();
      const bool keeps_all = page.indexed == Known::kNo || (alone && quiet);
      need.low[g] += page.indexed == Known::kYes && !alone ? count : least;
      need.high[g] += keeps_all ? least : count;
    }
  }
  return need;
}

void Model::CheckReserve(const absl::Status& status, const Need& need, const std::string& before,
                         const std::string& after, const Stats& stats) {
  bool has_room = true, surely_has_room = true;
  for (int g = 0; g < groups(); ++g) {
    const GroupStats& group = stats.groups[g];
    const int64_t room = int64_t{group.pages_free} + group.pages_cached;
    if (need.low[g] > room) has_room = false;
    if (need.high[g] > room) surely_has_room = false;
  }
  if (status.ok()) {
    if (need.lost) Fail("Reserve went on although data was lost");
    if (need.never_fits || !has_room) Fail("Reserve found more pages than there are");
    return;
  }
  ++counts["Reserve: " + std::string(absl::StatusCodeToString(status.code()))];
  if (before != after) Fail("a refused Reserve changed something:\n" + before + "now\n" + after);
  const int64_t out_of_room = cache_->stats().out_of_room - stats.out_of_room;
  if (out_of_room != absl::IsResourceExhausted(status)) Fail("out_of_room is not counted right");
  switch (status.code()) {
    case absl::StatusCode::kDataLoss:
      if (!need.lost) Fail("data loss without a failed copy");
      return;
    case absl::StatusCode::kInvalidArgument:
      if (!need.never_fits && !windows_)
        Fail("refused for good, but it fits: " + status.ToString());
      if (status.message().empty()) Fail("refused for good without a reason");
      return;
    case absl::StatusCode::kResourceExhausted:
      if (!status.message().empty()) Fail("'not now' is not bare");
      if (need.never_fits) Fail("'not now', but it can never fit");
      if (surely_has_room) Fail("'not now', but there is room");
      return;
    default:
      Fail("Reserve answered " + status.ToString());
  }
}

// A tail with a key that stayed in its table was taken out of the index, to be written in place.
void Model::AdoptTailsInPlace(const std::vector<Seq*>& seqs, const Need& need, const Stats& stats) {
  for (int g = 0; g < groups(); ++g) {
    int64_t in_place = 0;
    bool exact = true;
    for (Seq* seq : seqs) {
      const size_t slot = seq->path.size() / static_cast<size_t>(TokensPerPage(g));
      if (slot >= seq->tables[g].size()) continue;
      const PageId id = seq->tables[g][slot];
      if (id == kNoPage || seq->handle.pages(GroupId{g})[slot] != id) continue;
      Page& page = PageAt(g, id);
      exact = exact && page.indexed != Known::kMaybe;
      in_place += page.indexed == Known::kYes;
      page.indexed = Known::kNo;
    }
    const GroupStats& group = stats.groups[g];
    const int64_t short_of = need.wish[g] - group.pages_free - group.pages_cached;
    counts["tail with a key written in place"] += in_place;
    shells_ = shells_ || in_place > 0;
    if (exact && in_place > std::max<int64_t>(0, short_of)) {
      return Fail("a page left the index although there was room for a copy");
    }
  }
}

void Model::Do(const ReserveOp& op) {
  if (op.tokens < 1) return;
  Do(ReserveAllOp{{op.seq}, {op.tokens}});
}

void Model::Do(const ReserveAllOp& op) {
  std::vector<Seq*> seqs;
  std::vector<Sequence*> handles;
  for (const int index : op.seqs) {
    Seq* seq = At(index);
    if (seq == nullptr || std::count(seqs.begin(), seqs.end(), seq) > 0) return;
    seqs.push_back(seq);
    handles.push_back(&seq->handle);
  }
  const Need need = NeedOf(seqs, op.counts);
  const Stats stats = cache_->stats();
  const std::string before = See();
  const absl::Status status = handles.size() == 1 ? handles[0]->Reserve(op.counts[0])
                                                  : cache_->ReserveAll(handles, op.counts);
  CheckReserve(status, need, before, status.ok() ? "" : See(), stats);
  if (!status.ok() || !error_.empty()) return;
  AdoptTailsInPlace(seqs, need, stats);
  Adopt(seqs, stats, /*allocates=*/true);
  for (size_t i = 0; i < seqs.size(); ++i) {
    Seq& seq = *seqs[i];
    if (seq.handle.capacity() < static_cast<int>(seq.path.size()) + op.counts[i]) {
      return Fail("ReserveAll did not make the room it was asked for");
    }
    seq.awaits_plan = plan_pending_ = true;
  }
}

// ------------------------------------------------------------------------------------------ plans

void Model::CarryOutPlan(bool fails) {
  Outstanding out;
  out.plan = cache_->TakePlan();
  out.ticket = out.plan.ticket;
  out.copies.assign(out.plan.copies.begin(), out.plan.copies.end());
  out.fails = fails;
  plan_pending_ = false;
  const auto wanted = std::exchange(plan_targets_, {});
  for (auto& seq : seqs_) seq->awaits_plan = false;
  for (auto& group : pages_) {
    for (Page& page : group) page.planned = 0;
  }
  if (out.copies.size() != wanted.size()) {
    return Fail("the plan has " + std::to_string(out.copies.size()) + " copies, not " +
                std::to_string(wanted.size()));
  }
  if (out.copies.empty()) {
    if (out.ticket != kNoTicket) Fail("an empty plan has a ticket");
    return;
  }
  const auto number = static_cast<uint64_t>(out.ticket);
  if (number <= last_ticket_) return Fail("tickets do not increase");
  last_ticket_ = number;
  std::set<std::pair<int, PageId>> sources, targets;
  // The copies of one plan may run in any order: take the least friendly one.
  for (size_t i = out.copies.size(); i-- > 0;) {
    const PageCopy& copy = out.copies[i];
    const int g = static_cast<int>(copy.group);
    if (g < 0 || g >= groups()) return Fail("a copy in no group");
    if (copy.from_tier != Tier::kDevice || copy.to_tier != Tier::kDevice) {
      return Fail("a copy between tiers");
    }
    const auto target = wanted.find({g, static_cast<int>(copy.to_page)});
    if (target == wanted.end()) return Fail("a copy that nobody asked for");
    if (copy.token_count < 1 || copy.token_count > target->second.tokens) {
      return Fail("a copy of the wrong number of tokens");
    }
    if (!targets.emplace(g, copy.to_page).second) return Fail("a page is a target twice");
    sources.emplace(g, copy.from_page);
    Page& to = PageAt(g, copy.to_page);
    Page& from = PageAt(g, copy.from_page);
    to.cells.assign(to.cells.size(), Cell());
    std::copy_n(from.cells.begin(), copy.token_count, to.cells.begin());
    for (int j = 0; fails && j < copy.token_count; ++j) {
      if (to.cells[j].taint == 0) to.cells[j].taint = number;
    }
    ++to.held;
    ++from.held;
    from.released_at = -1;
    ++counts["copy"];
  }
  for (const auto& target : targets) {
    if (sources.count(target) > 0) return Fail("a page is source and target in one plan");
  }
  for (const PageCopy& copy : out.copies) {
    out.nodes.push_back(PageAt(static_cast<int>(copy.group), copy.to_page).cells[0].node);
    if (keep_trace_) {
      trace_ += " " + std::to_string(static_cast<int>(copy.group)) + ":" +
                std::to_string(static_cast<int>(copy.from_page)) + ">" +
                std::to_string(static_cast<int>(copy.to_page)) + "x" +
                std::to_string(copy.token_count);
    }
  }
  tickets_.push_back(std::move(out));
}

void Model::Do(const TakePlanOp& op) { CarryOutPlan(op.fails); }

void Model::Do(const RetireOp&) {
  if (tickets_.empty()) return;
  const Outstanding out = std::move(tickets_.front());
  tickets_.pop_front();
  for (size_t i = 0; i < out.copies.size(); ++i) {
    const PageCopy& now = out.plan.copies[i];
    const PageCopy& then = out.copies[i];
    if (now.from_page != then.from_page || now.to_page != then.to_page) {
      return Fail("a plan changed before its ticket was retired");
    }
    --PageAt(static_cast<int>(then.group), then.from_page).held;
    --PageAt(static_cast<int>(then.group), then.to_page).held;
  }
  cache_->Retire(out.ticket, out.fails ? absl::InternalError("the copy failed") : absl::OkStatus());
  last_retired_ = static_cast<uint64_t>(out.ticket);
  if (!out.fails) return;
  ++counts["failed plan"];
  shells_ = true;
  copies_failed_ += static_cast<int64_t>(out.copies.size());
  // With pages of several sizes the whole index is given up.
  const bool one_size = std::all_of(
      options_.groups.begin(), options_.groups.end(),
      [this](const GroupOptions& group) { return group.tokens_per_page == TokensPerPage(0); });
  for (int g = 0; !one_size && g < groups(); ++g) {
    for (Page& page : pages_[g]) page.indexed = std::min(page.indexed, Known::kMaybe);
  }
  for (auto& seq : seqs_) seq->certain = seq->certain && (one_size || seq->path.empty());
  // And everyone who goes on from where the copying sequence stood is told; who does is left open.
  for (auto& seq : seqs_) seq->may_lose = seq->may_lose || (!one_size && !seq->path.empty());
  // What may have been computed on top of the failed pages leaves the index or not: no promise.
  for (const int node : out.nodes) {
    if (node < 0) continue;
    for (auto& group : pages_) {
      for (Page& page : group) {
        if (page.indexed == Known::kYes && Descends(page.cells.back().node, node)) {
          page.indexed = Known::kMaybe;
        }
      }
    }
    for (auto& seq : seqs_) {
      if (std::count(seq->path.begin(), seq->path.end(), node) == 0) continue;
      seq->certain = false;
      seq->may_lose = true;
    }
  }
}

// ------------------------------------------------------------------------------- writing, the rest

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
      PageAt(g, seq.tables[g][slot]).indexed = seq.certain ? Known::kYes : Known::kMaybe;
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
    if (Lookback(g) == kAllTokens) continue;
    const int64_t horizon = length - Lookback(g) - options_.max_rollback_tokens;
    for (int64_t slot = 0; (slot + 1) * TokensPerPage(g) <= horizon; ++slot) {
      // A page that an outstanding copy names stays until that copy is known to be good.
      if (expected[g][slot] != kNoPage && PageAt(g, expected[g][slot]).held > 0) break;
      if (std::exchange(expected[g][slot], kNoPage) != kNoPage) ++counts["left a window"];
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
  const std::string before = See();
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
  const std::string before = See();
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
  seq->path.resize(static_cast<size_t>(to));
  seq->todo.clear();
  Adopt({seq}, cache_->stats(), /*allocates=*/false);
  for (int g = 0; g < groups(); ++g) {
    const size_t kept = static_cast<size_t>(CeilDiv(to, TokensPerPage(g)));
    const std::vector<PageId>& table = seq->tables[g];
    if (to < length && table.size() != kept) Fail("Truncate did not give back what lies past it");
    if (!std::equal(old[g].begin(), old[g].begin() + kept, table.begin())) {
      Fail("Truncate changed pages before the length");
    }
  }
  if (seq->handle.valid_length() != std::min(valid, to)) Fail("valid_length after Truncate");
  seq->may_lose = valid < to;
}

void Model::Do(const ForkOp& op) {
  Seq* seq = At(op.seq);
  if (seq == nullptr) return;
  const std::string before = See();
  const Stats stats = cache_->stats();
  absl::StatusOr<Sequence> fork = seq->handle.Fork();
  const bool full = live() == options_.max_sequences;
  if (!fork.ok()) {
    if (See() != before) Fail("a refused Fork changed something");
    if (!full || !IsBare(fork.status(), absl::StatusCode::kResourceExhausted)) {
      Fail("Fork answered " + fork.status().ToString());
    }
    return;
  }
  if (full) return Fail("Fork should have been refused");
  auto twin = std::make_unique<Seq>();
  twin->handle = *std::move(fork);
  twin->ns = seq->ns;
  twin->path = seq->path;
  twin->todo = seq->todo;
  twin->write = seq->write;
  twin->certain = seq->certain;
  twin->may_lose = seq->may_lose;
  twin->awaits_plan = seq->awaits_plan;
  twin->tables.resize(static_cast<size_t>(groups()));
  seqs_.push_back(std::move(twin));
  Seq& added = *seqs_.back();
  if (added.handle.length() != seq->handle.length()) return Fail("a fork of another length");
  if (added.handle.valid_length() != seq->handle.valid_length()) Fail("a fork trusts more");
  for (int g = 0; g < groups(); ++g) {
    const std::span<const PageId> mine = added.handle.pages(GroupId{g});
    const auto kept = CeilDiv(seq->handle.length(), TokensPerPage(g));
    if (static_cast<int64_t>(mine.size()) != kept ||
        !std::equal(mine.begin(), mine.end(), seq->tables[g].begin())) {
      return Fail("a fork does not share every page up to the length");
    }
  }
  Adopt({&added}, stats, /*allocates=*/false);
  ++counts["Fork"];
}

void Model::Do(const DropOp& op) {
  if (At(op.seq) == nullptr) return;
  const auto it = seqs_.begin() + op.seq % live();
  for (int g = 0; g < groups(); ++g) {
    const std::vector<PageId>& table = (*it)->tables[g];
    for (size_t slot = table.size(); slot-- > 0;) {
      if (table[slot] != kNoPage) Unref(g, table[slot], static_cast<int>(slot));
    }
  }
  seqs_.erase(it);
}

void Model::Do(const ClearOp&) {
  cache_->ClearCached();
  shells_ = true;
  for (auto& group : pages_) {
    for (Page& page : group) page.indexed = Known::kNo;
  }
  // What is committed on top of tokens from before is not to be found either.
  for (auto& seq : seqs_) seq->write = seq->write && seq->path.empty();
  for (const GroupStats& group : cache_->stats().groups) {
    if (group.pages_cached != 0) Fail("cached pages after ClearCached");
  }
}

// ------------------------------------------------------------------------------------------ audit

void Model::Audit() {
  const absl::Status valid = cache_->Validate();
  if (!valid.ok()) return Fail("Validate: " + valid.ToString());
  for (size_t i = 0; i < seqs_.size(); ++i) {
    Seq& seq = *seqs_[i];
    const Sequence& handle = seq.handle;
    const auto length = static_cast<int>(seq.path.size());
    if (handle.length() != length) return Fail("the length is wrong");
    if (handle.capacity() < length) return Fail("the capacity is below the length");
    if (handle.valid_length() > length || handle.valid_length() < 0) Fail("valid_length range");
    if (!seq.may_lose && handle.valid_length() != length) {
      return Fail("data loss of sequence " + std::to_string(i) + ", which no failed copy touches");
    }
    for (int g = 0; g < groups(); ++g) AuditTable(static_cast<int>(i), seq, g);
    AuditWritable(seq);
  }
  AuditStats();
}

void Model::AuditTable(int index, Seq& seq, int group) {
  const std::span<const PageId> now = seq.handle.pages(GroupId{group});
  const std::vector<PageId>& table = seq.tables[group];
  const int per_page = TokensPerPage(group);
  std::ostringstream where;
  where << "sequence " << index << ", group " << group << ": ";
  if (!std::equal(now.begin(), now.end(), table.begin(), table.end())) {
    return Fail(where.str() + "the page table changed though nothing touched the sequence");
  }
  if (static_cast<int64_t>(now.size()) < CeilDiv(seq.handle.capacity(), per_page)) {
    return Fail(where.str() + "the page table does not reach capacity()");
  }
  const auto length = static_cast<int64_t>(seq.path.size());
  std::set<PageId> seen;
  for (size_t slot = 0; slot < table.size(); ++slot) {
    if (keep_trace_) trace_ += " " + std::to_string(static_cast<int>(table[slot]));
    const auto begin = static_cast<int64_t>(slot) * per_page;
    if (table[slot] == kNoPage) {
      if (begin + per_page > length - Lookback(group) && begin < length && Lookback(group) > 0) {
        return Fail(where.str() + "a page within the lookback is missing");
      }
      continue;
    }
    if (!seen.insert(table[slot]).second) return Fail(where.str() + "a page twice in one table");
    // A tail whose copy is not carried out yet cannot hold anything, and a window of one token is
    // never read.
    if ((seq.awaits_plan && begin + per_page > length) || Lookback(group) == 0) continue;
    const Page& page = PageAt(group, table[slot]);
    for (int64_t at = begin; at < std::min<int64_t>(begin + per_page, seq.handle.valid_length());
         ++at) {
      const Cell& cell = page.cells[at - begin];
      const bool lost = cell.taint != 0 && cell.taint <= last_retired_;
      if (cell.node == seq.path[at] && !lost) continue;
      where << "token " << at << " in page " << static_cast<int>(table[slot])
            << (lost ? " comes from a failed copy" : " is not this sequence's");
      return Fail(where.str());
    }
  }
}

void Model::AuditWritable(Seq& seq) {
  const auto length = static_cast<int>(seq.path.size());
  const int end = seq.handle.capacity();
  for (int g = 0; g < groups() && end > length; ++g) {
    for (int slot = length / TokensPerPage(g); slot * TokensPerPage(g) < end; ++slot) {
      const PageId id = seq.tables[g][slot];
      if (id == kNoPage) return Fail("no page where the sequence will write");
      const Page& page = PageAt(g, id);
      if (page.refs != 1) return Fail("a sequence may write a page that others hold");
      if (page.indexed == Known::kYes) return Fail("a sequence may write a page that can be hit");
    }
  }
}

void Model::AuditStats() {
  const Stats stats = cache_->stats();
  if (stats.sequences != live()) Fail("Stats::sequences");
  // Copies made from a failed copy count, too.
  if (stats.copies_failed < copies_failed_) Fail("Stats::copies_failed");
  const MissTokens& missed = stats.missed;
  if (stats.tokens_hit + missed.last_token + missed.absent + missed.page_gone + missed.unaligned +
          missed.disabled !=
      stats.tokens_looked_up) {
    Fail("a missed token has no reason, or two");
  }
  for (int g = 0; g < groups(); ++g) {
    const GroupStats& group = stats.groups[g];
    const int count = options_.groups[g].page_count;
    if (keep_trace_) trace_ += " f" + std::to_string(group.pages_free);
    if (group.pages_free < 0 || group.pages_live < 0 || group.pages_cached < 0 ||
        group.pages_free + group.pages_live + group.pages_cached != count) {
      Fail("free + live + cached pages are not all pages");
    }
    if (group.bytes_live != group.pages_live * options_.groups[g].page_bytes) Fail("bytes_live");
    int live = 0, cached = 0, perhaps = 0;
    for (const Page& page : pages_[g]) {
      live += page.refs > 0;
      cached += page.refs == 0 && page.indexed == Known::kYes;
      perhaps += page.refs == 0 && page.indexed == Known::kMaybe;
    }
    if (group.pages_live < live) Fail("fewer live pages than page tables name");
    if (!tickets_.empty() || plan_pending_) continue;  // tickets hold pages, too
    if (group.pages_live != live) Fail("a page leaked: live, but in no page table");
    if (group.pages_cached < cached || group.pages_cached > cached + perhaps) {
      Fail("cached pages: " + std::to_string(group.pages_cached) + ", should be " +
           std::to_string(cached) + " to " + std::to_string(cached + perhaps));
    }
  }
  if (keep_trace_) trace_ += '\n';
}

std::string Replay(const Options& options, const std::vector<Op>& ops) {
  Model model(options);
  for (size_t i = 0; i < ops.size(); ++i) {
    const std::string error = model.Run(ops[i]);
    if (error.empty()) continue;
    std::ostringstream out;
    out << "after operation " << i << ", " << ops[i] << ": " << error;
    return out.str();
  }
  return "";
}

}  // namespace quire::testing
