// Answers, fences and retirement as an engine does them, and what must hold.

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/simulation_engine.h"

namespace quire::testing {

Simulation::Simulation(uint64_t seed, EngineFault fault)
    : seed_(seed),
      fault_(fault),
      random_(seed),
      options_(DrawOptions()),
      climate_(DrawClimate()),
      tracker_(climate_.ranks),
      failed_(1, false) {
  namespaces_.resize(4);
  namespaces_[1].SetTenant("a");
  namespaces_[2].SetTenant("b");
  namespaces_[3].SetTenant("a").SetLora("b");
  retention_ = {{.begin = 0, .end = 8, .priority = 80, .lifetime_steps = 20},
                {.begin = 4, .end = kAllTokens, .priority = 20, .lifetime_steps = 0}};
  absl::StatusOr<std::unique_ptr<KvCache>> cache = KvCache::Create(options_);
  if (!cache.ok()) {
    Violation("Create: " + cache.status().ToString());
    return;
  }
  cache_ = *std::move(cache);
  for (int32_t r = 0; r < climate_.ranks; ++r) {
    const uint64_t device_seed = random_.Next();
    devices_.push_back(
        std::make_unique<SimulatedDevice>(options_.groups, r, device_seed, climate_.faults));
  }
  for (const GroupOptions& group : options_.groups) {
    held_.emplace_back(static_cast<size_t>(group.page_count), 0);
  }
}

SimulationReport Simulation::Run(int32_t steps) {
  while (violation_.empty() && step_ < steps) Step();
  if (violation_.empty()) Drain();
  for (const auto& device : devices_) counts_of_.tokens_read += device->slots_read();
  return {trace_.value(), violation_, counts_of_};
}

SimulationReport RunSimulation(uint64_t seed, int32_t steps, EngineFault fault) {
  return Simulation(seed, fault).Run(steps);
}

void Simulation::RunRank(int32_t rank, int32_t entries) {
  devices_[static_cast<size_t>(rank)]->Run(entries);
  Judge();
}

void Simulation::HearAnswers() {
  for (int32_t r = 0; r < climate_.ranks; ++r) {
    SimulatedDevice& device = *devices_[static_cast<size_t>(r)];
    if (climate_.polls) {
      for (Ticket ticket{static_cast<uint64_t>(retired_) + 1}; ticket <= device.last_ticket();
           ticket = Ticket{static_cast<uint64_t>(ticket) + 1}) {
        const absl::StatusOr<bool> done = device.IsDone(ticket);
        if (!done.ok() || *done) Heard(r, ticket, done.status());
      }
    } else if (const auto message = device.TakeMessage(); message.has_value()) {
      Heard(r, message->ticket, message->status);
    }
  }
  RetireDone();
}

void Simulation::Heard(int32_t rank, Ticket ticket, const absl::Status& status) {
  if (fault_ == EngineFault::kTakesAnyAnswer && !tracker_.empty()) ticket = tracker_.oldest();
  if (!tracker_.Answer(rank, ticket, status)) ++counts_of_.answers_ignored;
  if (fault_ != EngineFault::kRetiresAtTheFirstAnswer) return;
  for (int32_t r = 0; r < climate_.ranks; ++r) tracker_.Answer(r, ticket, status);
}

// Waits until the rank's stream is empty. Then nothing of it can touch a page any more; how copies
// went whose answer is not here yet, nobody knows.
void Simulation::Fence(int32_t rank) {
  ++counts_of_.fences;
  SimulatedDevice& device = *devices_[static_cast<size_t>(rank)];
  device.Drain();
  tracker_.Fence(rank, device.last_ticket(), absl::Status(absl::StatusCode::kUnavailable, ""));
  RetireDone();
}

void Simulation::FenceAll() {
  for (int32_t r = 0; r < climate_.ranks; ++r) Fence(r);
}

// An answer that does not come is lost, and its pages with it, unless somebody stops waiting.
void Simulation::LosePatience() {
  if (tracker_.oldest() != oldest_) {
    oldest_ = tracker_.oldest();
    oldest_since_ = step_;
  }
  if (tracker_.empty() || step_ - oldest_since_ < climate_.patience) return;
  for (int32_t r = 0; r < climate_.ranks; ++r) {
    if (!tracker_.Owes(r)) continue;
    if (fault_ == EngineFault::kGivesUpWithoutAFence) {
      tracker_.Fence(r, devices_[static_cast<size_t>(r)]->last_ticket(), absl::OkStatus());
      RetireDone();
    } else {
      Fence(r);
    }
  }
}

void Simulation::RetireDone() {
  bool lost = false;
  while (auto done = tracker_.TakeDone()) {
    const Ticket ticket = done->first;
    const absl::Status status =
        fault_ == EngineFault::kRetiresWithoutStatus ? absl::OkStatus() : done->second;
    trace_.Add(static_cast<uint64_t>(ticket));
    trace_.Add(static_cast<int32_t>(status.code()));
    if (fault_ != EngineFault::kForgetsToRetire) cache_->Retire(ticket, status);
    retired_ = ticket;
    failed_.resize(static_cast<size_t>(ticket) + 1, false);
    failed_[static_cast<size_t>(ticket)] = !status.ok();
    for (const PageCopy& copy : plans_held_.front().second) {
      std::vector<int32_t>& held = held_[static_cast<size_t>(copy.group)];
      --held[static_cast<size_t>(copy.from_page)];
      --held[static_cast<size_t>(copy.to_page)];
    }
    plans_held_.pop_front();
    counts_of_.plans_failed += !status.ok();
    lost = lost || !status.ok();
  }
  // Or later, when a call answers kDataLoss.
  if (lost && random_.OneIn(2)) HandleLosses();
  Judge();
}

// A result counts when all ranks have run the launch, and all plans that were queued before it have
// been retired: only then is it known whether it was computed from good pages. A sequence must stay
// alive until then, or nobody could be told.
void Simulation::Judge() {
  while (!in_flight_.empty() && in_flight_.front()->ranks_left == 0) {
    const std::shared_ptr<SimulatedLaunch> launch = in_flight_.front();
    if (retired_ < launch->taken && fault_ != EngineFault::kDeliversEarly) break;
    bool failed = launch->lost;
    for (uint64_t t = static_cast<uint64_t>(launch->retired) + 1;
         t <= static_cast<uint64_t>(std::min(launch->taken, retired_)); ++t) {
      failed = failed || failed_[t];
    }
    in_flight_.pop_front();
    for (SimulatedRow& row : launch->rows) JudgeRow(*launch, &row, failed);
  }
  for (size_t i = running_.size(); i-- > 0;) {
    if (running_[i]->finishing && running_[i]->results == 0) Finish(running_[i].get());
  }
}

void Simulation::JudgeRow(const SimulatedLaunch& launch, SimulatedRow* row, bool failed) {
  ++counts_of_.results;
  Request* request = row->request;
  bool relied_on = false;
  if (request != nullptr) {
    --request->results;
    const int32_t valid = request->sequence.valid_length();
    relied_on = valid == request->sequence.length() || row->length + row->count <= valid;
  }
  if (row->wrong && (relied_on || !(failed || row->told))) {
    Violation(absl::StrCat("a kernel read bytes of another: rank ", launch.wrong_rank, ", group ",
                           launch.wrong_group, ", page ", static_cast<int32_t>(launch.wrong_page),
                           ", token ", launch.wrong_position, " of a row of ", row->length, " + ",
                           row->count, failed ? "; relied on after a failed copy" : ""));
  }
  // Unless a scrub failed that nobody had heard of yet, or this very sequence had lost its pages
  // since Reserve; in slots that are read it was wrong, too.
  if (row->leaked && !failed && !row->lost) Violation("a page holds bytes of another namespace");
  if (!relied_on) return;
  request->certain = std::max(request->certain, std::min(row->known, request->known()));
  trace_.Add(request->certain);
}

void Simulation::Finish(Request* request) {
  if (request->sequence.valid_length() < request->sequence.length()) return;
  ++counts_of_.finished;
  trace_.Add(request->id);
  history_.push_back(request->tokens);
  if (history_.size() > 12) history_.erase(history_.begin());
  Remove(request);
}

// Pages that Reserve took for the batch. `had`: how many each sequence had before, for each group.
void Simulation::CheckNewPages(const std::vector<int32_t>& had) {
  size_t i = 0;
  for (const Item& item : batch_) {
    for (size_t g = 0; g < options_.groups.size(); ++g) {
      const std::span<const PageId> pages =
          item.request->sequence.pages(GroupId{static_cast<int32_t>(g)});
      for (size_t p = static_cast<size_t>(had[i++]); p < pages.size(); ++p) {
        trace_.Add(pages[p]);
        if (held_[g][static_cast<size_t>(pages[p])] == 0) continue;
        Violation(absl::StrCat("group ", g, ": page ", static_cast<int32_t>(pages[p]),
                               " was handed out while a plan names it"));
      }
    }
  }
}

void Simulation::HoldPlan(const Plan& plan) {
  counts_of_.copies += static_cast<int64_t>(plan.copies.size());
  counts_of_.scrubs += static_cast<int64_t>(plan.scrubs.size());
  for (const PageScrub& scrub : plan.scrubs) {
    trace_.Add(static_cast<uint64_t>(scrub.group));
    trace_.Add(scrub.page);
  }
  for (const PageCopy& copy : plan.copies) {
    const auto g = static_cast<size_t>(copy.group);
    trace_.Add(static_cast<uint64_t>(copy.group));
    trace_.Add(copy.from_page);
    trace_.Add(copy.to_page);
    trace_.Add(copy.token_count);
    if (held_[g][static_cast<size_t>(copy.to_page)] > 0) {
      Violation(absl::StrCat("group ", g, ": page ", static_cast<int32_t>(copy.to_page),
                             " is the target of a copy while a plan names it"));
    }
  }
  // After all have been looked at: the copies of one plan may share a source.
  for (const PageCopy& copy : plan.copies) {
    std::vector<int32_t>& held = held_[static_cast<size_t>(copy.group)];
    ++held[static_cast<size_t>(copy.from_page)];
    ++held[static_cast<size_t>(copy.to_page)];
  }
  plans_held_.emplace_back(plan.ticket,
                           std::vector<PageCopy>(plan.copies.begin(), plan.copies.end()));
}

// All clients go, the engine ends its step, the fences drain: then every page is accounted for.
void Simulation::Drain() {
  ++counts_of_.drains;
  waiting_.clear();
  while (!running_.empty()) {
    VoidResults(running_.back().get(), 0);
    Remove(running_.back().get());
  }
  while (phase_ != Phase::kSchedule) Advance();
  FenceAll();
  if (!tracker_.empty() || !in_flight_.empty())
    Violation("something is in flight after all fences");
  if (options_.scrub_released) {  // what was given back is in the next plan
    phase_ = Phase::kTakePlan;
    plan_ = {};
    while (phase_ != Phase::kSchedule) Advance();
    if (!plan_.copies.empty()) Violation("a copy, though no sequence is alive");
    FenceAll();
  } else if (cache_->TakePlan().ticket != kNoTicket) {
    Violation("a plan, though no sequence is alive");
  }
  CheckDrained(false);
  if (random_.OneIn(2)) return;
  cache_->ClearCached();
  CheckDrained(true);
}

void Simulation::CheckDrained(bool cleared) {
  Validate();
  const Stats stats = cache_->stats();
  for (size_t g = 0; g < options_.groups.size(); ++g) {
    const GroupStats& group = stats.groups[g];
    trace_.Add(group.pages_free);
    trace_.Add(group.evictions);
    const bool whole = group.pages_free + group.pages_cached == options_.groups[g].page_count;
    if (group.pages_live == 0 && whole && (!cleared || group.pages_cached == 0)) continue;
    Violation(absl::StrCat("group ", g, " lost pages: ", group.pages_free, " free, ",
                           group.pages_live, " live, ", group.pages_cached, " cached of ",
                           options_.groups[g].page_count));
  }
  if (stats.sequences != 0) Violation("sequences are alive after all were dropped");
}

void Simulation::Validate() {
  const absl::Status status = cache_->Validate();
  if (!status.ok()) Violation(absl::StrCat("Validate: ", std::string(status.message())));
}

// The first one is what matters.
void Simulation::Violation(const std::string& what) {
  if (!violation_.empty()) return;
  violation_ = absl::StrCat("seed ", seed_, ", step ", step_, ": ", what);
}

}  // namespace quire::testing
