// CopyPages on the CPU: the suite of every back end, any number of threads, and offsets of pieces,
// which only a launcher that can read them refuses.

#include <cstdint>
#include <functional>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "tests/support/attention_threads.h"
#include "tests/support/copy_pages_suite.h"
#include "tests/support/kernel_backends.h"

namespace quire::testing {
namespace {

INSTANTIATE_TYPED_TEST_SUITE_P(Cpu, CopyPagesTest, CpuBackend);

TEST(CopyPagesCpuTest, ThreadsShareLargePagesAndManyPages) {
  for (const int32_t workers : {1, 2, 3, 7}) {
    TestThreads threads(workers);
    CopyPool large(3, 1 << 20, (1 << 20) - 16);
    large.Copies({2}, {0});
    large.params.threads = threads.get();
    ExpectCopied<CpuBackend>(large);

    CopyPool many(600, 4096, 4096);
    std::vector<int32_t> from;
    std::vector<int32_t> to;
    for (int32_t i = 0; i < 300; ++i) {
      from.push_back((i * 7) % 300);
      to.push_back(300 + i);
    }
    many.Copies(from, to);
    many.Pieces(3, 600 * 4096);
    many.params.threads = threads.get();
    ExpectCopied<CpuBackend>(many);
  }
}

TEST(CopyPagesCpuTest, BadOffsetsWriteNothing) {
  const auto refused = [](LaunchError want, int64_t offset) {
    ExpectCopyRefused<CpuBackend>(want, [=](CopyPool& p) {
      p.Pieces(3, 6 * 256);
      p.offsets.back() = offset;
    });
  };
  refused(LaunchError::kBadArgument, -16);
  refused(LaunchError::kMisaligned, 8);
}

}  // namespace
}  // namespace quire::testing
