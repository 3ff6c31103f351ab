// Every function of ptx.cuh on a GPU. Managed memory, because the cases read and write it from both
// sides.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cuda_runtime.h"
#include "gtest/gtest.h"
#include "tests/support/ptx_cases.cuh"

namespace quire::testing {
namespace {

class GpuLauncher {
 public:
  GpuLauncher() = default;
  ~GpuLauncher() {
    for (void* const allocation : allocations_) cudaFree(allocation);
  }
  GpuLauncher(const GpuLauncher&) = delete;
  GpuLauncher& operator=(const GpuLauncher&) = delete;

  template <typename T>
  T* Allocate(size_t count) {
    void* memory = nullptr;
    Expect(cudaMallocManaged(&memory, count * sizeof(T)));
    allocations_.push_back(memory);
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

  std::vector<void*> allocations_;
};

TEST(PtxTest, DoesWhatTheManualSays) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no GPU";
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    GpuLauncher launcher;
    PtxCases<GpuLauncher> cases(launcher, seed);
    for (const std::string& failure : cases.Run())
      ADD_FAILURE() << "seed " << seed << ": " << failure;
  }
}

}  // namespace
}  // namespace quire::testing
