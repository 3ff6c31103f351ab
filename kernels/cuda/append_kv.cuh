// Scatters the new keys and values of a step into their pages. A warp takes a chunk of one token at
// a time: all its loads, then the search for the token's place, which takes as long as they do,
// then the stores.

#ifndef QUIRE_KERNELS_CUDA_APPEND_KV_CUH_
#define QUIRE_KERNELS_CUDA_APPEND_KV_CUH_

#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/prepare_simple.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_search.cuh"
#include "quire/attention.h"

namespace quire::cuda {

// Where a token goes. Padding goes nowhere, and so does what is rejected.
struct TokenPlace {
  int32_t page;
  int32_t offset;  // tokens from the page's begin
  bool written;
  bool rejected;
};

QUIRE_DEVICE TokenPlace PlaceOfSlot(const AppendKvArgs& args, int64_t slot) {
  const AppendKvParams& params = args.params;
  if (slot == -1) return {0, 0, false, false};
  const int64_t limit = int64_t{params.kv.page_count} * params.tokens_per_page;
  if (slot < 0 || slot >= limit) return {0, 0, false, true};
  const auto page = slot <= INT32_MAX ? args.pages.Divide(static_cast<int32_t>(slot))
                                      : static_cast<int32_t>(slot / params.tokens_per_page);
  const auto offset = static_cast<int32_t>(slot - int64_t{page} * params.tokens_per_page);
  return {page, offset, true, false};
}

QUIRE_DEVICE TokenPlace PlaceByTable(const AppendKvArgs& args, int32_t token) {
  const AppendKvParams& params = args.params;
  const int32_t batch = params.table.batch;
  if (batch == 0 || token >= ptx::LoadConstant(params.query_begin + batch)) {
    return {0, 0, false, false};
  }
  const int32_t row = RowOfToken(params.query_begin, batch, token);
  const int32_t end = ptx::LoadConstant(params.query_begin + row + 1);
  const int32_t position = ptx::LoadConstant(params.table.lengths + row) - (end - token);
  if (position < 0) return {0, 0, false, true};
  const int32_t index = args.pages.Divide(position);
  const int64_t entry = params.table.row_begin[row] + index;
  const auto page = static_cast<int32_t>(params.table.page_ids[entry]);
  const bool good = page >= 0 && page < params.kv.page_count;
  return {page, position - index * params.tokens_per_page, good, !good};
}

// Vector `vector` of a token's keys, or of its values, in the order of its heads.
QUIRE_DEVICE ptx::Vector16* TargetOf(void* base, const KvStrides& strides, const AppendKvArgs& args,
                                     const TokenPlace& place, int32_t vector) {
  const int32_t head = args.head_vectors.Divide(vector);
  const int32_t rest = vector - head * args.head_vectors.divisor();
  const int64_t offset = PageOffset(PageId{place.page}, strides.page) + head * strides.head +
                         place.offset * strides.token + rest * int64_t{sizeof(ptx::Vector16)};
  return reinterpret_cast<ptx::Vector16*>(static_cast<char*>(base) + offset);
}

// One chunk of a token: its vectors of keys and of values stand in one line.
QUIRE_DEVICE void AppendChunk(const AppendKvArgs& args, int32_t token, int32_t chunk) {
  const AppendKvParams& params = args.params;
  const int32_t lane = ptx::ThreadIndex() % ptx::kWarpThreads;
  const int32_t first = chunk * kAppendVectors + lane;
  const auto* key = reinterpret_cast<const ptx::Vector16*>(static_cast<const char*>(params.key) +
                                                           token * params.key_token_stride);
  const auto* value = reinterpret_cast<const ptx::Vector16*>(
      static_cast<const char*>(params.value) + token * params.value_token_stride);
  constexpr int kLoads = kAppendVectors / ptx::kWarpThreads;
  ptx::Vector16 loaded[kLoads];
  QUIRE_UNROLL
  for (int i = 0; i < kLoads; ++i) {
    const int32_t at = first + i * ptx::kWarpThreads;
    if (at < args.vectors) {
      loaded[i] = ptx::LoadStreaming(key + at);
    } else if (at < 2 * args.vectors) {
      loaded[i] = ptx::LoadStreaming(value + (at - args.vectors));
    }
  }
  const TokenPlace place =
      params.slots != nullptr ? PlaceOfSlot(args, params.slots[token]) : PlaceByTable(args, token);
  if (place.rejected && first == 0 && params.rejected != nullptr) {
    ptx::AtomicAdd(params.rejected, 1);
  }
  if (!place.written) return;
  QUIRE_UNROLL
  for (int i = 0; i < kLoads; ++i) {
    const int32_t at = first + i * ptx::kWarpThreads;
    if (at < args.vectors) {
      *TargetOf(params.kv.k, params.kv.k_strides, args, place, at) = loaded[i];
    } else if (at < 2 * args.vectors) {
      *TargetOf(params.kv.v, params.kv.v_strides, args, place, at - args.vectors) = loaded[i];
    }
  }
}

QUIRE_KERNEL(kBlockThreads, 8) AppendKvKernel(QUIRE_PARAMETER(AppendKvArgs) args) {
  const int32_t warp = ptx::BlockIndex() * kBlockWarps + ptx::ThreadIndex() / ptx::kWarpThreads;
  const int32_t warps = ptx::BlockCount() * kBlockWarps;
  // The next unit of this warp without a division. Units may be more than an int32 counts.
  const int32_t token_step = warps / args.chunks;
  const int32_t chunk_step = warps % args.chunks;
  int64_t token = warp / args.chunks;
  int32_t chunk = warp % args.chunks;
  while (token < args.params.token_count) {
    AppendChunk(args, static_cast<int32_t>(token), chunk);
    token += token_step;
    chunk += chunk_step;
    if (chunk >= args.chunks) {
      chunk -= args.chunks;
      ++token;
    }
  }
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_APPEND_KV_CUH_
