// Puts the results of attention over disjoint sets of keys together.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/check.h"
#include "kernels/cpu/parallel.h"
#include "kernels/half.h"
#include "quire/attention.h"

namespace quire::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kMaxHeadDim = 256;

// Element types: how they are stored, and their value.
struct Float32 {
  using Stored = float;
  static float Load(float value) { return value; }
  static float Store(float value) { return value; }
};
struct Float16 {
  using Stored = uint16_t;
  static float Load(uint16_t bits) { return FromFloat16(bits); }
  static uint16_t Store(float value) { return ToFloat16(value); }
};
struct BFloat16 {
  using Stored = uint16_t;
  static float Load(uint16_t bits) { return FromBFloat16(bits); }
  static uint16_t Store(float value) { return ToBFloat16(value); }
};

// The largest LSE of the parts that have keys; -infinity if none has. Passes over a NaN, which
// reaches the result as a weight.
float LargestLse(const MergeParams& p, int64_t index) {
  float largest = -kInfinity;
  for (int32_t part = 0; part < p.part_count; ++part) {
    const float lse = p.lses[part * p.lse_stride + index];
    if (!std::isinf(lse)) largest = std::max(largest, lse);
  }
  return largest;
}

// One head of one token: `index` counts them. All parts are read before anything is written, since
// the result may lie on one of them.
template <class Element>
void MergeHead(const MergeParams& p, int64_t index) {
  using Stored = typename Element::Stored;
  const float largest = LargestLse(p, index);
  // -0 is what leaves every number as it is when added to it, -0 itself included: so a part that is
  // alone comes out bit by bit.
  float sums[kMaxHeadDim];
  std::fill_n(sums, p.head_dim, -0.0f);
  float total = 0;
  for (int32_t part = 0; part < p.part_count; ++part) {
    const float lse = p.lses[part * p.lse_stride + index];
    if (std::isinf(lse)) continue;  // no keys; its output may be anything
    const float weight = std::exp(lse - largest);
    total += weight;
    const auto* values = reinterpret_cast<const Stored*>(static_cast<const char*>(p.outputs) +
                                                         part * p.output_stride) +
                         index * p.head_dim;
    for (int32_t d = 0; d < p.head_dim; ++d) sums[d] += weight * Element::Load(values[d]);
  }
  auto* output = static_cast<Stored*>(p.output) + index * p.head_dim;
  for (int32_t d = 0; d < p.head_dim; ++d) {
    output[d] = Element::Store(total == 0 ? 0 : sums[d] / total);
  }
  if (p.lse != nullptr) p.lse[index] = largest + std::log(total);
}

template <class Element>
void MergeTokens(const MergeParams& p) {
  // A task is worth a thread from about 64 KB of outputs on.
  const int64_t token_bytes = int64_t{p.part_count} * p.heads * HeadBytes(p.dtype, p.head_dim);
  const int64_t useful = p.token_count * token_bytes / 65536 + 1;
  const auto tasks = static_cast<int32_t>(
      std::min({useful, int64_t{p.token_count}, int64_t{WorkerCount(p.threads)}}));
  auto merge = [&](int32_t task) {
    const int64_t begin = int64_t{p.token_count} * task / tasks * p.heads;
    const int64_t end = int64_t{p.token_count} * (task + 1) / tasks * p.heads;
    for (int64_t index = begin; index < end; ++index) MergeHead<Element>(p, index);
  };
  ParallelFor(p.threads, tasks, merge);
}

}  // namespace

LaunchError Merge(const MergeParams& params) {
  const LaunchError error = CheckMerge(params);
  if (error != LaunchError::kOk) return error;
  switch (params.dtype) {
    case DType::kFloat32:
      MergeTokens<Float32>(params);
      break;
    case DType::kFloat16:
      MergeTokens<Float16>(params);
      break;
    case DType::kBFloat16:
      MergeTokens<BFloat16>(params);
      break;
  }
  return LaunchError::kOk;
}

}  // namespace quire::cpu
