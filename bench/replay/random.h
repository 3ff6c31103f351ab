// Chance that comes out the same on any machine: integers only, because the last bit of a
// logarithm, and whether a product and a sum are fused, differ from one to the next.

#ifndef QUIRE_BENCH_REPLAY_RANDOM_H_
#define QUIRE_BENCH_REPLAY_RANDOM_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace replay {

// Values around a median, with a long tail to the right: median * 2^(spread / 4 * z), where z is
// nearly normal (a sum of twelve uniform numbers). 84 % are below median * 2^(spread / 4). Values
// outside [least, most] become the nearer of the two.
struct HeavyTail {
  int64_t median;  // at most 2^24
  int64_t spread;  // quarters of a doubling, at most 16
  int64_t least, most;
};

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
  uint64_t Next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  // Uniform in [0, n), n < 2^32; even to one part in 2^32 / n.
  int64_t Below(int64_t n) {
    return static_cast<int64_t>(((Next() >> 32) * static_cast<uint64_t>(n)) >> 32);
  }

  bool Chance(int64_t part, int64_t whole) { return Below(whole) < part; }

  int64_t Draw(const HeavyTail& tail) {
    // 2^(i / 16), 16 bits of fraction.
    static constexpr std::array<int64_t, 17> kPowers = {
        65536, 68438,  71468,  74632,  77936,  81386,  84990,  88752, 92682,
        96785, 101070, 105545, 110218, 115098, 120194, 125515, 131072};
    int64_t z = -(int64_t{6} << 32);  // 32 bits of fraction, variance 1
    for (int i = 0; i < 12; ++i) z += static_cast<int64_t>(Next() >> 32);
    const int64_t exponent = ((z >> 16) * tail.spread) >> 2;  // 16 bits of fraction
    const int64_t whole = exponent >> 16, fraction = exponent & 0xFFFF;
    const int64_t low = kPowers[static_cast<size_t>(fraction >> 12)];
    const int64_t high = kPowers[static_cast<size_t>(fraction >> 12) + 1];
    const int64_t power = low + (((high - low) * (fraction & 0xFFF)) >> 12);
    const int64_t value = tail.median * power;  // below 2^41; `whole` is from -24 to 23
    const int64_t scaled = whole >= 0 ? ScaleUp(value, whole) : value >> -whole;
    return std::clamp(scaled >> 16, tail.least, tail.most);
  }

  // Exponentially distributed around `mean` < 2^36. Von Neumann's method: runs of falling uniform
  // numbers, of which only comparisons are needed.
  int64_t Exponential(int64_t mean) {
    for (int64_t whole = 0;; ++whole) {
      const uint64_t first = Next();
      uint64_t last = first;
      bool odd = true;
      for (uint64_t next = Next(); next < last; next = Next()) {
        last = next;
        odd = !odd;
      }
      if (odd) return whole * mean + ((static_cast<int64_t>(first >> 44) * mean) >> 20);
    }
  }

 private:
  // The tail's own limit comes long before this one.
  static int64_t ScaleUp(int64_t value, int64_t shift) {
    constexpr int64_t kMost = int64_t{1} << 62;
    return value > (kMost >> shift) ? kMost : value << shift;
  }

  uint64_t state_;
};

// Item i of n with a chance proportional to 1 / (i + 1).
class Zipf {
 public:
  explicit Zipf(int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      sums_.push_back((sums_.empty() ? 0 : sums_.back()) + (uint64_t{1} << 40) / (i + 1));
    }
  }

  int64_t Draw(Random* random) const {
    // The sums stay below 2^45, so the remainder favours none by more than 2^-19.
    const uint64_t at = random->Next() % sums_.back();
    return std::upper_bound(sums_.begin(), sums_.end(), at) - sums_.begin();
  }

 private:
  std::vector<uint64_t> sums_;
};

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_RANDOM_H_
