// quire_demo: what paging, sharing and caching bring, shown with a real model on this machine.
//
// Four experiments, a table, a picture of the pages (SVG) and, if wanted, all numbers as JSON.
// Every generated token is compared with a run of the same request alone on contiguous memory; one
// difference and the demo fails.

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint.h"
#include "engine/experiments.h"
#include "engine/flags.h"
#include "engine/json.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "engine/page_map.h"
#include "engine/tokenizer.h"

namespace engine {
namespace {

constexpr char kUsage[] =
    R"(quire_demo: what paging, sharing and caching bring, measured with a real model.
  --svg FILE         the picture of the pages (default quire_demo.svg)
  --json FILE        all numbers
  --model FILE       llama2.c version 0 checkpoint (default: the shipped one)
  --tokenizer FILE   its tokenizer.bin
  --threads N        to compute with (default 1, which is best for a model of this size)
  --device NAME      cpu (default), or cuda: K and V on GPU 0, and append, attention and page copies
                     there; matrix products stay on the CPU, and each layer's vectors travel.
                     Needs a build with CUDA: ./dev build cuda
)";

constexpr double kPublishedSpeedup = 5.21;
constexpr char kPublishedSource[] = "published, Hugging Face blog, T4, SmolLM2-1.7B";

struct Options {
  std::string model = DefaultModelPath();
  std::string tokenizer = DefaultTokenizerPath();
  std::string svg = "quire_demo.svg";
  std::string json;
  std::string device = "cpu";
  int32_t threads = 1;
};

struct Results {
  std::string device;
  ModelConfig model;
  SpeedResult speed;
  PromptCachingResult prompt;
  MemoryResult memory;
  SamplingResult sampling;
  int64_t tokens_checked = 0;
  int64_t mismatches = 0;
  double seconds = 0;
};

void PrintSpeed(const SpeedResult& r) {
  std::printf("\n1. KV cache: %d new tokens from a short prompt\n", r.new_tokens);
  std::printf("   with                        %9.3f s\n", r.with_seconds);
  std::printf("   without                     %9.3f s\n", r.without_seconds);
  std::printf("   speed-up                    %9.2f x   (%.2f x: %s)\n",
              r.without_seconds / r.with_seconds, kPublishedSpeedup, kPublishedSource);
  std::printf("   median time of a token, ms     length      with   without\n");
  for (const SpeedResult::Bucket& bucket : r.buckets) {
    std::printf("                               %4d-%4d  %8.3f  %8.3f\n", bucket.from, bucket.to,
                bucket.with_ms, bucket.without_ms);
  }
}

void PrintPrompt(const PromptCachingResult& r) {
  std::printf("\n2. Prompt caching: %d questions on one context of %d tokens\n", r.questions,
              r.context_tokens);
  std::printf("                                   with caching     without\n");
  std::printf("   prompt tokens computed          %12" PRId64 "  %10" PRId64 "\n",
              r.prefill_tokens_with, r.prefill_tokens_without);
  std::printf("   time to first token, median     %9.2f ms  %7.2f ms\n", r.first_token_ms_with,
              r.first_token_ms_without);
}

void PrintMemory(const MemoryResult& r) {
  std::printf("\n3. Memory: %d requests of mixed length, %d slots, %d pages of %d tokens\n",
              r.requests, r.slots, r.pages, r.tokens_per_page);
  std::printf(
      "   running at one time, at most    %12d   (contiguous buffers in the same memory: "
      "%d)\n",
      r.peak_running, r.contiguous_running);
  std::printf("   wasted inside live pages        %10.2f %%   (peak %.2f %%)\n",
              r.fragmentation_percent, r.fragmentation_percent_peak);
  std::printf("   preemptions survived            %12" PRId64 "\n", r.preemptions);
  std::printf("   tokens generated                %12" PRId64 "   in %.1f s, %" PRId64 " steps\n",
              r.tokens_generated, r.seconds, r.steps);
}

void PrintSampling(const SamplingResult& r) {
  std::printf("\n4. Parallel sampling: %d samples of %d tokens of one prompt of %d tokens\n",
              r.samples, r.new_tokens, r.prompt_tokens);
  std::printf("   pages shared at the fork        %12d   (held %d times)\n", r.pages_shared,
              r.page_references);
  std::printf("   pages copied on write           %12" PRId64 "\n", r.copies_on_write);
  std::printf("   pages used                      %12d   (%d separate caches: %d)\n", r.pages_used,
              r.samples, r.pages_separate);
}

void WriteSpeed(const SpeedResult& r, JsonWriter* json) {
  json->Field("new_tokens", r.new_tokens);
  json->Field("seconds_with_kv_cache", r.with_seconds);
  json->Field("seconds_without_kv_cache", r.without_seconds);
  json->Field("kv_cache_speedup", r.without_seconds / r.with_seconds);
  json->Field("kv_cache_speedup_published", kPublishedSpeedup);
  json->Field("kv_cache_speedup_published_source", kPublishedSource);
  json->Key("time_per_token");
  json->BeginArray();
  for (const SpeedResult::Bucket& bucket : r.buckets) {
    json->BeginObject();
    json->Field("length_from", bucket.from);
    json->Field("length_to", bucket.to);
    json->Field("time_per_token_with_kv_cache_ms", bucket.with_ms);
    json->Field("time_per_token_without_kv_cache_ms", bucket.without_ms);
    json->EndObject();
  }
  json->EndArray();
}

void WriteRest(const Results& r, JsonWriter* json) {
  json->Field("questions", r.prompt.questions);
  json->Field("context_tokens", r.prompt.context_tokens);
  json->Field("prefill_tokens_with_cache", r.prompt.prefill_tokens_with);
  json->Field("prefill_tokens_without_cache", r.prompt.prefill_tokens_without);
  json->Field("time_to_first_token_with_cache_ms", r.prompt.first_token_ms_with);
  json->Field("time_to_first_token_without_cache_ms", r.prompt.first_token_ms_without);

  json->Field("requests", r.memory.requests);
  json->Field("slots", r.memory.slots);
  json->Field("pages", r.memory.pages);
  json->Field("tokens_per_page", r.memory.tokens_per_page);
  json->Field("contiguous_running", r.memory.contiguous_running);
  json->Field("peak_running", r.memory.peak_running);
  json->Field("fragmentation_percent", r.memory.fragmentation_percent);
  json->Field("fragmentation_percent_peak", r.memory.fragmentation_percent_peak);
  json->Field("preemptions", r.memory.preemptions);
  json->Field("tokens_generated", r.memory.tokens_generated);

  json->Field("samples", r.sampling.samples);
  json->Field("prompt_tokens", r.sampling.prompt_tokens);
  json->Field("pages_shared", r.sampling.pages_shared);
  json->Field("page_references", r.sampling.page_references);
  json->Field("copies_on_write", r.sampling.copies_on_write);
  json->Field("pages_used", r.sampling.pages_used);
  json->Field("pages_separate", r.sampling.pages_separate);
}

std::string ToJson(const Results& r) {
  JsonWriter json;
  json.BeginObject();
  json.Field("device", r.device);
  json.Key("model");
  json.BeginObject();
  json.Field("dim", r.model.dim);
  json.Field("layers", r.model.layers);
  json.Field("heads", r.model.heads);
  json.Field("kv_heads", r.model.kv_heads);
  json.Field("vocab_size", r.model.vocab_size);
  json.Field("context", r.model.context);
  json.EndObject();
  WriteSpeed(r.speed, &json);
  WriteRest(r, &json);
  json.Field("tokens_checked", r.tokens_checked);
  json.Field("mismatches", r.mismatches);
  json.Field("seconds", r.seconds);
  json.EndObject();
  return json.text();
}

absl::Status RunAll(const Demo& demo, Results* out) {
  absl::StatusOr<SpeedResult> speed = RunSpeed(demo);
  if (!speed.ok()) return speed.status();
  absl::StatusOr<PromptCachingResult> prompt = RunPromptCaching(demo);
  if (!prompt.ok()) return prompt.status();
  absl::StatusOr<MemoryResult> memory = RunMemory(demo);
  if (!memory.ok()) return memory.status();
  absl::StatusOr<SamplingResult> sampling = RunSampling(demo);
  if (!sampling.ok()) return sampling.status();
  out->speed = *std::move(speed);
  out->prompt = *std::move(prompt);
  out->memory = *std::move(memory);
  out->sampling = *std::move(sampling);
  return absl::OkStatus();
}

// null for the CPU's, which the model makes itself.
absl::StatusOr<std::unique_ptr<Kernels>> KernelsOf(const std::string& device) {
  if (device == "cuda") return NewCudaKernels();
  if (device == "cpu") return std::unique_ptr<Kernels>();
  return absl::InvalidArgumentError(
      absl::StrCat("--device is '", device, "'; it may be cpu or cuda"));
}

absl::Status RunDemo(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  absl::StatusOr<Checkpoint> checkpoint = LoadCheckpoint(options.model);
  if (!checkpoint.ok()) return checkpoint.status();
  // A tokenizer of another model of the same size would only print rubbish.
  if ((options.model == DefaultModelPath()) != (options.tokenizer == DefaultTokenizerPath())) {
    return absl::InvalidArgumentError("--model and --tokenizer belong together: give both");
  }
  absl::StatusOr<Tokenizer> tokenizer =
      Tokenizer::Load(options.tokenizer, checkpoint->config.vocab_size);
  if (!tokenizer.ok()) return tokenizer.status();
  absl::StatusOr<std::unique_ptr<Kernels>> kernels = KernelsOf(options.device);
  if (!kernels.ok()) return kernels.status();
  Model model(*checkpoint, MakeThreads(options.threads), *std::move(kernels));
  Checker checker(&model);
  Progress progress;

  Results results;
  results.device = options.device;
  results.model = checkpoint->config;
  absl::Status status = RunAll({&model, &*tokenizer, &checker, &progress}, &results);
  if (!status.ok()) return status;
  results.tokens_checked = checker.tokens_checked();
  results.mismatches = static_cast<int64_t>(checker.mismatches().size());
  results.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  PrintSpeed(results.speed);
  PrintPrompt(results.prompt);
  PrintMemory(results.memory);
  PrintSampling(results.sampling);
  std::printf("\n%" PRId64 " tokens compared with the contiguous reference, %" PRId64
              " differ; %.1f s\n",
              results.tokens_checked, results.mismatches, results.seconds);

  const PageMapPanel panels[] = {results.memory.picture, results.sampling.picture};
  status = WriteFile(options.svg, DrawPageMaps("Who holds which page", panels));
  if (!status.ok()) return status;
  std::printf("picture of the pages: %s\n", options.svg.c_str());
  if (!options.json.empty()) status = WriteFile(options.json, ToJson(results));
  if (!status.ok()) return status;
  for (const std::string& mismatch : checker.mismatches()) {
    std::fprintf(stderr, "mismatch: %s\n", mismatch.c_str());
  }
  if (results.mismatches > 0) return absl::InternalError("generated tokens differ");
  return absl::OkStatus();
}

}  // namespace
}  // namespace engine

int main(int argc, char** argv) {
  engine::Options options;
  engine::Flags flags;
  flags.Add("--svg", &options.svg);
  flags.Add("--json", &options.json);
  flags.Add("--model", &options.model);
  flags.Add("--tokenizer", &options.tokenizer);
  flags.Add("--device", &options.device);
  flags.Add("--threads", &options.threads, 1, 1024);
  if (absl::Status status = flags.Parse(argc, argv); !status.ok()) {
    return engine::ExitWith(status, engine::kUsage);
  }
  return engine::ExitWith(engine::RunDemo(options));
}
