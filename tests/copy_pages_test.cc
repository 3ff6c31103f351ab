// CopyPages: whole pages, whatever the number of threads; nothing written on bad input.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_memory.h"
#include "tests/support/attention_threads.h"

namespace quire {
namespace {

using testing::Mapping;
using testing::TestThreads;

struct Pool {
  explicit Pool(int32_t pages, int64_t stride, int64_t bytes)
      : memory(static_cast<size_t>(pages * stride)) {
    std::mt19937 random(3);
    for (char& c : memory) c = static_cast<char>(random());
    params = {.base = memory.data(),
              .page_stride = stride,
              .page_bytes = bytes,
              .page_count = pages,
              .count = 0,
              .from = nullptr,
              .to = nullptr,
              .threads = nullptr};
  }
  void Copies(std::vector<int32_t> sources, std::vector<int32_t> targets) {
    for (const int32_t id : sources) from.push_back(PageId{id});
    for (const int32_t id : targets) to.push_back(PageId{id});
    params.count = static_cast<int32_t>(from.size());
    params.from = from.data();
    params.to = to.data();
  }
  std::vector<char> Expected() const {
    std::vector<char> want = memory;
    for (size_t i = 0; i < from.size(); ++i) {
      std::copy_n(memory.begin() + PageOffset(from[i], params.page_stride), params.page_bytes,
                  want.begin() + PageOffset(to[i], params.page_stride));
    }
    return want;
  }

  std::vector<char> memory;
  std::vector<PageId> from;
  std::vector<PageId> to;
  CopyPagesParams params;
};

TEST(CopyPagesTest, CopiesWholePagesAndNothingElse) {
  for (const int64_t bytes : {0, 1, 100, 4096}) {
    Pool pool(12, 4096, bytes);
    pool.Copies({0, 3, 5, 11, 5}, {1, 4, 10, 2, 6});
    const std::vector<char> want = pool.Expected();
    ASSERT_EQ(cpu::CopyPages(pool.params), LaunchError::kOk);
    EXPECT_EQ(pool.memory, want);
  }
}

TEST(CopyPagesTest, ThreadsShareLargePagesAndManyPages) {
  for (const int32_t workers : {1, 2, 3, 7}) {
    TestThreads threads(workers);
    Pool large(3, 1 << 20, (1 << 20) - 16);
    large.Copies({2}, {0});
    large.params.threads = threads.get();
    std::vector<char> want = large.Expected();
    ASSERT_EQ(cpu::CopyPages(large.params), LaunchError::kOk);
    EXPECT_EQ(large.memory, want);

    Pool many(600, 4096, 4096);
    std::vector<int32_t> from;
    std::vector<int32_t> to;
    for (int32_t i = 0; i < 300; ++i) {
      from.push_back((i * 7) % 300);
      to.push_back(300 + i);
    }
    many.Copies(from, to);
    many.params.threads = threads.get();
    want = many.Expected();
    ASSERT_EQ(cpu::CopyPages(many.params), LaunchError::kOk);
    EXPECT_EQ(many.memory, want);
  }
}

TEST(CopyPagesTest, APageOntoItselfStays) {
  Pool pool(4, 256, 256);
  pool.Copies({2}, {2});
  const std::vector<char> want = pool.memory;
  ASSERT_EQ(cpu::CopyPages(pool.params), LaunchError::kOk);
  EXPECT_EQ(pool.memory, want);
}

TEST(CopyPagesTest, NoCopies) {
  Pool pool(4, 256, 256);
  EXPECT_EQ(cpu::CopyPages(pool.params), LaunchError::kOk);
  pool.params.base = nullptr;
  EXPECT_EQ(cpu::CopyPages(pool.params), LaunchError::kOk);
}

TEST(CopyPagesTest, PoolBeyond4GiBytes) {
  constexpr int64_t kPage = 1 << 20;
  const Mapping memory(static_cast<size_t>(5000 * kPage));
  std::fill_n(memory.data() + 4998 * kPage, kPage, 'a');
  const PageId from[] = {PageId{4998}};
  const PageId to[] = {PageId{4999}};
  const CopyPagesParams params = {.base = memory.data(),
                                  .page_stride = kPage,
                                  .page_bytes = kPage,
                                  .page_count = 5000,
                                  .count = 1,
                                  .from = from,
                                  .to = to,
                                  .threads = nullptr};
  ASSERT_EQ(cpu::CopyPages(params), LaunchError::kOk);
  EXPECT_EQ(std::count(memory.data() + 4999 * kPage, memory.data() + 5000 * kPage, 'a'), kPage);
}

TEST(CopyPagesTest, BadArgumentsWriteNothing) {
  const auto refused = [](LaunchError want, const std::function<void(Pool&)>& spoil) {
    Pool pool(6, 256, 256);
    pool.Copies({0, 1, 2}, {3, 4, 5});
    const std::vector<char> before = pool.memory;
    spoil(pool);
    EXPECT_EQ(cpu::CopyPages(pool.params), want);
    EXPECT_EQ(pool.memory, before) << "pool written";
  };
  const auto bad = [&](const std::function<void(Pool&)>& spoil) {
    refused(LaunchError::kBadArgument, spoil);
  };
  bad([](Pool& p) { p.from.back() = PageId{6}; });
  bad([](Pool& p) { p.to.back() = PageId{6}; });
  bad([](Pool& p) { p.from.back() = kNoPage; });
  bad([](Pool& p) { p.to.back() = PageId{INT32_MIN}; });
  bad([](Pool& p) { p.params.count = -1; });
  bad([](Pool& p) { p.params.page_bytes = -1; });
  bad([](Pool& p) { p.params.page_bytes = 257; });
  bad([](Pool& p) { p.params.page_count = -1; });
  bad([](Pool& p) { p.params.base = nullptr; });
  bad([](Pool& p) { p.params.from = nullptr; });
  bad([](Pool& p) { p.params.to = nullptr; });
  refused(LaunchError::kMisaligned, [](Pool& p) { p.params.page_stride = 264; });
  refused(LaunchError::kMisaligned, [](Pool& p) { p.params.base = p.memory.data() + 8; });
}

}  // namespace
}  // namespace quire
