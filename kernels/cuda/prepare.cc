#include "kernels/cuda/prepare.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "kernels/check.h"
#include "kernels/cuda/args.h"
#include "kernels/cuda/tile.h"
#include "kernels/fast_divide.h"
#include "kernels/schedule.h"
#include "quire/attention.h"

namespace quire::cuda {
namespace {

constexpr float kLog2E = 1.4426950408889634f;

// A decode tile is bound by reading (2 microseconds for a block that shares its multiprocessor with
// another), a prefill tile of 128 rows by arithmetic (about 3.2 at 350 TFLOP/s): by calculation,
// not by measurement. A worker is worth starting for two tiles.
constexpr TileCosts kCosts = {.read = 12, .rows = 16, .least = 26};

// Parts of a row in kBatchInvariant, at most: bounds the workspace. With fewer, one long row of a
// model with few KV heads would leave most of the GPU idle.
constexpr int32_t kMaxSplits = 32;

// Shared memory that the driver keeps for itself in each resident block.
constexpr int32_t kReservedBytes = 1024;

bool HasTensorKernel(const AttentionParams& params) {
  const bool shape = params.head_dim == 64 || params.head_dim == 128 || params.head_dim == 256;
  return shape && params.dtype != DType::kFloat32 &&
         params.query_heads / params.kv_heads <= TileShape{params.head_dim}.prefill_rows();
}

// Query rows of the largest item that is split: of a decode tile, unless some row may have more and
// the mode splits those too. Even, so that a partial result is a multiple of 16 bytes.
int32_t PartialRowsOf(const AttentionParams& params) {
  const int64_t rows =
      int64_t{std::max(params.max_queries, 1)} * (params.query_heads / params.kv_heads);
  if (rows <= kDecodeRows) return static_cast<int32_t>((rows + 1) / 2 * 2);
  if (params.mode == ScheduleMode::kBatchInvariant) return kDecodeRows;
  return TileShape{params.head_dim}.prefill_rows();
}

bool CountsAreGood(const AttentionParams& params) {
  return params.query_heads >= 1 && params.kv_heads >= 1 && params.head_dim >= 1 &&
         params.query_heads % params.kv_heads == 0;
}

bool GpuIsGood(const Gpu& gpu) {
  return gpu.multiprocessors >= 1 && gpu.multiprocessors <= 65536 && gpu.shared_bytes >= 0 &&
         gpu.shared_bytes_multiprocessor >= 0;
}

// The item that worker w began and did not end.
MergeRange MergeRangeOf(const Schedule& schedule, int32_t w) {
  const WorkStart& end = schedule.starts[w + 1];
  if (end.row == schedule.shape.batch) return {0, 0};
  const int32_t first_tile = TilesOfItem(schedule.shape, end.row, end.query_tile).begin;
  const WorkStart& begin = schedule.starts[w];
  const bool began = !SameItem(begin, end) || begin.tile == first_tile;
  if (end.tile == first_tile || !began || begin == end) return {0, 0};
  int64_t count = 1;
  for (int32_t v = w + 1; v < schedule.workers; ++v) {
    WorkStart at = schedule.starts[v];
    Segment segment;
    if (!NextSegment(schedule, v, &at, &segment)) continue;
    count += PartialsOf(schedule, segment);
    if (segment.ends_item()) break;
  }
  return {static_cast<int32_t>(schedule.partial_begin[w + 1] - 1), static_cast<int32_t>(count)};
}

// `own_places`: partial results before the first, one for each block.
void Write(const Schedule& schedule, int32_t max_workers, int32_t own_places, char* to) {
  const DeviceScheduleLayout layout = LayOutSchedule(max_workers);
  const DeviceSchedule header = {schedule.workers, schedule.shape.batch, schedule.split_tiles, 0};
  const size_t entries = static_cast<size_t>(schedule.workers) + 1;
  std::memset(to, 0, static_cast<size_t>(layout.bytes));
  std::memcpy(to, &header, sizeof(header));
  std::memcpy(to + layout.starts, schedule.starts, entries * sizeof(WorkStart));
  std::memcpy(to + layout.partial_begin, schedule.partial_begin, entries * sizeof(int64_t));
  auto* merges = reinterpret_cast<MergeRange*>(to + layout.merges);
  auto* partial_begin = reinterpret_cast<int64_t*>(to + layout.partial_begin);
  for (size_t w = 0; w < entries; ++w) partial_begin[w] += own_places;
  for (int32_t w = 0; w < schedule.workers; ++w) {
    merges[w] = MergeRangeOf(schedule, w);
    merges[w].first += own_places;
  }
}

}  // namespace

int32_t MaxWorkers(const Gpu& gpu) { return 2 * gpu.multiprocessors; }

AttentionKind KindOf(const AttentionParams& params, const Gpu& gpu) {
  const bool tensor =
      HasTensorKernel(params) && TileShape{params.head_dim}.shared_bytes() <= gpu.shared_bytes;
  return tensor ? AttentionKind::kTensor : AttentionKind::kPlain;
}

int32_t WorkersOf(const AttentionParams& params, const Gpu& gpu) {
  if (KindOf(params, gpu) == AttentionKind::kPlain) return MaxWorkers(gpu);
  const TileShape tile = {params.head_dim};
  const int32_t room = gpu.shared_bytes_multiprocessor / (tile.shared_bytes() + kReservedBytes);
  return gpu.multiprocessors * std::clamp(room, 1, tile.blocks());
}

WorkShape DeviceWorkShape(const AttentionParams& params) {
  WorkShape shape = WorkShapeOf(params);
  const bool tensor = HasTensorKernel(params);
  const int32_t rows = tensor ? TileShape{params.head_dim}.prefill_rows() : kItemRows;
  shape.query_tile = std::max(1, rows / shape.group);
  shape.head_block = 1;
  shape.costs = kCosts;
  shape.max_splits = kMaxSplits;
  shape.split_rows = kDecodeRows;
  return shape;
}

int64_t ScheduleBytes(const Gpu& gpu) {
  return GpuIsGood(gpu) ? LayOutSchedule(MaxWorkers(gpu)).bytes : 0;
}

int64_t WorkspaceBytes(const AttentionParams& params, const Gpu& gpu) {
  if (!CountsAreGood(params) || !GpuIsGood(gpu)) return 0;
  if (KindOf(params, gpu) == AttentionKind::kPlain) return 0;
  const int64_t workers = WorkersOf(params, gpu);
  // A worker has a place of its own, and writes the splits that end its first item and the one that
  // begins its last item.
  const int64_t each = params.mode == ScheduleMode::kBalanced ? 3 : 1 + kMaxSplits;
  const int64_t floats = each * workers * PartialFloats(PartialRowsOf(params), params.head_dim);
  return (floats * int64_t{sizeof(float)} + 63) / 64 * 64;
}

LaunchError BuildSchedule(const AttentionParams& params, const Gpu& gpu, void* schedule) {
  if (schedule == nullptr || !GpuIsGood(gpu) || params.max_queries < 0) {
    return LaunchError::kBadArgument;
  }
  if (reinterpret_cast<uintptr_t>(schedule) % 64 != 0) return LaunchError::kMisaligned;
  if (const LaunchError e = CheckAttentionShape(params); e != LaunchError::kOk) return e;
  const bool pages = params.table.page_ids != nullptr;
  if (const LaunchError e = CheckAttentionRows(params, pages); e != LaunchError::kOk) return e;
  const WorkShape shape = DeviceWorkShape(params);
  for (int32_t row = 0; row < shape.batch; ++row) {
    if (QueriesOfRow(shape, row) > std::max(params.max_queries, 1)) {
      return LaunchError::kBadArgument;
    }
  }
  const int32_t workers = WorkersOf(params, gpu);
  const auto bytes = static_cast<size_t>(quire::ScheduleBytes(shape.batch, workers));
  const std::unique_ptr<int64_t[]> storage(new (std::nothrow) int64_t[bytes / sizeof(int64_t)]);
  if (storage == nullptr) return LaunchError::kWorkspaceTooSmall;
  Write(quire::BuildSchedule(shape, params.mode, workers, storage.get()), MaxWorkers(gpu), workers,
        static_cast<char*>(schedule));
  return LaunchError::kOk;
}

LaunchError PrepareAttention(const AttentionParams& params, const Gpu& gpu, AttentionKind kind,
                             AttentionArgs* args) {
  if (params.max_queries < 0 || !GpuIsGood(gpu)) return LaunchError::kBadArgument;
  if (const LaunchError e = CheckAttentionShape(params); e != LaunchError::kOk) return e;
  if (params.schedule == nullptr) return LaunchError::kBadArgument;
  const auto misaligned = [](const void* pointer, uintptr_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % bytes != 0;
  };
  if (misaligned(params.query, 16) || misaligned(params.output, 16) ||
      misaligned(params.schedule, 64)) {
    return LaunchError::kMisaligned;
  }
  if (params.table.batch > 0) {
    if (params.table.page_ids == nullptr || params.table.row_begin == nullptr ||
        params.table.lengths == nullptr || params.query_begin == nullptr ||
        params.query == nullptr || params.output == nullptr || params.query == params.output) {
      return LaunchError::kBadArgument;
    }
  }
  if (kind == AttentionKind::kTensor) {
    const int64_t needed = WorkspaceBytes(params, gpu);
    if (params.workspace == nullptr) return LaunchError::kWorkspaceTooSmall;
    if (const LaunchError e = CheckWorkspace(params, needed); e != LaunchError::kOk) return e;
  }
  *args = {};
  args->table = params.table;
  args->kv = params.kv;
  args->shape = DeviceWorkShape(params);
  args->query = params.query;
  args->output = params.output;
  args->lse = params.lse;
  args->sinks = params.sinks;
  args->schedule = static_cast<const DeviceSchedule*>(params.schedule);
  args->partials = static_cast<float*>(params.workspace);
  args->query_heads = params.query_heads;
  args->head_dim = params.head_dim;
  args->partial_rows = kind == AttentionKind::kTensor ? PartialRowsOf(params) : kDecodeRows;
  args->max_workers = MaxWorkers(gpu);
  args->scale = params.scale;
  args->soft_cap = params.soft_cap;
  const bool capped = params.soft_cap != 0;
  args->tile_scale = (capped ? 2 * params.scale / params.soft_cap : params.scale) * kLog2E;
  args->tile_cap = params.soft_cap * kLog2E;
  args->pages = FastDivider(params.table.tokens_per_page);
  args->groups = FastDivider(args->shape.group);
  return LaunchError::kOk;
}

}  // namespace quire::cuda
