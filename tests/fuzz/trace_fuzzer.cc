// Trace files of the replay. A trace that is read keeps what trace.h promises; a bad line is an
// error that names file and line, and what stands before that line is still good.

#include <algorithm>
#include <string>
#include <string_view>

#include "bench/replay/trace.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/support/replay_trace_check.h"

namespace quire::fuzz {
namespace {

constexpr char kName[] = "file.jsonl";

// The line that an error names. It must name one that is there.
size_t LineOf(const absl::Status& status, std::string_view text) {
  Require(absl::IsInvalidArgument(status), "another code: " + status.ToString());
  const std::string message(status.message());
  const std::string begin = std::string(kName) + ":";
  Require(message.starts_with(begin), "no file: " + message);
  size_t line = 0, at = begin.size();
  for (; at < message.size() && message[at] >= '0' && message[at] <= '9'; ++at) {
    line = line * 10 + static_cast<size_t>(message[at] - '0');
  }
  Require(message.compare(at, 2, ": ") == 0, "no line: " + message);
  const auto lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  Require(line >= 1 && line <= lines, "no such line: " + message);
  Require(message.find("expected") != std::string::npos, "not what was expected: " + message);
  return line;
}

std::string_view LinesBefore(std::string_view text, size_t line) {
  size_t end = 0;
  for (size_t i = 1; i < line; ++i) end = text.find('\n', end) + 1;
  return text.substr(0, end);
}

bool Same(const replay::Trace& a, const replay::Trace& b) {
  const auto same = [](const replay::Request& x, const replay::Request& y) {
    return x.arrival_ms == y.arrival_ms && x.input_tokens == y.input_tokens &&
           x.output_tokens == y.output_tokens && x.first_id == y.first_id &&
           x.input_pages == y.input_pages && x.output_pages == y.output_pages &&
           x.previous == y.previous && x.tenant == y.tenant;
  };
  return a.ids == b.ids && a.id_count == b.id_count && a.tenants == b.tenants &&
         std::equal(a.requests.begin(), a.requests.end(), b.requests.begin(), b.requests.end(),
                    same);
}

// A line may name an answer of 2^24 tokens without holding them, and its pages are given ids. That
// is what the format is for; a fuzzer leaves out what would take it too long.
bool NeedsMuchMemory(std::string_view text, int32_t tokens_per_page) {
  int64_t pages = 0;
  for (size_t at = 0; (at = text.find("output_length", at)) != std::string_view::npos; ++at) {
    pages += (1 << 24) / tokens_per_page;
  }
  return pages > 1 << 22;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  replay::ReadOptions options;
  options.format = input.OneIn(2) ? replay::Format::kTokens : replay::Format::kMooncake;
  options.tokens_per_page = input.Mostly(1, 20);
  const std::string text = input.Rest();
  if (options.tokens_per_page < 1 || options.tokens_per_page > 4096) {
    const auto trace = replay::ParseTrace(text, kName, options);
    Require(absl::IsInvalidArgument(trace.status()), "tokens_per_page out of range was taken");
    return 0;
  }
  if (NeedsMuchMemory(text, options.tokens_per_page)) return 0;

  const auto strict = replay::ParseTrace(text, kName, options);
  options.skip_bad = true;
  const auto lenient = replay::ParseTrace(text, kName, options);
  if (lenient.ok()) {
    const std::string fault = replay::TraceFault(*lenient);
    Require(fault.empty(), fault);
  }
  if (strict.ok()) {
    Require(lenient.ok() && lenient->skipped_lines == 0 && Same(*strict, *lenient),
            "skip_bad reads a good trace otherwise");
    return 0;
  }
  const size_t line = LineOf(strict.status(), text);
  Require(!lenient.ok() || lenient->skipped_lines > 0, "skip_bad skipped no line of a bad trace");
  if (!lenient.ok()) LineOf(lenient.status(), text);
  options.skip_bad = false;
  const auto before = replay::ParseTrace(LinesBefore(text, line), kName, options);
  Require(before.ok() || before.status().message().find("no request") != std::string_view::npos,
          "the first bad line is an earlier one: " + before.status().ToString());
  return 0;
}

}  // namespace quire::fuzz
