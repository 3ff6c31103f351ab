// How one attention call is cut into tiles over workers. Pure host code, plain data: it reads the
// lengths of the batch and nothing else, so it is tested alone, and a device can consume it.
//
//   tile   64 keys at an absolute position (a multiple of 64) of a row.
//   item   (row, head block, query tile): query tokens of one row, and all query heads that share
//          one of a block of KV heads. Items follow one another in this order.
//   split  kSplitTiles tiles at an absolute position: the fixed length at which kBatchInvariant
//          restarts its sums, so that a row's bits cannot depend on where the workers were cut.
//   segment  The part of one item that one worker does.
//
// All tiles of all items, weighted by their cost, stand in one line; each worker takes a contiguous
// run of it. So a worker has at most one segment that begins inside an item and one that ends
// inside an item. Only those two write partial results; all others write their output at once.

#ifndef QUIRE_KERNELS_SCHEDULE_H_
#define QUIRE_KERNELS_SCHEDULE_H_

#include <cstdint>

#include "quire/attention.h"

namespace quire {

inline constexpr int32_t kTileTokens = 64;

// 8 tiles, 512 keys. Shorter splits merge more often (a merge reads and writes head_dim floats a
// query row, about 1 % of the K and V of 512 keys at 4 query heads a KV head); longer ones leave
// workers idle when a batch is a few rows of a few thousand keys.
inline constexpr int32_t kSplitTiles = 8;

// A split as long as any item: of an item that only its worker's end could split, were it allowed.
inline constexpr int32_t kWholeItem = int32_t{1} << 30;

// Query rows (query tokens x query heads) that an item aims at on the CPU. A prompt fills them with
// query tokens, so that a K/V tile is used many times while it is in the cache; a decode step fills
// them with KV heads, so that all heads of a page are read one after another: pages lie anywhere,
// and long runs of addresses are what memory is fast at.
inline constexpr int32_t kItemRows = 64;

// What a tile costs one worker, in units of its own: reading it, and for each `rows` query rows, or
// a part of them, computing on it. A worker is not started for less than `least`.
struct TileCosts {
  int32_t read;
  int32_t rows;
  int32_t least;
};

// What the schedule depends on.
struct WorkShape {
  const int32_t* lengths;      // [batch]
  const int32_t* query_begin;  // [batch + 1]
  int32_t batch;
  int32_t kv_heads;
  int32_t group;       // query heads per KV head
  int32_t query_tile;  // query tokens per item, at most
  int32_t head_block;  // KV heads per item, at most
  int32_t window;
  bool causal;
  TileCosts costs;
  // For kBatchInvariant on a device whose partial results must fit in a fixed workspace: a row is
  // split in at most this many parts (so that the splits of a long row are longer), and an item of
  // more than split_rows query rows in none. 0: no limit, every split is kSplitTiles long. Both
  // depend on the row alone, so its bits still do.
  int32_t max_splits;
  int32_t split_rows;
};

WorkShape WorkShapeOf(const AttentionParams& params);

// Lowers head_block where there are too few long rows for so many workers, so that they can share
// the heads out. No result depends on it. O(batch).
void FitHeadBlock(int32_t workers, WorkShape* shape);

// The functions from here to the end of BuildSchedule's declaration are constexpr so that device
// code may call them too (nvcc's --expt-relaxed-constexpr): host and device walk by one source.

// By value: std::min and its kin return references, for which device code would keep the operands
// in local memory.
template <class T>
constexpr T MinOf(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T MaxOf(T a, T b) {
  return a < b ? b : a;
}
template <class T>
constexpr T ClampTo(T value, T low, T high) {
  return MinOf(MaxOf(value, low), high);
}

// Keys [begin, end), empty if begin >= end. 64 bits: a tile past the last key must not overflow.
struct KeyRange {
  int64_t begin;
  int64_t end;
};

// Tiles [begin, end) of an item. Never empty: an item without keys has one tile, in which no key is
// visible, so that its 0 and -infinity are written.
struct TileRange {
  int32_t begin;
  int32_t end;
};

constexpr int32_t QueriesOfRow(const WorkShape& shape, int32_t row) {
  return shape.query_begin[row + 1] - shape.query_begin[row];
}

constexpr int32_t QueriesOfItem(const WorkShape& shape, int32_t row, int32_t query_tile) {
  return MinOf(shape.query_tile, QueriesOfRow(shape, row) - query_tile * shape.query_tile);
}

constexpr int32_t QueryTilesOfRow(const WorkShape& shape, int32_t row) {
  const int64_t queries = QueriesOfRow(shape, row);
  return static_cast<int32_t>((queries + shape.query_tile - 1) / shape.query_tile);
}

constexpr int32_t HeadBlockOfRow(const WorkShape& shape, int32_t row) {
  if (shape.head_block == 1) return 1;
  const int32_t rows = ClampTo(QueriesOfRow(shape, row), 1, shape.query_tile) * shape.group;
  return ClampTo(kItemRows / rows, 1, shape.head_block);
}

// KV heads of the item that begins with kv_head.
constexpr int32_t HeadsOfItem(const WorkShape& shape, int32_t row, int32_t kv_head) {
  return MinOf(HeadBlockOfRow(shape, row), shape.kv_heads - kv_head);
}

// The keys that query token j of a row sees.
constexpr KeyRange KeysOfQuery(const WorkShape& shape, int32_t row, int32_t j) {
  const int64_t length = shape.lengths[row];
  if (!shape.causal) return {0, length};
  const int64_t end = length - QueriesOfRow(shape, row) + j + 1;
  return {shape.window == 0 ? 0 : MaxOf<int64_t>(0, end - shape.window), end};
}

// The keys that any query of the item, or of the row, sees.
constexpr KeyRange KeysOfItem(const WorkShape& shape, int32_t row, int32_t query_tile) {
  const int32_t first = query_tile * shape.query_tile;
  const int32_t last = first + QueriesOfItem(shape, row, query_tile) - 1;
  return {KeysOfQuery(shape, row, first).begin, KeysOfQuery(shape, row, last).end};
}

constexpr KeyRange KeysOfRow(const WorkShape& shape, int32_t row) {
  const int32_t queries = QueriesOfRow(shape, row);
  if (queries == 0) return {0, 0};
  return {KeysOfQuery(shape, row, 0).begin, KeysOfQuery(shape, row, queries - 1).end};
}

constexpr TileRange TilesOfItem(const WorkShape& shape, int32_t row, int32_t query_tile) {
  const KeyRange keys = KeysOfItem(shape, row, query_tile);
  const auto begin = static_cast<int32_t>(keys.begin / kTileTokens);
  const auto end = static_cast<int32_t>((keys.end + kTileTokens - 1) / kTileTokens);
  return {begin, MaxOf(begin + 1, end)};
}

// Where a worker begins: a tile of an item. {batch, 0, 0, 0} is the end of the work.
struct WorkStart {
  int32_t row;
  int32_t kv_head;  // the first of the item's
  int32_t query_tile;
  int32_t tile;

  friend constexpr bool operator==(const WorkStart&, const WorkStart&) = default;
};

struct Schedule {
  WorkShape shape;
  int32_t workers;
  int32_t split_tiles;           // the shortest; 0: a worker's end alone splits (kBalanced)
  const WorkStart* starts;       // [workers + 1]: worker w does [starts[w], starts[w + 1])
  const int64_t* partial_begin;  // [workers + 1]: worker w writes partials from partial_begin[w]
};

// One worker's part of one item.
struct Segment {
  int32_t row;
  int32_t kv_head;  // the first of `kv_heads`
  int32_t kv_heads;
  int32_t query_tile;
  TileRange tiles;  // this worker's
  TileRange all;    // the item's

  constexpr bool begins_item() const { return tiles.begin == all.begin; }
  constexpr bool ends_item() const { return tiles.end == all.end; }
};

// Tiles of a split of the item: 0 where only a worker's end splits (kBalanced).
constexpr int32_t SplitTilesOf(const Schedule& schedule, int32_t row, int32_t query_tile) {
  const WorkShape& shape = schedule.shape;
  if (schedule.split_tiles == 0 || shape.max_splits == 0) return schedule.split_tiles;
  if (QueriesOfItem(shape, row, query_tile) * shape.group > shape.split_rows) return kWholeItem;
  // Of a row with a window only what is seen is cut; it may begin anywhere, so it touches one split
  // more than its length says.
  const KeyRange keys = KeysOfRow(shape, row);
  const int64_t tiles = (keys.end - keys.begin + kTileTokens - 1) / kTileTokens;
  const int32_t parts = keys.begin == 0 ? shape.max_splits : shape.max_splits - 1;
  return MaxOf(schedule.split_tiles,
               static_cast<int32_t>((tiles + parts - 1) / parts) + (keys.begin == 0 ? 0 : 1));
}

constexpr int64_t SplitsIn(TileRange tiles, int32_t split_tiles) {
  return (tiles.end - 1) / split_tiles - tiles.begin / split_tiles + 1;
}

// Partials of a segment: none if it is the whole item; one if it begins its item (its splits are
// already merged in order) or if there are no splits; else one for each split it touches.
constexpr int64_t PartialsOf(const Schedule& schedule, const Segment& segment) {
  if (segment.begins_item()) return segment.ends_item() ? 0 : 1;
  const int32_t split = SplitTilesOf(schedule, segment.row, segment.query_tile);
  return split == 0 ? 1 : SplitsIn(segment.tiles, split);
}

// The first item at or after (row, kv_head 0), skipping rows without queries.
constexpr WorkStart FirstItemFrom(const WorkShape& shape, int32_t row) {
  while (row < shape.batch && QueriesOfRow(shape, row) == 0) ++row;
  if (row >= shape.batch) return {shape.batch, 0, 0, 0};
  return {row, 0, 0, TilesOfItem(shape, row, 0).begin};
}

constexpr WorkStart NextItem(const WorkShape& shape, const WorkStart& at) {
  int32_t kv_head = at.kv_head;
  int32_t query_tile = at.query_tile + 1;
  if (query_tile == QueryTilesOfRow(shape, at.row)) {
    query_tile = 0;
    kv_head += HeadBlockOfRow(shape, at.row);
  }
  if (kv_head >= shape.kv_heads) return FirstItemFrom(shape, at.row + 1);
  return {at.row, kv_head, query_tile, TilesOfItem(shape, at.row, query_tile).begin};
}

constexpr bool SameItem(const WorkStart& a, const WorkStart& b) {
  return a.row == b.row && a.kv_head == b.kv_head && a.query_tile == b.query_tile;
}

// Walks a worker's segments: begin with at = starts[worker]; false at the end, `stop` =
// starts[worker + 1].
constexpr bool NextSegment(const WorkShape& shape, const WorkStart& stop, WorkStart* at,
                           Segment* segment) {
  if (*at == stop) return false;
  const TileRange all = TilesOfItem(shape, at->row, at->query_tile);
  const bool last = SameItem(*at, stop);
  *segment = {at->row,
              at->kv_head,
              HeadsOfItem(shape, at->row, at->kv_head),
              at->query_tile,
              {at->tile, last ? stop.tile : all.end},
              all};
  *at = last ? stop : NextItem(shape, *at);
  return true;
}

// Bytes of the arrays behind a Schedule, 64-byte aligned, and of the prefix sum that finds them.
int64_t ScheduleBytes(int32_t batch, int32_t workers);

// An upper bound of the partials of any schedule with at most this many workers: O(batch).
int64_t MaxPartials(const WorkShape& shape, ScheduleMode mode, int32_t workers);

// Query rows of the largest item.
int32_t MaxItemRows(const WorkShape& shape);

// Cuts the work over at most `workers` workers (fewer if there is little of it).
Schedule BuildSchedule(const WorkShape& shape, ScheduleMode mode, int32_t workers, void* storage);

inline bool NextSegment(const Schedule& schedule, int32_t worker, WorkStart* at, Segment* segment) {
  return NextSegment(schedule.shape, schedule.starts[worker + 1], at, segment);
}

}  // namespace quire

#endif  // QUIRE_KERNELS_SCHEDULE_H_
