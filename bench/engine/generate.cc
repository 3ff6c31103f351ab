// quire_generate: continues a text with a llama2.c model, through Quire's pages.
//
//   quire_generate --prompt "Once upon a time" --tokens 200
//   quire_generate --prompt "To be" --temperature 0.8 --seed 7 --samples 4 --json out.json

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint.h"
#include "engine/engine.h"
#include "engine/flags.h"
#include "engine/json.h"
#include "engine/model.h"
#include "engine/tokenizer.h"

namespace engine {
namespace {

constexpr char kUsage[] =
    R"(quire_generate: continues a text with a llama2.c model, through Quire's pages.
  --prompt TEXT      what to continue (default: nothing)
  --tokens N         new tokens at most (default 128)
  --temperature T    0 is greedy (default)
  --seed S           of the random numbers (default 1)
  --samples K        answers to the same prompt, which is computed once (default 1)
  --json FILE        write ids, text and timings there
  --model FILE       llama2.c version 0 checkpoint (default: the shipped one)
  --tokenizer FILE   its tokenizer.bin
  --threads N        to compute with (default 1, which is best for a model of this size)
)";

struct Options {
  std::string model = DefaultModelPath();
  std::string tokenizer = DefaultTokenizerPath();
  std::string prompt;
  std::string json;
  int32_t threads = 1;
  int32_t tokens = 128;
  int32_t samples = 1;
  float temperature = 0;
  uint64_t seed = 1;
};

// What a terminal may be shown: a model can say any byte, control codes included.
std::string Printable(std::string_view text) {
  std::string out;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || std::isprint(byte) || std::isspace(byte)) out += c;
  }
  return out;
}

std::string ToJson(const Request& request, const Result& result, const EngineStats& stats,
                   const Tokenizer& tokenizer, double seconds) {
  JsonWriter json;
  json.BeginObject();
  json.Field("prompt_ids", std::span<const int32_t>(request.prompt));
  json.Field("generated_ids", std::span<const int32_t>(result.samples[0]));
  json.Field("text", tokenizer.Decode(request.prompt.back(), result.samples[0]));
  json.Field("hit_tokens", result.hit_tokens);
  json.Field("preemptions", result.preemptions);
  json.Key("timings");
  json.BeginObject();
  json.Field("seconds_to_first_token", result.seconds_to_first_token);
  json.Field("seconds_total", seconds);
  json.Field("tokens_per_second", static_cast<double>(stats.tokens_generated) / seconds);
  json.EndObject();
  if (result.samples.size() > 1) {
    json.Key("samples");
    json.BeginArray();
    for (const std::vector<quire::TokenId>& sample : result.samples) {
      json.BeginObject();
      json.Field("generated_ids", std::span<const int32_t>(sample));
      json.Field("text", tokenizer.Decode(request.prompt.back(), sample));
      json.EndObject();
    }
    json.EndArray();
  }
  json.EndObject();
  return json.text();
}

// A pool that holds every sample at full length, so that nothing is ever preempted.
EngineOptions RoomFor(const Request& request) {
  EngineOptions options;
  const auto tokens = static_cast<int32_t>(request.prompt.size()) + request.max_new_tokens;
  options.page_count = request.samples * (tokens / options.tokens_per_page + 2);
  options.max_running = request.samples;
  options.step_tokens = std::max(options.step_tokens, request.samples);
  return options;
}

absl::Status Generate(const Options& options) {
  absl::StatusOr<Checkpoint> checkpoint = LoadCheckpoint(options.model);
  if (!checkpoint.ok()) return checkpoint.status();
  const ModelConfig config = checkpoint->config;
  // A tokenizer of another model of the same size would only print rubbish.
  if ((options.model == DefaultModelPath()) != (options.tokenizer == DefaultTokenizerPath())) {
    return absl::InvalidArgumentError("--model and --tokenizer belong together: give both");
  }
  absl::StatusOr<Tokenizer> tokenizer = Tokenizer::Load(options.tokenizer, config.vocab_size);
  if (!tokenizer.ok()) return tokenizer.status();
  Model model(*checkpoint, MakeThreads(options.threads));

  Request request;
  request.prompt = tokenizer->Encode(options.prompt, /*bos=*/true);
  const int32_t room = config.context - static_cast<int32_t>(request.prompt.size());
  if (options.tokens > room && room > 0) {
    std::fprintf(stderr, "the model's context of %d leaves room for %d new tokens\n",
                 config.context, room);
  }
  request.max_new_tokens = room > 0 ? std::min(options.tokens, room) : options.tokens;
  request.temperature = options.temperature;
  request.seed = options.seed;
  request.samples = options.samples;

  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(&model, RoomFor(request));
  if (!engine.ok()) return engine.status();
  const auto start = std::chrono::steady_clock::now();
  absl::StatusOr<RequestId> id = (*engine)->Submit(request);
  if (!id.ok()) return id.status();
  absl::Status status = (*engine)->Run();
  if (!status.ok()) return status;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;

  const Result& result = (*engine)->result(*id);
  for (const std::vector<quire::TokenId>& sample : result.samples) {
    std::vector<quire::TokenId> whole(request.prompt.begin() + 1, request.prompt.end());
    whole.insert(whole.end(), sample.begin(), sample.end());
    std::printf("%s\n", Printable(tokenizer->Decode(kBos, whole)).c_str());
    if (result.samples.size() > 1) std::printf("----\n");
  }
  const EngineStats& stats = (*engine)->stats();
  std::fprintf(stderr, "%" PRId64 " tokens, %.0f a second\n", stats.tokens_generated,
               static_cast<double>(stats.tokens_generated) / elapsed.count());
  if (options.json.empty()) return absl::OkStatus();
  return WriteFile(options.json, ToJson(request, result, stats, *tokenizer, elapsed.count()));
}

}  // namespace
}  // namespace engine

int main(int argc, char** argv) {
  engine::Options options;
  engine::Flags flags;
  flags.Add("--model", &options.model);
  flags.Add("--tokenizer", &options.tokenizer);
  flags.Add("--threads", &options.threads, 1, 1024);
  flags.Add("--prompt", &options.prompt);
  flags.Add("--json", &options.json);
  flags.Add("--tokens", &options.tokens, 1, 1 << 20);
  flags.Add("--samples", &options.samples, 1, 1024);
  flags.Add("--temperature", &options.temperature);
  flags.Add("--seed", &options.seed);
  if (absl::Status status = flags.Parse(argc, argv); !status.ok()) {
    return engine::ExitWith(status, engine::kUsage);
  }
  return engine::ExitWith(engine::Generate(options));
}
