// fp16 and bf16 <-> fp32, one value at a time, without CUDA or compiler extensions.
// Narrowing rounds to nearest, ties to even; a NaN stays a quiet NaN of the same sign.

#ifndef QUIRE_KERNELS_HALF_H_
#define QUIRE_KERNELS_HALF_H_

#include <bit>
#include <cstdint>

namespace quire {

constexpr float FromBFloat16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

constexpr uint16_t ToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  // Just below half of the dropped part, plus one when the kept part is odd: ties go to even.
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

constexpr float FromFloat16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t rest = bits & 0x7fff;
  if (rest >= 0x7c00) {  // infinity, NaN
    const uint32_t quiet = rest > 0x7c00 ? 0x400000 : 0;
    return std::bit_cast<float>(sign | 0x7f800000 | quiet | (rest & 0x3ff) << 13);
  }
  if (rest >= 0x400) return std::bit_cast<float>(sign | ((rest << 13) + (112u << 23)));
  const float magnitude = static_cast<float>(rest) * 0x1p-24f;  // zero and subnormals: exact
  return sign != 0 ? -magnitude : magnitude;
}

constexpr uint16_t ToFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (rest >> 13 & 0x3ff));
  if (rest >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // >= 65520 rounds to inf
  if (rest >= 0x38800000) {                                             // >= 2^-14: normal
    const uint32_t rebased = rest - (112u << 23);
    return static_cast<uint16_t>(sign | (rebased + 0xfff + (rebased >> 13 & 1)) >> 13);
  }
  if (rest <= 0x33000000) return static_cast<uint16_t>(sign);  // <= 2^-25 rounds to zero
  const uint32_t shift = 126 - (rest >> 23);                   // 14 to 24
  const uint32_t mantissa = (rest & 0x7fffff) | 0x800000;
  const uint32_t kept = mantissa >> shift;
  const uint32_t dropped = mantissa & ((1u << shift) - 1);
  const uint32_t half = 1u << (shift - 1);
  const bool up = dropped > half || (dropped == half && (kept & 1) != 0);
  return static_cast<uint16_t>(sign | (kept + (up ? 1 : 0)));
}

}  // namespace quire

#endif  // QUIRE_KERNELS_HALF_H_
