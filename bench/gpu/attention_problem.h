// An attention call over pages in random order, in as many copies as keep K and V out of the cache.

#ifndef QUIRE_BENCH_GPU_ATTENTION_PROBLEM_H_
#define QUIRE_BENCH_GPU_ATTENTION_PROBLEM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "bench/gpu/cuda_util.h"
#include "bench/gpu/measure.h"
#include "quire/attention.h"

namespace quire::bench {

// The shape of all attention measurements: bfloat16, 8 KV heads x 128.
inline constexpr int32_t kKvHeads = 8;
inline constexpr int32_t kHeadDim = 128;
inline constexpr int64_t kTokenHeadBytes = int64_t{2} * kHeadDim;
inline constexpr int64_t kTokenBytes = 2 * kKvHeads * kTokenHeadBytes;  // K and V

// Rows of a batch.
struct BatchShape {
  std::string name;
  std::vector<int32_t> lengths;
  std::vector<int32_t> queries;

  int64_t tokens() const;
  int64_t query_tokens() const;
  int64_t kv_bytes() const { return tokens() * kTokenBytes; }
  int32_t longest() const;
};

// `batch` rows of one query each.
BatchShape DecodeShape(const std::string& name, int32_t batch, int32_t length);

// Where the pages of a batch lie: the pools of copy 0, 1, ... one after another. Pages have the
// layout of quire/device.h, with one layer.
class PagedPool {
 public:
  // `memory`: `bytes` of numbers. tokens_per_page 0: each row is one page (contiguous); rows of
  // unlike lengths then are cut into pages of the shortest.
  PagedPool(const BatchShape& shape, int32_t tokens_per_page, char* memory, int64_t bytes);

  int32_t copies() const { return copies_; }
  // The table's lengths are on the GPU.
  PageTableView table(int32_t copy) const;
  const KvView& kv() const { return kv_; }

 private:
  int32_t tokens_per_page_;
  int64_t pages_;  // of one copy
  int32_t copies_;
  int32_t batch_;
  KvView kv_ = {};
  DeviceBuffer page_ids_;
  DeviceBuffer row_begin_;
  DeviceBuffer lengths_;
};

// cuda::Attention on such a batch.
class AttentionProblem {
 public:
  // `pool` is borrowed.
  AttentionProblem(const BatchShape& shape, int32_t group, ScheduleMode mode);

  // Microseconds that the host takes to make the schedule, the median of several.
  double plan_us() const { return plan_us_; }
  // With `table` and `kv` that the caller chooses.
  void Queue(const PageTableView& table, const KvView& kv) const;
  Timing Run(const PagedPool& pool) const;

 private:
  void Plan(const BatchShape& shape, const cuda::Gpu& gpu);

  AttentionParams params_ = {};
  bool short_;
  double plan_us_ = 0;
  DeviceBuffer schedule_;
  DeviceBuffer query_begin_;
  DeviceBuffer query_;
  DeviceBuffer output_;
  DeviceBuffer lse_;
  DeviceBuffer workspace_;
};

}  // namespace quire::bench

#endif  // QUIRE_BENCH_GPU_ATTENTION_PROBLEM_H_
