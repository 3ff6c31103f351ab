#include <cuda_runtime.h>

#include <cstdint>

#include "bench/gpu/cuda_util.h"
#include "bench/gpu/yardsticks.h"

namespace quire::bench {
namespace {

constexpr int kThreads = 512;
constexpr int kInFlight = 4;  // loads of 16 bytes that a thread has under way

__global__ void Empty() {}

__global__ void Delay(long long clocks) {
  const long long begin = clock64();
  while (clock64() - begin < clocks) {
  }
}

// Two bfloat16: sign and fraction at random, exponents 124 to 127.
__device__ uint32_t TwoNumbers(uint64_t index) {
  uint64_t bits = (index + 1) * 0x9e3779b97f4a7c15u;
  bits = (bits ^ bits >> 31) * 0xbf58476d1ce4e5b9u;
  const auto random = static_cast<uint32_t>(bits >> 32);
  return (random & 0x81ff81ffu) | 0x3e003e00u;
}

__global__ void Fill(uint4* memory, int64_t words) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words; i += step) {
    const auto n = static_cast<uint64_t>(4 * i);
    memory[i] = make_uint4(TwoNumbers(n), TwoNumbers(n + 1), TwoNumbers(n + 2), TwoNumbers(n + 3));
  }
}

__device__ uint32_t Folded(uint4 word) { return word.x ^ word.y ^ word.z ^ word.w; }

// Never true of what Fill wrote often enough to matter; the compiler cannot know.
__device__ void Use(uint32_t folded, uint32_t* sink) {
  if (folded == 0x12345677u) *sink = folded;
}

__global__ void __launch_bounds__(kThreads)
    Read(const uint4* __restrict__ memory, int64_t words, uint32_t* sink) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  uint32_t folded = 0;
  for (; i + (kInFlight - 1) * step < words; i += kInFlight * step) {
    uint4 read[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) read[j] = __ldcs(memory + i + j * step);
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) folded ^= Folded(read[j]);
  }
  for (; i < words; i += step) folded ^= Folded(__ldcs(memory + i));
  Use(folded, sink);
}

// Word w of all runs, counted through: as Read, but for where a word lies. Runs are powers of two.
__global__ void __launch_bounds__(kThreads)
    ReadRuns(const char* __restrict__ base, const int32_t* __restrict__ page_ids, int64_t words,
             int run_words_log2, int64_t page_stride, uint32_t* sink) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  uint32_t folded = 0;
  const auto read_word = [&](int64_t word) {
    const int64_t run = word >> run_words_log2;
    const int64_t in_run = word - (run << run_words_log2);
    const char* from = base + int64_t{__ldg(page_ids + run)} * page_stride;
    return __ldcs(reinterpret_cast<const uint4*>(from) + in_run);
  };
  for (; i + (kInFlight - 1) * step < words; i += kInFlight * step) {
    uint4 read[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) read[j] = read_word(i + j * step);
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) folded ^= Folded(read[j]);
  }
  for (; i < words; i += step) folded ^= Folded(read_word(i));
  Use(folded, sink);
}

unsigned Unsigned(int blocks) { return static_cast<unsigned>(blocks); }

}  // namespace

void LaunchEmpty(int blocks) {
  Empty<<<Unsigned(blocks), 128, 0, BenchStream()>>>();
  Check(cudaGetLastError(), "an empty kernel");
}

void LaunchDelay(int64_t clocks) {
  Delay<<<1, 1, 0, BenchStream()>>>(clocks);
  Check(cudaGetLastError(), "a delay");
}

void LaunchFill(void* memory, int64_t bytes) {
  Fill<<<4096, kThreads, 0, BenchStream()>>>(static_cast<uint4*>(memory), bytes / 16);
  Check(cudaGetLastError(), "filling memory");
}

void LaunchRead(const void* memory, int64_t bytes, int blocks, uint32_t* sink) {
  Read<<<Unsigned(blocks), kThreads, 0, BenchStream()>>>(static_cast<const uint4*>(memory),
                                                         bytes / 16, sink);
  Check(cudaGetLastError(), "reading memory");
}

void LaunchReadRuns(const void* base, const int32_t* page_ids, int32_t count, int64_t page_stride,
                    int64_t run_bytes, int blocks, uint32_t* sink) {
  int log2 = 0;
  while ((int64_t{16} << log2) < run_bytes) ++log2;
  ReadRuns<<<Unsigned(blocks), kThreads, 0, BenchStream()>>>(
      static_cast<const char*>(base), page_ids, int64_t{count} << log2, log2, page_stride, sink);
  Check(cudaGetLastError(), "reading pages");
}

}  // namespace quire::bench
