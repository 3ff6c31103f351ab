// The layers' arithmetic: against float64, and bitwise the same in any batch.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "engine/math.h"
#include "engine/sampler.h"
#include "engine/threads.h"
#include "engine/tiny_model.h"
#include "gtest/gtest.h"

namespace engine {
namespace {

struct Shape {
  int32_t inputs, outputs;
};

// Multiples of the tile, one more, one less, and tiny.
constexpr Shape kShapes[] = {{64, 64}, {65, 63}, {7, 1}, {1, 9}, {96, 300}};

bool SameBits(const float* a, const float* b, size_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}

TEST(LinearTest, AgreesWithFloat64) {
  std::mt19937 random(3);
  for (const Shape& shape : kShapes) {
    const int32_t rows = 6;
    const auto weights = RandomFloats(&random, int64_t{shape.inputs} * shape.outputs, 1.0f);
    const auto x = RandomFloats(&random, int64_t{rows} * shape.inputs, 1.0f);
    std::vector<float> y(static_cast<size_t>(rows * shape.outputs), NAN);
    Linear(weights, shape.inputs, shape.outputs).Apply(x.data(), rows, y.data(), MakeThreads(1));
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t output = 0; output < shape.outputs; ++output) {
        double sum = 0;
        for (int32_t i = 0; i < shape.inputs; ++i) {
          sum += static_cast<double>(x[static_cast<size_t>(row * shape.inputs + i)]) *
                 static_cast<double>(weights[static_cast<size_t>(output * shape.inputs + i)]);
        }
        EXPECT_NEAR(y[static_cast<size_t>(row * shape.outputs + output)], sum, 2e-5);
      }
    }
  }
}

TEST(LinearTest, ARowHasTheSameBitsInAnyBatch) {
  std::mt19937 random(4);
  for (const Shape& shape : kShapes) {
    const int32_t rows = 11;
    const Linear matrix(RandomFloats(&random, int64_t{shape.inputs} * shape.outputs, 1.0f),
                        shape.inputs, shape.outputs);
    const auto x = RandomFloats(&random, int64_t{rows} * shape.inputs, 1.0f);
    const auto outputs = static_cast<size_t>(shape.outputs);
    std::vector<float> alone(static_cast<size_t>(rows) * outputs);
    for (int32_t row = 0; row < rows; ++row) {
      matrix.Apply(x.data() + row * shape.inputs, 1,
                   alone.data() + static_cast<size_t>(row) * outputs, MakeThreads(1));
    }
    for (int32_t begin = 0; begin < rows; ++begin) {
      for (int32_t count = 1; begin + count <= rows; ++count) {
        std::vector<float> batch(static_cast<size_t>(count) * outputs);
        matrix.Apply(x.data() + begin * shape.inputs, count, batch.data(), MakeThreads(1));
        ASSERT_TRUE(SameBits(batch.data(), alone.data() + static_cast<size_t>(begin) * outputs,
                             batch.size()))
            << shape.inputs << "x" << shape.outputs << ", rows " << begin << " + " << count;
      }
    }
  }
}

TEST(LinearTest, ThreadsChangeNoBit) {
  std::mt19937 random(5);
  const int32_t rows = 64, inputs = 160, outputs = 150;  // enough work to be shared out
  const Linear matrix(RandomFloats(&random, int64_t{inputs} * outputs, 1.0f), inputs, outputs);
  const auto x = RandomFloats(&random, int64_t{rows} * inputs, 1.0f);
  std::vector<float> one(static_cast<size_t>(rows * outputs)), three(one.size(), NAN);
  matrix.Apply(x.data(), rows, one.data(), MakeThreads(1));
  matrix.Apply(x.data(), rows, three.data(), MakeThreads(3));
  EXPECT_TRUE(SameBits(one.data(), three.data(), one.size()));
}

TEST(RmsNormTest, AgreesWithFloat64) {
  std::mt19937 random(6);
  const size_t dim = 37;
  const int32_t rows = 3;
  const auto x = RandomFloats(&random, static_cast<int64_t>(dim) * rows, 4.0f);
  const auto weight = RandomFloats(&random, dim, 2.0f);
  std::vector<float> y(x.size());
  RmsNorm(x.data(), weight, rows, y.data());
  for (size_t row = 0; row < rows; ++row) {
    double squares = 0;
    for (size_t i = 0; i < dim; ++i) squares += std::pow(static_cast<double>(x[row * dim + i]), 2);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(dim) + 1e-5);
    for (size_t i = 0; i < dim; ++i) {
      EXPECT_NEAR(y[row * dim + i], x[row * dim + i] * scale * weight[i], 2e-6);
    }
  }
}

TEST(RmsNormTest, ASmallRowIsHeldUpByEpsilon) {
  const std::vector<float> zero(8, 0.0f), weight(8, 1.0f);
  std::vector<float> y(8, NAN);
  RmsNorm(zero.data(), weight, 1, y.data());
  EXPECT_EQ(y, zero);
}

TEST(RopeTest, AgreesWithFloat64) {
  std::mt19937 random(7);
  const int32_t head_dim = 16, heads = 3, positions = 500;
  const Rope rope(head_dim, positions);
  for (int32_t position : {0, 1, 7, 100, 499}) {
    const auto before = RandomFloats(&random, heads * head_dim, 1.0f);
    std::vector<float> after = before;
    rope.Apply(after.data(), heads, position);
    for (size_t i = 0; i < before.size(); i += 2) {
      const auto within = static_cast<double>(i % static_cast<size_t>(head_dim));
      const double angle = position * std::pow(10000.0, -within / head_dim);
      const double x = before[i], y = before[i + 1];
      // A float angle of up to 500 radians is exact to about 3e-5.
      EXPECT_NEAR(after[i], x * std::cos(angle) - y * std::sin(angle), 1e-4);
      EXPECT_NEAR(after[i + 1], x * std::sin(angle) + y * std::cos(angle), 1e-4);
    }
    if (position == 0) {
      EXPECT_EQ(after, before);
    }
  }
}

TEST(SwiGluTest, AgreesWithFloat64) {
  std::vector<float> gate = {-30.0f, -1.5f, 0.0f, 0.3f, 4.0f, 30.0f};
  const std::vector<float> before = gate, up = {1.0f, -2.0f, 3.0f, 0.5f, -1.0f, 2.0f};
  SwiGlu(gate, up);
  for (size_t i = 0; i < gate.size(); ++i) {
    const double x = before[i];
    EXPECT_NEAR(gate[i], x / (1 + std::exp(-x)) * up[i], 1e-5);
  }
}

TEST(SamplerTest, GreedyTakesTheFirstOfTheLargest) {
  const std::vector<float> logits = {0.5f, 3.0f, 3.0f, -1.0f};
  EXPECT_EQ(Sampler(0.0f, 1).Sample(logits), 1);
}

TEST(SamplerTest, FollowsTheDistribution) {
  // Weights 1 : 2 : 5 at temperature 1.
  const std::vector<float> logits = {0.0f, std::log(2.0f), std::log(5.0f)};
  Sampler sampler(1.0f, 9);
  int counts[3] = {};
  constexpr int kDraws = 40000;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.Sample(logits)];
  const double expected[] = {1.0 / 8, 2.0 / 8, 5.0 / 8};
  for (int i = 0; i < 3; ++i) {
    EXPECT_NEAR(counts[i] / static_cast<double>(kDraws), expected[i], 0.01) << i;
  }
}

TEST(SamplerTest, SeedsAreReproducibleAndDiffer) {
  const std::vector<float> logits(50, 0.0f);
  const auto draw = [&](uint64_t seed) {
    Sampler sampler(0.7f, seed);
    std::vector<quire::TokenId> out;
    for (int i = 0; i < 20; ++i) out.push_back(sampler.Sample(logits));
    return out;
  };
  EXPECT_EQ(draw(0), draw(0));
  EXPECT_NE(draw(0), draw(1));
  EXPECT_NE(draw(1), draw(2));
  EXPECT_NE(draw(1)[0], draw(2)[0]);  // neighbouring seeds part at once
}

}  // namespace
}  // namespace engine
