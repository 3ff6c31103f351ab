// GpuRuntime: the few things that the GPU device asks of a GPU. CUDA's are in cuda_device.cc; the
// tests' are in tests/support/fake_gpu.h, so that the device's logic is tested without a GPU.

#ifndef QUIRE_LIB_GPU_RUNTIME_H_
#define QUIRE_LIB_GPU_RUNTIME_H_

#include <cstdint>

#include "quire/attention.h"

namespace quire {

// Null: it went well. Else what the runtime says about it, which lives as long as the process, and
// nothing was made.
using GpuError = const char*;

// Every call leaves the calling thread's current GPU as it was. What a GPU made belongs to it.
class GpuRuntime {
 public:
  virtual ~GpuRuntime() = default;

  virtual GpuError CountGpus(int* count) = 0;

  // Whether this build has kernels for the GPU.
  virtual GpuError CheckGpu(int gpu) = 0;

  // Whether kernels on the GPU may read and write there.
  virtual GpuError CanReach(int gpu, const void* memory, bool* can) = 0;

  virtual GpuError AllocateDevice(int gpu, int64_t bytes, void** memory) = 0;
  virtual void FreeDevice(int gpu, void* memory) = 0;
  // Pinned, at the same address for host and GPUs.
  virtual GpuError AllocateHost(int gpu, int64_t bytes, void** memory) = 0;
  virtual void FreeHost(int gpu, void* memory) = 0;

  // From host to device memory; waits until it is there.
  virtual GpuError Upload(int gpu, const void* from, int64_t bytes, void* to) = 0;

  // Queues cuda::CopyPages on the stream. An error: perhaps a part of it was queued.
  virtual GpuError CopyPages(int gpu, const CopyPagesParams& params, void* stream) = 0;

  // Marks the place in a stream that the event's latest record was queued at.
  virtual GpuError CreateEvent(int gpu, void** event) = 0;
  virtual void DestroyEvent(int gpu, void* event) = 0;
  virtual GpuError RecordEvent(int gpu, void* event, void* stream) = 0;
  // Whether the stream has come to that place; an error if what was before it failed.
  virtual GpuError QueryEvent(int gpu, void* event, bool* reached) = 0;

  // Until all that was queued on the GPU has ended, in whichever way.
  virtual void Wait(int gpu) = 0;
};

}  // namespace quire

#endif  // QUIRE_LIB_GPU_RUNTIME_H_
