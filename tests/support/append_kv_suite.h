// AppendKv on any back end: every token to its place in any layout, padding skipped, nothing
// written on bad input.

#ifndef QUIRE_TESTS_SUPPORT_APPEND_KV_SUITE_H_
#define QUIRE_TESTS_SUPPORT_APPEND_KV_SUITE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_memory.h"
#include "tests/support/random_bytes.h"

namespace quire::testing {

inline constexpr int32_t kAppendHeads = 3;
inline constexpr int32_t kAppendHeadDim = 16;
inline constexpr int32_t kAppendPages = 11;

struct AppendRow {
  int32_t length;
  int32_t queries;
};

// New tokens, and a pool in which every byte is 0xee before.
struct AppendStep {
  explicit AppendStep(DType type, int32_t page_tokens, int32_t tokens,
                      int64_t extra_token_bytes = 0)
      : dtype(type), tokens_per_page(page_tokens), slots(static_cast<size_t>(tokens)) {
    const int64_t head = int64_t{kAppendHeadDim} * SizeOf(dtype);
    stride = kAppendHeads * head + extra_token_bytes;
    key = RandomBytes(tokens * stride, 1);
    value = RandomBytes(tokens * stride, 2);
    // Page-major, with a gap of 32 bytes after each page.
    const KvStrides strides = {.page = 2 * kAppendHeads * tokens_per_page * head + 32,
                               .head = tokens_per_page * head,
                               .token = head};
    pool.assign(static_cast<size_t>(kAppendPages * strides.page), '\xee');
    // Slots all different, in no order.
    TestVector<int64_t> all(static_cast<size_t>(kAppendPages * tokens_per_page));
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
    std::shuffle(all.begin(), all.end(), std::mt19937(1));
    std::copy_n(all.begin(), slots.size(), slots.begin());
    params.kv = {.k = pool.data(),
                 .v = pool.data() + kAppendHeads * strides.head,
                 .k_strides = strides,
                 .v_strides = strides,
                 .page_count = kAppendPages};
    params.dtype = dtype;
    params.kv_heads = kAppendHeads;
    params.head_dim = kAppendHeadDim;
    params.tokens_per_page = tokens_per_page;
    params.token_count = tokens;
    params.slots = slots.data();
    params.key = key.data();
    params.value = value.data();
    params.key_token_stride = extra_token_bytes == 0 ? 0 : stride;
    params.value_token_stride = params.key_token_stride;
  }

  // Tells the same step by page table; tokens beyond the rows' are padding. `slots` become what
  // attention.h says of each token. Entries that no new token needs are poison, and the table ends
  // at a guard page.
  void UseTable(const std::vector<AppendRow>& rows) {
    std::vector<int32_t> free(kAppendPages);
    std::iota(free.begin(), free.end(), 0);
    std::shuffle(free.begin(), free.end(), std::mt19937(5));
    std::vector<PageId> ids;
    query_begin = {0};
    std::fill(slots.begin(), slots.end(), -1);
    for (const AppendRow& row : rows) {
      row_begin.push_back(static_cast<int64_t>(ids.size()));
      lengths.push_back(row.length);
      const int32_t first = row.length - row.queries;
      for (int32_t begin = 0; begin < row.length; begin += tokens_per_page) {
        const bool written = begin + tokens_per_page > first && row.queries > 0;
        ids.push_back(PageId{written ? free.back() : kPoisonPage});
        if (written) free.pop_back();
      }
      for (int32_t j = 0; j < row.queries; ++j) {
        const int32_t at = first + j;
        const auto page =
            static_cast<int64_t>(ids[static_cast<size_t>(row_begin.back() + at / tokens_per_page)]);
        slots[static_cast<size_t>(query_begin.back() + j)] =
            page * tokens_per_page + at % tokens_per_page;
      }
      query_begin.push_back(query_begin.back() + row.queries);
    }
    page_ids = GuardedArray<PageId>(ids);
    params.slots = nullptr;
    params.query_begin = query_begin.data();
    params.table = {.page_ids = page_ids.data(),
                    .row_begin = row_begin.data(),
                    .lengths = lengths.data(),
                    .batch = static_cast<int32_t>(rows.size()),
                    .tokens_per_page = tokens_per_page};
  }

  // The pool as it should be: byte by byte, by the words of attention.h.
  TestVector<char> Expected() const {
    TestVector<char> want(pool.size(), '\xee');
    const int64_t head = int64_t{kAppendHeadDim} * SizeOf(dtype);
    for (size_t t = 0; t < slots.size(); ++t) {
      if (slots[t] == -1) continue;
      const int64_t page = slots[t] / tokens_per_page;
      const int64_t offset = slots[t] % tokens_per_page;
      for (int32_t h = 0; h < kAppendHeads; ++h) {
        const int64_t to = page * params.kv.k_strides.page + h * params.kv.k_strides.head +
                           offset * params.kv.k_strides.token;
        for (int64_t b = 0; b < head; ++b) {
          const int64_t from = static_cast<int64_t>(t) * stride + h * head + b;
          want[static_cast<size_t>(to + b)] = key[static_cast<size_t>(from)];
          want[static_cast<size_t>(to + kAppendHeads * params.kv.k_strides.head + b)] =
              value[static_cast<size_t>(from)];
        }
      }
    }
    return want;
  }

  DType dtype;
  int32_t tokens_per_page;
  int64_t stride;
  TestVector<int64_t> slots;
  TestVector<char> key;
  TestVector<char> value;
  TestVector<char> pool;
  TestVector<int32_t> query_begin;
  TestVector<int64_t> row_begin;
  TestVector<int32_t> lengths;
  GuardedArray<PageId> page_ids;
  AppendKvParams params = {};
};

template <typename Backend>
void ExpectAppendRefused(LaunchError want, const std::function<void(AppendStep&)>& spoil,
                         const std::vector<AppendRow>& rows = {}) {
  AppendStep step(DType::kFloat16, 16, 9);
  if (!rows.empty()) step.UseTable(rows);
  spoil(step);
  EXPECT_EQ(Backend::AppendKv(step.params), want);
  EXPECT_EQ(step.pool, TestVector<char>(step.pool.size(), '\xee')) << "pool written";
}

template <typename Backend>
class AppendKvTest : public ::testing::Test {};
TYPED_TEST_SUITE_P(AppendKvTest);

TYPED_TEST_P(AppendKvTest, WritesEveryTokenToItsSlotAndNothingElse) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    for (const int32_t tokens_per_page : {1, 3, 16}) {
      for (const int64_t extra : {0, 48}) {
        AppendStep step(dtype, tokens_per_page, 7, extra);
        ASSERT_EQ(TypeParam::AppendKv(step.params), LaunchError::kOk);
        EXPECT_EQ(step.pool, step.Expected());
      }
    }
  }
}

TYPED_TEST_P(AppendKvTest, WritesEveryTokenWhereTheTableSays) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    for (const int32_t tokens_per_page : {1, 3, 16}) {
      AppendStep step(dtype, tokens_per_page, 10, 16);
      // A long row, rows without new tokens, one without any, a first chunk; 3 tokens of padding.
      step.UseTable({{20, 1}, {7, 0}, {0, 0}, {3, 3}, {19, 3}, {5, 0}});
      ASSERT_EQ(TypeParam::AppendKv(step.params), LaunchError::kOk);
      EXPECT_EQ(step.pool, step.Expected());
    }
  }
}

TYPED_TEST_P(AppendKvTest, ATableOfNothingButPadding) {
  for (const std::vector<AppendRow>& rows : {std::vector<AppendRow>{}, {{5, 0}, {0, 0}}}) {
    AppendStep step(DType::kFloat16, 4, 6);
    step.UseTable(rows);
    ASSERT_EQ(TypeParam::AppendKv(step.params), LaunchError::kOk);
    EXPECT_EQ(step.pool, TestVector<char>(step.pool.size(), '\xee'));
  }
}

TYPED_TEST_P(AppendKvTest, ManyTokens) {
  AppendStep step(DType::kBFloat16, 100, 800);
  ASSERT_EQ(TypeParam::AppendKv(step.params), LaunchError::kOk);
  EXPECT_EQ(step.pool, step.Expected());
}

// Bugs elsewhere (docs/testing.md): 5.
TYPED_TEST_P(AppendKvTest, SkipsPadding) {
  AppendStep step(DType::kFloat16, 16, 9);
  for (const size_t t : {0u, 4u, 8u}) step.slots[t] = -1;
  ASSERT_EQ(TypeParam::AppendKv(step.params), LaunchError::kOk);
  EXPECT_EQ(step.pool, step.Expected());
}

TYPED_TEST_P(AppendKvTest, NoTokensNeedNoMemory) {
  AppendStep step(DType::kFloat16, 16, 3);
  step.params.key = step.params.value = nullptr;
  step.params.kv.k = step.params.kv.v = nullptr;
  step.params.token_count = 0;
  EXPECT_EQ(TypeParam::AppendKv(step.params), LaunchError::kOk);
  step.params.slots = nullptr;
  EXPECT_EQ(TypeParam::AppendKv(step.params), LaunchError::kOk);
}

TYPED_TEST_P(AppendKvTest, KAndVHaveStridesOfTheirOwn) {
  AppendStep step(DType::kFloat32, 4, 5);
  const int64_t head = int64_t{kAppendHeadDim} * 4;
  TestVector<char> values(static_cast<size_t>(kAppendPages * 4 * kAppendHeads * head), '\xee');
  step.params.kv.v = values.data();  // token-major: [page][token][head][dim]
  step.params.kv.v_strides = {
      .page = 4 * kAppendHeads * head, .head = head, .token = kAppendHeads * head};
  ASSERT_EQ(TypeParam::AppendKv(step.params), LaunchError::kOk);
  for (size_t t = 0; t < 5; ++t) {
    const char* want = step.value.data() + static_cast<int64_t>(t) * step.stride;
    const char* got = values.data() + step.slots[t] * kAppendHeads * head;
    EXPECT_TRUE(std::equal(want, want + step.stride, got));
  }
}

TYPED_TEST_P(AppendKvTest, PoolBeyond4GiBytes) {
  constexpr int32_t kManyPages = 140000;
  AppendStep step(DType::kBFloat16, 16, 1);
  const int64_t page = 65536;
  const Mapping pool(static_cast<size_t>(kManyPages * page));
  step.params.kv = {.k = pool.data(),
                    .v = pool.data() + page / 2,
                    .k_strides = {.page = page, .head = 16 * 32, .token = 32},
                    .v_strides = {.page = page, .head = 16 * 32, .token = 32},
                    .page_count = kManyPages};
  step.slots[0] = int64_t{99999} * 16 + 5;
  ASSERT_EQ(TypeParam::AppendKv(step.params), LaunchError::kOk);
  const char* last = pool.data() + int64_t{99999} * page + 5 * 32;
  EXPECT_TRUE(std::equal(last, last + 32, step.key.data()));
  EXPECT_TRUE(std::equal(last + page / 2, last + page / 2 + 32, step.value.data()));
}

TYPED_TEST_P(AppendKvTest, BadShapesWriteNothing) {
  const auto refused = [](LaunchError want, const std::function<void(AppendStep&)>& spoil) {
    ExpectAppendRefused<TypeParam>(want, spoil);
    ExpectAppendRefused<TypeParam>(want, spoil, {{20, 4}, {5, 5}});
  };
  const auto bad = [&](const std::function<void(AppendStep&)>& spoil) {
    refused(LaunchError::kBadArgument, spoil);
  };
  bad([](AppendStep& s) { s.params.key = nullptr; });
  bad([](AppendStep& s) { s.params.value = nullptr; });
  bad([](AppendStep& s) { s.params.kv.k = nullptr; });
  bad([](AppendStep& s) { s.params.kv.v = nullptr; });
  bad([](AppendStep& s) { s.params.token_count = -1; });
  bad([](AppendStep& s) { s.params.tokens_per_page = 0; });
  bad([](AppendStep& s) { s.params.kv_heads = 0; });
  bad([](AppendStep& s) { s.params.kv.page_count = -1; });
  bad([](AppendStep& s) { s.params.key_token_stride = -8; });
  bad([](AppendStep& s) { s.params.value_token_stride = -8; });
  refused(LaunchError::kMisaligned, [](AppendStep& s) { s.params.kv.k_strides.page += 8; });
  refused(LaunchError::kMisaligned,
          [](AppendStep& s) { s.params.kv.v = static_cast<char*>(s.params.kv.v) + 4; });
  refused(LaunchError::kUnsupported, [](AppendStep& s) { s.params.head_dim = 12; });
  refused(LaunchError::kUnsupported, [](AppendStep& s) { s.params.dtype = DType{7}; });
}

TYPED_TEST_P(AppendKvTest, NeitherSlotsNorAWholeTable) {
  const auto bad = [](const std::function<void(AppendStep&)>& spoil) {
    ExpectAppendRefused<TypeParam>(LaunchError::kBadArgument, spoil, {{20, 4}, {5, 5}});
  };
  ExpectAppendRefused<TypeParam>(LaunchError::kBadArgument,
                                 [](AppendStep& s) { s.params.slots = nullptr; });
  bad([](AppendStep& s) { s.params.table.page_ids = nullptr; });
  bad([](AppendStep& s) { s.params.table.row_begin = nullptr; });
  bad([](AppendStep& s) { s.params.table.lengths = nullptr; });
  bad([](AppendStep& s) { s.params.query_begin = nullptr; });
  bad([](AppendStep& s) { s.params.table.batch = -1; });
  bad([](AppendStep& s) { s.params.table.tokens_per_page = 8; });
}

REGISTER_TYPED_TEST_SUITE_P(AppendKvTest, WritesEveryTokenToItsSlotAndNothingElse,
                            WritesEveryTokenWhereTheTableSays, ATableOfNothingButPadding,
                            ManyTokens, SkipsPadding, NoTokensNeedNoMemory,
                            KAndVHaveStridesOfTheirOwn, PoolBeyond4GiBytes, BadShapesWriteNothing,
                            NeitherSlotsNorAWholeTable);

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_APPEND_KV_SUITE_H_
