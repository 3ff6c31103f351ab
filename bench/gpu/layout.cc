// Does a page that holds all layers cost reads? One layer of 64 then lies scattered over the whole
// pool: 64 KB (16 tokens) of every 4 MB, so that each read touches a translation of its own.

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "bench/gpu/attention_problem.h"
#include "bench/gpu/cuda_util.h"
#include "bench/gpu/measure.h"
#include "bench/gpu/sections.h"
#include "bench/gpu/yardsticks.h"

namespace quire::bench {
namespace {

constexpr int32_t kLayers = 64;
constexpr int32_t kLayersRead = 8;  // in turn, spread over all
constexpr int32_t kRowTokens = 8192;
constexpr int32_t kMostRows = 32;  // 1 GB of K and V

class LayoutPool {
 public:
  LayoutPool(const Arena& arena, int32_t tokens_per_page)
      : tokens_per_page_(tokens_per_page), memory_(arena.memory) {
    pages_ = arena.bytes / (run_bytes() * kLayers);
    const int64_t row_pages = kRowTokens / tokens_per_page;
    rows_ = static_cast<int32_t>(std::min<int64_t>(kMostRows, pages_ / row_pages));
    std::vector<int32_t> ids(static_cast<size_t>(pages_));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937(3));
    ids.resize(static_cast<size_t>(rows_ * row_pages));
    std::vector<int64_t> row_begin;
    for (int32_t row = 0; row < rows_; ++row) row_begin.push_back(row * row_pages);
    page_ids_ = DeviceBuffer(ids);
    row_begin_ = DeviceBuffer(row_begin);
    lengths_ = DeviceBuffer(std::vector<int32_t>(static_cast<size_t>(rows_), kRowTokens));
  }

  int32_t rows() const { return rows_; }
  int64_t run_bytes() const { return tokens_per_page_ * kTokenBytes; }  // one layer of one page
  int64_t bytes() const { return pages_ * run_bytes() * kLayers; }
  int64_t bytes_read() const { return int64_t{rows_} * kRowTokens * kTokenBytes; }
  const int32_t* page_ids() const { return page_ids_.as<int32_t>(); }
  int32_t pages_read() const { return rows_ * (kRowTokens / tokens_per_page_); }

  int64_t Stride(bool page_major) const { return page_major ? run_bytes() * kLayers : run_bytes(); }
  char* Layer(bool page_major, int32_t layer) const {
    return memory_ + layer * (page_major ? run_bytes() : run_bytes() * pages_);
  }
  KvView View(bool page_major, int32_t layer) const {
    const KvStrides strides = {.page = Stride(page_major),
                               .head = tokens_per_page_ * kTokenHeadBytes,
                               .token = kTokenHeadBytes};
    char* const base = Layer(page_major, layer);
    return {.k = base,
            .v = base + run_bytes() / 2,
            .k_strides = strides,
            .v_strides = strides,
            .page_count = static_cast<int32_t>(pages_)};
  }
  PageTableView Table() const {
    return {.page_ids = page_ids_.as<PageId>(),
            .row_begin = row_begin_.as<int64_t>(),
            .lengths = lengths_.as<int32_t>(),
            .batch = rows_,
            .tokens_per_page = tokens_per_page_};
  }

 private:
  int32_t tokens_per_page_;
  char* memory_;
  int64_t pages_;
  int32_t rows_;
  DeviceBuffer page_ids_;
  DeviceBuffer row_begin_;
  DeviceBuffer lengths_;
};

// Both in turn, twice: what the card does meanwhile meets both.
struct Comparison {
  Timing page_major = {1e30, 1e30, 0};
  Timing layer_major = {1e30, 1e30, 0};
};
template <typename Queue>
Comparison Compare(Queue queue) {
  Comparison best;
  for (int round = 0; round < 2; ++round) {
    for (const bool page_major : {true, false}) {
      const Timing timing = MeasureCopies(
          kLayersRead, false, [&](int32_t copy) { queue(page_major, copy * 29 % kLayers); });
      Timing& kept = page_major ? best.page_major : best.layer_major;
      if (timing.median_us < kept.median_us) kept = timing;
    }
  }
  return best;
}

double AddRow(const std::string& name, const LayoutPool& pool, const Comparison& c,
              const Ceilings& ceilings, Report& report) {
  const auto bytes = static_cast<double>(pool.bytes_read());
  const double loss = 100 * (1 - c.layer_major.median_us / c.page_major.median_us);
  report.Add({name,
              {{"pool GB", static_cast<double>(pool.bytes()) * 1e-9},
               {"read GB", bytes * 1e-9},
               {"page-major", bytes / c.page_major.median_us * 1e-3},
               {"p-m, p95", bytes / c.page_major.p95_us * 1e-3},
               {"layer-major", bytes / c.layer_major.median_us * 1e-3},
               {"l-m, p95", bytes / c.layer_major.p95_us * 1e-3},
               {"% of read", bytes / c.page_major.median_us * 1e8 / ceilings.read},
               {"loss %", loss}}});
  return loss;
}

}  // namespace

void MeasureLayout(const Arena& arena, const Ceilings& ceilings, Report& report) {
  report.Section("Page-major against layer-major: 64 layers, one of them read, GB/s");
  const DeviceBuffer sink(64);
  cuda::Gpu gpu;
  Check(cuda::DescribeGpu(0, &gpu), "describing the GPU");
  for (const int32_t tokens_per_page : {16, 1, 64}) {
    const LayoutPool pool(arena, tokens_per_page);
    const std::string pages = ", pages of " + std::to_string(tokens_per_page);
    const Comparison plain = Compare([&](bool page_major, int32_t layer) {
      LaunchReadRuns(pool.Layer(page_major, layer), pool.page_ids(), pool.pages_read(),
                     pool.Stride(page_major), pool.run_bytes(), 4 * gpu.multiprocessors,
                     sink.as<uint32_t>());
    });
    AddRow("plain reads" + pages, pool, plain, ceilings, report);
    const BatchShape shape = DecodeShape("layout", pool.rows(), kRowTokens);
    const AttentionProblem problem(shape, 4, ScheduleMode::kBatchInvariant);
    const Comparison attention = Compare([&](bool page_major, int32_t layer) {
      problem.Queue(pool.Table(), pool.View(page_major, layer));
    });
    const double loss = AddRow("attention" + pages, pool, attention, ceilings, report);
    if (tokens_per_page == 16) {
      report.Target({"page-major loses against layer-major, 64 layers x 16 tokens, %", loss, 2,
                     /*at_most=*/true});
    }
  }
}

}  // namespace quire::bench
