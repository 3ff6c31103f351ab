#include "bench/micro/yardsticks.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>

#include "bench/micro/stream_rate.h"

namespace quire::bench {

PointerChase::PointerChase(size_t count) : lines_(count) {
  const std::vector<int32_t> order = Shuffled(static_cast<int32_t>(count), 7);
  for (size_t i = 0; i < count; ++i) {
    lines_[static_cast<size_t>(order[i])].next =
        static_cast<uint32_t>(order[i + 1 == count ? 0 : i + 1]);
  }
}

uint32_t PointerChase::Walk(uint32_t from, int64_t steps) const {
  for (int64_t i = 0; i < steps; ++i) from = lines_[from].next;
  return from;
}

std::vector<int32_t> Shuffled(int32_t n, uint32_t seed) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(seed);
  // Fisher-Yates by hand: std::shuffle differs between standard libraries.
  for (int32_t i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[random() % (static_cast<uint32_t>(i) + 1)]);
  }
  return order;
}

namespace {

// One dependent cache miss, on ordinary OS pages: what a random single operation on a large pool
// cannot be faster than.
void BM_PointerChase(benchmark::State& state) {
  const PointerChase chase(static_cast<size_t>(state.range(0)) << 20 >> 6);
  uint32_t at = 0;
  constexpr int64_t kSteps = 4096;
  for (auto _ : state) {
    at = chase.Walk(at, kSteps);
    benchmark::DoNotOptimize(at);
  }
  state.SetItemsProcessed(state.iterations() * kSteps);
}
BENCHMARK(BM_PointerChase)->ArgName("MiB")->Arg(1)->Arg(256);

void BM_Memcpy(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0)) << 20;
  std::vector<char> from(bytes, 1);
  std::vector<char> to(bytes, 2);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), bytes);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}
BENCHMARK(BM_Memcpy)->ArgName("MiB")->Arg(256)->UseRealTime();

// What every decode kernel is held against: all cores reading memory once.
void BM_ReadRate(benchmark::State& state) {
  const auto cores = static_cast<int32_t>(std::thread::hardware_concurrency());
  double best = 0;
  for (auto _ : state) best = std::max(best, ReadRate(cores, 1));
  state.counters["read_rate"] = best;
}
BENCHMARK(BM_ReadRate)->UseRealTime();

}  // namespace

}  // namespace quire::bench
