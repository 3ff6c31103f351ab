#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer.h"

namespace engine {
namespace {

using quire::GroupId;
using quire::Sequence;

constexpr GroupId kGroup{0};  // a Llama model has one kind of layer

quire::KvLayout LayoutOf(const ModelConfig& config, int32_t tokens_per_page) {
  quire::KvLayout layout;
  layout.layers = config.layers;
  layout.kv_heads = config.kv_heads;
  layout.head_dim = config.head_dim();
  layout.tokens_per_page = tokens_per_page;
  layout.dtype = quire::DType::kFloat32;
  return layout;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(Model* model, const EngineOptions& options,
                                                       std::unique_ptr<quire::Device> device) {
  if (options.max_running < 1 || options.step_tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat("max_running is ", options.max_running,
                                                   " and step_tokens ", options.step_tokens,
                                                   "; both must be at least 1"));
  }
  const quire::KvLayout layout = LayoutOf(model->config(), options.tokens_per_page);

  quire::GroupOptions group;
  group.tokens_per_page = options.tokens_per_page;
  group.page_count = options.page_count;
  group.page_bytes = layout.page_bytes();
  quire::Options cache_options;
  cache_options.groups = {group};
  cache_options.max_sequences = options.max_running + 1;  // one spare for who looks pages up
  cache_options.max_sequence_tokens = model->config().context;
  cache_options.prefix_caching = options.prefix_caching;
  absl::StatusOr<std::unique_ptr<quire::KvCache>> cache = quire::KvCache::Create(cache_options);
  if (!cache.ok()) return cache.status();

  if (device == nullptr) {
    quire::DeviceGroup pool;
    pool.layout = layout;
    pool.page_count = options.page_count;
    quire::DeviceOptions device_options;
    device_options.groups = {pool};
    absl::StatusOr<std::unique_ptr<quire::Device>> made =
        model->kernels().NewDevice(device_options);
    if (!made.ok()) return made.status();
    device = *std::move(made);
  }
  std::vector<quire::KvView> kv;
  for (int32_t layer = 0; layer < layout.layers; ++layer) {
    absl::StatusOr<quire::KvView> view = device->view(quire::Tier::kDevice, kGroup, layer);
    if (!view.ok()) return view.status();
    kv.push_back(*view);
  }
  return std::unique_ptr<Engine>(
      new Engine(model, options, std::move(device), *std::move(cache), std::move(kv)));
}

Engine::Engine(Model* model, const EngineOptions& options, std::unique_ptr<quire::Device> device,
               std::unique_ptr<quire::KvCache> cache, std::vector<quire::KvView> kv)
    : model_(model),
      options_(options),
      device_(std::move(device)),
      cache_(std::move(cache)),
      kv_(std::move(kv)) {}

absl::StatusOr<RequestId> Engine::Submit(Request request) {
  const ModelConfig& config = model_->config();
  if (request.prompt.empty() || request.max_new_tokens < 1) {
    return absl::InvalidArgumentError("a request needs a prompt and at least one new token");
  }
  for (quire::TokenId token : request.prompt) {
    if (token < 0 || token >= config.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token ", token, " of the prompt is not one of the model's ", config.vocab_size));
    }
  }
  if (request.samples < 1 || request.samples > options_.max_running) {
    return absl::InvalidArgumentError(absl::StrCat(request.samples, " samples wanted, 1 to ",
                                                   options_.max_running, " can run at one time"));
  }
  if (!std::isfinite(request.temperature) || request.temperature < 0) {
    return absl::InvalidArgumentError("temperature must be a number of at least 0");
  }
  // The last token is generated but never computed, so it needs no place.
  const int64_t total = static_cast<int64_t>(request.prompt.size()) + request.max_new_tokens;
  if (total - 1 > config.context) {
    return absl::InvalidArgumentError(
        absl::StrCat("a prompt of ", request.prompt.size(), " and ", request.max_new_tokens,
                     " new tokens exceed the model's context of ", config.context));
  }
  // Refused now rather than preempted for ever.
  absl::Status fits = cache_->CheckFits(total - 1, options_.step_tokens);
  if (!fits.ok()) return fits;

  auto stream = std::make_unique<Stream>();
  stream->request = static_cast<RequestId>(results_.size());
  stream->samples_to_fork = request.samples - 1;
  stream->prompt_tokens = static_cast<int32_t>(request.prompt.size());
  stream->max_tokens = static_cast<int32_t>(total);
  stream->stop_at_bos = request.stop_at_bos;
  stream->tokens = std::move(request.prompt);
  stream->sampler = Sampler(request.temperature, request.seed);
  stream->temperature = request.temperature;
  stream->seed = request.seed;
  waiting_.push_back(std::move(stream));

  Result result;
  result.samples.resize(static_cast<size_t>(request.samples));
  result.unfinished = request.samples;
  results_.push_back(std::move(result));
  arrivals_.push_back(Clock::now());
  return static_cast<RequestId>(results_.size()) - 1;
}

absl::StatusOr<bool> Engine::Step() {
  if (running_.empty() && waiting_.empty()) return false;
  ForgetLostTokens();
  bool preempted = false;
  absl::Status status = ReserveForRunning(&preempted);
  if (!status.ok()) return status;
  // Whoever was just preempted would only take the room back.
  if (!preempted) {
    status = Admit();
    if (!status.ok()) return status;
  }
  stats_.peak_running = std::max(stats_.peak_running, static_cast<int32_t>(running_.size()));

  if (!CarryOutCopies()) {
    ++stats_.failed_copies;  // the streams that lost data find out at the next step
    return true;
  }
  status = Compute();
  if (!status.ok()) return status;
  status = SampleAll();
  if (!status.ok()) return status;
  ++stats_.steps;
  return true;
}

absl::Status Engine::Run() {
  while (true) {
    absl::StatusOr<bool> more = Step();
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
  }
}

std::vector<RunningView> Engine::Running() const {
  std::vector<RunningView> views;
  for (const auto& stream : running_) {
    views.push_back({stream->request, stream->sample, &stream->sequence});
  }
  return views;
}

int32_t Engine::slots_in_use() const {
  int32_t slots = 0;
  for (const auto& stream : running_) slots += stream->slots();
  return slots;
}

// After a failed copy a stream goes back to what can be trusted and computes the rest again.
void Engine::ForgetLostTokens() {
  for (const auto& stream : running_) {
    Sequence& sequence = stream->sequence;
    if (sequence.valid_length() == sequence.length()) continue;
    // Cannot fail: full attention may go back to any length.
    (void)sequence.Truncate(sequence.valid_length());
  }
}

// Who computes how much: decodes first, so that a long prompt does not hold them up.
void Engine::ScheduleRunning() {
  work_.clear();
  sequences_.clear();
  counts_.clear();
  budget_ = options_.step_tokens;
  for (const bool decodes : {true, false}) {
    for (const auto& stream : running_) {
      const int32_t count = std::min(stream->remaining(), budget_);
      if ((stream->remaining() == 1) != decodes || count == 0) continue;
      work_.push_back({stream.get(), count});
      sequences_.push_back(&stream->sequence);
      counts_.push_back(count);
      budget_ -= count;
    }
  }
}

absl::Status Engine::ReserveForRunning(bool* preempted) {
  while (true) {
    ScheduleRunning();
    const absl::Status status = cache_->ReserveAll(sequences_, counts_);
    if (status.code() != absl::StatusCode::kResourceExhausted) return status;
    if (running_.size() == 1) {
      return absl::InternalError("a request that fits an empty cache found no room alone");
    }
    Preempt();
    *preempted = true;
  }
}

// The latest arrival makes room, so the earliest always gets on and everyone ends. Its full pages
// stay in the cache; if nobody needs them before its turn comes, Start finds them all.
void Engine::Preempt() {
  Stream& victim = *running_.back();
  victim.sequence = Sequence();
  ++stats_.preemptions;
  ++results_[static_cast<size_t>(victim.request)].preemptions;
  waiting_.push_front(std::move(running_.back()));
  running_.pop_back();
}

// Starts the stream and takes room for all its known tokens; false if there is none now. Taking it
// all at once keeps out a prompt that would be preempted halfway.
absl::StatusOr<bool> Engine::StartWaiting(Stream* stream) {
  absl::StatusOr<Sequence> sequence = cache_->Start(stream->tokens);
  if (!sequence.ok()) return sequence.status();
  stream->sequence = *std::move(sequence);
  const absl::Status status = stream->sequence.Reserve(stream->remaining());
  if (status.ok()) return true;
  stream->sequence = Sequence();
  if (absl::IsResourceExhausted(status) && !running_.empty()) return false;
  return status;
}

absl::Status Engine::Admit() {
  while (!waiting_.empty() && budget_ > 0) {
    Stream* stream = waiting_.front().get();
    if (slots_in_use() + stream->slots() > options_.max_running) break;
    absl::StatusOr<bool> started = StartWaiting(stream);
    if (!started.ok()) return started.status();
    if (!*started) break;

    Result& result = results_[static_cast<size_t>(stream->request)];
    if (result.preemptions == 0) result.hit_tokens = stream->sequence.hit_tokens();
    const int32_t count = std::min(stream->remaining(), budget_);
    work_.push_back({stream, count});
    sequences_.push_back(&stream->sequence);
    counts_.push_back(count);
    budget_ -= count;
    const auto later = std::find_if(running_.begin(), running_.end(), [&](const auto& other) {
      return std::pair(other->request, other->sample) > std::pair(stream->request, stream->sample);
    });
    running_.insert(later, std::move(waiting_.front()));
    waiting_.pop_front();
  }
  return absl::OkStatus();
}

// False if the device failed. Whoever needed a copy then goes back to a page border, where it needs
// none, so even a device that always fails cannot stop the engine, only slow it down.
bool Engine::CarryOutCopies() {
  const quire::Plan plan = cache_->TakePlan();
  if (plan.ticket == quire::kNoTicket) return true;
  const absl::Status status = device_->Copy(plan, quire::Stream());
  // A CPU device is done when Copy returns; a GPU's copies are done before the kernels, which run
  // on the same stream.
  cache_->Retire(plan.ticket, status);
  return status.ok();
}

absl::Status Engine::Compute() {
  tokens_.clear();
  query_begin_.assign(1, 0);
  wanted_.clear();
  for (const Work& work : work_) {
    const auto first = work.stream->tokens.begin() + work.stream->sequence.length();
    tokens_.insert(tokens_.end(), first, first + work.count);
    query_begin_.push_back(static_cast<int32_t>(tokens_.size()));
    if (work.count == work.stream->remaining()) wanted_.push_back(query_begin_.back() - 1);
    stats_.prompt_tokens_computed +=
        std::clamp(work.stream->prompt_tokens - work.stream->sequence.length(), 0, work.count);
  }
  stats_.tokens_computed += static_cast<int64_t>(tokens_.size());
  row_begin_.resize(work_.size());
  lengths_.resize(work_.size());

  StepBatch batch;
  batch.tokens = tokens_;
  batch.query_begin = query_begin_;
  batch.table = cache_->MakePageTable(sequences_, counts_, kGroup, {row_begin_, lengths_});
  batch.kv = kv_;
  batch.wanted = wanted_;
  absl::Status status = model_->Forward(batch, &logits_);
  if (!status.ok()) return status;
  return cache_->CommitAll(sequences_, tokens_, counts_);
}

// The prompt is computed: its samples part here. They share every page; whoever writes to the last
// one first gets a copy at its next Reserve.
absl::Status Engine::ForkSamples(Stream* stream, std::span<const float> logits) {
  for (int32_t sample = 1; sample <= stream->samples_to_fork; ++sample) {
    absl::StatusOr<Sequence> fork = stream->sequence.Fork();
    if (!fork.ok()) return fork.status();
    auto child = std::make_unique<Stream>();
    child->request = stream->request;
    child->sample = sample;
    child->prompt_tokens = stream->prompt_tokens;
    child->max_tokens = stream->max_tokens;
    child->stop_at_bos = stream->stop_at_bos;
    child->tokens = stream->tokens;
    child->temperature = stream->temperature;
    child->seed = stream->seed + static_cast<uint64_t>(sample);
    child->sampler = Sampler(child->temperature, child->seed);
    child->sequence = *std::move(fork);
    Extend(child.get(), logits);
    running_.push_back(std::move(child));
  }
  stream->samples_to_fork = 0;
  return absl::OkStatus();
}

void Engine::Extend(Stream* stream, std::span<const float> logits) {
  Result& result = results_[static_cast<size_t>(stream->request)];
  const quire::TokenId token = stream->sampler.Sample(logits);
  if (stream->sample == 0 && result.samples[0].empty()) {
    const Clock::duration waited = Clock::now() - arrivals_[static_cast<size_t>(stream->request)];
    result.seconds_to_first_token = std::chrono::duration<double>(waited).count();
  }
  const bool stop = token == kBos && stream->stop_at_bos;
  if (!stop) {
    stream->tokens.push_back(token);
    result.samples[static_cast<size_t>(stream->sample)].push_back(token);
    ++stats_.tokens_generated;
  }
  stream->done = stop || static_cast<int32_t>(stream->tokens.size()) == stream->max_tokens;
  if (stream->done) --result.unfinished;
}

absl::Status Engine::SampleAll() {
  const auto vocab = static_cast<size_t>(model_->config().vocab_size);
  size_t row = 0;
  for (const Work& work : work_) {
    if (work.stream->remaining() > 0) continue;  // its prompt goes on in the next step
    const std::span<const float> logits = std::span(logits_).subspan(row++ * vocab, vocab);
    absl::Status status = ForkSamples(work.stream, logits);
    if (!status.ok()) return status;
    Extend(work.stream, logits);
  }
  std::erase_if(running_, [](const auto& stream) { return stream->done; });
  std::sort(running_.begin(), running_.end(), [](const auto& a, const auto& b) {
    return std::pair(a->request, a->sample) < std::pair(b->request, b->sample);
  });
  return absl::OkStatus();
}

}  // namespace engine
