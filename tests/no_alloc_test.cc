// Once warm, a step of an engine makes no heap allocation, and neither does the answer "no room" or
// a device's copy.

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "lib/gpu_device.h"
#include "quire/device.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"

namespace {

std::atomic<int64_t> allocations = 0;

void* Counted(size_t bytes) {
  ++allocations;
  return std::malloc(bytes == 0 ? 1 : bytes);
}

void* CountedAligned(size_t bytes, std::align_val_t align) {
  ++allocations;
  const auto alignment = static_cast<size_t>(align);
  return std::aligned_alloc(alignment, (bytes / alignment + 1) * alignment);
}

// Out of line: inlined into a delete, gcc takes the free() in it for a mismatch with new.
[[gnu::noinline]] void Freed(void* memory) { std::free(memory); }

void* NotNull(void* memory) {
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(size_t bytes) { return NotNull(Counted(bytes)); }
void* operator new[](size_t bytes) { return NotNull(Counted(bytes)); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return Counted(bytes); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return Counted(bytes); }
void* operator new(size_t bytes, std::align_val_t align) {
  return NotNull(CountedAligned(bytes, align));
}
void* operator new[](size_t bytes, std::align_val_t align) {
  return NotNull(CountedAligned(bytes, align));
}
void* operator new(size_t bytes, std::align_val_t align, const std::nothrow_t&) noexcept {
  return CountedAligned(bytes, align);
}
void* operator new[](size_t bytes, std::align_val_t align, const std::nothrow_t&) noexcept {
  return CountedAligned(bytes, align);
}
void operator delete(void* memory) noexcept { Freed(memory); }
void operator delete[](void* memory) noexcept { Freed(memory); }
void operator delete(void* memory, size_t) noexcept { Freed(memory); }
void operator delete[](void* memory, size_t) noexcept { Freed(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { Freed(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { Freed(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Freed(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { Freed(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { Freed(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { Freed(memory); }
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept {
  Freed(memory);
}
void operator delete[](void* memory, std::align_val_t, const std::nothrow_t&) noexcept {
  Freed(memory);
}

namespace quire::testing {
namespace {

constexpr int32_t kBatch = 5;

// Three requests that begin alike, two of them forked, decoded together; then all are dropped, so
// that the next round evicts what this one left. Counts the allocations of the steps only.
class Engine {
 public:
  explicit Engine(KvCache& cache, std::span<const Retention> retention = {})
      : cache_(cache), retention_(retention), keeper_(Compute(cache, Iota(0, 9), Tenant(0))) {}

  int64_t Round(int32_t round) {
    counted_ = 0;
    std::vector<Tokens> rests;
    for (int32_t i = 0; i < 3; ++i) {
      const Tokens prompt = Iota(0, 10) + Iota(1000 * (round + 1) + 100 * i, 20);
      sequences_.push_back(MustStart(cache_, prompt, Tenant(i), {.retention = retention_}));
      rests.emplace_back(prompt.begin() + sequences_.back().length(), prompt.end());
    }
    Prepare(rests);
    Step();
    for (int32_t i = 0; i < 2; ++i) sequences_.push_back(MustFork(sequences_[0]));
    for (int32_t step = 0; step < 12; ++step) {
      std::vector<Tokens> next;
      for (int32_t i = 0; i < kBatch; ++i) next.push_back(Iota(5000 + 100 * i + step, 1 + i % 3));
      Prepare(next);
      Step();
    }
    EXPECT_OK(cache_.Validate());
    sequences_.clear();
    return counted_;
  }

  int64_t scrubs() const { return scrubs_; }

 private:
  // The last request is another tenant's; without quotas that only keeps it apart.
  static Namespace Tenant(int32_t request) {
    return Namespace().SetTenant(request < 2 ? "a" : "b");
  }

  void Prepare(const std::vector<Tokens>& tokens) {
    batch_.clear();
    views_.clear();
    counts_.clear();
    tokens_.clear();
    for (size_t i = 0; i < sequences_.size(); ++i) {
      batch_.push_back(&sequences_[i]);
      views_.push_back(&sequences_[i]);
      counts_.push_back(static_cast<int32_t>(tokens[i].size()));
      tokens_ = tokens_ + tokens[i];
    }
  }

  void Step() {
    const int64_t before = allocations;
    const bool reserved = cache_.ReserveAll(batch_, counts_).ok();
    const Plan plan = cache_.TakePlan();
    scrubs_ += std::ssize(plan.scrubs);
    bool packed = true;
    for (const GroupId group : {GroupId{0}, GroupId{1}}) {
      const PageTableBuffers buffers = {.row_begin = row_begin_, .lengths = lengths_};
      packed = packed && cache_.PackPageTable(views_, counts_, group, buffers, packed_).ok() &&
               cache_.MakePageTable(views_, counts_, group, buffers).batch == std::ssize(views_);
    }
    const bool committed = cache_.CommitAll(batch_, tokens_, counts_).ok();
    cache_.Retire(plan.ticket);
    counted_ += allocations - before;
    EXPECT_TRUE(reserved && packed && committed);
  }

  KvCache& cache_;
  std::span<const Retention> retention_;
  Sequence keeper_;  // of the common beginning, so that every round has hits
  int64_t counted_ = 0;
  int64_t scrubs_ = 0;
  std::vector<Sequence> sequences_;
  std::vector<Sequence*> batch_;
  std::vector<const Sequence*> views_;
  std::vector<int32_t> counts_;
  Tokens tokens_;
  std::array<int64_t, kBatch> row_begin_{};
  std::array<int32_t, kBatch> lengths_{};
  std::array<PageId, 128> packed_{};
};

TEST(NoAllocTest, TheCounterCounts) {
  const int64_t before = allocations;
  ::operator delete(::operator new(8));
  ::operator delete (::operator new (64, std::align_val_t{64}), std::align_val_t{64});
  EXPECT_EQ(allocations - before, 2);

  const auto cache = NewCache(OneGroup(4, 4));
  Sequence sequence = MustStart(*cache, Iota(0, 4));
  const int64_t before_message = allocations;
  EXPECT_FALSE(sequence.Reserve(-1).ok());  // inside the library: a status with a message
  EXPECT_GT(allocations, before_message);
}

TEST(NoAllocTest, WarmStepsAllocateNothing) {
  for (const bool scrub_released : {false, true}) {
    Options options = MakeOptions({Group(4, 60), Group(4, 40, /*lookback_tokens=*/7)});
    options.min_copy_tokens = 1;
    options.max_rollback_tokens = 2;
    options.scrub_released = scrub_released;
    const auto cache = NewCache(options);
    Engine engine(*cache);
    engine.Round(0);
    const Stats warm = cache->stats();
    for (int32_t round = 1; round < 8; ++round) EXPECT_EQ(engine.Round(round), 0) << round;
    const Stats after = cache->stats();
    for (size_t g = 0; g < 2; ++g) {
      EXPECT_GT(after.groups[g].evictions, warm.groups[g].evictions) << g;
      EXPECT_GT(after.groups[g].copies, warm.groups[g].copies) << g;
    }
    EXPECT_GT(after.tokens_hit, warm.tokens_hit);
    EXPECT_EQ(engine.scrubs() > 0, scrub_released);
  }
}

// Evicting from several accounts, marking pages, and ending their lifetimes.
TEST(NoAllocTest, WarmStepsWithQuotasAndRetentionAllocateNothing) {
  const std::array<Retention, 3> retention = {{{.begin = 0, .end = 10, .priority = 80},
                                               {.begin = 10, .end = 20, .priority = 10},
                                               {.priority = 70, .lifetime_steps = 20}}};
  for (const Reclaim reclaim : {Reclaim::kLru, Reclaim::kLearned}) {
    Options options = MakeOptions({Group(4, 60), Group(4, 40, /*lookback_tokens=*/7)});
    options.min_copy_tokens = 1;
    options.max_rollback_tokens = 2;
    options.reclaim = reclaim;
    options.quotas = {{.tenant = "a", .guaranteed_permille = 400, .max_permille = 700},
                      {.tenant = "b", .guaranteed_permille = 200}};
    const auto cache = NewCache(options);
    Engine engine(*cache, retention);
    engine.Round(0);
    const Stats warm = cache->stats();
    for (int32_t round = 1; round < 8; ++round) EXPECT_EQ(engine.Round(round), 0) << round;
    const Stats after = cache->stats();
    for (size_t g = 0; g < 2; ++g) {
      EXPECT_GT(after.groups[g].evictions, warm.groups[g].evictions) << g;
      EXPECT_GT(after.groups[g].copies, warm.groups[g].copies) << g;
      EXPECT_GT(after.groups[g].tenants[1].pages_cached, 0) << g;
    }
  }
}

TEST(NoAllocTest, NoRoomAllocatesNothing) {
  Options options = OneGroup(4, 6);
  options.max_sequences = 2;
  const auto cache = NewCache(options);
  Sequence first = Compute(*cache, Iota(0, 14));
  Sequence second = Compute(*cache, Iota(100, 5));
  const Tokens prompt = Iota(0, 9);
  const std::array<Sequence*, 2> batch = {&first, &second};
  const std::array<int32_t, 2> counts = {3, 1};
  const auto kNoRoom = absl::StatusCode::kResourceExhausted;

  const int64_t before = allocations;
  const absl::StatusCode alone = second.Reserve(9).code();
  const absl::StatusCode together = cache->ReserveAll(batch, counts).code();
  const absl::StatusCode started = cache->Start(prompt).status().code();
  const absl::StatusCode forked = first.Fork().status().code();
  const int64_t counted = allocations - before;
  EXPECT_EQ(counted, 0);
  for (const absl::StatusCode code : {alone, together, started, forked}) EXPECT_EQ(code, kNoRoom);
  EXPECT_EQ(cache->stats().out_of_room, 2);
  EXPECT_OK(cache->Validate());
}

// Takes everything and does nothing.
class IdleGpu : public GpuRuntime {
 public:
  GpuError CountGpus(int* count) override { return *count = 1, nullptr; }
  GpuError CheckGpu(int) override { return nullptr; }
  GpuError CanReach(int, const void*, bool* can) override { return *can = true, nullptr; }
  GpuError AllocateDevice(int, int64_t, void** memory) override { return *memory = this, nullptr; }
  void FreeDevice(int, void*) override {}
  GpuError AllocateHost(int, int64_t, void** memory) override { return *memory = this, nullptr; }
  void FreeHost(int, void*) override {}
  GpuError Upload(int, const void*, int64_t, void*) override { return nullptr; }
  GpuError CopyPages(int, const CopyPagesParams&, void*) override { return ++launches, nullptr; }
  GpuError CreateEvent(int, void** event) override { return *event = this, nullptr; }
  void DestroyEvent(int, void*) override {}
  GpuError RecordEvent(int, void*, void*) override { return nullptr; }
  GpuError QueryEvent(int, void*, bool* reached) override { return *reached = true, nullptr; }
  void Wait(int) override {}

  int launches = 0;
};

TEST(NoAllocTest, WarmCopiesAllocateNothing) {
  const DeviceGroup group = {
      .layout = {.layers = 2, .kv_heads = 1, .head_dim = 8, .tokens_per_page = 4}, .page_count = 8};
  IdleGpu gpu;
  const auto gpu_device = NewGpuDevice({.groups = {group}}, 0, gpu).value();
  const auto cpu_device = NewCpuDevice({.groups = {group}}).value();
  std::vector<PageCopy> copies;
  std::vector<PageScrub> scrubs;
  for (int32_t i = 0; i < 4; ++i) {
    scrubs.push_back({GroupId{0}, Tier::kDevice, PageId{i + 4}});
    copies.push_back({GroupId{0}, Tier::kDevice, Tier::kDevice, PageId{i}, PageId{i + 4}, 4});
  }
  uint64_t ticket = 0;
  const auto step = [&] {
    bool good = true;
    for (Device* device : {gpu_device.get(), cpu_device.get()}) {
      good = good && device->Copy({Ticket{ticket}, copies, scrubs}, Stream()).ok();
      good = good && *device->IsDone(Ticket{ticket});
    }
    return good;
  };
  for (ticket = 1; ticket <= 2; ++ticket) ASSERT_TRUE(step());
  const int64_t before = allocations;
  bool good = true;
  for (; ticket <= 3000; ++ticket) good = good && step();
  EXPECT_EQ(allocations - before, 0);
  EXPECT_TRUE(good);
  EXPECT_EQ(gpu.launches, 2 * 3000);
}

}  // namespace
}  // namespace quire::testing
