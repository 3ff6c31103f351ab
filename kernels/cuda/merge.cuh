// Puts the results of attention over disjoint sets of keys together, as cpu/merge.cc: a warp for
// each head of each token, eight elements a lane.

#ifndef QUIRE_KERNELS_CUDA_MERGE_CUH_
#define QUIRE_KERNELS_CUDA_MERGE_CUH_

#include <cstdint>
#include <limits>

#include "kernels/cuda/args.h"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/ptx.cuh"
#include "quire/attention.h"

namespace quire::cuda {

// The LSE of a part with keys is finite, or NaN.
QUIRE_DEVICE bool HasKeys(float lse) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return lse != kInfinity && lse != -kInfinity;
}

// The largest LSE of the parts that have keys; -infinity if none has. Passes over a NaN, which
// reaches the result as a weight.
QUIRE_DEVICE float LargestLse(const MergeParams& p, int64_t index) {
  float largest = -std::numeric_limits<float>::infinity();
  for (int32_t part = 0; part < p.part_count; ++part) {
    const float lse = p.lses[part * p.lse_stride + index];
    if (HasKeys(lse)) largest = ptx::Max(largest, lse);
  }
  return largest;
}

template <class Element>
QUIRE_DEVICE void MergeHead(const MergeParams& p, int64_t index, int32_t lane) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2 = 0.693147181f;
  const int32_t begin = lane * 8;
  const bool mine = begin < p.head_dim;
  const int64_t at = index * p.head_dim + begin;
  const float largest = LargestLse(p, index);
  // -0 leaves every number as it is when added to it, -0 too: a part that is alone comes out as is.
  float sums[8] = {-0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f};
  float total = 0;
  for (int32_t part = 0; part < p.part_count; ++part) {
    const float lse = p.lses[part * p.lse_stride + index];
    if (!HasKeys(lse)) continue;  // its output may be anything
    const float weight = ptx::Exp2((lse - largest) * kLog2E);
    total += weight;
    if (!mine) continue;
    float values[8];
    Load8(reinterpret_cast<const Element*>(static_cast<const char*>(p.outputs) +
                                           part * p.output_stride) +
              at,
          values);
    QUIRE_UNROLL
    for (int i = 0; i < 8; ++i) sums[i] = ptx::Fma(weight, values[i], sums[i]);
  }
  if (mine) {
    QUIRE_UNROLL
    for (int i = 0; i < 8; ++i) sums[i] = total == 0 ? 0 : sums[i] / total;
    Store8(static_cast<Element*>(p.output) + at, sums);
  }
  ptx::SyncWarp();  // the LSE may lie on a part's, which all lanes read
  if (p.lse != nullptr && lane == 0) p.lse[index] = largest + ptx::Log2(total) * kLn2;
}

template <class Element>
QUIRE_KERNEL(kBlockThreads, 8)
MergeKernel(QUIRE_PARAMETER(MergeArgs) args) {
  const int32_t lane = ptx::ThreadIndex() % ptx::kWarpThreads;
  const int32_t warp = ptx::ThreadIndex() / ptx::kWarpThreads;
  const int64_t count = int64_t{args.params.token_count} * args.params.heads;
  const int64_t step = int64_t{ptx::BlockCount()} * kBlockWarps;
  for (int64_t i = int64_t{ptx::BlockIndex()} * kBlockWarps + warp; i < count; i += step) {
    MergeHead<Element>(args.params, i, lane);
  }
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_MERGE_CUH_
