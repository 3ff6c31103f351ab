// Prints "seed hash" for COUNT seeds from FIRST: what builds by other compilers, and at other
// levels of optimisation, are compared by. What happened goes to standard error, and a violation
// too; the exit status is 1 then.

#include <cstdint>
#include <cstdlib>
#include <iomanip>
#include <iostream>

#include "tests/support/simulation.h"

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::cerr << "usage: " << argv[0] << " FIRST COUNT [STEPS]\n";
    return 2;
  }
  const uint64_t first = std::strtoull(argv[1], nullptr, 10);
  const uint64_t count = std::strtoull(argv[2], nullptr, 10);
  const auto steps = static_cast<int32_t>(argc == 4 ? std::atoi(argv[3]) : 5000);
  quire::testing::SimulationCounts counts;
  int failed = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const quire::testing::SimulationReport report = quire::testing::RunSimulation(seed, steps);
    std::cout << seed << ' ' << std::hex << std::setfill('0') << std::setw(16) << report.hash
              << std::dec << '\n';
    quire::testing::Add(report.counts, &counts);
    if (report.violation.empty()) continue;
    std::cerr << report.violation << '\n';
    failed = 1;
  }
  std::cerr << counts << '\n';
  return failed;
}
