#include <array>
#include <cstddef>
#include <utility>

#include "tests/support/simulation.h"

namespace quire::testing {
namespace {

struct Named {
  const char* name;
  int64_t SimulationCounts::*count;
};

constexpr std::array kCounts = {
    Named{"launches", &SimulationCounts::launches},
    Named{"results", &SimulationCounts::results},
    Named{"results void", &SimulationCounts::results_void},
    Named{"tokens read", &SimulationCounts::tokens_read},
    Named{"hits", &SimulationCounts::hits},
    Named{"copies", &SimulationCounts::copies},
    Named{"scrubs", &SimulationCounts::scrubs},
    Named{"plans failed", &SimulationCounts::plans_failed},
    Named{"answers ignored", &SimulationCounts::answers_ignored},
    Named{"fences", &SimulationCounts::fences},
    Named{"resets", &SimulationCounts::resets},
    Named{"aborts", &SimulationCounts::aborts},
    Named{"preemptions", &SimulationCounts::preemptions},
    Named{"losses", &SimulationCounts::losses},
    Named{"forks", &SimulationCounts::forks},
    Named{"truncates", &SimulationCounts::truncates},
    Named{"drafts rejected", &SimulationCounts::drafts_rejected},
    Named{"finished", &SimulationCounts::finished},
    Named{"drains", &SimulationCounts::drains},
};

}  // namespace

void Add(const SimulationCounts& more, SimulationCounts* sum) {
  for (const Named& named : kCounts) sum->*named.count += more.*named.count;
  sum->abort_phases |= more.abort_phases;
}

std::ostream& operator<<(std::ostream& out, const SimulationCounts& counts) {
  for (const Named& named : kCounts) out << named.name << ' ' << counts.*named.count << ", ";
  return out << "aborts before phases 0x" << std::hex << counts.abort_phases << std::dec;
}

}  // namespace quire::testing
