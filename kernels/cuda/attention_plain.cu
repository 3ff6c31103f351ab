#include <cuda_runtime.h>

#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/attention_plain.cuh"

namespace quire::cuda {

template <class Element>
cudaError_t PlainKernels<Element>::Launch(const AttentionArgs& args, int32_t workers,
                                          cudaStream_t stream) {
  void* parameters[] = {const_cast<AttentionArgs*>(&args)};
  return cudaLaunchKernel(reinterpret_cast<const void*>(AttentionPlainKernel<Element>),
                          dim3(static_cast<unsigned>(workers)), dim3(kBlockThreads), parameters,
                          kPlainSharedBytes, stream);
}

template struct PlainKernels<float>;
template struct PlainKernels<Half>;
template struct PlainKernels<BFloat16>;

}  // namespace quire::cuda
