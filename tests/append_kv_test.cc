// AppendKv: every token to its slot in any layout, padding skipped, nothing written on bad input.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_memory.h"
#include "tests/support/attention_threads.h"

namespace quire {
namespace {

using testing::Mapping;
using testing::TestThreads;

constexpr int32_t kHeads = 3;
constexpr int32_t kHeadDim = 16;
constexpr int32_t kPages = 9;

// New tokens, and a pool in which every byte is 0xee before.
struct Step {
  explicit Step(DType type, int32_t page_tokens, int32_t tokens, int64_t extra_token_bytes = 0)
      : dtype(type), tokens_per_page(page_tokens), slots(static_cast<size_t>(tokens)) {
    const int64_t head = int64_t{kHeadDim} * SizeOf(dtype);
    stride = kHeads * head + extra_token_bytes;
    std::mt19937 random(1);
    key.resize(static_cast<size_t>(tokens * stride));
    value.resize(key.size());
    for (char& c : key) c = static_cast<char>(random());
    for (char& c : value) c = static_cast<char>(random());
    // Page-major, with a gap of 32 bytes after each page.
    const KvStrides strides = {.page = 2 * kHeads * tokens_per_page * head + 32,
                               .head = tokens_per_page * head,
                               .token = head};
    pool.assign(static_cast<size_t>(kPages * strides.page), '\xee');
    // Slots all different, in no order.
    std::vector<int64_t> all(static_cast<size_t>(kPages * tokens_per_page));
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
    std::shuffle(all.begin(), all.end(), random);
    std::copy_n(all.begin(), slots.size(), slots.begin());
    params = {.kv = {.k = pool.data(),
                     .v = pool.data() + kHeads * strides.head,
                     .k_strides = strides,
                     .v_strides = strides,
                     .page_count = kPages},
              .dtype = dtype,
              .kv_heads = kHeads,
              .head_dim = kHeadDim,
              .tokens_per_page = tokens_per_page,
              .token_count = tokens,
              .slots = slots.data(),
              .key = key.data(),
              .value = value.data(),
              .key_token_stride = extra_token_bytes == 0 ? 0 : stride,
              .value_token_stride = extra_token_bytes == 0 ? 0 : stride,
              .threads = nullptr};
  }

  // The pool as it should be: byte by byte, by the words of attention.h.
  std::vector<char> Expected() const {
    std::vector<char> want(pool.size(), '\xee');
    const int64_t head = int64_t{kHeadDim} * SizeOf(dtype);
    for (size_t t = 0; t < slots.size(); ++t) {
      if (slots[t] == -1) continue;
      const int64_t page = slots[t] / tokens_per_page;
      const int64_t offset = slots[t] % tokens_per_page;
      for (int32_t h = 0; h < kHeads; ++h) {
        const int64_t to = page * params.kv.k_strides.page + h * params.kv.k_strides.head +
                           offset * params.kv.k_strides.token;
        for (int64_t b = 0; b < head; ++b) {
          const int64_t from = static_cast<int64_t>(t) * stride + h * head + b;
          want[static_cast<size_t>(to + b)] = key[static_cast<size_t>(from)];
          want[static_cast<size_t>(to + kHeads * params.kv.k_strides.head + b)] =
              value[static_cast<size_t>(from)];
        }
      }
    }
    return want;
  }

  DType dtype;
  int32_t tokens_per_page;
  int64_t stride;
  std::vector<int64_t> slots;
  std::vector<char> key;
  std::vector<char> value;
  alignas(16) std::vector<char> pool;
  AppendKvParams params;
};

TEST(AppendKvTest, WritesEveryTokenToItsSlotAndNothingElse) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    for (const int32_t tokens_per_page : {1, 3, 16}) {
      for (const int64_t extra : {0, 48}) {
        Step step(dtype, tokens_per_page, 7, extra);
        ASSERT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
        EXPECT_EQ(step.pool, step.Expected());
      }
    }
  }
}

TEST(AppendKvTest, ManyTokensOnManyThreads) {
  Step step(DType::kBFloat16, 1000, 8000);
  TestThreads threads(5);
  step.params.threads = threads.get();
  ASSERT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
  EXPECT_EQ(step.pool, step.Expected());
}

TEST(AppendKvTest, SkipsPadding) {
  Step step(DType::kFloat16, 16, 9);
  for (const size_t t : {0u, 4u, 8u}) step.slots[t] = -1;
  ASSERT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
  EXPECT_EQ(step.pool, step.Expected());
}

TEST(AppendKvTest, OnlyPaddingNeedsNoMemory) {
  Step step(DType::kFloat16, 16, 3);
  std::fill(step.slots.begin(), step.slots.end(), -1);
  step.params.key = step.params.value = nullptr;
  step.params.kv.k = step.params.kv.v = nullptr;
  EXPECT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
  step.params.token_count = 0;
  step.params.slots = nullptr;
  EXPECT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
}

TEST(AppendKvTest, KAndVHaveStridesOfTheirOwn) {
  Step step(DType::kFloat32, 4, 5);
  const int64_t head = int64_t{kHeadDim} * 4;
  alignas(16) static char values[kPages * 4 * kHeads * kHeadDim * 4];
  std::fill(std::begin(values), std::end(values), '\xee');
  step.params.kv.v = values;  // token-major: [page][token][head][dim]
  step.params.kv.v_strides = {.page = 4 * kHeads * head, .head = head, .token = kHeads * head};
  ASSERT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
  for (size_t t = 0; t < 5; ++t) {
    const char* want = step.value.data() + static_cast<int64_t>(t) * step.stride;
    EXPECT_TRUE(std::equal(want, want + step.stride, values + step.slots[t] * kHeads * head));
  }
}

TEST(AppendKvTest, PoolBeyond4GiBytes) {
  constexpr int32_t kManyPages = 100000;
  Step step(DType::kBFloat16, 16, 1);
  const int64_t page = 65536;
  const Mapping pool(static_cast<size_t>(kManyPages * page));
  step.params.kv = {.k = pool.data(),
                    .v = pool.data() + page / 2,
                    .k_strides = {.page = page, .head = 16 * 32, .token = 32},
                    .v_strides = {.page = page, .head = 16 * 32, .token = 32},
                    .page_count = kManyPages};
  step.slots[0] = int64_t{99999} * 16 + 5;
  ASSERT_EQ(cpu::AppendKv(step.params), LaunchError::kOk);
  const char* last = pool.data() + int64_t{99999} * page + 5 * 32;
  EXPECT_TRUE(std::equal(last, last + 32, step.key.data()));
  EXPECT_TRUE(std::equal(last + page / 2, last + page / 2 + 32, step.value.data()));
}

void ExpectRefused(LaunchError want, const std::function<void(Step&)>& spoil) {
  Step step(DType::kFloat16, 16, 9);
  spoil(step);
  EXPECT_EQ(cpu::AppendKv(step.params), want);
  EXPECT_EQ(step.pool, std::vector<char>(step.pool.size(), '\xee')) << "pool written";
}

TEST(AppendKvTest, BadArgumentsWriteNothing) {
  const auto bad = [](const std::function<void(Step&)>& spoil) {
    ExpectRefused(LaunchError::kBadArgument, spoil);
  };
  // The last slot, so that a check while writing would come too late.
  bad([](Step& s) { s.slots.back() = -2; });
  bad([](Step& s) { s.slots.back() = kPages * 16; });
  bad([](Step& s) { s.slots.back() = int64_t{1} << 40; });
  bad([](Step& s) { s.params.slots = nullptr; });
  bad([](Step& s) { s.params.key = nullptr; });
  bad([](Step& s) { s.params.value = nullptr; });
  bad([](Step& s) { s.params.kv.k = nullptr; });
  bad([](Step& s) { s.params.kv.v = nullptr; });
  bad([](Step& s) { s.params.token_count = -1; });
  bad([](Step& s) { s.params.tokens_per_page = 0; });
  bad([](Step& s) { s.params.kv_heads = 0; });
  bad([](Step& s) { s.params.kv.page_count = -1; });
  bad([](Step& s) { s.params.key_token_stride = -8; });
  bad([](Step& s) { s.params.value_token_stride = -8; });
  ExpectRefused(LaunchError::kMisaligned, [](Step& s) { s.params.kv.k_strides.page += 8; });
  ExpectRefused(LaunchError::kMisaligned,
                [](Step& s) { s.params.kv.v = static_cast<char*>(s.params.kv.v) + 4; });
  ExpectRefused(LaunchError::kUnsupported, [](Step& s) { s.params.head_dim = 12; });
  ExpectRefused(LaunchError::kUnsupported, [](Step& s) { s.params.dtype = DType{7}; });
}

TEST(AppendKvTest, SlotOfFindsAPosition) {
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
}  // namespace quire
