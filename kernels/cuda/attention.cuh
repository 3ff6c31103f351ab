// Attention over page tables on tensor cores: the kernel of one element type and head_dim, and the
// merge of what its workers cut. One launch takes decode, several query tokens, prefill over a
// cached prefix, and all of these mixed: each block walks one worker's share of the schedule.

#ifndef QUIRE_KERNELS_CUDA_ATTENTION_CUH_
#define QUIRE_KERNELS_CUDA_ATTENTION_CUH_

#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_prefill.cuh"
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile.h"

namespace quire::cuda {

// The schedule in device memory, as the host's code that walks it knows it.
QUIRE_DEVICE Schedule ScheduleOf(const AttentionArgs& args) {
  const DeviceScheduleLayout layout = LayOutSchedule(args.max_workers);
  const auto* base = reinterpret_cast<const char*>(args.schedule);
  Schedule schedule = {args.shape, args.schedule->workers, args.schedule->split_tiles,
                       reinterpret_cast<const WorkStart*>(base + layout.starts),
                       reinterpret_cast<const int64_t*>(base + layout.partial_begin)};
  schedule.shape.batch = args.schedule->batch;
  return schedule;
}

template <class Element, int kDim>
QUIRE_KERNEL(kBlockThreads, TileShape{kDim}.blocks())
AttentionKernel(QUIRE_PARAMETER(AttentionArgs) args) {
  const int worker = ptx::BlockIndex();
  if (worker >= args.schedule->workers) return;
  WorkStart at = ScheduleOf(args).starts[worker];
  int64_t partial = ScheduleOf(args).partial_begin[worker];
  while (true) {
    // Looked up at each turn, not kept in registers through a whole run of tiles.
    const Schedule schedule = ScheduleOf(args);
    const WorkStart stop = schedule.starts[worker + 1];
    if (at == stop) break;
    if (IsDecodeItem(schedule.shape, at)) {
      DecodeRun<Element, kDim>(args, schedule, stop).Run(&at, &partial);
    } else {
      Segment segment;
      NextSegment(schedule.shape, stop, &at, &segment);
      PrefillSegment<Element, kDim>(args, schedule.shape, segment).Run(&partial);
    }
    ptx::SyncBlock();  // shared memory changes its use
  }
}

// Worker w merges the item that it began and did not end, from the partial results in their order.
template <class Element, int kDim>
QUIRE_KERNEL(kBlockThreads, 2)
MergePartialsKernel(QUIRE_PARAMETER(AttentionArgs) args) {
  const int worker = ptx::BlockIndex();
  if (worker >= args.schedule->workers) return;
  const DeviceScheduleLayout layout = LayOutSchedule(args.max_workers);
  const auto* base = reinterpret_cast<const char*>(args.schedule);
  const MergeRange range = reinterpret_cast<const MergeRange*>(base + layout.merges)[worker];
  if (range.count == 0) return;
  const Schedule schedule = ScheduleOf(args);
  // The item that is cut is the one in which the next worker begins.
  const WorkStart at = schedule.starts[worker + 1];
  const ItemRows item(schedule.shape, {at.row, at.kv_head, 1, at.query_tile, {}, {}});
  for (int row = 0; row < item.count; row += kDecodeRows) {
    if (row + RowSlice<kDim>::row() >= item.count) continue;
    RowSlice<kDim> total;
    total.Load(args, item.count, range.first, row);
    QUIRE_UNROLL_BY(4)  // the loads of four parts under way at once
    for (int i = 1; i < range.count; ++i) {
      RowSlice<kDim> part;
      part.Load(args, item.count, range.first + i, row);
      total.Add(part);
    }
    total.template Finish<Element>(args, item, row);
  }
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ATTENTION_CUH_
