// cuda::Attention and what it needs to know of the GPU. The pure part is prepare.cc.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/prepare.h"
#include "kernels/cuda/ptx.cuh"  // Half, BFloat16
#include "quire/attention.h"

namespace quire::cuda {

namespace {

template <class Element>
LaunchError LaunchTensor(const AttentionArgs& args, int32_t workers, void* stream) {
  switch (args.head_dim) {
    case 64:
      return TensorKernels<Element, 64>::Launch(args, workers, stream);
    case 128:
      return TensorKernels<Element, 128>::Launch(args, workers, stream);
    default:
      return TensorKernels<Element, 256>::Launch(args, workers, stream);
  }
}

LaunchError Launch(const AttentionParams& params, AttentionKind kind, const AttentionArgs& args,
                   int32_t workers, void* stream) {
  const bool tensor = kind == AttentionKind::kTensor;
  switch (params.dtype) {
    case DType::kFloat32:
      return PlainKernels<float>::Launch(args, workers, stream);
    case DType::kFloat16:
      return tensor ? LaunchTensor<Half>(args, workers, stream)
                    : PlainKernels<Half>::Launch(args, workers, stream);
    default:
      return tensor ? LaunchTensor<BFloat16>(args, workers, stream)
                    : PlainKernels<BFloat16>::Launch(args, workers, stream);
  }
}

// REQUIRES that there is a GPU of that number.
LaunchError ReadGpu(int32_t ordinal, Gpu* gpu) {
  const auto read = [&](cudaDeviceAttr attribute, int32_t* value) {
    return cudaDeviceGetAttribute(value, attribute, ordinal) == cudaSuccess;
  };
  const bool good =
      read(cudaDevAttrMultiProcessorCount, &gpu->multiprocessors) &&
      read(cudaDevAttrMaxSharedMemoryPerBlockOptin, &gpu->shared_bytes) &&
      read(cudaDevAttrMaxSharedMemoryPerMultiprocessor, &gpu->shared_bytes_multiprocessor);
  return good ? LaunchError::kOk : LaunchError::kNoGpu;
}

LaunchError PrepareAndLaunch(const AttentionParams& params, bool plain, void* stream) {
  int ordinal = 0;
  if (cudaGetDevice(&ordinal) != cudaSuccess) return LaunchError::kNoGpu;
  Gpu gpu;
  if (const LaunchError e = ReadGpu(ordinal, &gpu); e != LaunchError::kOk) return e;
  AttentionArgs args;
  const AttentionKind kind = plain ? AttentionKind::kPlain : KindOf(params, gpu);
  const LaunchError e = PrepareAttention(params, gpu, kind, &args);
  if (e != LaunchError::kOk || params.table.batch == 0) return e;
  const int32_t workers = plain ? MaxWorkers(gpu) : WorkersOf(params, gpu);
  return Launch(params, kind, args, workers, stream);
}

}  // namespace

LaunchError DescribeGpu(int32_t ordinal, Gpu* gpu) {
  if (gpu == nullptr) return LaunchError::kBadArgument;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || ordinal < 0 || ordinal >= count) {
    return LaunchError::kNoGpu;
  }
  return ReadGpu(ordinal, gpu);
}

LaunchError Attention(const AttentionParams& params, void* stream) {
  return PrepareAndLaunch(params, false, stream);
}

LaunchError AttentionPlain(const AttentionParams& params, void* stream) {
  return PrepareAndLaunch(params, true, stream);
}

}  // namespace quire::cuda
