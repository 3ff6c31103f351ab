#include "quire/block_allocator.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

BlockAllocator NewAllocator(int32_t page_count) {
  absl::StatusOr<BlockAllocator> allocator = BlockAllocator::Create(page_count);
  EXPECT_OK(allocator);
  return *std::move(allocator);
}

std::vector<int32_t> Take(BlockAllocator& allocator, size_t count) {
  std::vector<PageId> pages(count);
  EXPECT_OK(allocator.Allocate(pages));
  return Ids(pages);
}

TEST(BlockAllocatorTest, CreateRefusesCountsOutOfRange) {
  for (const int32_t count : {0, -1, std::numeric_limits<int32_t>::min(), (1 << 30) + 1,
                              std::numeric_limits<int32_t>::max()}) {
    EXPECT_TRUE(Says(BlockAllocator::Create(count).status(), absl::StatusCode::kInvalidArgument,
                     {"page_count", std::to_string(count), "1"}))
        << count;
  }
  EXPECT_OK(BlockAllocator::Create(1));
}

TEST(BlockAllocatorTest, FreshPoolCountsUp) {
  BlockAllocator allocator = NewAllocator(5);
  EXPECT_EQ(allocator.page_count(), 5);
  EXPECT_EQ(allocator.free_count(), 5);
  EXPECT_EQ(Take(allocator, 2), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(Take(allocator, 3), (std::vector<int32_t>{2, 3, 4}));
  EXPECT_EQ(allocator.free_count(), 0);
}

TEST(BlockAllocatorTest, OneByOneGivesWhatABatchGives) {
  BlockAllocator one = NewAllocator(40);
  BlockAllocator batch = NewAllocator(40);
  std::vector<int32_t> singles;
  for (int i = 0; i < 40; ++i) singles.push_back(Take(one, 1)[0]);
  EXPECT_EQ(Take(batch, 40), singles);
}

TEST(BlockAllocatorTest, TheLastFreedGoesFirst) {
  BlockAllocator allocator = NewAllocator(4);
  Take(allocator, 4);
  allocator.Release(PageId{1});
  allocator.Release(PageId{3});
  EXPECT_EQ(Take(allocator, 1), (std::vector<int32_t>{3}));
  EXPECT_EQ(Take(allocator, 1), (std::vector<int32_t>{1}));
}

TEST(BlockAllocatorTest, AllocateNothing) {
  BlockAllocator allocator = NewAllocator(1);
  EXPECT_EQ(Take(allocator, 0), std::vector<int32_t>());
  Take(allocator, 1);
  EXPECT_EQ(Take(allocator, 0), std::vector<int32_t>());  // even of an empty pool
}

TEST(BlockAllocatorTest, TooManyIsBareAndChangesNothing) {
  BlockAllocator allocator = NewAllocator(3);
  Take(allocator, 1);
  std::vector<PageId> out(3, PageId{77});
  EXPECT_NO_ROOM(allocator.Allocate(out));
  EXPECT_EQ(Ids(out), (std::vector<int32_t>{77, 77, 77}));
  EXPECT_EQ(allocator.free_count(), 2);
  EXPECT_EQ(allocator.refs(PageId{1}), -1);
  EXPECT_EQ(Take(allocator, 2), (std::vector<int32_t>{1, 2}));
}

TEST(BlockAllocatorTest, ReferencesGoUpAndDown) {
  BlockAllocator allocator = NewAllocator(2);
  Take(allocator, 1);
  const PageId page{0};
  EXPECT_EQ(allocator.refs(page), 1);
  allocator.Ref(page);
  EXPECT_EQ(allocator.refs(page), 2);
  EXPECT_FALSE(allocator.Unref(page));
  EXPECT_TRUE(allocator.Unref(page));
  EXPECT_EQ(allocator.refs(page), 0);                        // parked
  EXPECT_EQ(allocator.free_count(), 1);                      // and not free
  EXPECT_EQ(Take(allocator, 1), (std::vector<int32_t>{1}));  // so it is not handed out
}

TEST(BlockAllocatorTest, AParkedPageComesBackOrIsFreed) {
  BlockAllocator allocator = NewAllocator(1);
  Take(allocator, 1);
  const PageId page{0};
  ASSERT_TRUE(allocator.Unref(page));
  allocator.Ref(page);
  EXPECT_EQ(allocator.refs(page), 1);
  ASSERT_TRUE(allocator.Unref(page));
  allocator.Free(page);
  EXPECT_EQ(allocator.refs(page), -1);
  EXPECT_EQ(allocator.free_count(), 1);
}

TEST(BlockAllocatorTest, ReleaseOfASharedPageKeepsIt) {
  BlockAllocator allocator = NewAllocator(1);
  Take(allocator, 1);
  allocator.Ref(PageId{0});
  allocator.Release(PageId{0});
  EXPECT_EQ(allocator.refs(PageId{0}), 1);
  EXPECT_EQ(allocator.free_count(), 0);
  allocator.Release(PageId{0});
  EXPECT_EQ(allocator.free_count(), 1);
}

TEST(BlockAllocatorTest, MovesKeepTheState) {
  BlockAllocator first = NewAllocator(3);
  Take(first, 2);
  BlockAllocator second = std::move(first);
  EXPECT_EQ(second.free_count(), 1);
  EXPECT_EQ(second.refs(PageId{1}), 1);
  BlockAllocator third = NewAllocator(9);
  third = std::move(second);
  EXPECT_EQ(third.page_count(), 3);
  EXPECT_EQ(Take(third, 1), (std::vector<int32_t>{2}));
}

// Against a plain count per page.
TEST(BlockAllocatorTest, RandomUseKeepsEveryCount) {
  constexpr int32_t kPages = 13;
  BlockAllocator allocator = NewAllocator(kPages);
  std::vector<int32_t> refs(kPages, -1);
  uint64_t random = 1;
  for (int step = 0; step < 200000; ++step) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const auto page = static_cast<int32_t>((random >> 40) % kPages);
    const PageId id{page};
    switch ((random >> 33) % 5) {
      case 0: {
        std::vector<PageId> out((random >> 50) % 4);
        const auto free = static_cast<size_t>(std::count(refs.begin(), refs.end(), -1));
        const absl::Status status = allocator.Allocate(out);
        ASSERT_EQ(status.ok(), out.size() <= free);
        if (!status.ok()) break;
        for (const PageId taken : out) {
          ASSERT_EQ(refs[static_cast<size_t>(taken)], -1) << "handed out twice";
          refs[static_cast<size_t>(taken)] = 1;
        }
        break;
      }
      case 1:
        if (refs[page] < 0) break;
        allocator.Ref(id);
        ++refs[page];
        break;
      case 2:
        if (refs[page] < 1) break;
        ASSERT_EQ(allocator.Unref(id), --refs[page] == 0);
        break;
      case 3:
        if (refs[page] != 0) break;
        allocator.Free(id);
        refs[page] = -1;
        break;
      default:
        if (refs[page] < 1) break;
        allocator.Release(id);
        if (--refs[page] == 0) refs[page] = -1;
    }
    ASSERT_EQ(allocator.free_count(), std::count(refs.begin(), refs.end(), -1));
    ASSERT_EQ(allocator.refs(id), refs[page]);
  }
}

class BlockAllocatorDeathTest : public ::testing::Test {
 protected:
  BlockAllocatorDeathTest() { Take(allocator_, 2); }

  BlockAllocator allocator_ = NewAllocator(3);
};

TEST_F(BlockAllocatorDeathTest, PagesOutsideThePool) {
  for (const int32_t id :
       {-1, 3, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()}) {
    const PageId page{id};
    EXPECT_DEATH(allocator_.Ref(page), "CHECK");
    EXPECT_DEATH(static_cast<void>(allocator_.Unref(page)), "CHECK");
    EXPECT_DEATH(allocator_.Free(page), "CHECK");
    EXPECT_DEATH(allocator_.Release(page), "CHECK");
  }
}

TEST_F(BlockAllocatorDeathTest, DoubleRelease) {
  allocator_.Release(PageId{0});
  EXPECT_DEATH(allocator_.Release(PageId{0}), "double release");
  EXPECT_DEATH(static_cast<void>(allocator_.Unref(PageId{0})), "double release");
}

TEST_F(BlockAllocatorDeathTest, UnrefOfAParkedPage) {
  ASSERT_TRUE(allocator_.Unref(PageId{0}));
  EXPECT_DEATH(static_cast<void>(allocator_.Unref(PageId{0})), "double release");
}

TEST_F(BlockAllocatorDeathTest, FreePagesTakeNoReference) {
  EXPECT_DEATH(allocator_.Ref(PageId{2}), "free page");
  EXPECT_DEATH(allocator_.Free(PageId{2}), "not parked");
}

TEST_F(BlockAllocatorDeathTest, LivePagesAreNotFreed) {
  EXPECT_DEATH(allocator_.Free(PageId{0}), "not parked");
}

TEST_F(BlockAllocatorDeathTest, APageIsFreedOnce) {
  ASSERT_TRUE(allocator_.Unref(PageId{0}));
  allocator_.Free(PageId{0});
  EXPECT_DEATH(allocator_.Free(PageId{0}), "not parked");
}

}  // namespace
}  // namespace quire::testing
