// Walks one worker's share of the schedule: streams the tiles of its items through a running
// softmax, and writes outputs or partial results. Compiled once for each instruction set.

#if defined(QUIRE_KERNELS_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUIRE_KERNELS_CPU_ATTENTION_INL_H_
#undef QUIRE_KERNELS_CPU_ATTENTION_INL_H_
#else
#define QUIRE_KERNELS_CPU_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "hwy/highway.h"
#include "kernels/cpu/attention_job.h"
#include "kernels/cpu/attention_math-inl.h"
#include "kernels/cpu/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {

HWY_INLINE void Clear(const SoftmaxState& state, int32_t rows, int32_t head_dim) {
  std::fill_n(state.max, rows, -kInfinity);
  std::fill_n(state.sum, rows, 0.0f);
  std::fill_n(state.values, int64_t{rows} * head_dim, 0.0f);
}

// Adds a later part of the same item to `state`. A part that saw no key changes nothing, exactly.
template <int kLanes>
HWY_INLINE void Fold(const SoftmaxState& part, int32_t rows, int32_t head_dim,
                     const SoftmaxState& state) {
  const Floats<kLanes> d;
  const int32_t lanes = static_cast<int32_t>(hn::Lanes(d));
  for (int32_t r = 0; r < rows; ++r) {
    if (part.max[r] == -kInfinity && part.sum[r] == 0) continue;
    const float max = part.max[r] > state.max[r] ? part.max[r] : state.max[r];
    const float reference = max == -kInfinity ? 0 : max;
    const float mine = ExpOf(state.max[r] - reference);
    const float theirs = ExpOf(part.max[r] - reference);
    state.max[r] = max;
    state.sum[r] = MulAddOf(part.sum[r], theirs, state.sum[r] * mine);
    for (int32_t e = 0; e < head_dim; e += lanes) {
      float* at = state.values + int64_t{r} * head_dim + e;
      const auto scaled = hn::Mul(hn::LoadU(d, at), hn::Set(d, mine));
      const auto added = hn::LoadU(d, part.values + int64_t{r} * head_dim + e);
      hn::StoreU(hn::MulAdd(added, hn::Set(d, theirs), scaled), d, at);
    }
  }
}

// What the arithmetic needs to know of a segment's item.
struct Item {
  int32_t row;
  int32_t query_tile;
  int32_t first_head;   // query head
  int32_t rows;         // query tokens x group
  int64_t first_token;  // of all query tokens
};

HWY_INLINE Item ItemOf(const AttentionJob& job, const Segment& segment) {
  const WorkShape& shape = job.schedule.shape;
  return {.row = segment.row,
          .query_tile = segment.query_tile,
          .first_head = segment.kv_head * shape.group,
          .rows = QueriesOfItem(shape, segment.row, segment.query_tile) * shape.group,
          .first_token = int64_t{shape.query_begin[segment.row]} +
                         int64_t{segment.query_tile} * shape.query_tile};
}

// Which (query token, query head) of the call row r of an item is.
HWY_INLINE int64_t IndexOf(const AttentionJob& job, const Item& item, int32_t r) {
  const int32_t group = job.schedule.shape.group;
  return (item.first_token + r / group) * job.params->query_heads + item.first_head + r % group;
}

template <class E, int kLanes>
void LoadQueries(const AttentionJob& job, const Item& item, float* queries) {
  const Floats<kLanes> d;
  const int32_t head_dim = job.params->head_dim;
  const int32_t step = 2 * static_cast<int32_t>(hn::Lanes(d));
  for (int32_t r = 0; r < item.rows; ++r) {
    const E* from = static_cast<const E*>(job.params->query) + IndexOf(job, item, r) * head_dim;
    float* to = queries + int64_t{r} * head_dim;
    for (int32_t e = 0; e < head_dim; e += step) StorePair(d, LoadPair(d, from + e), to + e);
  }
}

// Divides by the sums, the sink included, and writes output and LSE.
template <class E, int kLanes>
void Finish(const AttentionJob& job, const Item& item, const SoftmaxState& state) {
  const Floats<kLanes> d;
  using V = hn::Vec<decltype(d)>;
  const AttentionParams& params = *job.params;
  const int32_t lanes = static_cast<int32_t>(hn::Lanes(d));
  for (int32_t r = 0; r < item.rows; ++r) {
    const int64_t index = IndexOf(job, item, r);
    float reference = state.max[r] == -kInfinity ? 0 : state.max[r];
    float sum = state.sum[r];
    float factor = 1;
    if (params.sinks != nullptr) {
      const float sink = params.sinks[index % params.query_heads];
      const float max = sink > state.max[r] ? sink : state.max[r];
      reference = max == -kInfinity ? 0 : max;
      factor = ExpOf(state.max[r] - reference);
      sum = MulAddOf(sum, factor, ExpOf(sink - reference));
    }
    const V scale = hn::Set(d, sum == 0 ? 0 : factor / sum);
    const float* values = state.values + int64_t{r} * params.head_dim;
    E* output = static_cast<E*>(params.output) + index * params.head_dim;
    for (int32_t e = 0; e < params.head_dim; e += 2 * lanes) {
      const Pair<V> pair = {hn::Mul(hn::LoadU(d, values + e), scale),
                            hn::Mul(hn::LoadU(d, values + e + lanes), scale)};
      StorePair(d, pair, output + e);
    }
    if (params.lse != nullptr) {
      params.lse[index] = sum == 0 ? -kInfinity : reference + std::log(sum);
    }
  }
}

template <class E, int kLanes>
class Worker {
 public:
  Worker(const AttentionJob& job, int32_t index)
      : job_(job),
        index_(index),
        at_(job.schedule.starts[index]),
        partial_(job.schedule.partial_begin[index]) {
    const int64_t query_floats = RoundUpTo16(int64_t{job.item_rows} * job.params->head_dim);
    const int64_t state_floats = StateFloats(job.item_rows, job.params->head_dim);
    queries_ = job.scratch + index * job.scratch_floats;
    scores_ = queries_ + query_floats;
    states_[0] = StateAt(scores_ + kRowBlock * kTileTokens, job.item_rows);
    states_[1] = StateAt(scores_ + kRowBlock * kTileTokens + state_floats, job.item_rows);
  }

  void Run() {
    Segment segment;
    bool more = NextSegment(job_.schedule, index_, &at_, &segment);
    if (more) FindRows(segment, segment.tiles.begin);
    while (more) {
      const Segment now = segment;
      more = NextSegment(job_.schedule, index_, &at_, &segment);
      RunSegment(now, more ? &segment : nullptr);
    }
  }

 private:
  void FindRows(const Segment& segment, int32_t tile) {
    FindTileRows(*job_.params, segment.row, segment.kv_head,
                 KeysOfItem(job_.schedule.shape, segment.row, segment.query_tile), tile,
                 &rows_[1 - now_]);
    now_ = 1 - now_;
  }

  // Where the next partial result of this worker goes.
  SoftmaxState NextPartial() {
    const int64_t floats = StateFloats(job_.item_rows, job_.params->head_dim);
    return StateAt(job_.partials + floats * partial_++, job_.item_rows);
  }

  void RunSegment(const Segment& segment, const Segment* next) {
    const Item item = ItemOf(job_, segment);
    const int32_t head_dim = job_.params->head_dim;
    const int32_t split = job_.schedule.split_tiles;
    LoadQueries<E, kLanes>(job_, item, queries_);
    // Inside an item, splits are kept apart, so that Merge can fold them in order.
    const bool fold = segment.begins_item();
    SoftmaxState total = {};
    int32_t tile = segment.tiles.begin;
    while (tile < segment.tiles.end) {
      const bool first = tile == segment.tiles.begin;
      const int32_t end =
          split == 0 ? segment.tiles.end : std::min(segment.tiles.end, (tile / split + 1) * split);
      SoftmaxState state = states_[1];
      if (!fold || (first && !segment.ends_item())) {
        state = NextPartial();
      } else if (first) {
        state = states_[0];
      }
      Clear(state, item.rows, head_dim);
      for (; tile < end; ++tile) {
        const bool last = tile + 1 == segment.tiles.end;
        RunTile(segment, item, tile, last ? next : &segment,
                last && next ? next->tiles.begin : tile + 1, state);
      }
      if (first) {
        total = state;
      } else if (fold) {
        Fold<kLanes>(state, item.rows, head_dim, total);
      }
    }
    if (fold && segment.ends_item()) Finish<E, kLanes>(job_, item, total);
  }

  // One tile, all rows of the item; finds the rows of the tile that comes after it first, so that
  // they are fetched meanwhile.
  void RunTile(const Segment& segment, const Item& item, int32_t tile, const Segment* next,
               int32_t next_tile, const SoftmaxState& state) {
    const TileRows& rows = rows_[now_];
    const TileRows* coming = nullptr;
    if (next != nullptr) {
      FindRows(*next, next_tile);
      if (rows_[now_].any) coming = &rows_[now_];
    }
    (void)segment;
    for (int32_t r = 0; r < item.rows; r += kRowBlock) {
      RunRows(item, tile, r, std::min(kRowBlock, item.rows - r), rows, r == 0 ? coming : nullptr,
              state);
    }
  }

  void RunRows(const Item& item, int32_t tile, int32_t first, int count, const TileRows& rows,
               const TileRows* next, const SoftmaxState& state) {
    const WorkShape& shape = job_.schedule.shape;
    const int32_t head_dim = job_.params->head_dim;
    const int64_t tile_begin = int64_t{tile} * kTileTokens;
    Visible visible[kRowBlock];
    Visible any = {kTileTokens, 0};
    for (int r = 0; r < count; ++r) {
      const int32_t token = item.query_tile * shape.query_tile + (first + r) / shape.group;
      const KeyRange keys = KeysOfQuery(shape, item.row, token);
      visible[r].begin = static_cast<int>(std::clamp<int64_t>(keys.begin - tile_begin, 0, 64));
      visible[r].end = static_cast<int>(std::clamp<int64_t>(keys.end - tile_begin, 0, 64));
      if (visible[r].begin >= visible[r].end) continue;
      any = {std::min(any.begin, visible[r].begin), std::max(any.end, visible[r].end)};
    }
    if (any.begin >= any.end) return;
    Scores<E, kLanes>(queries_ + int64_t{first} * head_dim, head_dim, count, rows,
                      any.begin / 4 * 4, (any.end + 3) / 4 * 4, scores_, next);
    float factors[kRowBlock];
    for (int r = 0; r < count; ++r) {
      factors[r] = 1;
      if (visible[r].begin >= visible[r].end) continue;
      factors[r] = Softmax(*job_.params, visible[r].begin, visible[r].end,
                           scores_ + r * kTileTokens, state.max + first + r, state.sum + first + r);
    }
    MaskedValues<E, kLanes>(scores_, factors, head_dim, count, visible, rows,
                            state.values + int64_t{first} * head_dim, next);
  }

  const AttentionJob& job_;
  const int32_t index_;
  WorkStart at_;
  int64_t partial_;
  float* queries_;
  float* scores_;
  SoftmaxState states_[2];
  TileRows rows_[2];
  int now_ = 0;
};

// The partials of the item that `worker` began and did not end follow one another: its own last
// one, then those of each later worker's first segment.
template <class E, int kLanes>
void MergeItem(const AttentionJob& job, int32_t worker) {
  const Schedule& schedule = job.schedule;
  const int32_t head_dim = job.params->head_dim;
  WorkStart at = schedule.starts[worker];
  Segment segment;
  bool any = false;
  while (NextSegment(schedule, worker, &at, &segment)) any = true;
  if (!any || !segment.begins_item() || segment.ends_item()) return;

  const Item item = ItemOf(job, segment);
  const int64_t floats = StateFloats(job.item_rows, head_dim);
  int64_t partial = schedule.partial_begin[worker + 1] - 1;
  const SoftmaxState total = StateAt(job.partials + floats * partial, job.item_rows);
  for (int32_t w = worker + 1; !segment.ends_item(); ++w) {
    at = schedule.starts[w];
    if (!NextSegment(schedule, w, &at, &segment)) continue;
    for (int64_t count = PartialsOf(schedule, segment); count > 0; --count) {
      ++partial;
      Fold<kLanes>(StateAt(job.partials + floats * partial, job.item_rows), item.rows, head_dim,
                   total);
    }
  }
  Finish<E, kLanes>(job, item, total);
}

// Vectors as long as head_dim allows: it is a multiple of two of them.
template <class E>
void RunWorker(const AttentionJob& job, int32_t worker) {
  if (job.params->head_dim % 32 == 0) return Worker<E, 16>(job, worker).Run();
  if (job.params->head_dim % 16 == 0) return Worker<E, 8>(job, worker).Run();
  return Worker<E, 4>(job, worker).Run();
}

template <class E>
void MergeWorker(const AttentionJob& job, int32_t worker) {
  if (job.params->head_dim % 32 == 0) return MergeItem<E, 16>(job, worker);
  if (job.params->head_dim % 16 == 0) return MergeItem<E, 8>(job, worker);
  return MergeItem<E, 4>(job, worker);
}

}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
