// Every attention kernel of the CPU against float64. Bitwise promises are in
// attention_invariance_test.cc, bad arguments in attention_arguments_test.cc.

#include "quire/attention.h"

#include <cstdint>

#include "gtest/gtest.h"
#include "kernels/cpu/attention_job.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_kernels.h"
#include "tests/support/attention_reference.h"

namespace quire::testing {
using Kernels = ::testing::Types<PlainKernel, InvariantKernel, BalancedKernel>;
}  // namespace quire::testing

#include "tests/support/attention_suite.h"

namespace quire::testing {
namespace {

TEST(AttentionCpuTest, NoQueriesNeedNoPointers) {
  AttentionCase c({.rows = {{0, 0}, {50, 0}}});
  AttentionParams params = c.params();
  params.query = nullptr;
  params.output = nullptr;
  EXPECT_EQ(cpu::Attention(params), LaunchError::kOk);
  EXPECT_EQ(cpu::AttentionPlain(params), LaunchError::kOk);
}

// All code paths of the build, not only the one this processor likes best.
TEST(AttentionInstructionSetsTest, AllAreCloseToFloat64) {
  for (const cpu::InstructionSet& set : cpu::InstructionSets()) {
    SCOPED_TRACE(set.name);
    cpu::UseInstructionSet(set.id);
    for (const DType dtype : kAllTypes) {
      for (const int32_t head_dim : {8, 48, 64}) {
        SCOPED_TRACE(::testing::Message()
                     << "dtype " << static_cast<int>(dtype) << " head_dim " << head_dim);
        AttentionCase c({.rows = {{1}, {70, 7}, {600}, {90, 90}},
                         .dtype = dtype,
                         .group = 5,
                         .head_dim = head_dim,
                         .window = 77,
                         .soft_cap = 9,
                         .sinks = true});
        Attend<InvariantKernel>(c);
        ExpectCloseToFloat64(c);
      }
    }
  }
  cpu::UseInstructionSet(0);
}

}  // namespace
}  // namespace quire::testing
