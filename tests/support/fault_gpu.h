// A fake GPU each of whose calls is a fault point. What the fake itself allocates is none.

#ifndef QUIRE_TESTS_SUPPORT_FAULT_GPU_H_
#define QUIRE_TESTS_SUPPORT_FAULT_GPU_H_

#include <cstdint>

#include "tests/support/fake_gpu.h"
#include "tests/support/fault_points.h"

namespace quire::testing {

class FaultGpu : public FakeGpu {
 public:
  GpuError CountGpus(int* count) override {
    return Call([&] { return FakeGpu::CountGpus(count); });
  }
  GpuError CheckGpu(int gpu) override {
    return Call([&] { return FakeGpu::CheckGpu(gpu); });
  }
  GpuError CanReach(int gpu, const void* memory, bool* can) override {
    return Call([&] { return FakeGpu::CanReach(gpu, memory, can); });
  }
  GpuError AllocateDevice(int gpu, int64_t bytes, void** memory) override {
    return Call([&] { return FakeGpu::AllocateDevice(gpu, bytes, memory); });
  }
  void FreeDevice(int gpu, void* memory) override {
    const FaultPause pause;
    FakeGpu::FreeDevice(gpu, memory);
  }
  GpuError AllocateHost(int gpu, int64_t bytes, void** memory) override {
    return Call([&] { return FakeGpu::AllocateHost(gpu, bytes, memory); });
  }
  void FreeHost(int gpu, void* memory) override {
    const FaultPause pause;
    FakeGpu::FreeHost(gpu, memory);
  }
  GpuError Upload(int gpu, const void* from, int64_t bytes, void* to) override {
    return Call([&] { return FakeGpu::Upload(gpu, from, bytes, to); });
  }
  GpuError CopyPages(int gpu, const CopyPagesParams& params, void* stream) override {
    return Call([&] { return FakeGpu::CopyPages(gpu, params, stream); });
  }
  GpuError CreateEvent(int gpu, void** event) override {
    return Call([&] { return FakeGpu::CreateEvent(gpu, event); });
  }
  void DestroyEvent(int gpu, void* event) override {
    const FaultPause pause;
    FakeGpu::DestroyEvent(gpu, event);
  }
  GpuError RecordEvent(int gpu, void* event, void* stream) override {
    return Call([&] { return FakeGpu::RecordEvent(gpu, event, stream); });
  }
  GpuError QueryEvent(int gpu, void* event, bool* reached) override {
    return Call([&] { return FakeGpu::QueryEvent(gpu, event, reached); });
  }
  void Wait(int gpu) override {
    const FaultPause pause;
    FakeGpu::Wait(gpu);
  }

 private:
  template <typename F>
  GpuError Call(F f) {
    if (FaultHere(FaultKind::kGpuCall)) return kFakeFault;
    const FaultPause pause;
    return f();
  }
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_FAULT_GPU_H_
