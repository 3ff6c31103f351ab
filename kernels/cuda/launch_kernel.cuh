// Starts a kernel and tells whether the runtime took it.

#ifndef QUIRE_KERNELS_CUDA_LAUNCH_KERNEL_CUH_
#define QUIRE_KERNELS_CUDA_LAUNCH_KERNEL_CUH_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/args.h"
#include "quire/attention.h"

namespace quire::cuda {

// By the call's own answer, so that an older error of the caller's is neither taken for ours nor
// eaten; after a failure cudaGetLastError has ours.
template <class Args>
LaunchError LaunchKernel(void (*kernel)(Args), int32_t blocks, const Args& args, void* stream,
                         size_t shared_bytes = 0) {
  void* arguments[] = {const_cast<Args*>(&args)};
  const cudaError_t error = cudaLaunchKernel(
      reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)),
      dim3(kBlockThreads), arguments, shared_bytes, static_cast<cudaStream_t>(stream));
  return error == cudaSuccess ? LaunchError::kOk : LaunchError::kLaunchFailed;
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_LAUNCH_KERNEL_CUH_
