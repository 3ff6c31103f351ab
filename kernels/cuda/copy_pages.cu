#include "kernels/cuda/copy_pages.cuh"
#include "kernels/cuda/launch_kernel.cuh"
#include "kernels/cuda/prepare_simple.h"

namespace quire::cuda {

LaunchError CopyPages(const CopyPagesParams& params, void* stream) {
  CopyPagesArgs args;
  int32_t first = 0;
  do {
    int32_t blocks;
    LaunchError error = PrepareCopyPages(params, first, &args, &blocks);
    if (error != LaunchError::kOk || blocks == 0) return error;
    error = LaunchKernel(CopyPagesKernel, blocks, args, stream);
    if (error != LaunchError::kOk) return error;
    first += args.count;
  } while (first < params.count);
  return LaunchError::kOk;
}

}  // namespace quire::cuda
