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

// The most query tokens that a row has.
inline int32_t MostQueries(const AttentionParams& params) {
  int32_t most = 0;
  const int32_t batch = params.query_begin == nullptr ? 0 : params.table.batch;
  for (int32_t row = 0; row < batch; ++row) {
    most = std::max(most, params.query_begin[row + 1] - params.query_begin[row]);
  }
  return most;
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

// The tensor-core kernels of one head_dim.
template <int kDim, ScheduleMode kScheduleMode>
struct GpuTensorKernel {
  static constexpr ScheduleMode kMode = kScheduleMode;
  static constexpr DType kTypes[] = {DType::kBFloat16, DType::kFloat16};
  static constexpr bool kSlow = false;
  static std::vector<int32_t> HeadDims() { return {kDim}; }
  static int32_t Fit(int32_t /*head_dim*/) { return kDim; }
  static int64_t WorkspaceBytes(AttentionParams params) {
    params.max_queries = int32_t{1} << 20;  // Attend has not looked: the largest there is
    return cuda::WorkspaceBytes(params, ThisGpu());
  }
  static LaunchError Launch(const AttentionParams& params) { return LaunchOnGpu(params, false); }
};

struct GpuPlainKernel {
  static constexpr ScheduleMode kMode = ScheduleMode::kBatchInvariant;
  static constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
  static constexpr bool kSlow = false;
  static std::vector<int32_t> HeadDims() { return {8, 24, 64, 80, 128, 200, 256}; }
  static int32_t Fit(int32_t head_dim) { return head_dim; }
  static int64_t WorkspaceBytes(const AttentionParams& /*params*/) { return 0; }
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
