// The CUDA kernels of append, copy and merge on the host twin, launched as their .cu files do.
// Each seed orders the threads of a block in another way (twin.h).

#ifndef QUIRE_TESTS_SUPPORT_TWIN_BACKEND_H_
#define QUIRE_TESTS_SUPPORT_TWIN_BACKEND_H_

#include <algorithm>
#include <cstdint>

#include "gtest/gtest.h"
#include "kernels/cuda/append_kv.cuh"
#include "kernels/cuda/copy_pages.cuh"
#include "kernels/cuda/merge.cuh"
#include "kernels/cuda/prepare_simple.h"
#include "quire/attention.h"
#include "tests/support/twin/twin.h"

namespace quire::testing {

template <uint64_t kSeed>
struct TwinBackend {
  static LaunchError AppendKv(const AppendKvParams& params) {
    cuda::AppendKvArgs args;
    int32_t blocks;
    const LaunchError error = cuda::PrepareAppendKv(params, &args, &blocks);
    if (error == LaunchError::kOk && blocks != 0) Launch(cuda::AppendKvKernel, blocks, args);
    return error;
  }

  static LaunchError CopyPages(const CopyPagesParams& params) {
    cuda::CopyPagesArgs args;
    int32_t first = 0;
    do {
      int32_t blocks;
      const LaunchError error = cuda::PrepareCopyPages(params, first, &args, &blocks);
      if (error != LaunchError::kOk || blocks == 0) return error;
      Launch(cuda::CopyPagesKernel, blocks, args);
      first += args.count;
    } while (first < params.count);
    return LaunchError::kOk;
  }

  static LaunchError Merge(const MergeParams& params) {
    cuda::MergeArgs args;
    int32_t blocks;
    const LaunchError error = cuda::PrepareMerge(params, &args, &blocks);
    if (error != LaunchError::kOk || blocks == 0) return error;
    switch (params.dtype) {
      case DType::kFloat32:
        Launch(cuda::MergeKernel<float>, blocks, args);
        break;
      case DType::kFloat16:
        Launch(cuda::MergeKernel<Half>, blocks, args);
        break;
      case DType::kBFloat16:
        Launch(cuda::MergeKernel<BFloat16>, blocks, args);
        break;
    }
    return LaunchError::kOk;
  }

 private:
  // The kernels do their work in any grid; few blocks take many units each, and each thread of the
  // twin copies the arguments, which are 4 KB for CopyPages.
  template <class Args>
  static void Launch(void (*kernel)(Args), int32_t blocks, const Args& args) {
    ASSERT_LE(blocks, cuda::kMaxBlocks);
    twin::Launch({.blocks = std::min(blocks, 64), .threads = cuda::kBlockThreads}, kSeed,
                 [&] { kernel(args); });
  }
};

using TwinBackends = ::testing::Types<TwinBackend<0>, TwinBackend<1>, TwinBackend<2>>;

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_TWIN_BACKEND_H_
