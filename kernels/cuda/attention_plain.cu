#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/launch_kernel.cuh"

namespace quire::cuda {

template <class Element>
LaunchError PlainKernels<Element>::Launch(const AttentionArgs& args, int32_t workers,
                                          void* stream) {
  return LaunchKernel(AttentionPlainKernel<Element>, workers, args, stream, kPlainSharedBytes);
}

template struct PlainKernels<float>;
template struct PlainKernels<Half>;
template struct PlainKernels<BFloat16>;

}  // namespace quire::cuda
