// Bytes at random, the same for the same seed.

#ifndef QUIRE_TESTS_SUPPORT_RANDOM_BYTES_H_
#define QUIRE_TESTS_SUPPORT_RANDOM_BYTES_H_

#include <cstdint>
#include <random>

#include "tests/support/attention_memory.h"

namespace quire::testing {

inline TestVector<char> RandomBytes(int64_t bytes, uint32_t seed) {
  TestVector<char> random_bytes(static_cast<size_t>(bytes));
  std::mt19937 random(seed);
  for (char& c : random_bytes) c = static_cast<char>(random());
  return random_bytes;
}

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_RANDOM_BYTES_H_
