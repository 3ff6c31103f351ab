#include "bench/gpu/attention_problem.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>

#include "bench/gpu/yardsticks.h"

namespace quire::bench {
namespace {

int64_t PagesOf(int64_t tokens, int32_t tokens_per_page) {
  return (tokens + tokens_per_page - 1) / tokens_per_page;
}

std::vector<int32_t> QueryBegin(const BatchShape& shape) {
  std::vector<int32_t> begin = {0};
  for (const int32_t queries : shape.queries) begin.push_back(begin.back() + queries);
  return begin;
}

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};

DeviceBuffer Numbers(int64_t bytes) {
  DeviceBuffer buffer(bytes);
  LaunchFill(buffer.data(), bytes);
  return buffer;
}

}  // namespace

int64_t BatchShape::tokens() const {
  return std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
}

int64_t BatchShape::query_tokens() const {
  return std::accumulate(queries.begin(), queries.end(), int64_t{0});
}

int32_t BatchShape::longest() const { return *std::max_element(lengths.begin(), lengths.end()); }

BatchShape DecodeShape(const std::string& name, int32_t batch, int32_t length) {
  const auto rows = static_cast<size_t>(batch);
  return {name, std::vector<int32_t>(rows, length), std::vector<int32_t>(rows, 1)};
}

PagedPool::PagedPool(const BatchShape& shape, int32_t tokens_per_page, char* memory, int64_t bytes)
    : tokens_per_page_(tokens_per_page != 0
                           ? tokens_per_page
                           : *std::min_element(shape.lengths.begin(), shape.lengths.end())),
      batch_(static_cast<int32_t>(shape.lengths.size())) {
  std::vector<int64_t> row_begin;
  pages_ = 0;
  for (const int32_t length : shape.lengths) {
    row_begin.push_back(pages_);
    pages_ += PagesOf(length, tokens_per_page_);
  }
  const int64_t page_bytes = tokens_per_page_ * kTokenBytes;
  copies_ = ColdCopies(pages_ * page_bytes, bytes);
  // The same random order in each copy: only the addresses must differ.
  std::vector<int32_t> order(static_cast<size_t>(pages_));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  std::vector<int32_t> ids;
  ids.reserve(order.size() * static_cast<size_t>(copies_));
  for (int32_t copy = 0; copy < copies_; ++copy) {
    for (const int32_t page : order) ids.push_back(static_cast<int32_t>(copy * pages_) + page);
  }
  page_ids_ = DeviceBuffer(ids);
  row_begin_ = DeviceBuffer(row_begin);
  lengths_ = DeviceBuffer(shape.lengths);
  const KvStrides strides = {
      .page = page_bytes, .head = tokens_per_page_ * kTokenHeadBytes, .token = kTokenHeadBytes};
  kv_ = {.k = memory,
         .v = memory + page_bytes / 2,
         .k_strides = strides,
         .v_strides = strides,
         .page_count = static_cast<int32_t>(copies_ * pages_)};
}

PageTableView PagedPool::table(int32_t copy) const {
  return {.page_ids = page_ids_.as<PageId>() + copy * pages_,
          .row_begin = row_begin_.as<int64_t>(),
          .lengths = lengths_.as<int32_t>(),
          .batch = batch_,
          .tokens_per_page = tokens_per_page_};
}

AttentionProblem::AttentionProblem(const BatchShape& shape, int32_t group, ScheduleMode mode)
    : short_(IsShort(shape.kv_bytes()) && shape.query_tokens() < 1024) {
  cuda::Gpu gpu;
  Check(cuda::DescribeGpu(0, &gpu), "describing the GPU");
  params_.dtype = DType::kBFloat16;
  params_.query_heads = group * kKvHeads;
  params_.kv_heads = kKvHeads;
  params_.head_dim = kHeadDim;
  params_.scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
  params_.causal = true;
  params_.mode = mode;
  params_.max_queries = *std::max_element(shape.queries.begin(), shape.queries.end());
  Plan(shape, gpu);
  const int64_t heads = shape.query_tokens() * params_.query_heads;
  query_begin_ = DeviceBuffer(QueryBegin(shape));
  query_ = Numbers(heads * kTokenHeadBytes);
  output_ = DeviceBuffer(heads * kTokenHeadBytes);
  lse_ = DeviceBuffer(heads * int64_t{sizeof(float)});
  workspace_ = DeviceBuffer(cuda::WorkspaceBytes(params_, gpu));
  params_.query_begin = query_begin_.as<int32_t>();
  params_.query = query_.data();
  params_.output = output_.data();
  params_.lse = lse_.as<float>();
  params_.workspace = workspace_.data();
  params_.workspace_bytes = workspace_.bytes();
  params_.schedule = schedule_.data();
}

void AttentionProblem::Plan(const BatchShape& shape, const cuda::Gpu& gpu) {
  const std::vector<int32_t> query_begin = QueryBegin(shape);
  AttentionParams host = params_;
  host.table.lengths = shape.lengths.data();
  host.table.batch = static_cast<int32_t>(shape.lengths.size());
  host.table.tokens_per_page = 16;  // a schedule depends on no page length
  host.query_begin = query_begin.data();
  const int64_t bytes = cuda::ScheduleBytes(gpu);
  const std::unique_ptr<void, FreeMemory> schedule(
      std::aligned_alloc(64, static_cast<size_t>(bytes)));
  std::vector<double> us;
  for (int i = 0; i < 9; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    Check(cuda::BuildSchedule(host, gpu, schedule.get()), "building a schedule");
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    us.push_back(took.count());
  }
  std::nth_element(us.begin(), us.begin() + 4, us.end());
  plan_us_ = us[4];
  schedule_ = DeviceBuffer(bytes);
  schedule_.Upload(schedule.get(), bytes);
}

void AttentionProblem::Queue(const PageTableView& table, const KvView& kv) const {
  AttentionParams params = params_;
  params.table = table;
  params.kv = kv;
  Check(cuda::Attention(params, BenchStream()), "attention");
}

Timing AttentionProblem::Run(const PagedPool& pool) const {
  return MeasureCopies(pool.copies(), short_,
                       [&](int32_t copy) { Queue(pool.table(copy), pool.kv()); });
}

}  // namespace quire::bench
