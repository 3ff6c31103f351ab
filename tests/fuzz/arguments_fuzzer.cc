// Command lines of the replay, and text in its JSON. What is taken is in range; what is not is an
// error that says more than a code. Any text makes valid JSON.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bench/replay/arguments.h"
#include "engine/json.h"
#include "simdjson.h"
#include "tests/fuzz/fuzz_input.h"

namespace quire::fuzz {
namespace {

void CheckArguments(const std::string& text) {
  std::vector<std::string> words = {"quire_replay"};
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    // A command line ends a word at a NUL, too.
    words.push_back(std::string(text.substr(at, end - at).c_str()));
    at = end + 1;
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const auto a = replay::ParseArguments(static_cast<int>(words.size()), argv.data());
  if (!a.ok()) {
    Require(absl::IsInvalidArgument(a.status()) || absl::IsCancelled(a.status()),
            "another code: " + a.status().ToString());
    Require(absl::IsCancelled(a.status()) || !a.status().message().empty(), "no reason");
    return;
  }
  for (const int32_t pages : a->pages) Require(pages >= 1 && pages <= 1 << 30, "pages");
  Require(a->trace.empty() || a->trace[0] != '\0', "the name of the trace");
  Require(a->read.tokens_per_page >= 1 && a->read.tokens_per_page <= 4096, "tokens_per_page");
  Require(a->max_batch >= 1 && a->max_batch <= 1 << 20, "batch");
  Require(a->token_budget >= a->max_batch, "token budget");
  Require(a->speed > 0, "speed");
  Require(!a->policies.empty(), "policies");
  for (const double cost :
       {a->cost.fixed_ms, a->cost.prefill_us, a->cost.decode_us, a->cost.read_us_per_ktok}) {
    Require(std::isfinite(cost) && cost >= 0, "a cost that is no number");
  }
  Require(a->cost.context > 0, "context");
}

void CheckJson(const std::string& text) {
  engine::JsonWriter json;
  json.BeginArray();
  json.BeginObject();
  json.Field(text, text);
  json.EndObject();
  json.Value(text);
  json.EndArray();
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  const std::string padded = json.text();
  Require(parser.parse(padded).get(root) == simdjson::SUCCESS, "not JSON: " + json.text());
  std::string_view key, value;
  for (const auto field : root.at(0).get_object()) key = field.key;
  Require(root.at(1).get(value) == simdjson::SUCCESS && key == value, "key and value differ");
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return c >= 0; });
  if (ascii) Require(value == text, "text comes out of JSON as another");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const std::string text = input.Rest();
  CheckArguments(text);
  CheckJson(text);
  return 0;
}

}  // namespace quire::fuzz
