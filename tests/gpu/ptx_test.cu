// Every function of ptx.cuh on a GPU, over memory that both sides reach (gpu_main.cc), because the
// cases read and write it from both.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cuda_runtime.h"
#include "gtest/gtest.h"
#include "tests/support/attention_memory.h"
#include "tests/support/ptx_cases.cuh"

namespace quire::testing {
namespace {

class GpuLauncher {
 public:
  GpuLauncher() = default;
  ~GpuLauncher() {
    for (const auto& [memory, bytes] : allocations_) MemoryForTests().release(memory, bytes);
  }
  GpuLauncher(const GpuLauncher&) = delete;
  GpuLauncher& operator=(const GpuLauncher&) = delete;

  template <typename T>
  T* Allocate(size_t count) {
    void* const memory = MemoryForTests().allocate(count * sizeof(T));
    if (memory == nullptr) Expect(cudaErrorMemoryAllocation);
    allocations_.emplace_back(memory, count * sizeof(T));
    std::memset(memory, 0xff, count * sizeof(T));
    return static_cast<T*>(memory);
  }
  template <typename Kernel, typename... Arguments>
  void Run(int blocks, int threads, size_t shared_bytes, Kernel kernel, Arguments... arguments) {
    kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared_bytes>>>(
        arguments...);
    Expect(cudaGetLastError());
    Expect(cudaDeviceSynchronize());
  }

 private:
  // Nothing can be compared after an error: it stays with the context.
  static void Expect(cudaError_t error) {
    if (error == cudaSuccess) return;
    ADD_FAILURE() << cudaGetErrorString(error);
    std::abort();
  }

  std::vector<std::pair<void*, size_t>> allocations_;
};

TEST(PtxTest, DoesWhatTheManualSays) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    GpuLauncher launcher;
    PtxCases<GpuLauncher> cases(launcher, seed);
    for (const std::string& failure : cases.Run())
      ADD_FAILURE() << "seed " << seed << ": " << failure;
  }
}

}  // namespace
}  // namespace quire::testing
