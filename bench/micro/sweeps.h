// The manager's operations over a range of sizes, so that Google Benchmark can fit their growth.

#ifndef QUIRE_BENCH_MICRO_SWEEPS_H_
#define QUIRE_BENCH_MICRO_SWEEPS_H_

#include <benchmark/benchmark.h>

#include <span>

namespace quire::bench {

struct Sweep {
  const char* name;
  const char* what;         // an item, for the table
  benchmark::BigO allowed;  // growth of one iteration
};

std::span<const Sweep> Sweeps();

// Registers them all. `full`: pools of 10 million pages too, which take 6 GB and a minute.
void RegisterSweeps(bool full);

}  // namespace quire::bench

#endif  // QUIRE_BENCH_MICRO_SWEEPS_H_
