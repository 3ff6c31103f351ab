// Lays out the workspace of one attention call, runs its workers, then merges what they cut.

#include "quire/attention.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "kernels/check.h"
#include "kernels/cpu/attention_job.h"
#include "kernels/cpu/parallel.h"
#include "kernels/schedule.h"

namespace quire::cpu {
namespace {

// The workspace: the schedule's arrays, each worker's scratch, the partials.
struct WorkspaceLayout {
  WorkShape shape;
  int64_t schedule_bytes;
  int64_t scratch_floats;  // of one worker
  int64_t partial_floats;  // of all
  int32_t item_rows;
  int32_t workers;

  int64_t bytes() const {
    const int64_t floats = scratch_floats * workers + partial_floats;
    return schedule_bytes + floats * int64_t{sizeof(float)};
  }
};

// More than any memory has, so that a size can be told of any shape that is allowed.
constexpr int64_t kMostFloats = int64_t{1} << 60;

WorkspaceLayout LayOut(const AttentionParams& params) {
  const int32_t workers = WorkerCount(params.threads);
  WorkShape shape = WorkShapeOf(params);
  FitHeadBlock(workers, &shape);
  const int32_t rows = MaxItemRows(shape);
  int64_t partial_floats = 0;
  if (__builtin_mul_overflow(MaxPartials(shape, params.mode, workers),
                             StateFloats(rows, params.head_dim), &partial_floats)) {
    partial_floats = kMostFloats;
  }
  return {.shape = shape,
          .schedule_bytes = ScheduleBytes(shape.batch, workers),
          .scratch_floats = ScratchFloats(rows, params.head_dim),
          .partial_floats = std::min(partial_floats, kMostFloats),
          .item_rows = rows,
          .workers = workers};
}

AttentionKernels KernelsFor(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return Float32Kernels();
    case DType::kFloat16:
      return Float16Kernels();
    case DType::kBFloat16:
      break;
  }
  return BFloat16Kernels();
}

void Execute(const AttentionParams& params, const WorkspaceLayout& layout, void* workspace) {
  auto* floats = reinterpret_cast<float*>(static_cast<char*>(workspace) + layout.schedule_bytes);
  const AttentionJob job = {
      .params = &params,
      .schedule = BuildSchedule(layout.shape, params.mode, layout.workers, workspace),
      .item_rows = layout.item_rows,
      .scratch = floats,
      .scratch_floats = layout.scratch_floats,
      .partials = floats + layout.scratch_floats * layout.workers};
  const AttentionKernels kernels = KernelsFor(params.dtype);
  auto run = [&](int32_t worker) { kernels.run(job, worker); };
  ParallelFor(params.threads, job.schedule.workers, run);
  if (job.schedule.partial_begin[job.schedule.workers] == 0) return;
  auto merge = [&](int32_t worker) { kernels.merge(job, worker); };
  ParallelFor(params.threads, job.schedule.workers, merge);
}

}  // namespace

void FindTileRows(const AttentionJob& job, const Segment& segment, int32_t tile, TileRows* rows) {
  const AttentionParams& params = *job.params;
  const PageTableView& table = params.table;
  const KeyRange keys = KeysOfItem(job.schedule.shape, segment.row, segment.query_tile);
  const int64_t tile_begin = int64_t{tile} * kTileTokens;
  const int64_t begin = std::max(keys.begin, tile_begin);
  const int64_t end = std::min(keys.end, tile_begin + kTileTokens);
  rows->any = begin < end;
  if (!rows->any) return;
  const PageId* ids = table.page_ids + table.row_begin[segment.row];
  int64_t page = begin / table.tokens_per_page;
  for (int64_t t = begin; t < end; ++page) {
    const int64_t slot = t - page * table.tokens_per_page;
    const int64_t page_end = std::min(end, (page + 1) * table.tokens_per_page);
    const KvStrides& ks = params.kv.k_strides;
    const KvStrides& vs = params.kv.v_strides;
    const char* k = static_cast<const char*>(params.kv.k) + PageOffset(ids[page], ks.page) +
                    segment.kv_head * ks.head + slot * ks.token;
    const char* v = static_cast<const char*>(params.kv.v) + PageOffset(ids[page], vs.page) +
                    segment.kv_head * vs.head + slot * vs.token;
    for (; t < page_end; ++t, k += ks.token, v += vs.token) {
      rows->k[t - tile_begin] = k;
      rows->v[t - tile_begin] = v;
    }
  }
  const int64_t first = begin - tile_begin;
  const int64_t last = end - tile_begin - 1;
  std::fill(rows->k, rows->k + first, rows->k[first]);
  std::fill(rows->v, rows->v + first, rows->v[first]);
  std::fill(rows->k + last + 1, rows->k + kTileTokens, rows->k[last]);
  std::fill(rows->v + last + 1, rows->v + kTileTokens, rows->v[last]);
}

int64_t WorkspaceBytes(const AttentionParams& params) {
  // What Attention refuses cannot be laid out.
  if (CheckAttentionShape(params) != LaunchError::kOk ||
      CheckAttentionRows(params, /*pages=*/false) != LaunchError::kOk) {
    return 0;
  }
  return LayOut(params).bytes();
}

LaunchError Attention(const AttentionParams& params) {
  if (const LaunchError e = CheckAttention(params); e != LaunchError::kOk) return e;
  const WorkspaceLayout layout = LayOut(params);
  if (const LaunchError e = CheckWorkspace(params, layout.bytes()); e != LaunchError::kOk) return e;
  if (params.table.batch == 0 || params.query_begin[params.table.batch] == 0) {
    return LaunchError::kOk;
  }
  if (params.workspace != nullptr) {
    Execute(params, layout, params.workspace);
    return LaunchError::kOk;
  }
  const auto bytes = static_cast<size_t>((layout.bytes() + 63) / 64 * 64);
  void* workspace = std::aligned_alloc(64, bytes);
  if (workspace == nullptr) return LaunchError::kWorkspaceTooSmall;
  Execute(params, layout, workspace);
  std::free(workspace);
  return LaunchError::kOk;
}

}  // namespace quire::cpu
