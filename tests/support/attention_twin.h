// The CUDA kernels on the host twin, as types for the attention suites. Only for twin_*_test.cc,
// whose include path finds the twin's kernels/cuda/ptx.cuh.

#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_TWIN_H_
#define QUIRE_TESTS_SUPPORT_ATTENTION_TWIN_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "kernels/cuda/args.h"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/prepare.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile.h"
#include "quire/attention.h"
#include "tests/support/attention_kernels.h"
#include "tests/support/attention_memory.h"
#include "tests/support/twin/twin.h"

namespace quire::testing {

// The order of the twin's threads: another one for each launch of a program, so that a suite as a
// whole tries many. QUIRE_TWIN_SEED fixes it, to play a failure again.
inline uint64_t NextTwinSeed() {
  static const char* const fixed = std::getenv("QUIRE_TWIN_SEED");
  static uint64_t seed = 0;
  return fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : seed++;
}

// A GPU of few multiprocessors, so that small shapes are cut as large ones are on a real one.
inline cuda::Gpu TwinGpu(int32_t multiprocessors) {
  return {.multiprocessors = multiprocessors,
          .shared_bytes = 227 * 1024,
          .shared_bytes_multiprocessor = 228 * 1024};
}

// A schedule in memory of exactly its size, before a guard page.
class TwinSchedule {
 public:
  explicit TwinSchedule(const cuda::Gpu& gpu)
      : memory_(std::vector<char>(static_cast<size_t>(cuda::ScheduleBytes(gpu)), '\x7f')) {}
  char* data() const { return memory_.data(); }

 private:
  GuardedArray<char> memory_;
};

template <class Element, int kDim>
void RunTensorKernels(const cuda::AttentionArgs& args, int32_t workers, uint64_t seed) {
  constexpr auto kShared = static_cast<size_t>(cuda::TileShape{kDim}.shared_bytes());
  const twin::LaunchShape work = {workers, cuda::kBlockThreads, kShared};
  twin::Launch(work, seed, &cuda::AttentionKernel<Element, kDim>, args);
  const twin::LaunchShape merge = {workers, cuda::kBlockThreads};
  twin::Launch(merge, seed, &cuda::MergePartialsKernel<Element, kDim>, args);
}

template <class Element>
void RunPlainKernel(const cuda::AttentionArgs& args, int32_t workers, uint64_t seed) {
  const twin::LaunchShape shape = {workers, cuda::kBlockThreads, cuda::kPlainSharedBytes};
  twin::Launch(shape, seed, &cuda::AttentionPlainKernel<Element>, args);
}

// The kernel that cuda::Attention would launch; of the tensor-core kernels those of kDim.
template <int kDim>
void RunKernels(const AttentionParams& params, cuda::AttentionKind kind,
                const cuda::AttentionArgs& args, int32_t workers) {
  const uint64_t seed = NextTwinSeed();
  const bool half = params.dtype == DType::kFloat16;
  if (params.dtype == DType::kFloat32) {
    RunPlainKernel<float>(args, workers, seed);
  } else if (kind == cuda::AttentionKind::kPlain) {
    half ? RunPlainKernel<Half>(args, workers, seed)
         : RunPlainKernel<BFloat16>(args, workers, seed);
  } else if constexpr (kDim != 0) {
    half ? RunTensorKernels<Half, kDim>(args, workers, seed)
         : RunTensorKernels<BFloat16, kDim>(args, workers, seed);
  }
}

// What cuda::BuildSchedule and cuda::Attention (kDim 0: AttentionPlain) do on a GPU.
template <int kDim>
LaunchError LaunchOnTwin(AttentionParams params, const cuda::Gpu& gpu) {
  params.max_queries = std::max(params.max_queries, MostQueries(params));
  const TwinSchedule schedule(gpu);
  const LaunchError built = cuda::BuildSchedule(params, gpu, schedule.data());
  if (built != LaunchError::kOk) return built;
  params.schedule = schedule.data();
  const std::vector<char> poison(static_cast<size_t>(cuda::WorkspaceBytes(params, gpu)), '\xff');
  const GuardedArray<char> workspace((std::span<const char>(poison)));
  if (params.workspace == nullptr) {
    params.workspace = workspace.data();
    params.workspace_bytes = static_cast<int64_t>(poison.size());
  }
  const cuda::AttentionKind kind =
      kDim == 0 ? cuda::AttentionKind::kPlain : cuda::KindOf(params, gpu);
  cuda::AttentionArgs args;
  const LaunchError prepared = cuda::PrepareAttention(params, gpu, kind, &args);
  if (prepared != LaunchError::kOk || params.table.batch == 0) return prepared;
  RunKernels<kDim>(params, kind, args, cuda::WorkersOf(params, gpu));
  return LaunchError::kOk;
}

inline int32_t MultiprocessorsFor(const AttentionParams& params) {
  return params.threads == nullptr ? 3 : params.threads->workers;
}

template <int kDim, ScheduleMode kScheduleMode>
struct TwinTensorKernel : TensorCoreKernel<kDim> {
  static constexpr ScheduleMode kMode = kScheduleMode;
  static constexpr bool kSlow = true;
  static constexpr int kRepeats = 2;
  static int64_t WorkspaceBytes(const AttentionParams& params) {
    return TensorCoreKernel<kDim>::WorkspaceOn(TwinGpu(MultiprocessorsFor(params)), params);
  }
  static LaunchError Launch(const AttentionParams& params) {
    return LaunchOnTwin<kDim>(params, TwinGpu(MultiprocessorsFor(params)));
  }
};

struct TwinPlainKernel : PlainCudaKernel {
  static constexpr bool kSlow = true;
  static constexpr int kRepeats = 2;
  static LaunchError Launch(const AttentionParams& params) {
    return LaunchOnTwin<0>(params, TwinGpu(MultiprocessorsFor(params)));
  }
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_TWIN_H_
