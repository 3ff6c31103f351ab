// What decode and prefill tiles share: how a warp finds and copies its 16 tokens of a tile, how the
// rows of a tile lie in shared memory, and the softmax of one query row.

#ifndef QUIRE_KERNELS_CUDA_ATTENTION_TILE_CUH_
#define QUIRE_KERNELS_CUDA_ATTENTION_TILE_CUH_

#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/softmax.cuh"
#include "kernels/cuda/tile.h"

namespace quire::cuda {

// Byte of 16-byte chunk `chunk` of row `row` in a matrix of rows of kRowBytes. Rows of the same
// chunk lie in different banks: exclusive-or with the row's low bits makes the copies, ldmatrix and
// its transposed form free of conflicts.
//
// Matrices begin at multiples of kRowBytes, so a place found once leads to others by constants, in
// one instruction, and needs no register for each: 2 k chunks on is `at ^ (k << 5)`, 8 rows on is
// `at + 8 * kRowBytes`. Places are offsets in shared memory, not pointers, for that reason.
template <int kRowBytes>
QUIRE_DEVICE int Swizzled(int row, int chunk) {
  return row * kRowBytes + ((chunk ^ (row & 7)) << 4);
}

// Keys [begin, end) of a row. 32 bits are enough: a length has 31, and a tile's last position too.
struct Keys {
  int32_t begin;
  int32_t end;

  QUIRE_DEVICE Keys() : begin(0), end(0) {}
  QUIRE_DEVICE Keys(int64_t first, int64_t last)
      : begin(static_cast<int32_t>(first)), end(static_cast<int32_t>(last)) {}
  // Whether one, or each, of the kTokens keys from `at` on is among them.
  template <int kTokens>
  QUIRE_DEVICE bool Meets(int32_t at) const {
    return at < end && at + (kTokens - 1) >= begin && begin < end;
  }
  template <int kTokens>
  QUIRE_DEVICE bool Contains(int32_t at) const {
    return at >= begin && at + (kTokens - 1) < end;
  }
};

// The query rows of an item, and what each of them sees.
struct ItemRows {
  int32_t row;  // of the batch
  int32_t kv_head;
  int32_t first_query;  // of the row
  int32_t count;        // of query rows

  QUIRE_DEVICE ItemRows(const WorkShape& shape, const Segment& segment)
      : row(segment.row),
        kv_head(segment.kv_head),
        first_query(segment.query_tile * shape.query_tile),
        count(QueriesOfItem(shape, segment.row, segment.query_tile) * shape.group) {}

  // Which (query token, query head) of the call query row p is. Rows past the last stand for it.
  QUIRE_DEVICE int64_t IndexOf(const AttentionArgs& args, int p) const {
    const int32_t token = args.groups.Divide(p);
    const int32_t head = kv_head * args.shape.group + (p - token * args.shape.group);
    return int64_t{args.shape.query_begin[row] + first_query + token} * args.query_heads + head;
  }
  QUIRE_DEVICE Keys KeysOf(const AttentionArgs& args, int p) const {
    const int32_t last = p < count ? p : count - 1;
    const KeyRange keys = KeysOfQuery(args.shape, row, first_query + args.groups.Divide(last));
    return {keys.begin, keys.end};
  }
  // What any, or each, of the query rows [first, last] sees. Rows stand in the order of their
  // queries: the first sees the earliest keys, the last the latest.
  QUIRE_DEVICE Keys SeenByAny(const AttentionArgs& args, int first, int last) const {
    return {KeysOf(args, first).begin, KeysOf(args, last).end};
  }
  QUIRE_DEVICE Keys SeenByAll(const AttentionArgs& args, int first, int last) const {
    return {KeysOf(args, last).begin, KeysOf(args, first).end};
  }
};

// The tokens that a lane finds for its warp: lanes 0 to 15 where K of the slice's tokens lies,
// lanes 16 to 31 where V does. So an address is computed once for a row of K or V, not once for
// each 16 bytes of it.
class SliceFinder {
 public:
  // Which row of the batch and KV head the coming tiles belong to, and their visible keys.
  QUIRE_DEVICE void Open(const AttentionArgs& args, int32_t row, int32_t kv_head, Keys keys) {
    ids_ = reinterpret_cast<const int32_t*>(args.table.page_ids) + args.table.row_begin[row];
    kv_head_ = kv_head;
    keys_ = keys;
  }

  QUIRE_DEVICE const Keys& keys() const { return keys_; }

  // Fetches the page id of this lane's token; the offset is made from it a tile later, so that
  // nothing waits for the table.
  QUIRE_DEVICE void Fetch(const AttentionArgs& args, int32_t slice_begin, int lane) {
    const int32_t position = slice_begin + lane % kSliceTokens;
    slot_ = -1;
    if (position < keys_.begin || position >= keys_.end) return;
    const int32_t page = args.pages.Divide(position);
    slot_ = position - page * args.pages.divisor();
    id_ = ptx::LoadConstant(ids_ + page);
  }

  // Where the token fetched last lies in K or V; the base of K or V if it is not visible.
  QUIRE_DEVICE int64_t Address(const AttentionArgs& args, int lane) const {
    const bool k = lane < kSliceTokens;
    const KvView& kv = args.kv;
    const auto base = reinterpret_cast<int64_t>(k ? kv.k : kv.v);
    if (slot_ < 0) return base;
    ptx::Check(id_ >= 0 && id_ < args.kv.page_count);
    return base + PageOffset(PageId{id_}, k ? kv.k_strides.page : kv.v_strides.page) +
           kv_head_ * (k ? kv.k_strides.head : kv.v_strides.head) +
           slot_ * (k ? kv.k_strides.token : kv.v_strides.token);
  }
  QUIRE_DEVICE bool visible() const { return slot_ >= 0; }

 private:
  const int32_t* ids_ = nullptr;
  int32_t kv_head_ = 0;
  Keys keys_;
  int32_t slot_ = -1;
  int32_t id_ = 0;
};

// Copies a slice, K and V, to its rows of a stage, as the finder gives it. Tokens that are not
// visible become zeros: 0 * NaN would be NaN, so a weight of 0 is not enough for V.
template <int kDim>
QUIRE_DEVICE void CopySlice(const AttentionArgs& args, const SliceFinder& finder, int k_rows,
                            int v_rows, int lane) {
  constexpr int kRowBytes = 2 * kDim;
  constexpr int kChunks = kDim / 8;
  constexpr int kRowsAtOnce = ptx::kWarpThreads / kChunks;
  const int chunk = lane % kChunks;
  const int first = Swizzled<kRowBytes>(lane / kChunks, chunk);
  const int64_t address = finder.Address(args, lane);
  // Bit i * kRowsAtOnce: whether the i-th row that this lane copies is visible.
  const uint32_t visible = ptx::Ballot(finder.visible()) >> lane / kChunks;
  QUIRE_UNROLL
  for (int i = 0; i < kSliceTokens / kRowsAtOnce; ++i) {
    const int row = i * kRowsAtOnce + lane / kChunks;
    const int64_t k = ptx::Shuffle(address, row) + chunk * 16;
    const int64_t v = ptx::Shuffle(address, row + kSliceTokens) + chunk * 16;
    const int at = (first ^ ((i * kRowsAtOnce & 7) << 4)) + i * kRowsAtOnce * kRowBytes;
    const bool copied = (visible & (1u << i * kRowsAtOnce)) != 0;
    ptx::CopyAsync(ptx::Smem() + k_rows + at, reinterpret_cast<const void*>(k), copied);
    ptx::CopyAsync(ptx::Smem() + v_rows + at, reinterpret_cast<const void*>(v), copied);
  }
}

// The place in a matrix that a lane names for ldmatrix, in the two orders that the fragments want
// (i = lane / 8):
//   Rows   matrices 0, 1 = rows 0-7 and 8-15 of one chunk, 2, 3 = of the next: queries, V.
//   Keys   matrices 0, 1 = rows 0-7 of two chunks, 2, 3 = rows 8-15: K.
template <int kRowBytes>
QUIRE_DEVICE int LanePlaceOfRows(int lane) {
  return Swizzled<kRowBytes>(lane % 16, lane / 16);
}
template <int kRowBytes>
QUIRE_DEVICE int LanePlaceOfKeys(int lane) {
  return Swizzled<kRowBytes>(lane / 16 * 8 + lane % 8, lane / 8 % 2);
}

// tanh x = 1 - 2 / (e^2x + 1), of x in units of log2 e / 2. Its error of 2^-23 is absolute, not
// relative as tanhf's: times the cap it is what rounding does to a score of that size. And it is
// short, which matters where it stands 64 times in a row.
QUIRE_DEVICE float ShortTanh(float x) { return ptx::Fma(-2, ptx::Reciprocal(ptx::Exp2(x) + 1), 1); }

// kCount scores in units of log2: one multiplication, or the soft cap.
template <int kCount, class Score>
QUIRE_DEVICE void ScaleScores(const AttentionArgs& args, Score score) {
  QUIRE_UNROLL
  for (int i = 0; i < kCount; ++i) score(i) *= args.tile_scale;
  if (args.soft_cap == 0) return;
  QUIRE_UNROLL
  for (int i = 0; i < kCount; ++i) score(i) = args.tile_cap * ShortTanh(score(i));
}

// The streaming softmax of one query row as one lane sees it: four lanes share a row, and each
// keeps the sum of its own weights. kScores scores of the row are this lane's, at score(i); they
// become weights. Returns the factor for what was summed up before. Source: Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018.
struct RowSoftmax {
  float max = kMinusInfinity;
  float sum = 0;

  template <int kScores, class Score>
  QUIRE_DEVICE float Add(Score score) {
    float largest = score(0);
    QUIRE_UNROLL
    for (int i = 1; i < kScores; ++i) largest = ptx::Max(largest, score(i));
    largest = ptx::Max(largest, ptx::ShuffleXor(largest, 1));
    largest = ptx::Max(largest, ptx::ShuffleXor(largest, 2));
    const float next = ptx::Max(max, largest);
    const float reference = ReferenceOf(next);
    const float factor = ptx::Exp2(max - reference);
    float added = 0;
    QUIRE_UNROLL
    for (int i = 0; i < kScores; ++i) {
      score(i) = ptx::Exp2(score(i) - reference);
      added += score(i);
    }
    sum = ptx::Fma(sum, factor, added);
    max = next;
    return factor;
  }
  // The whole row's sum, in all four lanes.
  QUIRE_DEVICE float Total() const {
    const float pair = sum + ptx::ShuffleXor(sum, 1);
    return pair + ptx::ShuffleXor(pair, 2);
  }
};

// What a finished row's sums are multiplied with, and its LSE. The sink joins here, once.
struct RowEnd {
  float factor;
  float lse;
};
QUIRE_DEVICE RowEnd EndRow(const AttentionArgs& args, int64_t index, float max, float sum) {
  float reference = ReferenceOf(max);
  float factor = 1;
  if (args.sinks != nullptr) {
    const float sink = args.sinks[index % args.query_heads] * kLog2E;
    reference = ReferenceOf(ptx::Max(max, sink));
    factor = ptx::Exp2(max - reference);
    sum = ptx::Fma(sum, factor, ptx::Exp2(sink - reference));
  }
  if (sum == 0) return {0, kMinusInfinity};
  return {factor / sum, (reference + ptx::Log2(sum)) * kLn2};
}

// A row of a partial result: its maximum and sum, and where its head_dim weighted sums begin.
struct PartialRow {
  float* max;
  float* sum;
  float* values;
};
QUIRE_DEVICE PartialRow PartialRowOf(const AttentionArgs& args, int64_t partial, int row) {
  const int rows = args.partial_rows;
  float* at = args.partials + partial * PartialFloats(rows, args.head_dim);
  return {at + row, at + rows + row, at + 2 * rows + row * args.head_dim};
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ATTENTION_TILE_CUH_
