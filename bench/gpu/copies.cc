// Append and page copy, each beside a device-to-device copy of as many bytes.

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
#include "quire/attention.h"

namespace quire::bench {
namespace {

constexpr int32_t kPageTokens = 16;

std::vector<int32_t> Shuffled(int32_t count, uint32_t seed) {
  std::vector<int32_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  return order;
}

void QueueMemcpy(char* to, const char* from, int64_t bytes) {
  Check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice,
                        BenchStream()),
        "copying");
}

// `tokens` new tokens of equal rows, in copies: | K and V of the tokens | their pages |.
class AppendProblem {
 public:
  AppendProblem(const Arena& arena, int32_t tokens)
      : memory_(arena.memory),
        bytes_(tokens * kTokenBytes),
        copies_(ColdCopies(2 * bytes_, arena.bytes)) {
    const int32_t rows = std::min(tokens / kPageTokens, 64);
    const int32_t row_tokens = tokens / rows;
    const std::vector<int32_t> pages = Shuffled(tokens / kPageTokens, 5);
    std::vector<int64_t> row_begin;
    std::vector<int32_t> query_begin;
    for (int32_t row = 0; row <= rows; ++row) {
      row_begin.push_back(row * (row_tokens / kPageTokens));
      query_begin.push_back(row * row_tokens);
    }
    std::vector<int64_t> slots;
    for (int32_t t = 0; t < tokens; ++t) {
      const auto page = static_cast<size_t>(t / kPageTokens);
      slots.push_back(int64_t{pages[page]} * kPageTokens + t % kPageTokens);
    }
    page_ids_ = DeviceBuffer(pages);
    row_begin_ = DeviceBuffer(row_begin);
    query_begin_ = DeviceBuffer(query_begin);
    lengths_ = DeviceBuffer(std::vector<int32_t>(static_cast<size_t>(rows), row_tokens));
    slots_ = DeviceBuffer(slots);
    FillParams(tokens, rows);
  }

  int64_t bytes() const { return bytes_; }
  Timing Append(bool by_slots) const {
    return MeasureCopies(copies_, IsShort(bytes_), [&](int32_t copy) {
      AppendKvParams params = params_;
      char* const source = Copy(copy);
      params.key = source;
      params.value = source + bytes_ / 2;
      params.kv.k = source + bytes_;
      params.kv.v = source + bytes_ + kPageTokens * kTokenBytes / 2;
      if (by_slots) params.slots = slots_.as<int64_t>();
      Check(cuda::AppendKv(params, BenchStream()), "append");
    });
  }
  Timing Memcpy() const {
    return MeasureFaster(copies_, IsShort(bytes_), [&](int32_t copy) {
      QueueMemcpy(Copy(copy) + bytes_, Copy(copy), bytes_);
    });
  }

 private:
  char* Copy(int32_t copy) const { return memory_ + 2 * copy * bytes_; }

  void FillParams(int32_t tokens, int32_t rows) {
    const KvStrides strides = {.page = kPageTokens * kTokenBytes,
                               .head = kPageTokens * kTokenHeadBytes,
                               .token = kTokenHeadBytes};
    params_.kv.k_strides = params_.kv.v_strides = strides;
    params_.kv.page_count = tokens / kPageTokens;
    params_.dtype = DType::kBFloat16;
    params_.kv_heads = kKvHeads;
    params_.head_dim = kHeadDim;
    params_.tokens_per_page = kPageTokens;
    params_.token_count = tokens;
    params_.table = {.page_ids = page_ids_.as<PageId>(),
                     .row_begin = row_begin_.as<int64_t>(),
                     .lengths = lengths_.as<int32_t>(),
                     .batch = rows,
                     .tokens_per_page = kPageTokens};
    params_.query_begin = query_begin_.as<int32_t>();
  }

  char* memory_;
  int64_t bytes_;  // of K and V
  int32_t copies_;
  AppendKvParams params_ = {};
  DeviceBuffer page_ids_;
  DeviceBuffer row_begin_;
  DeviceBuffer query_begin_;
  DeviceBuffer lengths_;
  DeviceBuffer slots_;
};

}  // namespace

void MeasureAppend(const Arena& arena, Report& report) {
  report.Section("Append, bfloat16, 8 KV heads x 128, pages of 16, one layer");
  double worst = 1e30;
  for (const int32_t tokens : {256, 8192, 65536, 262144}) {
    const AppendProblem problem(arena, tokens);
    const Timing memcpy = problem.Memcpy();
    for (const bool by_slots : {false, true}) {
      const Timing timing = problem.Append(by_slots);
      const double per_cent = 100 * memcpy.median_us / timing.median_us;
      if (tokens >= 65536) worst = std::min(worst, per_cent);
      report.Add({std::to_string(tokens) + " tokens, " + (by_slots ? "slots" : "page table"),
                  {{"us", timing.median_us},
                   {"p95", timing.p95_us},
                   {"GB/s r+w", 2e-3 * static_cast<double>(problem.bytes()) / timing.median_us},
                   {"copy us", memcpy.median_us},
                   {"% of copy", per_cent}}});
    }
  }
  report.Target({"append, >= 64k tokens: % of a device-to-device copy", worst, 88,
                 /*at_most=*/false});
}

void MeasurePageCopies(const Arena& arena, Report& report) {
  report.Section("Page copy, 512 MB between random pages of one pool");
  constexpr int64_t kBytes = int64_t{512} << 20;
  if (arena.bytes < 2 * kBytes) return;
  const Timing memcpy = MeasureFaster(
      1, false, [&](int32_t) { QueueMemcpy(arena.memory + kBytes, arena.memory, kBytes); });
  for (const int64_t page_bytes :
       {int64_t{1} << 16, int64_t{1} << 18, int64_t{1} << 20, int64_t{1} << 22}) {
    const auto count = static_cast<int32_t>(kBytes / page_bytes);
    std::vector<PageId> pages;
    for (const int32_t page : Shuffled(2 * count, 6)) pages.push_back(PageId{page});
    CopyPagesParams params = {};
    params.base = arena.memory;
    params.page_stride = params.page_bytes = page_bytes;
    params.page_count = 2 * count;
    params.count = count;
    params.from = pages.data();
    params.to = pages.data() + count;
    const Timing timing = MeasureCopies(
        1, false, [&](int32_t) { Check(cuda::CopyPages(params, BenchStream()), "page copy"); });
    const double per_cent = 100 * memcpy.median_us / timing.median_us;
    const std::string name = "pages of " + std::to_string(page_bytes >> 10) + " KB";
    report.Add({name,
                {{"us", timing.median_us},
                 {"p95", timing.p95_us},
                 {"GB/s r+w", 2e-3 * static_cast<double>(kBytes) / timing.median_us},
                 {"copy us", memcpy.median_us},
                 {"% of copy", per_cent}}});
    if (page_bytes == int64_t{1} << 18) continue;
    report.Target({"page copy, " + name + ": % of a device-to-device copy", per_cent,
                   page_bytes < int64_t{1} << 20 ? 90.0 : 95.0, /*at_most=*/false});
  }
}

}  // namespace quire::bench
