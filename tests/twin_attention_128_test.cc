// The tensor-core attention kernels of head_dim 128 on the host twin: against float64, and bitwise.

#include "gtest/gtest.h"
#include "tests/support/attention_kernels.h"
#include "tests/support/attention_twin.h"

namespace quire::testing {
using Kernels = ::testing::Types<TwinTensorKernel<128, ScheduleMode::kBatchInvariant>,
                                 TwinTensorKernel<128, ScheduleMode::kBalanced>>;
using InvariantKernels = ::testing::Types<TwinTensorKernel<128, ScheduleMode::kBatchInvariant>>;
}  // namespace quire::testing

#include "tests/support/attention_invariance_suite.h"
#include "tests/support/attention_suite.h"
