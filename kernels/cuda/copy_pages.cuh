// Copies whole pages, or fills them with zeros. A block takes a chunk of one piece at a time; each
// thread keeps several loads in flight, because a copy is as fast as the bytes under way.

#ifndef QUIRE_KERNELS_CUDA_COPY_PAGES_CUH_
#define QUIRE_KERNELS_CUDA_COPY_PAGES_CUH_

#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/prepare_simple.h"
#include "kernels/cuda/ptx.cuh"
#include "quire/attention.h"

namespace quire::cuda {

// Bytes [begin, end) of a piece; only the end of a piece is no multiple of 16.
QUIRE_DEVICE void CopyChunk(const char* from, char* to, int64_t begin, int64_t end) {
  constexpr int kLoads = 4;
  const int64_t first = begin / int64_t{sizeof(ptx::Vector16)} + ptx::ThreadIndex();
  const int64_t vectors = end / int64_t{sizeof(ptx::Vector16)};
  const auto* source = reinterpret_cast<const ptx::Vector16*>(from);
  auto* target = reinterpret_cast<ptx::Vector16*>(to);
  for (int64_t at = first; at < vectors; at += kLoads * kBlockThreads) {
    ptx::Vector16 loaded[kLoads];
    QUIRE_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const int64_t v = at + i * kBlockThreads;
      if (v < vectors) loaded[i] = ptx::LoadStreaming(source + v);
    }
    QUIRE_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const int64_t v = at + i * kBlockThreads;
      if (v < vectors) target[v] = loaded[i];
    }
  }
  const int64_t tail = vectors * int64_t{sizeof(ptx::Vector16)} + ptx::ThreadIndex();
  if (tail < end) to[tail] = from[tail];
}

QUIRE_DEVICE void ZeroChunk(char* to, int64_t begin, int64_t end) {
  const int64_t vectors = end / int64_t{sizeof(ptx::Vector16)};
  auto* target = reinterpret_cast<ptx::Vector16*>(to);
  const int64_t first = begin / int64_t{sizeof(ptx::Vector16)} + ptx::ThreadIndex();
  for (int64_t at = first; at < vectors; at += kBlockThreads) target[at] = {};
  const int64_t tail = vectors * int64_t{sizeof(ptx::Vector16)} + ptx::ThreadIndex();
  if (tail < end) to[tail] = 0;
}

QUIRE_KERNEL(kBlockThreads, 8) CopyPagesKernel(QUIRE_PARAMETER(CopyPagesArgs) args) {
  for (int32_t unit = ptx::BlockIndex(); unit < args.units; unit += ptx::BlockCount()) {
    const int32_t run = args.chunks.Divide(unit);
    const int32_t chunk = unit - run * args.chunks.divisor();
    const int32_t copy = args.pieces.Divide(run);
    const int32_t piece = run - copy * args.pieces.divisor();
    const int64_t offset = args.piece_offsets == nullptr ? 0 : args.piece_offsets[piece];
    char* to = args.to_base + PageOffset(args.to[copy], args.page_stride) + offset;
    const int64_t begin = int64_t{chunk} * kCopyChunkBytes;
    const int64_t left = args.page_bytes - begin;
    const int64_t end = begin + (left < kCopyChunkBytes ? left : kCopyChunkBytes);
    if (args.from_base == nullptr) {
      ZeroChunk(to, begin, end);
      continue;
    }
    const char* from = args.from_base + PageOffset(args.from[copy], args.page_stride) + offset;
    if (from != to) CopyChunk(from, to, begin, end);
  }
}

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_COPY_PAGES_CUH_
