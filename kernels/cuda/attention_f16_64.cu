#include "kernels/cuda/attention_launch.cuh"

namespace quire::cuda {

template struct TensorKernels<Half, 64>;

}  // namespace quire::cuda
