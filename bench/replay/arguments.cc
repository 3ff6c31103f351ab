#include "bench/replay/arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "bench/replay/sequential.h"
#include "engine/flags.h"

namespace replay {

const char kUsage[] =
    R"(quire_replay: requests through the real page manager, to compare policies and sizes.

What to replay, one of:
  --trace FILE        a trace, one JSON object a line
  --generate KIND     traffic made on the spot: chat, agent, rag or sampling

  --format F          of the file: mooncake (default) or tokens
  --tokens-per-page N cut a trace of tokens, or what is generated, into pages of N tokens
                      (1 to 4096; default 16 for tokens, 512 for generated)
  --skip-bad          count malformed lines and go on, rather than stop at the first
  --seed N            of --generate (default 1)
  --refs N            of --generate: page references, about (default 500000)
  --rate R            of --generate: requests a second (default 4)

How:
  --mode M            sequential (default): one request after another, prompts only; the policy
                      alone decides, and Belady's bound stands beside it
                      serving: at their times, batched, with answers, in simulated time
  --pages N[,N...]    sizes of the pool (default: a 64th, a 16th and a quarter of the trace's
                      distinct pages)
  --policy P[,P...]   what to give up first: all, or names; a wrong one lists them
                      (default: lru and the library's default)
  --lifetimes         sequential: also how long pages stayed (a second replay; --report implies it)

Serving:
  --speed X           arrivals X times as fast (default 1; inf: all at once)
  --batch N           sequences running at one time, at most (default 256)
  --token-budget N    tokens computed in a step, at most (default 2048; at least --batch)

The cost model, simulated: step = fixed + prefill * sum over new prompt tokens t of
(1 + t / context) + decode * sequences decoding + read * thousands of tokens of K/V they read
  --fixed-ms X  --prefill-us X  --context X  --decode-us X  --read-us X
                      (defaults 6, 40, 30518, 4, 44: an 8-billion-parameter model, assumed)

Results:
  --json FILE         everything, as JSON
  --report FILE       everything, as one HTML file to look at
)";

namespace {

// Flags that are parsed further once all are there.
struct Words {
  std::string generate;
  std::string format = "mooncake";
  std::string mode = "sequential";
  std::string pages;
  std::string policy;
  int32_t tokens_per_page = 0;
};

absl::Status ParseFlags(int argc, char** argv, Arguments* a, Words* words) {
  engine::Flags flags;
  flags.Add("--trace", &a->trace);
  flags.Add("--generate", &words->generate);
  flags.Add("--format", &words->format);
  flags.Add("--tokens-per-page", &words->tokens_per_page, 1, 4096);
  flags.AddSwitch("--skip-bad", &a->read.skip_bad);
  flags.Add("--seed", &a->generate.seed);
  flags.Add("--refs", &a->generate.page_refs, int64_t{1}, int64_t{100000000});
  flags.Add("--rate", &a->generate.requests_per_second);
  flags.Add("--mode", &words->mode);
  flags.Add("--pages", &words->pages);
  flags.Add("--policy", &words->policy);
  flags.AddSwitch("--lifetimes", &a->lifetimes);
  flags.Add("--speed", &a->speed);
  flags.Add("--batch", &a->max_batch, 1, 1 << 20);
  flags.Add("--token-budget", &a->token_budget, 1, 1 << 30);
  flags.Add("--fixed-ms", &a->cost.fixed_ms);
  flags.Add("--prefill-us", &a->cost.prefill_us);
  flags.Add("--context", &a->cost.context);
  flags.Add("--decode-us", &a->cost.decode_us);
  flags.Add("--read-us", &a->cost.read_us_per_ktok);
  flags.Add("--json", &a->json);
  flags.Add("--report", &a->report);
  return flags.Parse(argc, argv);
}

absl::Status SetSource(const Words& words, Arguments* a) {
  if (a->trace.empty() == words.generate.empty()) {
    return absl::InvalidArgumentError(
        a->trace.empty()
            ? "nothing to replay: give --trace FILE or --generate KIND; --help says more"
            : "--trace and --generate: only one of them can be replayed");
  }
  if (words.format == "tokens") {
    a->read.format = Format::kTokens;
  } else if (words.format != "mooncake") {
    return absl::InvalidArgumentError(
        absl::StrCat("--format ", words.format, ": must be mooncake or tokens"));
  }
  if (!words.generate.empty()) {
    const absl::StatusOr<Traffic> traffic = ParseTraffic(words.generate);
    if (!traffic.ok()) return traffic.status();
    a->generate.traffic = *traffic;
  }
  if (words.tokens_per_page == 0) return absl::OkStatus();
  if (!a->trace.empty() && a->read.format == Format::kMooncake && words.tokens_per_page != 512) {
    return absl::InvalidArgumentError(
        absl::StrCat("--tokens-per-page ", words.tokens_per_page,
                     ": pages of a Mooncake trace have 512 tokens; leave the flag out, or give "
                     "--format tokens"));
  }
  a->read.tokens_per_page = a->generate.tokens_per_page = words.tokens_per_page;
  return absl::OkStatus();
}

absl::Status SetRun(const Words& words, Arguments* a) {
  if (words.mode == "serving") {
    a->serving = true;
  } else if (words.mode != "sequential") {
    return absl::InvalidArgumentError(
        absl::StrCat("--mode ", words.mode, ": must be sequential or serving"));
  }
  if (!words.pages.empty()) {
    absl::StatusOr<std::vector<int32_t>> pages = ParsePages(words.pages);
    if (!pages.ok()) return pages.status();
    a->pages = *std::move(pages);
  }
  a->policies = DefaultPolicies();
  if (!words.policy.empty()) {
    absl::StatusOr<std::vector<PolicyName>> policies = ParsePolicies(words.policy);
    if (!policies.ok()) return policies.status();
    a->policies = *std::move(policies);
  }
  if (!(a->speed > 0)) {
    return absl::InvalidArgumentError("--speed 0: must be above 0; inf lets all arrive at once");
  }
  if (a->token_budget < a->max_batch) {
    return absl::InvalidArgumentError(
        absl::StrCat("--token-budget ", a->token_budget, " is less than --batch ", a->max_batch,
                     ": each running sequence needs a token a step; raise one or lower the other"));
  }
  if (!a->report.empty()) a->lifetimes = true;
  return CheckCostModel(a->cost);
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> ParsePages(const std::string& text) {
  std::vector<int32_t> pages;
  const char* begin = text.data();
  const char* const end = text.data() + text.size();
  while (true) {
    int32_t number = 0;
    const auto [stop, error] = std::from_chars(begin, end, number);
    if (error != std::errc() || number < 1 || number > 1 << 30 || (stop != end && *stop != ',')) {
      return absl::InvalidArgumentError(
          absl::StrCat("--pages ", text,
                       ": must be whole numbers from 1 to 1073741824 with commas between, as in "
                       "1000,10000"));
    }
    if (std::find(pages.begin(), pages.end(), number) == pages.end()) pages.push_back(number);
    if (stop == end) return pages;
    begin = stop + 1;
  }
}

std::vector<int32_t> DefaultPages(const Trace& trace, int64_t distinct_pages) {
  std::vector<int32_t> pages;
  for (const int64_t part : {64, 16, 4}) {
    const int64_t size = std::max<int64_t>(distinct_pages / part, LongestPrompt(trace) + 1);
    const auto fits = static_cast<int32_t>(std::min<int64_t>(size, 1 << 30));
    if (pages.empty() || pages.back() != fits) pages.push_back(fits);
  }
  return pages;
}

absl::StatusOr<Arguments> ParseArguments(int argc, char** argv) {
  Arguments arguments;
  Words words;
  if (absl::Status status = ParseFlags(argc, argv, &arguments, &words); !status.ok()) return status;
  if (absl::Status status = SetSource(words, &arguments); !status.ok()) return status;
  if (absl::Status status = SetRun(words, &arguments); !status.ok()) return status;
  return arguments;
}

}  // namespace replay
