#include "kernels/cuda/launch_kernel.cuh"
#include "kernels/cuda/merge.cuh"
#include "kernels/cuda/prepare_simple.h"

namespace quire::cuda {

LaunchError Merge(const MergeParams& params, void* stream) {
  MergeArgs args;
  int32_t blocks;
  const LaunchError error = PrepareMerge(params, &args, &blocks);
  if (error != LaunchError::kOk || blocks == 0) return error;
  switch (params.dtype) {
    case DType::kFloat32:
      return LaunchKernel(MergeKernel<float>, blocks, args, stream);
    case DType::kFloat16:
      return LaunchKernel(MergeKernel<Half>, blocks, args, stream);
    case DType::kBFloat16:
      break;
  }
  return LaunchKernel(MergeKernel<BFloat16>, blocks, args, stream);
}

}  // namespace quire::cuda
