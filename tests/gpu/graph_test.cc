// A captured attention call, replayed with what a serving engine changes from step to step: other
// lengths and pages, fewer rows, rows without queries, decode in place of prefill. Each replay must
// give the bits of an eager call, and write nothing else.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/gpu/device_memory.h"
#include "tests/gpu/gpu_kernels.h"
#include "tests/support/attention_case.h"

namespace quire::testing {
namespace {

constexpr int32_t kMaxRows = 7;
constexpr int32_t kMaxQueries = 70;       // of a row: more than one prefill tile at 2 heads
constexpr int32_t kMaxQueryTokens = 200;  // of a step
constexpr int32_t kGroup = 2;

// One row of a step: the first `length` tokens of row `source` of kCaptured, or all of them.
struct StepRow {
  int32_t source;
  int32_t length;
  int32_t queries;
};
using StepRows = std::vector<StepRow>;

const StepRows kCaptured = {{0, 1500, 1}, {1, 700, 1}, {2, 64, 1}, {3, 300, 1},
                            {4, 1, 1},    {5, 900, 1}, {6, 130, 1}};
const std::vector<StepRows> kReplayed = {
    kCaptured,
    {{0, 1400, 1}, {1, 699, 1}, {2, 63, 1}, {3, 1, 1}, {4, 1, 1}, {5, 899, 1}, {6, 129, 1}},
    {{5, 37, 1}},                                            // a batch of one
    {{6, 130, 1}, {0, 1500, 1}, {3, 299, 1}},                // fewer rows, in another order
    {{0, 1500, 0}, {1, 700, 1}, {2, 64, 0}, {3, 0, 0}},      // rows without queries
    {{0, 1500, 0}, {1, 0, 0}},                               // no query at all
    {{3, 70, 70}, {0, 1500, 1}, {2, 64, 64}, {1, 650, 33}},  // prompts
    {},                                                      // no row
    kCaptured,
};

// What a step changes, in places that do not move.
struct StepBuffers {
  StepBuffers(const cuda::Gpu& gpu, size_t output_bytes, size_t lses)
      : schedule_bytes(static_cast<size_t>(cuda::ScheduleBytes(gpu))),
        schedule(schedule_bytes),
        page_ids(4096 * sizeof(PageId)),
        row_begin(kMaxRows * sizeof(int64_t)),
        lengths(kMaxRows * sizeof(int32_t)),
        query_begin((kMaxRows + 1) * sizeof(int32_t)),
        output(output_bytes),
        lse(lses * sizeof(float)) {}

  size_t schedule_bytes;
  DeviceMemory schedule;
  DeviceMemory page_ids;
  DeviceMemory row_begin;
  DeviceMemory lengths;
  DeviceMemory query_begin;
  DeviceMemory output;
  DeviceMemory lse;
};

class GraphTest : public ::testing::TestWithParam<int32_t> {
 protected:
  void Prepare(int32_t head_dim, ScheduleMode mode) {
    CaseShape shape = {.dtype = DType::kBFloat16, .group = kGroup, .head_dim = head_dim};
    for (const StepRow& row : kCaptured) shape.rows.push_back({row.length});
    pool_ = std::make_unique<AttentionCase>(shape);
    params_ = pool_->params();
    params_.mode = mode;
    params_.max_queries = kMaxQueries;
    const int64_t values = int64_t{kMaxQueryTokens} * params_.query_heads * head_dim;
    query_.resize(static_cast<size_t>(2 * values));
    for (int64_t i = 0; i < values; ++i) {
      WriteElement(query_.data(), i, params_.dtype, DrawValue(static_cast<uint64_t>(i)));
    }
    params_.query = query_.data();
    params_.workspace_bytes = cuda::WorkspaceBytes(params_, gpu_);
    workspace_ = std::make_unique<DeviceMemory>(static_cast<size_t>(params_.workspace_bytes));
    params_.workspace = workspace_->data();
  }

  std::unique_ptr<StepBuffers> MakeBuffers() const {
    return std::make_unique<StepBuffers>(
        gpu_, query_.size(), static_cast<size_t>(kMaxQueryTokens * params_.query_heads));
  }

  // Builds the step's schedule and writes all that it changes; poisons what it will give.
  void Upload(const StepRows& rows, StepBuffers& to) {
    std::vector<PageId> ids;
    std::vector<int64_t> row_begin;
    std::vector<int32_t> lengths;
    std::vector<int32_t> query_begin = {0};
    const PageTableView& source = params_.table;
    for (const StepRow& row : rows) {
      const PageId* first = source.page_ids + source.row_begin[row.source];
      row_begin.push_back(static_cast<int64_t>(ids.size()));
      ids.insert(ids.end(), first, first + (row.length + 15) / 16);
      ids.push_back(PageId{kPoisonPage});
      lengths.push_back(row.length);
      query_begin.push_back(query_begin.back() + row.queries);
    }
    AttentionParams host = params_;
    host.table.page_ids = nullptr;  // entries past a row's are poison
    host.table.row_begin = row_begin.data();
    host.table.lengths = lengths.data();
    host.table.batch = static_cast<int32_t>(rows.size());
    host.query_begin = query_begin.data();
    const std::vector<char> garbage(to.schedule_bytes, '\x7f');
    const GuardedArray<char> schedule((std::span<const char>(garbage)));
    ASSERT_EQ(cuda::BuildSchedule(host, gpu_, schedule.data()), LaunchError::kOk);
    to.schedule.Write(schedule.data(), to.schedule_bytes);
    for (DeviceMemory* array : {&to.page_ids, &to.row_begin, &to.lengths, &to.query_begin}) {
      array->Fill(0x7f);  // what is not of this step may not be read
    }
    to.page_ids.Write(ids.data(), ids.size() * sizeof(PageId));
    to.row_begin.Write(row_begin.data(), row_begin.size() * sizeof(int64_t));
    to.lengths.Write(lengths.data(), lengths.size() * sizeof(int32_t));
    to.query_begin.Write(query_begin.data(), query_begin.size() * sizeof(int32_t));
    to.output.Fill(0xff);
    to.lse.Fill(0xff);
    workspace_->Fill(0xff);
  }

  AttentionParams ParamsOver(const StepBuffers& buffers, int32_t batch) const {
    AttentionParams params = params_;
    params.table.page_ids = buffers.page_ids.as<PageId>();
    params.table.row_begin = buffers.row_begin.as<int64_t>();
    params.table.lengths = buffers.lengths.as<int32_t>();
    params.table.batch = batch;
    params.query_begin = buffers.query_begin.as<int32_t>();
    params.schedule = buffers.schedule.data();
    params.output = buffers.output.data();
    params.lse = buffers.lse.as<float>();
    return params;
  }

  cuda::Gpu gpu_ = ThisGpu();
  std::unique_ptr<AttentionCase> pool_;
  AttentionParams params_ = {};
  TestVector<char> query_;
  std::unique_ptr<DeviceMemory> workspace_;
};

bool AllPoison(const std::vector<char>& bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == '\xff'; });
}

TEST_P(GraphTest, ReplaysOtherStepsBitForBit) {
  for (const ScheduleMode mode : {ScheduleMode::kBatchInvariant, ScheduleMode::kBalanced}) {
    Prepare(GetParam(), mode);
    const auto fixed = MakeBuffers();
    const auto apart = MakeBuffers();
    ASSERT_NO_FATAL_FAILURE(Upload(kCaptured, *fixed));
    ExpectCuda(cudaDeviceSynchronize());
    const TestStream stream;
    const AttentionParams captured = ParamsOver(*fixed, kMaxRows);
    // As an engine does: kernels are loaded by their first launch, which a capture is not.
    ASSERT_EQ(Finished(cuda::Attention(captured, nullptr)), LaunchError::kOk);
    LaunchError launched = LaunchError::kOk;
    const CapturedGraph graph(stream.get(),
                              [&] { launched = cuda::Attention(captured, stream.get()); });
    ASSERT_EQ(launched, LaunchError::kOk);
    for (size_t step = 0; step < kReplayed.size(); ++step) {
      SCOPED_TRACE(step);
      const StepRows& rows = kReplayed[step];
      ASSERT_NO_FATAL_FAILURE(Upload(rows, *fixed));
      ExpectCuda(cudaDeviceSynchronize());
      graph.Replay();
      ExpectCuda(cudaStreamSynchronize(stream.get()));
      ASSERT_NO_FATAL_FAILURE(Upload(rows, *apart));
      const AttentionParams eager = ParamsOver(*apart, static_cast<int32_t>(rows.size()));
      ASSERT_EQ(Finished(cuda::Attention(eager, nullptr)), LaunchError::kOk);
      EXPECT_TRUE(fixed->output.Read() == apart->output.Read());
      EXPECT_TRUE(fixed->lse.Read() == apart->lse.Read());
      // Two calls that write nothing would agree, too.
      int32_t queries = 0;
      for (const StepRow& row : rows) queries += row.queries;
      EXPECT_EQ(AllPoison(fixed->output.Read()), queries == 0);
    }
  }
}

// 32: the plain kernel.
INSTANTIATE_TEST_SUITE_P(HeadDims, GraphTest, ::testing::Values(32, 64, 128, 256));

}  // namespace
}  // namespace quire::testing
