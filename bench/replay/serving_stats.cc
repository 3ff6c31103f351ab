#include "bench/replay/serving_stats.h"

#include <algorithm>
#include <bit>

namespace replay {

void SampleKeeper::Add(const Sample& sample) {
  samples_.push_back(sample);
  if (samples_.size() <= most_) return;
  // Those at even places are the steps that twice the distance divides, the first among them.
  const size_t kept = (samples_.size() + 1) / 2;
  for (size_t i = 0; i < kept; ++i) samples_[i] = samples_[2 * i];
  samples_.resize(kept);
  distance_ *= 2;
}

void PageLives::HandedOut(std::span<const quire::PageId> pages, int64_t now) {
  for (const quire::PageId page : pages) {
    int64_t& born = born_[static_cast<size_t>(page)];
    if (born >= 0) {
      const auto lived = static_cast<uint64_t>(now - born);
      const int bin = std::max(static_cast<int>(std::bit_width(lived)) - 1, 0);
      ++lifetimes_.bins[static_cast<size_t>(std::min(bin, 31))];
    }
    born = now;
  }
}

}  // namespace replay
