// Must there be room?

#include <algorithm>
#include <utility>

#include "tests/support/model.h"

namespace quire::testing {

// ------------------------------------------------------------------------------------------ quotas

int Model::AccountOf(int ns) const {
  const std::optional<std::string> tenant = TenantOf(ns);
  for (size_t i = 0; i < options_.quotas.size(); ++i) {
    if (tenant == options_.quotas[i].tenant) return static_cast<int>(i);
  }
  return accounts() - 1;
}

Model::Pages Model::PagesOf(const GroupStats& stats) {
  if (stats.tenants.empty()) return {{stats.pages_live}, {stats.pages_cached}};
  Pages pages;
  for (const TenantStats& tenant : stats.tenants) {
    pages.live.push_back(tenant.pages_live);
    pages.cached.push_back(tenant.pages_cached);
  }
  return pages;
}

// Every cached page can go, and no live one. Nobody gets more than his maximum, and all that others
// are guaranteed stays theirs, used or not.
bool Model::HasRoom(int group, const Pages& now, const std::vector<int64_t>& need) const {
  int64_t sum = 0;
  for (int a = 0; a < accounts(); ++a) {
    const Share& share = shares_[group][a];
    const int64_t live = now.live[a] + need[a];
    if (live > share.max) return false;
    sum += std::max(live, share.guaranteed);
  }
  return sum <= options_.groups[group].page_count;
}

// Who gives a page up to others: the one most above his guarantee who has a cached one; of equals
// the first.
int Model::GiverOf(int group, const Pages& now, const std::vector<int64_t>& used) const {
  int giver = -1;
  int64_t most = 0;
  for (int a = 0; a < accounts(); ++a) {
    const int64_t above = used[a] - shares_[group][a].guaranteed;
    if (now.cached[a] == 0 || above <= most) continue;
    most = above;
    giver = a;
  }
  return giver;
}

// How many pages each account gives up when these are taken, one after the other.
std::vector<int64_t> Model::Given(int group, Pages now, const std::vector<Charge>& charges) {
  const auto count = static_cast<size_t>(accounts());
  std::vector<int64_t> given(count), used(count);
  for (size_t a = 0; a < count; ++a) used[a] = now.live[a] + now.cached[a];
  const auto give = [&](int account) {
    if (now.cached[account] == 0) return Fail("nobody had a page to give");
    --used[account];
    --now.cached[account];
    ++given[account];
  };
  const auto over = [&] {
    int64_t sum = -options_.groups[group].page_count;
    for (size_t a = 0; a < count; ++a) sum += std::max(used[a], shares_[group][a].guaranteed);
    return sum > 0;
  };
  for (const Charge& charge : charges) {
    used[charge.account] += charge.pages;
    while (used[charge.account] > shares_[group][charge.account].max && error_.empty()) {
      counts["gave up to himself"] += !options_.quotas.empty();
      give(charge.account);
    }
    while (over() && error_.empty()) {
      const int giver = GiverOf(group, now, used);
      if (giver < 0) {
        Fail("nobody had a page to give");
        break;
      }
      counts["gave up to others"] += giver != charge.account;
      give(giver);
    }
  }
  return given;
}

// Would a sequence of that length, grown like this, fit if nobody else were there? Walks it.
bool Model::Fits(int ns, int64_t total, int64_t step) const {
  if (total < 1 || step < 1 || total > options_.max_sequence_tokens) return false;
  for (int g = 0; g < groups(); ++g) {
    const int64_t limit = shares_[g][AccountOf(ns)].limit;
    for (int64_t length = 0; length < total; length += step) {
      const int64_t end = std::min(length + step, total);
      const int64_t gone = std::max<int64_t>(0, Horizon(g, length)) / TokensPerPage(g);
      if (PagesFor(g, end) - gone > limit) return false;
    }
  }
  return true;
}

void Model::Do(const FitsOp& op) {
  const Seen before = See();
  const absl::Status status = cache_->CheckFits(op.total, op.step, NamespaceOf(op.ns));
  if (See() != before) Fail("CheckFits changed something");
  if (Fits(op.ns, op.total, op.step)) {
    if (!status.ok()) Fail("CheckFits refused what fits: " + status.ToString());
    return;
  }
  ++counts["CheckFits refused"];
  if (!absl::IsInvalidArgument(status)) Fail("CheckFits answered " + status.ToString());
  if (status.message().empty()) Fail("CheckFits refused without a reason");
}

// ----------------------------------------------------------------------------------------- Reserve

Model::Need Model::NeedOf(const std::vector<Seq*>& seqs, const std::vector<int>& wanted) {
  Need need;
  need.low.assign(static_cast<size_t>(groups()), std::vector<int64_t>(shares_[0].size()));
  for (int g = 0; g < groups(); ++g) {
    for (size_t i = 0; i < seqs.size(); ++i) {
      const Seq& seq = *seqs[i];
      const auto length = static_cast<int64_t>(seq.path.size());
      const int64_t end = length + wanted[i];
      if (seq.handle.valid_length() < length) need.lost = true;
      if (end > options_.max_sequence_tokens) need.never_fits = true;
      const std::vector<PageId>& table = seq.tables[g];
      const auto have = static_cast<int64_t>(table.size());
      const int64_t more = std::max<int64_t>(0, PagesFor(g, end) - have);
      need.low[g][seq.account] += more;
      if (end > seq.handle.capacity()) {
        for (const int slot : PastWindow(seq, g)) {
          need.low[g][seq.account] -= PageAt(g, table[static_cast<size_t>(slot)]).refs == 1;
        }
      }
      const int64_t tail = length / TokensPerPage(g);
      if (tail < have && table[tail] == kNoPage) ++need.low[g][seq.account];
      // Pages that only a copy keeps in a window will leave it.
      const int64_t horizon = Horizon(g, length);
      int64_t resident = more;
      for (int64_t slot = 0; slot < have; ++slot) {
        resident += table[slot] != kNoPage && (slot + 1) * TokensPerPage(g) > horizon;
      }
      if (resident > shares_[g][seq.account].limit) need.never_fits = true;
    }
  }
  need.high = need.wish = need.low;
  for (int g = 0; g < groups(); ++g) {
    std::map<PageId, int> writers;
    for (const Seq* seq : seqs) {
      const size_t tail = seq->path.size() / static_cast<size_t>(TokensPerPage(g));
      const std::vector<PageId>& table = seq->tables[g];
      if (tail < table.size() && table[tail] != kNoPage) ++writers[table[tail]];
    }
    AddWriters(g, writers, &need);
  }
  return need;
}

// Those who want to write to a page that they hold need a copy of it, or not.
void Model::AddWriters(int group, const std::map<PageId, int>& writers, Need* need) {
  for (const auto& [id, count] : writers) {
    const Page& page = PageAt(group, id);
    // The last holder of a page without a key writes in place.
    const int least = count - (page.refs == count ? 1 : 0);
    need->wish[group][page.account] += page.indexed == Known::kNo ? least : count;
    // And the only holder of a page with a key that no copy names, when nothing else is left.
    const bool alone = page.refs == 1 && page.held + page.planned == 0;
    const bool is_target = plan_targets_.count({group, static_cast<int>(id)}) > 0;
    const bool keeps_all = page.indexed == Known::kNo || (alone && !is_target);
    need->low[group][page.account] += page.indexed == Known::kYes && !alone ? count : least;
    need->high[group][page.account] += keeps_all ? least : count;
  }
}

void Model::CheckReserve(const absl::Status& status, const Need& need, const Seen& before,
                         const Stats& stats) {
  bool has_room = true, surely_has_room = true;
  for (int g = 0; g < groups(); ++g) {
    const Pages now = PagesOf(stats.groups[g]);
    has_room = has_room && HasRoom(g, now, need.low[g]);
    surely_has_room = surely_has_room && HasRoom(g, now, need.high[g]);
  }
  if (status.ok()) {
    if (need.lost) Fail("Reserve went on although data was lost");
    if (need.never_fits || !has_room) Fail("Reserve found more pages than there are");
    return;
  }
  ++counts["Reserve: " + std::string(absl::StatusCodeToString(status.code()))];
  if (before != See()) Fail("a refused Reserve changed something");
  const int64_t out_of_room = cache_->stats().out_of_room - stats.out_of_room;
  if (out_of_room != absl::IsResourceExhausted(status)) Fail("out_of_room is not counted right");
  switch (status.code()) {
    case absl::StatusCode::kDataLoss:
      if (!need.lost) Fail("data loss without a failed copy");
      return;
    case absl::StatusCode::kInvalidArgument:
      if (!need.never_fits && !windows_) {
        Fail("refused for good, but it fits: " + status.ToString());
      }
      if (status.message().empty()) Fail("refused for good without a reason");
      return;
    case absl::StatusCode::kResourceExhausted:
      if (!status.message().empty()) Fail("'not now' is not bare");
      if (need.never_fits) Fail("'not now', but it can never fit");
      if (surely_has_room) Fail("'not now', but there is room");
      counts["refused for a quota"] += !options_.quotas.empty();
      return;
    default:
      Fail("Reserve answered " + status.ToString());
  }
}

// Tokens below it have left the window.
int64_t Model::Horizon(int group, int64_t length) const {
  return length - Lookback(group) - options_.max_rollback_tokens;
}

// The slots of pages that lie below the horizon and may go: those from the first one on that a copy
// names stay until that copy is known to be good.
std::vector<int> Model::PastWindow(const Seq& seq, int group) const {
  const int64_t horizon = Horizon(group, static_cast<int64_t>(seq.path.size()));
  std::vector<int> slots;
  for (int slot = 0; int64_t{slot + 1} * TokensPerPage(group) <= horizon; ++slot) {
    const PageId id = seq.tables[group][static_cast<size_t>(slot)];
    if (id == kNoPage) continue;
    const Page& page = pages_[group][static_cast<size_t>(id)];
    const bool is_target = plan_targets_.count({group, static_cast<int>(id)}) > 0;
    if (is_target || page.held + page.planned > 0) break;
    slots.push_back(slot);
  }
  return slots;
}

// What a copy kept in a window goes before Reserve looks for room. `stats`, from before, become
// what they are then.
void Model::LeaveWindows(const std::vector<Seq*>& takers, Stats* stats) {
  const Stats after = cache_->stats();
  for (int g = 0; g < groups(); ++g) {
    std::vector<int64_t> left(shares_[g].size()), sure(left), perhaps(left);
    for (Seq* seq : takers) {
      for (const int slot : PastWindow(*seq, g)) {
        ++counts["left a window late"];
        const PageId id = std::exchange(seq->tables[g][static_cast<size_t>(slot)], kNoPage);
        GiveBack(*seq, g, id, slot);
        const Page& page = PageAt(g, id);
        left[page.account] += page.refs == 0;
        sure[page.account] += page.refs == 0 && page.indexed == Known::kYes;
        perhaps[page.account] += page.refs == 0 && page.indexed == Known::kMaybe;
      }
      const std::span<const PageId> now = seq->handle.pages(GroupId{g});
      const size_t whole = seq->path.size() / static_cast<size_t>(TokensPerPage(g));
      if (!std::equal(now.begin(), now.begin() + whole, seq->tables[g].begin())) {
        Fail("Reserve gave back other pages than those that had left the window");
      }
    }
    const auto leave = [this, &left, &sure, &perhaps](size_t a, const auto& now, auto* then) {
      // Nothing else becomes cached in a Reserve.
      const int64_t cached =
          now.pages_cached - then->pages_cached + now.evictions - then->evictions;
      if (cached < sure[a] || cached > sure[a] + perhaps[a]) {
        Fail("what left a window late is not cached, or was not in the index");
      }
      then->pages_live -= left[a];
      then->pages_cached += cached;
    };
    GroupStats& before = stats->groups[g];
    if (before.tenants.empty()) leave(0, after.groups[g], &before);
    for (size_t a = 0; a < before.tenants.size(); ++a) {
      leave(a, after.groups[g].tenants[a], &before.tenants[a]);
    }
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
    counts["tail with a key written in place"] += in_place;
    shells_ = shells_ || in_place > 0;
    // Copies for which there was no room: beyond an account's maximum, and then beyond the pool.
    const Pages now = PagesOf(stats.groups[g]);
    int64_t short_of = 0, sum = 0;
    for (int a = 0; a < accounts(); ++a) {
      const Share& share = shares_[g][a];
      const int64_t live = now.live[a] + need.wish[g][a];
      short_of += std::max<int64_t>(0, live - share.max);
      sum += std::max(std::min(live, share.max), share.guaranteed);
    }
    short_of += std::max<int64_t>(0, sum - options_.groups[g].page_count);
    if (exact && in_place > short_of) {
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
  Stats stats = cache_->stats();
  const Seen before = See();
  std::vector<Seq*> takers;
  for (size_t i = 0; i < seqs.size(); ++i) {
    const auto end = static_cast<int>(seqs[i]->path.size()) + op.counts[i];
    if (end > seqs[i]->handle.capacity()) takers.push_back(seqs[i]);
  }
  const absl::Status status = handles.size() == 1 ? handles[0]->Reserve(op.counts[0])
                                                  : cache_->ReserveAll(handles, op.counts);
  CheckReserve(status, need, before, stats);
  if (!status.ok() || !error_.empty()) return;
  AdoptTailsInPlace(seqs, need, stats);
  LeaveWindows(takers, &stats);
  Adopt(seqs, stats, /*allocates=*/true);
  for (size_t i = 0; i < seqs.size(); ++i) {
    Seq& seq = *seqs[i];
    if (seq.handle.capacity() < static_cast<int>(seq.path.size()) + op.counts[i]) {
      return Fail("ReserveAll did not make the room it was asked for");
    }
    seq.awaits_plan = plan_pending_ = true;
  }
}

}  // namespace quire::testing
