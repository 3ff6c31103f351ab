// Kernels as types, so that one suite runs on each. Here those of the CPU; the host twin's are in
// attention_twin.h, a GPU's in tests/gpu/.

#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_KERNELS_H_
#define QUIRE_TESTS_SUPPORT_ATTENTION_KERNELS_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_memory.h"
#include "tests/support/attention_threads.h"

namespace quire::testing {

// What a suite asks of a kernel: how to launch it (over poisoned workspace, see Attend), and the
// element types and head dims to try it with. Shapes that a suite has made for one head_dim are
// fitted to the nearest one that the kernel has.
struct CpuKernel {
  static constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
  static std::vector<int32_t> HeadDims() {
    std::vector<int32_t> dims;
    for (int32_t dim = 8; dim <= 256; dim += 8) dims.push_back(dim);
    return dims;
  }
  static int32_t Fit(int32_t head_dim) { return head_dim; }
  static constexpr bool kSlow = false;  // true: a suite tries less of the same
  static constexpr int kRepeats = 5;    // of a call that must give the same bits each time
  static int64_t WorkspaceBytes(const AttentionParams& params) {
    return cpu::WorkspaceBytes(params);
  }
};

struct PlainKernel : CpuKernel {
  static constexpr ScheduleMode kMode = ScheduleMode::kBatchInvariant;
  static LaunchError Launch(const AttentionParams& params) { return cpu::AttentionPlain(params); }
};

struct InvariantKernel : CpuKernel {
  static constexpr ScheduleMode kMode = ScheduleMode::kBatchInvariant;
  static LaunchError Launch(const AttentionParams& params) { return cpu::Attention(params); }
};

struct BalancedKernel : CpuKernel {
  static constexpr ScheduleMode kMode = ScheduleMode::kBalanced;
  static LaunchError Launch(const AttentionParams& params) { return cpu::Attention(params); }
};

// What the twin's and a GPU's kernels have in common: the tensor-core kernels of one head_dim, and
// the plain one.
template <int kDim>
struct TensorCoreKernel {
  static constexpr DType kTypes[] = {DType::kBFloat16, DType::kFloat16};
  static std::vector<int32_t> HeadDims() { return {kDim}; }
  static int32_t Fit(int32_t /*head_dim*/) { return kDim; }
  // For Attend, which has not looked for the longest row: as large as it can be.
  static int64_t WorkspaceOn(const cuda::Gpu& gpu, AttentionParams params) {
    params.max_queries = int32_t{1} << 20;
    return cuda::WorkspaceBytes(params, gpu);
  }
};

struct PlainCudaKernel {
  static constexpr ScheduleMode kMode = ScheduleMode::kBatchInvariant;
  static constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
  static std::vector<int32_t> HeadDims() { return {8, 24, 64, 80, 128, 200, 256}; }
  static int32_t Fit(int32_t head_dim) { return head_dim; }
  static int64_t WorkspaceBytes(const AttentionParams& /*params*/) { return 0; }
};

// The most query tokens that a row has.
inline int32_t MostQueries(const AttentionParams& params) {
  int32_t most = 0;
  const int32_t batch = params.query_begin == nullptr ? 0 : params.table.batch;
  for (int32_t row = 0; row < batch; ++row) {
    most = std::max(most, params.query_begin[row + 1] - params.query_begin[row]);
  }
  return most;
}

// The shape with a head_dim and element type that the kernel has.
template <typename Kernel>
CaseShape Fitted(CaseShape shape) {
  shape.head_dim = Kernel::Fit(shape.head_dim);
  if (std::find(std::begin(Kernel::kTypes), std::end(Kernel::kTypes), shape.dtype) ==
      std::end(Kernel::kTypes)) {
    shape.dtype = Kernel::kTypes[0];
  }
  return shape;
}

inline constexpr DType kAllTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

// Runs a case on `workers` threads, over a workspace of exactly WorkspaceBytes that begins as NaN
// and ends at a guard page. Output and LSE are poisoned before.
template <typename Kernel>
void Attend(AttentionCase& c, int32_t workers = 3) {
  TestThreads threads(workers);
  AttentionParams params = c.params();
  params.mode = Kernel::kMode;
  params.threads = threads.get();
  const std::vector<char> poison(static_cast<size_t>(Kernel::WorkspaceBytes(params)), '\xff');
  const GuardedArray<char> workspace((std::span<const char>(poison)));
  params.workspace = workspace.data();
  params.workspace_bytes = static_cast<int64_t>(poison.size());
  c.PoisonOutput();
  ASSERT_EQ(Kernel::Launch(params), LaunchError::kOk);
}

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_KERNELS_H_
