#include "engine/kernels.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace engine {

absl::Status KernelStatus(quire::LaunchError error, const char* kernel) {
  if (error == quire::LaunchError::kOk) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(kernel, ": ", quire::Describe(error)));
}

quire::AppendKvParams AppendParams(const KernelStep& step, const quire::KvView& kv) {
  quire::AppendKvParams append = {};
  append.kv = kv;
  append.dtype = quire::DType::kFloat32;
  append.kv_heads = step.config->kv_heads;
  append.head_dim = step.config->head_dim();
  append.tokens_per_page = step.table.tokens_per_page;
  append.token_count = static_cast<int32_t>(step.slots.size());
  append.slots = step.slots.data();
  return append;
}

quire::AttentionParams AttentionParamsOf(const KernelStep& step, const quire::KvView& kv) {
  quire::AttentionParams attention = {};
  attention.table = step.table;
  attention.kv = kv;
  attention.dtype = quire::DType::kFloat32;
  attention.query_heads = step.config->heads;
  attention.kv_heads = step.config->kv_heads;
  attention.head_dim = step.config->head_dim();
  attention.query_begin = step.query_begin.data();
  attention.scale = 1.0f / std::sqrt(static_cast<float>(step.config->head_dim()));
  attention.causal = true;
  attention.mode = quire::ScheduleMode::kBatchInvariant;
  return attention;
}

namespace {

class CpuKernels : public Kernels {
 public:
  explicit CpuKernels(const quire::Threads& threads) : threads_(threads) {}

  absl::StatusOr<std::unique_ptr<quire::Device>> NewDevice(
      const quire::DeviceOptions& options) override {
    return quire::NewCpuDevice(options);
  }

  absl::Status Begin(const KernelStep& step) override {
    step_ = step;
    return absl::OkStatus();
  }

  absl::Status AppendAndAttend(const quire::KvView& kv, const float* query, const float* key,
                               const float* value, float* output) override {
    quire::AppendKvParams append = AppendParams(step_, kv);
    append.key = key;
    append.value = value;
    append.threads = &threads_;
    absl::Status status = KernelStatus(quire::cpu::AppendKv(append), "append");
    if (!status.ok()) return status;
    quire::AttentionParams attention = AttentionParamsOf(step_, kv);
    attention.query = query;
    attention.output = output;
    attention.threads = &threads_;
    return KernelStatus(quire::cpu::Attention(attention), "attention");
  }

 private:
  const quire::Threads threads_;
  KernelStep step_ = {};
};

}  // namespace

std::unique_ptr<Kernels> NewCpuKernels(const quire::Threads& threads) {
  return std::make_unique<CpuKernels>(threads);
}

}  // namespace engine
