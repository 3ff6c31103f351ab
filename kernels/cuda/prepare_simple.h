// The host part of the launchers of append, copy and merge: checks, and what the kernels are given.
// Pure host code, in every build.

#ifndef QUIRE_KERNELS_CUDA_PREPARE_SIMPLE_H_
#define QUIRE_KERNELS_CUDA_PREPARE_SIMPLE_H_

#include <cstdint>

#include "kernels/cuda/args.h"
#include "quire/attention.h"

namespace quire::cuda {

// Blocks of a launch, at most: a little more than the largest GPU runs at once (132 multiprocessors
// of 16 blocks), so that the last ones fill gaps; beyond, a block takes several units.
inline constexpr int32_t kMaxBlocks = 4096;

// 16-byte vectors of a token that a warp takes at a time: 4 a lane, all under way at once.
inline constexpr int32_t kAppendVectors = 128;

// Bytes that a block copies at a time: four rounds of its threads' four loads.
inline constexpr int32_t kCopyChunkBytes = 32768;

// Each: what is wrong, or kOk with the arguments of a launch of `blocks` blocks of kBlockThreads
// threads; 0: there is nothing to launch. The arrays are device memory and not looked at, but they
// must be there, since a launch cannot report that they are not.

// K, V, key and value must be 16-byte aligned, their strides multiples of 16.
LaunchError PrepareAppendKv(const AppendKvParams& params, AppendKvArgs* args, int32_t* blocks);

// The copies from number `first` on, as many as one launch takes: args->count. `first` 0 checks
// all.
LaunchError PrepareCopyPages(const CopyPagesParams& params, int32_t first, CopyPagesArgs* args,
                             int32_t* blocks);

LaunchError PrepareMerge(const MergeParams& params, MergeArgs* args, int32_t* blocks);

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_PREPARE_SIMPLE_H_
