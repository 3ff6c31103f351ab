// The engine's step, phase by phase. Between any two of them, and between the ranks of one,
// anything else may happen; so a phase looks at what is left of the batch.

#include "tests/support/simulation_engine.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace quire::testing {

void Simulation::Step() {
  ++step_;
  const int32_t move = random_.Below(32);
  trace_.Add(move);
  if (move < 16) {
    for (int32_t phases = random_.Between(1, climate_.phases); phases > 0; --phases) Advance();
  } else if (move < 23) {
    const int32_t rank = random_.Below(climate_.ranks);
    const int32_t entries = random_.Between(1, climate_.entries);
    RunRank(rank, entries);
  } else if (move < 27) {
    HearAnswers();
  } else if (move < 31) {
    MoveClient();
  } else {
    MoveRarely();
  }
  if (step_ % 32 == 0) Validate();
}

void Simulation::Advance() {
  trace_.Add(static_cast<int32_t>(phase_));
  switch (phase_) {
    case Phase::kSchedule:
      LosePatience();
      if (static_cast<int32_t>(in_flight_.size()) >= climate_.depth) {
        for (int32_t r = 0; r < climate_.ranks; ++r) RunRank(r, climate_.entries);
        return HearAnswers();
      }
      return Schedule();
    case Phase::kReserve:
      return Reserve();
    case Phase::kTakePlan:
      return TakePlan();
    case Phase::kCopy:
      return CopyOnNextRank();
    case Phase::kLaunch:
      return LaunchOnNextRank();
    case Phase::kCommit:
      return Commit();
    case Phase::kVerify:
      return Verify();
  }
}

void Simulation::Schedule() {
  batch_.clear();
  // Whoever was just preempted would only take the room back.
  while (!std::exchange(preempted_, false) && random_.OneIn(2) && StartWaiting()) continue;
  for (size_t i = running_.size(); i-- > 0;) {
    if (running_[i]->forks > 0 || random_.OneIn(64)) ForkSomebody(running_[i].get());
  }
  if (random_.OneIn(32)) EditSomebody();
  for (const auto& request : running_) {
    if (!request->finishing && !random_.OneIn(8)) AddToBatch(request.get());
  }
  if (!batch_.empty()) phase_ = Phase::kReserve;
}

bool Simulation::StartWaiting() {
  if (waiting_.empty()) return false;
  Request* request = waiting_.front().get();
  StartOptions options;
  options.read_cache = request->read_cache;
  options.write_cache = request->write_cache;
  if (climate_.retention && random_.OneIn(2)) options.retention = retention_;
  absl::StatusOr<Sequence> sequence =
      cache_->Start(request->tokens, namespaces_[static_cast<size_t>(request->ns)], options);
  trace_.Add(static_cast<int32_t>(sequence.status().code()));
  if (!sequence.ok()) {
    if (!absl::IsResourceExhausted(sequence.status())) {
      Violation("Start of what CheckFits accepted: " + sequence.status().ToString());
    }
    return false;
  }
  request->sequence = *std::move(sequence);
  if (request->weights != weights_) request->paths.clear();
  request->weights = weights_;
  ExtendPaths(request);
  counts_of_.hits += request->sequence.hit_tokens();
  trace_.Add(request->sequence.hit_tokens());
  for (size_t g = 0; g < options_.groups.size(); ++g) {
    for (const PageId page : request->sequence.pages(GroupId{static_cast<int32_t>(g)})) {
      trace_.Add(page);
    }
  }
  running_.push_back(std::move(waiting_.front()));
  waiting_.pop_front();
  return true;
}

void Simulation::AddToBatch(Request* request) {
  const int32_t remaining = request->known() - request->sequence.length();
  Item item = {.request = request,
               .count = std::min(remaining, request->chunk),
               .drafts = 0,
               .draft_tokens = {}};
  if (remaining == 1) {
    const int32_t room = std::min(request->chunk, request->target - request->sequence.length()) - 1;
    item.drafts = random_.Below(std::min(request->drafts, room) + 1);
    for (int32_t i = 0; i < item.drafts; ++i) {
      item.draft_tokens[static_cast<size_t>(i)] = random_.Below(climate_.tokens);
    }
    item.count += item.drafts;
  }
  batch_.push_back(item);
}

void Simulation::Reserve() {
  std::vector<int32_t> had;
  sequences_.clear();
  counts_.clear();
  for (const Item& item : batch_) {
    sequences_.push_back(&item.request->sequence);
    counts_.push_back(item.count);
    for (size_t g = 0; g < options_.groups.size(); ++g) {
      const GroupId group{static_cast<int32_t>(g)};
      had.push_back(static_cast<int32_t>(item.request->sequence.pages(group).size()));
    }
  }
  const absl::Status status = cache_->ReserveAll(sequences_, counts_);
  trace_.Add(static_cast<int32_t>(status.code()));
  phase_ = Phase::kSchedule;
  if (status.ok()) {
    CheckNewPages(had);
    phase_ = Phase::kTakePlan;
  } else if (absl::IsDataLoss(status)) {
    HandleLosses();
  } else if (absl::IsInvalidArgument(status)) {
    ReserveOneByOne();
  } else {
    MakeRoom();
  }
}

// A step of that many tokens never fits; one of them does.
void Simulation::ReserveOneByOne() {
  for (const Item& item : batch_) {
    const absl::Status status = item.request->sequence.Reserve(item.count);
    trace_.Add(static_cast<int32_t>(status.code()));
    if (!absl::IsInvalidArgument(status)) continue;
    if (item.count == 1) Violation("CheckFits accepted it: " + status.ToString());
    item.request->chunk = 1;
  }
}

void Simulation::MakeRoom() {
  Request* const first = batch_.front().request;
  for (size_t i = running_.size(); i-- > 0;) {
    if (running_[i].get() == first || running_[i]->finishing) continue;
    preempted_ = true;
    return Preempt(running_[i].get());
  }
  // Finished requests and plans in flight hold pages that come back.
  if (!tracker_.empty() || running_.size() > 1) return FenceAll();
  // So does a plan that nobody has taken yet.
  if (gave_up_) {
    batch_.clear();
    phase_ = Phase::kTakePlan;
    return;
  }
  // An accidental match can be what does not fit beside the request's own pages.
  if (!first->read_cache) return Violation("no room for one request alone in an idle cache");
  first->read_cache = false;
  Preempt(first);
}

void Simulation::TakePlan() {
  // Now and then a step is given up here; what it reserved, and its copies, are the next one's.
  if (random_.OneIn(16)) {
    gave_up_ = true;
    phase_ = Phase::kSchedule;
    return;
  }
  gave_up_ = false;
  plan_ = cache_->TakePlan();
  trace_.Add(static_cast<uint64_t>(plan_.ticket));
  phase_ = Phase::kLaunch;
  if (plan_.ticket == kNoTicket) return;
  HoldPlan(plan_);
  taken_ = plan_.ticket;
  tracker_.Add(plan_.ticket);
  phase_ = Phase::kCopy;
}

void Simulation::CopyOnNextRank() {
  if (fault_ == EngineFault::kSkipsARank && at_rank_ + 1 == climate_.ranks) {
    Heard(at_rank_, plan_.ticket, absl::OkStatus());
  } else {
    if (fault_ == EngineFault::kSkipsScrubs) plan_.scrubs = {};
    absl::Status status = devices_[static_cast<size_t>(at_rank_)]->Copy(plan_, Stream());
    trace_.Add(static_cast<int32_t>(status.code()));
    const bool answered = !status.ok();
    if (fault_ == EngineFault::kIgnoresRefusedCopies) status = absl::OkStatus();
    if (answered) Heard(at_rank_, plan_.ticket, status);
  }
  if (++at_rank_ < climate_.ranks) return;
  at_rank_ = 0;
  phase_ = Phase::kLaunch;
}

void Simulation::LaunchOnNextRank() {
  if (at_rank_ == 0) {
    // Now and then a step comes to nothing after all; what it reserved is there for the next one.
    if (batch_.empty() || random_.OneIn(32)) {
      phase_ = Phase::kSchedule;
      return;
    }
    BuildLaunch();
  }
  devices_[static_cast<size_t>(at_rank_)]->Launch(launch_);
  if (++at_rank_ < climate_.ranks) return;
  at_rank_ = 0;
  launch_.reset();
  phase_ = Phase::kCommit;
}

void Simulation::BuildLaunch() {
  launch_ = std::make_shared<SimulatedLaunch>();
  launch_->retired = retired_;
  launch_->taken = taken_;
  launch_->ranks_left = climate_.ranks;
  launch_->clean = options_.scrub_released;
  launch_->rows.reserve(batch_.size());
  for (const Item& item : batch_) {
    Request& request = *item.request;
    SimulatedRow row;
    row.request = &request;
    row.ns = request.ns;
    row.length = request.sequence.length();
    row.count = item.count;
    row.known = row.length + item.count - item.drafts + 1;
    row.told = request.sequence.valid_length() < row.length;
    row.lost = absl::IsDataLoss(request.sequence.Reserve(0));
    row.paths_begin = static_cast<int64_t>(launch_->paths.size());
    const int32_t own = row.length + item.count - item.drafts;
    launch_->paths.insert(launch_->paths.end(), request.paths.begin(), request.paths.begin() + own);
    for (int32_t i = 0; i < item.drafts; ++i) {
      launch_->paths.push_back(
          ExtendPath(launch_->paths.back(), item.draft_tokens[static_cast<size_t>(i)]));
    }
    launch_->rows.push_back(row);
    ++request.results;
  }
  BuildTables(launch_.get());
  in_flight_.push_back(launch_);
  ++counts_of_.launches;
}

void Simulation::BuildTables(SimulatedLaunch* launch) {
  std::vector<const Sequence*> sequences;
  counts_.clear();
  for (const Item& item : batch_) {
    sequences.push_back(&item.request->sequence);
    counts_.push_back(item.count);
  }
  launch->tables.resize(options_.groups.size());
  for (size_t g = 0; g < options_.groups.size(); ++g) {
    SimulatedLaunch::Table& table = launch->tables[g];
    table.row_begin.resize(batch_.size());
    table.lengths.resize(batch_.size());
    size_t pages = 0;
    for (const Item& item : batch_) {
      const int32_t end = item.request->sequence.length() + item.count;
      pages += static_cast<size_t>((end + options_.groups[g].tokens_per_page - 1) /
                                   options_.groups[g].tokens_per_page);
    }
    table.page_ids.resize(pages);
    const absl::StatusOr<PageTableView> packed =
        cache_->PackPageTable(sequences, counts_, GroupId{static_cast<int32_t>(g)},
                              {table.row_begin, table.lengths}, table.page_ids);
    if (!packed.ok()) return Violation("PackPageTable: " + packed.status().ToString());
  }
}

// All at once or one by one. Drafts that were right are committed; or all of them, and Verify takes
// the wrong ones back.
void Simulation::Commit() {
  phase_ = Phase::kVerify;
  std::vector<TokenId> tokens;
  std::vector<std::pair<int32_t, bool>> accepted;
  sequences_.clear();
  counts_.clear();
  const bool one_by_one = random_.OneIn(4);
  for (const Item& item : batch_) {
    const int32_t right = random_.Below(item.drafts + 1);
    const bool takes_all = random_.OneIn(2);
    const int32_t own = item.count - item.drafts;
    const auto begin = item.request->tokens.begin() + item.request->sequence.length();
    tokens.insert(tokens.end(), begin, begin + own);
    const int32_t drafts = takes_all ? item.drafts : right;
    tokens.insert(tokens.end(), item.draft_tokens.begin(), item.draft_tokens.begin() + drafts);
    accepted.emplace_back(right, takes_all);
    sequences_.push_back(&item.request->sequence);
    counts_.push_back(own + drafts);
    if (one_by_one) break;
  }
  if (sequences_.empty()) return;
  const absl::Status status = cache_->CommitAll(sequences_, tokens, counts_);
  trace_.Add(static_cast<int32_t>(status.code()));
  if (!status.ok()) {
    if (!absl::IsDataLoss(status)) return Violation("CommitAll: " + status.ToString());
    phase_ = Phase::kCommit;  // nothing was committed; those that lost nothing try again
    return HandleLosses();
  }
  for (size_t i = 0; i < accepted.size(); ++i) {
    Committed(&batch_[i], accepted[i].first, accepted[i].second);
  }
  batch_.erase(batch_.begin(), batch_.begin() + static_cast<int64_t>(accepted.size()));
  if (!batch_.empty()) phase_ = Phase::kCommit;
}

void Simulation::Committed(Item* item, int32_t accepted, bool took_all) {
  Request* request = item->request;
  trace_.Add(request->sequence.length());
  const auto drafts = item->draft_tokens.begin();
  request->tokens.insert(request->tokens.end(), drafts, drafts + accepted);
  ExtendPaths(request);
  request->rejected = took_all ? item->drafts - accepted : 0;
  counts_of_.drafts_rejected += item->drafts - accepted;
  if (request->rejected == 0) Sample(request);
}

void Simulation::Verify() {
  phase_ = Phase::kSchedule;
  for (size_t i = running_.size(); i-- > 0;) {
    Request* request = running_[i].get();
    if (request->rejected == 0) continue;
    const int32_t length = request->sequence.length() - std::exchange(request->rejected, 0);
    const absl::Status status = request->sequence.Truncate(length);
    trace_.Add(static_cast<int32_t>(status.code()));
    if (status.ok()) {
      ++counts_of_.truncates;
      Sample(request);
    } else {
      Preempt(request);
    }
  }
}

// All known tokens are computed: the next one is drawn. (A real engine has it from the launch, on
// the device; the host need not see it to queue the next step.)
void Simulation::Sample(Request* request) {
  if (request->sequence.length() < request->known()) return;
  if (request->known() == request->target) {
    request->finishing = true;
    return;
  }
  request->tokens.push_back(random_.Below(climate_.tokens));
  ExtendPaths(request);
}

void Simulation::Cut(Request* request, int32_t known) {
  request->tokens.resize(static_cast<size_t>(known));
  if (request->paths.size() > request->tokens.size()) request->paths.resize(request->tokens.size());
}

void Simulation::ExtendPaths(Request* request) {
  for (size_t i = request->paths.size(); i < request->tokens.size(); ++i) {
    const uint64_t before =
        i == 0 ? PathRoot(request->ns, request->weights) : request->paths[i - 1];
    request->paths.push_back(ExtendPath(before, request->tokens[i]));
  }
}

// Back to the queue with what is certain; the rest is computed again.
void Simulation::Preempt(Request* request) {
  ++counts_of_.preemptions;
  trace_.Add(request->id);
  VoidResults(request, 0);
  Cut(request, std::min(request->known(), request->certain));
  request->finishing = false;
  request->rejected = 0;
  std::unique_ptr<Request> owned = Remove(request);
  owned->sequence = Sequence();
  waiting_.push_front(std::move(owned));
}

std::unique_ptr<SimulatedRequest> Simulation::Remove(Request* request) {
  RemoveFromBatch(request);
  const auto it = std::find_if(running_.begin(), running_.end(),
                               [&](const auto& other) { return other.get() == request; });
  std::unique_ptr<Request> owned = std::move(*it);
  running_.erase(it);
  return owned;
}

void Simulation::RemoveFromBatch(const Request* request) {
  std::erase_if(batch_, [&](const Item& item) { return item.request == request; });
}

// Nobody relies any more on what was computed for positions past `from`.
void Simulation::VoidResults(Request* request, int32_t from) {
  for (const auto& launch : in_flight_) {
    for (SimulatedRow& row : launch->rows) {
      if (row.request != request || row.length + row.count <= from) continue;
      row.request = nullptr;
      --request->results;
      ++counts_of_.results_void;
    }
  }
}

// After a failed copy: back to what can be trusted.
void Simulation::HandleLosses() {
  for (size_t i = running_.size(); i-- > 0;) {
    Request* request = running_[i].get();
    Sequence& sequence = request->sequence;
    const int32_t valid = sequence.valid_length();
    if (valid == sequence.length()) continue;
    ++counts_of_.losses;
    trace_.Add(valid);
    RemoveFromBatch(request);
    VoidResults(request, valid);
    request->finishing = false;
    const int32_t length = std::min(valid, sequence.length() - request->rejected);
    request->rejected = 0;
    Cut(request, std::min(request->known(), std::max(request->certain, length)));
    const bool drops = random_.OneIn(4);
    const absl::Status status = drops ? absl::OkStatus() : sequence.Truncate(length);
    trace_.Add(static_cast<int32_t>(status.code()));
    if (drops || !status.ok()) {
      Preempt(request);
    } else {
      Sample(request);
    }
  }
}

}  // namespace quire::testing
