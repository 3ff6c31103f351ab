// A pool of more than 2^32 elements in the GPU's own memory: attention, append and copy at its end,
// against the same in a small pool.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/gpu/device_memory.h"
#include "tests/gpu/gpu_kernels.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_memory.h"
#include "tests/support/random_bytes.h"

namespace quire::testing {
namespace {

constexpr int32_t kPages = 140000;
constexpr int64_t kPage = 65536;  // 16 tokens, 8 KV heads, 128 elements of 2 bytes, K and V
constexpr int32_t kShift = 139000;
static_assert(kShift * kPage / 2 > int64_t{1} << 32);

class LargePoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (pool_.data() == nullptr) GTEST_SKIP() << "needs 9.2 GB of the GPU's memory";
    pool_.Fill(0xff);
  }

  DeviceMemory pool_{static_cast<size_t>(kPages * kPage)};
};

TEST_F(LargePoolTest, Attention) {
  AttentionCase small({.rows = {{1033}, {70, 70}, {2000, 3}},
                       .dtype = DType::kBFloat16,
                       .kv_heads = 8,
                       .group = 2,
                       .head_dim = 128});
  AttentionParams params = small.params();
  ASSERT_EQ(params.kv.k_strides.page, kPage);
  small.PoisonOutput();
  ASSERT_EQ(LaunchOnGpu(params, false), LaunchError::kOk);
  const std::vector<char> first = small.Bits(0, 0);
  const std::vector<char> last = small.Bits(2, 2);

  pool_.Write(params.kv.k, static_cast<size_t>(params.kv.page_count * kPage),
              static_cast<size_t>(kShift * kPage));
  // The same table, every page moved to the large pool's end. Poisoned entries stay poison.
  int64_t entries = 0;
  for (size_t row = 0; row < 3; ++row) {
    entries = params.table.row_begin[row] + (params.table.lengths[row] + 15) / 16;
  }
  TestVector<PageId> ids(params.table.page_ids, params.table.page_ids + entries);
  for (PageId& id : ids) {
    if (id != PageId{kPoisonPage}) id = PageId{static_cast<int32_t>(id) + kShift};
  }
  params.table.page_ids = ids.data();
  params.kv.k = pool_.data();
  params.kv.v = pool_.data() + kPage / 2;
  params.kv.page_count = kPages;
  small.PoisonOutput();
  ASSERT_EQ(LaunchOnGpu(params, false), LaunchError::kOk);
  EXPECT_EQ(small.Bits(0, 0), first);
  EXPECT_EQ(small.Bits(2, 2), last);
}

TEST_F(LargePoolTest, AppendAndCopy) {
  const TestVector<char> key = RandomBytes(8 * 256, 1);
  const TestVector<char> value = RandomBytes(8 * 256, 2);
  constexpr int32_t kTarget = kPages - 2;
  const TestVector<int64_t> slots = {int64_t{kTarget} * 16 + 5};
  AppendKvParams append = {};
  const KvStrides strides = {.page = kPage, .head = 16 * 256, .token = 256};
  append.kv = {.k = pool_.data(),
               .v = pool_.data() + kPage / 2,
               .k_strides = strides,
               .v_strides = strides,
               .page_count = kPages};
  append.dtype = DType::kBFloat16;
  append.kv_heads = 8;
  append.head_dim = 128;
  append.tokens_per_page = 16;
  append.token_count = 1;
  append.slots = slots.data();
  append.key = key.data();
  append.value = value.data();
  ASSERT_EQ(GpuBackend::AppendKv(append), LaunchError::kOk);
  std::vector<char> want(kPage, '\xff');
  for (size_t head = 0; head < 8; ++head) {
    const size_t at = head * 16 * 256 + 5 * 256;
    std::copy_n(key.data() + head * 256, 256, want.data() + at);
    std::copy_n(value.data() + head * 256, 256, want.data() + kPage / 2 + at);
  }
  EXPECT_TRUE(pool_.Read(size_t{kTarget} * kPage, kPage) == want);

  const PageId from = PageId{kTarget};
  const PageId to = PageId{kPages - 1};
  CopyPagesParams copy = {};
  copy.base = pool_.data();
  copy.page_stride = copy.page_bytes = kPage;
  copy.page_count = kPages;
  copy.count = 1;
  copy.from = &from;
  copy.to = &to;
  ASSERT_EQ(GpuBackend::CopyPages(copy), LaunchError::kOk);
  EXPECT_TRUE(pool_.Read(size_t{kPages - 1} * kPage, kPage) == want);
  // Nothing where a 32-bit offset would have put it.
  const std::vector<char> untouched(kPage, '\xff');
  constexpr size_t kWrapped = size_t{(kTarget * kPage) & 0xffffffff};
  EXPECT_TRUE(pool_.Read(kWrapped, kPage) == untouched);
}

}  // namespace
}  // namespace quire::testing
