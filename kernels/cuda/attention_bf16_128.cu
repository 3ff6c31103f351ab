#include "kernels/cuda/attention_launch.cuh"

namespace quire::cuda {

template struct TensorKernels<BFloat16, 128>;

}  // namespace quire::cuda
