// The bitwise promises of attention.h, on the CPU: what a query's output and LSE must not depend
// on.

#include <cstdint>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_kernels.h"

namespace quire::testing {
using Kernels = ::testing::Types<PlainKernel, InvariantKernel, BalancedKernel>;
using InvariantKernels = ::testing::Types<PlainKernel, InvariantKernel>;
}  // namespace quire::testing

#include "tests/support/attention_invariance_suite.h"
#include "tests/support/attention_queries_suite.h"

namespace quire::testing {
namespace {

// Rounding an output to 16 bits hides most differences in the last bits of its sum: this takes so
// many outputs that some would show.
TEST(BatchInvariantVectorisedTest, ChunkedPrefillEqualsWholePrefillInManyOutputs) {
  for (const DType dtype : kAllTypes) {
    SCOPED_TRACE(::testing::Message() << "dtype " << static_cast<int>(dtype));
    for (const int32_t window : {0, 75}) {
      ExpectChunksEqualWhole<InvariantKernel>(
          {.dtype = dtype, .kv_heads = 1, .group = 3, .head_dim = 128, .window = window}, 330,
          {1, 7, 64});
    }
  }
}

}  // namespace
}  // namespace quire::testing
