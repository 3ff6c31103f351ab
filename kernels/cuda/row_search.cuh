// The row of a query token.

#ifndef QUIRE_KERNELS_CUDA_ROW_SEARCH_CUH_
#define QUIRE_KERNELS_CUDA_ROW_SEARCH_CUH_

#include <cstdint>

#include "kernels/cuda/ptx.cuh"

namespace quire::cuda {

// The last row that begins at or before `token`: rows without queries before it are passed over.
// REQUIRES 0 <= token < query_begin[batch], which makes batch >= 1.
QUIRE_DEVICE int32_t RowOfToken(const int32_t* query_begin, int32_t batch, int32_t token) {
  int32_t low = 0;
  int32_t high = batch;
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    if (ptx::LoadConstant(query_begin + middle) <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ROW_SEARCH_CUH_
