// What every attention kernel says of a softmax. Scores are kept in units of log2, which is what
// the hardware's exponential wants.

#ifndef QUIRE_KERNELS_CUDA_SOFTMAX_CUH_
#define QUIRE_KERNELS_CUDA_SOFTMAX_CUH_

#include <limits>

#include "kernels/cuda/ptx.cuh"

namespace quire::cuda {

inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// What scores are taken from: the maximum, or 0 where all of them are -infinity and weigh nothing.
QUIRE_DEVICE float ReferenceOf(float max) { return max == kMinusInfinity ? 0 : max; }

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_SOFTMAX_CUH_
