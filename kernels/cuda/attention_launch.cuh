// What the source files of the tensor-core instantiations share: the definition that each of them
// instantiates once.

#ifndef QUIRE_KERNELS_CUDA_ATTENTION_LAUNCH_CUH_
#define QUIRE_KERNELS_CUDA_ATTENTION_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile.h"

namespace quire::cuda {

template <class Element, int kDim>
cudaError_t TensorKernels<Element, kDim>::Launch(const AttentionArgs& args, int32_t workers,
                                                 cudaStream_t stream) {
  constexpr int kBytes = TileShape{kDim}.shared_bytes();
  // Both belong to the device and its context, so they are said at every launch. The second lets
  // two blocks have their shared memory on one multiprocessor.
  const cudaError_t error = cudaFuncSetAttribute(
      AttentionKernel<Element, kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  const cudaError_t preferred = cudaFuncSetAttribute(AttentionKernel<Element, kDim>,
                                                     cudaFuncAttributePreferredSharedMemoryCarveout,
                                                     cudaSharedmemCarveoutMaxShared);
  if (preferred != cudaSuccess) return preferred;
  void* parameters[] = {const_cast<AttentionArgs*>(&args)};
  const dim3 grid(static_cast<unsigned>(workers));
  const cudaError_t launched =
      cudaLaunchKernel(reinterpret_cast<const void*>(AttentionKernel<Element, kDim>), grid,
                       dim3(kBlockThreads), parameters, kBytes, stream);
  if (launched != cudaSuccess) return launched;
  return cudaLaunchKernel(reinterpret_cast<const void*>(MergePartialsKernel<Element, kDim>), grid,
                          dim3(kBlockThreads), parameters, 0, stream);
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ATTENTION_LAUNCH_CUH_
