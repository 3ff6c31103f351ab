#include "bench/micro/growth.h"

#include <algorithm>
#include <cstdio>

#include "bench/micro/sweeps.h"

namespace quire::bench {

namespace {

const char* Name(benchmark::BigO growth) {
  switch (growth) {
    case benchmark::o1:
      return "1";
    case benchmark::oLogN:
      return "lg N";
    case benchmark::oN:
      return "N";
    case benchmark::oNLogN:
      return "N lg N";
    case benchmark::oNSquared:
      return "N^2";
    case benchmark::oNCubed:
      return "N^3";
    default:
      return "?";
  }
}

// One logarithm is let pass: with the size the memory in use grows, from the first cache to beyond
// the last, and a fit of a few sizes cannot tell that from a logarithm.
bool Within(benchmark::BigO fitted, benchmark::BigO allowed) {
  if (fitted == benchmark::o1 || fitted == benchmark::oLogN) return true;
  return allowed == benchmark::oN && (fitted == benchmark::oN || fitted == benchmark::oNLogN);
}

}  // namespace

void Growth::Add(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    const std::string& name = run.run_name.function_name;
    if (!name.starts_with("Sweep_") || run.error_occurred) continue;
    Family& family = families_[name];
    if (run.report_big_o) {
      family.fitted = run.complexity;
    } else if (run.report_rms) {
      family.rms = run.GetAdjustedRealTime();
    } else if (run.aggregate_name.empty()) {
      // The best of repetitions: what is slower is a neighbour's doing.
      const double ns = 1e9 / run.counters.at("items_per_second").value;
      const auto [point, added] = family.points.try_emplace(run.complexity_n);
      point->second.ns = added ? ns : std::min(point->second.ns, ns);
      point->second.chase_ns = run.counters.at("chase_ns").value;
      family.allocations = std::max(family.allocations, run.counters.at("allocations").value);
    }
  }
}

void Growth::Print() const {
  bool first = true;
  for (const Sweep& sweep : Sweeps()) {
    const auto found = families_.find(sweep.name);
    if (found == families_.end() || found->second.fitted == benchmark::oNone) continue;
    if (first) {
      std::printf("\n%-36s %5s %7s %7s  %-15s  %-15s  %s\n", "growth, N from least to most",
                  "meant", "fitted", "RMS", "        ns", " one miss, ns", "allocations");
    }
    first = false;
    const Family& family = found->second;
    const Point& least = family.points.begin()->second;
    const Point& most = family.points.rbegin()->second;
    const char* verdict = "as meant";
    if (!Within(family.fitted, sweep.allowed)) {
      const bool of_an_item = sweep.allowed == benchmark::o1;
      const bool as_misses = most.ns / least.ns <= most.chase_ns / least.chase_ns;
      verdict = of_an_item && as_misses ? "grows less than a miss" : "GROWS FASTER";
    }
    if (family.allocations > 0) verdict = "ALLOCATES";
    std::printf("%-36s %5s %7s %5.0f %%  %6.1f - %6.1f  %6.1f - %6.1f  %8.2f    %s\n", sweep.what,
                Name(sweep.allowed), Name(family.fitted), family.rms * 100, least.ns, most.ns,
                least.chase_ns, most.chase_ns, family.allocations, verdict);
  }
}

}  // namespace quire::bench
