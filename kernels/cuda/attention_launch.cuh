// What the source files of the tensor-core instantiations share: the definition that each of them
// instantiates once.

#ifndef QUIRE_KERNELS_CUDA_ATTENTION_LAUNCH_CUH_
#define QUIRE_KERNELS_CUDA_ATTENTION_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/launch_kernel.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile.h"

namespace quire::cuda {

template <class Element, int kDim>
LaunchError TensorKernels<Element, kDim>::Launch(const AttentionArgs& args, int32_t workers,
                                                 void* stream) {
  constexpr int kBytes = TileShape{kDim}.shared_bytes();
  // Both belong to the device and its context, so they are said at every launch. The second lets
  // two blocks have their shared memory on one multiprocessor.
  const auto set = [](cudaFuncAttribute attribute, int value) {
    return cudaFuncSetAttribute(AttentionKernel<Element, kDim>, attribute, value) == cudaSuccess;
  };
  if (!set(cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes) ||
      !set(cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared)) {
    return LaunchError::kLaunchFailed;
  }
  const LaunchError e = LaunchKernel(AttentionKernel<Element, kDim>, workers, args, stream, kBytes);
  if (e != LaunchError::kOk) return e;
  return LaunchKernel(MergePartialsKernel<Element, kDim>, workers, args, stream);
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ATTENTION_LAUNCH_CUH_
