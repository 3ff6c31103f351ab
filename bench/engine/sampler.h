// Picks the next token from logits.

#ifndef QUIRE_BENCH_ENGINE_SAMPLER_H_
#define QUIRE_BENCH_ENGINE_SAMPLER_H_

#include <cstdint>
#include <span>

#include "quire/types.h"

namespace engine {

// One per token stream. It keeps its own random numbers, drawn once per token, so what a stream
// says does not depend on what runs beside it or on when it was preempted.
class Sampler {
 public:
  // temperature 0: always the most likely token (the first of equals). Any seed is good, 0 too.
  Sampler(float temperature, uint64_t seed);

  quire::TokenId Sample(std::span<const float> logits);

 private:
  uint64_t Next();

  float temperature_;
  uint64_t state_;  // never 0
};

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_SAMPLER_H_
