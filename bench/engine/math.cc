#include "engine/math.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

namespace engine {
namespace {

// Four floats in one register. Element-wise, so it is exactly the loop it replaces.
typedef float Quad __attribute__((vector_size(16)));

Quad LoadQuad(const float* from) {
  Quad quad;
  std::memcpy(&quad, from, sizeof(quad));
  return quad;
}

constexpr int kTileRows = 4;

// Below this many multiplications, waking other threads costs more than they save.
constexpr int64_t kParallelWork = 1 << 20;

}  // namespace

Linear::Linear(std::span<const float> weights, int32_t inputs, int32_t outputs)
    : inputs_(inputs), outputs_(outputs) {
  const int32_t blocks = (outputs + kLanes - 1) / kLanes;
  packed_.assign(static_cast<size_t>(blocks) * static_cast<size_t>(inputs) * kLanes, 0.0f);
  for (int32_t output = 0; output < outputs; ++output) {
    const float* from = weights.data() + static_cast<int64_t>(output) * inputs;
    float* to = packed_.data() + static_cast<int64_t>(output / kLanes) * inputs * kLanes;
    for (int32_t input = 0; input < inputs; ++input) {
      to[int64_t{input} * kLanes + output % kLanes] = from[input];
    }
  }
}

// kLanes outputs of kRows rows: the sums stay in registers while the weights pass by once.
template <int kRows>
void Linear::Tile(int32_t block, const float* x, float* y) const {
  static_assert(kLanes == 8, "two registers per row");
  const float* weights = packed_.data() + static_cast<int64_t>(block) * inputs_ * kLanes;
  Quad low[kRows] = {};
  Quad high[kRows] = {};
  for (int32_t input = 0; input < inputs_; ++input, weights += kLanes) {
    const Quad weight_low = LoadQuad(weights);
    const Quad weight_high = LoadQuad(weights + 4);
    for (int row = 0; row < kRows; ++row) {
      const float value = x[static_cast<int64_t>(row) * inputs_ + input];
      low[row] += value * weight_low;
      high[row] += value * weight_high;
    }
  }
  const int32_t first = block * kLanes;
  const int32_t count = std::min(kLanes, outputs_ - first);
  for (int row = 0; row < kRows; ++row) {
    float sums[kLanes];
    std::memcpy(sums, &low[row], sizeof(Quad));
    std::memcpy(sums + 4, &high[row], sizeof(Quad));
    std::memcpy(y + static_cast<int64_t>(row) * outputs_ + first, sums,
                static_cast<size_t>(count) * sizeof(float));
  }
}

void Linear::Block(int32_t block, const float* x, int32_t rows, float* y) const {
  int32_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) {
    Tile<kTileRows>(block, x + int64_t{row} * inputs_, y + int64_t{row} * outputs_);
  }
  for (; row < rows; ++row) {
    Tile<1>(block, x + int64_t{row} * inputs_, y + int64_t{row} * outputs_);
  }
}

void Linear::Apply(const float* x, int32_t rows, float* y, const quire::Threads& threads) const {
  const int32_t blocks = (outputs_ + kLanes - 1) / kLanes;
  if (threads.workers == 1 || int64_t{rows} * inputs_ * outputs_ < kParallelWork) {
    for (int32_t block = 0; block < blocks; ++block) Block(block, x, rows, y);
    return;
  }
  struct Job {
    const Linear* matrix;
    const float* x;
    int32_t rows;
    float* y;
  } job = {this, x, rows, y};
  threads.run(
      threads.context, blocks,
      [](void* argument, int32_t block) {
        const Job& j = *static_cast<const Job*>(argument);
        j.matrix->Block(block, j.x, j.rows, j.y);
      },
      &job);
}

void RmsNorm(const float* x, std::span<const float> weight, int32_t rows, float* y) {
  const size_t dim = weight.size();
  for (int32_t row = 0; row < rows; ++row, x += dim, y += dim) {
    float squares = 0.0f;
    for (size_t i = 0; i < dim; ++i) squares += x[i] * x[i];
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(dim) + 1e-5f);
    for (size_t i = 0; i < dim; ++i) y[i] = weight[i] * (scale * x[i]);
  }
}

Rope::Rope(int32_t head_dim, int32_t positions) : pairs_(head_dim / 2) {
  const size_t size = static_cast<size_t>(pairs_) * static_cast<size_t>(positions);
  cos_.reserve(size);
  sin_.reserve(size);
  for (int32_t position = 0; position < positions; ++position) {
    for (int32_t pair = 0; pair < pairs_; ++pair) {
      const float exponent = static_cast<float>(2 * pair) / static_cast<float>(head_dim);
      const float frequency = 1.0f / std::pow(10000.0f, exponent);
      const float angle = static_cast<float>(position) * frequency;
      cos_.push_back(std::cos(angle));
      sin_.push_back(std::sin(angle));
    }
  }
}

void Rope::Apply(float* heads, int32_t head_count, int32_t position) const {
  const float* cosines = cos_.data() + static_cast<int64_t>(position) * pairs_;
  const float* sines = sin_.data() + static_cast<int64_t>(position) * pairs_;
  for (int32_t head = 0; head < head_count; ++head) {
    for (int32_t pair = 0; pair < pairs_; ++pair, heads += 2) {
      const float x = heads[0], y = heads[1];
      heads[0] = x * cosines[pair] - y * sines[pair];
      heads[1] = x * sines[pair] + y * cosines[pair];
    }
  }
}

void SwiGlu(std::span<float> gate, std::span<const float> up) {
  for (size_t i = 0; i < gate.size(); ++i) {
    const float silu = gate[i] * (1.0f / (1.0f + std::exp(-gate[i])));
    gate[i] = silu * up[i];
  }
}

void Add(std::span<float> x, std::span<const float> y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

}  // namespace engine
