#include "bench/replay/run.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/replay/belady.h"
#include "bench/replay/json_result.h"
#include "bench/replay/progress.h"
#include "bench/replay/report.h"
#include "bench/replay/sequential.h"
#include "bench/replay/serving.h"
#include "engine/json.h"

namespace replay {
namespace {

// Without changing what is there: it is only replaced by results.
absl::Status CheckWritable(const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  std::error_code ignored;
  const bool existed = std::filesystem::exists(path, ignored);
  std::ofstream file(path, std::ios::app);
  file.close();
  if (file.fail()) {
    return absl::UnavailableError(
        absl::StrCat(path, ": cannot be written; does its folder exist, may you write there?"));
  }
  if (!existed) std::filesystem::remove(path, ignored);
  return absl::OkStatus();
}

absl::StatusOr<Trace> GetTrace(const Arguments& arguments, Results* results) {
  const auto begin = std::chrono::steady_clock::now();
  absl::StatusOr<Trace> trace = arguments.trace.empty()
                                    ? Generate(arguments.generate)
                                    : ReadTrace(arguments.trace, arguments.read);
  if (!trace.ok()) return trace;
  results->read_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (trace->requests.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(trace->name, ": no request in it"));
  }
  results->trace = trace->name;
  results->requests = static_cast<int64_t>(trace->requests.size());
  results->page_refs = trace->page_refs();
  results->tokens_per_page = trace->tokens_per_page;
  results->skipped_lines = trace->skipped_lines;
  results->unlimited_hit_pages = UnlimitedHits(*trace);
  results->distinct_pages = results->page_refs - results->unlimited_hit_pages;
  return trace;
}

void PrintTrace(const Results& r, std::FILE* out) {
  std::fprintf(out,
               "%s: %lld requests, %lld page references, %lld distinct pages of %d tokens\n"
               "read in %.2f s; with room for everything %.4f of the references would hit\n",
               r.trace.c_str(), static_cast<long long>(r.requests),
               static_cast<long long>(r.page_refs), static_cast<long long>(r.distinct_pages),
               r.tokens_per_page, r.read_seconds,
               SequentialResult::Rate(r.unlimited_hit_pages, r.page_refs));
  if (r.skipped_lines > 0) {
    std::fprintf(out, "%lld malformed lines were skipped\n",
                 static_cast<long long>(r.skipped_lines));
  }
}

void PrintSequential(const Results& results, const SequentialResult& r, std::FILE* out) {
  const BeladyResult* bound = BeladyAt(results, r.pages);
  const int64_t most = bound == nullptr ? 0 : bound->hit_pages;
  std::fprintf(out, "%-16s %10d %9.4f %9.4f %9.1f %% %11.4f %11lld %9.2f\n", r.policy.c_str(),
               r.pages, r.page_hit_rate(), SequentialResult::Rate(most, r.page_refs),
               most == 0 ? 100.0 : 100 * SequentialResult::Rate(r.hit_pages, most),
               r.recompute_saved, static_cast<long long>(r.evictions), r.refs_per_second() / 1e6);
  std::fflush(out);
}

absl::Status ReplaySequential(const Arguments& arguments, const Trace& trace,
                              const std::vector<int32_t>& pages, Results* results, std::FILE* out) {
  Progress progress;
  absl::StatusOr<std::vector<BeladyResult>> bounds = Belady(trace, pages, &progress);
  if (!bounds.ok()) return bounds.status();
  results->belady = *std::move(bounds);
  std::fprintf(out, "\n%-16s %10s %9s %9s %11s %11s %11s %9s\n", "policy", "pages", "hit rate",
               "Belady", "of Belady", "cost saved", "evictions", "M refs/s");
  for (const int32_t size : pages) {
    for (const PolicyName& policy : arguments.policies) {
      absl::StatusOr<SequentialResult> result =
          RunSequential(trace, {.policy = policy,
                                .pages = size,
                                .cost = arguments.cost,
                                .lifetimes = arguments.lifetimes,
                                .progress = &progress});
      if (!result.ok()) return result.status();
      results->sequential.push_back(*std::move(result));
      PrintSequential(*results, results->sequential.back(), out);
    }
  }
  return absl::OkStatus();
}

ServingOptions ServingOptionsOf(const Arguments& arguments, const PolicyName& policy,
                                int32_t pages) {
  ServingOptions options;
  options.pages = pages;
  options.policy = policy.reclaim;
  options.policy_name = policy.name;
  options.speed = arguments.speed;
  options.max_batch = arguments.max_batch;
  options.token_budget = arguments.token_budget;
  options.cost = arguments.cost;
  return options;
}

void PrintServing(const ServingResult& r, std::FILE* out) {
  std::fprintf(out, "%-16s %10d %9.4f %9.0f %9.0f %9.1f %9.1f %9.0f %9lld %9lld %8lld %8.1f\n",
               r.policy.c_str(), r.pages, r.hit_rate(), r.first_token_ms.p50, r.first_token_ms.p95,
               r.between_tokens_ms.p50, r.between_tokens_ms.p95, r.tokens_per_second,
               static_cast<long long>(r.preemptions), static_cast<long long>(r.evictions),
               static_cast<long long>(r.refused), r.manager_us.mean);
  std::fflush(out);
}

absl::Status ReplayServing(const Arguments& arguments, const Trace& trace,
                           const std::vector<int32_t>& pages, Results* results, std::FILE* out) {
  Progress progress;
  std::fprintf(out, "\n%-16s %10s %9s %19s %19s %9s %9s %9s %8s %8s\n", "", "", "",
               "first token, ms", "between tokens, ms", "answers", "", "", "", "manager");
  std::fprintf(out, "%-16s %10s %9s %9s %9s %9s %9s %9s %9s %9s %8s %8s\n", "policy", "pages",
               "hit rate", "p50", "p95", "p50", "p95", "tokens/s", "preempted", "evictions",
               "refused", "us/step");
  for (const int32_t size : pages) {
    for (const PolicyName& policy : arguments.policies) {
      ServingOptions options = ServingOptionsOf(arguments, policy, size);
      options.progress = [&](int64_t done, int64_t) { progress.At(done); };
      progress.Begin(absl::StrCat(policy.name, ", ", size, " pages"), "requests",
                     results->requests);
      absl::StatusOr<ServingResult> result = RunServing(trace, options);
      progress.End();
      if (!result.ok()) return result.status();
      results->serving.push_back(*std::move(result));
      PrintServing(results->serving.back(), out);
    }
  }
  return absl::OkStatus();
}

absl::Status WriteIfWanted(const std::string& path, const std::string& text, std::FILE* out) {
  if (path.empty()) return absl::OkStatus();
  if (absl::Status status = engine::WriteFile(path, text); !status.ok()) return status;
  std::fprintf(out, "wrote %s\n", path.c_str());
  return absl::OkStatus();
}

}  // namespace

absl::Status Run(const Arguments& arguments, const std::string& command, std::FILE* out) {
  for (const std::string& path : {arguments.json, arguments.report}) {
    if (absl::Status status = CheckWritable(path); !status.ok()) return status;
  }
  Results results;
  results.command = command;
  results.cost_model = Describe(arguments.cost);
  const absl::StatusOr<Trace> trace = GetTrace(arguments, &results);
  if (!trace.ok()) return trace.status();
  PrintTrace(results, out);
  const std::vector<int32_t> pages =
      arguments.pages.empty() ? DefaultPages(*trace, results.distinct_pages) : arguments.pages;
  const auto replay = arguments.serving ? ReplayServing : ReplaySequential;
  if (absl::Status status = replay(arguments, *trace, pages, &results, out); !status.ok()) {
    return status;
  }
  if (!arguments.json.empty() || !arguments.report.empty()) std::fprintf(out, "\n");
  if (absl::Status status = WriteIfWanted(arguments.json, JsonOf(results), out); !status.ok()) {
    return status;
  }
  if (arguments.report.empty()) return absl::OkStatus();
  return WriteIfWanted(arguments.report, HtmlReport(results), out);
}

}  // namespace replay
