// CopyPages on any back end: whole pages, in pieces, from any pool; nothing written on bad input.

#ifndef QUIRE_TESTS_SUPPORT_COPY_PAGES_SUITE_H_
#define QUIRE_TESTS_SUPPORT_COPY_PAGES_SUITE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_memory.h"
#include "tests/support/random_bytes.h"

namespace quire::testing {

// Pools of bytes at random, and copies between their pages.
struct CopyPool {
  CopyPool(int32_t pages, int64_t stride, int64_t bytes) {
    memory = RandomBytes(pages * stride, 3);
    params.base = memory.data();
    params.page_stride = stride;
    params.page_bytes = bytes;
    params.page_count = pages;
  }
  void Copies(const std::vector<int32_t>& sources, const std::vector<int32_t>& targets) {
    for (const int32_t id : sources) from.push_back(PageId{id});
    for (const int32_t id : targets) to.push_back(PageId{id});
    params.count = static_cast<int32_t>(from.size());
    params.from = from.data();
    params.to = to.data();
  }
  // From now on the sources are pages of another pool of so many.
  void FromAnother(int32_t pages) {
    other = RandomBytes(std::max<int64_t>(pages * params.page_stride, 1), 4);
    params.from_base = other.data();
    params.from_page_count = pages;
  }
  // Pieces at multiples of this distance, the last one first; every pool grows by as much.
  void Pieces(int32_t count, int64_t distance) {
    for (int32_t p = count - 1; p >= 0; --p) offsets.push_back(p * distance);
    memory = RandomBytes(static_cast<int64_t>(memory.size()) + (count - 1) * distance, 5);
    params.base = memory.data();
    if (!other.empty()) {
      other = RandomBytes(static_cast<int64_t>(other.size()) + (count - 1) * distance, 6);
      params.from_base = other.data();
    }
    params.piece_count = count;
    params.piece_offsets = offsets.data();
  }
  TestVector<char> Expected() const {
    TestVector<char> want = memory;
    const TestVector<char>& source = other.empty() ? memory : other;
    for (size_t i = 0; i < from.size(); ++i) {
      for (const int64_t offset : offsets.empty() ? TestVector<int64_t>{0} : offsets) {
        std::copy_n(source.begin() + offset + PageOffset(from[i], params.page_stride),
                    params.page_bytes,
                    want.begin() + offset + PageOffset(to[i], params.page_stride));
      }
    }
    return want;
  }

  TestVector<char> memory;
  TestVector<char> other;
  std::vector<PageId> from;
  std::vector<PageId> to;
  TestVector<int64_t> offsets;
  CopyPagesParams params = {};
};

template <typename Backend>
void ExpectCopied(CopyPool& pool) {
  const TestVector<char> want = pool.Expected();
  const TestVector<char> source = pool.other;
  ASSERT_EQ(Backend::CopyPages(pool.params), LaunchError::kOk);
  EXPECT_EQ(pool.memory, want);
  EXPECT_EQ(pool.other, source);
}

template <typename Backend>
void ExpectCopyRefused(LaunchError want, const std::function<void(CopyPool&)>& spoil) {
  CopyPool pool(6, 256, 256);
  pool.Copies({0, 1, 2}, {3, 4, 5});
  spoil(pool);
  const TestVector<char> before = pool.memory;
  EXPECT_EQ(Backend::CopyPages(pool.params), want);
  EXPECT_EQ(pool.memory, before) << "pool written";
}

template <typename Backend>
class CopyPagesTest : public ::testing::Test {};
TYPED_TEST_SUITE_P(CopyPagesTest);

TYPED_TEST_P(CopyPagesTest, CopiesWholePagesAndNothingElse) {
  for (const int64_t bytes : {0, 1, 16, 100, 1000, 4096}) {
    CopyPool pool(12, 4096, bytes);
    pool.Copies({0, 3, 5, 11, 5}, {1, 4, 10, 2, 6});
    ExpectCopied<TypeParam>(pool);
  }
}

TYPED_TEST_P(CopyPagesTest, LargePages) {
  for (const int64_t bytes : {(1 << 17) - 16, (1 << 17) - 3, (1 << 16) + 16}) {
    CopyPool pool(3, 1 << 17, bytes);
    pool.Copies({2}, {0});
    ExpectCopied<TypeParam>(pool);
  }
}

TYPED_TEST_P(CopyPagesTest, MoreCopiesThanOneLaunchHolds) {
  constexpr int32_t kCopies = 4001;
  CopyPool pool(2 * kCopies, 32, 16);
  std::vector<int32_t> from;
  std::vector<int32_t> to;
  for (int32_t i = 0; i < kCopies; ++i) {
    from.push_back((i * 7) % kCopies);
    to.push_back(kCopies + i);
  }
  pool.Copies(from, to);
  ExpectCopied<TypeParam>(pool);
}

TYPED_TEST_P(CopyPagesTest, Pieces) {
  for (const int64_t bytes : {1, 64, 200}) {
    CopyPool pool(6, 256, bytes);
    pool.Copies({5, 0, 2}, {1, 3, 4});
    pool.Pieces(4, 6 * 256 + 48);
    ExpectCopied<TypeParam>(pool);
  }
}

TYPED_TEST_P(CopyPagesTest, FromAnotherPool) {
  for (const int32_t pages : {3, 9}) {  // fewer and more than the pool written to has
    CopyPool pool(6, 256, 100);
    pool.FromAnother(pages);
    pool.Copies({pages - 1, 0, 2}, {1, 0, 5});
    ExpectCopied<TypeParam>(pool);
  }
}

TYPED_TEST_P(CopyPagesTest, PiecesFromAnotherPool) {
  CopyPool pool(6, 256, 256);
  pool.FromAnother(9);
  pool.Copies({8, 0, 2}, {2, 0, 5});
  pool.Pieces(3, 9 * 256);
  ExpectCopied<TypeParam>(pool);
}

TYPED_TEST_P(CopyPagesTest, Zeros) {
  for (const int64_t bytes : {0, 1, 16, 100, 4000, 70007}) {
    CopyPool pool(6, 80000, bytes);
    pool.Copies({}, {1, 5, 2});
    pool.params.count = 3;
    pool.params.from = nullptr;
    pool.params.from_base = pool.memory.data() + 8;  // neither is looked at
    pool.params.from_page_count = -1;
    pool.params.zeros = true;
    pool.Pieces(2, 6 * 80000);
    TestVector<char> want = pool.memory;
    for (const PageId page : pool.to) {
      for (const int64_t offset : pool.offsets) {
        std::fill_n(want.begin() + offset + PageOffset(page, 80000), bytes, 0);
      }
    }
    ASSERT_EQ(TypeParam::CopyPages(pool.params), LaunchError::kOk);
    EXPECT_EQ(pool.memory, want);
    pool.params.piece_count = 0;
    ASSERT_EQ(TypeParam::CopyPages(pool.params), LaunchError::kOk);
    EXPECT_EQ(pool.memory, want);
  }
}

TYPED_TEST_P(CopyPagesTest, APageOntoItselfStays) {
  CopyPool pool(4, 256, 256);
  pool.Copies({2}, {2});
  ExpectCopied<TypeParam>(pool);
}

TYPED_TEST_P(CopyPagesTest, NoCopies) {
  CopyPool pool(4, 256, 256);
  EXPECT_EQ(TypeParam::CopyPages(pool.params), LaunchError::kOk);
  pool.params.base = nullptr;
  EXPECT_EQ(TypeParam::CopyPages(pool.params), LaunchError::kOk);
}

TYPED_TEST_P(CopyPagesTest, PoolBeyond4GiBytes) {
  constexpr int64_t kPage = 1 << 20;
  const Mapping memory(static_cast<size_t>(10000 * kPage));
  std::fill_n(memory.data() + 4998 * kPage, 4096, 'a');
  std::fill_n(memory.data() + 9998 * kPage, 4096, 'b');
  const PageId from[] = {PageId{4998}};
  const PageId to[] = {PageId{4999}};
  const TestVector<int64_t> offsets = {0, 5000 * kPage};
  CopyPagesParams params = {};
  params.base = memory.data();
  params.page_stride = kPage;
  params.page_bytes = 4096;
  params.page_count = 5000;
  params.count = 1;
  params.from = from;
  params.to = to;
  params.piece_count = 2;
  params.piece_offsets = offsets.data();
  ASSERT_EQ(TypeParam::CopyPages(params), LaunchError::kOk);
  EXPECT_EQ(std::count(memory.data() + 4999 * kPage, memory.data() + 5000 * kPage, 'a'), 4096);
  EXPECT_EQ(std::count(memory.data() + 9999 * kPage, memory.data() + 10000 * kPage, 'b'), 4096);
}

TYPED_TEST_P(CopyPagesTest, BadArgumentsWriteNothing) {
  const auto bad = [](const std::function<void(CopyPool&)>& spoil) {
    ExpectCopyRefused<TypeParam>(LaunchError::kBadArgument, spoil);
  };
  const auto misaligned = [](const std::function<void(CopyPool&)>& spoil) {
    ExpectCopyRefused<TypeParam>(LaunchError::kMisaligned, spoil);
  };
  bad([](CopyPool& p) { p.from.back() = PageId{6}; });
  bad([](CopyPool& p) { p.to.back() = PageId{6}; });
  bad([](CopyPool& p) { p.from.back() = kNoPage; });
  bad([](CopyPool& p) { p.to.back() = PageId{INT32_MIN}; });
  bad([](CopyPool& p) { p.params.count = -1; });
  bad([](CopyPool& p) { p.params.page_bytes = -1; });
  bad([](CopyPool& p) { p.params.page_bytes = 257; });
  bad([](CopyPool& p) { p.params.page_count = -1; });
  bad([](CopyPool& p) { p.params.base = nullptr; });
  bad([](CopyPool& p) { p.params.from = nullptr; });
  bad([](CopyPool& p) { p.params.to = nullptr; });
  bad([](CopyPool& p) { p.FromAnother(2); });  // copies from page 2
  bad([](CopyPool& p) {
    p.FromAnother(9);
    p.params.from_page_count = -1;
  });
  bad([](CopyPool& p) {
    p.FromAnother(9);
    p.to.back() = PageId{6};
  });
  bad([](CopyPool& p) { p.params.piece_count = -1; });
  bad([](CopyPool& p) { p.params.piece_count = 1; });
  bad([](CopyPool& p) {
    p.params.zeros = true;
    p.to.back() = PageId{6};
  });
  bad([](CopyPool& p) {
    p.params.zeros = true;
    p.params.to = nullptr;
  });
  misaligned([](CopyPool& p) { p.params.page_stride = 264; });
  misaligned([](CopyPool& p) { p.params.base = p.memory.data() + 8; });
  misaligned([](CopyPool& p) { p.params.from_base = p.memory.data() + 8; });
}

REGISTER_TYPED_TEST_SUITE_P(CopyPagesTest, CopiesWholePagesAndNothingElse, LargePages,
                            MoreCopiesThanOneLaunchHolds, Pieces, FromAnotherPool,
                            PiecesFromAnotherPool, Zeros, APageOntoItselfStays, NoCopies,
                            PoolBeyond4GiBytes, BadArgumentsWriteNothing);

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_COPY_PAGES_SUITE_H_
