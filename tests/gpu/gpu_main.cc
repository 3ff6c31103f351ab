// main of the tests that need a GPU: skips all of them where there is none, and gives the suites
// memory that processor and GPU both reach.

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string_view>

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

void* AllocatePinned(size_t bytes) {
  void* memory = nullptr;
  const unsigned flags = cudaHostAllocPortable | cudaHostAllocMapped;
  return cudaHostAlloc(&memory, bytes, flags) == cudaSuccess ? memory : nullptr;
}

void ReleasePinned(void* memory, size_t /*bytes*/) { cudaFreeHost(memory); }

// Virtual machines may have a GPU without managed memory, or with one that does not work.
bool ManagedMemoryWorks() {
  constexpr size_t kBytes = 4096;
  auto* const memory = static_cast<char*>(AllocateManaged(kBytes));
  if (memory == nullptr) return false;
  memory[7] = 1;
  const bool written = cudaMemset(memory, 2, kBytes) == cudaSuccess &&
                       cudaDeviceSynchronize() == cudaSuccess && memory[7] == 2;
  cudaFree(memory);
  return written;
}

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
  // QUIRE_GPU_TEST_MEMORY=pinned: the other kind.
  const char* const kind = std::getenv("QUIRE_GPU_TEST_MEMORY");
  if ((kind == nullptr || std::string_view(kind) != "pinned") && ManagedMemoryWorks()) {
    MemoryForTests() = {AllocateManaged, ReleaseManaged, /*guards=*/false};
  } else {
    std::printf("tests use pinned host memory\n");
    cudaGetLastError();  // what the attempt left
    MemoryForTests() = {AllocatePinned, ReleasePinned, /*guards=*/false};
  }
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace quire::testing

int main(int argc, char** argv) { return quire::testing::Run(argc, argv); }
