// The table of the sweeps: how each operation grows, what it costs at both ends, and what it takes
// from the heap.

#ifndef QUIRE_BENCH_MICRO_GROWTH_H_
#define QUIRE_BENCH_MICRO_GROWTH_H_

#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <vector>

namespace quire::bench {

class Growth {
 public:
  using Run = benchmark::BenchmarkReporter::Run;

  void Add(const std::vector<Run>& runs);
  void Print() const;

 private:
  struct Point {
    double ns = 0;        // an item
    double chase_ns = 0;  // a dependent cache miss in as much memory
  };
  struct Family {
    std::map<int64_t, Point> points;  // by N
    double allocations = 0;           // the most of any size, an iteration
    benchmark::BigO fitted = benchmark::oNone;
    double rms = 0;
  };

  std::map<std::string, Family> families_;
};

}  // namespace quire::bench

#endif  // QUIRE_BENCH_MICRO_GROWTH_H_
