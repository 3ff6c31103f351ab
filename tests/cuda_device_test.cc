// The real NewCudaDevice, in builds with CUDA: its answer where there is no GPU, and copies between
// the tiers where there is one. (cuda_device_absent_test.cc has the builds without; the logic is
// tested on a fake GPU in gpu_device_test.cc.)

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "quire/device.h"
#include "tests/support/adopted_memory.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

constexpr KvLayout kLayout{.layers = 3, .kv_heads = 2, .head_dim = 64, .tokens_per_page = 16};
constexpr int32_t kPages = 6;

DeviceOptions OneGroupOfPages() {
  return {.groups = {{.layout = kLayout, .page_count = kPages, .host_page_count = kPages}}};
}

// What this machine is.
enum class Machine { kNoCudaInBuild, kNoGpu, kGpu };
Machine ThisMachine() {
  const absl::Status status = NewCudaDevice(OneGroupOfPages(), 0).status();
  if (absl::IsUnimplemented(status)) return Machine::kNoCudaInBuild;
  return status.ok() ? Machine::kGpu : Machine::kNoGpu;
}

TEST(CudaDeviceTest, WithoutAGpuSaysWhatToDo) {
  if (ThisMachine() != Machine::kNoGpu) GTEST_SKIP() << "a build without CUDA, or a GPU";
  EXPECT_TRUE(Says(NewCudaDevice(OneGroupOfPages(), 0).status(),
                   absl::StatusCode::kFailedPrecondition, {"CUDA", "install", "NewCpuDevice"}));
}

TEST(CudaDeviceTest, BadOptionsAreNamedWithOrWithoutAGpu) {
  if (ThisMachine() == Machine::kNoCudaInBuild) GTEST_SKIP() << "a build without CUDA";
  DeviceOptions options = OneGroupOfPages();
  options.groups[0].layout.layers = 0;
  EXPECT_TRUE(Says(NewCudaDevice(options, 0).status(), absl::StatusCode::kInvalidArgument,
                   {"groups[0].layout.layers"}));
}

TEST(CudaDeviceTest, WithoutThatGpuSaysHowManyThereAre) {
  if (ThisMachine() != Machine::kGpu) GTEST_SKIP() << "no GPU";
  for (const int ordinal : {-1, 4096}) {
    EXPECT_TRUE(Says(NewCudaDevice(OneGroupOfPages(), ordinal).status(),
                     absl::StatusCode::kFailedPrecondition, {"no GPU", std::to_string(ordinal)}));
  }
}

TEST(CudaDeviceTest, HostMemoryThatIsNotPinnedIsRefused) {
  if (ThisMachine() != Machine::kGpu) GTEST_SKIP() << "no GPU";
  const AdoptedMemory memory(kLayout, kPages, Order::kPageMajor);
  DeviceOptions options = OneGroupOfPages();
  options.groups[0].views = memory.views();
  const auto device = NewCudaDevice(options, 0);
  if (device.ok()) GTEST_SKIP() << "this GPU shares the processor's page tables";
  EXPECT_TRUE(Says(device.status(), absl::StatusCode::kInvalidArgument, {"groups[0].views[0].k"}));
}

void WaitFor(Device& device, Ticket ticket) {
  while (true) {
    const absl::StatusOr<bool> done = device.IsDone(ticket);
    ASSERT_OK(done);
    if (*done) return;
    std::this_thread::yield();
  }
}

// Host pages are pinned, so a test can read and write them without CUDA.
TEST(CudaDeviceTest, PagesTravelBetweenTheTiers) {
  if (ThisMachine() != Machine::kGpu) GTEST_SKIP() << "no GPU";
  const std::unique_ptr<Device> device = NewCudaDevice(OneGroupOfPages(), 0).value();
  const std::vector<KvView> host = ViewsOf(*device, Tier::kHost, GroupId{0}, kLayout.layers);
  FillPages(host, kLayout, 1);
  Pages expected = ReadPages(host, kLayout);
  const auto copy = [](Tier from_tier, int32_t from, Tier to_tier, int32_t to) {
    return PageCopy{GroupId{0}, from_tier, to_tier, PageId{from}, PageId{to}, 16};
  };
  const Tier d = Tier::kDevice;
  const Tier h = Tier::kHost;
  const std::vector<PageCopy> down = {copy(h, 0, d, 3), copy(h, 2, d, 5)};
  const std::vector<PageCopy> across = {copy(d, 3, d, 4), copy(d, 5, d, 0)};
  const std::vector<PageCopy> up = {copy(d, 4, h, 1), copy(d, 0, h, 5), copy(h, 2, h, 3)};
  ASSERT_OK(device->Copy({Ticket{1}, down}, Stream()));
  ASSERT_OK(device->Copy({Ticket{2}, across}, Stream()));
  ASSERT_OK(device->Copy({Ticket{3}, up}, Stream()));
  for (const Ticket ticket : {Ticket{3}, Ticket{1}, Ticket{2}}) {
    ASSERT_NO_FATAL_FAILURE(WaitFor(*device, ticket));
  }
  expected[1] = expected[0];
  expected[5] = expected[2];
  expected[3] = expected[2];
  EXPECT_EQ(ReadPages(host, kLayout), expected);
}

}  // namespace
}  // namespace quire::testing
