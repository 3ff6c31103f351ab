// The reference: one request, alone, on plain contiguous memory, with no cache manager at all.
//
// It runs the same model code over a "page table" whose single page is a whole buffer of the
// model's context. The arithmetic is batch-invariant, so the engine must give the very same tokens
// whatever it batches, shares, copies, preempts or recomputes; the demo and the tests compare them
// one by one.

#ifndef QUIRE_BENCH_ENGINE_CONTIGUOUS_H_
#define QUIRE_BENCH_ENGINE_CONTIGUOUS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "quire/device.h"

namespace engine {

class ContiguousRunner {
 public:
  // Called before each new token is computed, with the length it is computed from.
  using OnToken = std::function<void(int32_t length)>;

  explicit ContiguousRunner(Model* model);  // borrowed

  // The tokens that sample `sample` of `request` must get.
  absl::StatusOr<std::vector<quire::TokenId>> Generate(const Request& request, int32_t sample = 0);

  // The same tokens without keeping any K or V: the whole sequence is computed for each token.
  absl::StatusOr<std::vector<quire::TokenId>> GenerateWithoutCache(const Request& request,
                                                                   const OnToken& on_token = {});

  // Computes `tokens` at `position` and later, over the K/V already there; logits of the last one.
  absl::Status Compute(std::span<const quire::TokenId> tokens, int32_t position,
                       std::vector<float>* logits);

 private:
  absl::StatusOr<std::vector<quire::TokenId>> Generate(const Request& request, int32_t sample,
                                                       bool keep_kv, const OnToken& on_token);

  Model* const model_;
  std::unique_ptr<quire::Device> memory_;  // of one page, as long as the context
  std::vector<quire::KvView> kv_;          // [layers]
  absl::Status status_;                    // why there is no memory
};

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_CONTIGUOUS_H_
