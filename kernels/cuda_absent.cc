// The cuda:: functions of a build without CUDA kernels that need a GPU: the build chooses this file
// or those of kernels/cuda/.

#include "quire/attention.h"

namespace quire::cuda {

LaunchError DescribeGpu(int32_t, Gpu*) { return LaunchError::kUnimplemented; }
LaunchError Attention(const AttentionParams&, void*) { return LaunchError::kUnimplemented; }
LaunchError AttentionPlain(const AttentionParams&, void*) { return LaunchError::kUnimplemented; }
LaunchError AppendKv(const AppendKvParams&, void*) { return LaunchError::kUnimplemented; }
LaunchError CopyPages(const CopyPagesParams&, void*) { return LaunchError::kUnimplemented; }
LaunchError Merge(const MergeParams&, void*) { return LaunchError::kUnimplemented; }

}  // namespace quire::cuda
