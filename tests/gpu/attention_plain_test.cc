// The plain attention kernel on a GPU: against float64, and bitwise.

#include "gtest/gtest.h"
#include "tests/gpu/gpu_kernels.h"
#include "tests/support/attention_kernels.h"

namespace quire::testing {
using Kernels = ::testing::Types<GpuPlainKernel>;
using InvariantKernels = ::testing::Types<GpuPlainKernel>;
}  // namespace quire::testing

#include "tests/support/attention_invariance_suite.h"
#include "tests/support/attention_queries_suite.h"
#include "tests/support/attention_suite.h"
