#include "engine/model.h"

#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engine {

Model::Model(const Checkpoint& checkpoint, const quire::Threads& threads,
             std::unique_ptr<Kernels> kernels)
    : config_(checkpoint.config),
      threads_(threads),
      kernels_(kernels == nullptr ? NewCpuKernels(threads) : std::move(kernels)),
      embedding_(checkpoint.embedding),
      final_norm_(checkpoint.final_norm),
      classifier_(config_.shared_classifier ? checkpoint.embedding : checkpoint.classifier,
                  config_.dim, config_.vocab_size),
      rope_(config_.head_dim(), config_.context) {
  const int32_t dim = config_.dim, hidden = config_.hidden_dim, kv = config_.kv_dim();
  for (const LayerWeights& weights : checkpoint.layers) {
    layers_.push_back(Layer{
        .attention_norm = weights.attention_norm,
        .query = Linear(weights.query, dim, dim),
        .key = Linear(weights.key, dim, kv),
        .value = Linear(weights.value, dim, kv),
        .attention_output = Linear(weights.attention_output, dim, dim),
        .feed_forward_norm = weights.feed_forward_norm,
        .gate = Linear(weights.gate, dim, hidden),
        .up = Linear(weights.up, dim, hidden),
        .down = Linear(weights.down, hidden, dim),
    });
  }
}

void Model::ResizeScratch(int32_t tokens) {
  const auto count = static_cast<size_t>(tokens);
  for (std::vector<float>* buffer : {&x_, &normed_, &query_, &attended_}) {
    buffer->resize(count * static_cast<size_t>(config_.dim));
  }
  for (std::vector<float>* buffer : {&key_, &value_}) {
    buffer->resize(count * static_cast<size_t>(config_.kv_dim()));
  }
  for (std::vector<float>* buffer : {&gate_, &up_}) {
    buffer->resize(count * static_cast<size_t>(config_.hidden_dim));
  }
}

// Row i's new tokens are the last ones of its lengths[i]. Where they stand is the same in every
// layer, so it is found once a step.
void Model::FindPlaces(const StepBatch& batch) {
  positions_.clear();
  slots_.clear();
  for (int32_t row = 0; row < batch.table.batch; ++row) {
    const size_t r = static_cast<size_t>(row);
    const int32_t count = batch.query_begin[r + 1] - batch.query_begin[r];
    const int32_t first = batch.table.lengths[row] - count;
    for (int32_t position = first; position < first + count; ++position) {
      positions_.push_back(position);
      slots_.push_back(quire::SlotOf(batch.table, row, position));
    }
  }
}

// x += output(attention(norm(x))), with the new keys and values put into their pages first, so that
// attention reads old and new ones alike through the page table.
absl::Status Model::Attend(const Layer& layer, const StepBatch& batch, const quire::KvView& kv) {
  const auto tokens = static_cast<int32_t>(batch.tokens.size());
  RmsNorm(x_.data(), layer.attention_norm, tokens, normed_.data());
  layer.query.Apply(normed_.data(), tokens, query_.data(), threads_);
  layer.key.Apply(normed_.data(), tokens, key_.data(), threads_);
  layer.value.Apply(normed_.data(), tokens, value_.data(), threads_);
  for (size_t t = 0; t < batch.tokens.size(); ++t) {
    rope_.Apply(query_.data() + t * static_cast<size_t>(config_.dim), config_.heads, positions_[t]);
    rope_.Apply(key_.data() + t * static_cast<size_t>(config_.kv_dim()), config_.kv_heads,
                positions_[t]);
  }

  absl::Status status =
      kernels_->AppendAndAttend(kv, query_.data(), key_.data(), value_.data(), attended_.data());
  if (!status.ok()) return status;

  layer.attention_output.Apply(attended_.data(), tokens, normed_.data(), threads_);
  Add(x_, normed_);
  return absl::OkStatus();
}

// x += down(silu(gate(norm(x))) * up(norm(x))).
void Model::FeedForward(const Layer& layer, int32_t tokens) {
  RmsNorm(x_.data(), layer.feed_forward_norm, tokens, normed_.data());
  layer.gate.Apply(normed_.data(), tokens, gate_.data(), threads_);
  layer.up.Apply(normed_.data(), tokens, up_.data(), threads_);
  SwiGlu(gate_, up_);
  layer.down.Apply(gate_.data(), tokens, normed_.data(), threads_);
  Add(x_, normed_);
}

absl::Status Model::Forward(const StepBatch& batch, std::vector<float>* logits) {
  const auto tokens = static_cast<int32_t>(batch.tokens.size());
  const auto dim = static_cast<size_t>(config_.dim);
  if (batch.kv.size() != layers_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the batch has K/V of ", batch.kv.size(),
                                                   " layers, the model ", layers_.size()));
  }
  ResizeScratch(tokens);
  FindPlaces(batch);
  for (size_t t = 0; t < batch.tokens.size(); ++t) {
    std::memcpy(x_.data() + t * dim, embedding_.data() + static_cast<size_t>(batch.tokens[t]) * dim,
                dim * sizeof(float));
  }
  const KernelStep step = {&config_, batch.table, batch.query_begin, slots_};
  absl::Status status = kernels_->Begin(step);
  if (!status.ok()) return status;
  for (size_t i = 0; i < layers_.size(); ++i) {
    status = Attend(layers_[i], batch, batch.kv[i]);
    if (!status.ok()) return status;
    FeedForward(layers_[i], tokens);
  }

  // Only the wanted tokens go on: the classifier is the largest matrix, and most tokens of a prompt
  // need no logits.
  const auto wanted = static_cast<int32_t>(batch.wanted.size());
  for (size_t i = 0; i < batch.wanted.size(); ++i) {
    RmsNorm(x_.data() + static_cast<size_t>(batch.wanted[i]) * dim, final_norm_, 1,
            normed_.data() + i * dim);
  }
  logits->resize(batch.wanted.size() * static_cast<size_t>(config_.vocab_size));
  classifier_.Apply(normed_.data(), wanted, logits->data(), threads_);
  return absl::OkStatus();
}

}  // namespace engine
