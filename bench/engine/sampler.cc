#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace engine {
namespace {

// Spreads neighbouring seeds over all states (the finaliser of splitmix64); seeds 7 and 8 would
// otherwise begin with nearly equal numbers.
uint64_t Spread(uint64_t seed) {
  uint64_t x = seed + 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

Sampler::Sampler(float temperature, uint64_t seed)
    : temperature_(temperature), state_(std::max<uint64_t>(Spread(seed), 1)) {}

uint64_t Sampler::Next() {  // xorshift64
  state_ ^= state_ << 13;
  state_ ^= state_ >> 7;
  state_ ^= state_ << 17;
  return state_;
}

quire::TokenId Sampler::Sample(std::span<const float> logits) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (temperature_ <= 0.0f) return static_cast<quire::TokenId>(largest - logits.begin());

  // Draw against the running sum of exp((logit - max) / temperature), which is softmax times a
  // constant; in double, so that the sum of a large vocabulary keeps its small terms.
  const auto weight = [&](float logit) {
    return std::exp(static_cast<double>(logit - *largest) / static_cast<double>(temperature_));
  };
  double total = 0;
  for (float logit : logits) total += weight(logit);
  double left = static_cast<double>(Next() >> 11) * 0x1p-53 * total;
  for (size_t i = 0; i < logits.size(); ++i) {
    left -= weight(logits[i]);
    if (left < 0) return static_cast<quire::TokenId>(i);
  }
  return static_cast<quire::TokenId>(largest - logits.begin());  // rounding ate the last sliver
}

}  // namespace engine
