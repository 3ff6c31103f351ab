// The arithmetic of a Llama layer, apart from attention: fp32, plain, and batch-invariant.
//
// Batch-invariant: what comes out for one token has the same bits whatever else is in the batch.
// Without it a request would answer differently when it runs beside others, when its prompt is cut
// into chunks, or when part of it came from the cache, and no test could tell that from a bug. It
// holds because every sum runs in one fixed order that depends on the layer's shape alone.

#ifndef QUIRE_BENCH_ENGINE_MATH_H_
#define QUIRE_BENCH_ENGINE_MATH_H_

#include <cstdint>
#include <span>
#include <vector>

#include "quire/attention.h"

namespace engine {

// A matrix that is multiplied with. Each output adds its products in order of the input index;
// speed comes from working on kLanes outputs and several rows at once, which changes no order.
class Linear {
 public:
  Linear() = default;
  // weights: [outputs][inputs].
  Linear(std::span<const float> weights, int32_t inputs, int32_t outputs);

  // y[row][output] = sum of x[row][input] * weights[output][input]. y may not overlap x.
  void Apply(const float* x, int32_t rows, float* y, const quire::Threads& threads) const;

  int32_t inputs() const { return inputs_; }
  int32_t outputs() const { return outputs_; }

 private:
  static constexpr int32_t kLanes = 8;

  template <int kRows>
  void Tile(int32_t block, const float* x, float* y) const;
  void Block(int32_t block, const float* x, int32_t rows, float* y) const;

  int32_t inputs_ = 0;
  int32_t outputs_ = 0;
  std::vector<float> packed_;  // [outputs / kLanes, rounded up][inputs][kLanes], zeros at the end
};

// y = x / sqrt(mean(x * x) + 1e-5) * weight, row by row; y may be x.
void RmsNorm(const float* x, std::span<const float> weight, int32_t rows, float* y);

// Rotary position embedding: rotates each pair (2i, 2i + 1) of a head by position * 10000^(-2i/d).
class Rope {
 public:
  Rope() = default;
  Rope(int32_t head_dim, int32_t positions);

  // Rotates the heads of one token in place.
  void Apply(float* heads, int32_t head_count, int32_t position) const;

 private:
  int32_t pairs_ = 0;
  std::vector<float> cos_;  // [position][pair]
  std::vector<float> sin_;
};

// gate = silu(gate) * up, the activation inside the feed-forward block.
void SwiGlu(std::span<float> gate, std::span<const float> up);

// x += y.
void Add(std::span<float> x, std::span<const float> y);

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_MATH_H_
