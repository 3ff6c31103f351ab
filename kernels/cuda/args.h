// What the host hands to the kernels: plain data, passed by value, that launchers on the host make
// (prepare.h), kernels on a GPU or on the host twin read, and a captured graph keeps.

#ifndef QUIRE_KERNELS_CUDA_ARGS_H_
#define QUIRE_KERNELS_CUDA_ARGS_H_

#include <cstdint>

#include "kernels/cuda/tile.h"
#include "kernels/fast_divide.h"
#include "kernels/schedule.h"
#include "quire/attention.h"

namespace quire::cuda {

// A schedule as it lies in device memory: this header, then the arrays, whose places depend on the
// largest number of workers alone, so that a captured launch finds them at every replay. Written by
// BuildSchedule.
struct alignas(64) DeviceSchedule {
  int32_t workers;      // of this step; blocks beyond return at once
  int32_t batch;        // of this step
  int32_t split_tiles;  // Schedule::split_tiles
  int32_t unused;
};

// The partial results of one item, one after another, that the worker of this number has begun and
// not ended; count 0: there is none.
struct MergeRange {
  int32_t first;
  int32_t count;
};

// Places of the arrays in bytes from the header.
struct DeviceScheduleLayout {
  int64_t starts;         // WorkStart[workers + 1]
  int64_t partial_begin;  // int64_t[workers + 1]
  int64_t merges;         // MergeRange[workers]
  int64_t bytes;          // of all
};
constexpr DeviceScheduleLayout LayOutSchedule(int32_t max_workers) {
  const int64_t workers = max_workers;
  const int64_t starts = sizeof(DeviceSchedule);
  const int64_t partial_begin = starts + (workers + 1) * int64_t{sizeof(WorkStart)};
  const int64_t merges = partial_begin + (workers + 1) * int64_t{sizeof(int64_t)};
  const int64_t end = merges + workers * int64_t{sizeof(MergeRange)};
  return {starts, partial_begin, merges, (end + 63) / 64 * 64};
}

struct AttentionArgs {
  PageTableView table;
  KvView kv;
  WorkShape shape;  // its batch is the largest that a replay may have
  const void* query;
  void* output;
  float* lse;
  const float* sinks;
  const DeviceSchedule* schedule;
  float* partials;
  int32_t query_heads;
  int32_t head_dim;
  int32_t partial_rows;  // query rows that one partial result has room for
  int32_t max_workers;
  float scale;  // a score is dot * scale, then soft-capped
  float soft_cap;
  // The same for the tensor-core kernels: dot * tile_scale is the score in units of log2, or, with
  // a soft cap, what ShortTanh wants; its result times tile_cap is the score.
  float tile_scale;
  float tile_cap;
  FastDivider pages;   // by tokens_per_page
  FastDivider groups;  // by shape.group
};

// Where a partial result lies: per query row the maximum (in units of log2), the sum of weights and
// head_dim weighted sums of V.
constexpr int64_t PartialFloats(int32_t rows, int32_t head_dim) {
  return int64_t{rows} * (head_dim + 2);
}

struct AppendKvArgs {
  AppendKvParams params;     // strides resolved
  int32_t vectors;           // of 16 bytes, in one token's keys; its values have as many
  int32_t chunks;            // of a token, see kAppendVectors
  FastDivider pages;         // by tokens_per_page
  FastDivider head_vectors;  // by the vectors of one head
};

// Copies that fit into one launch's parameters: 4,096 bytes, which every driver takes.
inline constexpr int32_t kCopiesPerLaunch = 500;
struct CopyPagesArgs {
  const char* from_base;  // null: fill with zeros
  char* to_base;
  int64_t page_stride;
  int64_t page_bytes;
  const int64_t* piece_offsets;  // null: one piece, at 0
  FastDivider pieces;            // by the pieces of a page
  FastDivider chunks;            // by the chunks of a piece
  int32_t units;                 // copies x pieces x chunks
  int32_t count;
  PageId from[kCopiesPerLaunch];
  PageId to[kCopiesPerLaunch];
};
static_assert(sizeof(CopyPagesArgs) <= 4096);

struct MergeArgs {
  MergeParams params;
};

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ARGS_H_
