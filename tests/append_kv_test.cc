// AppendKv on the CPU: the suite of every back end, threads, and what only a launcher that can read
// slots and tables refuses.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/append_kv_suite.h"
#include "tests/support/attention_threads.h"
#include "tests/support/kernel_backends.h"

namespace quire::testing {
namespace {

INSTANTIATE_TYPED_TEST_SUITE_P(Cpu, AppendKvTest, CpuBackend);

TEST(AppendKvCpuTest, ManyTokensOnManyThreads) {
  AppendStep step(DType::kBFloat16, 1000, 8000);
  TestThreads threads(5);
  step.params.threads = threads.get();
  ASSERT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
  EXPECT_EQ(step.pool, step.Expected());
}

TEST(AppendKvCpuTest, RowsThatThreadsCut) {
  AppendStep step(DType::kBFloat16, 1000, 5000);
  TestThreads threads(5);
  step.params.threads = threads.get();
  step.UseTable({{1, 1}, {4100, 2900}, {0, 0}, {2000, 2000}});
  ASSERT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
  EXPECT_EQ(step.pool, step.Expected());
}

TEST(AppendKvCpuTest, OnlyPaddingNeedsNoMemory) {
  AppendStep step(DType::kFloat16, 16, 3);
  std::fill(step.slots.begin(), step.slots.end(), -1);
  step.params.key = step.params.value = nullptr;
  step.params.kv.k = step.params.kv.v = nullptr;
  EXPECT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
  step.UseTable({{4, 0}});
  EXPECT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
}

TEST(AppendKvCpuTest, BadSlotsWriteNothing) {
  const auto bad = [](const std::function<void(AppendStep&)>& spoil) {
    ExpectAppendRefused<CpuBackend>(LaunchError::kBadArgument, spoil);
  };
  // The last slot, so that a check while writing would come too late.
  bad([](AppendStep& s) { s.slots.back() = -2; });
  bad([](AppendStep& s) { s.slots.back() = kAppendPages * 16; });
  bad([](AppendStep& s) { s.slots.back() = int64_t{1} << 40; });
}

TEST(AppendKvCpuTest, BadTablesWriteNothing) {
  const auto bad = [](const std::function<void(AppendStep&)>& spoil) {
    ExpectAppendRefused<CpuBackend>(LaunchError::kBadArgument, spoil, {{17, 4}, {5, 4}});
  };
  bad([](AppendStep& s) { s.lengths.back() = 3; });
  bad([](AppendStep& s) { s.lengths.back() = -1; });
  bad([](AppendStep& s) { s.row_begin.back() = -1; });
  bad([](AppendStep& s) { s.query_begin[0] = 1; });
  bad([](AppendStep& s) { s.query_begin[2] = 3; });
  bad([](AppendStep& s) { s.params.token_count = 7; });
  bad([](AppendStep& s) { s.params.token_count = 0; });
  for (const int32_t id : {-1, kAppendPages, kPoisonPage}) {
    // Row 0 writes 13 to 15 in its first page and 16 in its second; row 1 has one page.
    for (const int32_t entry : {0, 1, 2}) {
      bad([=](AppendStep& s) { s.page_ids.data()[entry] = PageId{id}; });
    }
  }
}

// Padding costs nothing, however much of it there is.
TEST(AppendKvCpuTest, TwoBillionTokensOfPadding) {
  AppendKvParams params = {};
  params.dtype = DType::kFloat32;
  params.kv_heads = 1;
  params.head_dim = 256;
  params.tokens_per_page = params.table.tokens_per_page = 16;
  params.token_count = INT32_MAX;
  EXPECT_EQ(cpu::AppendKv(params), LaunchError::kOk);
}

TEST(AppendKvCpuTest, SlotOfFindsAPosition) {
  const PageId ids[] = {PageId{4}, PageId{2}, PageId{1 << 30}};
  const int64_t row_begin[] = {0, 1};
  const PageTableView table = {.page_ids = ids,
                               .row_begin = row_begin,
                               .lengths = nullptr,
                               .batch = 2,
                               .tokens_per_page = 3};
  EXPECT_EQ(SlotOf(table, 0, 0), 12);
  EXPECT_EQ(SlotOf(table, 0, 4), 7);
  EXPECT_EQ(SlotOf(table, 1, 1), 7);
  EXPECT_EQ(SlotOf(table, 1, 5), int64_t{3} * (1 << 30) + 2);
}

}  // namespace
}  // namespace quire::testing
