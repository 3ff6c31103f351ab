// fp16 and bf16 conversions against their definition: the nearest value, ties to even.

#include "kernels/half.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One of the two 16-bit types.
struct Format {
  float (*from)(uint16_t);
  uint16_t (*to)(float);
  uint16_t infinity;
};
constexpr Format kFloat16 = {FromFloat16, ToFloat16, 0x7c00};
constexpr Format kBFloat16 = {FromBFloat16, ToBFloat16, 0x7f80};

// The value of fp16 bits by its definition: sign, 5 bits of exponent, 10 of fraction.
double DefinedFloat16(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 0x3ff;
  const double size =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

TEST(HalfTest, Float16HasItsDefinedValues) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7c00) == 0x7c00) continue;  // infinity, NaN
    EXPECT_EQ(FromFloat16(static_cast<uint16_t>(bits)), DefinedFloat16(static_cast<uint16_t>(bits)))
        << bits;
  }
  EXPECT_EQ(FromFloat16(0x7c00), kInfinity);
  EXPECT_EQ(FromFloat16(0xfc00), -kInfinity);
  EXPECT_EQ(FromFloat16(0x3c00), 1.0f);
  EXPECT_EQ(FromFloat16(0x0001), 0x1p-24f);
  EXPECT_EQ(FromFloat16(0x7bff), 65504.0f);
}

TEST(HalfTest, BFloat16IsTheUpperHalf) {
  EXPECT_EQ(FromBFloat16(0x3f80), 1.0f);
  EXPECT_EQ(FromBFloat16(0xc040), -3.0f);
  EXPECT_EQ(FromBFloat16(0x0001), std::ldexp(1.0f, -133));
  EXPECT_EQ(FromBFloat16(0x7f80), kInfinity);
}

void ExpectRoundTrip(const Format& format) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = format.from(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      const uint16_t back = format.to(value);
      EXPECT_TRUE(std::isnan(format.from(back))) << bits;
      EXPECT_EQ(back & 0x8000, static_cast<int>(bits & 0x8000)) << bits;
    } else {
      EXPECT_EQ(format.to(value), bits);
    }
  }
}

TEST(HalfTest, EveryValueComesBack) {
  ExpectRoundTrip(kFloat16);
  ExpectRoundTrip(kBFloat16);
}

// Between neighbours a < b: the middle goes to the even one, anything off it to the nearer one.
void ExpectNearestEven(const Format& format) {
  for (uint32_t sign : {0u, 0x8000u}) {
    for (uint32_t bits = 0; bits + 1 < format.infinity; ++bits) {
      const auto a = static_cast<uint16_t>(sign | bits);
      const auto b = static_cast<uint16_t>(sign | (bits + 1));
      // Exact in fp32: it has at least 13 bits more. Only bf16's subnormal middles need care: they
      // are fp32 subnormals, and exact too.
      const float middle = static_cast<float>(
          (static_cast<double>(format.from(a)) + static_cast<double>(format.from(b))) / 2);
      EXPECT_EQ(format.to(middle), bits % 2 == 0 ? a : b) << bits;
      EXPECT_EQ(format.to(std::nextafter(middle, format.from(a))), a) << bits;
      EXPECT_EQ(format.to(std::nextafter(middle, format.from(b))), b) << bits;
    }
  }
}

TEST(HalfTest, RoundsToNearestEven) {
  ExpectNearestEven(kFloat16);
  ExpectNearestEven(kBFloat16);
}

TEST(HalfTest, OverflowsToInfinityAtTheMiddle) {
  EXPECT_EQ(ToFloat16(65504.0f), 0x7bff);
  EXPECT_EQ(ToFloat16(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(ToFloat16(65520.0f), 0x7c00);
  EXPECT_EQ(ToFloat16(-1e30f), 0xfc00);
  EXPECT_EQ(ToFloat16(kInfinity), 0x7c00);
  EXPECT_EQ(ToBFloat16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(ToBFloat16(-kInfinity), 0xff80);
}

TEST(HalfTest, UnderflowsToSignedZero) {
  EXPECT_EQ(ToFloat16(0x1p-25f), 0x0000);  // the middle of 0 and the smallest: even
  EXPECT_EQ(ToFloat16(std::nextafter(0x1p-25f, 1.0f)), 0x0001);
  EXPECT_EQ(ToFloat16(-0x1p-30f), 0x8000);
  EXPECT_EQ(ToBFloat16(-0.0f), 0x8000);
}

TEST(HalfTest, EveryNanStaysANan) {
  // Payloads that rounding could carry into infinity, zero or the sign.
  for (const uint32_t bits : {0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffffffffu, 0x7fc00000u}) {
    const float nan = std::bit_cast<float>(bits);
    EXPECT_TRUE(std::isnan(FromFloat16(ToFloat16(nan)))) << bits;
    EXPECT_TRUE(std::isnan(FromBFloat16(ToBFloat16(nan)))) << bits;
  }
}

}  // namespace
}  // namespace quire
