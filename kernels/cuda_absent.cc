// The cuda:: launchers of a build without CUDA kernels: the build chooses this file or the real
// ones.

#include "quire/attention.h"

namespace quire::cuda {

LaunchError Attention(const AttentionParams&, void*) { return LaunchError::kUnimplemented; }
LaunchError AppendKv(const AppendKvParams&, void*) { return LaunchError::kUnimplemented; }
LaunchError CopyPages(const CopyPagesParams&, void*) { return LaunchError::kUnimplemented; }

}  // namespace quire::cuda
