// The host part of the CUDA attention launchers: answers to bad arguments, sizes that depend on no
// length, and schedules in which every tile is done once and every cut item is merged once.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/args.h"
#include "kernels/cuda/prepare.h"
#include "kernels/schedule.h"
#include "quire/attention.h"

namespace quire {
namespace {

constexpr cuda::Gpu kH200 = {132, 227 * 1024, 228 * 1024};
constexpr cuda::Gpu kSmall = {3, 99 * 1024, 100 * 1024};  // shared memory as of sm_86

struct alignas(64) Line {
  char bytes[64];
};

// A batch that is good, and a schedule's memory filled with 'x'.
struct Step {
  explicit Step(const cuda::Gpu& gpu_of_step = kSmall) : gpu(gpu_of_step) {
    schedule.resize(static_cast<size_t>(cuda::ScheduleBytes(gpu)) / sizeof(Line));
    std::memset(schedule.data(), 'x', schedule.size() * sizeof(Line));
    workspace.resize(1 << 17);
    Point();
  }
  void Point() {
    params.table = {.page_ids = ids.data(),
                    .row_begin = row_begin.data(),
                    .lengths = lengths.data(),
                    .batch = static_cast<int32_t>(lengths.size()),
                    .tokens_per_page = 16};
    params.query_begin = query_begin.data();
    params.kv = {pool, pool, {4096, 1024, 128}, {4096, 1024, 128}, 100};
    params.dtype = DType::kBFloat16;
    params.query_heads = 4;
    params.kv_heads = 2;
    params.head_dim = 64;
    params.query = pool;
    params.output = pool + 64;
    params.scale = 0.125f;
    params.causal = true;
    params.max_queries = 3;
    params.schedule = schedule.data();
    params.workspace = workspace.data();
    params.workspace_bytes = static_cast<int64_t>(workspace.size() * sizeof(Line));
  }
  bool Untouched() const {
    const auto* bytes = reinterpret_cast<const char*>(schedule.data());
    return std::all_of(bytes, bytes + schedule.size() * sizeof(Line),
                       [](char c) { return c == 'x'; });
  }

  cuda::Gpu gpu;
  std::vector<int32_t> lengths = {40, 33};
  std::vector<int32_t> query_begin = {0, 1, 4};
  std::vector<int64_t> row_begin = {0, 3};
  std::vector<PageId> ids = std::vector<PageId>(6, PageId{7});
  alignas(64) char pool[128];
  std::vector<Line> schedule;
  std::vector<Line> workspace;
  AttentionParams params = {};
};

TEST(BuildScheduleTest, BadArgumentsWriteNothing) {
  const auto refused = [](LaunchError want, const std::function<void(Step&)>& spoil) {
    Step step;
    spoil(step);
    EXPECT_EQ(cuda::BuildSchedule(step.params, step.gpu, step.schedule.data()), want);
    EXPECT_TRUE(step.Untouched());
  };
  const auto bad = [&](const std::function<void(Step&)>& spoil) {
    refused(LaunchError::kBadArgument, spoil);
  };
  bad([](Step& s) { s.params.table.lengths = nullptr; });
  bad([](Step& s) { s.params.query_begin = nullptr; });
  bad([](Step& s) { s.params.table.batch = -1; });
  bad([](Step& s) { s.params.table.tokens_per_page = 0; });
  bad([](Step& s) { s.params.query_heads = 3; });
  bad([](Step& s) { s.params.kv_heads = 0; });
  bad([](Step& s) { s.params.window = -1; });
  bad([](Step& s) { s.params.soft_cap = -1; });
  bad([](Step& s) { s.params.max_queries = -1; });
  bad([](Step& s) { s.params.max_queries = 2; });  // a row has 3
  bad([](Step& s) { s.params.max_queries = 0; });  // taken as 1
  bad([](Step& s) { s.lengths[1] = 2; });          // fewer tokens than queries
  bad([](Step& s) { s.lengths[0] = -1; });
  bad([](Step& s) { s.query_begin[0] = 1; });
  bad([](Step& s) { s.query_begin[1] = 5; });
  bad([](Step& s) { s.ids[5] = PageId{100}; });
  bad([](Step& s) { s.ids[0] = kNoPage; });
  bad([](Step& s) { s.gpu.multiprocessors = 0; });
  refused(LaunchError::kUnsupported, [](Step& s) { s.params.head_dim = 12; });
  refused(LaunchError::kUnsupported, [](Step& s) { s.params.mode = ScheduleMode{5}; });
  refused(LaunchError::kMisaligned, [](Step& s) { s.params.kv.k_strides.page = 8; });
  Step step;
  EXPECT_EQ(cuda::BuildSchedule(step.params, step.gpu, nullptr), LaunchError::kBadArgument);
  char* const odd = reinterpret_cast<char*>(step.schedule.data()) + 8;
  EXPECT_EQ(cuda::BuildSchedule(step.params, step.gpu, odd), LaunchError::kMisaligned);
  EXPECT_TRUE(step.Untouched());
}

TEST(BuildScheduleTest, NeedsNoPagesAndNoDevicePointers) {
  Step step;
  step.params.table.page_ids = nullptr;
  step.params.table.row_begin = nullptr;
  step.params.kv.k = step.params.kv.v = nullptr;
  step.params.query = step.params.output = nullptr;
  step.params.workspace = nullptr;
  EXPECT_EQ(cuda::BuildSchedule(step.params, step.gpu, step.schedule.data()), LaunchError::kOk);
  EXPECT_FALSE(step.Untouched());
}

TEST(PrepareAttentionTest, BadArguments) {
  const auto refused = [](LaunchError want, const std::function<void(Step&)>& spoil) {
    Step step;
    spoil(step);
    cuda::AttentionArgs args;
    EXPECT_EQ(cuda::PrepareAttention(step.params, step.gpu, cuda::AttentionKind::kTensor, &args),
              want);
  };
  refused(LaunchError::kOk, [](Step&) {});
  const auto bad = [&](const std::function<void(Step&)>& spoil) {
    refused(LaunchError::kBadArgument, spoil);
  };
  bad([](Step& s) { s.params.schedule = nullptr; });
  bad([](Step& s) { s.params.table.page_ids = nullptr; });
  bad([](Step& s) { s.params.table.row_begin = nullptr; });
  bad([](Step& s) { s.params.table.lengths = nullptr; });
  bad([](Step& s) { s.params.query_begin = nullptr; });
  bad([](Step& s) { s.params.query = nullptr; });
  bad([](Step& s) { s.params.output = nullptr; });
  bad([](Step& s) { s.params.output = const_cast<void*>(s.params.query); });
  bad([](Step& s) { s.params.max_queries = -1; });
  refused(LaunchError::kMisaligned, [](Step& s) { s.params.query = s.pool + 8; });
  refused(LaunchError::kMisaligned, [](Step& s) { s.params.output = s.pool + 72; });
  refused(LaunchError::kMisaligned,
          [](Step& s) { s.params.schedule = static_cast<const char*>(s.params.schedule) + 16; });
  refused(LaunchError::kMisaligned,
          [](Step& s) { s.params.workspace = static_cast<char*>(s.params.workspace) + 16; });
  refused(LaunchError::kWorkspaceTooSmall, [](Step& s) { s.params.workspace = nullptr; });
  refused(LaunchError::kWorkspaceTooSmall,
          [](Step& s) { s.params.workspace_bytes = cuda::WorkspaceBytes(s.params, s.gpu) - 1; });
}

TEST(KindTest, TensorCoresWhereTheyFit) {
  const auto kind = [](DType dtype, int32_t head_dim, int32_t group, const cuda::Gpu& gpu) {
    AttentionParams params = {};
    params.dtype = dtype;
    params.head_dim = head_dim;
    params.kv_heads = 2;
    params.query_heads = 2 * group;
    return cuda::KindOf(params, gpu);
  };
  constexpr auto kTensor = cuda::AttentionKind::kTensor;
  constexpr auto kPlain = cuda::AttentionKind::kPlain;
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    EXPECT_EQ(kind(dtype, 64, 8, kH200), kTensor);
    EXPECT_EQ(kind(dtype, 128, 128, kH200), kTensor);
    EXPECT_EQ(kind(dtype, 128, 129, kH200), kPlain);
    EXPECT_EQ(kind(dtype, 256, 64, kH200), kTensor);
    EXPECT_EQ(kind(dtype, 256, 65, kH200), kPlain);
    EXPECT_EQ(kind(dtype, 96, 8, kH200), kPlain);
    EXPECT_EQ(kind(dtype, 128, 8, kSmall), kTensor);
    EXPECT_EQ(kind(dtype, 256, 8, kSmall), kPlain);  // wants 160 KB
  }
  EXPECT_EQ(kind(DType::kFloat32, 128, 8, kH200), kPlain);
}

TEST(WorkspaceTest, DependsOnNoLengthAndIsAsSmallAsPromised) {
  AttentionParams params = {};
  params.dtype = DType::kBFloat16;
  params.query_heads = 32;
  params.kv_heads = 8;
  params.head_dim = 128;
  params.mode = ScheduleMode::kBalanced;
  // A place of its own and two partial results for each of 264 blocks; a partial result is a
  // maximum, a sum and 128 values for each query row.
  const auto bytes = [](int64_t each, int64_t rows) { return each * 264 * rows * 130 * 4; };
  params.max_queries = 1;  // 4 query heads a KV head: 4 rows
  EXPECT_EQ(cuda::WorkspaceBytes(params, kH200), bytes(3, 4));
  params.max_queries = 4;  // 16 rows: still decode tiles
  EXPECT_EQ(cuda::WorkspaceBytes(params, kH200), bytes(3, 16));
  params.max_queries = 5;
  EXPECT_EQ(cuda::WorkspaceBytes(params, kH200), bytes(3, 128));
  params.mode = ScheduleMode::kBatchInvariant;  // 32 splits; prefill tiles are not split
  EXPECT_EQ(cuda::WorkspaceBytes(params, kH200), bytes(33, 16));
  params.max_queries = 1;
  EXPECT_EQ(cuda::WorkspaceBytes(params, kH200), bytes(33, 4));  // 18 MB
  params.query_heads = 8;  // one row, rounded up: 16-byte accesses
  EXPECT_EQ(cuda::WorkspaceBytes(params, kH200), bytes(33, 2));
  params.head_dim = 256;
  EXPECT_EQ(cuda::WorkspaceBytes(params, {5, kH200.shared_bytes, 0}) % 64, 0);
  params.dtype = DType::kFloat32;
  EXPECT_EQ(cuda::WorkspaceBytes(params, kH200), 0);
}

// A random batch and its schedule, read back as a device would.
class ScheduledBatch {
 public:
  ScheduledBatch(std::mt19937& random, ScheduleMode mode, const cuda::Gpu& gpu) : gpu_(gpu) {
    const auto draw = [&](int32_t below) { return static_cast<int32_t>(random() % below); };
    const int32_t batch = draw(3) == 0 ? draw(300) : draw(8);
    params_.query_heads = 1 << draw(7);
    params_.kv_heads = std::min(params_.query_heads, 1 << draw(3));
    params_.head_dim = 64 << draw(3);
    params_.dtype = DType::kBFloat16;
    params_.causal = draw(4) != 0;
    params_.window = params_.causal && draw(3) == 0 ? 1 + draw(3000) : 0;
    params_.mode = mode;
    query_begin_.push_back(0);
    for (int32_t row = 0; row < batch; ++row) {
      const int32_t length = draw(5) == 0 ? 0 : draw(draw(6) == 0 ? 60000 : 700);
      const int32_t queries = draw(4) == 0 ? draw(std::min(length, 400) + 1) : std::min(length, 1);
      lengths_.push_back(length);
      query_begin_.push_back(query_begin_.back() + queries);
      params_.max_queries = std::max(params_.max_queries, queries);
    }
    params_.table = {.page_ids = nullptr,
                     .row_begin = nullptr,
                     .lengths = lengths_.data(),
                     .batch = batch,
                     .tokens_per_page = 16};
    params_.query_begin = query_begin_.data();
    memory_.resize(static_cast<size_t>(cuda::ScheduleBytes(gpu)) / sizeof(Line));
    built_ = cuda::BuildSchedule(params_, gpu, memory_.data());
  }

  // Every tile of every item once; partial results of an item one after another, in the order of
  // their tiles, each written once, and merged by the worker that began it; all in the workspace.
  void Check() {
    ASSERT_EQ(built_, LaunchError::kOk);
    const auto* base = reinterpret_cast<const char*>(memory_.data());
    const auto* header = reinterpret_cast<const cuda::DeviceSchedule*>(base);
    const auto layout = cuda::LayOutSchedule(cuda::MaxWorkers(gpu_));
    ASSERT_EQ(header->batch, params_.table.batch);
    ASSERT_LE(header->workers, cuda::WorkersOf(params_, gpu_));
    merges_ = reinterpret_cast<const cuda::MergeRange*>(base + layout.merges);
    schedule_ = {.shape = cuda::DeviceWorkShape(params_),
                 .workers = header->workers,
                 .split_tiles = header->split_tiles,
                 .starts = reinterpret_cast<const WorkStart*>(base + layout.starts),
                 .partial_begin = reinterpret_cast<const int64_t*>(base + layout.partial_begin)};
    for (int32_t w = 0; w < schedule_.workers; ++w) CheckWorker(w);
    int64_t tiles = 0;
    for (int32_t row = 0; row < params_.table.batch; ++row) {
      for (int32_t t = 0; t < QueryTilesOfRow(schedule_.shape, row); ++t) {
        const TileRange all = TilesOfItem(schedule_.shape, row, t);
        tiles += int64_t{all.end - all.begin} * params_.kv_heads;
      }
    }
    EXPECT_EQ(tiles_, tiles);
    EXPECT_TRUE(open_.empty()) << "an item was begun and not ended";
    const int64_t room = cuda::WorkspaceBytes(params_, gpu_) / int64_t{sizeof(float)} /
                         cuda::PartialFloats(SlotRows(), params_.head_dim);
    EXPECT_LE(schedule_.partial_begin[schedule_.workers], room);
    EXPECT_GE(schedule_.partial_begin[0], cuda::WorkersOf(params_, gpu_)) << "a block's own place";
  }

 private:
  using Item = std::tuple<int32_t, int32_t, int32_t>;
  struct OpenItem {
    int32_t next_tile;
    cuda::MergeRange merge;
    int64_t partials;
  };

  int32_t SlotRows() const {
    cuda::AttentionArgs args;
    AttentionParams params = params_;
    alignas(64) char somewhere[256];
    params.table.page_ids = reinterpret_cast<const PageId*>(somewhere);
    params.table.row_begin = reinterpret_cast<const int64_t*>(somewhere);
    params.query = somewhere;
    params.output = somewhere + 128;
    params.schedule = memory_.data();
    params.workspace = somewhere;
    params.workspace_bytes = std::numeric_limits<int64_t>::max();
    EXPECT_EQ(cuda::PrepareAttention(params, gpu_, cuda::AttentionKind::kTensor, &args),
              LaunchError::kOk);
    return args.partial_rows;
  }

  void CheckWorker(int32_t w) {
    int64_t partial = schedule_.partial_begin[w];
    WorkStart at = schedule_.starts[w];
    cuda::MergeRange merge = merges_[w];
    for (Segment s; NextSegment(schedule_, w, &at, &s);) {
      tiles_ += s.tiles.end - s.tiles.begin;
      const Item item = {s.row, s.kv_head, s.query_tile};
      if (!s.begins_item()) {
        ASSERT_EQ(open_.count(item), 1u);
        OpenItem& open = open_[item];
        ASSERT_EQ(open.next_tile, s.tiles.begin);
        ASSERT_EQ(open.merge.first + open.partials, partial) << "partial results are not in order";
        open.partials += PartialsOf(schedule_, s);
        open.next_tile = s.tiles.end;
        if (s.ends_item()) {
          EXPECT_EQ(open.merge.count, open.partials);
          open_.erase(item);
        }
      } else if (!s.ends_item()) {
        ASSERT_EQ(merge.first, partial);
        open_[item] = {s.tiles.end, merge, 1};
        merge = {0, 0};
      }
      CheckCut(s);
      partial += PartialsOf(schedule_, s);
    }
    EXPECT_EQ(partial, schedule_.partial_begin[w + 1]);
    EXPECT_EQ(merge.count, 0) << "worker " << w << " would merge what it has not begun";
  }

  // kBatchInvariant: only at places that the row alone decides.
  void CheckCut(const Segment& s) const {
    if (params_.mode != ScheduleMode::kBatchInvariant) return;
    const int32_t split = SplitTilesOf(schedule_, s.row, s.query_tile);
    EXPECT_TRUE(s.begins_item() || s.tiles.begin % split == 0);
    EXPECT_TRUE(s.ends_item() || s.tiles.end % split == 0);
    EXPECT_LE(SplitsIn(s.all, split), 32);
  }

  cuda::Gpu gpu_;
  AttentionParams params_ = {};
  std::vector<int32_t> lengths_;
  std::vector<int32_t> query_begin_;
  std::vector<Line> memory_;
  LaunchError built_;
  Schedule schedule_ = {};
  const cuda::MergeRange* merges_ = nullptr;
  std::map<Item, OpenItem> open_;
  int64_t tiles_ = 0;
};

// Bugs elsewhere (docs/testing.md): 17, 22.
TEST(BuildScheduleTest, EveryTileOnceAndEveryCutItemMergedOnce) {
  for (const ScheduleMode mode : {ScheduleMode::kBatchInvariant, ScheduleMode::kBalanced}) {
    for (uint32_t seed = 0; seed < 300; ++seed) {
      SCOPED_TRACE(::testing::Message() << "mode " << static_cast<int>(mode) << " seed " << seed);
      std::mt19937 random(seed);
      ScheduledBatch batch(
          random, mode,
          seed % 3 == 0 ? kH200 : cuda::Gpu{1 + int32_t(seed % 7), 227 * 1024, 228 * 1024});
      batch.Check();
      if (::testing::Test::HasFailure()) return;
    }
  }
}

TEST(BuildScheduleTest, SharesWorkEvenly) {
  // 64 rows of 8192: each of 264 workers gets its share of 64 * 8 * 128 tiles, to a tile.
  std::vector<int32_t> lengths(64, 8192);
  std::vector<int32_t> query_begin(65);
  for (int32_t i = 0; i < 65; ++i) query_begin[static_cast<size_t>(i)] = i;
  AttentionParams params = {};
  params.table = {nullptr, nullptr, lengths.data(), 64, 16};
  params.query_begin = query_begin.data();
  params.dtype = DType::kBFloat16;
  params.query_heads = 32;
  params.kv_heads = 8;
  params.head_dim = 128;
  params.causal = true;
  params.mode = ScheduleMode::kBalanced;
  std::vector<Line> memory(static_cast<size_t>(cuda::ScheduleBytes(kH200)) / sizeof(Line));
  ASSERT_EQ(cuda::BuildSchedule(params, kH200, memory.data()), LaunchError::kOk);
  const auto* base = reinterpret_cast<const char*>(memory.data());
  ASSERT_EQ(reinterpret_cast<const cuda::DeviceSchedule*>(base)->workers, 264);
  const auto* starts = reinterpret_cast<const WorkStart*>(
      base + cuda::LayOutSchedule(cuda::MaxWorkers(kH200)).starts);
  const auto line = [](const WorkStart& s) {
    return (int64_t{s.row} * 8 + s.kv_head) * 128 + s.tile;
  };
  for (int w = 0; w < 264; ++w) {
    const int64_t tiles = line(starts[w + 1]) - line(starts[w]);
    EXPECT_GE(tiles, 247);
    EXPECT_LE(tiles, 250);
  }
}

}  // namespace
}  // namespace quire
