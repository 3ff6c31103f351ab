// Bad arguments to attention: the right answer, and nothing written.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_kernels.h"

namespace quire::testing {
namespace {

template <typename Kernel>
class AttentionArgumentsTest : public ::testing::Test {
 protected:
  // Spoils one thing in good params and expects this answer and untouched memory.
  void Expect(LaunchError want, const std::function<void(AttentionParams&)>& spoil) {
    AttentionCase c({.rows = {{40}, {33, 3}}});
    AttentionParams params = c.params();
    alignas(64) static char workspace[1 << 20];
    std::fill_n(workspace, sizeof(workspace), 'x');
    params.workspace = workspace;
    params.workspace_bytes = sizeof(workspace);
    params.mode = Kernel::kMode;
    const std::vector<char> before[] = {c.Bits(0, 0), c.Bits(1, 2)};
    spoil(params);
    EXPECT_EQ(Kernel::Launch(params), want);
    EXPECT_EQ(c.Bits(0, 0), before[0]) << "output written";
    EXPECT_EQ(c.Bits(1, 2), before[1]) << "output written";
    EXPECT_EQ(std::count(workspace, workspace + sizeof(workspace), 'x'),
              static_cast<int64_t>(sizeof(workspace)))
        << "workspace written";
  }
  void ExpectBad(const std::function<void(AttentionParams&)>& spoil) {
    Expect(LaunchError::kBadArgument, spoil);
  }
};

using Kernels = ::testing::Types<PlainKernel, InvariantKernel, BalancedKernel>;
TYPED_TEST_SUITE(AttentionArgumentsTest, Kernels);

TYPED_TEST(AttentionArgumentsTest, NullPointers) {
  this->ExpectBad([](AttentionParams& p) { p.table.page_ids = nullptr; });
  this->ExpectBad([](AttentionParams& p) { p.table.row_begin = nullptr; });
  this->ExpectBad([](AttentionParams& p) { p.table.lengths = nullptr; });
  this->ExpectBad([](AttentionParams& p) { p.query_begin = nullptr; });
  this->ExpectBad([](AttentionParams& p) { p.query = nullptr; });
  this->ExpectBad([](AttentionParams& p) { p.output = nullptr; });
  this->ExpectBad([](AttentionParams& p) { p.kv.k = nullptr; });
  this->ExpectBad([](AttentionParams& p) { p.kv.v = nullptr; });
}

TYPED_TEST(AttentionArgumentsTest, NumbersOutOfRange) {
  this->ExpectBad([](AttentionParams& p) { p.table.batch = -1; });
  this->ExpectBad([](AttentionParams& p) { p.table.tokens_per_page = 0; });
  this->ExpectBad([](AttentionParams& p) { p.kv.page_count = -1; });
  this->ExpectBad([](AttentionParams& p) { p.kv_heads = 0; });
  this->ExpectBad([](AttentionParams& p) { p.query_heads = 0; });
  this->ExpectBad([](AttentionParams& p) { p.query_heads = 7; });
  this->ExpectBad([](AttentionParams& p) { p.head_dim = 0; });
  this->ExpectBad([](AttentionParams& p) { p.window = -1; });
  this->ExpectBad([](AttentionParams& p) { p.soft_cap = -1; });
  this->ExpectBad([](AttentionParams& p) { p.kv.k_strides.page = -16; });
  this->ExpectBad([](AttentionParams& p) { p.kv.v_strides.token = -16; });
}

TYPED_TEST(AttentionArgumentsTest, CountsThatDisagree) {
  this->ExpectBad([](AttentionParams& p) {  // a window needs causal order
    p.causal = false;
    p.window = 4;
  });
  static int32_t numbers[3];
  this->ExpectBad([](AttentionParams& p) {
    numbers[0] = 1, numbers[1] = 2, numbers[2] = 4;
    p.query_begin = numbers;
  });
  this->ExpectBad([](AttentionParams& p) {
    numbers[0] = 0, numbers[1] = 2, numbers[2] = 1;
    p.query_begin = numbers;
  });
  this->ExpectBad([](AttentionParams& p) {  // more queries than tokens
    numbers[0] = 40, numbers[1] = 2;
    p.table.lengths = numbers;
  });
  this->ExpectBad([](AttentionParams& p) {
    numbers[0] = -1, numbers[1] = 33;
    p.table.lengths = numbers;
  });
  this->ExpectBad([](AttentionParams& p) { p.output = const_cast<void*>(p.query); });
  this->ExpectBad(
      [](AttentionParams& p) { p.output = static_cast<char*>(const_cast<void*>(p.query)) + 64; });
}

TYPED_TEST(AttentionArgumentsTest, PageIdsOutsideThePool) {
  this->ExpectBad([](AttentionParams& p) { p.kv.page_count = 1; });
  for (const int32_t id : {-1, 1000, kPoisonPage}) {
    // Row 0 reads entries 0 to 2, row 1 entries 5 to 7 (two unused between them).
    for (const size_t entry : {0u, 2u, 7u}) {
      static std::vector<PageId> ids;
      this->ExpectBad([=](AttentionParams& p) {
        ids.assign(p.table.page_ids, p.table.page_ids + 8);
        ids[entry] = PageId{id};
        p.table.page_ids = ids.data();
      });
    }
  }
  static int64_t row_begin[2] = {0, -5};
  this->ExpectBad([](AttentionParams& p) { p.table.row_begin = row_begin; });
}

TYPED_TEST(AttentionArgumentsTest, Unsupported) {
  const auto unsupported = [this](const std::function<void(AttentionParams&)>& spoil) {
    this->Expect(LaunchError::kUnsupported, spoil);
  };
  unsupported([](AttentionParams& p) { p.head_dim = 12; });
  unsupported([](AttentionParams& p) { p.head_dim = 264; });
  unsupported([](AttentionParams& p) { p.dtype = DType{3}; });
  unsupported([](AttentionParams& p) { p.mode = ScheduleMode{2}; });
}

TYPED_TEST(AttentionArgumentsTest, Misaligned) {
  const auto misaligned = [this](const std::function<void(AttentionParams&)>& spoil) {
    this->Expect(LaunchError::kMisaligned, spoil);
  };
  misaligned([](AttentionParams& p) { p.kv.k = static_cast<char*>(p.kv.k) + 8; });
  misaligned([](AttentionParams& p) { p.kv.v = static_cast<char*>(p.kv.v) + 8; });
  misaligned([](AttentionParams& p) { p.kv.k_strides.page += 8; });
  misaligned([](AttentionParams& p) { p.kv.k_strides.head += 8; });
  misaligned([](AttentionParams& p) { p.kv.v_strides.token += 8; });
  misaligned([](AttentionParams& p) {
    p.workspace = static_cast<char*>(p.workspace) + 32;
    p.workspace_bytes -= 32;
  });
}

TYPED_TEST(AttentionArgumentsTest, WorkspaceTooSmall) {
  this->Expect(LaunchError::kWorkspaceTooSmall,
               [](AttentionParams& p) { p.workspace_bytes = cpu::WorkspaceBytes(p) - 1; });
}

TYPED_TEST(AttentionArgumentsTest, ThreadsThatCannotRun) {
  static Threads threads = {.workers = 2, .context = nullptr, .run = nullptr};
  this->ExpectBad([](AttentionParams& p) { p.threads = &threads; });
}

TEST(WorkspaceBytesTest, ShapesAtTheEndsOfTheirTypes) {
  AttentionCase c({.rows = {{40}, {33, 3}}});
  AttentionParams params = c.params();
  params.query_heads = 1;
  params.kv_heads = 2;  // not one query head a KV head
  EXPECT_EQ(cpu::WorkspaceBytes(params), 0);
  params.query_heads = params.kv_heads = INT32_MAX;
  EXPECT_GT(cpu::WorkspaceBytes(params), 0);
  params.kv_heads = 1;
  EXPECT_GT(cpu::WorkspaceBytes(params), int64_t{INT32_MAX} * params.head_dim);
  const std::vector<int32_t> backwards = {0, 2, 1};
  params.query_begin = backwards.data();
  EXPECT_EQ(cpu::WorkspaceBytes(params), 0);
}

TEST(WorkspaceBytesTest, NeedsNoPointersButLengthsAndQueries) {
  AttentionCase c({.rows = {{40}, {2000}}});
  AttentionParams params = c.params();
  const int64_t bytes = cpu::WorkspaceBytes(params);
  params.table.page_ids = nullptr;
  params.table.row_begin = nullptr;
  params.kv = {};
  params.query = nullptr;
  params.output = nullptr;
  params.lse = nullptr;
  EXPECT_EQ(cpu::WorkspaceBytes(params), bytes);
  EXPECT_GT(bytes, 0);
  EXPECT_EQ(bytes % 64, 0);
}

TEST(LaunchErrorTest, EachHasItsOwnSentence) {
  std::vector<std::string> seen;
  for (int32_t i = 0; i <= static_cast<int32_t>(LaunchError::kLaunchFailed); ++i) {
    const char* sentence = Describe(LaunchError{i});
    ASSERT_NE(sentence, nullptr);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), sentence), 0) << sentence;
    seen.push_back(sentence);
  }
  // None of the others has it, so none of them was forgotten.
  ASSERT_NE(Describe(LaunchError{99}), nullptr);
  EXPECT_EQ(std::count(seen.begin(), seen.end(), Describe(LaunchError{99})), 0);
}

}  // namespace
}  // namespace quire::testing
