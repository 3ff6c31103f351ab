// Elements in memory and their fp32 values, eight at a time.

#ifndef QUIRE_KERNELS_CUDA_ELEMENT_CUH_
#define QUIRE_KERNELS_CUDA_ELEMENT_CUH_

#include <bit>
#include <cstdint>

#include "kernels/cuda/ptx.cuh"
#include "kernels/half.h"

namespace quire::cuda {

QUIRE_DEVICE float ToFloat(float element) { return element; }
QUIRE_DEVICE float ToFloat(Half element) { return FromFloat16(element.bits); }
QUIRE_DEVICE float ToFloat(BFloat16 element) { return FromBFloat16(element.bits); }

QUIRE_DEVICE void Store(float* at, float value) { *at = value; }
template <class Element>
QUIRE_DEVICE void Store(Element* at, float value) {
  at->bits = static_cast<uint16_t>(ptx::Pack(value, 0, Element()));
}

// 16-byte aligned. The source may be written by this kernel, so these are plain loads.
QUIRE_DEVICE void Load8(const float* at, float (&values)[8]) {
  const auto* vectors = reinterpret_cast<const ptx::Vector16*>(at);
  const ptx::Vector16 low = vectors[0];
  const ptx::Vector16 high = vectors[1];
  QUIRE_UNROLL
  for (int i = 0; i < 4; ++i) {
    values[i] = std::bit_cast<float>(low.words[i]);
    values[4 + i] = std::bit_cast<float>(high.words[i]);
  }
}
template <class Element>
QUIRE_DEVICE void Load8(const Element* at, float (&values)[8]) {
  const ptx::Vector16 vector = *reinterpret_cast<const ptx::Vector16*>(at);
  QUIRE_UNROLL
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = ToFloat(Element{static_cast<uint16_t>(vector.words[i] & 0xffff)});
    values[2 * i + 1] = ToFloat(Element{static_cast<uint16_t>(vector.words[i] >> 16)});
  }
}

QUIRE_DEVICE void Store8(float* at, const float (&values)[8]) {
  ptx::Vector16 low;
  ptx::Vector16 high;
  QUIRE_UNROLL
  for (int i = 0; i < 4; ++i) {
    low.words[i] = std::bit_cast<uint32_t>(values[i]);
    high.words[i] = std::bit_cast<uint32_t>(values[4 + i]);
  }
  auto* vectors = reinterpret_cast<ptx::Vector16*>(at);
  vectors[0] = low;
  vectors[1] = high;
}
template <class Element>
QUIRE_DEVICE void Store8(Element* at, const float (&values)[8]) {
  ptx::Vector16 vector;
  QUIRE_UNROLL
  for (int i = 0; i < 4; ++i) {
    vector.words[i] = ptx::Pack(values[2 * i], values[2 * i + 1], Element());
  }
  *reinterpret_cast<ptx::Vector16*>(at) = vector;
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ELEMENT_CUH_
