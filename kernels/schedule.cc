#include "kernels/schedule.h"

#include <algorithm>
#include <cstdint>

namespace quire {
namespace {

// The CPU's costs, in units of one query row's arithmetic on a tile. Reading the tile costs about
// as much as four rows: up to there decode is bound by memory, and rows are free. Below 64 units,
// starting one more worker costs more than it saves.
constexpr TileCosts kCpuCosts = {.read = 4, .rows = 1, .least = 64};

// Splits of items that each worker should have before heads are put together in one item.
constexpr int64_t kSplitsPerWorker = 8;

// An item smaller than this part of a worker's share is not cut in kBatchInvariant: rounding the
// cut to its border unbalances the work by a sixteenth at most, and it needs no partials.
constexpr int64_t kUncutPart = 8;

constexpr int64_t RoundUp(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// One tile, one KV head.
int64_t TileCost(const WorkShape& shape, int32_t row, int32_t query_tile) {
  const int64_t rows = int64_t{QueriesOfItem(shape, row, query_tile)} * shape.group;
  return shape.costs.read + (rows + shape.costs.rows - 1) / shape.costs.rows;
}

// One query tile, one KV head.
int64_t QueryTileCost(const WorkShape& shape, int32_t row, int32_t query_tile) {
  const TileRange tiles = TilesOfItem(shape, row, query_tile);
  return (tiles.end - tiles.begin) * TileCost(shape, row, query_tile);
}

// One KV head of a row.
int64_t HeadCost(const WorkShape& shape, int32_t row) {
  int64_t cost = 0;
  for (int32_t t = 0; t < QueryTilesOfRow(shape, row); ++t) cost += QueryTileCost(shape, row, t);
  return cost;
}

// Splits of one KV head of a row, at most.
int64_t SplitsOfHead(const WorkShape& shape, int32_t row) {
  const KeyRange keys = KeysOfRow(shape, row);
  const int64_t splits =
      keys.end / (kTileTokens * kSplitTiles) - keys.begin / (kTileTokens * kSplitTiles) + 1;
  return splits * QueryTilesOfRow(shape, row);
}

bool BeginsItem(const WorkShape& shape, const WorkStart& at) {
  return at.row == shape.batch || at.tile == TilesOfItem(shape, at.row, at.query_tile).begin;
}

// The borders at which an item may be cut: every tile (split 0), or every split, or (small items of
// kBatchInvariant) only its two ends. Returns the allowed border nearest to `tile`.
int32_t RoundCut(int32_t split, TileRange tiles, int32_t tile, bool small) {
  if (split == 0) return tile;
  int32_t below = tiles.begin;
  int32_t above = tiles.end;
  if (!small) {
    below = std::max(below, tile / split * split);
    above = static_cast<int32_t>(std::min<int64_t>(above, (int64_t{tile} / split + 1) * split));
  }
  return int64_t{tile} - below <= int64_t{above} - tile ? below : above;
}

// Where the work has cost `target` before it. `before` is the prefix sum over rows.
WorkStart FindCut(const Schedule& schedule, const int64_t* before, int64_t target, int64_t share) {
  const WorkShape& shape = schedule.shape;
  const int64_t* found = std::upper_bound(before, before + shape.batch + 1, target) - 1;
  const auto row = static_cast<int32_t>(found - before);
  if (row >= shape.batch) return FirstItemFrom(shape, shape.batch);
  const int64_t head_cost = (before[row + 1] - before[row]) / shape.kv_heads;
  const int64_t block_cost = head_cost * HeadBlockOfRow(shape, row);
  int64_t rest = target - before[row];
  const auto block = static_cast<int32_t>(rest / block_cost);
  rest %= block_cost;
  WorkStart at = {row, block * HeadBlockOfRow(shape, row), 0, 0};
  const int32_t heads = HeadsOfItem(shape, row, at.kv_head);
  int64_t item_cost = heads * QueryTileCost(shape, row, 0);
  while (rest >= item_cost) {
    rest -= item_cost;
    item_cost = heads * QueryTileCost(shape, row, ++at.query_tile);
  }
  const TileRange tiles = TilesOfItem(shape, row, at.query_tile);
  const int64_t tile_cost = heads * TileCost(shape, row, at.query_tile);
  at.tile = RoundCut(SplitTilesOf(schedule, row, at.query_tile), tiles,
                     static_cast<int32_t>(tiles.begin + rest / tile_cost),
                     item_cost * kUncutPart < share);
  return at.tile == tiles.end ? NextItem(shape, at) : at;
}

// Partials of worker w. Only its first and its last segment can have any.
int64_t WorkerPartials(const Schedule& schedule, int32_t w) {
  const WorkShape& shape = schedule.shape;
  const WorkStart& begin = schedule.starts[w];
  const WorkStart& end = schedule.starts[w + 1];
  WorkStart at = begin;
  Segment first;
  if (!NextSegment(schedule, w, &at, &first)) return 0;
  int64_t count = PartialsOf(schedule, first);
  if (!SameItem(begin, end) && !BeginsItem(shape, end)) ++count;
  return count;
}

}  // namespace

WorkShape WorkShapeOf(const AttentionParams& params) {
  const int32_t group = params.query_heads / params.kv_heads;
  return {.lengths = params.table.lengths,
          .query_begin = params.query_begin,
          .batch = params.table.batch,
          .kv_heads = params.kv_heads,
          .group = group,
          .query_tile = std::max(1, kItemRows / group),
          .head_block = params.kv_heads,
          .window = params.window,
          .causal = params.causal,
          .costs = kCpuCosts,
          .max_splits = 0,
          .split_rows = 0};
}

void FitHeadBlock(int32_t workers, WorkShape* shape) {
  int64_t splits = 0;
  for (int32_t row = 0; row < shape->batch; ++row) splits += SplitsOfHead(*shape, row);
  while (shape->head_block > 1 &&
         splits * (shape->kv_heads / shape->head_block) < kSplitsPerWorker * workers) {
    shape->head_block -= shape->head_block / 2;
  }
}

int64_t ScheduleBytes(int32_t batch, int32_t workers) {
  const int64_t starts = (int64_t{workers} + 1) * int64_t{sizeof(WorkStart)};
  const int64_t sums = (int64_t{workers} + 1 + int64_t{batch} + 1) * int64_t{sizeof(int64_t)};
  return RoundUp(starts + sums, 64);
}

int64_t MaxPartials(const WorkShape& shape, ScheduleMode mode, int32_t workers) {
  if (workers == 1) return 0;
  if (mode == ScheduleMode::kBalanced) return 2 * int64_t{workers};
  int64_t all = 0;      // if every item were cut at every split
  int64_t largest = 0;  // of one item
  for (int32_t row = 0; row < shape.batch; ++row) {
    const int32_t tiles = QueryTilesOfRow(shape, row);
    if (tiles == 0) continue;
    const int32_t block = HeadBlockOfRow(shape, row);
    all += SplitsOfHead(shape, row) * ((int64_t{shape.kv_heads} + block - 1) / block);
    largest = std::max(largest, SplitsOfHead(shape, row) / tiles);
  }
  return std::min(all, largest * (workers - 1));
}

int32_t MaxItemRows(const WorkShape& shape) {
  int32_t rows = 0;
  for (int32_t row = 0; row < shape.batch; ++row) {
    const int32_t queries = QueriesOfRow(shape, row);
    rows = std::max(rows, std::min(queries, shape.query_tile) * HeadBlockOfRow(shape, row));
  }
  return rows * shape.group;
}

Schedule BuildSchedule(const WorkShape& shape, ScheduleMode mode, int32_t workers, void* storage) {
  auto* starts = static_cast<WorkStart*>(storage);
  auto* partial_begin = reinterpret_cast<int64_t*>(starts + workers + 1);
  int64_t* before = partial_begin + workers + 1;
  before[0] = 0;
  for (int32_t row = 0; row < shape.batch; ++row) {
    before[row + 1] = before[row] + HeadCost(shape, row) * shape.kv_heads;
  }
  const int64_t total = before[shape.batch];
  workers = static_cast<int32_t>(std::clamp<int64_t>(total / shape.costs.least, 1, workers));

  Schedule schedule = {.shape = shape,
                       .workers = workers,
                       .split_tiles = mode == ScheduleMode::kBatchInvariant ? kSplitTiles : 0,
                       .starts = starts,
                       .partial_begin = partial_begin};
  const int64_t share = total / workers;
  starts[0] = FirstItemFrom(shape, 0);
  for (int32_t w = 1; w < workers; ++w) {
    const int64_t target = share * w + total % workers * w / workers;
    starts[w] = FindCut(schedule, before, target, share);
  }
  starts[workers] = FirstItemFrom(shape, shape.batch);
  partial_begin[0] = 0;
  for (int32_t w = 0; w < workers; ++w) {
    partial_begin[w + 1] = partial_begin[w] + WorkerPartials(schedule, w);
  }
  return schedule;
}

}  // namespace quire
