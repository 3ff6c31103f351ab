// Copies, and what is left of pages whose copy failed.

#include <algorithm>
#include <sstream>

#include "tests/support/model.h"

namespace quire::testing {

void Model::CarryOutPlan(bool fails) {
  Outstanding out;
  out.plan = cache_->TakePlan();
  out.ticket = out.plan.ticket;
  out.copies.assign(out.plan.copies.begin(), out.plan.copies.end());
  out.fails = fails && !options_.scrub_released;  // simulation_test has scrubs that fail
  plan_pending_ = false;
  const auto wanted = std::exchange(plan_targets_, {});
  for (auto& seq : seqs_) seq->awaits_plan = false;
  for (auto& group : pages_) {
    for (Page& page : group) page.planned = 0;
  }
  EndLifetimes();
  if (out.copies.size() != wanted.size()) {
    return Fail("the plan has " + std::to_string(out.copies.size()) + " copies, not " +
                std::to_string(wanted.size()));
  }
  if (!options_.scrub_released && !out.plan.scrubs.empty())
    return Fail("scrubs without the option");
  if ((out.copies.empty() && out.plan.scrubs.empty()) != (out.ticket == kNoTicket)) {
    return Fail("an empty plan has a ticket, or another one has none");
  }
  if (out.ticket == kNoTicket) return CheckScrubbed();
  const auto number = static_cast<uint64_t>(out.ticket);
  if (number <= last_ticket_) return Fail("tickets do not increase");
  last_ticket_ = number;
  Scrub(out.plan.scrubs);
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
    CheckClean(to);
    to.cells.assign(to.cells.size(), Cell());
    std::copy_n(from.cells.begin(), copy.token_count, to.cells.begin());
    for (int j = 0; out.fails && j < copy.token_count; ++j) {
      if (to.cells[j].taint == 0) to.cells[j].taint = number;
    }
    ++to.held;
    ++from.held;
    from.released_at = -1;
    ++counts["copy"];
  }
  CheckScrubbed();
  for (const auto& target : targets) {
    if (sources.count(target) > 0) return Fail("a page is source and target in one plan");
  }
  for (const PageScrub& scrub : out.plan.scrubs) {
    if (sources.count({static_cast<int>(scrub.group), scrub.page}) == 0) continue;
    return Fail("a source is scrubbed before it is copied");
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

// Before the plan's copies: pages that are free, or that somebody took and has not written to.
void Model::Scrub(std::span<const PageScrub> scrubs) {
  std::set<std::pair<int, PageId>> seen;
  for (const PageScrub& scrub : scrubs) {
    const int g = static_cast<int>(scrub.group);
    if (g < 0 || g >= groups() || scrub.tier != Tier::kDevice) return Fail("a scrub of no page");
    if (!seen.emplace(g, scrub.page).second) return Fail("a page is scrubbed twice");
    Page& page = PageAt(g, scrub.page);
    if (page.held > 0) return Fail("a page is scrubbed while a ticket holds it");
    if (page.refs == 0 && page.indexed == Known::kYes) return Fail("a cached page is scrubbed");
    if (page.refs > 0 && !page.stale) return Fail("a page is scrubbed though it has tokens");
    page.stale = false;
    page.used = page.refs > 0;
    ++counts["scrub"];
  }
}

void Model::CheckScrubbed() {
  if (!options_.scrub_released) return;
  for (const auto& group : pages_) {
    for (const Page& page : group) {
      if (page.refs > 0 || page.held > 0 || page.indexed != Known::kNo || !page.used) continue;
      return Fail("a page is free and was not scrubbed");
    }
  }
}

// Before something is written to it.
void Model::CheckClean(const Page& page) {
  if (options_.scrub_released && page.stale) Fail("a page is written to before its scrub");
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

}  // namespace quire::testing
