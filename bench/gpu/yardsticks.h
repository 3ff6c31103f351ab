// Kernels that do one thing, as yardsticks for those that do more. The only code here that needs
// nvcc.

#ifndef QUIRE_BENCH_GPU_YARDSTICKS_H_
#define QUIRE_BENCH_GPU_YARDSTICKS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace quire::bench {

// All on BenchStream. `blocks`: thread blocks.

// One kernel that does nothing, in the grid of an attention call.
void LaunchEmpty(int blocks);

// Keeps the GPU busy while the host queues what is to be measured behind it.
void LaunchDelay(int64_t clocks);

// bfloat16 numbers of either sign with a size from 1/8 to 2.
void LaunchFill(void* memory, int64_t bytes);

// Reads every byte once. bytes: a multiple of 16.
void LaunchRead(const void* memory, int64_t bytes, int blocks, uint32_t* sink);

// Reads `run_bytes` at base + page_ids[i] * page_stride for i < count: what one layer's K and V of
// that many pages are, read with as little as can be done besides.
void LaunchReadRuns(const void* base, const int32_t* page_ids, int32_t count, int64_t page_stride,
                    int64_t run_bytes, int blocks, uint32_t* sink);

}  // namespace quire::bench

#endif  // QUIRE_BENCH_GPU_YARDSTICKS_H_
