// Chance, stamps and the trace of a simulation: integers of fixed width only, so that a seed means
// the same with every compiler, at every level of optimisation.

#ifndef QUIRE_TESTS_SUPPORT_SIMULATION_RANDOM_H_
#define QUIRE_TESTS_SUPPORT_SIMULATION_RANDOM_H_

#include <cstdint>

#include "quire/types.h"

namespace quire::testing {

// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
inline uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Draw once in a statement: the order in which arguments are evaluated is the compiler's choice.
class SimulationRandom {
 public:
  explicit SimulationRandom(uint64_t seed) : state_(MixBits(seed)) {}

  uint64_t Next() { return MixBits(state_ += 0x9E3779B97F4A7C15u); }
  // Uniform in [0, limit). REQUIRES limit > 0.
  int32_t Below(int32_t limit) {
    return static_cast<int32_t>(((Next() >> 32) * static_cast<uint64_t>(limit)) >> 32);
  }
  int32_t Between(int32_t least, int32_t most) { return least + Below(most - least + 1); }
  // Never if n is 0.
  bool OneIn(int32_t n) { return n > 0 && Below(n) == 0; }

 private:
  uint64_t state_;
};

// Folds integers, one after the other, after FNV-1a.
class TraceHash {
 public:
  void Add(uint64_t value) {
    hash_ = (hash_ ^ value) * 0x9E3779B97F4A7C15u;
    hash_ ^= hash_ >> 32;
  }
  void Add(int64_t value) { Add(static_cast<uint64_t>(value)); }
  void Add(int32_t value) { Add(static_cast<int64_t>(value)); }
  void Add(PageId page) { Add(static_cast<int32_t>(page)); }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xCBF29CE484222325u;
};

// What K and V depend on: the namespace, the weights, and every token so far.
inline uint64_t PathRoot(int32_t ns, int32_t weights) {
  return MixBits((static_cast<uint64_t>(weights) << 32) + static_cast<uint64_t>(ns) + 1);
}
inline uint64_t ExtendPath(uint64_t path, TokenId token) {
  return MixBits(path +
                 (static_cast<uint64_t>(static_cast<uint32_t>(token)) + 1) * 0x9E3779B97F4A7C15u);
}

// The bytes of the token at the end of `path`, in one group of one rank. They are other bytes in
// another group and on another rank, where other layers and other heads live.
inline uint64_t StampOf(uint64_t path, int32_t group, int32_t rank) {
  const uint64_t x = (path ^ static_cast<uint64_t>(group * 16 + rank + 1)) * 0x9E3779B97F4A7C15u;
  return x ^ (x >> 32);
}

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_SIMULATION_RANDOM_H_
