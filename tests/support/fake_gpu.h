// A GPU without a GPU: its memory is host memory, its streams are queues that move when the test
// says so, and each call can be made to fail.

#ifndef QUIRE_TESTS_SUPPORT_FAKE_GPU_H_
#define QUIRE_TESTS_SUPPORT_FAKE_GPU_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "lib/gpu_runtime.h"
#include "quire/device.h"

namespace quire::testing {

inline constexpr GpuError kFakeFault = "the fake GPU was told to fail";
inline constexpr GpuError kFakeBadHandle = "the handle belongs to another GPU, or to none";
inline constexpr GpuError kFakeBadAccess = "an illegal memory access was encountered";
inline constexpr GpuError kFakeNoMemory = "out of memory";

class FakeGpu : public GpuRuntime {
 public:
  explicit FakeGpu(int gpus = 2);
  ~FakeGpu() override;  // expects that nothing is left of what was made

  // --- For the test.

  // A stream that holds what is queued until it is advanced. Stream() is GPU 0's default one.
  Stream NewStream(int gpu);
  // A kernel of the engine.
  void Enqueue(Stream stream, std::function<void()> kernel);
  // Runs what is next; false: there was nothing.
  bool Advance(Stream stream);
  void AdvanceAll();

  // Of the calls from now on that can fail, the one of this number fails, or it and all after it.
  void FailCall(int64_t number) { SetFault(number, /*once=*/true); }
  void FailFrom(int64_t number) { SetFault(number, /*once=*/false); }
  void Heal() { fault_ = -1; }
  // Everything that runs on this stream from now on fails, as after a bad access.
  void BreakStream(Stream stream);

  GpuError driver_error = nullptr;        // what CountGpus says
  GpuError gpu_error = nullptr;           // what CheckGpu says
  int64_t memory_bytes = INT64_MAX;       // a larger allocation is refused
  std::set<const void*> unreachable;      // pageable host memory, say
  std::vector<CopyPagesParams> launches;  // all that were queued; their arrays are gone
  int64_t calls = 0;                      // that can fail
  int64_t queries = 0;
  int64_t events_made = 0;
  int64_t waits = 0;
  int64_t uploads = 0;

  // --- What the device sees.

  GpuError CountGpus(int* count) override;
  GpuError CheckGpu(int gpu) override;
  GpuError CanReach(int gpu, const void* memory, bool* can) override;
  GpuError AllocateDevice(int gpu, int64_t bytes, void** memory) override;
  void FreeDevice(int gpu, void* memory) override;
  GpuError AllocateHost(int gpu, int64_t bytes, void** memory) override;
  void FreeHost(int gpu, void* memory) override;
  GpuError Upload(int gpu, const void* from, int64_t bytes, void* to) override;
  GpuError CopyPages(int gpu, const CopyPagesParams& params, void* stream) override;
  GpuError CreateEvent(int gpu, void** event) override;
  void DestroyEvent(int gpu, void* event) override;
  GpuError RecordEvent(int gpu, void* event, void* stream) override;
  GpuError QueryEvent(int gpu, void* event, bool* reached) override;
  void Wait(int gpu) override;

 private:
  struct Queue {
    int gpu;
    std::deque<std::function<void()>> waiting;
    int64_t queued = 0;  // ever
    int64_t ran = 0;
    bool broken = false;
  };
  struct Event {
    int gpu;
    const Queue* queue = nullptr;  // of the latest record
    int64_t place = 0;             // Queue::queued then
  };
  struct Allocation {
    int gpu;
    bool host;
    std::unique_ptr<void, void (*)(void*)> memory;
    int64_t bytes;
  };

  void SetFault(int64_t number, bool once);
  bool Faults();
  GpuError Allocate(int gpu, int64_t bytes, bool host, void** memory);
  void Free(int gpu, bool host, void* memory);
  Queue* QueueOf(int gpu, void* stream);
  static bool Step(Queue& queue);
  bool IsDeviceMemory(int gpu, const void* memory, int64_t bytes) const;

  int64_t fault_ = -1;  // calls that still go well before the fault; -1: none is set
  bool fault_once_ = true;
  std::vector<std::unique_ptr<Queue>> queues_;  // the default ones first
  std::map<void*, Event> events_;
  std::map<void*, Allocation> allocations_;
  size_t gpus_;
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_FAKE_GPU_H_
