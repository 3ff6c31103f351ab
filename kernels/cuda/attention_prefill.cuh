// Prefill tiles: items of more than 16 query rows, the work of a prompt or of a chunk of it over a
// cached prefix. Bound by arithmetic. The block holds up to 128 query rows in shared memory and
// walks the item's keys in tiles of 64: each warp multiplies its own rows with all of them.
//
//   copy    ..  t+1 | t+2 ..      two stages; the whole computation of a tile to land in
//   compute ..   t  | t+1 ..      one block barrier a tile: copies visible, last stage free
//
// Each warp owns two blocks of 16 rows rather than one: K and V are read from shared memory half as
// often, which would otherwise be the limit (256 clocks of reads against 206 of mma for a tile).

#ifndef QUIRE_KERNELS_CUDA_ATTENTION_PREFILL_CUH_
#define QUIRE_KERNELS_CUDA_ATTENTION_PREFILL_CUH_

#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile.h"

namespace quire::cuda {

template <class Element, int kDim>
class PrefillSegment {
 public:
  QUIRE_DEVICE PrefillSegment(const AttentionArgs& args, const WorkShape& shape,
                              const Segment& segment)
      : args_(args),
        item_(shape, segment),
        tiles_(segment.tiles),
        whole_(segment.begins_item() && segment.ends_item()),
        warp_(ptx::ThreadIndex() / ptx::kWarpThreads),
        lane_(ptx::ThreadIndex() % ptx::kWarpThreads),
        first_row_(warp_ * kFragments * 16) {
    finder_.Open(args, segment.row, segment.kv_head, item_.SeenByAny(args, 0, item_.count - 1));
    if (first_row_ >= item_.count) return;  // none of the rows: they see nothing
    seen_by_any_ = item_.SeenByAny(args, first_row_, first_row_ + kFragments * 16 - 1);
    seen_by_all_ = item_.SeenByAll(args, first_row_, first_row_ + kFragments * 16 - 1);
  }

  // *partial is where the worker's next partial result goes.
  QUIRE_DEVICE void Run(int64_t* partial) {
    ptx::SyncBlock();  // the item before has been read
    CopyQueries();
    finder_.Fetch(args_, tiles_.begin * kTileTokens + warp_ * kSliceTokens, lane_);
    CopyTile(0);
    Fetch(tiles_.begin + 1);
    int stage = 0;
    for (int32_t tile = tiles_.begin; tile < tiles_.end; ++tile) {
      ptx::WaitForGroups<0>();
      ptx::SyncBlock();  // all copies of the tile; and all have read the stage that is next filled
      if (tile + 1 < tiles_.end) CopyTile(1 - stage);
      AddTile(tile, stage * kShape.stage_bytes());
      stage = 1 - stage;
    }
    if (whole_) {
      Finish();
    } else {
      Write((*partial)++);
    }
  }

 private:
  static constexpr TileShape kShape = {kDim};
  static constexpr int kFragments = kShape.prefill_fragments();
  static constexpr int kRowBytes = 2 * kDim;

  QUIRE_DEVICE void CopyQueries() const {
    constexpr int kChunks = kDim / 8;
    for (int i = ptx::ThreadIndex(); i < kShape.prefill_rows() * kChunks; i += kBlockThreads) {
      const int p = i / kChunks;
      const int chunk = i % kChunks;
      const auto* query = static_cast<const char*>(args_.query);
      const bool valid = p < item_.count;
      if (valid) query += item_.IndexOf(args_, p) * kShape.row_bytes() + chunk * 16;
      ptx::CopyAsync(ptx::Smem() + kShape.query_offset() + Swizzled<kRowBytes>(p, chunk), query,
                     valid);
    }
  }

  // Fetches the page ids of a tile, if there is one.
  QUIRE_DEVICE void Fetch(int32_t tile) {
    if (tile < tiles_.end) finder_.Fetch(args_, tile * kTileTokens + warp_ * kSliceTokens, lane_);
  }

  // Copies the tile fetched last.
  QUIRE_DEVICE void CopyTile(int stage) const {
    const int rows = stage * kShape.stage_bytes() + warp_ * kSliceTokens * kShape.row_bytes();
    if (finder_.keys().begin < finder_.keys().end) {  // K and V of no keys may be null pointers
      CopySlice<kDim>(args_, finder_, rows, rows + kShape.matrix_bytes(), lane_);
    }
    ptx::CommitGroup();
  }

  // The page ids of the tile after next are fetched where the scores have left the registers and
  // the products with V still give the load time.
  QUIRE_DEVICE void AddTile(int32_t tile, int stage) {
    const int32_t begin = tile * kTileTokens;
    if (!seen_by_any_.template Meets<kTileTokens>(begin)) return Fetch(tile + 2);
    float scores[kFragments][kTileTokens / 8][4] = {};
    Scores(stage, scores);
    const bool masked = !seen_by_all_.template Contains<kTileTokens>(begin);
    QUIRE_UNROLL
    for (int f = 0; f < kFragments; ++f) {
      ScaleScores<kTileTokens / 2>(args_, [&](int i) -> float& { return scores[f][i / 4][i % 4]; });
      if (masked) Mask(begin, f, scores[f]);
      QUIRE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float factor = softmax_[f][half].template Add<kTileTokens / 4>(
            [&](int i) -> float& { return scores[f][i / 2][2 * half + i % 2]; });
        QUIRE_UNROLL
        for (int n = 0; n < kDim / 8; ++n) {
          sums_[f][n][2 * half] *= factor;
          sums_[f][n][2 * half + 1] *= factor;
        }
      }
    }
    Fetch(tile + 2);
    AddValues(stage + kShape.matrix_bytes(), scores);
  }

  QUIRE_DEVICE void Scores(int k_rows, float (&scores)[kFragments][kTileTokens / 8][4]) const {
    const int key = k_rows + LanePlaceOfKeys<kRowBytes>(lane_);
    const int query =
        kShape.query_offset() + first_row_ * kRowBytes + LanePlaceOfRows<kRowBytes>(lane_);
    QUIRE_UNROLL
    for (int k = 0; k < kDim / 16; ++k) {
      uint32_t queries[kFragments][4];
      QUIRE_UNROLL
      for (int f = 0; f < kFragments; ++f) {
        ptx::LoadMatrices(queries[f], ptx::Smem() + (query ^ (k << 5)) + f * 16 * kRowBytes);
      }
      QUIRE_UNROLL
      for (int t = 0; t < kTileTokens / 16; ++t) {
        uint32_t keys[4];
        ptx::LoadMatrices(keys, ptx::Smem() + (key ^ (k << 5)) + t * 16 * kRowBytes);
        QUIRE_UNROLL
        for (int f = 0; f < kFragments; ++f) {
          ptx::MultiplyAdd(scores[f][2 * t], queries[f], keys[0], keys[1], Element());
          ptx::MultiplyAdd(scores[f][2 * t + 1], queries[f], keys[2], keys[3], Element());
        }
      }
    }
  }

  QUIRE_DEVICE void Mask(int32_t begin, int f, float (&scores)[kTileTokens / 8][4]) const {
    QUIRE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const Keys keys = item_.KeysOf(args_, first_row_ + f * 16 + half * 8 + lane_ / 4);
      QUIRE_UNROLL
      for (int n = 0; n < kTileTokens / 8; ++n) {
        QUIRE_UNROLL
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          const int32_t position = begin + n * 8 + lane_ % 4 * 2 + e % 2;
          if (position < keys.begin || position >= keys.end) scores[n][e] = kMinusInfinity;
        }
      }
    }
  }

  // The results of Scores lie as mma wants its first operand: weights need no other move.
  QUIRE_DEVICE void AddValues(int v_rows, const float (&weights)[kFragments][kTileTokens / 8][4]) {
    const int at = v_rows + LanePlaceOfRows<kRowBytes>(lane_);
    QUIRE_UNROLL
    for (int t = 0; t < kTileTokens / 16; ++t) {
      uint32_t packed[kFragments][4];
      QUIRE_UNROLL
      for (int f = 0; f < kFragments; ++f) {
        QUIRE_UNROLL
        for (int i = 0; i < 4; ++i) {
          const float(&pair)[4] = weights[f][2 * t + i / 2];
          packed[f][i] = ptx::Pack(pair[i % 2 * 2], pair[i % 2 * 2 + 1], Element());
        }
      }
      QUIRE_UNROLL
      for (int n = 0; n < kDim / 16; ++n) {
        uint32_t values[4];
        ptx::LoadMatricesTransposed(values, ptx::Smem() + (at ^ (n << 5)) + t * 16 * kRowBytes);
        QUIRE_UNROLL
        for (int f = 0; f < kFragments; ++f) {
          ptx::MultiplyAdd(sums_[f][2 * n], packed[f], values[0], values[1], Element());
          ptx::MultiplyAdd(sums_[f][2 * n + 1], packed[f], values[2], values[3], Element());
        }
      }
    }
  }

  QUIRE_DEVICE void Finish() const {
    QUIRE_UNROLL
    for (int f = 0; f < kFragments; ++f) {
      QUIRE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float sum = softmax_[f][half].Total();
        const int p = first_row_ + f * 16 + half * 8 + lane_ / 4;
        if (p >= item_.count) continue;
        const int64_t index = item_.IndexOf(args_, p);
        const RowEnd end = EndRow(args_, index, softmax_[f][half].max, sum);
        auto* output = static_cast<uint32_t*>(args_.output) + index * (kDim / 2) + lane_ % 4;
        QUIRE_UNROLL
        for (int n = 0; n < kDim / 8; ++n) {
          output[n * 4] = ptx::Pack(sums_[f][n][2 * half] * end.factor,
                                    sums_[f][n][2 * half + 1] * end.factor, Element());
        }
        if (args_.lse != nullptr && lane_ % 4 == 0) args_.lse[index] = end.lse;
      }
    }
  }

  QUIRE_DEVICE void Write(int64_t partial) const {
    QUIRE_UNROLL
    for (int f = 0; f < kFragments; ++f) {
      QUIRE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float sum = softmax_[f][half].Total();
        const int p = first_row_ + f * 16 + half * 8 + lane_ / 4;
        if (p >= item_.count) continue;
        const PartialRow to = PartialRowOf(args_, partial, p);
        if (lane_ % 4 == 0) {
          *to.max = softmax_[f][half].max;
          *to.sum = sum;
        }
        QUIRE_UNROLL
        for (int n = 0; n < kDim / 8; ++n) {
          to.values[n * 8 + lane_ % 4 * 2] = sums_[f][n][2 * half];
          to.values[n * 8 + lane_ % 4 * 2 + 1] = sums_[f][n][2 * half + 1];
        }
      }
    }
  }

  const AttentionArgs& args_;
  const ItemRows item_;
  const TileRange tiles_;
  const bool whole_;  // the item begins and ends here
  const int warp_;
  const int lane_;
  const int first_row_;  // of this warp
  SliceFinder finder_;
  Keys seen_by_any_;  // of the warp's rows
  Keys seen_by_all_;
  float sums_[kFragments][kDim / 8][4] = {};
  RowSoftmax softmax_[kFragments][2];
};

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ATTENTION_PREFILL_CUH_
