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

// Query rows (query tokens x query heads) that an item aims at. A prompt fills them with query
// tokens, so that a K/V tile is used many times while it is in the cache; a decode step fills them
// with KV heads, so that all heads of a page are read one after another: pages lie anywhere, and
// long runs of addresses are what memory is fast at.
inline constexpr int32_t kItemRows = 64;

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
};

WorkShape WorkShapeOf(const AttentionParams& params);

// Lowers head_block where there are too few long rows for so many workers, so that they can share
// the heads out. No result depends on it. O(batch).
void FitHeadBlock(int32_t workers, WorkShape* shape);

// Keys [begin, end), empty if begin >= end. 64 bits: a tile past the last key must not overflow.
struct KeyRange {
  int64_t begin;
  int64_t end;
};

// The keys that query token j of a row sees.
KeyRange KeysOfQuery(const WorkShape& shape, int32_t row, int32_t j);
// The keys that any query of the item, or of the row, sees.
KeyRange KeysOfItem(const WorkShape& shape, int32_t row, int32_t query_tile);
KeyRange KeysOfRow(const WorkShape& shape, int32_t row);

// Tiles [begin, end) of an item. Never empty: an item without keys has one tile, in which no key is
// visible, so that its 0 and -infinity are written.
struct TileRange {
  int32_t begin;
  int32_t end;
};
TileRange TilesOfItem(const WorkShape& shape, int32_t row, int32_t query_tile);

int32_t QueryTilesOfRow(const WorkShape& shape, int32_t row);
int32_t HeadBlockOfRow(const WorkShape& shape, int32_t row);
int32_t QueriesOfItem(const WorkShape& shape, int32_t row, int32_t query_tile);

// Where a worker begins: a tile of an item. {batch, 0, 0, 0} is the end of the work.
struct WorkStart {
  int32_t row;
  int32_t kv_head;  // the first of the item's
  int32_t query_tile;
  int32_t tile;

  friend bool operator==(const WorkStart&, const WorkStart&) = default;
};

struct Schedule {
  WorkShape shape;
  int32_t workers;
  int32_t split_tiles;           // 0: an item is split only where a worker ends (kBalanced)
  const WorkStart* starts;       // [workers + 1]: worker w does [starts[w], starts[w + 1])
  const int64_t* partial_begin;  // [workers + 1]: worker w writes partials from partial_begin[w]
};

// Bytes of the arrays behind a Schedule, 64-byte aligned, and of the prefix sum that finds them.
int64_t ScheduleBytes(int32_t batch, int32_t workers);

// An upper bound of the partials of any schedule with at most this many workers: O(batch).
int64_t MaxPartials(const WorkShape& shape, ScheduleMode mode, int32_t workers);

// Query rows of the largest item.
int32_t MaxItemRows(const WorkShape& shape);

// Cuts the work over at most `workers` workers (fewer if there is little of it).
Schedule BuildSchedule(const WorkShape& shape, ScheduleMode mode, int32_t workers, void* storage);

// One worker's part of one item.
struct Segment {
  int32_t row;
  int32_t kv_head;  // the first of `kv_heads`
  int32_t kv_heads;
  int32_t query_tile;
  TileRange tiles;  // this worker's
  TileRange all;    // the item's

  bool begins_item() const { return tiles.begin == all.begin; }
  bool ends_item() const { return tiles.end == all.end; }
};

// Partials of a segment: none if it is the whole item; one if it begins its item (its splits are
// already merged in order) or if there are no splits; else one for each split it touches.
int64_t PartialsOf(const Schedule& schedule, const Segment& segment);

// Walks a worker's segments: begin with at = starts[worker]; false at the end.
bool NextSegment(const Schedule& schedule, int32_t worker, WorkStart* at, Segment* segment);

}  // namespace quire

#endif  // QUIRE_KERNELS_SCHEDULE_H_
