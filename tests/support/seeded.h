// What tests with seeds and long forms share: numbers from the environment, and random numbers that
// are the same on every machine.

#ifndef QUIRE_TESTS_SUPPORT_SEEDED_H_
#define QUIRE_TESTS_SUPPORT_SEEDED_H_

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace quire::testing {

inline int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return otherwise;
  char* end = nullptr;
  errno = 0;
  const int64_t number = std::strtoll(value, &end, 10);
  if (errno != 0 || *end != '\0') {
    // Another number than the one that was meant would pass as if it had been tried.
    std::fprintf(stderr, "%s is %s: a whole number is needed\n", name, value);
    std::exit(2);
  }
  return number;
}

// splitmix64.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed) {}
  int Below(int limit) {
    uint64_t x = (state_ += 0x9E3779B97F4A7C15u);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return static_cast<int>((x ^ (x >> 31)) % static_cast<uint64_t>(limit));
  }
  int Between(int low, int high) { return low + Below(high - low + 1); }
  bool OneIn(int n) { return Below(n) == 0; }

 private:
  uint64_t state_;
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_SEEDED_H_
