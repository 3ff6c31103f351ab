// Every function of ptx.cuh on the host twin, in several orders of the threads.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/ptx_cases.cuh"
#include "tests/support/twin/twin.h"

namespace quire::testing {
namespace {

// Memory begins as NaN, so that a number that no one wrote is not taken for a right one.
class TwinLauncher {
 public:
  explicit TwinLauncher(uint64_t seed) : seed_(seed) {}

  template <typename T>
  T* Allocate(size_t count) {
    const size_t units = (count * sizeof(T) + 15) / 16;
    allocations_.push_back(std::make_unique<ptx::Vector16[]>(units));
    std::memset(static_cast<void*>(allocations_.back().get()), 0xff, 16 * units);
    return reinterpret_cast<T*>(allocations_.back().get());
  }
  template <typename Kernel, typename... Arguments>
  void Run(int blocks, int threads, size_t shared_bytes, Kernel kernel, Arguments... arguments) {
    twin::Launch({blocks, threads, shared_bytes}, seed_, kernel, arguments...);
  }

 private:
  uint64_t seed_;
  std::vector<std::unique_ptr<ptx::Vector16[]>> allocations_;
};

class TwinPtxTest : public ::testing::TestWithParam<int> {};

TEST_P(TwinPtxTest, DoesWhatTheManualSays) {
  TwinLauncher launcher(static_cast<uint64_t>(GetParam()));
  PtxCases<TwinLauncher> cases(launcher, static_cast<uint32_t>(GetParam()) + 1);
  for (const std::string& failure : cases.Run()) ADD_FAILURE() << failure;
}

INSTANTIATE_TEST_SUITE_P(Seeds, TwinPtxTest, ::testing::Range(0, 7));

}  // namespace
}  // namespace quire::testing
