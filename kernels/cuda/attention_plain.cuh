// Attention by plain loops, for every shape of the contract: a warp for each query token and query
// head. Scores: a lane for each of 32 keys. Values: a lane for each dimension. The oracle of the
// other kernels, and what runs where they do not.

#ifndef QUIRE_KERNELS_CUDA_ATTENTION_PLAIN_CUH_
#define QUIRE_KERNELS_CUDA_ATTENTION_PLAIN_CUH_

#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_search.cuh"
#include "kernels/cuda/softmax.cuh"
#include "quire/attention.h"

namespace quire::cuda {

inline constexpr int kPlainMaxHeadDim = 256;

// Shared memory of a block: one query a warp, as fp32.
inline constexpr int kPlainSharedBytes = kBlockWarps * kPlainMaxHeadDim * int{sizeof(float)};

// One query token and head.
struct PlainQuery {
  int64_t index;  // token * query_heads + head: its output and its LSE
  int32_t head;
  int32_t kv_head;
  int32_t row;
  int64_t keys_begin;  // it sees the keys of these positions
  int64_t keys_end;
  const float* values;  // head_dim, in shared memory
};

QUIRE_DEVICE PlainQuery FindPlainQuery(const AttentionArgs& args, int32_t batch, int64_t index) {
  const auto token = static_cast<int32_t>(index / args.query_heads);
  const auto head = static_cast<int32_t>(index - int64_t{token} * args.query_heads);
  const WorkShape& shape = args.shape;
  const int32_t row = RowOfToken(shape.query_begin, batch, token);
  const int32_t after = ptx::LoadConstant(shape.query_begin + row + 1) - token;
  const int64_t length = ptx::LoadConstant(shape.lengths + row);
  // The last query of a row stands at its last position.
  const int64_t end = shape.causal ? length - after + 1 : length;
  const int64_t begin = shape.window == 0 || end < shape.window ? 0 : end - shape.window;
  return {index, head, args.groups.Divide(head), row, begin, end, nullptr};
}

// Where a head lies at a position of a row, for K and for V.
struct PlainPlace {
  int64_t key;
  int64_t value;
};

// REQUIRES that the query sees the position: other entries of the table may hold anything.
QUIRE_DEVICE PlainPlace PlaceOf(const AttentionArgs& args, const PlainQuery& query,
                                int32_t position) {
  const PageTableView& table = args.table;
  const int32_t index = args.pages.Divide(position);
  const int64_t offset = position - index * table.tokens_per_page;
  const PageId page = table.page_ids[table.row_begin[query.row] + index];
  ptx::Check(static_cast<int32_t>(page) >= 0 && static_cast<int32_t>(page) < args.kv.page_count);
  const KvStrides& k = args.kv.k_strides;
  const KvStrides& v = args.kv.v_strides;
  return {PageOffset(page, k.page) + query.kv_head * k.head + offset * k.token,
          PageOffset(page, v.page) + query.kv_head * v.head + offset * v.token};
}

template <class Element>
QUIRE_DEVICE float PlainScore(const AttentionArgs& args, const PlainQuery& query, int64_t place) {
  const auto* key = reinterpret_cast<const Element*>(static_cast<const char*>(args.kv.k) + place);
  float dot = 0;
  for (int32_t d = 0; d < args.head_dim; d += 8) {
    float values[8];
    Load8(key + d, values);
    QUIRE_UNROLL
    for (int i = 0; i < 8; ++i) dot = ptx::Fma(query.values[d + i], values[i], dot);
  }
  const float score = dot * args.scale;
  const float capped =
      args.soft_cap == 0 ? score : args.soft_cap * ptx::Tanh(score / args.soft_cap);
  return capped * kLog2E;
}

// The softmax so far. Sums are in units of exp2(reference).
struct PlainState {
  static constexpr int kDims = kPlainMaxHeadDim / ptx::kWarpThreads;
  float max;          // of all keys and the sink; the same in every lane
  float weights;      // sum of this lane's keys'
  float sums[kDims];  // of dimension lane + 32 i
};

// A sink is a key without a value.
QUIRE_DEVICE PlainState BeginPlain(const AttentionArgs& args, const PlainQuery& query,
                                   int32_t lane) {
  PlainState state = {};
  state.max = args.sinks == nullptr ? kMinusInfinity : args.sinks[query.head] * kLog2E;
  state.weights = lane == 0 && state.max != kMinusInfinity ? 1 : 0;
  return state;
}

// The keys [base, base + count), at most 32.
template <class Element>
QUIRE_DEVICE void AddPlainKeys(const AttentionArgs& args, const PlainQuery& query, int64_t base,
                               int32_t count, int32_t lane, PlainState* state) {
  const bool visible = lane < count;
  PlainPlace place = {0, 0};
  float score = kMinusInfinity;
  if (visible) {
    place = PlaceOf(args, query, static_cast<int32_t>(base + lane));
    score = PlainScore<Element>(args, query, place.key);
  }
  float max = ptx::Max(state->max, score);
  QUIRE_UNROLL
  for (int mask = ptx::kWarpThreads / 2; mask > 0; mask /= 2) {
    max = ptx::Max(max, ptx::ShuffleXor(max, mask));
  }
  const float reference = ReferenceOf(max);
  const float rescale = ptx::Exp2(state->max - reference);
  const float weight = visible ? ptx::Exp2(score - reference) : 0;
  state->max = max;
  state->weights = ptx::Fma(state->weights, rescale, weight);
  QUIRE_UNROLL
  for (int i = 0; i < PlainState::kDims; ++i) state->sums[i] *= rescale;
  // Only the values of keys that are seen: another's may be NaN, which no weight takes out.
  for (int32_t t = 0; t < count; ++t) {
    const float key_weight = ptx::Shuffle(weight, t);
    const auto* value = reinterpret_cast<const Element*>(static_cast<const char*>(args.kv.v) +
                                                         ptx::Shuffle(place.value, t));
    QUIRE_UNROLL
    for (int i = 0; i < PlainState::kDims; ++i) {
      const int32_t d = lane + i * ptx::kWarpThreads;
      if (d < args.head_dim) {
        state->sums[i] = ptx::Fma(key_weight, ToFloat(value[d]), state->sums[i]);
      }
    }
  }
}

template <class Element>
QUIRE_DEVICE void EndPlain(const AttentionArgs& args, const PlainQuery& query, int32_t lane,
                           const PlainState& state) {
  float total = state.weights;
  QUIRE_UNROLL
  for (int mask = ptx::kWarpThreads / 2; mask > 0; mask /= 2) {
    total += ptx::ShuffleXor(total, mask);
  }
  Element* output = static_cast<Element*>(args.output) + query.index * args.head_dim;
  QUIRE_UNROLL
  for (int i = 0; i < PlainState::kDims; ++i) {
    const int32_t d = lane + i * ptx::kWarpThreads;
    if (d < args.head_dim) Store(output + d, total == 0 ? 0 : state.sums[i] / total);
  }
  if (args.lse != nullptr && lane == 0) {
    args.lse[query.index] = (ReferenceOf(state.max) + ptx::Log2(total)) * kLn2;
  }
}

// All arithmetic of a query is its warp's own, in the order of its keys, so that its bits depend on
// nothing else. The grid may be any; a replay's live tokens may be none.
template <class Element>
QUIRE_KERNEL(kBlockThreads, 4)
AttentionPlainKernel(QUIRE_PARAMETER(AttentionArgs) args) {
  const int32_t lane = ptx::ThreadIndex() % ptx::kWarpThreads;
  const int32_t warp = ptx::ThreadIndex() / ptx::kWarpThreads;
  const int32_t batch = args.schedule->batch;
  if (batch == 0) return;
  float* shared = reinterpret_cast<float*>(ptx::Smem()) + warp * kPlainMaxHeadDim;
  const int64_t count =
      int64_t{ptx::LoadConstant(args.shape.query_begin + batch)} * args.query_heads;
  const int64_t step = int64_t{ptx::BlockCount()} * kBlockWarps;
  for (int64_t i = int64_t{ptx::BlockIndex()} * kBlockWarps + warp; i < count; i += step) {
    PlainQuery query = FindPlainQuery(args, batch, i);
    query.values = shared;
    const Element* source = static_cast<const Element*>(args.query) + i * args.head_dim;
    for (int32_t d = lane; d < args.head_dim; d += ptx::kWarpThreads) {
      shared[d] = ToFloat(source[d]);
    }
    ptx::SyncWarp();
    PlainState state = BeginPlain(args, query, lane);
    for (int64_t base = query.keys_begin; base < query.keys_end; base += ptx::kWarpThreads) {
      const int64_t left = query.keys_end - base;
      const int32_t keys =
          left < ptx::kWarpThreads ? static_cast<int32_t>(left) : ptx::kWarpThreads;
      AddPlainKeys<Element>(args, query, base, keys, lane, &state);
    }
    EndPlain<Element>(args, query, lane, state);
    ptx::SyncWarp();  // the next query is written where this one was read
  }
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ATTENTION_PLAIN_CUH_
