#include "lib/huge_memory.h"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "gtest/gtest.h"

namespace quire {
namespace {

static_assert(!std::is_copy_constructible_v<HugeArray<int>>);
static_assert(std::is_nothrow_move_constructible_v<HugeArray<int>>);

TEST(HugeMemoryTest, IsZeroedAndWritableToItsLastByte) {
  // Below and above the size from which huge OS pages are asked for.
  for (const size_t bytes : {size_t{1}, size_t{4097}, (size_t{4} << 20) + 1}) {
    auto* memory = static_cast<unsigned char*>(MapMemory(bytes));
    ASSERT_NE(memory, nullptr);
    size_t sum = 0;
    for (size_t i = 0; i < bytes; ++i) sum += memory[i];
    EXPECT_EQ(sum, 0u) << bytes;
    memory[0] = memory[bytes - 1] = 7;
    EXPECT_EQ(memory[bytes - 1], 7);
    UnmapMemory(memory, bytes);
  }
}

TEST(HugeMemoryTest, NothingIsStillAnAddress) {
  void* memory = MapMemory(0);
  EXPECT_NE(memory, nullptr);
  UnmapMemory(memory, 0);
  UnmapMemory(nullptr, 0);  // harmless
}

// A generous limit is address space, not memory: this is more than any test machine has.
TEST(HugeMemoryTest, LargeReservationCostsNothingUntilTouched) {
  constexpr size_t kBytes = size_t{1} << 42;
  auto* memory = static_cast<unsigned char*>(MapMemory(kBytes));
  ASSERT_NE(memory, nullptr);
  memory[kBytes - 1] = 1;
  EXPECT_EQ(memory[kBytes / 2], 0);
  UnmapMemory(memory, kBytes);
}

TEST(HugeMemoryTest, NullWhereTheSystemHasNone) { EXPECT_EQ(MapMemory(size_t{1} << 60), nullptr); }

TEST(HugeArrayTest, EmptyUntilAllocated) {
  HugeArray<int64_t> array;
  EXPECT_EQ(array.data(), nullptr);
  EXPECT_EQ(array.size(), 0u);
  EXPECT_EQ(array.bytes(), 0u);
}

TEST(HugeArrayTest, SizeCountsElementsAndBytesBytes) {
  HugeArray<int64_t> array;
  ASSERT_TRUE(array.Allocate(100));
  EXPECT_EQ(array.size(), 100u);
  EXPECT_EQ(array.bytes(), 800u);
  for (size_t i = 0; i < array.size(); ++i) EXPECT_EQ(array[i], 0);
  array[99] = 5;
  EXPECT_EQ(std::as_const(array)[99], 5);
  EXPECT_EQ(std::as_const(array).data()[99], 5);
}

TEST(HugeArrayTest, ZeroElements) {
  HugeArray<int64_t> array;
  EXPECT_TRUE(array.Allocate(0));
  EXPECT_EQ(array.size(), 0u);
  EXPECT_EQ(array.bytes(), 0u);
}

TEST(HugeArrayTest, FailedAllocationLeavesItEmpty) {
  HugeArray<char> array;
  EXPECT_FALSE(array.Allocate(size_t{1} << 60));
  EXPECT_EQ(array.data(), nullptr);
  EXPECT_EQ(array.size(), 0u);
  EXPECT_TRUE(array.Allocate(10));  // and it may be tried again with less
}

TEST(HugeArrayTest, MoveLeavesTheSourceEmpty) {
  HugeArray<int32_t> first;
  ASSERT_TRUE(first.Allocate(10));
  first[3] = 33;
  const int32_t* data = first.data();

  HugeArray<int32_t> second(std::move(first));
  EXPECT_EQ(first.data(), nullptr);  // NOLINT(bugprone-use-after-move): what it is about
  EXPECT_EQ(first.size(), 0u);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second[3], 33);

  HugeArray<int32_t> third;
  third = std::move(second);
  EXPECT_EQ(second.data(), nullptr);  // NOLINT(bugprone-use-after-move): what it is about
  EXPECT_EQ(second.size(), 0u);
  EXPECT_EQ(third.size(), 10u);
  EXPECT_EQ(third[3], 33);
  EXPECT_TRUE(second.Allocate(1));  // empty means empty: it may be used again
}

TEST(HugeArrayTest, MoveAssignmentOverAnArrayTakesTheNewOne) {
  HugeArray<int32_t> first;
  HugeArray<int32_t> second;
  ASSERT_TRUE(first.Allocate(10));
  ASSERT_TRUE(second.Allocate(20));
  second[19] = 19;
  first = std::move(second);
  EXPECT_EQ(first.size(), 20u);
  EXPECT_EQ(first[19], 19);
}

TEST(HugeArrayDeathTest, AllocatedTwice) {
  HugeArray<int32_t> array;
  ASSERT_TRUE(array.Allocate(1));
  EXPECT_DEATH(static_cast<void>(array.Allocate(1)), "allocated twice");
}

}  // namespace
}  // namespace quire
