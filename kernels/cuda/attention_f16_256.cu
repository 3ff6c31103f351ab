#include "kernels/cuda/attention_launch.cuh"

namespace quire::cuda {

template struct TensorKernels<Half, 256>;

}  // namespace quire::cuda
