// quire_bench: Google Benchmark, and at the end a table of what was to be reached and what was.
//
//   quire_bench [--json FILE] [--sweep=full] [any of Google Benchmark's own flags]

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bench/micro/growth.h"
#include "bench/micro/sweeps.h"

namespace {

// What a benchmark's figure means to a reader, and the target it is held against. Nanoseconds an
// item are 1e9 / items_per_second; a target of 0 is a yardstick.
struct Target {
  const char* benchmark;
  const char* what;
  const char* counter;  // nullptr: nanoseconds an item
  double target;
  bool at_most;
};

constexpr Target kTargets[] = {
    {"BM_PointerChase/MiB:256", "yardstick: one dependent cache miss, ns", nullptr, 0, true},
    {"BM_Memcpy/MiB:256/real_time", "yardstick: memcpy, GB/s", "bytes_per_second", 0, false},
    {"BM_ReadRate/real_time", "yardstick: streaming read, all cores, GB/s", "read_rate", 0, false},
    {"BM_AllocateRelease/pages:1024/batch:1", "allocate + release, hot, ns", nullptr, 12, true},
    {"BM_AllocateRelease/pages:1048576/batch:1", "allocate + release, 1 M pages, one by one, ns",
     nullptr, 0, true},
    {"BM_AllocateRelease/pages:1048576/batch:64", "allocate + release, 1 M pages, 64 a call, ns",
     nullptr, 30, true},
    {"BM_Lookup/pages:1024", "lookup a page, hot, ns", nullptr, 40, true},
    {"BM_Lookup/pages:1048576", "lookup a page, 1 M pages, ns", nullptr, 75, true},
    {"BM_CommitPage/pages:1024/manual_time", "commit a full page, hot, ns", nullptr, 100, true},
    {"BM_CommitPage/pages:1048576/manual_time", "commit a full page, 1 M pages, ns", nullptr, 100,
     true},
    {"BM_Step/pages:40960/window:0/manual_time", "decode step a sequence, one group, ns", nullptr,
     50, true},
    {"BM_Step/pages:40960/window:1/manual_time", "decode step a sequence, full + window, ns",
     nullptr, 90, true},
    {"BM_Release/pages:1024/manual_time", "release a page, hot, ns", nullptr, 8, true},
    {"BM_Release/pages:1048576/manual_time", "release a page, 1 M pages, ns", nullptr, 0, true},
    {"BM_Reclaim/pages:1024/manual_time", "reclaim a page, hot, ns", nullptr, 60, true},
    {"BM_Reclaim/pages:1048576/manual_time", "reclaim a page, 1 M pages, ns", nullptr, 150, true},
    {"BM_Replay/pages:10000", "replay: references (ids as tokens), M/s", "millions_per_second", 5,
     false},
    {"BM_Metadata/pages:1048576/iterations:1", "manager's memory a page, tokens apart, bytes",
     "bytes_a_page_without_tokens", 96, true},
    {"BM_AttentionDecode/dtype:2/tpp:16/group:4/rows:32/length:4096/real_time",
     "decode attention, bf16, 512 MB, of the read rate, %", "fraction_of_read_rate", 85, false},
    {"BM_AttentionPagedAgainstContiguous/real_time", "16-token pages against contiguous, %",
     "paged_speed_of_contiguous", 0, false},
};

// Prints as usual and keeps each run's figures by name. With repetitions the median counts.
class Keeper : public benchmark::ConsoleReporter {
 public:
  Keeper() : ConsoleReporter(isatty(STDOUT_FILENO) != 0 ? OO_ColorTabular : OO_Tabular) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    growth_.Add(runs);
    for (const Run& run : runs) {
      if (run.error_occurred) continue;
      const bool median = run.aggregate_name == "median";
      if (!run.aggregate_name.empty() && !median) continue;
      std::map<std::string, double>& figures = figures_[run.run_name.str()];
      for (const auto& [name, counter] : run.counters) figures[name] = counter.value;
    }
  }

  void PrintTargets() const {
    std::printf("\n%-50s %10s %10s\n", "", "measured", "target");
    for (const Target& target : kTargets) {
      const auto run = figures_.find(target.benchmark);
      if (run == figures_.end()) continue;
      const auto counter = run->second.find(target.counter ? target.counter : "items_per_second");
      if (counter == run->second.end()) continue;
      PrintLine(target, Scaled(target, counter->second));
    }
    growth_.Print();
  }

 private:
  // In the unit that `what` names.
  static double Scaled(const Target& target, double value) {
    const std::string what = target.what;
    if (target.counter == nullptr) return 1e9 / value;
    if (what.ends_with("GB/s")) return value * 1e-9;
    if (what.ends_with("%")) return value * 100;
    return value;
  }

  static void PrintLine(const Target& target, double value) {
    if (target.target == 0) {
      std::printf("%-50s %10.1f\n", target.what, value);
      return;
    }
    const bool reached = target.at_most ? value <= target.target : value >= target.target;
    std::printf("%-50s %10.1f %3s%7.0f %s\n", target.what, value,
                target.at_most ? "<=" : ">=", target.target, reached ? "reached" : "MISSED");
  }

  std::map<std::string, std::map<std::string, double>> figures_;
  quire::bench::Growth growth_;
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments;
  bool full_sweeps = false;
  for (int i = 0; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool joined = argument.starts_with("--json=");
    if (joined || argument == "--json") {
      if (!joined && i + 1 == argc) {
        std::fprintf(stderr, "quire_bench: --json needs a file name\n");
        return 1;
      }
      const std::string file = joined ? argument.substr(7) : argv[++i];
      arguments.push_back("--benchmark_out=" + file);
      arguments.push_back("--benchmark_out_format=json");
    } else if (argument == "--sweep=full") {
      full_sweeps = true;
    } else {
      arguments.push_back(argument);
    }
  }
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  int count = static_cast<int>(pointers.size());
  pointers.push_back(nullptr);
  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return 1;
  quire::bench::RegisterSweeps(full_sweeps);
  Keeper keeper;
  benchmark::RunSpecifiedBenchmarks(&keeper);
  keeper.PrintTargets();
  return 0;
}
