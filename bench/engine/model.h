// A Llama model that computes one step of many sequences at once.
//
// A step is a batch of rows. Each row is a sequence with its new tokens: one for a decode, many for
// a chunk of a prompt; the model does not tell them apart. Keys and values go to, and come from,
// pages that a page table names; the model neither knows nor asks who keeps that table.

#ifndef QUIRE_BENCH_ENGINE_MODEL_H_
#define QUIRE_BENCH_ENGINE_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/checkpoint.h"
#include "engine/kernels.h"
#include "engine/math.h"
#include "engine/threads.h"
#include "quire/attention.h"
#include "quire/page_table.h"
#include "quire/types.h"

namespace engine {

struct StepBatch {
  std::span<const quire::TokenId> tokens;  // the new tokens, row after row
  std::span<const int32_t> query_begin;    // [batch + 1] where each row's tokens begin
  quire::PageTableView table;              // its lengths count the new tokens too
  std::span<const quire::KvView> kv;       // [layers] where the pages of each layer lie
  std::span<const int32_t> wanted;         // which of `tokens` the caller wants logits for
};

class Model {
 public:
  // `kernels`: null for those of the CPU.
  explicit Model(const Checkpoint& checkpoint, const quire::Threads& threads = MakeThreads(1),
                 std::unique_ptr<Kernels> kernels = nullptr);

  // Writes the K and V of the new tokens into their pages and the logits of the wanted ones to
  // *logits ([wanted][vocab_size]). Batch-invariant bitwise, see math.h and ScheduleMode.
  // kInvalidArgument or kInternal says what a kernel refused; the pages may be half written then.
  // REQUIRES: tokens in the vocabulary, lengths within the context. Not thread-safe.
  absl::Status Forward(const StepBatch& batch, std::vector<float>* logits);

  const ModelConfig& config() const { return config_; }
  Kernels& kernels() const { return *kernels_; }

 private:
  struct Layer {
    std::vector<float> attention_norm;
    Linear query, key, value, attention_output;
    std::vector<float> feed_forward_norm;
    Linear gate, up, down;
  };

  absl::Status Attend(const Layer& layer, const StepBatch& batch, const quire::KvView& kv);
  void FeedForward(const Layer& layer, int32_t tokens);
  void FindPlaces(const StepBatch& batch);
  void ResizeScratch(int32_t tokens);

  ModelConfig config_;
  quire::Threads threads_;
  std::unique_ptr<Kernels> kernels_;
  std::vector<float> embedding_;
  std::vector<Layer> layers_;
  std::vector<float> final_norm_;
  Linear classifier_;
  Rope rope_;

  // Scratch of a step, kept so that a warm step does not allocate. [tokens][width] each.
  std::vector<float> x_, normed_, query_, key_, value_, attended_, gate_, up_;
  std::vector<int32_t> positions_;  // of each token in its sequence
  std::vector<int64_t> slots_;      // of each token in the pool
};

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_MODEL_H_
