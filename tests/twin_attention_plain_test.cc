// The plain attention kernel of a GPU on the host twin: against float64, and bitwise.

#include "gtest/gtest.h"
#include "tests/support/attention_kernels.h"
#include "tests/support/attention_twin.h"

namespace quire::testing {
using Kernels = ::testing::Types<TwinPlainKernel>;
using InvariantKernels = Kernels;
}  // namespace quire::testing

#include "tests/support/attention_invariance_suite.h"
#include "tests/support/attention_queries_suite.h"
#include "tests/support/attention_suite.h"
