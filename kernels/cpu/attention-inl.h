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

QUIRE_BEGIN_SIMD

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

// What the arithmetic needs to know of a segment's item. Its query rows stand in the order KV head,
// query token, query head of the group.
struct Item {
  int32_t row;
  int32_t first_query;  // of the row's
  int32_t first_head;   // query head
  int32_t head_rows;    // query rows of one KV head: query tokens x group
  int32_t rows;         // of all its KV heads
};

HWY_INLINE Item ItemOf(const AttentionJob& job, const Segment& segment) {
  const WorkShape& shape = job.schedule.shape;
  const int32_t head_rows = QueriesOfItem(shape, segment.row, segment.query_tile) * shape.group;
  return {.row = segment.row,
          .first_query = segment.query_tile * shape.query_tile,
          .first_head = segment.kv_head * shape.group,
          .head_rows = head_rows,
          .rows = head_rows * segment.kv_heads};
}

// Which (query token, query head) of the call row r of an item is.
HWY_INLINE int64_t IndexOf(const AttentionJob& job, const Item& item, int32_t r) {
  const int32_t group = job.schedule.shape.group;
  const int64_t token =
      int64_t{job.params->query_begin[item.row]} + item.first_query + r % item.head_rows / group;
  const int32_t head = item.first_head + r / item.head_rows * group + r % group;
  return token * job.params->query_heads + head;
}

template <class E, int kLanes>
void LoadQueries(const AttentionJob& job, const Item& item, float* queries) {
  const Floats<kLanes> d;
  const int32_t head_dim = job.params->head_dim;
  const int32_t step = 2 * static_cast<int32_t>(hn::Lanes(d));
  for (int32_t r = 0; r < item.rows; ++r) {
    const E* from = static_cast<const E*>(job.params->query) + IndexOf(job, item, r) * head_dim;
    float* to = queries + int64_t{r} * head_dim / 2 * kQueryWords<E>;
    for (int32_t e = 0; e < head_dim; e += step) {
      StoreQuery<E>(d, from + e, to + e / 2 * kQueryWords<E>);
    }
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
    if (more) FindTileRows(job_, segment, segment.tiles.begin, &tiles_[now_]);
    while (more) {
      const Segment current = segment;
      more = NextSegment(job_.schedule, index_, &at_, &segment);
      RunSegment(current, more ? &segment : nullptr);
    }
  }

 private:
  // Where the next partial result of this worker goes.
  SoftmaxState NextPartial() {
    const int64_t floats = StateFloats(job_.item_rows, job_.params->head_dim);
    return StateAt(job_.partials + floats * partial_++, job_.item_rows);
  }

  // A segment that begins its item folds its splits in order into one state; inside an item they
  // are kept apart, so that Merge can fold them in order.
  void RunSegment(const Segment& segment, const Segment* next) {
    const Item item = ItemOf(job_, segment);
    const int32_t head_dim = job_.params->head_dim;
    const int32_t split = job_.schedule.split_tiles;
    LoadQueries<E, kLanes>(job_, item, queries_);
    const bool fold = segment.begins_item();
    const SoftmaxState total = fold && segment.ends_item() ? states_[0] : NextPartial();
    int32_t tile = segment.tiles.begin;
    while (tile < segment.tiles.end) {
      const bool first = tile == segment.tiles.begin;
      const int32_t end =
          split == 0 ? segment.tiles.end : std::min(segment.tiles.end, (tile / split + 1) * split);
      const SoftmaxState state = first ? total : fold ? states_[1] : NextPartial();
      Clear(state, item.rows, head_dim);
      for (; tile < end; ++tile) {
        const bool last = tile + 1 == segment.tiles.end;
        if (!last) FindTileRows(job_, segment, tile + 1, &tiles_[1 - now_]);
        if (last && next != nullptr) {
          FindTileRows(job_, *next, next->tiles.begin, &tiles_[1 - now_]);
        }
        RunTile(segment, item, tile, !last || next != nullptr, state);
        now_ = 1 - now_;
      }
      if (fold && !first) Fold<kLanes>(state, item.rows, head_dim, total);
    }
    if (fold && segment.ends_item()) Finish<E, kLanes>(job_, item, total);
  }

  // One tile, all KV heads and rows of the item. What comes next is fetched meanwhile: the tile's
  // next head, or the first head of the next tile.
  void RunTile(const Segment& segment, const Item& item, int32_t tile, bool more,
               const SoftmaxState& state) {
    const TileRows& rows = tiles_[now_];
    if (!rows.any) return;
    const TileRows& coming = tiles_[1 - now_];
    const int64_t k_stride = job_.params->kv.k_strides.head;
    const int64_t v_stride = job_.params->kv.v_strides.head;
    for (int32_t h = 0; h < segment.kv_heads; ++h) {
      const HeadTile current = {&rows, h * k_stride, h * v_stride};
      HeadTile next = {&rows, current.k + k_stride, current.v + v_stride};
      const bool last = h + 1 == segment.kv_heads;
      if (last) next = {&coming, 0, 0};
      const bool fetch = !last || (more && coming.any);
      for (int32_t r = 0; r < item.head_rows; r += kRowBlock) {
        RunRows(item, tile, h * item.head_rows + r, std::min(kRowBlock, item.head_rows - r),
                current, fetch && r == 0 ? &next : nullptr, state);
      }
    }
  }

  // Which of the tile's keys each of some rows sees; returns those that any sees.
  Visible FindVisible(const Item& item, int32_t tile, int32_t first, int count, Visible* visible) {
    const WorkShape& shape = job_.schedule.shape;
    const int64_t tile_begin = int64_t{tile} * kTileTokens;
    Visible any = {kTileTokens, 0};
    for (int r = 0; r < count; ++r) {
      const int32_t token = item.first_query + (first + r) % item.head_rows / shape.group;
      const KeyRange keys = KeysOfQuery(shape, item.row, token);
      visible[r].begin =
          static_cast<int>(std::clamp<int64_t>(keys.begin - tile_begin, 0, kTileTokens));
      visible[r].end = static_cast<int>(std::clamp<int64_t>(keys.end - tile_begin, 0, kTileTokens));
      if (visible[r].begin >= visible[r].end) continue;
      any = {std::min(any.begin, visible[r].begin), std::max(any.end, visible[r].end)};
    }
    return any;
  }

  // One tile, one KV head, up to kRowBlock of its rows, from row `first` of the item on.
  void RunRows(const Item& item, int32_t tile, int32_t first, int count, const HeadTile& current,
               const HeadTile* next, const SoftmaxState& state) {
    const int32_t head_dim = job_.params->head_dim;
    Visible visible[kRowBlock];
    const Visible any = FindVisible(item, tile, first, count, visible);
    if (any.begin >= any.end) return;
    Scores<E, kLanes>(queries_ + int64_t{first} * head_dim / 2 * kQueryWords<E>, head_dim, count,
                      current, any.begin / 4 * 4, (any.end + 3) / 4 * 4, scores_, next);
    float factors[kRowBlock];
    for (int r = 0; r < count; ++r) {
      factors[r] = 1;
      if (visible[r].begin >= visible[r].end) continue;
      factors[r] = Softmax(*job_.params, visible[r].begin, visible[r].end,
                           scores_ + r * kTileTokens, state.max + first + r, state.sum + first + r);
      PackWeights<E>(scores_ + r * kTileTokens);
    }
    MaskedValues<E, kLanes>(scores_, factors, head_dim, count, visible, current,
                            state.values + int64_t{first} * head_dim, next);
  }

  const AttentionJob& job_;
  const int32_t index_;
  WorkStart at_;
  int64_t partial_;
  float* queries_;
  float* scores_;
  SoftmaxState states_[2];
  TileRows tiles_[2];  // the current one, and the one after it
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

// Vectors as long as the registers, and as head_dim allows: it is a multiple of two of them.
template <class E>
void RunWorker(const AttentionJob& job, int32_t worker) {
  constexpr size_t kLanes = hn::MaxLanes(Floats<16>());
  const int32_t head_dim = job.params->head_dim;
  if constexpr (kLanes >= 16) {
    if (head_dim % 32 == 0) return Worker<E, 16>(job, worker).Run();
  }
  if constexpr (kLanes >= 8) {
    if (head_dim % 16 == 0) return Worker<E, 8>(job, worker).Run();
  }
  return Worker<E, 4>(job, worker).Run();
}

template <class E>
void MergeWorker(const AttentionJob& job, int32_t worker) {
  constexpr size_t kLanes = hn::MaxLanes(Floats<16>());
  const int32_t head_dim = job.params->head_dim;
  if constexpr (kLanes >= 16) {
    if (head_dim % 32 == 0) return MergeItem<E, 16>(job, worker);
  }
  if constexpr (kLanes >= 8) {
    if (head_dim % 16 == 0) return MergeItem<E, 8>(job, worker);
  }
  return MergeItem<E, 4>(job, worker);
}

QUIRE_END_SIMD

#endif  // toggle
