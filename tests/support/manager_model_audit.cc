// The whole state, compared after every operation.

#include <algorithm>

#include "tests/support/model.h"

namespace quire::testing {

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
  const auto fail = [&](const std::string& what) {
    Fail("sequence " + std::to_string(index) + ", group " + std::to_string(group) + ": " + what);
  };
  if (!std::equal(now.begin(), now.end(), table.begin(), table.end())) {
    return fail("the page table changed though nothing touched the sequence");
  }
  if (static_cast<int64_t>(now.size()) < PagesFor(group, seq.handle.capacity())) {
    return fail("the page table does not reach capacity()");
  }
  const auto length = static_cast<int64_t>(seq.path.size());
  std::vector<bool> seen(pages_[group].size());
  for (size_t slot = 0; slot < table.size(); ++slot) {
    if (keep_trace_) trace_ += " " + std::to_string(static_cast<int>(table[slot]));
    const auto begin = static_cast<int64_t>(slot) * per_page;
    if (table[slot] == kNoPage) {
      if (begin + per_page > length - Lookback(group) && begin < length && Lookback(group) > 0) {
        return fail("a page within the lookback is missing");
      }
      continue;
    }
    if (seen[static_cast<size_t>(table[slot])]) return fail("a page twice in one table");
    seen[static_cast<size_t>(table[slot])] = true;
    // A tail whose copy is not carried out yet cannot hold anything, and a window of one token is
    // never read.
    if ((seq.awaits_plan && begin + per_page > length) || Lookback(group) == 0) continue;
    const Page& page = PageAt(group, table[slot]);
    for (int64_t at = begin; at < std::min<int64_t>(begin + per_page, seq.handle.valid_length());
         ++at) {
      const Cell& cell = page.cells[at - begin];
      const bool lost = cell.taint != 0 && cell.taint <= last_retired_;
      if (cell.node == seq.path[at] && !lost) continue;
      return fail("token " + std::to_string(at) + " in page " +
                  std::to_string(static_cast<int>(table[slot])) +
                  (lost ? " comes from a failed copy" : " is not this sequence's"));
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
  for (int g = 0; g < groups() && error_.empty(); ++g) AuditGroup(g, stats.groups[g]);
  if (keep_trace_) trace_ += '\n';
}

void Model::AuditGroup(int group, const GroupStats& stats) {
  const int count = options_.groups[group].page_count;
  if (keep_trace_) trace_ += " f" + std::to_string(stats.pages_free);
  if (stats.pages_free < 0 || stats.pages_live < 0 || stats.pages_cached < 0 ||
      stats.pages_free + stats.pages_live + stats.pages_cached != count) {
    return Fail("free + live + cached pages are not all pages");
  }
  if (stats.bytes_live != stats.pages_live * options_.groups[group].page_bytes) Fail("bytes_live");
  if (stats.tenants.size() != (options_.quotas.empty() ? 0 : options_.quotas.size() + 1)) {
    return Fail("not one TenantStats for each quota and one for all others");
  }
  const Pages pages = PagesOf(stats);
  int64_t live = 0, cached = 0;
  for (int a = 0; a < accounts(); ++a) {
    AuditAccount(group, a, pages.live[a], pages.cached[a]);
    live += pages.live[a];
    cached += pages.cached[a];
    if (options_.quotas.empty()) continue;
    const TenantStats& tenant = stats.tenants[a];
    const bool named = a + 1 < accounts();
    if (tenant.tenant != (named ? options_.quotas[a].tenant : "")) Fail("TenantStats::tenant");
    if (tenant.guaranteed_pages != shares_[group][a].guaranteed) Fail("guaranteed_pages");
    if (tenant.max_pages != shares_[group][a].max) Fail("max_pages");
  }
  if (live != stats.pages_live || cached != stats.pages_cached) {
    Fail("the tenants' pages do not add up to the group's");
  }
}

// An account's pages, counted again.
void Model::AuditAccount(int group, int account, int64_t live, int64_t cached) {
  int64_t held = 0, surely = 0, perhaps = 0;
  for (const Page& page : pages_[group]) {
    if (page.account != account) continue;
    const bool is_held = page.refs > 0 || page.held + page.planned > 0;
    held += is_held;
    surely += !is_held && page.indexed == Known::kYes;
    perhaps += !is_held && page.indexed == Known::kMaybe;
  }
  const auto fail = [&](const char* what, int64_t is, int64_t should) {
    Fail("account " + std::to_string(account) + " of group " + std::to_string(group) + " has " +
         std::to_string(is) + what + std::to_string(should));
  };
  if (live != held) return fail(" live pages; tables and plans name ", live, held);
  if (cached < surely) return fail(" cached pages; there should be at least ", cached, surely);
  if (cached > surely + perhaps) {
    return fail(" cached pages; there should be at most ", cached, surely + perhaps);
  }
  if (live + cached > shares_[group][account].max) {
    fail(" pages; its maximum is ", live + cached, shares_[group][account].max);
  }
}

}  // namespace quire::testing
