// Decode tiles: items of at most 16 query rows, the work of a decode step or of a few speculated
// tokens. Bound by the reading of K and V, so everything here serves to keep copies in flight:
//
//   copy    ..  t+1 | t+2 | t+3 ..        each warp its 16 tokens, into its part of the ring
//   compute ..  t-1 |  t  | t+1 ..        no block barrier: a warp waits for its own copies only
//
// The copies run ahead over the borders of items and rows, so that a batch of short rows streams
// like one long one. At the end of a split, and of a segment, the four warps put their sums
// together in the stage just used.

#ifndef QUIRE_KERNELS_CUDA_ATTENTION_DECODE_CUH_
#define QUIRE_KERNELS_CUDA_ATTENTION_DECODE_CUH_

#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile.h"

namespace quire::cuda {

QUIRE_DEVICE bool IsDecodeItem(const WorkShape& shape, const WorkStart& at) {
  return at.row < shape.batch &&
         QueriesOfItem(shape, at.row, at.query_tile) * shape.group <= kDecodeRows;
}

// The copying side: walks the same segments as the computing side, kStages - 1 tiles ahead.
template <int kDim>
class DecodeCopier {
 public:
  QUIRE_DEVICE DecodeCopier(const AttentionArgs& args, const WorkShape& shape,
                            const WorkStart& start, const WorkStart& stop, int warp, int lane)
      : args_(args), shape_(shape), at_(start), stop_(stop), lane_(lane) {
    slice_ = warp * kSliceTokens;
    OpenSegment();
  }

  // Starts the next tile's copies, if there is one, and closes their group either way: groups then
  // count tiles. The slot's earlier tile must have been read.
  QUIRE_DEVICE void CopyNext() {
    constexpr TileShape kShape = {kDim};
    if (more_) {
      if (finder_.keys().template Meets<kSliceTokens>(tile_ * kTileTokens + slice_)) {
        const int rows = slot_ * kShape.stage_bytes() + slice_ * kShape.row_bytes();
        CopySlice<kDim>(args_, finder_, rows, rows + kShape.matrix_bytes(), lane_);
      }
      if (++tile_ < end_) {
        finder_.Fetch(args_, tile_ * kTileTokens + slice_, lane_);
      } else {
        OpenSegment();
      }
    }
    slot_ = slot_ + 1 == kShape.stages() ? 0 : slot_ + 1;
    ptx::CommitGroup();
  }

 private:
  QUIRE_DEVICE void OpenSegment() {
    Segment segment;
    more_ = IsDecodeItem(shape_, at_) && NextSegment(shape_, stop_, &at_, &segment);
    if (!more_) return;
    tile_ = segment.tiles.begin;
    end_ = segment.tiles.end;
    const KeyRange keys = KeysOfItem(shape_, segment.row, segment.query_tile);
    finder_.Open(args_, segment.row, segment.kv_head, {keys.begin, keys.end});
    finder_.Fetch(args_, tile_ * kTileTokens + slice_, lane_);
  }

  const AttentionArgs& args_;
  const WorkShape& shape_;
  WorkStart at_;
  const WorkStart stop_;
  const int lane_;
  int slice_;  // first token of this warp's slice, from the tile's
  SliceFinder finder_;
  int32_t tile_ = 0;
  int32_t end_ = 0;
  int slot_ = 0;
  bool more_ = false;
};

// One warp's streaming softmax over its slices, for 16 query rows, in the layout of mma's results:
// this lane has rows lane / 4 and lane / 4 + 8.
template <class Element, int kDim>
class DecodeWarp {
 public:
  QUIRE_DEVICE explicit DecodeWarp(int lane) : lane_(lane) {}

  QUIRE_DEVICE void Clear() {
    QUIRE_UNROLL
    for (int n = 0; n < kDim / 8; ++n) {
      QUIRE_UNROLL
      for (int e = 0; e < 4; ++e) sums_[n][e] = 0;
    }
    softmax_[0] = softmax_[1] = {};
  }

  // Loads the item's queries as they lie in global memory; rows past the last are zeros.
  QUIRE_DEVICE void Open(const AttentionArgs& args, const ItemRows& item) {
    QUIRE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int p = lane_ / 4 + 8 * half;
      keys_[half] = item.KeysOf(args, p);
      const auto* query = static_cast<const uint32_t*>(args.query);
      if (p < item.count) query += item.IndexOf(args, p) * (kDim / 2) + lane_ % 4;
      if constexpr (!kQueriesInShared) {
        QUIRE_UNROLL
        for (int k = 0; k < kDim / 16; ++k) {
          queries_[k][half] = p < item.count ? query[k * 8] : 0;
          queries_[k][half + 2] = p < item.count ? query[k * 8 + 4] : 0;
        }
      }
    }
    if constexpr (kQueriesInShared) StoreQueries(args, item);
    seen_by_any_ = item.SeenByAny(args, 0, item.count - 1);
    seen_by_all_ = item.SeenByAll(args, 0, item.count - 1);
  }

  // 16 tokens from position `begin` on.
  QUIRE_DEVICE void AddSlice(const AttentionArgs& args, int32_t begin, int k_rows, int v_rows) {
    if (!seen_by_any_.template Meets<kSliceTokens>(begin)) return;
    float scores[2][4] = {};
    Scores(k_rows, scores);
    ScaleScores<8>(args, [&](int i) -> float& { return scores[i / 4][i % 4]; });
    if (!seen_by_all_.template Contains<kSliceTokens>(begin)) Mask(begin, scores);
    float factors[2];
    QUIRE_UNROLL
    for (int half = 0; half < 2; ++half) {
      factors[half] = softmax_[half].template Add<4>(
          [&](int i) -> float& { return scores[i / 2][2 * half + i % 2]; });
    }
    Rescale(factors);
    AddValues(v_rows, scores);
  }

  // Puts the four warps' results together: every thread of the block has part of one row, see
  // RowSlice. All four must have finished with the stage that `room` is.
  QUIRE_DEVICE void Join(int warp, char* room, RowSlice<kDim>* joined);

 private:
  static constexpr int kRowBytes = 2 * kDim;
  // At head_dim 256 the sums leave no registers for the queries: each warp has a copy behind the
  // ring.
  static constexpr bool kQueriesInShared = kDim == 256;

  QUIRE_DEVICE int query_rows() const {
    return TileShape{kDim}.query_offset() + ptx::ThreadIndex() / 32 * kDecodeRows * kRowBytes;
  }

  QUIRE_DEVICE void StoreQueries(const AttentionArgs& args, const ItemRows& item) const {
    constexpr int kChunks = kDim / 8;
    const auto* query = static_cast<const ptx::Vector16*>(args.query);
    ptx::SyncWarp();  // all lanes have read the item before
    for (int p = 0; p < kDecodeRows; ++p) {
      ptx::Vector16 part = {};
      if (p < item.count) part = query[item.IndexOf(args, p) * kChunks + lane_];
      const int at = query_rows() + Swizzled<kRowBytes>(p, lane_);
      *reinterpret_cast<ptx::Vector16*>(ptx::Smem() + at) = part;
    }
    ptx::SyncWarp();
  }

  QUIRE_DEVICE void Scores(int k_rows, float (&scores)[2][4]) const {
    const int at = k_rows + LanePlaceOfKeys<kRowBytes>(lane_);
    // Every other product has sums of its own: the chain of dependent ones is half as long.
    float odd[2][4] = {};
    QUIRE_UNROLL
    for (int k = 0; k < kDim / 16; ++k) {
      float(&sums)[2][4] = k % 2 == 0 || kQueriesInShared ? scores : odd;
      uint32_t queries[4];
      if constexpr (kQueriesInShared) {
        const int place = query_rows() + LanePlaceOfRows<kRowBytes>(lane_);
        ptx::LoadMatrices(queries, ptx::Smem() + (place ^ (k << 5)));
      } else {
        QUIRE_UNROLL
        for (int i = 0; i < 4; ++i) queries[i] = queries_[k][i];
      }
      uint32_t keys[4];
      ptx::LoadMatrices(keys, ptx::Smem() + (at ^ (k << 5)));
      ptx::MultiplyAdd(sums[0], queries, keys[0], keys[1], Element());
      ptx::MultiplyAdd(sums[1], queries, keys[2], keys[3], Element());
    }
    if constexpr (!kQueriesInShared) {
      QUIRE_UNROLL
      for (int i = 0; i < 8; ++i) scores[i / 4][i % 4] += odd[i / 4][i % 4];
    }
  }

  QUIRE_DEVICE void Mask(int32_t begin, float (&scores)[2][4]) const {
    QUIRE_UNROLL
    for (int n = 0; n < 2; ++n) {
      QUIRE_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int32_t position = begin + n * 8 + lane_ % 4 * 2 + e % 2;
        if (position < keys_[e / 2].begin || position >= keys_[e / 2].end) {
          scores[n][e] = kMinusInfinity;
        }
      }
    }
  }

  // Most tiles change no maximum: then every factor is 1.
  QUIRE_DEVICE void Rescale(const float (&factors)[2]) {
    if (!ptx::Any(factors[0] != 1 || factors[1] != 1)) return;
    QUIRE_UNROLL
    for (int n = 0; n < kDim / 8; ++n) {
      QUIRE_UNROLL
      for (int e = 0; e < 4; ++e) sums_[n][e] *= factors[e / 2];
    }
  }

  // The results of Scores lie as mma wants its first operand: weights need no other move.
  QUIRE_DEVICE void AddValues(int v_rows, const float (&weights)[2][4]) {
    const uint32_t packed[4] = {ptx::Pack(weights[0][0], weights[0][1], Element()),
                                ptx::Pack(weights[0][2], weights[0][3], Element()),
                                ptx::Pack(weights[1][0], weights[1][1], Element()),
                                ptx::Pack(weights[1][2], weights[1][3], Element())};
    const int at = v_rows + LanePlaceOfRows<kRowBytes>(lane_);
    QUIRE_UNROLL
    for (int n = 0; n < kDim / 16; ++n) {
      uint32_t values[4];
      ptx::LoadMatricesTransposed(values, ptx::Smem() + (at ^ (n << 5)));
      ptx::MultiplyAdd(sums_[2 * n], packed, values[0], values[1], Element());
      ptx::MultiplyAdd(sums_[2 * n + 1], packed, values[2], values[3], Element());
    }
  }

  const int lane_;
  uint32_t queries_[kQueriesInShared ? 1 : kDim / 16][4];
  float sums_[kDim / 8][4];
  RowSoftmax softmax_[2];
  Keys keys_[2];
  Keys seen_by_any_;  // of the item's rows
  Keys seen_by_all_;
};

// Two neighbouring values of a row, moved at once.
struct alignas(8) FloatPair {
  float x;
  float y;
};

template <class Element, int kDim>
QUIRE_DEVICE void DecodeWarp<Element, kDim>::Join(int warp, char* room, RowSlice<kDim>* joined) {
  // Eight lanes write eight rows at once: four floats more a row put them in different banks.
  constexpr int kPitch = kDim + 4;
  auto* max = reinterpret_cast<float*>(room);  // [warp][row]
  float* sum = max + kBlockWarps * kDecodeRows;
  // [2][row][kPitch], the second for the odd warps.
  float* values = sum + kBlockWarps * kDecodeRows;
  constexpr int kRoom = kDecodeRows * kPitch;
  ptx::SyncBlock();
  const float sums[2] = {softmax_[0].Total(), softmax_[1].Total()};
  QUIRE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int row = lane_ / 4 + 8 * half;
    if (lane_ % 4 == 0) {
      max[warp * kDecodeRows + row] = softmax_[half].max;
      sum[warp * kDecodeRows + row] = sums[half];
    }
  }
  ptx::SyncBlock();
  float factors[2];
  QUIRE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int row = lane_ / 4 + 8 * half;
    float all = max[row];
    for (int w = 1; w < kBlockWarps; ++w) all = ptx::Max(all, max[w * kDecodeRows + row]);
    factors[half] = ptx::Exp2(softmax_[half].max - ReferenceOf(all));
  }
  // Warps 0 and 1 write, then 2 and 3 add: always the same order.
  for (int turn = 0; turn < 2; ++turn) {
    if (turn == warp / 2) {
      QUIRE_UNROLL
      for (int n = 0; n < kDim / 8; ++n) {
        QUIRE_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int at = (lane_ / 4 + half * 8) * kPitch + n * 8 + lane_ % 4 * 2;
          auto* pair = reinterpret_cast<FloatPair*>(values + warp % 2 * kRoom + at);
          FloatPair scaled = {sums_[n][2 * half] * factors[half],
                              sums_[n][2 * half + 1] * factors[half]};
          if (turn == 1) {
            const FloatPair before = *pair;
            scaled = {before.x + scaled.x, before.y + scaled.y};
          }
          *pair = scaled;
        }
      }
    }
    ptx::SyncBlock();
  }
  const int row = joined->row();
  joined->max = max[row];
  for (int w = 1; w < kBlockWarps; ++w) {
    joined->max = ptx::Max(joined->max, max[w * kDecodeRows + row]);
  }
  joined->sum = 0;
  for (int w = 0; w < kBlockWarps; ++w) {
    const float factor = ptx::Exp2(max[w * kDecodeRows + row] - ReferenceOf(joined->max));
    joined->sum = ptx::Fma(sum[w * kDecodeRows + row], factor, joined->sum);
  }
  RowSlice<kDim> odd;
  joined->Read(values + row * kPitch);
  odd.Read(values + kRoom + row * kPitch);
  QUIRE_UNROLL
  for (int i = 0; i < RowSlice<kDim>::kValues; ++i) joined->values[i] += odd.values[i];
  ptx::SyncBlock();  // the room is a stage again
}

// The computing side: all decode items from *start on, up to the first other one or the worker's
// end. *partial is where the worker's next partial result goes.
template <class Element, int kDim>
class DecodeRun {
 public:
  QUIRE_DEVICE DecodeRun(const AttentionArgs& args, const Schedule& schedule, const WorkStart& stop)
      : args_(args),
        schedule_(schedule),
        stop_(stop),
        warp_(ptx::ThreadIndex() / ptx::kWarpThreads),
        lane_(ptx::ThreadIndex() % ptx::kWarpThreads),
        warp_sums_(lane_) {}

  QUIRE_DEVICE void Run(WorkStart* at, int64_t* partial) {
    constexpr TileShape kShape = {kDim};
    DecodeCopier<kDim> copier(args_, schedule_.shape, *at, stop_, warp_, lane_);
    for (int i = 0; i < kShape.stages() - 1; ++i) copier.CopyNext();
    Segment segment;
    while (IsDecodeItem(schedule_.shape, *at) &&
           NextSegment(schedule_.shape, stop_, at, &segment)) {
      RunSegment(segment, copier, partial);
    }
    ptx::WaitForGroups<0>();  // the empty ones; shared memory is free for others
  }

 private:
  QUIRE_DEVICE void RunSegment(const Segment& segment, DecodeCopier<kDim>& copier,
                               int64_t* partial) {
    constexpr TileShape kShape = {kDim};
    const ItemRows item(schedule_.shape, segment);
    const int32_t split = SplitTilesOf(schedule_, segment.row, segment.query_tile);
    const int slice = warp_ * kSliceTokens;
    warp_sums_.Open(args_, item);
    warp_sums_.Clear();
    bool first = true;
    int32_t split_end = split == 0 ? segment.tiles.end : (segment.tiles.begin / split + 1) * split;
    for (int32_t tile = segment.tiles.begin; tile < segment.tiles.end; ++tile) {
      ptx::WaitForGroups<kShape.stages() - 2>();
      ptx::SyncWarp();  // the other lanes' copies; and all have read the slot that is next filled
      copier.CopyNext();
      const int stage = slot_ * kShape.stage_bytes();
      slot_ = slot_ + 1 == kShape.stages() ? 0 : slot_ + 1;
      const int rows = stage + slice * kShape.row_bytes();
      warp_sums_.AddSlice(args_, tile * kTileTokens + slice, rows, rows + kShape.matrix_bytes());
      const bool last = tile + 1 == segment.tiles.end;
      if (tile + 1 != split_end && !last) continue;
      split_end += split;
      RowSlice<kDim> part;
      warp_sums_.Join(warp_, ptx::Smem() + stage, &part);
      warp_sums_.Clear();
      EndSplit(segment, item, first, last, &part, partial);
      first = false;
    }
  }

  // A segment that begins its item adds its splits up in order; inside an item they are kept apart,
  // so that the merge can add them in order. What is added up waits in the worker's own place of
  // the workspace: in registers it would be in the way of every tile.
  QUIRE_DEVICE void EndSplit(const Segment& segment, const ItemRows& item, bool first, bool last,
                             RowSlice<kDim>* part, int64_t* partial) {
    if (!segment.begins_item()) {
      part->Write(args_, item.count, (*partial)++);
      return;
    }
    const int64_t own = ptx::BlockIndex();
    if (!first) {
      RowSlice<kDim> total;
      total.Load(args_, item.count, own);
      ptx::SyncBlock();  // all have read what one of them writes next
      total.Add(*part);
      *part = total;
    }
    if (!last) {
      part->Write(args_, item.count, own);
    } else if (segment.ends_item()) {
      part->template Finish<Element>(args_, item);
    } else {
      part->Write(args_, item.count, (*partial)++);
    }
  }

  const AttentionArgs& args_;
  const Schedule& schedule_;
  const WorkStart stop_;
  const int warp_;
  const int lane_;
  DecodeWarp<Element, kDim> warp_sums_;
  int slot_ = 0;
};

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ATTENTION_DECODE_CUH_
