// The CUDA kernel of AppendKv on the host twin: the suite of every back end, and what a launcher
// that cannot read slots and tables leaves to the kernel.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/append_kv_suite.h"
#include "tests/support/random_bytes.h"
#include "tests/support/twin_backend.h"

namespace quire::testing {
namespace {

INSTANTIATE_TYPED_TEST_SUITE_P(Twin, AppendKvTest, TwinBackends);

using Twin = TwinBackend<2>;

// The pool must be as if these tokens were padding, and the counter must have grown by their
// number.
void ExpectRejected(AppendStep& step, const std::vector<size_t>& tokens) {
  for (const size_t t : tokens) step.slots[t] = -1;
  int32_t rejected = 40;
  step.params.rejected = &rejected;
  ASSERT_EQ(Twin::AppendKv(step.params), LaunchError::kOk);
  EXPECT_EQ(step.pool, step.Expected());
  EXPECT_EQ(rejected, 40 + static_cast<int32_t>(tokens.size()));
}

// Bugs elsewhere (docs/testing.md): 29.
TEST(TwinAppendKvTest, RejectsSlotsOutsideThePool) {
  for (const int32_t heads_bytes : {0, 48}) {
    AppendStep step(DType::kFloat32, 16, 9, heads_bytes);
    TestVector<int64_t> slots = step.slots;
    slots[0] = -2;
    slots[3] = kAppendPages * 16;
    slots[4] = -1;  // padding is not rejected
    slots[7] = int64_t{1} << 40;
    slots[8] = INT64_MIN;
    step.slots[4] = -1;
    step.params.slots = slots.data();
    ExpectRejected(step, {0, 3, 7, 8});
  }
}

TEST(TwinAppendKvTest, RejectsPagesOutsideThePool) {
  for (const int32_t id : {-1, kAppendPages, kPoisonPage}) {
    AppendStep step(DType::kFloat16, 4, 9);
    step.UseTable({{20, 6}, {5, 3}});  // positions 14 to 19: entries 3 and 4; 2 to 4: 5 and 6
    step.page_ids.data()[4] = PageId{id};
    step.page_ids.data()[5] = PageId{id};
    ExpectRejected(step, {2, 3, 4, 5, 6, 7});
  }
}

TEST(TwinAppendKvTest, RejectsTokensBeforeTheirRow) {
  AppendStep step(DType::kFloat16, 4, 9);
  step.UseTable({{20, 6}, {5, 3}});
  step.lengths[1] = 1;  // its three tokens would stand at -2, -1 and 0
  step.page_ids.data()[5] = PageId{3};
  step.slots[8] = 3 * 4;
  ExpectRejected(step, {6, 7});
}

TEST(TwinAppendKvTest, NoCounterIsNeeded) {
  AppendStep step(DType::kFloat16, 16, 9);
  TestVector<int64_t> slots = step.slots;
  slots[8] = -2;
  step.slots[8] = -1;
  step.params.slots = slots.data();
  ASSERT_EQ(Twin::AppendKv(step.params), LaunchError::kOk);
  EXPECT_EQ(step.pool, step.Expected());
}

// A captured launch keeps its grid and parameters; the arrays are written anew at each replay.
TEST(TwinAppendKvTest, OneLaunchServesManySteps) {
  AppendStep step(DType::kBFloat16, 4, 16);
  step.UseTable({{7, 2}, {9, 3}, {4, 4}, {1, 1}});
  cuda::AppendKvArgs args;
  int32_t blocks;
  ASSERT_EQ(cuda::PrepareAppendKv(step.params, &args, &blocks), LaunchError::kOk);
  const auto replay = [&] {
    twin::Launch({.blocks = blocks, .threads = cuda::kBlockThreads}, 2,
                 [&] { cuda::AppendKvKernel(args); });
  };
  replay();
  EXPECT_EQ(step.pool, step.Expected());

  // Two rows only: the others are empty, and the tokens behind them padding.
  AppendStep next(DType::kBFloat16, 4, 16);
  next.UseTable({{8, 1}, {10, 1}, {4, 0}, {1, 0}});
  std::copy_n(next.lengths.begin(), 4, step.lengths.begin());
  std::copy_n(next.row_begin.begin(), 4, step.row_begin.begin());
  std::copy_n(next.query_begin.begin(), 5, step.query_begin.begin());
  std::copy_n(next.page_ids.data(), 7, step.page_ids.data());
  std::fill(step.pool.begin(), step.pool.end(), '\xee');
  replay();
  EXPECT_EQ(step.pool, next.Expected());
}

// More tokens than warps, and tokens that are several chunks: warps take many units.
TEST(TwinAppendKvTest, FewBlocksDoAllTokens) {
  AppendStep step(DType::kFloat32, 100, 100);
  const int64_t head = int64_t{kAppendHeadDim} * 4;
  for (const int32_t chunks : {1, 2, 5}) {
    std::fill(step.pool.begin(), step.pool.end(), '\xee');
    cuda::AppendKvArgs args;
    int32_t blocks;
    ASSERT_EQ(cuda::PrepareAppendKv(step.params, &args, &blocks), LaunchError::kOk);
    EXPECT_EQ(args.vectors, kAppendHeads * head / 16);
    args.chunks = chunks;  // those beyond the token's vectors have nothing to do
    for (const int32_t few : {1, 3}) {
      twin::Launch({.blocks = few, .threads = cuda::kBlockThreads}, 1,
                   [&] { cuda::AppendKvKernel(args); });
      EXPECT_EQ(step.pool, step.Expected());
    }
  }
}

TEST(TwinAppendKvTest, MoreHeadsThanOneChunk) {
  constexpr int32_t kHeads = 19;
  constexpr int32_t kHeadDim = 72;  // 9 vectors a head: chunks end inside heads
  constexpr int64_t kHead = kHeadDim * 2;
  const TestVector<char> key = RandomBytes(3 * kHeads * kHead, 1);
  const TestVector<char> value = RandomBytes(3 * kHeads * kHead, 2);
  TestVector<char> k(5 * 2 * kHeads * kHead, '\xee');
  TestVector<char> v = k;
  const TestVector<int64_t> slots = {9, 0, 4};
  AppendKvParams params = {};
  params.kv = {.k = k.data(),
               .v = v.data(),
               .k_strides = {.page = 2 * kHeads * kHead, .head = 2 * kHead, .token = kHead},
               .v_strides = {.page = 2 * kHeads * kHead, .head = kHead, .token = kHeads * kHead},
               .page_count = 5};
  params.dtype = DType::kBFloat16;
  params.kv_heads = kHeads;
  params.head_dim = kHeadDim;
  params.tokens_per_page = 2;
  params.token_count = 3;
  params.slots = slots.data();
  params.key = key.data();
  params.value = value.data();
  ASSERT_EQ(Twin::AppendKv(params), LaunchError::kOk);
  TestVector<char> want_k(k.size(), '\xee');
  TestVector<char> want_v = want_k;
  params.kv.k = want_k.data();
  params.kv.v = want_v.data();
  ASSERT_EQ(cpu::AppendKv(params), LaunchError::kOk);
  EXPECT_EQ(k, want_k);
  EXPECT_EQ(v, want_v);
}

TEST(TwinAppendKvTest, MisalignedTokens) {
  const auto refused = [](const std::function<void(AppendStep&)>& spoil) {
    ExpectAppendRefused<Twin>(LaunchError::kMisaligned, spoil);
  };
  refused([](AppendStep& s) { s.params.key = s.key.data() + 8; });
  refused([](AppendStep& s) { s.params.value = s.value.data() + 8; });
  refused([](AppendStep& s) { s.params.key_token_stride = s.stride + 8; });
  refused([](AppendStep& s) { s.params.value_token_stride = s.stride + 8; });
}

}  // namespace
}  // namespace quire::testing
