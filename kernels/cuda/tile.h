// The shapes of the tensor-core kernels, for kernels and launchers alike.
//
// One thread block works on one tile of 64 keys at a time. Its four warps each copy 16 of the
// tile's tokens; what they compute depends on the item:
//
//   decode tile    up to 16 query rows. Each warp multiplies all of them with its own 16 tokens,
//                  and waits for nobody: the ring of stages is its own. Warps meet where a split
//                  ends.
//   prefill tile   up to 128 (64) query rows. Each warp owns 32 (16) of them and multiplies them
//                  with all 64 tokens, so the block waits once a tile.
//
// A query row is a pair (query token, query head of the group): row = token * group + head.
//
// Shared memory, the same for both:
//
//   stage s:  K of 64 tokens | V of 64 tokens      rows of head_dim elements, swizzled
//   decode    kStages stages: 96 KB (head_dim 64, 128), 128 KB (256)
//   prefill   2 stages, then the queries
//
// Sizes: 32 KB of loads in flight are needed for every multiprocessor (Little's law at 32 bytes a
// nanosecond and 1 microsecond); two blocks with two stages in flight have 128 KB. 96 KB also fits
// the 99 KB of sm_86 and sm_89.

#ifndef QUIRE_KERNELS_CUDA_TILE_H_
#define QUIRE_KERNELS_CUDA_TILE_H_

#include <cstdint>

#include "kernels/schedule.h"

namespace quire::cuda {

// Threads of a block, in every kernel.
inline constexpr int kBlockWarps = 4;
inline constexpr int kBlockThreads = 32 * kBlockWarps;

// Tokens of a tile that one warp copies, and in a decode tile multiplies.
inline constexpr int kSliceTokens = kTileTokens / kBlockWarps;

// Query rows of a decode tile: those of one mma.
inline constexpr int kDecodeRows = 16;

// Elements of two bytes. head_dim 64, 128 or 256.
struct TileShape {
  int head_dim;

  constexpr int row_bytes() const { return 2 * head_dim; }
  constexpr int matrix_bytes() const { return kTileTokens * row_bytes(); }
  constexpr int stage_bytes() const { return 2 * matrix_bytes(); }
  constexpr int stages() const { return head_dim == 64 ? 6 : head_dim == 128 ? 3 : 2; }
  // Blocks of 16 query rows that a warp owns in a prefill tile. With two of them K and V are read
  // from shared memory half as often; at head_dim 256 their sums would not fit into registers.
  constexpr int prefill_fragments() const { return head_dim == 256 ? 1 : 2; }
  constexpr int prefill_rows() const { return 16 * kBlockWarps * prefill_fragments(); }
  constexpr int query_offset() const { return 2 * stage_bytes(); }
  constexpr int shared_bytes() const {
    const int decode = stages() * stage_bytes();
    const int prefill = query_offset() + prefill_rows() * row_bytes();
    return decode > prefill ? decode : prefill;
  }
  // Thread blocks that a multiprocessor is to hold: what registers allow.
  constexpr int blocks() const { return head_dim == 256 ? 1 : 2; }
};

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_TILE_H_
