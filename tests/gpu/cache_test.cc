// The whole of it on a GPU: the cache decides, the device holds and copies pages, the kernels
// append to them and read them. Against the same tokens in contiguous memory, bit for bit.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "quire/device.h"
#include "quire/kv_cache.h"
#include "tests/gpu/device_memory.h"
#include "tests/gpu/gpu_kernels.h"
#include "tests/support/attention_case.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

constexpr int32_t kLayers = 3;
constexpr int32_t kHeads = 2;
constexpr int32_t kGroup = 4;
constexpr int32_t kDim = 64;
constexpr int32_t kPageTokens = 16;
constexpr int32_t kPages = 12;
constexpr int32_t kMostTokens = 128;
constexpr int64_t kTokenBytes = int64_t{kHeads} * kDim * 2;  // K, or V
constexpr int64_t kQueryBytes = kGroup * kTokenBytes;

// K (which 0), V (1) and query (2) stand for a model: they depend on token, position and layer.
void WriteModelValues(char* to, TokenId token, int32_t position, int32_t layer, int32_t which) {
  const int32_t count = which == 2 ? kHeads * kGroup * kDim : kHeads * kDim;
  for (int32_t e = 0; e < count; ++e) {
    const auto key = (((static_cast<uint64_t>(token) * 1000 + static_cast<uint64_t>(position)) * 8 +
                       static_cast<uint64_t>(layer)) *
                          4 +
                      static_cast<uint64_t>(which)) *
                         4096 +
                     static_cast<uint64_t>(e);
    WriteElement(to, e, DType::kBFloat16, DrawValue(key));
  }
}

AttentionParams AttentionOver(const PageTableView& table, const KvView& kv) {
  AttentionParams params = {};
  params.table = table;
  params.kv = kv;
  params.dtype = DType::kBFloat16;
  params.query_heads = kHeads * kGroup;
  params.kv_heads = kHeads;
  params.head_dim = kDim;
  params.scale = 1 / std::sqrt(static_cast<float>(kDim));
  params.causal = true;
  return params;
}

AppendKvParams AppendTo(const PageTableView& table, const KvView& kv) {
  AppendKvParams params = {};
  params.table = table;
  params.kv = kv;
  params.dtype = DType::kBFloat16;
  params.kv_heads = kHeads;
  params.head_dim = kDim;
  params.tokens_per_page = table.tokens_per_page;
  return params;
}

// New tokens of one sequence in a step, behind what it holds.
struct StepPart {
  Sequence* sequence;
  std::vector<TokenId> tokens;
};

// Runs append and attention of every layer over a table; the outputs of all layers and tokens.
TestVector<char> RunLayers(const PageTableView& table, std::span<const StepPart> parts,
                           std::span<const KvView> kv) {
  TestVector<int32_t> query_begin = {0};
  for (const StepPart& part : parts) {
    query_begin.push_back(query_begin.back() + static_cast<int32_t>(part.tokens.size()));
  }
  const auto tokens = static_cast<size_t>(query_begin.back());
  TestVector<char> key(tokens * kTokenBytes);
  TestVector<char> value(tokens * kTokenBytes);
  TestVector<char> query(tokens * kQueryBytes);
  TestVector<char> output(kLayers * query.size(), '\xff');
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    int64_t token = 0;
    for (size_t row = 0; row < parts.size(); ++row) {
      const auto count = static_cast<int32_t>(parts[row].tokens.size());
      for (int32_t j = 0; j < count; ++j, ++token) {
        const TokenId id = parts[row].tokens[static_cast<size_t>(j)];
        const int32_t position = table.lengths[row] - count + j;
        WriteModelValues(key.data() + token * kTokenBytes, id, position, layer, 0);
        WriteModelValues(value.data() + token * kTokenBytes, id, position, layer, 1);
        WriteModelValues(query.data() + token * kQueryBytes, id, position, layer, 2);
      }
    }
    const KvView& view = kv[static_cast<size_t>(layer)];
    AppendKvParams append = AppendTo(table, view);
    append.token_count = static_cast<int32_t>(tokens);
    append.query_begin = query_begin.data();
    append.key = key.data();
    append.value = value.data();
    EXPECT_EQ(GpuBackend::AppendKv(append), LaunchError::kOk);
    AttentionParams attention = AttentionOver(table, view);
    attention.query_begin = query_begin.data();
    attention.query = query.data();
    attention.output = output.data() + static_cast<size_t>(layer) * query.size();
    EXPECT_EQ(LaunchOnGpu(attention, false), LaunchError::kOk);
  }
  return output;
}

// The same tokens in one page that is long enough, in the same steps: memory of this test.
class Contiguous {
 public:
  Contiguous() {
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      memory_.push_back(TestVector<char>(2 * kMostTokens * kTokenBytes, '\xff'));
      const KvStrides strides = {
          .page = 2 * kMostTokens * kTokenBytes, .head = kMostTokens * kDim * 2, .token = kDim * 2};
      views_.push_back({memory_.back().data(), memory_.back().data() + kMostTokens * kTokenBytes,
                        strides, strides, 1});
    }
  }
  TestVector<char> Run(const std::vector<TokenId>& tokens) {
    length_[0] += static_cast<int32_t>(tokens.size());
    const PageTableView table = {page_.data(), row_begin_.data(), length_.data(), 1, kMostTokens};
    const StepPart part = {nullptr, tokens};
    return RunLayers(table, {&part, 1}, views_);
  }

 private:
  std::vector<TestVector<char>> memory_;
  std::vector<KvView> views_;
  TestVector<PageId> page_ = {PageId{0}};
  TestVector<int64_t> row_begin_ = {0};
  TestVector<int32_t> length_ = {0};
};

class GpuCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const KvLayout layout = {
        .layers = kLayers, .kv_heads = kHeads, .head_dim = kDim, .tokens_per_page = kPageTokens};
    auto device = NewCudaDevice({.groups = {{.layout = layout, .page_count = kPages}}}, 0);
    ASSERT_OK(device);
    device_ = *std::move(device);
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      kv_.push_back(device_->view(Tier::kDevice, GroupId{0}, layer).value());
    }
  }

  // Reserve, copy, compute, commit: one step of an engine. Copies owed are counted.
  TestVector<char> Step(std::initializer_list<StepPart> parts) {
    std::vector<const Sequence*> sequences;
    std::vector<int32_t> counts;
    for (const StepPart& part : parts) {
      sequences.push_back(part.sequence);
      counts.push_back(static_cast<int32_t>(part.tokens.size()));
      EXPECT_OK(part.sequence->Reserve(counts.back()));
    }
    const Plan plan = cache_->TakePlan();
    copies_ += static_cast<int32_t>(plan.copies.size());
    const absl::Status queued = device_->Copy(plan, Stream());
    EXPECT_OK(queued);
    while (plan.ticket != kNoTicket && queued.ok() && !device_->IsDone(plan.ticket).value()) {
      std::this_thread::yield();
    }
    cache_->Retire(plan.ticket, queued);
    TestVector<int64_t> row_begin(parts.size());
    TestVector<int32_t> lengths(parts.size());
    TestVector<PageId> page_ids(kPages);
    const auto table =
        cache_->PackPageTable(sequences, counts, GroupId{0}, {row_begin, lengths}, page_ids);
    EXPECT_OK(table);
    TestVector<char> output = RunLayers(*table, parts, kv_);
    for (const StepPart& part : parts) EXPECT_OK(part.sequence->Commit(part.tokens));
    return output;
  }

  std::unique_ptr<KvCache> cache_ = NewCache(OneGroup(kPageTokens, kPages));
  std::unique_ptr<Device> device_;
  std::vector<KvView> kv_;
  int32_t copies_ = 0;
};

// Token `token` of a step of `tokens`, all layers.
std::vector<char> TokenOf(const TestVector<char>& output, size_t token, size_t tokens) {
  std::vector<char> bytes;
  for (size_t layer = 0; layer < kLayers; ++layer) {
    const char* from = output.data() + (layer * tokens + token) * kQueryBytes;
    bytes.insert(bytes.end(), from, from + kQueryBytes);
  }
  return bytes;
}

TEST_F(GpuCacheTest, ForksAndHitsGiveWhatContiguousMemoryGives) {
  const std::vector<TokenId> prompt = Iota(100, 37);
  Contiguous one;
  Contiguous two;
  Sequence first = MustStart(*cache_, prompt);
  EXPECT_EQ(Step({{&first, prompt}}), one.Run(prompt));
  two.Run(prompt);

  // The tail page has 5 of 16 tokens: who writes first copies it.
  Sequence second = MustFork(first);
  for (int32_t j = 0; j < 20; ++j) {
    const TestVector<char> both = Step({{&first, {200 + j}}, {&second, {300 + j}}});
    EXPECT_EQ(TokenOf(both, 0, 2), TokenOf(one.Run({200 + j}), 0, 1)) << "token " << j;
    EXPECT_EQ(TokenOf(both, 1, 2), TokenOf(two.Run({300 + j}), 0, 1)) << "token " << j;
  }
  EXPECT_EQ(copies_, 1);

  // A third finds all of the prompt but the token it has to compute: the full pages, and a copy of
  // the tail.
  Contiguous three;
  Sequence third = MustStart(*cache_, prompt);
  const int32_t hit = third.length();
  EXPECT_EQ(hit, 36);
  const std::vector<TokenId> rest(prompt.begin() + hit, prompt.end());
  three.Run({prompt.begin(), prompt.begin() + hit});
  EXPECT_EQ(Step({{&third, rest}}), three.Run(rest));
  EXPECT_EQ(copies_, 2);
}

}  // namespace
}  // namespace quire::testing
