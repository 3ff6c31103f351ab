// What a captured CUDA graph does: the same launch, with the same arguments, over fixed buffers
// that hold another step: other lengths, a smaller batch, empty rows, more splits than at the
// capture. Bugs 13, 14, 15 and 16 that other kernels had (docs/testing.md).

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/prepare.h"
#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_kernels.h"
#include "tests/support/attention_memory.h"
#include "tests/support/attention_twin.h"

namespace quire::testing {
namespace {

constexpr int32_t kMaxLength = 1300;
constexpr int32_t kMaxBatch = 6;
constexpr int32_t kMaxQueries = 40;

// 64: tensor cores. 32: the plain kernel.
CaseShape ShapeOf(std::vector<CaseRow> rows, int32_t head_dim) {
  return {.rows = std::move(rows),
          .dtype = DType::kBFloat16,
          .kv_heads = 2,
          .group = 4,
          .head_dim = head_dim};
}

// The captured launch: pools and page tables of six rows of the greatest length, and room for six
// rows of queries. Everything that a step uploads begins as garbage.
template <int kHeadDim>
class Captured {
 public:
  explicit Captured(ScheduleMode mode)
      : gpu_(TwinGpu(2)),
        pool_(ShapeOf(std::vector<CaseRow>(kMaxBatch, {kMaxLength, kMaxQueries}), kHeadDim)),
        schedule_(gpu_),
        lengths_(std::vector<int32_t>(kMaxBatch, kPoisonPage)),
        query_begin_(std::vector<int32_t>(kMaxBatch + 1, kPoisonPage)),
        queries_(pool_.params().query, kMaxBatch * kMaxQueries * kTokenBytes),
        output_(queries_.size()) {
    AttentionParams params = pool_.params();
    params.mode = mode;
    params.max_queries = kMaxQueries;
    params.table.lengths = lengths_.data();
    params.query_begin = query_begin_.data();
    params.query = queries_.data();
    params.output = output_.data();
    params.lse = nullptr;
    params.schedule = schedule_.data();
    const std::vector<char> poison(static_cast<size_t>(cuda::WorkspaceBytes(params, gpu_)), '\xff');
    workspace_ = GuardedArray<char>(std::span<const char>(poison));
    params.workspace = workspace_.data();
    params.workspace_bytes = static_cast<int64_t>(poison.size());
    params_ = params;
    EXPECT_EQ(cuda::PrepareAttention(params, gpu_, kKind, &captured_), LaunchError::kOk);
  }

  // Uploads a step and runs the captured launch. Row i of the step continues row i of the pool.
  void Replay(AttentionCase& step) {
    const AttentionParams from = step.params();
    AttentionParams host = params_;
    host.table = from.table;
    host.table.page_ids = nullptr;
    host.table.row_begin = nullptr;
    host.query_begin = from.query_begin;
    ASSERT_EQ(cuda::BuildSchedule(host, gpu_, schedule_.data()), LaunchError::kOk);
    std::fill_n(lengths_.data(), kMaxBatch, kPoisonPage);
    std::fill_n(query_begin_.data(), kMaxBatch + 1, kPoisonPage);
    std::copy_n(from.table.lengths, from.table.batch, lengths_.data());
    std::copy_n(from.query_begin, from.table.batch + 1, query_begin_.data());
    std::memcpy(queries_.data(), from.query,
                static_cast<size_t>(step.query_tokens() * kTokenBytes));
    std::fill_n(output_.data(), output_.size(), '\xff');
    RunKernels<kHeadDim>(params_, kKind, captured_, cuda::WorkersOf(params_, gpu_));
  }

  // Against the same step launched for itself, bit by bit; and nothing written past its queries.
  void ExpectSame(AttentionCase& step) const {
    const AttentionParams params = [&] {
      AttentionParams p = step.params();
      p.mode = params_.mode;
      return p;
    }();
    step.PoisonOutput();
    ASSERT_EQ(LaunchOnTwin<kHeadDim>(params, gpu_), LaunchError::kOk);
    const auto bytes = static_cast<size_t>(step.query_tokens() * kTokenBytes);
    EXPECT_EQ(std::memcmp(output_.data(), params.output, bytes), 0);
    EXPECT_TRUE(std::all_of(output_.data() + bytes, output_.data() + output_.size(), [](char c) {
      return c == '\xff';
    })) << "a block without work has written";
  }

 private:
  static constexpr cuda::AttentionKind kKind =
      kHeadDim == 64 ? cuda::AttentionKind::kTensor : cuda::AttentionKind::kPlain;
  static constexpr int64_t kTokenBytes = 2 * 4 * kHeadDim * 2;

  struct Buffer {
    Buffer(const void* /*like*/, int64_t bytes) : Buffer(static_cast<size_t>(bytes)) {}
    explicit Buffer(size_t bytes) : memory(bytes) {}
    char* data() const { return memory.data(); }
    size_t size() const { return memory.size(); }
    Mapping memory;
  };

  cuda::Gpu gpu_;
  AttentionCase pool_;
  TwinSchedule schedule_;
  GuardedArray<int32_t> lengths_;
  GuardedArray<int32_t> query_begin_;
  Buffer queries_;
  Buffer output_;
  GuardedArray<char> workspace_;
  AttentionParams params_;
  cuda::AttentionArgs captured_;
};

template <int kHeadDim>
void ReplayAll(ScheduleMode mode) {
  Captured<kHeadDim> captured(mode);
  const std::vector<std::vector<CaseRow>> steps = {
      {{1300}, {1}, {64}, {700}, {65}, {513}},  // decode, full batch
      {{1}},                                    // one short row: most blocks have no work
      {{1299}, {1300}},                         // smaller batch, long rows: merged
      {{10, 0}, {0, 0}, {900}, {5, 0}},         // rows without queries, and an empty one
      {{1300, 40}, {40, 40}, {300, 2}},         // prefill, after a launch of decode only
      {},                                       // nobody
      {{1300}, {1300}, {1300}, {1300}, {1300}, {1300}},
      {{1}},
  };
  for (size_t i = 0; i < steps.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "step " << i);
    AttentionCase step(ShapeOf(steps[i], kHeadDim));
    captured.Replay(step);
    captured.ExpectSame(step);
  }
}

TEST(TwinReplayTest, OtherStepsOverACapturedLaunchBatchInvariant) {
  ReplayAll<64>(ScheduleMode::kBatchInvariant);
}

TEST(TwinReplayTest, OtherStepsOverACapturedLaunchBalanced) {
  ReplayAll<64>(ScheduleMode::kBalanced);
}

TEST(TwinReplayTest, OtherStepsOverACapturedLaunchOfThePlainKernel) {
  ReplayAll<32>(ScheduleMode::kBatchInvariant);
}

}  // namespace
}  // namespace quire::testing
