// Attention, append and copy on the CPU, each beside what the machine's memory allows in the same
// run. Decode reads every byte of K and V once, so it is held against the streaming-read rate,
// measured just before and just after it.
//
// fraction_of_read_rate compares the best pass with the best read: on a shared machine a mean
// mostly measures the neighbours. bytes_per_second is Google Benchmark's mean.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "bench/micro/stream_rate.h"
#include "kernels/half.h"
#include "quire/attention.h"

namespace quire::bench {
namespace {

constexpr int32_t kKvHeads = 8;
constexpr int32_t kHeadDim = 128;

int32_t Cores() { return static_cast<int32_t>(std::thread::hardware_concurrency()); }

// `count` finite numbers of a type, about normal.
std::vector<char> Numbers(DType dtype, int64_t count) {
  std::vector<char> bytes(static_cast<size_t>(count * SizeOf(dtype)));
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < count; ++i) {
    const float value = normal(random);
    const uint16_t half = dtype == DType::kFloat16 ? ToFloat16(value) : ToBFloat16(value);
    char* to = bytes.data() + i * SizeOf(dtype);
    std::memcpy(to, dtype == DType::kFloat32 ? static_cast<const void*>(&value) : &half,
                static_cast<size_t>(SizeOf(dtype)));
  }
  return bytes;
}

// A pool of one layer, its pages in shuffled order in the tables of `batch` equal rows.
class Problem {
 public:
  Problem(DType dtype, int32_t batch, int32_t length, int32_t queries, int32_t group,
          int32_t tokens_per_page)
      : pages_per_row_((length + tokens_per_page - 1) / tokens_per_page),
        page_bytes_(2 * int64_t{kKvHeads} * tokens_per_page * kHeadDim * SizeOf(dtype)),
        pool_(static_cast<size_t>(page_bytes_ * pages_per_row_ * batch)),
        lengths_(static_cast<size_t>(batch), length) {
    const std::vector<char> page = Numbers(dtype, page_bytes_ / SizeOf(dtype));
    for (size_t at = 0; at + page.size() <= pool_.size(); at += page.size()) {
      std::memcpy(pool_.data() + at, page.data(), page.size());
    }
    std::vector<int32_t> ids(static_cast<size_t>(pages_per_row_ * batch));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937(1));
    for (const int32_t id : ids) ids_.push_back(PageId{id});
    for (int32_t row = 0; row <= batch; ++row) {
      row_begin_.push_back(int64_t{row} * pages_per_row_);
      query_begin_.push_back(row * queries);
    }
    const int64_t values = int64_t{batch} * queries * kKvHeads * group * kHeadDim;
    query_ = Numbers(dtype, values);
    output_.resize(query_.size());
    FillParams(dtype, batch, group, tokens_per_page);
  }

  AttentionParams& params() { return params_; }
  int64_t kv_bytes() const { return static_cast<int64_t>(pool_.size()); }
  int64_t page_bytes() const { return page_bytes_; }
  int64_t slots() const { return int64_t{params_.kv.page_count} * params_.table.tokens_per_page; }

 private:
  void FillParams(DType dtype, int32_t batch, int32_t group, int32_t tokens_per_page) {
    const int64_t token = int64_t{kHeadDim} * SizeOf(dtype);
    const KvStrides strides = {
        .page = page_bytes_, .head = token * tokens_per_page, .token = token};
    params_ = {};
    params_.table = {.page_ids = ids_.data(),
                     .row_begin = row_begin_.data(),
                     .lengths = lengths_.data(),
                     .batch = batch,
                     .tokens_per_page = tokens_per_page};
    params_.kv = {.k = pool_.data(),
                  .v = pool_.data() + page_bytes_ / 2,
                  .k_strides = strides,
                  .v_strides = strides,
                  .page_count = static_cast<int32_t>(ids_.size())};
    params_.dtype = dtype;
    params_.query_heads = kKvHeads * group;
    params_.kv_heads = kKvHeads;
    params_.head_dim = kHeadDim;
    params_.query_begin = query_begin_.data();
    params_.query = query_.data();
    params_.output = output_.data();
    params_.scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
    params_.causal = true;
    workspace_.resize(static_cast<size_t>(cpu::WorkspaceBytes(params_) + 64));
    const auto address = reinterpret_cast<uintptr_t>(workspace_.data());
    params_.workspace = workspace_.data() + (64 - address % 64) % 64;
    params_.workspace_bytes = cpu::WorkspaceBytes(params_);
  }

  int64_t pages_per_row_;
  int64_t page_bytes_;
  HugeBuffer pool_;
  std::vector<PageId> ids_;
  std::vector<int64_t> row_begin_;
  std::vector<int32_t> lengths_;
  std::vector<int32_t> query_begin_;
  std::vector<char> query_;
  std::vector<char> output_;
  std::vector<char> workspace_;
  AttentionParams params_;
};

// Runs `pass` for Google Benchmark; returns the seconds of its fastest.
template <typename Pass>
double Measure(benchmark::State& state, Pass pass) {
  double best = std::numeric_limits<double>::infinity();
  pass();  // warms threads and caches
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    pass();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::min(best, seconds.count());
  }
  return best;
}

void CheckOk(benchmark::State& state, LaunchError error) {
  if (error != LaunchError::kOk) state.SkipWithError(Describe(error));
}

// dtype, tokens a page, query heads per KV head, rows, length
void BM_AttentionDecode(benchmark::State& state) {
  const auto dtype = static_cast<DType>(state.range(0));
  Problem problem(dtype, static_cast<int32_t>(state.range(3)), static_cast<int32_t>(state.range(4)),
                  1, static_cast<int32_t>(state.range(2)), static_cast<int32_t>(state.range(1)));
  double read_rate = ReadRate(Cores());
  const double best = Measure(state, [&] { CheckOk(state, cpu::Attention(problem.params())); });
  read_rate = std::max(read_rate, ReadRate(Cores()));
  const auto bytes = static_cast<double>(problem.kv_bytes());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * problem.kv_bytes());
  state.counters["best_bytes_per_second"] = bytes / best;
  state.counters["read_rate"] = read_rate;
  state.counters["fraction_of_read_rate"] = bytes / best / read_rate;
}
BENCHMARK(BM_AttentionDecode)
    ->ArgNames({"dtype", "tpp", "group", "rows", "length"})
    ->Args({2, 16, 4, 32, 4096})  // bf16: 512 MB
    ->Args({2, 16, 1, 32, 4096})
    ->Args({2, 16, 8, 32, 4096})
    ->Args({2, 16, 4, 256, 512})    // short rows
    ->Args({2, 16, 4, 1, 131072})   // one long row
    ->Args({2, 4096, 4, 32, 4096})  // one page a row: contiguous
    ->Args({2, 1, 4, 32, 4096})     // one token a page
    ->Args({1, 16, 4, 32, 4096})    // fp16
    ->Args({0, 16, 4, 16, 4096})    // fp32: 512 MB
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

// The same pass over 16-token pages and over one page a row, in turn; their best against each
// other.
void BM_AttentionPagedAgainstContiguous(benchmark::State& state) {
  Problem paged(DType::kBFloat16, 32, 4096, 1, 4, 16);
  Problem contiguous(DType::kBFloat16, 32, 4096, 1, 4, 4096);
  double best[2] = {1e30, 1e30};
  for (auto _ : state) {
    for (int i = 0; i < 2; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      CheckOk(state, cpu::Attention((i == 0 ? paged : contiguous).params()));
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      best[i] = std::min(best[i], seconds.count());
    }
  }
  state.counters["paged_speed_of_contiguous"] = best[1] / best[0];
}
BENCHMARK(BM_AttentionPagedAgainstContiguous)->Unit(benchmark::kMillisecond)->UseRealTime();

// dtype, length: one prompt, all its queries; multiply-adds of the visible keys only.
void BM_AttentionPrefill(benchmark::State& state) {
  const auto length = static_cast<int32_t>(state.range(1));
  Problem problem(static_cast<DType>(state.range(0)), 1, length, length, 4, 16);
  const double best = Measure(state, [&] { CheckOk(state, cpu::Attention(problem.params())); });
  const double pairs = 0.5 * length * (length + 1) * kKvHeads * 4;
  state.counters["best_flops"] = pairs * 4 * kHeadDim / best;
}
BENCHMARK(BM_AttentionPrefill)
    ->ArgNames({"dtype", "length"})
    ->Args({2, 1024})
    ->Args({0, 1024})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

// A step's new tokens to random slots, against a memcpy of as many bytes.
void BM_AppendKv(benchmark::State& state) {
  const auto tokens = static_cast<int32_t>(state.range(0));
  Problem problem(DType::kBFloat16, 32, 4096, 1, 4, 16);
  const int64_t bytes = int64_t{tokens} * kKvHeads * kHeadDim * 2;
  const HugeBuffer key(static_cast<size_t>(bytes));
  const HugeBuffer value(static_cast<size_t>(bytes));
  std::vector<int64_t> slots(static_cast<size_t>(problem.slots()));
  std::iota(slots.begin(), slots.end(), 0);
  std::shuffle(slots.begin(), slots.end(), std::mt19937(1));
  const AppendKvParams params = {.kv = problem.params().kv,
                                 .dtype = DType::kBFloat16,
                                 .kv_heads = kKvHeads,
                                 .head_dim = kHeadDim,
                                 .tokens_per_page = 16,
                                 .token_count = tokens,
                                 .slots = slots.data(),
                                 .key = key.data(),
                                 .value = value.data(),
                                 .key_token_stride = 0,
                                 .value_token_stride = 0,
                                 .threads = nullptr};
  const double best = Measure(state, [&] { CheckOk(state, cpu::AppendKv(params)); });
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * 2 * bytes);
  state.counters["best_bytes_per_second"] = static_cast<double>(2 * bytes) / best;
}
BENCHMARK(BM_AppendKv)->Arg(32)->Arg(65536)->Unit(benchmark::kMicrosecond)->UseRealTime();

// Whole pages inside the pool, against one memcpy (one thread) of as many bytes.
void BM_CopyPages(benchmark::State& state) {
  const int64_t page_bytes = state.range(0);
  const auto pages = static_cast<int32_t>((int64_t{256} << 20) / page_bytes);
  const HugeBuffer pool(static_cast<size_t>(2 * page_bytes * pages));
  std::vector<PageId> from;
  std::vector<PageId> to;
  for (int32_t i = 0; i < pages; ++i) {
    from.push_back(PageId{i});
    to.push_back(PageId{pages + (i * 7 + 3) % pages});
  }
  const CopyPagesParams params = {.base = pool.data(),
                                  .page_stride = page_bytes,
                                  .page_bytes = page_bytes,
                                  .page_count = 2 * pages,
                                  .count = pages,
                                  .from = from.data(),
                                  .to = to.data(),
                                  .threads = nullptr};
  const int64_t bytes = page_bytes * pages;
  const double best = Measure(state, [&] { CheckOk(state, cpu::CopyPages(params)); });
  double best_memcpy = 1e30;
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    std::memcpy(pool.data() + bytes, pool.data(), static_cast<size_t>(bytes));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best_memcpy = std::min(best_memcpy, seconds.count());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * bytes);
  state.counters["fraction_of_memcpy"] = best_memcpy / best;
}
BENCHMARK(BM_CopyPages)->Arg(65536)->Arg(1 << 20)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace quire::bench
