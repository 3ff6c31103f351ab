// The CPU device: byte-exact copies, refusals that change nothing, and views that agree with the
// documented layout [layer][K|V][kv_head][token][head_dim].

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/device.h"
#include "tests/support/adopted_memory.h"

namespace quire {
namespace {

constexpr GroupId kGroup0{0};
constexpr GroupId kGroup1{1};

// Two groups of unlike shapes, so that a mix-up of groups shows.
DeviceOptions TwoGroups() {
  DeviceOptions options;
  options.groups.resize(2);
  options.groups[0] = {.layout = {.layers = 3, .kv_heads = 2, .head_dim = 8, .tokens_per_page = 16},
                       .page_count = 7};
  options.groups[1] = {.layout = {.layers = 1,
                                  .kv_heads = 1,
                                  .head_dim = 24,
                                  .tokens_per_page = 4,
                                  .dtype = DType::kFloat32},
                       .page_count = 5};
  return options;
}

std::unique_ptr<Device> MakeDevice(const DeviceOptions& options) {
  auto device = NewCpuDevice(options);
  EXPECT_TRUE(device.ok()) << device.status();
  return device.ok() ? *std::move(device) : nullptr;
}

KvView ViewOf(const Device& device, GroupId group, int32_t layer) {
  auto view = device.view(Tier::kDevice, group, layer);
  EXPECT_TRUE(view.ok()) << view.status();
  return view.ok() ? *view : KvView{};
}

// The pool's bytes: layer 0's K is where the first page begins.
std::span<uint8_t> Bytes(const Device& device, GroupId group, const KvLayout& layout,
                         int32_t pages) {
  return {static_cast<uint8_t*>(ViewOf(device, group, 0).k),
          static_cast<size_t>(pages * layout.page_bytes())};
}

std::span<uint8_t> Fill(std::span<uint8_t> bytes, uint32_t seed) {
  std::mt19937 random(seed);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

std::vector<uint8_t> Snapshot(std::span<const uint8_t> bytes) {
  return {bytes.begin(), bytes.end()};
}

PageCopy CopyOf(GroupId group, int32_t from, int32_t to, int32_t tokens = 1) {
  return {.group = group,
          .from_tier = Tier::kDevice,
          .to_tier = Tier::kDevice,
          .from_page = PageId{from},
          .to_page = PageId{to},
          .token_count = tokens};
}

TEST(KvLayoutTest, Bytes) {
  const KvLayout layout{.layers = 3, .kv_heads = 2, .head_dim = 8, .tokens_per_page = 16};
  EXPECT_EQ(layout.head_bytes(), 16 * 8 * 2);
  EXPECT_EQ(layout.layer_bytes(), 2 * 2 * 16 * 8 * 2);
  EXPECT_EQ(layout.page_bytes(), 3 * 2 * 2 * 16 * 8 * 2);
}

TEST(KvLayoutTest, BytesSaturate) {
  const KvLayout layout{.layers = INT32_MAX,
                        .kv_heads = INT32_MAX,
                        .head_dim = INT32_MAX,
                        .tokens_per_page = INT32_MAX,
                        .dtype = DType::kFloat32};
  EXPECT_EQ(layout.page_bytes(), INT64_MAX);
}

TEST(CpuDeviceTest, CopiesAreByteExactAndTouchNothingElse) {
  const DeviceOptions options = TwoGroups();
  const auto device = MakeDevice(options);
  auto bytes0 = Fill(Bytes(*device, kGroup0, options.groups[0].layout, 7), 1);
  auto bytes1 = Fill(Bytes(*device, kGroup1, options.groups[1].layout, 5), 2);
  auto expected0 = Snapshot(bytes0);
  auto expected1 = Snapshot(bytes1);

  const std::vector<PageCopy> copies = {CopyOf(kGroup0, 0, 6, 16), CopyOf(kGroup1, 4, 0, 2),
                                        CopyOf(kGroup0, 3, 1, 5), CopyOf(kGroup0, 3, 2, 1)};
  ASSERT_TRUE(device->Copy({Ticket{1}, copies}, Stream()).ok());

  const auto apply = [](std::vector<uint8_t>& pool, int64_t page_bytes, int from, int to) {
    std::copy_n(pool.begin() + from * page_bytes, page_bytes, pool.begin() + to * page_bytes);
  };
  apply(expected0, options.groups[0].layout.page_bytes(), 0, 6);
  apply(expected0, options.groups[0].layout.page_bytes(), 3, 1);
  apply(expected0, options.groups[0].layout.page_bytes(), 3, 2);
  apply(expected1, options.groups[1].layout.page_bytes(), 4, 0);
  EXPECT_EQ(Snapshot(bytes0), expected0);
  EXPECT_EQ(Snapshot(bytes1), expected1);
}

TEST(CpuDeviceTest, ScrubsBeforeItCopies) {
  const DeviceOptions options = TwoGroups();
  const auto device = MakeDevice(options);
  // What the device allocates begins zeroed.
  for (const uint8_t byte : Bytes(*device, kGroup0, options.groups[0].layout, 7)) {
    ASSERT_EQ(byte, 0);
  }
  auto bytes0 = Fill(Bytes(*device, kGroup0, options.groups[0].layout, 7), 1);
  auto bytes1 = Fill(Bytes(*device, kGroup1, options.groups[1].layout, 5), 2);
  auto expected0 = Snapshot(bytes0);
  auto expected1 = Snapshot(bytes1);
  const std::vector<PageCopy> copies = {CopyOf(kGroup0, 0, 6)};
  const std::vector<PageScrub> scrubs = {{kGroup0, Tier::kDevice, PageId{6}},
                                         {kGroup1, Tier::kDevice, PageId{4}},
                                         {kGroup0, Tier::kDevice, PageId{2}}};
  ASSERT_TRUE(device->Copy({Ticket{1}, copies, scrubs}, Stream()).ok());
  ASSERT_TRUE(device->Copy({Ticket{2}, {}, std::span(scrubs).first(0)}, Stream()).ok());
  const auto page = [](std::vector<uint8_t>& pool, int64_t page_bytes, int32_t page) {
    return pool.begin() + page * page_bytes;
  };
  const int64_t bytes = options.groups[0].layout.page_bytes();
  std::copy_n(page(expected0, bytes, 0), bytes, page(expected0, bytes, 6));
  std::fill_n(page(expected0, bytes, 2), bytes, 0);
  const int64_t other = options.groups[1].layout.page_bytes();
  std::fill_n(page(expected1, other, 4), other, 0);
  EXPECT_EQ(Snapshot(bytes0), expected0);
  EXPECT_EQ(Snapshot(bytes1), expected1);
}

// In whichever order they lie: just the bytes of the page.
TEST(CpuDeviceTest, ScrubsAdoptedTensors) {
  const KvLayout layout{.layers = 3, .kv_heads = 2, .head_dim = 8, .tokens_per_page = 4};
  for (const testing::Order order : testing::kOrders) {
    SCOPED_TRACE(static_cast<int>(order));
    const testing::AdoptedMemory memory(layout, 5, order);
    DeviceOptions options;
    options.groups = {{.layout = layout, .page_count = 5, .views = memory.views()}};
    const auto device = MakeDevice(options);
    testing::FillPages(memory.views(), layout, 7);
    testing::Pages expected = testing::ReadPages(memory.views(), layout);
    const std::vector<PageScrub> scrubs = {{kGroup0, Tier::kDevice, PageId{0}},
                                           {kGroup0, Tier::kDevice, PageId{3}}};
    ASSERT_TRUE(device->Copy({Ticket{1}, {}, scrubs}, Stream()).ok());
    for (const size_t page : {size_t{0}, size_t{3}})
      std::fill(expected[page].begin(), expected[page].end(), 0);
    EXPECT_EQ(testing::ReadPages(memory.views(), layout), expected);
  }
}

TEST(CpuDeviceTest, RefusedPlanCopiesNothing) {
  const DeviceOptions options = TwoGroups();
  const auto device = MakeDevice(options);
  auto bytes0 = Fill(Bytes(*device, kGroup0, options.groups[0].layout, 7), 3);
  const auto before = Snapshot(bytes0);

  PageCopy host = CopyOf(kGroup0, 0, 1);
  host.from_tier = Tier::kHost;
  PageCopy disk = CopyOf(kGroup0, 0, 1);
  disk.to_tier = Tier::kDisk;
  const std::vector<PageCopy> bad = {
      CopyOf(GroupId{2}, 0, 1),
      CopyOf(GroupId{-1}, 0, 1),
      host,
      disk,
      CopyOf(kGroup0, -1, 1),
      CopyOf(kGroup0, 7, 1),
      CopyOf(kGroup0, 1, 7),
      CopyOf(kGroup0, 1, INT32_MAX),
      CopyOf(kGroup0, INT32_MIN, 1),
      CopyOf(kGroup0, 1, 1),
      CopyOf(kGroup1, 5, 1),
      CopyOf(kGroup0, 0, 1, -1),
      CopyOf(kGroup0, 0, 1, 17),
  };
  uint64_t ticket = 0;
  for (const PageCopy& last : bad) {
    // The bad entry comes last: the good one before it must not have been carried out.
    const std::vector<PageCopy> copies = {CopyOf(kGroup0, 0, 6), last};
    const Plan plan{Ticket{++ticket}, copies};
    const absl::Status status = device->Copy(plan, Stream());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << "entry " << ticket;
    EXPECT_FALSE(status.message().empty());
    EXPECT_EQ(Snapshot(bytes0), before) << "entry " << ticket;
    EXPECT_EQ(device->IsDone(plan.ticket).status().code(), absl::StatusCode::kInternal);
  }
}

TEST(CpuDeviceTest, TicketsAreRemembered) {
  const auto device = MakeDevice(TwoGroups());
  const std::vector<PageCopy> good = {CopyOf(kGroup0, 0, 1)};
  const std::vector<PageCopy> bad = {CopyOf(kGroup0, 0, 99)};
  EXPECT_EQ(device->IsDone(Ticket{1}).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(device->Copy({Ticket{1}, good}, Stream()).ok());
  ASSERT_FALSE(device->Copy({Ticket{2}, bad}, Stream()).ok());
  ASSERT_TRUE(device->Copy({Ticket{4}, good}, Stream()).ok());

  EXPECT_TRUE(device->IsDone(Ticket{1}).value());
  EXPECT_EQ(device->IsDone(Ticket{2}).status().code(), absl::StatusCode::kInternal);
  // A ticket that was passed over is not taken for done.
  EXPECT_EQ(device->IsDone(Ticket{3}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(device->IsDone(Ticket{4}).value());
  EXPECT_EQ(device->IsDone(Ticket{5}).status().code(), absl::StatusCode::kNotFound);
}

TEST(CpuDeviceTest, FailureIsNeverForgottenIntoSuccess) {
  const auto device = MakeDevice(TwoGroups());
  const std::vector<PageCopy> good = {CopyOf(kGroup0, 0, 1)};
  const std::vector<PageCopy> bad = {CopyOf(kGroup0, 0, 99)};
  ASSERT_FALSE(device->Copy({Ticket{1}, bad}, Stream()).ok());
  for (uint64_t ticket = 2; ticket < 5000; ++ticket) {
    ASSERT_TRUE(device->Copy({Ticket{ticket}, good}, Stream()).ok());
    ASSERT_TRUE(device->IsDone(Ticket{ticket}).value());
    ASSERT_FALSE(device->IsDone(Ticket{1}).ok());
  }
}

TEST(CpuDeviceTest, PlanWithoutCopies) {
  const auto device = MakeDevice(TwoGroups());
  EXPECT_TRUE(device->Copy(Plan{}, Stream()).ok());
  EXPECT_TRUE(device->IsDone(kNoTicket).value());
  const std::vector<PageCopy> copies = {CopyOf(kGroup0, 0, 1)};
  EXPECT_EQ(device->Copy({kNoTicket, copies}, Stream()).code(), absl::StatusCode::kInvalidArgument);
}

TEST(CpuDeviceTest, ViewsFollowTheLayout) {
  const DeviceOptions options = TwoGroups();
  const auto device = MakeDevice(options);
  for (int g = 0; g < 2; ++g) {
    const KvLayout& layout = options.groups[g].layout;
    auto* base = static_cast<uint8_t*>(ViewOf(*device, GroupId{g}, 0).k);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(base) % 64, 0u);
    for (int32_t layer = 0; layer < layout.layers; ++layer) {
      const KvView view = ViewOf(*device, GroupId{g}, layer);
      const int64_t token = layout.head_dim * SizeOf(layout.dtype);
      const int64_t head = layout.tokens_per_page * token;
      const int64_t half_layer = layout.kv_heads * head;
      EXPECT_EQ(view.page_count, options.groups[g].page_count);
      EXPECT_EQ(static_cast<uint8_t*>(view.k) - base, layer * 2 * half_layer);
      EXPECT_EQ(static_cast<uint8_t*>(view.v) - base, layer * 2 * half_layer + half_layer);
      for (const KvStrides& strides : {view.k_strides, view.v_strides}) {
        EXPECT_EQ(strides.page, layout.layers * 2 * half_layer);
        EXPECT_EQ(strides.head, head);
        EXPECT_EQ(strides.token, token);
      }
    }
  }
}

TEST(CpuDeviceTest, ViewNamesWhatIsOutOfRange) {
  const auto device = MakeDevice(TwoGroups());
  const auto message = [&](Tier tier, GroupId group, int32_t layer) {
    const auto view = device->view(tier, group, layer);
    EXPECT_EQ(view.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(view.status().message());
  };
  EXPECT_NE(message(Tier::kDevice, GroupId{2}, 0).find("group 2"), std::string::npos);
  EXPECT_NE(message(Tier::kDevice, GroupId{-1}, 0).find("group -1"), std::string::npos);
  EXPECT_NE(message(Tier::kDevice, kGroup0, 3).find("layer 3"), std::string::npos);
  EXPECT_NE(message(Tier::kDevice, kGroup0, -1).find("layer -1"), std::string::npos);
  EXPECT_NE(message(Tier::kHost, kGroup0, 0).find("Tier"), std::string::npos);
}

TEST(CpuDeviceTest, AdoptsMemory) {
  DeviceOptions options = TwoGroups();
  options.groups.resize(1);
  const auto bytes =
      static_cast<size_t>(options.groups[0].layout.page_bytes()) * options.groups[0].page_count;
  std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(64, bytes), &std::free);
  const std::span<uint8_t> pool(static_cast<uint8_t*>(memory.get()), bytes);
  Fill(pool, 4);
  options.groups[0].memory = memory.get();
  {
    const auto device = MakeDevice(options);
    EXPECT_EQ(ViewOf(*device, kGroup0, 0).k, memory.get());
    const std::vector<PageCopy> copies = {CopyOf(kGroup0, 2, 5)};
    ASSERT_TRUE(device->Copy({Ticket{1}, copies}, Stream()).ok());
  }
  // Borrowed: the memory outlives the device, and holds what the device wrote.
  const size_t page = bytes / 7;
  EXPECT_EQ(Snapshot(pool.subspan(2 * page, page)), Snapshot(pool.subspan(5 * page, page)));
}

TEST(CpuDeviceTest, AdoptsTensorsInAnyOrder) {
  for (const testing::Order order : testing::kOrders) {
    SCOPED_TRACE(static_cast<int>(order));
    DeviceOptions options = TwoGroups();
    const KvLayout& layout = options.groups[0].layout;
    const testing::AdoptedMemory memory(layout, 7, order);
    options.groups[0].views = memory.views();
    const auto device = MakeDevice(options);
    ASSERT_NE(device, nullptr);
    testing::FillPages(memory.views(), layout, 5);
    testing::Pages expected = testing::ReadPages(memory.views(), layout);

    const std::vector<PageCopy> copies = {CopyOf(kGroup0, 0, 6, 16), CopyOf(kGroup0, 3, 1),
                                          CopyOf(kGroup0, 3, 2), CopyOf(kGroup1, 0, 1)};
    ASSERT_TRUE(device->Copy({Ticket{1}, copies}, Stream()).ok());
    expected[6] = expected[0];
    expected[1] = expected[2] = expected[3];
    EXPECT_EQ(testing::ReadPages(memory.views(), layout), expected);
  }
}

TEST(CpuDeviceTest, GivesTheViewsBackAsTheyWereGiven) {
  DeviceOptions options = TwoGroups();
  const testing::AdoptedMemory memory(options.groups[0].layout, 7, testing::Order::kTokenMajor);
  options.groups[0].views = memory.views();
  const auto device = MakeDevice(options);
  for (int32_t layer = 0; layer < 3; ++layer) {
    const KvView view = ViewOf(*device, kGroup0, layer);
    const KvView& given = memory.views()[static_cast<size_t>(layer)];
    EXPECT_EQ(view.k, given.k);
    EXPECT_EQ(view.v, given.v);
    EXPECT_EQ(view.page_count, 7);
    for (const auto& [mine, theirs] :
         {std::pair(view.k_strides, given.k_strides), std::pair(view.v_strides, given.v_strides)}) {
      EXPECT_EQ(mine.page, theirs.page);
      EXPECT_EQ(mine.head, theirs.head);
      EXPECT_EQ(mine.token, theirs.token);
    }
  }
}

TEST(CpuDeviceTest, BytesBetweenRunsStayAsTheyAre) {
  DeviceOptions options = TwoGroups();
  const KvLayout& layout = options.groups[0].layout;
  const testing::AdoptedMemory memory(layout, 7, testing::Order::kGaps);
  options.groups[0].views = memory.views();
  const auto device = MakeDevice(options);
  auto* behind_k = static_cast<uint8_t*>(memory.views()[0].k) + layout.layer_bytes() / 2;
  *behind_k = 1;
  const std::vector<PageCopy> copies = {CopyOf(kGroup0, 0, 1)};
  ASSERT_TRUE(device->Copy({Ticket{1}, copies}, Stream()).ok());
  EXPECT_EQ(behind_k[memory.views()[0].k_strides.page], 0xEE);
}

TEST(CpuDeviceTest, HasNoHostPages) {
  DeviceOptions options = TwoGroups();
  options.groups[1].host_page_count = 1;
  const absl::Status status = NewCpuDevice(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("groups[1].host_page_count"), std::string::npos);
  EXPECT_NE(std::string(status.message()).find("host memory already"), std::string::npos);
}

TEST(CpuDeviceTest, RefusesMisalignedMemory) {
  DeviceOptions options = TwoGroups();
  alignas(64) static uint8_t memory[128];
  options.groups[1].memory = memory + 16;
  const absl::Status status = NewCpuDevice(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("groups[1].memory"), std::string::npos);
}

TEST(CpuDeviceTest, RefusesBadOptionsByName) {
  const auto expect = [](const DeviceOptions& options, const std::string& field) {
    const absl::Status status = NewCpuDevice(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_NE(std::string(status.message()).find(field), std::string::npos) << status;
  };
  const auto with = [](auto change) {
    DeviceOptions options = TwoGroups();
    change(options.groups[1]);
    return options;
  };
  expect(DeviceOptions{}, "groups");
  expect(DeviceOptions{.groups = std::vector<DeviceGroup>(9, TwoGroups().groups[0])}, "groups");
  expect(with([](DeviceGroup& g) { g.layout.layers = 0; }), "groups[1].layout.layers");
  expect(with([](DeviceGroup& g) { g.layout.kv_heads = -1; }), "groups[1].layout.kv_heads");
  expect(with([](DeviceGroup& g) { g.layout.head_dim = 0; }), "groups[1].layout.head_dim");
  expect(with([](DeviceGroup& g) { g.layout.tokens_per_page = 0; }), "tokens_per_page");
  expect(with([](DeviceGroup& g) { g.layout.tokens_per_page = 4097; }), "tokens_per_page");
  expect(with([](DeviceGroup& g) { g.layout.dtype = DType{7}; }), "groups[1].layout.dtype");
  expect(with([](DeviceGroup& g) { g.page_count = 0; }), "groups[1].page_count");
  expect(with([](DeviceGroup& g) { g.page_count = INT32_MAX; }), "groups[1].page_count");
  expect(with([](DeviceGroup& g) {
           g.layout.layers = INT32_MAX;
           g.layout.kv_heads = INT32_MAX;
           g.page_count = 1 << 30;
         }),
         "62 bits");
}

TEST(CpuDeviceTest, SaysWhenThereIsNoMemory) {
  DeviceOptions options = TwoGroups();
  options.groups[0].layout.layers = 1 << 20;  // 2^30 pages of 2^30 bytes and more
  options.groups[0].page_count = 1 << 30;
  const absl::Status status = NewCpuDevice(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(status.message()).find("groups[0]"), std::string::npos);
}

}  // namespace
}  // namespace quire
