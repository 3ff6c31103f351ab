// Argument checks that every back end shares, so that all of them answer bad input alike.
// Host code: reads the tables of the batch, never K, V or a query.

#ifndef QUIRE_KERNELS_CHECK_H_
#define QUIRE_KERNELS_CHECK_H_

#include "quire/attention.h"

namespace quire {

// Everything but the workspace. Also walks the page ids that a kernel would read.
LaunchError CheckAttention(const AttentionParams& params);
// The workspace alone: absent, or aligned and at least `needed` bytes.
LaunchError CheckWorkspace(const AttentionParams& params, int64_t needed);
LaunchError CheckAppendKv(const AppendKvParams& params);
LaunchError CheckCopyPages(const CopyPagesParams& params);

// Bytes of one token of one head.
constexpr int64_t HeadBytes(DType dtype, int32_t head_dim) {
  return int64_t{SizeOf(dtype)} * head_dim;
}

}  // namespace quire

#endif  // QUIRE_KERNELS_CHECK_H_
