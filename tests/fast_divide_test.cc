#include "kernels/fast_divide.h"

#include <cstdint>
#include <limits>
#include <random>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kMax = std::numeric_limits<int32_t>::max();

void ExpectRight(int32_t divisor, int32_t value) {
  ASSERT_EQ(FastDivider(divisor).Divide(value), value / divisor) << value << " / " << divisor;
}

TEST(FastDividerTest, EverySmallDivisorAtEveryMultipleNearTheEnds) {
  for (int32_t divisor = 1; divisor <= 5000; ++divisor) {
    for (int32_t k = 0; k < 20; ++k) {
      for (const int64_t value : {int64_t{k} * divisor - 1, int64_t{k} * divisor,
                                  int64_t{kMax} / divisor * divisor - int64_t{k} * divisor - 1,
                                  int64_t{kMax} / divisor * divisor - int64_t{k} * divisor}) {
        if (value >= 0) ExpectRight(divisor, static_cast<int32_t>(value));
      }
      ExpectRight(divisor, kMax - k);
    }
  }
}

TEST(FastDividerTest, RandomAndExtremeDivisors) {
  std::mt19937 random(1);
  for (int i = 0; i < 200000; ++i) {
    const auto divisor = static_cast<int32_t>(random() >> (1 + random() % 31)) + 1;
    if (divisor < 1) continue;
    ExpectRight(divisor, static_cast<int32_t>(random() >> 1));
  }
  for (const int32_t divisor : {kMax, kMax - 1, 1 << 30, (1 << 30) + 1, (1 << 30) - 1}) {
    for (const int32_t value : {0, 1, divisor - 1, divisor, kMax - 1, kMax}) {
      ExpectRight(divisor, value);
    }
  }
}

}  // namespace
}  // namespace quire
