// Pages that are handed out and given back: what they are worth, and who had to give them up.

#include <algorithm>

#include "tests/support/model.h"

namespace quire::testing {

// --------------------------------------------------------------------------------------- retention

// Token by token, as kv_cache.h says it: each has the highest priority of the ranges it is in, or
// the default; a page has the highest and the latest end of all that follows it in the request.
Model::Worth Model::WorthOf(const Seq& seq, int group, int slot) const {
  if (seq.retention.empty()) return {};
  const int begin = slot * TokensPerPage(group);
  const int end = std::max({seq.longest, static_cast<int>(seq.path.size()), begin + 1});
  Worth worth{.priority = 0};
  for (int at = begin; at < end; ++at) {
    int priority = -1;
    for (const Retention& range : seq.retention) {
      if (at < range.begin || at >= range.end) continue;
      priority = std::max(priority, range.priority);
      if (range.priority <= kDefaultPriority) continue;
      worth.ends = std::max(worth.ends,
                            range.lifetime_steps == 0 ? INT64_MAX : steps_ + range.lifetime_steps);
    }
    worth.priority = std::max(worth.priority, priority < 0 ? kDefaultPriority : priority);
  }
  return worth;
}

// A page keeps the most that any request gave it, until that is over. It gets what the pages after
// it are worth by then, whoever gave them that.
void Model::Note(Seq& seq, int group, PageId id, int slot) {
  Page& page = PageAt(group, id);
  if (page.indexed == Known::kNo) return;
  Worth worth = WorthOf(seq, group, slot);
  auto& [priority, ends, unsure] = seq.passed[static_cast<size_t>(group)];
  if (priority > kDefaultPriority && ends <= steps_) priority = kDefaultPriority;
  if (Lookback(group) == kAllTokens) {
    worth.priority = std::max(worth.priority, priority);
    if (priority > kDefaultPriority) worth.ends = std::max(worth.ends, ends);
  }
  if (worth.priority > kDefaultPriority) {
    const bool above = page.priority > kDefaultPriority;
    page.ends = above ? std::max(page.ends, worth.ends) : worth.ends;
  }
  page.priority = std::max(page.priority, worth.priority);
  // If this page is not in the index, those before it get nothing from it; nor do they get what it
  // was raised to later in the same call.
  page.unsure = page.unsure || unsure;
  unsure = page.unsure || page.indexed == Known::kMaybe || page.raised_at == now_;
  priority = page.priority;
  ends = page.ends;
}

// What was computed before anybody asked for retention counts as used by default.
void Model::BeginToRetain(int account) {
  if (!retaining_.insert(account).second) return;
  for (auto& group : pages_) {
    for (Page& page : group) {
      if (page.account == account) page.priority = std::max(page.priority, kDefaultPriority);
    }
  }
}

// A step begins. What is over counts as just given back, with the default.
void Model::EndLifetimes() {
  ++steps_;
  for (auto& group : pages_) {
    for (Page& page : group) {
      if (page.priority <= kDefaultPriority || page.ends > steps_) continue;
      page.priority = kDefaultPriority;
      if (page.refs > 0 || page.indexed == Known::kNo) continue;
      if (page.released_at >= 0) page.released_at = now_;
      ++counts["lifetime over"];
    }
  }
}

// ------------------------------------------------------------------------------------- page tables

// One more holder of a page, or one that was handed out. False: it is wrong.
bool Model::AdoptPage(const Seq& seq, int group, size_t slot, PageId was, PageId is,
                      bool allocates) {
  const auto id = static_cast<int32_t>(is);
  const auto bad = [this](const char* what) {
    Fail(what);
    return false;
  };
  if (id < 0 || id >= options_.groups[group].page_count) return bad("no such page in the pool");
  Page& page = PageAt(group, is);
  if (!allocates && page.refs == 0 && page.indexed == Known::kNo) {
    return bad("a page that is not in the index was hit");
  }
  if (!allocates && page.account != seq.account) return bad("a page of another tenant was hit");
  if (allocates) {
    if (page.refs > 0) return bad("a page was handed out while another sequence holds it");
    if (page.held > 0) return bad("a page was handed out while a ticket holds it");
    const int tail = static_cast<int>(seq.path.size()) % TokensPerPage(group);
    if (was != kNoPage && tail != 0 && slot == seq.path.size() / TokensPerPage(group)) {
      // A copy of a page that waits for its own copy comes from where that one comes from.
      const auto first = plan_targets_.find({group, static_cast<int32_t>(was)});
      const PageId source = first == plan_targets_.end() ? was : first->second.source;
      plan_targets_[{group, id}] = {tail, source};
      ++PageAt(group, source).planned;
    }
  }
  ++page.refs;
  return true;
}

// Takes the new page tables over, with what they say about pages that were handed out or given
// back.
void Model::Adopt(const std::vector<Seq*>& changed, const Stats& before, bool allocates) {
  struct Gone {
    Seq* seq;
    PageId page;
    int slot;
  };
  for (int g = 0; g < groups(); ++g) {
    std::vector<PageId> taken;
    std::vector<Charge> charges;
    std::vector<Gone> gone;
    for (Seq* seq : changed) {
      const std::span<const PageId> span = seq->handle.pages(GroupId{g});
      std::vector<PageId> now(span.begin(), span.end());
      std::vector<PageId>& old = seq->tables[g];
      Charge more{seq->account, 0};
      for (size_t slot = 0; slot < std::max(now.size(), old.size()); ++slot) {
        const PageId was = slot < old.size() ? old[slot] : kNoPage;
        const PageId is = slot < now.size() ? now[slot] : kNoPage;
        if (was == is) continue;
        if (was != kNoPage) gone.push_back({seq, was, static_cast<int>(slot)});
        if (is == kNoPage) continue;
        if (!AdoptPage(*seq, g, slot, was, is, allocates)) return;
        taken.push_back(is);
        // The copy's page is asked for by itself.
        if (was != kNoPage) charges.push_back({seq->account, 1});
        if (was == kNoPage) ++more.pages;
      }
      if (more.pages > 0) charges.push_back(more);
      old = std::move(now);
    }
    if (allocates) CheckEvictions(g, taken, charges, before.groups[g]);
    // The tail goes before the head.
    std::stable_sort(gone.begin(), gone.end(),
                     [](const Gone& a, const Gone& b) { return a.slot > b.slot; });
    for (const Gone& one : gone) {
      GiveBack(*one.seq, g, one.page, one.slot);
      // A source that waits for its copy; when it counts as released is left open.
      if (allocates) PageAt(g, one.page).released_at = -1;
    }
  }
}

void Model::GiveBack(Seq& seq, int group, PageId id, int slot) {
  Page& page = PageAt(group, id);
  Note(seq, group, id, slot);
  if (--page.refs > 0) return;
  page.released_at = page.held + page.planned > 0 ? -1 : now_;
  page.slot = slot;
  if (page.priority != kDefaultPriority && page.indexed == Known::kYes) ++counts["retained page"];
  const auto target = plan_targets_.find({group, static_cast<int>(id)});
  if (target == plan_targets_.end()) return;
  // Nobody wants the copy any more.
  --PageAt(group, target->second.source).planned;
  plan_targets_.erase(target);
}

// --------------------------------------------------------------------------------------- evictions

// Without quotas a page goes when there is no free one; with quotas by the rules of GiverOf. Those
// who give them up are known, and so is what they had: nothing that is worth less may have stayed.
void Model::CheckEvictions(int group, const std::vector<PageId>& taken,
                           const std::vector<Charge>& charges, const GroupStats& before) {
  const std::vector<int64_t> given = Given(group, PagesOf(before), charges);
  if (!error_.empty()) return;
  const GroupStats after = StatsOf(*cache_, group);
  int64_t evicted = 0;
  for (const int64_t count : given) evicted += count;
  if (after.evictions - before.evictions != evicted) {
    return Fail("evicted " + std::to_string(after.evictions - before.evictions) + " pages, not " +
                std::to_string(evicted));
  }
  counts["evicted"] += evicted;
  std::vector<int64_t> sure(given.size()), perhaps(given.size());
  std::vector<Page> victims;
  for (const PageId id : taken) {
    Page& page = PageAt(group, id);
    sure[page.account] += page.indexed == Known::kYes;
    perhaps[page.account] += page.indexed == Known::kMaybe;
    if (page.indexed != Known::kNo) victims.push_back(page);
    page.indexed = Known::kNo;
    page.stale = std::exchange(page.used, true);
    page.cells.assign(page.cells.size(), Cell());
    page.released_at = -1;
  }
  for (size_t a = 0; a < given.size(); ++a) {
    // The page that was freed last is handed out first.
    if (given[a] >= sure[a] && given[a] <= sure[a] + perhaps[a]) continue;
    return Fail("account " + std::to_string(a) + " gave up " + std::to_string(sure[a]) +
                " pages, should have been " + std::to_string(given[a]));
  }
  for (const Page& victim : victims) {
    if (victim.indexed == Known::kYes) CheckVictim(group, victim, victim.account);
  }
  for (const Page& victim : victims) KeepDuplicatesOf(group, victim);
  size_t next = 0;
  for (const Charge& charge : charges) {
    for (int64_t i = 0; i < charge.pages; ++i) {
      Page& page = PageAt(group, taken[next++]);
      page.account = charge.account;
      page.priority = 0;
      page.unsure = false;
    }
  }
}

// What stayed must not have been worth less.
void Model::CheckVictim(int group, const Page& victim, int victim_account) {
  // Of one release the tail is older; where windows release pages too, ties are left open.
  using Age = std::pair<int64_t, int>;
  const auto age = [this](const Page& page) {
    return Age(page.released_at, windows_ ? 0 : -page.slot);
  };
  // reclaimer_test knows the order of the other policies.
  const bool in_order = options_.reclaim == Reclaim::kLru && victim.released_at >= 0;
  for (const Page& page : pages_[group]) {
    if (page.refs > 0 || page.held + page.planned > 0 || page.indexed != Known::kYes) continue;
    if (page.account != victim_account) continue;
    if (page.unsure || victim.unsure) continue;
    if (page.priority < victim.priority) {
      return Fail("evicted a page of priority " + std::to_string(victim.priority) +
                  " although one of priority " + std::to_string(page.priority) + " was left");
    }
    if (page.priority > victim.priority) {
      ++counts["kept for its priority"];
    } else if (in_order && page.released_at >= 0 && age(page) < age(victim)) {
      return Fail("evicted a page released at " + std::to_string(victim.released_at) +
                  " although one released at " + std::to_string(page.released_at) + " was left");
    }
  }
  CheckClosed(group, victim.node());
}

// A page may go before its successors if there is another of the same tokens; that one is worth the
// default at least, from then on.
void Model::KeepDuplicatesOf(int group, const Page& victim) {
  if (retaining_.count(victim.account) == 0) return;
  for (Page& page : pages_[group]) {
    if (page.indexed == Known::kNo || page.node() != victim.node()) continue;
    if (victim.unsure || victim.indexed == Known::kMaybe) page.unsure = true;
    if (victim.priority == kDefaultPriority) {
      page.priority = std::max(page.priority, kDefaultPriority);
    }
    page.raised_at = now_;
  }
}

// No page stays without the page before it, unless it was a source when its holder let it go.
void Model::CheckClosed(int group, int node) {
  if (Lookback(group) != kAllTokens) return;
  for (const Page& page : pages_[group]) {
    if (page.indexed != Known::kNo && page.node() == node) return;
  }
  for (const Page& page : pages_[group]) {
    if (page.refs > 0 || page.held + page.planned > 0 || page.indexed != Known::kYes) continue;
    if (page.released_at < 0 || page.cells[0].node < 0) continue;
    if (parents_[static_cast<size_t>(page.cells[0].node)] == node) {
      return Fail("a page stayed without the page before it");
    }
  }
}

}  // namespace quire::testing
