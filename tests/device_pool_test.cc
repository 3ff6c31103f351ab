// What devices do alike: how a page is cut into runs, which views are refused, and how a plan
// becomes launches.

#include "lib/device_pool.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/adopted_memory.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

using Offsets = std::vector<int64_t>;

// Half a layer, K or V of a page, is 2 heads of 4 tokens of 16 bytes: 128 bytes.
constexpr KvLayout kLayout{.layers = 3, .kv_heads = 2, .head_dim = 8, .tokens_per_page = 4};
constexpr int32_t kPages = 5;

DeviceGroup GroupOf(const std::vector<KvView>& views) {
  return {.layout = kLayout, .page_count = kPages, .views = views};
}

PagePieces PiecesOf(const DeviceGroup& group) {
  const absl::StatusOr<PagePieces> pieces = FindPieces(0, group);
  EXPECT_OK(pieces);
  return pieces.ok() ? *pieces : PagePieces{};
}

TEST(PagePiecesTest, WithoutViewsAPageIsOneRun) {
  const PagePieces pieces = PiecesOf({.layout = kLayout, .page_count = kPages});
  EXPECT_EQ(pieces.base, nullptr);
  EXPECT_EQ(pieces.stride, 768);
  EXPECT_EQ(pieces.bytes, 768);
  EXPECT_EQ(pieces.offsets, Offsets{0});
}

TEST(PagePiecesTest, RunsThatTouchOrInterleaveAreOne) {
  for (const Order order : {Order::kPageMajor, Order::kInterleaved}) {
    const AdoptedMemory memory(kLayout, kPages, order);
    const PagePieces pieces = PiecesOf(GroupOf(memory.views()));
    EXPECT_EQ(pieces.base, memory.views()[0].k);
    EXPECT_EQ(pieces.stride, 768);
    EXPECT_EQ(pieces.bytes, 768);
    EXPECT_EQ(pieces.offsets, Offsets{0});
  }
}

TEST(PagePiecesTest, LayersApartAreRunsOfTheirOwn) {
  const AdoptedMemory memory(kLayout, kPages, Order::kLayerMajor);
  const PagePieces pieces = PiecesOf(GroupOf(memory.views()));
  EXPECT_EQ(pieces.stride, 128);
  EXPECT_EQ(pieces.bytes, 128);
  EXPECT_EQ(pieces.offsets, (Offsets{0, 640, 1280, 1920, 2560, 3200}));
}

TEST(PagePiecesTest, GapsAreNotCopied) {
  const AdoptedMemory memory(kLayout, kPages, Order::kGaps);
  const PagePieces pieces = PiecesOf(GroupOf(memory.views()));
  EXPECT_EQ(pieces.stride, 6 * 192);
  EXPECT_EQ(pieces.bytes, 128);
  EXPECT_EQ(pieces.offsets, (Offsets{0, 192, 384, 576, 768, 960}));
}

TEST(PagePiecesTest, TheLowestAddressIsTheBaseWhicheverLayerHasIt) {
  const AdoptedMemory memory(kLayout, kPages, Order::kLayerMajor);
  std::vector<KvView> views = memory.views();
  std::swap(views[0], views[2]);
  for (KvView& view : views) std::swap(view.k, view.v);
  const PagePieces pieces = PiecesOf(GroupOf(views));
  EXPECT_EQ(pieces.base, memory.views()[0].k);
  EXPECT_EQ(pieces.offsets, (Offsets{0, 640, 1280, 1920, 2560, 3200}));
}

TEST(PagePiecesTest, SeparateTensorsInAnyOrderOfAddresses) {
  const AdoptedMemory memory(kLayout, kPages, Order::kApart);
  const PagePieces pieces = PiecesOf(GroupOf(memory.views()));
  ASSERT_EQ(pieces.offsets.size(), 6u);
  EXPECT_EQ(pieces.bytes, 128);
  EXPECT_TRUE(std::is_sorted(pieces.offsets.begin(), pieces.offsets.end()));
  for (const KvView& view : memory.views()) {
    for (const void* tensor : {view.k, view.v}) {
      const int64_t offset = static_cast<const char*>(tensor) - static_cast<char*>(pieces.base);
      EXPECT_EQ(std::count(pieces.offsets.begin(), pieces.offsets.end(), offset), 1);
    }
  }
}

TEST(PagePiecesTest, UnequalRunsAreCutToOneLength) {
  // Layer 0's K and V touch and give a run of 256; layer 1's lie apart, 128 each; V of layer 2 has
  // wider tokens: 2 heads of 4 tokens of 48 bytes, the last without its gap: 352.
  static uint8_t memory alignas(64)[1 << 14];
  const KvStrides narrow = {1024, 64, 16};
  const KvStrides wide = {1024, 192, 48};
  const std::vector<KvView> views = {{memory, memory + 128, narrow, narrow, kPages},
                                     {memory + 272, memory + 416, narrow, narrow, kPages},
                                     {memory + 560, memory + 5 * 1024, narrow, wide, kPages}};
  const PagePieces pieces = PiecesOf(GroupOf(views));
  EXPECT_EQ(pieces.bytes, 32);
  Offsets expected;
  for (int64_t i = 0; i < 8; ++i) expected.push_back(32 * i);
  for (const int64_t begin : {272, 416, 560}) {
    for (int64_t i = 0; i < 4; ++i) expected.push_back(begin + 32 * i);
  }
  for (int64_t i = 0; i < 11; ++i) expected.push_back(5 * 1024 + 32 * i);
  EXPECT_EQ(pieces.offsets, expected);
}

TEST(PagePiecesTest, APoolOfOnePageMayTouchTheNext) {
  const AdoptedMemory memory(kLayout, 1, Order::kLayerMajor);
  DeviceGroup group = GroupOf(memory.views());
  group.page_count = 1;
  const PagePieces pieces = PiecesOf(group);
  EXPECT_LE(pieces.bytes, pieces.stride);
  EXPECT_EQ(pieces.offsets, (Offsets{0, 128, 256, 384, 512, 640}));
}

class RefusedViewsTest : public ::testing::Test {
 protected:
  RefusedViewsTest() : memory_(kLayout, kPages, Order::kLayerMajor) {}

  // One change to good options is refused, and the message has these words.
  template <typename Change>
  void ExpectRefused(Change change, const std::vector<std::string>& words) {
    const DeviceGroup good = GroupOf(memory_.views());
    DeviceGroup bad = good;
    change(bad);
    ASSERT_OK(CheckDeviceOptions({.groups = {good, good}}));
    EXPECT_TRUE(Says(CheckDeviceOptions({.groups = {good, bad}}),
                     absl::StatusCode::kInvalidArgument, words));
  }

  AdoptedMemory memory_;
};

TEST_F(RefusedViewsTest, Counts) {
  ExpectRefused([](DeviceGroup& g) { g.views.pop_back(); },
                {"groups[1].views has 2 entries", "one per layer: 3"});
  ExpectRefused([](DeviceGroup& g) { g.views.push_back(g.views[0]); }, {"groups[1].views has 4"});
  ExpectRefused([](DeviceGroup& g) { g.views[2].page_count = 4; },
                {"groups[1].views[2].page_count is 4", "the group's 5"});
  ExpectRefused([](DeviceGroup& g) { g.memory = g.views[0].k; }, {"groups[1]", "give one of them"});
}

TEST_F(RefusedViewsTest, Addresses) {
  const auto shift = [](void* memory, int bytes) -> void* {
    return static_cast<char*>(memory) + bytes;
  };
  ExpectRefused([](DeviceGroup& g) { g.views[1].k = nullptr; },
                {"groups[1].views[1].k is null", "page 0"});
  ExpectRefused([](DeviceGroup& g) { g.views[2].v = nullptr; }, {"groups[1].views[2].v is null"});
  ExpectRefused([&](DeviceGroup& g) { g.views[0].k = shift(g.views[0].k, 8); },
                {"groups[1].views[0].k must be 16-byte aligned"});
  ExpectRefused([&](DeviceGroup& g) { g.views[0].v = shift(g.views[0].v, 8); },
                {"groups[1].views[0].v must be 16-byte aligned"});
  ExpectRefused([](DeviceGroup& g) { g.views[0].v = reinterpret_cast<void*>(~uintptr_t{15}); },
                {"groups[1]", "closer together"});
}

TEST_F(RefusedViewsTest, Strides) {
  ExpectRefused([](DeviceGroup& g) { g.views[1].k_strides.page = 256; },
                {"groups[1].views[1].k_strides.page is 256", "is 128", "must be equal"});
  ExpectRefused([](DeviceGroup& g) { g.views[0].v_strides.page = 256; },
                {"groups[1].views[0].v_strides.page is 256", "is 128", "must be equal"});
  ExpectRefused([](DeviceGroup& g) { g.views[1].k_strides.token = 24; },
                {"groups[1].views[1].k_strides.token is 24", "multiple of 16"});
  ExpectRefused([](DeviceGroup& g) { g.views[1].v_strides.head = -64; },
                {"groups[1].views[1].v_strides.head is -64", "multiple of 16"});
  ExpectRefused([](DeviceGroup& g) { g.views[1].v_strides.head = 80; },
                {"groups[1].views[1].v_strides", "144 bytes", "one page stride"});
  ExpectRefused([](DeviceGroup& g) { g.views[1].k_strides.token = INT64_MAX / 16 * 16; },
                {"groups[1].views[1].k_strides", "one page stride"});
  ExpectRefused([](DeviceGroup& g) { g.views[1].k_strides.head = 48; },
                {"groups[1].views[1].k_strides", "same bytes"});
  ExpectRefused([](DeviceGroup& g) { g.views[1].v_strides.token = 0; },
                {"groups[1].views[1].v_strides", "same bytes"});
  ExpectRefused(
      [](DeviceGroup& g) {
        for (KvView& view : g.views) {
          view.k_strides.page = view.v_strides.page = INT64_MAX / 16 * 16;
        }
      },
      {"groups[1]", "62 bits", "page stride"});
}

// Against every byte painted: also where heads and tokens lie between one another, as 0, 32, 64 and
// 48, 80, 112 do.
TEST(PagePiecesTest, StridesAreGoodExactlyIfNoByteHasTwoOwners) {
  static uint8_t memory alignas(64)[16];  // nothing looks at it
  int good = 0;
  int bad = 0;
  for (const int32_t head_dim : {4, 8, 12}) {
    for (int32_t heads = 1; heads <= 3; ++heads) {
      for (int32_t tokens = 1; tokens <= 5; ++tokens) {
        for (int64_t head = 0; head <= 160; head += 16) {
          for (int64_t token = 0; token <= 160; token += 16) {
            std::array<bool, 16 * 64> painted{};
            bool shared = false;
            for (int64_t i = 0; i < heads * tokens * head_dim * 4; ++i) {
              const int64_t one = i / (head_dim * 4);
              bool& byte = painted[static_cast<size_t>(one / tokens * head + one % tokens * token +
                                                       i % (head_dim * 4))];
              shared = shared || byte;
              byte = true;
            }
            const KvStrides strides = {1024, head, token};
            const KvView view = {memory, memory, strides, strides, 1};
            const DeviceGroup group = {.layout = {.layers = 1,
                                                  .kv_heads = heads,
                                                  .head_dim = head_dim,
                                                  .tokens_per_page = tokens,
                                                  .dtype = DType::kFloat32},
                                       .page_count = 1,
                                       .views = {view}};
            const absl::Status status = CheckDeviceOptions({.groups = {group}});
            ASSERT_EQ(status.ok(), !shared) << head_dim << ' ' << heads << ' ' << tokens << ' '
                                            << head << ' ' << token << ' ' << status;
            ++(shared ? bad : good);
          }
        }
      }
    }
  }
  EXPECT_GT(good, 500);
  EXPECT_GT(bad, 500);
}

TEST_F(RefusedViewsTest, PagesThatShareBytes) {
  // V of page 0 is K of page 1: the tensor's K and V were taken for one page apart.
  ExpectRefused([](DeviceGroup& g) { g.views[1].v = static_cast<char*>(g.views[1].k) + 128; },
                {"groups[1].views", "two pages the same bytes"});
  // The same by half a page, which overlaps within the page too.
  ExpectRefused([](DeviceGroup& g) { g.views[1].v = static_cast<char*>(g.views[1].k) + 64; },
                {"groups[1].views", "two pages the same bytes"});
  // The last page of layer 0's K reaches into its V.
  ExpectRefused([](DeviceGroup& g) { g.views[0].v = static_cast<char*>(g.views[0].v) - 16; },
                {"groups[1].views", "two pages the same bytes"});
}

TEST_F(RefusedViewsTest, HostPagesOfAPageInPieces) {
  ExpectRefused([](DeviceGroup& g) { g.host_page_count = 1; },
                {"groups[1].host_page_count is 1", "6 runs"});
  const AdoptedMemory together(kLayout, kPages, Order::kInterleaved);
  DeviceGroup group = GroupOf(together.views());
  group.host_page_count = 1;
  EXPECT_OK(CheckDeviceOptions({.groups = {group}}));
}

TEST_F(RefusedViewsTest, TooManyPieces) {
  // Two extents of 4 GB, and nothing longer than 16 bytes divides both.
  const KvLayout layout{.layers = 1, .kv_heads = 1, .head_dim = 8, .tokens_per_page = 4096};
  const int64_t page = int64_t{1} << 40;
  const KvStrides k = {page, 0, int64_t{1} << 20};
  const KvStrides v = {page, 0, (int64_t{1} << 20) + 16};
  auto* base = reinterpret_cast<char*>(int64_t{1} << 44);
  const KvView view = {base, base + (int64_t{1} << 36), k, v, 2};
  const DeviceGroup group = {.layout = layout, .page_count = 2, .views = {view}};
  EXPECT_TRUE(Says(CheckDeviceOptions({.groups = {group}}), absl::StatusCode::kInvalidArgument,
                   {"groups[0].views", "65536"}));
}

PageCopy CopyOf(int32_t group, Tier from_tier, int32_t from, Tier to_tier, int32_t to) {
  return {GroupId{group}, from_tier, to_tier, PageId{from}, PageId{to}, 1};
}

TEST(DevicePoolsTest, OneLaunchForEachGroupAndDirection) {
  DeviceOptions options;
  options.groups = {{.layout = kLayout, .page_count = kPages, .host_page_count = 3},
                    {.layout = kLayout, .page_count = kPages}};
  DevicePools pools(options);
  EXPECT_EQ(pools.MissingBytes(0, Tier::kDevice), 5 * 768);
  EXPECT_EQ(pools.MissingBytes(0, Tier::kHost), 3 * 768);
  EXPECT_EQ(pools.MissingBytes(1, Tier::kHost), 0);
  static char memory alignas(64)[3][64];
  pools.Place(0, Tier::kDevice, memory[0]);
  pools.Place(0, Tier::kHost, memory[1]);
  pools.Place(1, Tier::kDevice, memory[2]);

  const Tier d = Tier::kDevice;
  const Tier h = Tier::kHost;
  const std::vector<PageCopy> copies = {CopyOf(0, d, 0, d, 1), CopyOf(1, d, 2, d, 3),
                                        CopyOf(0, d, 2, h, 2), CopyOf(0, h, 0, d, 4),
                                        CopyOf(1, d, 0, d, 1), CopyOf(0, h, 1, d, 3)};
  const auto sorted = pools.Sort({Ticket{1}, copies});
  ASSERT_OK(sorted);
  ASSERT_EQ(sorted->size(), 4u);
  const auto expect = [&](size_t i, int32_t group, void* from, int32_t from_pages, void* to,
                          int32_t to_pages, const std::vector<int32_t>& from_ids,
                          const std::vector<int32_t>& to_ids) {
    const PageLaunch& launch = (*sorted)[i];
    const CopyPagesParams& params = launch.params;
    EXPECT_EQ(launch.group, GroupId{group});
    EXPECT_EQ(params.base, to);
    EXPECT_EQ(params.from_base, from);
    EXPECT_EQ(params.page_count, to_pages);
    EXPECT_EQ(params.from_page_count, from_pages);
    EXPECT_EQ(params.page_stride, 768);
    EXPECT_EQ(params.page_bytes, 768);
    EXPECT_EQ(params.piece_count, 0);
    const auto count = static_cast<size_t>(params.count);
    EXPECT_EQ(Ids({params.from, count}), from_ids);
    EXPECT_EQ(Ids({params.to, count}), to_ids);
  };
  expect(0, 0, nullptr, 0, memory[0], 5, {0}, {1});
  expect(1, 0, memory[0], 5, memory[1], 3, {2}, {2});
  expect(2, 0, memory[1], 3, memory[0], 5, {0, 1}, {4, 3});
  expect(3, 1, nullptr, 0, memory[2], 5, {2, 0}, {3, 1});
  // The next plan begins afresh.
  EXPECT_EQ(pools.Sort({Ticket{2}, std::span(copies).first(1)})->size(), 1u);
  EXPECT_EQ(pools.Sort(Plan{})->size(), 0u);
}

TEST(DevicePoolsTest, ScrubsGoBeforeCopies) {
  DeviceOptions options;
  options.groups = {{.layout = kLayout, .page_count = kPages, .host_page_count = 3},
                    {.layout = kLayout, .page_count = kPages}};
  DevicePools pools(options);
  static char memory alignas(64)[3][64];
  pools.Place(0, Tier::kDevice, memory[0]);
  pools.Place(0, Tier::kHost, memory[1]);
  pools.Place(1, Tier::kDevice, memory[2]);
  const std::vector<PageCopy> copies = {CopyOf(0, Tier::kDevice, 0, Tier::kDevice, 1)};
  const std::vector<PageScrub> scrubs = {{GroupId{1}, Tier::kDevice, PageId{4}},
                                         {GroupId{0}, Tier::kDevice, PageId{1}},
                                         {GroupId{0}, Tier::kHost, PageId{2}},
                                         {GroupId{0}, Tier::kDevice, PageId{3}}};
  const auto sorted = pools.Sort({Ticket{1}, copies, scrubs});
  ASSERT_OK(sorted);
  ASSERT_EQ(sorted->size(), 4u);
  const auto expect = [&](size_t i, int32_t group, void* to, int32_t pages,
                          const std::vector<int32_t>& ids) {
    const CopyPagesParams& params = (*sorted)[i].params;
    EXPECT_EQ((*sorted)[i].group, GroupId{group});
    EXPECT_TRUE(params.zeros);
    EXPECT_EQ(params.base, to);
    EXPECT_EQ(params.page_count, pages);
    EXPECT_EQ(params.page_bytes, 768);
    EXPECT_EQ(params.from, nullptr);
    EXPECT_EQ(Ids({params.to, static_cast<size_t>(params.count)}), ids);
  };
  expect(0, 0, memory[0], kPages, {1, 3});
  expect(1, 0, memory[1], 3, {2});
  expect(2, 1, memory[2], kPages, {4});
  EXPECT_FALSE((*sorted)[3].params.zeros);
  // The next plan begins afresh.
  EXPECT_EQ(pools.Sort({Ticket{2}, copies})->size(), 1u);
}

TEST(DevicePoolsTest, ScrubsAreCheckedBeforeAnything) {
  DeviceOptions options;
  options.groups = {{.layout = kLayout, .page_count = 2}};
  DevicePools pools(options);
  const auto status = [&](uint64_t ticket, int32_t group, Tier tier, int32_t page) {
    const std::vector<PageScrub> scrubs = {{GroupId{group}, tier, PageId{page}}};
    return pools.Sort({Ticket{ticket}, {}, scrubs}).status();
  };
  EXPECT_OK(status(1, 0, Tier::kDevice, 1));
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_TRUE(Says(status(1, 0, Tier::kDevice, 2), invalid, {"scrub of page 2", "2 pages"}));
  EXPECT_TRUE(Says(status(1, 0, Tier::kDevice, -1), invalid, {"scrub of page -1"}));
  EXPECT_TRUE(Says(status(1, 1, Tier::kDevice, 0), invalid, {"scrub of group 1"}));
  EXPECT_TRUE(Says(status(1, 0, Tier::kHost, 0), invalid, {"scrub in Tier::kHost"}));
  EXPECT_TRUE(Says(status(0, 0, Tier::kDevice, 1), invalid, {"needs a ticket"}));
}

TEST(DevicePoolsTest, EachTierHasItsOwnCount) {
  DeviceOptions options;
  options.groups = {{.layout = kLayout, .page_count = 2, .host_page_count = 9}};
  DevicePools pools(options);
  const auto status = [&](Tier from_tier, int32_t from, Tier to_tier, int32_t to) {
    const std::vector<PageCopy> copies = {CopyOf(0, from_tier, from, to_tier, to)};
    return pools.Sort({Ticket{1}, copies}).status();
  };
  EXPECT_OK(status(Tier::kHost, 8, Tier::kDevice, 1));
  EXPECT_OK(status(Tier::kDevice, 1, Tier::kHost, 1));
  EXPECT_OK(status(Tier::kHost, 7, Tier::kHost, 8));
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_TRUE(Says(status(Tier::kHost, 1, Tier::kDevice, 2), invalid, {"page 2", "Tier::kDevice"}));
  EXPECT_TRUE(Says(status(Tier::kHost, 9, Tier::kDevice, 1), invalid, {"page 9", "Tier::kHost"}));
  EXPECT_TRUE(Says(status(Tier::kHost, 3, Tier::kHost, 3), invalid, {"to itself"}));
  EXPECT_TRUE(Says(status(Tier::kDisk, 0, Tier::kDevice, 1), invalid, {"Tier::kDisk"}));
  EXPECT_TRUE(Says(status(Tier{9}, 0, Tier::kDevice, 1), invalid, {"unknown tier"}));
}

}  // namespace
}  // namespace quire::testing
