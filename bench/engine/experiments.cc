#include "engine/experiments.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <random>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/demo_text.h"

namespace engine {
namespace {

using Clock = std::chrono::steady_clock;
using quire::TokenId;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// A time of one token and the length it was computed from.
struct Sample {
  int32_t length;
  double seconds;
};

double MedianMs(const std::vector<Sample>& samples, int32_t from, int32_t to) {
  std::vector<double> values;
  for (const Sample& sample : samples) {
    if (sample.length >= from && sample.length < to) values.push_back(sample.seconds * 1e3);
  }
  return Median(std::move(values));
}

std::vector<TokenId> PassageTokens(const Demo& demo, int32_t count) {
  std::vector<TokenId> tokens = demo.tokenizer->Encode(Passage(), /*bos=*/true);
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(count)));
  return tokens;
}

int32_t PagesFor(int32_t tokens, int32_t tokens_per_page) {
  return (tokens + tokens_per_page - 1) / tokens_per_page;
}

}  // namespace

absl::StatusOr<SpeedResult> RunSpeed(const Demo& demo) {
  constexpr int32_t kNewTokens = 300;
  constexpr int32_t kBuckets = 5;
  Request request;
  request.prompt = PassageTokens(demo, 12);
  const auto prompt = static_cast<int32_t>(request.prompt.size());
  request.max_new_tokens = std::min(kNewTokens, demo.model->config().context - prompt);
  request.stop_at_bos = false;

  demo.progress->Begin("1. with KV cache");
  EngineOptions options;
  options.max_running = 1;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(demo.model, options);
  if (!engine.ok()) return engine.status();
  absl::StatusOr<RequestId> id = (*engine)->Submit(request);
  if (!id.ok()) return id.status();
  SpeedResult out;
  std::vector<Sample> with;
  const Result& result = (*engine)->result(*id);
  while (result.unfinished > 0) {
    const auto length = static_cast<int32_t>(request.prompt.size() + result.samples[0].size());
    const Clock::time_point start = Clock::now();
    absl::StatusOr<bool> more = (*engine)->Step();
    if (!more.ok()) return more.status();
    with.push_back({length, SecondsSince(start)});
    out.with_seconds += with.back().seconds;
    demo.progress->Update(length - prompt, request.max_new_tokens);
  }
  demo.progress->End();

  demo.progress->Begin("1. without KV cache");
  std::vector<Sample> without;
  Clock::time_point last{};
  const auto lap = [&](int32_t length) {
    if (!without.empty()) without.back().seconds = SecondsSince(last);
    without.push_back({length, 0});
    demo.progress->Update(length - prompt, request.max_new_tokens);
    last = Clock::now();
  };
  const Clock::time_point start = Clock::now();
  absl::StatusOr<std::vector<TokenId>> slow =
      demo.checker->runner().GenerateWithoutCache(request, lap);
  if (!slow.ok()) return slow.status();
  out.without_seconds = SecondsSince(start);
  without.back().seconds = SecondsSince(last);
  demo.progress->End();

  absl::Status status = demo.checker->Check("experiment 1 (with cache)", *id, request, result);
  if (!status.ok()) return status;
  demo.checker->Compare("experiment 1 (without cache)", *slow, result.samples[0]);

  out.new_tokens = static_cast<int32_t>(result.samples[0].size());
  for (int32_t i = 0; i < kBuckets; ++i) {
    const int32_t from = prompt + out.new_tokens * i / kBuckets;
    const int32_t to = prompt + out.new_tokens * (i + 1) / kBuckets;
    out.buckets.push_back({from, to - 1, MedianMs(with, from, to), MedianMs(without, from, to)});
  }
  return out;
}

namespace {

// All questions through one engine, one after the other, so that the time to the first token is
// that of the computation and not of a queue.
absl::Status AskAll(const Demo& demo, const std::vector<Request>& requests, bool caching,
                    std::vector<Result>* results, int64_t* prefill_tokens, double* median_ms) {
  EngineOptions options;
  options.max_running = 1;
  options.step_tokens = 256;
  options.page_count = 4 * PagesFor(demo.model->config().context, options.tokens_per_page);
  options.prefix_caching = caching;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(demo.model, options);
  if (!engine.ok()) return engine.status();
  std::vector<double> first_token;
  demo.progress->Begin(caching ? "2. with prompt caching" : "2. without prompt caching");
  for (const Request& request : requests) {
    absl::StatusOr<RequestId> id = (*engine)->Submit(request);
    if (!id.ok()) return id.status();
    absl::Status status = (*engine)->Run();
    if (!status.ok()) return status;
    results->push_back((*engine)->result(*id));
    first_token.push_back(results->back().seconds_to_first_token * 1e3);
    demo.progress->Update(*id + 1, static_cast<int64_t>(requests.size()));
  }
  demo.progress->End();
  *prefill_tokens = (*engine)->stats().prompt_tokens_computed;
  *median_ms = Median(std::move(first_token));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PromptCachingResult> RunPromptCaching(const Demo& demo) {
  constexpr int32_t kQuestions = 64;
  constexpr int32_t kNewTokens = 8;
  PromptCachingResult out;
  const std::vector<TokenId> context =
      PassageTokens(demo, std::min(700, demo.model->config().context * 7 / 10));
  out.context_tokens = static_cast<int32_t>(context.size());
  std::vector<Request> requests;
  for (const std::string& question : Questions(kQuestions)) {
    Request request;
    request.prompt = context;
    for (TokenId token : demo.tokenizer->Encode(question, /*bos=*/false)) {
      request.prompt.push_back(token);
    }
    request.max_new_tokens = kNewTokens;
    request.stop_at_bos = false;
    requests.push_back(std::move(request));
  }
  out.questions = static_cast<int32_t>(requests.size());

  std::vector<Result> with, without;
  absl::Status status =
      AskAll(demo, requests, true, &with, &out.prefill_tokens_with, &out.first_token_ms_with);
  if (!status.ok()) return status;
  status = AskAll(demo, requests, false, &without, &out.prefill_tokens_without,
                  &out.first_token_ms_without);
  if (!status.ok()) return status;

  demo.progress->Begin("2. checking");
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto number = static_cast<int32_t>(i);
    status = demo.checker->Check("experiment 2 (with caching)", number, requests[i], with[i]);
    if (!status.ok()) return status;
    demo.checker->Compare(absl::StrCat("experiment 2 (without caching), request ", i),
                          without[i].samples[0], with[i].samples[0]);
    demo.progress->Update(number + 1, out.questions);
  }
  demo.progress->End();
  return out;
}

namespace {

// Prompts are pieces of the passage; lengths spread evenly, so some requests are thirty times as
// long as others. mt19937 and plain modulo: the same numbers on every platform.
std::vector<Request> MixedRequests(const Demo& demo, int32_t count) {
  const int32_t context = demo.model->config().context;
  const std::vector<TokenId> passage = demo.tokenizer->Encode(Passage(), /*bos=*/false);
  const auto longest = std::min<uint32_t>(static_cast<uint32_t>(context) * 4 / 10,
                                          static_cast<uint32_t>(passage.size()) / 2);
  const auto longest_answer = static_cast<uint32_t>(context) / 5;
  std::mt19937 random(20);
  std::vector<Request> requests;
  for (int32_t i = 0; i < count; ++i) {
    const uint32_t length = 8 + random() % longest;
    const uint32_t begin = random() % (static_cast<uint32_t>(passage.size()) - length);
    Request request;
    request.prompt = {kBos};
    request.prompt.insert(request.prompt.end(), passage.begin() + begin,
                          passage.begin() + begin + length);
    request.max_new_tokens = 8 + static_cast<int32_t>(random() % longest_answer);
    request.temperature = i % 2 == 0 ? 0.0f : 0.9f;
    request.seed = static_cast<uint64_t>(i);
    request.stop_at_bos = false;
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<std::vector<TokenId>> StreamsOf(const Engine& engine,
                                            const std::vector<Request>& requests) {
  std::vector<std::vector<TokenId>> streams;
  for (size_t i = 0; i < requests.size(); ++i) {
    for (const auto& sample : engine.result(static_cast<RequestId>(i)).samples) {
      streams.push_back(requests[i].prompt);
      streams.back().insert(streams.back().end(), sample.begin(), sample.end());
    }
  }
  return streams;
}

}  // namespace

absl::StatusOr<MemoryResult> RunMemory(const Demo& demo) {
  MemoryResult out;
  out.requests = 256;
  out.slots = 32;
  EngineOptions options;
  out.tokens_per_page = options.tokens_per_page;
  out.pages = out.slots * PagesFor(demo.model->config().context, options.tokens_per_page) / 4;
  out.contiguous_running = out.slots / 4;
  options.page_count = out.pages;
  options.max_running = out.slots;
  options.step_tokens = 128;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(demo.model, options);
  if (!engine.ok()) return engine.status();
  const std::vector<Request> requests = MixedRequests(demo, out.requests);
  for (const Request& request : requests) {
    absl::StatusOr<RequestId> id = (*engine)->Submit(request);
    if (!id.ok()) return id.status();
  }

  demo.progress->Begin("3. mixed requests, tokens generated");
  int64_t expected = 0;
  for (const Request& request : requests) expected += request.max_new_tokens;
  const EngineStats& stats = (*engine)->stats();
  const Clock::time_point start = Clock::now();
  double fragmentation = 0;
  while (stats.tokens_generated < expected) {
    absl::StatusOr<bool> more = (*engine)->Step();
    if (!more.ok()) return more.status();
    PageMap map = TakePageMap(**engine);
    if (const int32_t slots = map.live() * map.tokens_per_page; slots > 0) {
      const double percent = 100.0 * map.unused_tokens() / slots;
      fragmentation += percent;
      // A pool that is nearly empty wastes little, however many per cent of it that is.
      if (map.live() >= out.pages / 2) {
        out.fragmentation_percent_peak = std::max(out.fragmentation_percent_peak, percent);
      }
    }
    // The picture: past the middle, when there is something of everything.
    if (out.picture.map.pages.empty() && stats.tokens_generated > expected * 6 / 10 &&
        map.live() < out.pages * 9 / 10) {
      MarkCached(engine->get(), StreamsOf(**engine, requests), &map);
      out.picture.title = "Requests of mixed length";
      out.picture.subtitle = absl::StrCat(
          map.names.size(), " running in ", map.live(), " of ", out.pages, " pages, ", map.cached(),
          " more cached; each page holds ", out.tokens_per_page, " tokens");
      out.picture.map = std::move(map);
    }
    demo.progress->Update(stats.tokens_generated, expected);
  }
  out.seconds = SecondsSince(start);
  demo.progress->End();
  out.steps = stats.steps;
  out.fragmentation_percent = fragmentation / static_cast<double>(stats.steps);
  out.preemptions = stats.preemptions;
  out.peak_running = stats.peak_running;
  out.tokens_generated = stats.tokens_generated;

  demo.progress->Begin("3. checking");
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto number = static_cast<int32_t>(i);
    absl::Status status =
        demo.checker->Check("experiment 3", number, requests[i], (*engine)->result(number));
    if (!status.ok()) return status;
    demo.progress->Update(number + 1, out.requests);
  }
  demo.progress->End();
  return out;
}

absl::StatusOr<SamplingResult> RunSampling(const Demo& demo) {
  SamplingResult out;
  out.samples = 16;
  Request request;
  request.prompt = PassageTokens(demo, 200);  // ends inside a page, which all will write to
  request.max_new_tokens = 48;
  request.temperature = 1.0f;
  request.seed = 4;
  request.samples = out.samples;
  request.stop_at_bos = false;
  out.prompt_tokens = static_cast<int32_t>(request.prompt.size());
  out.new_tokens = request.max_new_tokens;

  EngineOptions options;
  options.max_running = out.samples;
  options.page_count = 128;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(demo.model, options);
  if (!engine.ok()) return engine.status();
  absl::StatusOr<RequestId> id = (*engine)->Submit(request);
  if (!id.ok()) return id.status();
  const Result& result = (*engine)->result(*id);
  demo.progress->Begin("4. parallel samples, tokens of one");
  while (result.unfinished > 0) {
    absl::StatusOr<bool> more = (*engine)->Step();
    if (!more.ok()) return more.status();
    PageMap map = TakePageMap(**engine);
    const size_t generated = result.samples[0].size();
    if (generated == 1) {
      out.pages_shared = map.shared();
      out.page_references = map.shared_references();
    }
    out.pages_used = std::max(out.pages_used, map.live());
    if (generated == 30) {
      out.picture.title = "Samples of one prompt";
      out.picture.subtitle = absl::StrCat(map.names.size(), " samples in ", map.live(), " pages, ",
                                          map.shared(), " of them shared by all");
      out.picture.columns = 16;
      out.picture.map = std::move(map);
    }
    demo.progress->Update(static_cast<int64_t>(generated), request.max_new_tokens);
  }
  demo.progress->End();
  out.copies_on_write = (*engine)->cache().stats().groups[0].copies;
  out.pages_separate =
      out.samples * PagesFor(out.prompt_tokens + out.new_tokens - 1, options.tokens_per_page);
  absl::Status status = demo.checker->Check("experiment 4", *id, request, result);
  if (!status.ok()) return status;
  return out;
}

}  // namespace engine
