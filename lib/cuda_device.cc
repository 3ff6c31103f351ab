// NewCudaDevice over the CUDA runtime; the build takes this file or cuda_device_absent.cc, never
// both. What there is to think about is in gpu_device.cc.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "lib/gpu_device.h"
#include "lib/gpu_runtime.h"
#include "quire/attention.h"
#include "quire/device.h"

namespace quire {
namespace {

// The error is told to our caller, so it is taken from the runtime's own memory of the latest one,
// where the engine's next check would take it for its own.
GpuError Told(cudaError_t error) {
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();
  return cudaGetErrorString(error);
}

// Makes a GPU the current one of this thread and gives the caller's back. Relaxed: while some
// thread of the engine captures a graph, an event may be asked and memory allocated without ending
// that capture; neither is part of it.
class OnGpu {
 public:
  explicit OnGpu(int gpu) {
    error_ = Told(cudaGetDevice(&before_));
    if (error_ == nullptr && before_ != gpu) {
      error_ = Told(cudaSetDevice(gpu));
      moved_ = error_ == nullptr;
    }
    cudaThreadExchangeStreamCaptureMode(&mode_);
  }
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;
  ~OnGpu() {
    cudaThreadExchangeStreamCaptureMode(&mode_);
    if (moved_) cudaSetDevice(before_);
  }

  // Calls only if the GPU is the current one.
  template <typename Call>
  GpuError Do(Call call) const {
    return error_ != nullptr ? error_ : Told(call());
  }

 private:
  int before_ = 0;
  bool moved_ = false;
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
  GpuError error_ = nullptr;
};

cudaEvent_t EventOf(void* event) { return static_cast<cudaEvent_t>(event); }

class CudaRuntime : public GpuRuntime {
 public:
  GpuError CountGpus(int* count) override { return Told(cudaGetDeviceCount(count)); }

  GpuError CheckGpu(int gpu) override {
    int major = 0;
    const GpuError error =
        Told(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu));
    if (error != nullptr || major >= 8) return error;
    return "its compute capability is below 8.0, for which there are no kernels";
  }

  GpuError CanReach(int gpu, const void* memory, bool* can) override {
    cudaPointerAttributes attributes = {};
    int pageable = 0;
    const GpuError error = OnGpu(gpu).Do([&] {
      const cudaError_t asked =
          cudaDeviceGetAttribute(&pageable, cudaDevAttrPageableMemoryAccess, gpu);
      return asked == cudaSuccess ? cudaPointerGetAttributes(&attributes, memory) : asked;
    });
    switch (attributes.type) {
      case cudaMemoryTypeDevice:
        *can = attributes.device == gpu;
        break;
      case cudaMemoryTypeUnregistered:
        *can = pageable != 0;  // GPUs that share the processor's page tables
        break;
      default:
        *can = attributes.devicePointer == memory;
    }
    return error;
  }

  GpuError AllocateDevice(int gpu, int64_t bytes, void** memory) override {
    return OnGpu(gpu).Do([&] { return cudaMalloc(memory, static_cast<size_t>(bytes)); });
  }
  void FreeDevice(int gpu, void* memory) override {
    OnGpu(gpu).Do([&] { return cudaFree(memory); });
  }

  GpuError AllocateHost(int gpu, int64_t bytes, void** memory) override {
    return OnGpu(gpu).Do([&] {
      return cudaHostAlloc(memory, static_cast<size_t>(bytes),
                           cudaHostAllocPortable | cudaHostAllocMapped);
    });
  }
  void FreeHost(int gpu, void* memory) override {
    OnGpu(gpu).Do([&] { return cudaFreeHost(memory); });
  }

  GpuError Upload(int gpu, const void* from, int64_t bytes, void* to) override {
    return OnGpu(gpu).Do([&] {
      const cudaError_t error =
          cudaMemcpy(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice);
      // From pageable memory that call returns when the bytes are staged; another stream, not
      // ordered behind it, must find them there.
      return error == cudaSuccess ? cudaStreamSynchronize(nullptr) : error;
    });
  }

  GpuError CopyPages(int gpu, const CopyPagesParams& params, void* stream) override {
    LaunchError refused = LaunchError::kOk;
    const GpuError error = OnGpu(gpu).Do([&] {
      refused = cuda::CopyPages(params, stream);
      return refused == LaunchError::kLaunchFailed ? cudaGetLastError() : cudaSuccess;
    });
    if (error != nullptr) return error;
    return refused == LaunchError::kOk ? nullptr : Describe(refused);
  }

  GpuError CreateEvent(int gpu, void** event) override {
    return OnGpu(gpu).Do([&] {
      cudaEvent_t made = nullptr;
      const cudaError_t error = cudaEventCreateWithFlags(&made, cudaEventDisableTiming);
      *event = made;
      return error;
    });
  }
  void DestroyEvent(int gpu, void* event) override {
    OnGpu(gpu).Do([&] { return cudaEventDestroy(EventOf(event)); });
  }
  GpuError RecordEvent(int gpu, void* event, void* stream) override {
    return OnGpu(gpu).Do(
        [&] { return cudaEventRecord(EventOf(event), static_cast<cudaStream_t>(stream)); });
  }
  GpuError QueryEvent(int gpu, void* event, bool* reached) override {
    return OnGpu(gpu).Do([&] {
      const cudaError_t answer = cudaEventQuery(EventOf(event));
      *reached = answer == cudaSuccess;
      if (answer != cudaErrorNotReady) return answer;
      cudaGetLastError();  // the runtime remembers even this answer as an error
      return cudaSuccess;
    });
  }

  void Wait(int gpu) override {
    OnGpu(gpu).Do([] { return cudaDeviceSynchronize(); });
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> NewCudaDevice(const DeviceOptions& options, int ordinal) {
  static CudaRuntime runtime;  // no state of its own
  return NewGpuDevice(options, ordinal, runtime);
}

}  // namespace quire
