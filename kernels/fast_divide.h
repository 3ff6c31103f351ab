// Division by a number that is known before a kernel starts and unknown when it is compiled: a
// multiplication and a shift, where a GPU's own division takes some twenty instructions.
//
// Source: Granlund and Montgomery, "Division by Invariant Integers using Multiplication", 1994,
// with the operands limited to 31 bits, so that the multiplier fits in 32.

#ifndef QUIRE_KERNELS_FAST_DIVIDE_H_
#define QUIRE_KERNELS_FAST_DIVIDE_H_

#include <bit>
#include <cstdint>

namespace quire {

class FastDivider {
 public:
  FastDivider() = default;
  // REQUIRES divisor >= 1.
  explicit constexpr FastDivider(int32_t divisor)
      : divisor_(divisor),
        shift_(divisor == 1 ? 0 : std::bit_width(static_cast<uint32_t>(divisor - 1)) - 1),
        multiplier_(divisor == 1 ? 0
                                 : static_cast<uint32_t>(((uint64_t{1} << (32 + shift_)) +
                                                          static_cast<uint32_t>(divisor) - 1) /
                                                         static_cast<uint32_t>(divisor))) {}

  // value / divisor. REQUIRES value >= 0. constexpr, so that device code may call it.
  constexpr int32_t Divide(int32_t value) const {
    if (divisor_ == 1) return value;
    const uint64_t product = uint64_t{static_cast<uint32_t>(value)} * multiplier_;
    return static_cast<int32_t>(static_cast<uint32_t>(product >> 32) >> shift_);
  }
  constexpr int32_t divisor() const { return divisor_; }

 private:
  int32_t divisor_;
  int32_t shift_;
  uint32_t multiplier_;
};

}  // namespace quire

#endif  // QUIRE_KERNELS_FAST_DIVIDE_H_
