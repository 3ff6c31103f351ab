// What a serving run is watched with: a few samples of many steps, and how long pages lived.

#ifndef QUIRE_BENCH_REPLAY_SERVING_STATS_H_
#define QUIRE_BENCH_REPLAY_SERVING_STATS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "bench/replay/result.h"
#include "quire/types.h"

namespace replay {

// Keeps at most `most` samples, one every 2^k steps from the first on. How many steps there will be
// is not known, so when it is full every second one goes and the distance doubles.
class SampleKeeper {
 public:
  explicit SampleKeeper(size_t most) : most_(most) {}

  // Whether step `step` is to be sampled; steps count up from 0.
  bool Wants(int64_t step) const { return step % distance_ == 0; }
  void Add(const Sample& sample);
  std::vector<Sample> Take() { return std::move(samples_); }

 private:
  size_t most_;
  int64_t distance_ = 1;
  std::vector<Sample> samples_;
};

// Sees pages handed out, from which follows when their earlier contents ended.
class PageLives {
 public:
  explicit PageLives(int32_t pages) : born_(static_cast<size_t>(pages), -1) {}

  // `pages` were handed out while `now` requests had been started.
  void HandedOut(std::span<const quire::PageId> pages, int64_t now);
  const Lifetimes& lifetimes() const { return lifetimes_; }

 private:
  std::vector<int64_t> born_;  // by page; -1: never handed out
  Lifetimes lifetimes_;
};

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_SERVING_STATS_H_
