// Where the model's K and V live and its attention runs: Quire's CPU kernels, or its CUDA kernels.
// The rest of the model (norms, matrix products) runs on the CPU in either case.

#ifndef QUIRE_BENCH_ENGINE_KERNELS_H_
#define QUIRE_BENCH_ENGINE_KERNELS_H_

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/checkpoint.h"
#include "quire/attention.h"
#include "quire/device.h"
#include "quire/page_table.h"

namespace engine {

// What the layers of a step have in common. Host memory, as all floats below.
struct KernelStep {
  const ModelConfig* config;
  quire::PageTableView table;
  std::span<const int32_t> query_begin;
  std::span<const int64_t> slots;  // of each new token, in the pool
};

class Kernels {
 public:
  virtual ~Kernels() = default;

  // Pages in memory that these kernels reach.
  virtual absl::StatusOr<std::unique_ptr<quire::Device>> NewDevice(
      const quire::DeviceOptions& options) = 0;

  // Before the first layer of a step; what the step points to must stay until its last layer.
  virtual absl::Status Begin(const KernelStep& step) = 0;

  // One layer: new keys and values into their pages, then attention over all that the rows have.
  // The query rows and the output are [tokens, heads, head_dim]; K and V have kv_heads.
  virtual absl::Status AppendAndAttend(const quire::KvView& kv, const float* query,
                                       const float* key, const float* value, float* output) = 0;
};

std::unique_ptr<Kernels> NewCpuKernels(const quire::Threads& threads);

// On GPU 0. A layer's query, K and V are uploaded and its output is downloaded, because the rest of
// the model is on the CPU: this shows that the cache works on a GPU, not how fast one is.
// kUnimplemented in a build without CUDA, kFailedPrecondition without a GPU.
absl::StatusOr<std::unique_ptr<Kernels>> NewCudaKernels();

// The arguments that are the same on the CPU and on a GPU; no memory of the new tokens yet.
quire::AppendKvParams AppendParams(const KernelStep& step, const quire::KvView& kv);
quire::AttentionParams AttentionParamsOf(const KernelStep& step, const quire::KvView& kv);

absl::Status KernelStatus(quire::LaunchError error, const char* kernel);

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_KERNELS_H_
