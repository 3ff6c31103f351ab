#include "kernels/cuda/attention_launch.cuh"

namespace quire::cuda {

template struct TensorKernels<BFloat16, 64>;

}  // namespace quire::cuda
