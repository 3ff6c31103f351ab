#include "kernels/cuda/append_kv.cuh"
#include "kernels/cuda/launch_kernel.cuh"
#include "kernels/cuda/prepare_simple.h"

namespace quire::cuda {

LaunchError AppendKv(const AppendKvParams& params, void* stream) {
  AppendKvArgs args;
  int32_t blocks;
  const LaunchError error = PrepareAppendKv(params, &args, &blocks);
  if (error != LaunchError::kOk || blocks == 0) return error;
  return LaunchKernel(AppendKvKernel, blocks, args, stream);
}

}  // namespace quire::cuda
