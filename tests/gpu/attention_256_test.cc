// The tensor-core attention kernels of head_dim 256 on a GPU: against float64, and bitwise.

#include "gtest/gtest.h"
#include "tests/gpu/gpu_kernels.h"
#include "tests/support/attention_kernels.h"

namespace quire::testing {
using Kernels = ::testing::Types<GpuTensorKernel<256, ScheduleMode::kBatchInvariant>,
                                 GpuTensorKernel<256, ScheduleMode::kBalanced>>;
using InvariantKernels = ::testing::Types<GpuTensorKernel<256, ScheduleMode::kBatchInvariant>>;
}  // namespace quire::testing

#include "tests/support/attention_invariance_suite.h"
#include "tests/support/attention_suite.h"
