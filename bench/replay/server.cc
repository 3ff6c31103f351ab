#include "bench/replay/server.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>
#include <utility>

#include "bench/replay/cost_model.h"
#include "bench/replay/percentiles.h"

namespace replay {
namespace {

constexpr size_t kMostSamples = 1000;
constexpr double kLastNs = 4e18;  // 126 years, and as much again until times overflow

// Real time, not the thread's processor time: asking for that takes longer than the calls of a step
// that only decodes, and most of it would count as theirs.
double ClockSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Appends tokens [begin, end) of a request: each is the id of the page that will cover it.
void AppendTokens(const Trace& trace, const Request& request, int32_t begin, int32_t end,
                  std::vector<quire::TokenId>* tokens) {
  const std::span<const int32_t> prompt = trace.Prompt(request);
  const std::span<const int32_t> answer = trace.Answer(request);
  // From here on pages hold tokens of the answer, if there is one.
  const int32_t shared =
      answer.empty() ? request.input_pages : request.input_tokens / trace.tokens_per_page;
  while (begin < end) {
    const int32_t page = begin / trace.tokens_per_page;
    const int32_t stop =
        static_cast<int32_t>(std::min<int64_t>(end, int64_t{page + 1} * trace.tokens_per_page));
    const int32_t id = page < shared ? prompt[static_cast<size_t>(page)]
                                     : answer[static_cast<size_t>(page - shared)];
    tokens->insert(tokens->end(), static_cast<size_t>(stop - begin), id);
    begin = stop;
  }
}

}  // namespace

int64_t TotalTokens(const Request& request) {
  return int64_t{request.input_tokens} + std::max(request.output_tokens, 1) - 1;
}

template <typename Calls>
auto Server::Timed(const Calls& calls) {
  const double begin = ClockSeconds();
  auto result = calls();
  manager_step_ += ClockSeconds() - begin;
  return result;
}

void Server::Drop(quire::Sequence* sequence) {
  Timed([&] {
    *sequence = quire::Sequence();
    return 0;
  });
}

Server::Server(const Trace& trace, const ServingOptions& options, Arrivals arrivals,
               std::unique_ptr<quire::KvCache> cache)
    : trace_(trace),
      options_(options),
      arrivals_(std::move(arrivals)),
      cache_(std::move(cache)),
      progress_(trace.requests.size()),
      samples_(kMostSamples),
      lives_(options.pages) {
  namespaces_.resize(std::max<size_t>(trace.tenants.size(), 1));
  if (namespaces_.size() > 1) {
    for (size_t i = 0; i < namespaces_.size(); ++i) namespaces_[i].SetTenant(trace.tenants[i]);
  }
}

absl::StatusOr<ServingResult> Server::Run() {
  while (true) {
    if (running_.empty() && waiting_.empty()) {
      if (arrivals_.empty()) return Finish();
      now_ = std::max(now_, arrivals_.next());
    }
    TakeArrivals();
    if (running_.empty() && waiting_.empty()) continue;  // all that came was refused
    const int64_t ended = ended_;
    if (absl::Status status = Step(); !status.ok()) return status;
    if (options_.progress && ended_ > ended) {
      options_.progress(ended_, static_cast<int64_t>(trace_.requests.size()));
    }
  }
}

void Server::TakeArrivals() {
  while (!arrivals_.empty() && arrivals_.next() <= now_) {
    const int32_t index = arrivals_.Pop();
    if (cache_->CheckFits(TotalTokens(request(index)), options_.token_budget).ok()) {
      waiting_.push_back(index);
      result_.input_tokens += request(index).input_tokens;
      result_.output_tokens += request(index).output_tokens;
      continue;
    }
    ++result_.refused;
    ++ended_;
    arrivals_.Ended(index, arrivals_.arrived(index));
  }
}

absl::Status Server::Step() {
  manager_step_ = 0;
  if (absl::Status status = ReserveForRunning(); !status.ok()) return status;
  if (absl::Status status = Admit(); !status.ok()) return status;
  if (absl::Status status = Compute(); !status.ok()) return status;
  if (absl::Status status = Advance(); !status.ok()) return status;
  Watch();
  EndStep();
  manager_us_.push_back(manager_step_ * 1e6);
  result_.manager_seconds += manager_step_;
  ++result_.steps;
  return absl::OkStatus();
}

void Server::AddWork(int32_t index) {
  const Running& running = running_[static_cast<size_t>(index)];
  const int32_t remaining = Remaining(running);
  const int32_t count = std::min(remaining, budget_);
  if (count == 0) return;
  work_.push_back({index, count, remaining == 1 && progress(running.request).generated > 0});
  budget_ -= count;
}

// Decodes first, so that a long prompt does not hold them up.
void Server::ScheduleRunning() {
  work_.clear();
  budget_ = options_.token_budget;
  for (const bool decodes : {true, false}) {
    for (size_t i = 0; i < running_.size(); ++i) {
      const bool decode =
          Remaining(running_[i]) == 1 && progress(running_[i].request).generated > 0;
      if (decode == decodes) AddWork(static_cast<int32_t>(i));
    }
  }
}

absl::Status Server::ReserveForRunning() {
  while (true) {
    ScheduleRunning();
    sequences_.clear();
    counts_.clear();
    for (const Work& work : work_) {
      sequences_.push_back(&running_[static_cast<size_t>(work.index)].sequence);
      counts_.push_back(work.count);
    }
    absl::Status status = Timed([&] { return cache_->ReserveAll(sequences_, counts_); });
    if (status.code() != absl::StatusCode::kResourceExhausted) return status;
    if (running_.size() == 1) {
      return absl::InternalError("a request that fits an empty cache found no room alone");
    }
    Preempt();
  }
}

void Server::Preempt() {
  Running& victim = running_.back();
  progress(victim.request).computed = victim.sequence.length();
  waiting_.push_front(victim.request);
  Drop(&victim.sequence);
  running_.pop_back();
  room_refused_ = -1;
  ++result_.preemptions;
}

// Pages that a new prompt may have: less those that prompts already running have yet to reserve,
// so that none is let in only to be preempted halfway.
int32_t Server::Room() {
  const quire::GroupStats group = Timed([&] { return cache_->stats().groups[0]; });
  int32_t room = group.pages_free + group.pages_cached;
  for (const Running& running : running_) {
    room -= std::max(PagesFor(Known(running.request)) - PagesFor(running.sequence.capacity()), 0);
  }
  return room;
}

absl::Status Server::Admit() {
  while (!waiting_.empty() && budget_ > 0 &&
         running_.size() < static_cast<size_t>(options_.max_batch)) {
    absl::StatusOr<bool> started = StartNext();
    if (!started.ok()) return started.status();
    if (!*started) break;
  }
  return absl::OkStatus();
}

// Starts the head of the queue; false if there is no room for it now. Then it is not tried again
// before there is more: each try looks its whole prompt up, and makes the pages it hits recent.
absl::StatusOr<bool> Server::StartNext() {
  const bool alone = running_.empty();
  const int32_t room = Room();
  if (!alone && room <= room_refused_) return false;
  const int32_t index = waiting_.front();
  const int32_t known = Known(index);
  tokens_.clear();
  AppendTokens(trace_, request(index), 0, known, &tokens_);
  const auto tenant = static_cast<size_t>(namespaces_.size() > 1 ? request(index).tenant : 0);
  absl::StatusOr<quire::Sequence> sequence =
      Timed([&] { return cache_->Start(tokens_, namespaces_[tenant]); });
  if (!sequence.ok()) return sequence.status();

  const int32_t hit = sequence->hit_tokens();
  const int32_t count = std::min(known - hit, budget_);
  const int32_t pages_hit = hit / trace_.tokens_per_page;
  // The hit is pinned now, so what room is left is for the rest. Alone it needs no more than fits.
  absl::Status status = alone || PagesFor(known) - pages_hit <= Room()
                            ? Timed([&] { return sequence->Reserve(count); })
                            : absl::Status(absl::StatusCode::kResourceExhausted, "");
  if (absl::IsResourceExhausted(status) && !alone) {
    Drop(&*sequence);
    room_refused_ = room;
    return false;
  }
  if (!status.ok()) return status;
  waiting_.pop_front();
  room_refused_ = -1;
  CountStart(index, hit);
  running_.push_back({index, *std::move(sequence), pages_hit});
  AddWork(static_cast<int32_t>(running_.size()) - 1);
  return true;
}

void Server::CountStart(int32_t index, int32_t hit_tokens) {
  Progress& of = progress(index);
  if (of.started) {
    result_.rehit_tokens += hit_tokens;
    result_.recomputed_tokens += std::max(of.computed - hit_tokens, 0);
    return;
  }
  of.started = true;
  ++started_;
  result_.hit_tokens += hit_tokens;
}

// Carries out the copies, sees which pages were handed out, commits.
absl::Status Server::Compute() {
  Timed([&] {
    const quire::Plan plan = cache_->TakePlan();
    cache_->Retire(plan.ticket);
    return 0;
  });
  sequences_.clear();
  counts_.clear();
  tokens_.clear();
  for (const Work& work : work_) {
    Running& running = running_[static_cast<size_t>(work.index)];
    const int32_t pages = PagesFor(running.sequence.capacity());
    if (pages > running.pages_seen) {
      const std::span<const quire::PageId> row = running.sequence.pages(quire::GroupId{0});
      const auto first = static_cast<size_t>(running.pages_seen);
      lives_.HandedOut(row.subspan(first, static_cast<size_t>(pages) - first), started_);
      running.pages_seen = pages;
    }
    const int32_t begin = running.sequence.length();
    AppendTokens(trace_, request(running.request), begin, begin + work.count, &tokens_);
    sequences_.push_back(&running.sequence);
    counts_.push_back(work.count);
  }
  return Timed([&] { return cache_->CommitAll(sequences_, tokens_, counts_); });
}

// The clock goes on by the step's cost.
absl::Status Server::Advance() {
  double prompts_us = 0;
  int64_t read_tokens = 0;
  view_.prompt_tokens = 0;
  view_.decodes = 0;
  for (const Work& work : work_) {
    const int32_t length = running_[static_cast<size_t>(work.index)].sequence.length();
    if (work.decodes) {
      ++view_.decodes;
      read_tokens += length;
    } else {
      view_.prompt_tokens += work.count;
      prompts_us += options_.cost.PrefillUs(length - work.count, length);
    }
  }
  const double ns = options_.cost.StepUs(prompts_us, view_.decodes, read_tokens) * 1000;
  if (static_cast<double>(now_) + ns > kLastNs) {
    return absl::InvalidArgumentError(
        "the simulated time has passed a hundred years: take smaller numbers for the cost model");
  }
  now_ += std::llround(ns);
  return absl::OkStatus();
}

// Every live page is full or the last one of a single sequence: only full pages are found by
// others. So the empty slots are those behind each sequence's length, and none counts twice.
void Server::Watch() {
  const quire::GroupStats group = cache_->stats().groups[0];
  int64_t empty = 0;
  for (const Running& running : running_) {
    empty += int64_t{PagesFor(running.sequence.capacity())} * trace_.tokens_per_page -
             running.sequence.length();
  }
  view_.step = result_.steps;
  view_.seconds = static_cast<double>(now_) * 1e-9;
  view_.running = static_cast<int32_t>(running_.size());
  view_.waiting = static_cast<int32_t>(waiting_.size());
  view_.fragmentation =
      static_cast<double>(empty) / static_cast<double>(group.pages_live) / trace_.tokens_per_page;
  view_.cache = cache_.get();
  fragmentation_sum_ += view_.fragmentation;
  if (samples_.Wants(view_.step)) {
    samples_.Add({view_.seconds, group.pages_free, group.pages_live, group.pages_cached,
                  view_.running, view_.waiting});
  }
  if (options_.after_step) options_.after_step(view_);
}

// Whose known tokens are all computed gets the next one; who has all is dropped.
void Server::EndStep() {
  bool any_ended = false;
  for (const Work& work : work_) {
    Running& running = running_[static_cast<size_t>(work.index)];
    if (Remaining(running) > 0 || !Generate(running.request)) continue;
    Drop(&running.sequence);
    arrivals_.Ended(running.request, now_);
    ++ended_;
    any_ended = true;
  }
  if (any_ended) {
    std::erase_if(running_, [](const Running& running) { return running.sequence.empty(); });
  }
}

// True if that was the last one.
bool Server::Generate(int32_t index) {
  Progress& of = progress(index);
  const int32_t wanted = request(index).output_tokens;
  const auto ms = [](Nanoseconds ns) { return static_cast<double>(ns) * 1e-6; };
  const Nanoseconds arrived = arrivals_.arrived(index);
  if (wanted > 0 && ++of.generated == 1) {
    of.first_token = now_;
    first_token_ms_.push_back(ms(now_ - arrived));
  }
  if (of.generated < wanted) return false;
  end_to_end_ms_.push_back(ms(now_ - arrived));
  if (wanted > 1) between_tokens_ms_.push_back(ms(now_ - of.first_token) / (wanted - 1));
  return true;
}

ServingResult Server::Finish() {
  const double seconds = static_cast<double>(now_) * 1e-9;
  result_.policy = options_.policy_name;
  result_.pages = options_.pages;
  result_.requests = static_cast<int64_t>(trace_.requests.size());
  result_.seconds = seconds;
  result_.evictions = cache_->stats().groups[0].evictions;
  result_.first_token_ms = PercentilesOf(std::move(first_token_ms_));
  result_.between_tokens_ms = PercentilesOf(std::move(between_tokens_ms_));
  result_.end_to_end_ms = PercentilesOf(std::move(end_to_end_ms_));
  if (now_ > 0) {
    result_.tokens_per_second = static_cast<double>(result_.output_tokens) / seconds;
    result_.requests_per_second = static_cast<double>(result_.requests - result_.refused) / seconds;
  }
  if (result_.steps > 0) {
    result_.fragmentation = fragmentation_sum_ / static_cast<double>(result_.steps);
  }
  result_.samples = samples_.Take();
  result_.manager_us = PercentilesOf(std::move(manager_us_));
  result_.lifetimes = lives_.lifetimes();
  return std::move(result_);
}

}  // namespace replay
