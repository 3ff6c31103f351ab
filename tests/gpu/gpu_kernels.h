// The kernels on a real GPU, as types for the suites of tests/support. Processor and GPU reach all
// memory (gpu_main.cc), and every launch is waited for.

#ifndef QUIRE_TESTS_GPU_GPU_KERNELS_H_
#define QUIRE_TESTS_GPU_GPU_KERNELS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "cuda_runtime_api.h"
#include "quire/attention.h"
#include "tests/support/attention_kernels.h"
#include "tests/support/attention_memory.h"

namespace quire::testing {

// After an error of the GPU nothing can be compared: it stays with the context.
inline void ExpectCuda(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "the GPU failed: %s\n", cudaGetErrorString(error));
  std::abort();
}

// What a launcher answered, once its work is done.
inline LaunchError Finished(LaunchError launched) {
  if (launched == LaunchError::kLaunchFailed) ExpectCuda(cudaGetLastError());
  ExpectCuda(cudaDeviceSynchronize());
  return launched;
}

inline cuda::Gpu ThisGpu() {
  cuda::Gpu gpu = {};
  if (cuda::DescribeGpu(0, &gpu) != LaunchError::kOk) std::abort();  // gpu_main.cc has looked
  return gpu;
}

// The three moves of cuda::Attention. `plain`: with cuda::AttentionPlain.
inline LaunchError LaunchOnGpu(AttentionParams params, bool plain) {
  const cuda::Gpu gpu = ThisGpu();
  params.max_queries = std::max(params.max_queries, MostQueries(params));
  const std::vector<char> garbage(static_cast<size_t>(cuda::ScheduleBytes(gpu)), '\x7f');
  const GuardedArray<char> schedule((std::span<const char>(garbage)));
  const LaunchError built = cuda::BuildSchedule(params, gpu, schedule.data());
  if (built != LaunchError::kOk) return built;
  params.schedule = schedule.data();
  GuardedArray<char> workspace;
  if (params.workspace == nullptr) {
    const std::vector<char> poison(static_cast<size_t>(cuda::WorkspaceBytes(params, gpu)), '\xff');
    workspace = GuardedArray<char>(std::span<const char>(poison));
    params.workspace = workspace.data();
    params.workspace_bytes = static_cast<int64_t>(poison.size());
  }
  return Finished(plain ? cuda::AttentionPlain(params, nullptr) : cuda::Attention(params, nullptr));
}

template <int kDim, ScheduleMode kScheduleMode>
struct GpuTensorKernel : TensorCoreKernel<kDim> {
  static constexpr ScheduleMode kMode = kScheduleMode;
  static constexpr bool kSlow = false;
  static constexpr int kRepeats = 200;  // races show by chance
  static int64_t WorkspaceBytes(const AttentionParams& params) {
    return TensorCoreKernel<kDim>::WorkspaceOn(ThisGpu(), params);
  }
  static LaunchError Launch(const AttentionParams& params) { return LaunchOnGpu(params, false); }
};

struct GpuPlainKernel : PlainCudaKernel {
  static constexpr bool kSlow = false;
  static constexpr int kRepeats = 200;  // races show by chance
  static LaunchError Launch(const AttentionParams& params) { return LaunchOnGpu(params, true); }
};

struct GpuBackend {
  static LaunchError AppendKv(const AppendKvParams& params) {
    return Finished(cuda::AppendKv(params, nullptr));
  }
  static LaunchError CopyPages(const CopyPagesParams& params) {
    return Finished(cuda::CopyPages(params, nullptr));
  }
  static LaunchError Merge(const MergeParams& params) {
    return Finished(cuda::Merge(params, nullptr));
  }
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_GPU_GPU_KERNELS_H_
