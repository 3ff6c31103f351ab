// The engine's K/V on a GPU. The model is float32, which Quire's plain CUDA kernel computes: it
// keeps the promise that a query's bits depend on no other query, so the engine's tokens can be
// compared with those of contiguous memory one by one.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/kernels.h"

namespace engine {
namespace {

absl::Status CudaStatus(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, ": ", cudaGetErrorString(error)));
}

// Memory of the GPU that grows with the largest step.
class GpuBuffer {
 public:
  GpuBuffer() = default;
  GpuBuffer(const GpuBuffer&) = delete;
  GpuBuffer& operator=(const GpuBuffer&) = delete;
  ~GpuBuffer() { cudaFree(data_); }

  absl::Status Resize(size_t bytes) {
    if (bytes <= bytes_) return absl::OkStatus();
    cudaFree(std::exchange(data_, nullptr));
    bytes_ = 0;
    absl::Status status = CudaStatus(cudaMalloc(&data_, bytes), "memory of the GPU");
    if (status.ok()) bytes_ = bytes;
    return status;
  }
  // cudaMemcpy waits for what the default stream, which all of this runs on, has queued before.
  absl::Status Write(const void* from, size_t bytes) {
    absl::Status status = Resize(bytes);
    if (!status.ok() || bytes == 0) return status;
    return CudaStatus(cudaMemcpy(data_, from, bytes, cudaMemcpyHostToDevice), "upload");
  }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

class CudaKernels : public Kernels {
 public:
  explicit CudaKernels(const quire::cuda::Gpu& gpu)
      : gpu_(gpu), host_schedule_(static_cast<size_t>(quire::cuda::ScheduleBytes(gpu)) + 64) {}

  absl::StatusOr<std::unique_ptr<quire::Device>> NewDevice(
      const quire::DeviceOptions& options) override {
    return quire::NewCudaDevice(options, /*ordinal=*/0);
  }

  absl::Status Begin(const KernelStep& step) override {
    step_ = step;
    // The cache's rows lie in the host's memory, so their live parts are packed.
    const quire::PageTableView& table = step.table;
    page_ids_.clear();
    row_begin_.clear();
    max_queries_ = 1;
    for (int32_t row = 0; row < table.batch; ++row) {
      const quire::PageId* first = table.page_ids + table.row_begin[row];
      const int32_t pages =
          (table.lengths[row] + table.tokens_per_page - 1) / table.tokens_per_page;
      row_begin_.push_back(static_cast<int64_t>(page_ids_.size()));
      page_ids_.insert(page_ids_.end(), first, first + pages);
      const auto r = static_cast<size_t>(row);
      max_queries_ = std::max(max_queries_, step.query_begin[r + 1] - step.query_begin[r]);
    }
    absl::Status status = Plan();
    const auto rows = static_cast<size_t>(table.batch);
    const auto upload = [&](GpuBuffer& to, const void* from, size_t bytes) {
      if (status.ok()) status = to.Write(from, bytes);
    };
    upload(gpu_page_ids_, page_ids_.data(), page_ids_.size() * sizeof(quire::PageId));
    upload(gpu_row_begin_, row_begin_.data(), row_begin_.size() * sizeof(int64_t));
    upload(gpu_lengths_, table.lengths, rows * sizeof(int32_t));
    upload(gpu_query_begin_, step.query_begin.data(), (rows + 1) * sizeof(int32_t));
    upload(gpu_slots_, step.slots.data(), step.slots.size() * sizeof(int64_t));
    return status;
  }

  absl::Status AppendAndAttend(const quire::KvView& kv, const float* query, const float* key,
                               const float* value, float* output) override {
    const size_t head = static_cast<size_t>(step_.config->head_dim()) * sizeof(float);
    const size_t kv_bytes = step_.slots.size() * static_cast<size_t>(step_.config->kv_heads) * head;
    const size_t bytes = step_.slots.size() * static_cast<size_t>(step_.config->heads) * head;
    absl::Status status = gpu_key_.Write(key, kv_bytes);
    if (status.ok()) status = gpu_value_.Write(value, kv_bytes);
    if (status.ok()) status = gpu_query_.Write(query, bytes);
    if (status.ok()) status = gpu_output_.Resize(bytes);
    if (!status.ok()) return status;

    quire::AppendKvParams append = AppendParams(step_, kv);
    append.slots = gpu_slots_.as<int64_t>();
    append.key = gpu_key_.as<float>();
    append.value = gpu_value_.as<float>();
    status = KernelStatus(quire::cuda::AppendKv(append, nullptr), "append");
    if (!status.ok()) return status;

    quire::AttentionParams attention = AttentionParamsOf(step_, kv);
    attention.table.page_ids = gpu_page_ids_.as<quire::PageId>();
    attention.table.row_begin = gpu_row_begin_.as<int64_t>();
    attention.table.lengths = gpu_lengths_.as<int32_t>();
    attention.query_begin = gpu_query_begin_.as<int32_t>();
    attention.query = gpu_query_.as<float>();
    attention.output = gpu_output_.as<float>();
    attention.schedule = gpu_schedule_.as<void>();
    attention.max_queries = max_queries_;
    status = KernelStatus(quire::cuda::Attention(attention, nullptr), "attention");
    if (!status.ok()) return status;
    return CudaStatus(cudaMemcpy(output, gpu_output_.as<float>(), bytes, cudaMemcpyDeviceToHost),
                      "download");
  }

 private:
  absl::Status Plan() {
    quire::AttentionParams attention = AttentionParamsOf(step_, {});
    attention.table.page_ids = page_ids_.data();
    attention.table.row_begin = row_begin_.data();
    attention.kv.page_count = INT32_MAX;  // the pools of all layers are alike, and not known here
    attention.max_queries = max_queries_;
    const auto address = reinterpret_cast<uintptr_t>(host_schedule_.data());
    char* const schedule = host_schedule_.data() + (64 - address % 64) % 64;
    absl::Status status =
        KernelStatus(quire::cuda::BuildSchedule(attention, gpu_, schedule), "schedule");
    if (!status.ok()) return status;
    return gpu_schedule_.Write(schedule, host_schedule_.size() - 64);
  }

  const quire::cuda::Gpu gpu_;
  KernelStep step_ = {};
  int32_t max_queries_ = 1;
  std::vector<quire::PageId> page_ids_;
  std::vector<int64_t> row_begin_;
  std::vector<char> host_schedule_;
  GpuBuffer gpu_schedule_, gpu_page_ids_, gpu_row_begin_, gpu_lengths_, gpu_query_begin_;
  GpuBuffer gpu_slots_, gpu_query_, gpu_key_, gpu_value_, gpu_output_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Kernels>> NewCudaKernels() {
  quire::cuda::Gpu gpu;
  const quire::LaunchError found = quire::cuda::DescribeGpu(0, &gpu);
  if (found != quire::LaunchError::kOk) {
    return absl::FailedPreconditionError(quire::Describe(found));
  }
  return std::make_unique<CudaKernels>(gpu);
}

}  // namespace engine
