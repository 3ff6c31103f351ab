#include "kernels/cuda/attention_launch.cuh"

namespace quire::cuda {

template struct TensorKernels<Half, 128>;

}  // namespace quire::cuda
