#include "tests/support/fake_gpu.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "gtest/gtest.h"

namespace quire::testing {
namespace {

// Plain loops, not the library's: what cuda::CopyPages promises.
void RunCopies(const CopyPagesParams& params, const std::vector<PageId>& from,
               const std::vector<PageId>& to) {
  const auto* source = static_cast<const char*>(params.from_base ? params.from_base : params.base);
  auto* target = static_cast<char*>(params.base);
  for (size_t i = 0; i < to.size(); ++i) {
    for (int32_t p = 0; p < std::max(params.piece_count, 1); ++p) {
      const int64_t piece = params.piece_count == 0 ? 0 : params.piece_offsets[p];
      if (params.zeros) {
        std::memset(target + piece + PageOffset(to[i], params.page_stride), 0,
                    static_cast<size_t>(params.page_bytes));
        continue;
      }
      std::memcpy(target + piece + PageOffset(to[i], params.page_stride),
                  source + piece + PageOffset(from[i], params.page_stride),
                  static_cast<size_t>(params.page_bytes));
    }
  }
}

bool InPool(PageId page, int32_t page_count) {
  return static_cast<int32_t>(page) >= 0 && static_cast<int32_t>(page) < page_count;
}

}  // namespace

FakeGpu::FakeGpu(int gpus) : gpus_(static_cast<size_t>(gpus)) {
  for (int gpu = 0; gpu < gpus; ++gpu) {
    queues_.push_back(std::make_unique<Queue>());
    queues_.back()->gpu = gpu;
  }
}

FakeGpu::~FakeGpu() {
  EXPECT_EQ(allocations_.size(), 0u) << "memory was not freed";
  EXPECT_EQ(events_.size(), 0u) << "events were not destroyed";
}

Stream FakeGpu::NewStream(int gpu) {
  queues_.push_back(std::make_unique<Queue>());
  queues_.back()->gpu = gpu;
  return Stream(queues_.back().get());
}

void FakeGpu::Enqueue(Stream stream, std::function<void()> kernel) {
  Queue& queue = *static_cast<Queue*>(stream.native());
  queue.waiting.push_back(std::move(kernel));
  ++queue.queued;
}

bool FakeGpu::Step(Queue& queue) {
  if (queue.waiting.empty()) return false;
  if (!queue.broken) queue.waiting.front()();
  queue.waiting.pop_front();
  ++queue.ran;
  return true;
}

bool FakeGpu::Advance(Stream stream) {
  return Step(stream.native() ? *static_cast<Queue*>(stream.native()) : *queues_[0]);
}

void FakeGpu::AdvanceAll() {
  for (const auto& queue : queues_) {
    while (Step(*queue)) continue;
  }
}

void FakeGpu::BreakStream(Stream stream) { static_cast<Queue*>(stream.native())->broken = true; }

void FakeGpu::SetFault(int64_t number, bool once) {
  fault_ = number;
  fault_once_ = once;
}

bool FakeGpu::Faults() {
  ++calls;
  if (fault_ < 0) return false;
  if (fault_ > 0) {
    --fault_;
    return false;
  }
  if (fault_once_) fault_ = -1;
  return true;
}

GpuError FakeGpu::CountGpus(int* count) {
  if (Faults()) return kFakeFault;
  *count = static_cast<int>(gpus_);
  return driver_error;
}

GpuError FakeGpu::CheckGpu(int) { return Faults() ? kFakeFault : gpu_error; }

GpuError FakeGpu::CanReach(int, const void* memory, bool* can) {
  if (Faults()) return kFakeFault;
  *can = !unreachable.contains(memory);
  return nullptr;
}

GpuError FakeGpu::Allocate(int gpu, int64_t bytes, bool host, void** memory) {
  if (Faults()) return kFakeFault;
  if (bytes > memory_bytes) return kFakeNoMemory;
  constexpr int64_t kAlignment = 256;  // as cudaMalloc
  const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  *memory = std::aligned_alloc(kAlignment, static_cast<size_t>(rounded));
  std::memset(*memory, 0xFF, static_cast<size_t>(rounded));
  allocations_.emplace(*memory, Allocation{gpu, host, {*memory, &std::free}, bytes});
  return nullptr;
}

void FakeGpu::Free(int gpu, bool host, void* memory) {
  const auto found = allocations_.find(memory);
  ASSERT_TRUE(found != allocations_.end()) << "freed twice, or never allocated";
  EXPECT_EQ(found->second.gpu, gpu);
  EXPECT_EQ(found->second.host, host);
  for (const auto& queue : queues_) {
    EXPECT_TRUE(queue->gpu != gpu || queue->waiting.empty()) << "freed while copies may run";
  }
  allocations_.erase(found);
}

GpuError FakeGpu::AllocateDevice(int gpu, int64_t bytes, void** memory) {
  return Allocate(gpu, bytes, /*host=*/false, memory);
}
void FakeGpu::FreeDevice(int gpu, void* memory) { Free(gpu, /*host=*/false, memory); }
GpuError FakeGpu::AllocateHost(int gpu, int64_t bytes, void** memory) {
  return Allocate(gpu, bytes, /*host=*/true, memory);
}
void FakeGpu::FreeHost(int gpu, void* memory) { Free(gpu, /*host=*/true, memory); }

bool FakeGpu::IsDeviceMemory(int gpu, const void* memory, int64_t bytes) const {
  const auto* at = static_cast<const char*>(memory);
  return std::any_of(allocations_.begin(), allocations_.end(), [&](const auto& entry) {
    const auto* begin = static_cast<const char*>(entry.first);
    return !entry.second.host && entry.second.gpu == gpu && at >= begin &&
           at + bytes <= begin + entry.second.bytes;
  });
}

GpuError FakeGpu::Upload(int gpu, const void* from, int64_t bytes, void* to) {
  if (Faults()) return kFakeFault;
  ++uploads;
  EXPECT_TRUE(IsDeviceMemory(gpu, to, bytes));
  std::memcpy(to, from, static_cast<size_t>(bytes));
  return nullptr;
}

FakeGpu::Queue* FakeGpu::QueueOf(int gpu, void* stream) {
  Queue* queue = stream ? static_cast<Queue*>(stream) : queues_[static_cast<size_t>(gpu)].get();
  return queue->gpu == gpu ? queue : nullptr;
}

GpuError FakeGpu::CopyPages(int gpu, const CopyPagesParams& params, void* stream) {
  if (Faults()) return kFakeFault;
  Queue* queue = QueueOf(gpu, stream);
  if (queue == nullptr) return kFakeBadHandle;
  EXPECT_GT(params.count, 0);
  EXPECT_NE(params.base, nullptr);
  EXPECT_NE(params.base, params.from_base);
  EXPECT_LE(params.page_bytes, params.page_stride);
  if (params.piece_count > 0) {
    EXPECT_TRUE(IsDeviceMemory(gpu, params.piece_offsets,
                               int64_t{params.piece_count} * int64_t{sizeof(int64_t)}));
  }
  const std::vector<PageId> from(params.from, params.from + (params.zeros ? 0 : params.count));
  const std::vector<PageId> to(params.to, params.to + params.count);
  const int32_t from_pages = params.from_base ? params.from_page_count : params.page_count;
  for (const PageId page : from) EXPECT_TRUE(InPool(page, from_pages));
  for (const PageId page : to) EXPECT_TRUE(InPool(page, params.page_count));
  launches.push_back(params);
  queue->waiting.push_back([params, from, to] { RunCopies(params, from, to); });
  ++queue->queued;
  return nullptr;
}

GpuError FakeGpu::CreateEvent(int gpu, void** event) {
  if (Faults()) return kFakeFault;
  ++events_made;
  *event = reinterpret_cast<void*>(events_made);
  events_.emplace(*event, Event{.gpu = gpu});
  return nullptr;
}

void FakeGpu::DestroyEvent(int gpu, void* event) {
  EXPECT_EQ(events_.at(event).gpu, gpu);
  events_.erase(event);
}

GpuError FakeGpu::RecordEvent(int gpu, void* event, void* stream) {
  if (Faults()) return kFakeFault;
  const Queue* queue = QueueOf(gpu, stream);
  if (queue == nullptr || events_.at(event).gpu != gpu) return kFakeBadHandle;
  events_.at(event).queue = queue;
  events_.at(event).place = queue->queued;
  return nullptr;
}

GpuError FakeGpu::QueryEvent(int gpu, void* event, bool* reached) {
  ++queries;
  if (Faults()) return kFakeFault;
  const Event& asked = events_.at(event);
  if (asked.gpu != gpu) return kFakeBadHandle;
  *reached = asked.queue == nullptr || asked.queue->ran >= asked.place;
  return *reached && asked.queue != nullptr && asked.queue->broken ? kFakeBadAccess : nullptr;
}

void FakeGpu::Wait(int gpu) {
  ++waits;
  for (const auto& queue : queues_) {
    while (queue->gpu == gpu && Step(*queue)) continue;
  }
}

}  // namespace quire::testing
