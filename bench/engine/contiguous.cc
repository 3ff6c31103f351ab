#include "engine/contiguous.h"

#include <cstddef>
#include <utility>

#include "engine/sampler.h"
#include "engine/tokenizer.h"
#include "quire/page_table.h"

namespace engine {

ContiguousRunner::ContiguousRunner(Model* model) : model_(model) {
  const ModelConfig& config = model->config();
  const quire::KvLayout layout = {.layers = config.layers,
                                  .kv_heads = config.kv_heads,
                                  .head_dim = config.head_dim(),
                                  .tokens_per_page = config.context,
                                  .dtype = quire::DType::kFloat32};
  absl::StatusOr<std::unique_ptr<quire::Device>> memory =
      model->kernels().NewDevice({.groups = {{.layout = layout, .page_count = 1}}});
  status_ = memory.status();
  if (!status_.ok()) return;
  memory_ = *std::move(memory);
  for (int32_t layer = 0; layer < config.layers; ++layer) {
    absl::StatusOr<quire::KvView> view =
        memory_->view(quire::Tier::kDevice, quire::GroupId{0}, layer);
    status_.Update(view.status());
    if (view.ok()) kv_.push_back(*view);
  }
}

absl::Status ContiguousRunner::Compute(std::span<const quire::TokenId> tokens, int32_t position,
                                       std::vector<float>* logits) {
  if (!status_.ok()) return status_;
  const auto count = static_cast<int32_t>(tokens.size());
  const quire::PageId only_page{0};
  const int64_t row_begin = 0;
  const int32_t length = position + count;
  const int32_t query_begin[] = {0, count};
  const int32_t wanted = count - 1;

  StepBatch batch;
  batch.tokens = tokens;
  batch.query_begin = query_begin;
  batch.table = quire::PageTableView{.page_ids = &only_page,
                                     .row_begin = &row_begin,
                                     .lengths = &length,
                                     .batch = 1,
                                     .tokens_per_page = model_->config().context};
  batch.kv = kv_;
  batch.wanted = std::span(&wanted, 1);
  return model_->Forward(batch, logits);
}

absl::StatusOr<std::vector<quire::TokenId>> ContiguousRunner::Generate(const Request& request,
                                                                       int32_t sample, bool keep_kv,
                                                                       const OnToken& on_token) {
  Sampler sampler(request.temperature, request.seed + static_cast<uint64_t>(sample));
  std::vector<quire::TokenId> tokens = request.prompt;
  std::vector<quire::TokenId> generated;
  std::vector<float> logits;
  size_t computed = 0;
  while (static_cast<int32_t>(generated.size()) < request.max_new_tokens) {
    if (on_token) on_token(static_cast<int32_t>(tokens.size()));
    if (!keep_kv) computed = 0;
    absl::Status status =
        Compute(std::span(tokens).subspan(computed), static_cast<int32_t>(computed), &logits);
    if (!status.ok()) return status;
    computed = tokens.size();
    const quire::TokenId next = sampler.Sample(logits);
    if (next == kBos && request.stop_at_bos) break;
    tokens.push_back(next);
    generated.push_back(next);
  }
  return generated;
}

absl::StatusOr<std::vector<quire::TokenId>> ContiguousRunner::Generate(const Request& request,
                                                                       int32_t sample) {
  return Generate(request, sample, /*keep_kv=*/true, {});
}

absl::StatusOr<std::vector<quire::TokenId>> ContiguousRunner::GenerateWithoutCache(
    const Request& request, const OnToken& on_token) {
  return Generate(request, /*sample=*/0, /*keep_kv=*/false, on_token);
}

}  // namespace engine
