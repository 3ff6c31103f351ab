// The GPU device over a fake GPU whose streams move when the test says so: every documented answer,
// late completion, and each call of the runtime failing in turn.

#include "lib/gpu_device.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/adopted_memory.h"
#include "tests/support/fake_gpu.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

constexpr Tier kDevice = Tier::kDevice;
constexpr Tier kHost = Tier::kHost;
constexpr KvLayout kLayout{.layers = 3, .kv_heads = 2, .head_dim = 8, .tokens_per_page = 4};
constexpr KvLayout kOther{
    .layers = 1, .kv_heads = 1, .head_dim = 24, .tokens_per_page = 2, .dtype = DType::kFloat32};
constexpr int32_t kPages = 6;
constexpr int32_t kHostPages = 4;

// Two groups of unlike shapes; the first has host pages.
DeviceOptions TwoGroups() {
  return {.groups = {{.layout = kLayout, .page_count = kPages, .host_page_count = kHostPages},
                     {.layout = kOther, .page_count = kPages}}};
}

PageCopy CopyOf(int32_t group, Tier from_tier, int32_t from, Tier to_tier, int32_t to) {
  return {GroupId{group}, from_tier, to_tier, PageId{from}, PageId{to}, 1};
}

PageCopy CopyOf(int32_t group, int32_t from, int32_t to) {
  return CopyOf(group, kDevice, from, kDevice, to);
}

std::unique_ptr<Device> MakeDevice(FakeGpu& gpu, const DeviceOptions& options, int ordinal = 0) {
  auto device = NewGpuDevice(options, ordinal, gpu);
  EXPECT_OK(device);
  return device.ok() ? *std::move(device) : nullptr;
}

std::vector<KvView> PoolOf(const Device& device, int32_t group, Tier tier = kDevice) {
  const KvLayout& layout = group == 0 ? kLayout : kOther;
  return ViewsOf(device, tier, GroupId{group}, layout.layers);
}

void ExpectDone(Device& device, uint64_t ticket, bool done) {
  const absl::StatusOr<bool> answer = device.IsDone(Ticket{ticket});
  ASSERT_OK(answer);
  EXPECT_EQ(*answer, done) << "ticket " << ticket;
}

void ExpectFailed(Device& device, uint64_t ticket, const std::string& why) {
  EXPECT_TRUE(Says(device.IsDone(Ticket{ticket}).status(), absl::StatusCode::kInternal,
                   {"ticket " + std::to_string(ticket), why}));
}

// --- Creation.

TEST(GpuDeviceTest, WithoutADriverSaysWhatToDo) {
  FakeGpu gpu;
  gpu.driver_error = "CUDA driver version is insufficient for CUDA runtime version";
  EXPECT_TRUE(Says(NewGpuDevice(TwoGroups(), 0, gpu).status(),
                   absl::StatusCode::kFailedPrecondition,
                   {gpu.driver_error, "install", "NewCpuDevice"}));
}

TEST(GpuDeviceTest, AGpuWithoutKernelsIsRefused) {
  FakeGpu gpu;
  gpu.gpu_error = "too old";
  EXPECT_TRUE(Says(NewGpuDevice(TwoGroups(), 0, gpu).status(),
                   absl::StatusCode::kFailedPrecondition, {"GPU 0", "too old", "NewCpuDevice"}));
}

TEST(GpuDeviceTest, WithoutThatGpuSaysHowManyThereAre) {
  FakeGpu gpu(2);
  for (const int ordinal : {-1, 2, INT32_MAX}) {
    EXPECT_TRUE(Says(NewGpuDevice(TwoGroups(), ordinal, gpu).status(),
                     absl::StatusCode::kFailedPrecondition,
                     {"no GPU " + std::to_string(ordinal), "sees 2 GPUs"}));
  }
}

TEST(GpuDeviceTest, BadOptionsAreNamedBeforeTheGpuIsAsked) {
  FakeGpu gpu;
  DeviceOptions options = TwoGroups();
  options.groups[1].host_page_count = -1;
  EXPECT_TRUE(Says(NewGpuDevice(options, 0, gpu).status(), absl::StatusCode::kInvalidArgument,
                   {"groups[1].host_page_count is -1"}));
  EXPECT_EQ(gpu.calls, 0);
}

TEST(GpuDeviceTest, SaysHowMuchMemoryThereIsNot) {
  FakeGpu gpu;
  gpu.memory_bytes = 2000;
  DeviceOptions options = TwoGroups();  // pages of 768 and 384 bytes
  const auto code = absl::StatusCode::kResourceExhausted;
  EXPECT_TRUE(Says(NewGpuDevice(options, 0, gpu).status(), code,
                   {"groups[0]", "4608 bytes", kFakeNoMemory, "page_count"}));
  options.groups[0].page_count = 2;
  EXPECT_TRUE(Says(NewGpuDevice(options, 0, gpu).status(), code,
                   {"groups[0]", "3072 bytes of pinned", kFakeNoMemory, "host_page_count"}));
  options.groups[0].host_page_count = 1;
  EXPECT_TRUE(Says(NewGpuDevice(options, 0, gpu).status(), code, {"groups[1]", "2304 bytes"}));
  options.groups[1].page_count = 5;
  EXPECT_OK(NewGpuDevice(options, 0, gpu));
}

TEST(GpuDeviceTest, MemoryOutOfReachIsRefusedByName) {
  FakeGpu gpu;
  const AdoptedMemory memory(kLayout, kPages, Order::kApart);
  DeviceOptions options = TwoGroups();
  options.groups[0].views = memory.views();
  options.groups[0].host_page_count = 0;
  gpu.unreachable = {memory.views()[2].v};
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_TRUE(Says(NewGpuDevice(options, 1, gpu).status(), code,
                   {"groups[0].views[2].v", "GPU 1", "cudaMalloc"}));
  gpu.unreachable = {memory.views()[0].k};
  EXPECT_TRUE(Says(NewGpuDevice(options, 1, gpu).status(), code, {"groups[0].views[0].k"}));
  options = TwoGroups();
  options.groups[1].memory = memory.views()[0].k;
  EXPECT_TRUE(Says(NewGpuDevice(options, 1, gpu).status(), code, {"groups[1].memory"}));
}

TEST(GpuDeviceTest, AnyCallThatFailsAtCreationLeavesNothing) {
  const AdoptedMemory memory(kLayout, kPages, Order::kApart);
  DeviceOptions options = TwoGroups();
  options.groups.push_back({.layout = kLayout, .page_count = kPages, .views = memory.views()});
  for (const bool once : {true, false}) {
    int64_t nth = 0;
    for (;; ++nth) {
      FakeGpu gpu;  // looks for leaks when it goes
      once ? gpu.FailCall(nth) : gpu.FailFrom(nth);
      const auto device = NewGpuDevice(options, 0, gpu);
      if (device.ok()) break;
      EXPECT_NE(device.status().message().find(kFakeFault), absl::string_view::npos)
          << device.status();
    }
    // The count, the check, six addresses, three pools, one table and its upload.
    EXPECT_EQ(nth, 1 + 1 + 6 + 3 + 1 + 1);
  }
}

// --- Views.

TEST(GpuDeviceTest, ViewsFollowTheLayoutInEachTier) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  for (const Tier tier : {kDevice, kHost}) {
    const std::vector<KvView> views = PoolOf(*device, 0, tier);
    auto* base = static_cast<char*>(views[0].k);
    for (int32_t layer = 0; layer < 3; ++layer) {
      const KvView& view = views[static_cast<size_t>(layer)];
      EXPECT_EQ(static_cast<char*>(view.k) - base, layer * 256);
      EXPECT_EQ(static_cast<char*>(view.v) - base, layer * 256 + 128);
      EXPECT_EQ(view.page_count, tier == kDevice ? kPages : kHostPages);
      EXPECT_EQ(view.k_strides.page, 768);
      EXPECT_EQ(view.v_strides.head, 64);
      EXPECT_EQ(view.v_strides.token, 16);
    }
  }
  EXPECT_NE(PoolOf(*device, 0)[0].k, PoolOf(*device, 0, kHost)[0].k);
}

TEST(GpuDeviceTest, ViewNamesWhatIsOutOfRange) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const auto expect = [&](Tier tier, int32_t group, int32_t layer, const char* word) {
    EXPECT_TRUE(Says(device->view(tier, GroupId{group}, layer).status(),
                     absl::StatusCode::kInvalidArgument, {word}));
  };
  expect(kDevice, 2, 0, "group 2");
  expect(kDevice, -1, 0, "group -1");
  expect(kHost, 0, 3, "layer 3");
  expect(kDevice, 1, -1, "layer -1");
  expect(kHost, 1, 0, "Tier::kHost of group 1");
  expect(Tier::kRemote, 0, 0, "Tier::kRemote");
}

TEST(GpuDeviceTest, HostPagesOfAdoptedViewsLieAsTheViewsDo) {
  FakeGpu gpu;
  const AdoptedMemory memory(kLayout, kPages, Order::kInterleaved);
  DeviceOptions options = TwoGroups();
  options.groups[0].views = memory.views();
  const auto device = MakeDevice(gpu, options);
  const Stream stream = gpu.NewStream(0);
  EXPECT_EQ(PoolOf(*device, 0)[1].k, memory.views()[1].k);
  const std::vector<KvView> host = PoolOf(*device, 0, kHost);
  EXPECT_EQ(host[1].page_count, kHostPages);
  FillPages(memory.views(), kLayout, 1);
  FillPages(host, kLayout, 2);
  Pages pool = ReadPages(memory.views(), kLayout);
  Pages below = ReadPages(host, kLayout);

  const std::vector<PageCopy> copies = {CopyOf(0, kDevice, 5, kHost, 3),
                                        CopyOf(0, kHost, 0, kDevice, 1)};
  ASSERT_OK(device->Copy({Ticket{1}, copies}, stream));
  gpu.AdvanceAll();
  below[3] = pool[5];
  pool[1] = below[0];
  EXPECT_EQ(ReadPages(memory.views(), kLayout), pool);
  EXPECT_EQ(ReadPages(host, kLayout), below);
}

// --- Copies.

TEST(GpuDeviceTest, CopyQueuesAndDoesNotWait) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const Stream stream = gpu.NewStream(0);
  const std::vector<KvView> views = PoolOf(*device, 0);
  FillPages(views, kLayout, 1);
  const Pages before = ReadPages(views, kLayout);
  const std::vector<PageCopy> copies = {CopyOf(0, 0, 5), CopyOf(0, 2, 3)};
  {
    const std::vector<PageCopy> gone = copies;  // the plan need not live until the copies run
    ASSERT_OK(device->Copy({Ticket{1}, gone}, stream));
  }
  EXPECT_EQ(ReadPages(views, kLayout), before);
  ExpectDone(*device, 1, false);
  ExpectDone(*device, 1, false);
  EXPECT_EQ(gpu.waits, 0);

  ASSERT_TRUE(gpu.Advance(stream));
  Pages after = before;
  after[5] = before[0];
  after[3] = before[2];
  EXPECT_EQ(ReadPages(views, kLayout), after);
  ExpectDone(*device, 1, true);
  const int64_t queries = gpu.queries;
  ExpectDone(*device, 1, true);
  EXPECT_EQ(gpu.queries, queries) << "what is known to be done is not asked again";
}

TEST(GpuDeviceTest, ATicketIsDoneWhenItsLastCopyIs) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const Stream stream = gpu.NewStream(0);
  const std::vector<PageCopy> copies = {CopyOf(0, 0, 1), CopyOf(1, 0, 1)};
  gpu.Enqueue(stream, [] {});
  ASSERT_OK(device->Copy({Ticket{1}, copies}, stream));
  ASSERT_OK(device->Copy({Ticket{2}, copies}, stream));
  for (const auto& [first, second] : {std::pair(false, false), std::pair(false, false),
                                      std::pair(true, false), std::pair(true, false)}) {
    ASSERT_TRUE(gpu.Advance(stream));
    ExpectDone(*device, 1, first);
    ExpectDone(*device, 2, second);
  }
  ASSERT_TRUE(gpu.Advance(stream));
  ExpectDone(*device, 2, true);
}

TEST(GpuDeviceTest, OneLaunchForEachGroupAndDirection) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const Stream stream = gpu.NewStream(0);
  const std::vector<KvView> pool = PoolOf(*device, 0);
  const std::vector<KvView> host = PoolOf(*device, 0, kHost);
  const std::vector<KvView> other = PoolOf(*device, 1);
  FillPages(pool, kLayout, 1);
  FillPages(host, kLayout, 2);
  FillPages(other, kOther, 3);
  Pages pool_pages = ReadPages(pool, kLayout);
  Pages host_pages = ReadPages(host, kLayout);
  Pages other_pages = ReadPages(other, kOther);

  const std::vector<PageCopy> copies = {
      CopyOf(0, 0, 1),
      CopyOf(1, 0, 5),
      CopyOf(0, kDevice, 2, kHost, 2),
      CopyOf(0, kHost, 0, kDevice, 3),
      CopyOf(0, kHost, 1, kHost, 3),
      CopyOf(0, kHost, 1, kDevice, 4),
      CopyOf(1, 1, 4),
      CopyOf(0, 2, 5),
  };
  ASSERT_OK(device->Copy({Ticket{1}, copies}, stream));
  EXPECT_EQ(gpu.launches.size(), 5u);
  EXPECT_EQ(gpu.events_made, 1);
  gpu.AdvanceAll();
  pool_pages[1] = pool_pages[0];
  pool_pages[5] = pool_pages[2];
  pool_pages[3] = host_pages[0];
  pool_pages[4] = host_pages[1];
  host_pages[2] = pool_pages[2];
  host_pages[3] = host_pages[1];
  other_pages[5] = other_pages[0];
  other_pages[4] = other_pages[1];
  EXPECT_EQ(ReadPages(pool, kLayout), pool_pages);
  EXPECT_EQ(ReadPages(host, kLayout), host_pages);
  EXPECT_EQ(ReadPages(other, kOther), other_pages);
  ExpectDone(*device, 1, true);
}

// In stream order, scrubs before copies, and a plan of scrubs alone has an event like any other.
TEST(GpuDeviceTest, Scrubs) {
  for (const Order order : {Order::kInterleaved, Order::kApart}) {
    FakeGpu gpu;
    const AdoptedMemory memory(kLayout, kPages, order);
    DeviceOptions options = TwoGroups();
    options.groups[0].views = memory.views();
    options.groups[0].host_page_count = 0;
    const auto device = MakeDevice(gpu, options);
    const Stream stream = gpu.NewStream(0);
    FillPages(memory.views(), kLayout, 5);
    Pages expected = ReadPages(memory.views(), kLayout);
    const Pages before = expected;
    const std::vector<PageCopy> copies = {CopyOf(0, 0, 4)};
    const std::vector<PageScrub> scrubs = {{GroupId{0}, kDevice, PageId{4}},
                                           {GroupId{0}, kDevice, PageId{2}}};
    ASSERT_OK(device->Copy({Ticket{1}, {}, std::span(scrubs).first(1)}, stream));
    ASSERT_OK(device->Copy({Ticket{2}, copies, scrubs}, stream));
    EXPECT_EQ(gpu.launches.size(), 3u);
    EXPECT_EQ(ReadPages(memory.views(), kLayout), before);
    ExpectDone(*device, 1, false);
    ASSERT_TRUE(gpu.Advance(stream));
    std::fill(expected[4].begin(), expected[4].end(), 0);
    EXPECT_EQ(ReadPages(memory.views(), kLayout), expected);
    ExpectDone(*device, 1, true);
    gpu.AdvanceAll();
    std::fill(expected[2].begin(), expected[2].end(), 0);
    expected[4] = before[0];
    EXPECT_EQ(ReadPages(memory.views(), kLayout), expected);
    ExpectDone(*device, 2, true);
  }
}

TEST(GpuDeviceTest, AFailedScrubFailsItsTicket) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const std::vector<PageScrub> scrubs = {{GroupId{1}, kDevice, PageId{4}}};
  gpu.FailCall(1);  // behind the event's making
  EXPECT_TRUE(Says(device->Copy({Ticket{1}, {}, scrubs}, gpu.NewStream(0)),
                   absl::StatusCode::kInternal, {"GPU 0: scrub of pages in group 1"}));
  ExpectFailed(*device, 1, "scrub");
}

TEST(GpuDeviceTest, AdoptsTensorsInAnyOrder) {
  for (const Order order : kOrders) {
    SCOPED_TRACE(static_cast<int>(order));
    FakeGpu gpu;
    const AdoptedMemory memory(kLayout, kPages, order);
    DeviceOptions options = TwoGroups();
    options.groups[0].views = memory.views();
    options.groups[0].host_page_count = 0;
    const auto device = MakeDevice(gpu, options);
    ASSERT_NE(device, nullptr);
    FillPages(memory.views(), kLayout, 5);
    Pages expected = ReadPages(memory.views(), kLayout);
    const Stream stream = gpu.NewStream(0);
    const std::vector<PageCopy> copies = {CopyOf(0, 0, 4), CopyOf(0, 3, 1), CopyOf(0, 3, 2)};
    ASSERT_OK(device->Copy({Ticket{1}, copies}, stream));
    EXPECT_EQ(gpu.launches.size(), 1u);
    // The places in a page travel once, not with each plan.
    EXPECT_EQ(gpu.uploads, gpu.launches[0].piece_count > 0 ? 1 : 0);
    gpu.AdvanceAll();
    expected[4] = expected[0];
    expected[1] = expected[2] = expected[3];
    EXPECT_EQ(ReadPages(memory.views(), kLayout), expected);
  }
}

TEST(GpuDeviceTest, AdoptsOneRunOfMemory) {
  FakeGpu gpu;
  const AdoptedMemory memory(kLayout, kPages, Order::kPageMajor);
  DeviceOptions options = TwoGroups();
  options.groups[0].memory = memory.views()[0].k;
  const auto device = MakeDevice(gpu, options);
  EXPECT_EQ(PoolOf(*device, 0)[2].v, memory.views()[2].v);
}

TEST(GpuDeviceTest, ARefusedPlanQueuesNothing) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const Stream stream = gpu.NewStream(0);
  PageCopy many_tokens = CopyOf(0, 0, 1);
  many_tokens.token_count = 5;
  const std::vector<PageCopy> bad = {
      CopyOf(2, 0, 1),
      CopyOf(0, 0, 6),
      CopyOf(0, -1, 1),
      CopyOf(0, 1, 1),
      many_tokens,
      CopyOf(0, kDevice, 0, kHost, 4),
      CopyOf(1, kDevice, 0, kHost, 0),
      CopyOf(0, Tier::kDisk, 0, kDevice, 1),
  };
  uint64_t ticket = 0;
  for (const PageCopy& last : bad) {
    // The bad entry comes last: the good one before it must not have been queued.
    const std::vector<PageCopy> copies = {CopyOf(0, 0, 5), last};
    EXPECT_EQ(device->Copy({Ticket{++ticket}, copies}, stream).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(gpu.Advance(stream)) << "entry " << ticket;
    ExpectFailed(*device, ticket, "group");
  }
  const std::vector<PageCopy> good = {CopyOf(0, 0, 5)};
  EXPECT_EQ(device->Copy({kNoTicket, good}, stream).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(gpu.Advance(stream));
}

TEST(GpuDeviceTest, PlanWithoutCopies) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const int64_t calls = gpu.calls;
  EXPECT_OK(device->Copy(Plan{}, Stream()));
  ExpectDone(*device, 0, true);
  EXPECT_EQ(gpu.calls, calls);
}

TEST(GpuDeviceTest, AStreamOfAnotherGpuIsRefused) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups(), 1);
  const Stream stream = gpu.NewStream(0);
  const std::vector<PageCopy> copies = {CopyOf(0, 0, 1)};
  EXPECT_TRUE(Says(device->Copy({Ticket{1}, copies}, stream), absl::StatusCode::kInternal,
                   {"GPU 1", kFakeBadHandle}));
  ExpectFailed(*device, 1, kFakeBadHandle);
}

TEST(GpuDeviceTest, TheDefaultStream) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const std::vector<PageCopy> copies = {CopyOf(0, 0, 1)};
  ASSERT_OK(device->Copy({Ticket{1}, copies}, Stream()));
  ExpectDone(*device, 1, false);
  ASSERT_TRUE(gpu.Advance(Stream()));
  ExpectDone(*device, 1, true);
}

// --- Failures.

TEST(GpuDeviceTest, AnyCallThatFailsInCopyFailsTheTicketAndNothingElse) {
  const std::vector<PageCopy> copies = {CopyOf(0, 0, 1), CopyOf(1, 0, 1),
                                        CopyOf(0, kDevice, 2, kHost, 2)};
  int64_t nth = 0;
  for (bool failed = true; failed; ++nth) {
    SCOPED_TRACE(nth);
    FakeGpu gpu;
    {
      const auto device = MakeDevice(gpu, TwoGroups());
      const Stream stream = gpu.NewStream(0);
      gpu.FailCall(nth);
      const absl::Status status = device->Copy({Ticket{1}, copies}, stream);
      failed = !status.ok();
      gpu.Heal();
      if (failed) {
        EXPECT_TRUE(Says(status, absl::StatusCode::kInternal, {"GPU 0", kFakeFault}));
        ExpectFailed(*device, 1, kFakeFault);
      }
      ASSERT_OK(device->Copy({Ticket{2}, copies}, stream));
      ExpectDone(*device, 2, false);
      while (gpu.Advance(stream)) {
        // What was queued before the failure runs; the ticket stays failed.
        if (failed) ExpectFailed(*device, 1, kFakeFault);
      }
      ExpectDone(*device, 2, true);
      if (failed) ExpectFailed(*device, 1, kFakeFault);
    }
  }
  // The event, three launches and the record; then none failed.
  EXPECT_EQ(nth, 5 + 1);
}

TEST(GpuDeviceTest, AFailureHalfWayNamesTheGroup) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const Stream stream = gpu.NewStream(0);
  gpu.FailCall(2);
  const std::vector<PageCopy> copies = {CopyOf(0, 0, 1), CopyOf(1, 0, 1)};
  EXPECT_TRUE(Says(device->Copy({Ticket{1}, copies}, stream), absl::StatusCode::kInternal,
                   {"group 1", kFakeFault}));
}

TEST(GpuDeviceTest, CopiesThatFailWhenTheyRun) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const Stream stream = gpu.NewStream(0);
  const std::vector<PageCopy> copies = {CopyOf(0, 0, 1)};
  ASSERT_OK(device->Copy({Ticket{1}, copies}, stream));
  ASSERT_OK(device->Copy({Ticket{2}, copies}, stream));
  ASSERT_TRUE(gpu.Advance(stream));
  ExpectDone(*device, 1, true);
  gpu.BreakStream(stream);
  ExpectDone(*device, 2, false);
  ASSERT_TRUE(gpu.Advance(stream));
  ExpectFailed(*device, 2, kFakeBadAccess);
  const int64_t queries = gpu.queries;
  ExpectFailed(*device, 2, kFakeBadAccess);  // remembered
  EXPECT_EQ(gpu.queries, queries);
  ExpectDone(*device, 1, true);  // and what was done stays done
}

TEST(GpuDeviceTest, AQueryThatFailsIsAFailureForGood) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const Stream stream = gpu.NewStream(0);
  const std::vector<PageCopy> copies = {CopyOf(0, 0, 1)};
  ASSERT_OK(device->Copy({Ticket{1}, copies}, stream));
  gpu.FailCall(0);
  ExpectFailed(*device, 1, kFakeFault);
  gpu.AdvanceAll();
  ExpectFailed(*device, 1, kFakeFault);
}

// --- Tickets.

TEST(GpuDeviceTest, RemembersTheLatest1024Plans) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const Stream stream = gpu.NewStream(0);
  const std::vector<PageCopy> good = {CopyOf(0, 0, 1)};
  const std::vector<PageCopy> bad = {CopyOf(0, 0, 99)};
  const auto code = [&](uint64_t ticket) { return device->IsDone(Ticket{ticket}).status().code(); };
  EXPECT_EQ(code(1), absl::StatusCode::kNotFound);
  ASSERT_FALSE(device->Copy({Ticket{1}, bad}, stream).ok());
  for (uint64_t ticket = 2; ticket <= 1024; ++ticket) {
    if (ticket == 7) continue;
    ASSERT_OK(device->Copy({Ticket{ticket}, good}, stream));
  }
  EXPECT_EQ(code(1), absl::StatusCode::kInternal);
  EXPECT_EQ(code(7), absl::StatusCode::kNotFound);  // passed over, so not known to be done
  ExpectDone(*device, 2, false);
  const int64_t events = gpu.events_made;
  EXPECT_EQ(events, 1022);

  // Each further plan takes the place and the event of the one 1024 before it.
  for (uint64_t ticket = 1025; ticket <= 3072; ++ticket) {
    ASSERT_OK(device->Copy({Ticket{ticket}, good}, stream));
    EXPECT_TRUE(Says(device->IsDone(Ticket{ticket - 1024}).status(), absl::StatusCode::kNotFound,
                     {std::to_string(ticket - 1024), "1024"}));
  }
  EXPECT_EQ(gpu.events_made, 1024);
  ExpectDone(*device, 2049, false);
  gpu.AdvanceAll();
  ExpectDone(*device, 2049, true);
  ExpectDone(*device, 3072, true);
  EXPECT_EQ(code(3073), absl::StatusCode::kNotFound);
}

TEST(GpuDeviceTest, AnEventThatIsReusedSpeaksOfItsNewPlan) {
  FakeGpu gpu;
  const auto device = MakeDevice(gpu, TwoGroups());
  const Stream stream = gpu.NewStream(0);
  const std::vector<PageCopy> copies = {CopyOf(0, 0, 1)};
  ASSERT_OK(device->Copy({Ticket{1}, copies}, stream));
  gpu.AdvanceAll();
  ExpectDone(*device, 1, true);
  ASSERT_OK(device->Copy({Ticket{1025}, copies}, stream));
  ExpectDone(*device, 1025, false);
  gpu.AdvanceAll();
  ExpectDone(*device, 1025, true);
}

// --- The end.

TEST(GpuDeviceTest, TheDestructorWaitsOnlyForWhatMayRun) {
  FakeGpu gpu;
  const Stream stream = gpu.NewStream(0);
  const std::vector<PageCopy> copies = {CopyOf(0, 0, 1), CopyOf(1, 0, 1)};
  {
    const auto device = MakeDevice(gpu, TwoGroups());
    ASSERT_OK(device->Copy({Ticket{1}, copies}, stream));
    gpu.AdvanceAll();
    ExpectDone(*device, 1, true);
  }
  EXPECT_EQ(gpu.waits, 0);
  {
    const auto device = MakeDevice(gpu, TwoGroups());
    ASSERT_OK(device->Copy({Ticket{1}, copies}, stream));
  }  // the fake GPU fails the test if memory goes while copies are queued
  EXPECT_EQ(gpu.waits, 1);
  {
    // Half a plan was queued, and no event says when it ends.
    const auto device = MakeDevice(gpu, TwoGroups());
    gpu.FailCall(2);
    ASSERT_FALSE(device->Copy({Ticket{1}, copies}, stream).ok());
  }
  EXPECT_EQ(gpu.waits, 2);
}

}  // namespace
}  // namespace quire::testing
