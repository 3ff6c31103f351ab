// Properties of the schedule, over random batches: every tile of every item is done exactly once,
// in order, by balanced workers, within the workspace that was asked for.

#include "kernels/schedule.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

struct Batch {
  std::vector<int32_t> lengths;
  std::vector<int32_t> query_begin = {0};
  int32_t kv_heads = 1;
  int32_t group = 1;
  int32_t window = 0;
  bool causal = true;

  void Add(int32_t length, int32_t queries) {
    lengths.push_back(length);
    query_begin.push_back(query_begin.back() + queries);
  }
  WorkShape Shape(int32_t workers) const {
    AttentionParams params = {};
    params.table.lengths = lengths.data();
    params.table.batch = static_cast<int32_t>(lengths.size());
    params.query_begin = query_begin.data();
    params.kv_heads = kv_heads;
    params.query_heads = kv_heads * group;
    params.window = window;
    params.causal = causal;
    WorkShape shape = WorkShapeOf(params);
    FitHeadBlock(workers, &shape);
    return shape;
  }
};

// A schedule with its storage, of exactly ScheduleBytes, so that ASan sees a write past it.
class Built {
 public:
  Built(const Batch& batch, ScheduleMode mode, int32_t workers)
      : shape(batch.Shape(workers)),
        storage_(static_cast<size_t>(ScheduleBytes(shape.batch, workers)) / sizeof(int64_t)) {
    schedule = BuildSchedule(shape, mode, workers, storage_.data());
  }

  std::vector<Segment> SegmentsOf(int32_t worker) const {
    std::vector<Segment> segments;
    WorkStart at = schedule.starts[worker];
    Segment segment;
    while (NextSegment(schedule, worker, &at, &segment)) segments.push_back(segment);
    return segments;
  }

  WorkShape shape;
  Schedule schedule;

 private:
  std::vector<int64_t> storage_;
};

int64_t Cost(const Batch& batch, const WorkShape& shape, const Segment& s) {
  const int64_t rows = QueriesOfItem(shape, s.row, s.query_tile) * batch.group;
  return (s.tiles.end - s.tiles.begin) * s.kv_heads * (4 + rows);
}

// All segments of all workers in turn must be all items in order, without gap or overlap.
void ExpectEveryTileOnce(const Batch& batch, const Built& built) {
  std::vector<Segment> all;
  for (int32_t w = 0; w < built.schedule.workers; ++w) {
    for (const Segment& segment : built.SegmentsOf(w)) all.push_back(segment);
  }
  size_t next = 0;
  for (int32_t row = 0; row < built.shape.batch; ++row) {
    const int32_t queries = batch.query_begin[row + 1] - batch.query_begin[row];
    for (int32_t head = 0; head < batch.kv_heads && queries > 0;) {
      int32_t heads = 0;
      for (int32_t q = 0; q < QueryTilesOfRow(built.shape, row); ++q) {
        const TileRange tiles = TilesOfItem(built.shape, row, q);
        ASSERT_LT(tiles.begin, tiles.end) << "row " << row << " has no tile";
        for (int32_t tile = tiles.begin; tile < tiles.end; ++next) {
          ASSERT_LT(next, all.size());
          const Segment& s = all[next];
          ASSERT_EQ(s.row, row);
          ASSERT_EQ(s.kv_head, head);
          ASSERT_EQ(s.query_tile, q);
          ASSERT_EQ(s.all.begin, tiles.begin);
          ASSERT_EQ(s.all.end, tiles.end);
          ASSERT_EQ(s.tiles.begin, tile);
          ASSERT_LT(tile, s.tiles.end);
          ASSERT_GE(s.kv_heads, 1);
          if (heads != 0) {
            ASSERT_EQ(s.kv_heads, heads);
          }
          heads = s.kv_heads;
          tile = s.tiles.end;
        }
      }
      head += heads;
      ASSERT_LE(head, batch.kv_heads);
    }
  }
  EXPECT_EQ(next, all.size());
}

void ExpectPartialsCounted(const Built& built) {
  int64_t count = 0;
  for (int32_t w = 0; w < built.schedule.workers; ++w) {
    EXPECT_EQ(built.schedule.partial_begin[w], count);
    for (const Segment& s : built.SegmentsOf(w)) count += PartialsOf(built.schedule, s);
    if (built.schedule.split_tiles == 0) {
      EXPECT_LE(count - built.schedule.partial_begin[w], 2) << "worker " << w;
    }
  }
  EXPECT_EQ(built.schedule.partial_begin[built.schedule.workers], count);
}

// kBatchInvariant: cuts inside an item only at absolute splits.
void ExpectCutsAtSplits(const Built& built) {
  if (built.schedule.split_tiles == 0) return;
  for (int32_t w = 0; w < built.schedule.workers; ++w) {
    for (const Segment& s : built.SegmentsOf(w)) {
      EXPECT_TRUE(s.begins_item() || s.tiles.begin % kSplitTiles == 0) << s.tiles.begin;
      EXPECT_TRUE(s.ends_item() || s.tiles.end % kSplitTiles == 0) << s.tiles.end;
    }
  }
}

// No worker has more than its share, one rounding and one unit of work.
void ExpectBalanced(const Batch& batch, const Built& built) {
  int64_t total = 0;
  int64_t worst = 0;
  int64_t unit = 0;  // of work that is not cut
  for (int32_t w = 0; w < built.schedule.workers; ++w) {
    int64_t cost = 0;
    for (const Segment& s : built.SegmentsOf(w)) {
      cost += Cost(batch, built.shape, s);
      Segment one = s;
      one.tiles.end = one.tiles.begin + (built.schedule.split_tiles == 0 ? 1 : kSplitTiles);
      unit = std::max(unit, Cost(batch, built.shape, one));
    }
    total += cost;
    worst = std::max(worst, cost);
  }
  const int64_t share = total / built.schedule.workers;
  EXPECT_LE(worst, share + (built.schedule.split_tiles == 0 ? 0 : share / 8) + 2 * unit);
}

Batch RandomBatch(std::mt19937& random) {
  const auto pick = [&](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random);
  };
  Batch batch;
  batch.kv_heads = pick(1, 9);
  batch.group = pick(1, 3) == 1 ? pick(1, 80) : pick(1, 5);
  batch.causal = pick(0, 3) != 0;
  batch.window = batch.causal && pick(0, 1) == 0 ? pick(1, 3000) : 0;
  const int32_t rows = pick(0, 3) == 0 ? pick(100, 300) : pick(0, 9);
  for (int32_t i = 0; i < rows; ++i) {
    const int32_t length = pick(0, 2) == 0 ? pick(0, 20000) : pick(0, 200);
    const int32_t most = batch.causal ? length : 500;
    batch.Add(length, std::min(most, pick(0, 2) == 0 ? pick(0, 500) : pick(0, 2)));
  }
  return batch;
}

TEST(ScheduleTest, HoldsItsPropertiesForRandomBatches) {
  std::mt19937 random(7);
  for (int i = 0; i < 400; ++i) {
    const Batch batch = RandomBatch(random);
    const int32_t workers = std::uniform_int_distribution<int32_t>(1, 70)(random);
    for (const ScheduleMode mode : {ScheduleMode::kBatchInvariant, ScheduleMode::kBalanced}) {
      SCOPED_TRACE(::testing::Message()
                   << "case " << i << " workers " << workers << " mode " << static_cast<int>(mode));
      const Built built(batch, mode, workers);
      ASSERT_GE(built.schedule.workers, 1);
      ASSERT_LE(built.schedule.workers, workers);
      ExpectEveryTileOnce(batch, built);
      ExpectPartialsCounted(built);
      ExpectCutsAtSplits(built);
      ExpectBalanced(batch, built);
      EXPECT_LE(built.schedule.partial_begin[built.schedule.workers],
                MaxPartials(built.shape, mode, workers));
      if (::testing::Test::HasFailure()) return;
    }
  }
}

TEST(ScheduleTest, ItemsAreNoLargerThanMaxItemRows) {
  std::mt19937 random(8);
  for (int i = 0; i < 200; ++i) {
    const Batch batch = RandomBatch(random);
    const Built built(batch, ScheduleMode::kBatchInvariant, 8);
    for (int32_t w = 0; w < built.schedule.workers; ++w) {
      for (const Segment& s : built.SegmentsOf(w)) {
        const int32_t rows =
            QueriesOfItem(built.shape, s.row, s.query_tile) * batch.group * s.kv_heads;
        EXPECT_LE(rows, MaxItemRows(built.shape));
        EXPECT_LE(rows, std::max(kItemRows, batch.group));
      }
    }
  }
}

TEST(ScheduleTest, NothingToDo) {
  for (const ScheduleMode mode : {ScheduleMode::kBatchInvariant, ScheduleMode::kBalanced}) {
    Batch batch;
    EXPECT_TRUE(Built(batch, mode, 4).SegmentsOf(0).empty());
    batch.Add(0, 0);
    batch.Add(100, 0);
    const Built built(batch, mode, 4);
    EXPECT_EQ(built.schedule.workers, 1);
    EXPECT_TRUE(built.SegmentsOf(0).empty());
  }
}

TEST(ScheduleTest, ARowWithoutKeysHasOneTile) {
  Batch batch;
  batch.causal = false;
  batch.Add(0, 1);
  const Built built(batch, ScheduleMode::kBatchInvariant, 1);
  const std::vector<Segment> segments = built.SegmentsOf(0);
  ASSERT_EQ(segments.size(), 1u);
  EXPECT_TRUE(segments[0].begins_item() && segments[0].ends_item());
}

TEST(ScheduleTest, TilesBeforeTheWindowAreNotVisited) {
  Batch batch;
  batch.window = 100;
  batch.Add(1000, 1);   // sees keys 900 to 999
  batch.Add(1000, 50);  // sees keys 851 to 999
  const Built built(batch, ScheduleMode::kBalanced, 1);
  EXPECT_EQ(TilesOfItem(built.shape, 0, 0).begin, 14);
  EXPECT_EQ(TilesOfItem(built.shape, 0, 0).end, 16);
  EXPECT_EQ(TilesOfItem(built.shape, 1, 0).begin, 13);
}

TEST(ScheduleTest, CausalQueryTilesEndAtTheirLastQuery) {
  Batch batch;
  batch.Add(1000, 1000);
  const Built built(batch, ScheduleMode::kBalanced, 1);
  EXPECT_EQ(TilesOfItem(built.shape, 0, 0).end, 1);
  EXPECT_EQ(TilesOfItem(built.shape, 0, 1).end, 2);
  EXPECT_EQ(TilesOfItem(built.shape, 0, 15).end, 16);
}

TEST(ScheduleTest, ADecodeStepTakesAllHeadsOfAPageTogether) {
  Batch batch;
  batch.kv_heads = 8;
  batch.group = 4;
  for (int i = 0; i < 32; ++i) batch.Add(4096, 1);
  const Built built(batch, ScheduleMode::kBatchInvariant, 2);
  for (const Segment& s : built.SegmentsOf(0)) EXPECT_EQ(s.kv_heads, 8);
  EXPECT_EQ(built.schedule.partial_begin[2], 0);  // whole rows
}

TEST(ScheduleTest, FewLongRowsAreSharedOutByHeads) {
  Batch batch;
  batch.kv_heads = 8;
  batch.Add(600, 1);
  EXPECT_EQ(batch.Shape(1).head_block, 2);
  EXPECT_EQ(batch.Shape(64).head_block, 1);
}

TEST(ScheduleTest, LongestLengthsDoNotOverflow) {
  Batch batch;
  batch.kv_heads = 128;
  for (int i = 0; i < 4; ++i) batch.Add(INT32_MAX, 1);
  for (const ScheduleMode mode : {ScheduleMode::kBatchInvariant, ScheduleMode::kBalanced}) {
    const Built built(batch, mode, 1000);
    ExpectEveryTileOnce(batch, built);
    EXPECT_GT(MaxPartials(built.shape, mode, 1000), 0);
  }
}

}  // namespace
}  // namespace quire
