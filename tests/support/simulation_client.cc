// What a seed's world is, and what its clients and its bad luck do.

#include <algorithm>
#include <cstddef>
#include <utility>

#include "tests/support/simulation_engine.h"

namespace quire::testing {

Options Simulation::DrawOptions() {
  Options options;
  const int32_t unit = random_.Between(1, 5);
  const int32_t more = random_.Below(48) / unit;
  const int32_t pages = random_.Between(6, 28) + more;
  const auto add = [&](int32_t tokens_per_page, int32_t page_count, int32_t lookback) {
    GroupOptions group;
    group.tokens_per_page = tokens_per_page;
    group.page_count = page_count;
    group.page_bytes = int64_t{8} * tokens_per_page;
    group.lookback_tokens = lookback;
    options.groups.push_back(group);
  };
  const int32_t kind = random_.Below(7);
  const int32_t others = random_.Between(6, pages);
  const int32_t window = random_.Below(12);
  if (kind <= 2) {
    add(unit, pages, kAllTokens);
  } else if (kind == 3) {
    add(unit, pages, window);
  } else if (kind == 4) {
    add(unit, pages, kAllTokens);
    add(unit, others, window);
  } else if (kind == 5) {
    add(unit, pages, kAllTokens);
    add(unit * 2, others, kAllTokens);
  } else {
    // Pages of two sizes of which neither divides the other, over the unit of the third.
    add(unit * 2, others, kAllTokens);
    add(unit, pages * 2, window);
    add(unit * 3, others, kAllTokens);
  }
  options.max_sequences = random_.Between(3, 10);
  options.max_sequence_tokens = random_.Between(16, 56);
  options.prefix_caching = !random_.OneIn(16);
  options.min_copy_tokens = random_.Between(1, 3);
  options.max_rollback_tokens = random_.Below(kMaxDrafts + 2);
  options.max_index_nodes = random_.OneIn(12) ? random_.Between(1, 16) : 0;
  options.reclaim = static_cast<Reclaim>(random_.Below(static_cast<int>(Reclaim::kLearned) + 1));
  options.hash_seed = seed_;
  options.scrub_released = random_.OneIn(4);
  if (random_.OneIn(4)) DrawQuotas(&options);
  return options;
}

void Simulation::DrawQuotas(Options* options) {
  Quota quota;
  quota.tenant = "a";
  quota.guaranteed_permille = random_.Below(300);
  quota.max_permille = random_.Between(500, 1000);
  options->quotas.push_back(quota);
  if (random_.OneIn(2)) return;
  quota.tenant = "b";
  quota.guaranteed_permille = random_.Below(300);
  quota.max_permille = random_.Between(500, 1000);
  options->quotas.push_back(quota);
}

// A quarter of the seeds has no faults: there every byte read must be right.
Simulation::Climate Simulation::DrawClimate() {
  Climate climate;
  climate.ranks = random_.Between(1, 3);
  climate.depth = random_.Between(1, 8);
  climate.phases = random_.Between(1, 12);
  climate.entries = random_.Between(1, 6);
  climate.patience = random_.OneIn(3) ? 60 : 400;
  climate.polls = random_.OneIn(3);
  climate.abort = random_.Between(4, 20);
  climate.clear = random_.OneIn(2) ? 0 : random_.Between(2, 16);
  climate.max_requests = random_.Between(2, 10);
  climate.tokens = random_.Between(2, 3);
  climate.retention = random_.OneIn(4);
  if (random_.OneIn(4)) return climate;
  const auto chance = [&](int32_t least, int32_t most) {
    return random_.OneIn(3) ? 0 : random_.Between(least, most);
  };
  climate.reset = chance(4, 40);
  climate.faults.copy_refused = chance(4, 40);
  climate.faults.copy_fails = chance(2, 20);
  climate.faults.answer_lost = chance(4, 40);
  climate.faults.answer_twice = chance(2, 8);
  return climate;
}

void Simulation::MoveClient() {
  const bool aborts = random_.OneIn(climate_.abort);
  if (aborts) return AbortSomebody();
  if (random_.OneIn(8)) {  // not at the step's beginning, as other requests do
    StartWaiting();
    return;
  }
  Submit();
}

std::vector<TokenId> Simulation::DrawPrompt(int32_t longest) {
  std::vector<TokenId> prompt;
  if (!history_.empty() && !random_.OneIn(6)) {
    prompt = history_[static_cast<size_t>(random_.Below(static_cast<int32_t>(history_.size())))];
    const int32_t kept = random_.Below(static_cast<int32_t>(prompt.size()) + 1);
    if (!random_.OneIn(3)) prompt.resize(static_cast<size_t>(kept));
  }
  for (int32_t more = random_.Below(longest); more > 0; --more) {
    prompt.push_back(random_.Below(climate_.tokens));
  }
  if (prompt.empty()) prompt.push_back(0);
  if (static_cast<int32_t>(prompt.size()) > longest) prompt.resize(static_cast<size_t>(longest));
  return prompt;
}

void Simulation::Submit() {
  if (static_cast<int32_t>(waiting_.size() + running_.size()) >= climate_.max_requests) return;
  auto request = std::make_unique<Request>();
  request->id = ++last_id_;
  request->ns = random_.OneIn(2) ? 0 : random_.Below(static_cast<int32_t>(namespaces_.size()));
  request->tokens = DrawPrompt(options_.max_sequence_tokens - 1);
  request->certain = request->known();
  const int32_t most = options_.max_sequence_tokens;
  request->target = std::min(most, request->known() + random_.Below(12));
  request->chunk = random_.Between(1, 16);
  request->drafts = random_.OneIn(3) ? random_.Between(1, kMaxDrafts) : 0;
  request->forks = random_.OneIn(5) ? random_.Between(1, 3) : 0;
  request->read_cache = !random_.OneIn(16);
  request->write_cache = !random_.OneIn(16);
  const absl::Status fits = cache_->CheckFits(request->target, request->chunk,
                                              namespaces_[static_cast<size_t>(request->ns)]);
  trace_.Add(static_cast<int32_t>(fits.code()));
  if (fits.ok()) waiting_.push_back(std::move(request));
}

// Half of the time one that is in the step at hand, if there is any.
void Simulation::AbortSomebody() {
  Request* request = nullptr;
  const bool in_batch = random_.OneIn(2);
  if (in_batch && !batch_.empty()) {
    request =
        batch_[static_cast<size_t>(random_.Below(static_cast<int32_t>(batch_.size())))].request;
  } else if (!running_.empty()) {
    request =
        running_[static_cast<size_t>(random_.Below(static_cast<int32_t>(running_.size())))].get();
  } else {
    if (!waiting_.empty()) waiting_.pop_back();
    return;
  }
  ++counts_of_.aborts;
  counts_of_.abort_phases |= uint32_t{1} << (2 * static_cast<int32_t>(phase_) + (at_rank_ > 0));
  trace_.Add(request->id);
  VoidResults(request, 0);
  history_.push_back(request->tokens);
  if (history_.size() > 12) history_.erase(history_.begin());
  Remove(request);
}

// REQUIRES that no step is at hand: the original may have to reserve again.
void Simulation::ForkSomebody(Request* request) {
  if (request->finishing || request->sequence.length() < request->certain) return;
  absl::StatusOr<Sequence> fork = request->sequence.Fork();
  trace_.Add(static_cast<int32_t>(fork.status().code()));
  if (!fork.ok()) return;
  ++counts_of_.forks;
  if (request->forks > 0) --request->forks;
  auto child = std::make_unique<Request>();
  child->id = ++last_id_;
  child->ns = request->ns;
  child->weights = request->weights;
  child->tokens = request->tokens;
  child->paths = request->paths;
  child->target = request->target;
  child->certain = std::min(request->certain, request->sequence.length());
  child->chunk = request->chunk;
  child->drafts = request->drafts;
  child->read_cache = request->read_cache;
  child->write_cache = request->write_cache;
  child->sequence = *std::move(fork);
  Cut(child.get(), child->sequence.length());
  Sample(child.get());
  running_.push_back(std::move(child));
}

// A client takes back the end of its text and writes another. REQUIRES that no step is at hand.
void Simulation::EditSomebody() {
  if (running_.empty()) return;
  Request* request =
      running_[static_cast<size_t>(random_.Below(static_cast<int32_t>(running_.size())))].get();
  if (request->finishing || request->rejected > 0) return;
  if (request->sequence.valid_length() < request->sequence.length()) return;
  const int32_t length = random_.Below(request->sequence.length() + 1);
  const absl::Status status = request->sequence.Truncate(length);
  trace_.Add(static_cast<int32_t>(status.code()));
  if (!status.ok()) return;
  ++counts_of_.truncates;
  VoidResults(request, 0);
  Cut(request, length);
  request->tokens.push_back(random_.Below(climate_.tokens));
  ExtendPaths(request);
  request->certain = request->known();
}

void Simulation::MoveRarely() {
  const bool resets = random_.OneIn(climate_.reset);
  const int32_t rank = random_.Below(climate_.ranks);
  if (resets) return ResetRank(rank);
  const bool clears = random_.OneIn(climate_.clear);
  const bool drains = random_.OneIn(20);
  if (drains) return Drain();
  if (!clears) {
    if (random_.OneIn(4)) Fence(rank);
    return;
  }
  if (phase_ == Phase::kSchedule && random_.OneIn(2)) return ChangeWeights();
  cache_->ClearCached();
}

// Between two steps: what was launched before must not be committed afterwards by a sequence that
// had no token yet, since only sequences with a token are kept out of the index.
void Simulation::ChangeWeights() {
  ++weights_;
  if (fault_ != EngineFault::kKeepsTheCacheAcrossWeights) cache_->ClearCached();
  for (const auto& request : running_) {
    if (request->sequence.length() > 0) continue;
    request->weights = weights_;
    request->paths.clear();
    ExtendPaths(request.get());
  }
}

// Nothing that the rank was given will run, and its memory may be anything: what was committed
// because it was queued may never have been written. So nobody goes on with it, and nobody finds
// it.
void Simulation::ResetRank(int32_t rank) {
  ++counts_of_.resets;
  trace_.Add(rank);
  SimulatedDevice& device = *devices_[static_cast<size_t>(rank)];
  device.Reset();
  if (phase_ == Phase::kLaunch && at_rank_ > 0) launch_->lost = true;
  tracker_.Fence(rank, device.last_ticket(), absl::Status(absl::StatusCode::kAborted, ""));
  const bool clears_first = random_.OneIn(2);
  const bool keeps = fault_ == EngineFault::kKeepsTheCacheAfterAReset;
  if (clears_first && !keeps) cache_->ClearCached();
  while (!running_.empty()) Preempt(running_.back().get());
  if (!keeps) cache_->ClearCached();
  RetireDone();
}

}  // namespace quire::testing
