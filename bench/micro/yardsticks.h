// What this machine can do now: measured in the same run as the benchmarks, because the machines
// are shared and a figure alone says little.

#ifndef QUIRE_BENCH_MICRO_YARDSTICKS_H_
#define QUIRE_BENCH_MICRO_YARDSTICKS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace quire::bench {

// A random single cycle through `count` entries of one cache line each; Chase follows it `steps`
// times and returns where it ended, so that the compiler cannot drop the walk.
class PointerChase {
 public:
  explicit PointerChase(size_t count);
  uint32_t Walk(uint32_t from, int64_t steps) const;

 private:
  struct alignas(64) Line {
    uint32_t next;
  };
  std::vector<Line> lines_;
};

// 0 .. n-1 in a fixed shuffled order.
std::vector<int32_t> Shuffled(int32_t n, uint32_t seed);

}  // namespace quire::bench

#endif  // QUIRE_BENCH_MICRO_YARDSTICKS_H_
