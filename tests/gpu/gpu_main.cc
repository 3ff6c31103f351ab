// main of the tests that need a GPU: skips all of them where there is none, and gives the suites
// memory that processor and GPU both reach.

#include <cstddef>
#include <cstdio>

#include "cuda_runtime_api.h"
#include "gtest/gtest.h"
#include "tests/support/attention_memory.h"

namespace quire::testing {
namespace {

constexpr int kSkipped = 77;  // ctest's SKIP_RETURN_CODE, see CMakeLists.txt

void* AllocateManaged(size_t bytes) {
  void* memory = nullptr;
  return cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal) == cudaSuccess ? memory : nullptr;
}

void ReleaseManaged(void* memory, size_t /*bytes*/) { cudaFree(memory); }

int Run(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (::testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  int gpus = 0;
  const cudaError_t error = cudaGetDeviceCount(&gpus);
  if (error != cudaSuccess || gpus == 0) {
    std::printf("skipped: no GPU (%s)\n", cudaGetErrorString(error));
    return kSkipped;
  }
  // The processor may touch such memory while the GPU is idle: every launch of the suites waits.
  MemoryForTests() = {AllocateManaged, ReleaseManaged, /*guards=*/false};
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace quire::testing

int main(int argc, char** argv) { return quire::testing::Run(argc, argv); }
