// The CPU kernels as types, so that one suite runs on each.

#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_KERNELS_H_
#define QUIRE_TESTS_SUPPORT_ATTENTION_KERNELS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_memory.h"
#include "tests/support/attention_threads.h"

namespace quire::testing {

struct PlainKernel {
  static constexpr ScheduleMode kMode = ScheduleMode::kBatchInvariant;
  static LaunchError Launch(const AttentionParams& params) { return cpu::AttentionPlain(params); }
};

struct InvariantKernel {
  static constexpr ScheduleMode kMode = ScheduleMode::kBatchInvariant;
  static LaunchError Launch(const AttentionParams& params) { return cpu::Attention(params); }
};

struct BalancedKernel {
  static constexpr ScheduleMode kMode = ScheduleMode::kBalanced;
  static LaunchError Launch(const AttentionParams& params) { return cpu::Attention(params); }
};

inline constexpr DType kAllTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

// Runs a case on `workers` threads, over a workspace of exactly WorkspaceBytes that begins as NaN
// and ends at a guard page. Output and LSE are poisoned before.
template <typename Kernel>
void Attend(AttentionCase& c, int32_t workers = 3) {
  TestThreads threads(workers);
  AttentionParams params = c.params();
  params.mode = Kernel::kMode;
  params.threads = threads.get();
  const std::vector<char> poison(static_cast<size_t>(cpu::WorkspaceBytes(params)), '\xff');
  const GuardedArray<char> workspace((std::span<const char>(poison)));
  params.workspace = workspace.data();
  params.workspace_bytes = static_cast<int64_t>(poison.size());
  c.PoisonOutput();
  ASSERT_EQ(Kernel::Launch(params), LaunchError::kOk);
}

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_KERNELS_H_
