#include "kernels/cuda/attention_launch.cuh"

namespace quire::cuda {

template struct TensorKernels<BFloat16, 256>;

}  // namespace quire::cuda
