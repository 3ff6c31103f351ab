// Argument checks that every back end shares, so that all of them answer bad input alike.
// Host code. On a GPU the arrays of a batch are device memory, which it cannot read: so what needs
// the numbers alone is a function of its own (...Shape). Nothing here reads K, V, a query or a
// part.

#ifndef QUIRE_KERNELS_CHECK_H_
#define QUIRE_KERNELS_CHECK_H_

#include "quire/attention.h"

namespace quire {

// The numbers, types, strides and alignments, the mode and the threads. Every array may be null.
LaunchError CheckAttentionShape(const AttentionParams& params);
// lengths and query_begin. REQUIRES CheckAttentionShape. `pages`: also row_begin and the page ids
// that a kernel would read; otherwise these two may be null or unreadable.
LaunchError CheckAttentionRows(const AttentionParams& params, bool pages);
// Both, with the pages, and that K, V, query and output are there: everything but the workspace.
LaunchError CheckAttention(const AttentionParams& params);
// The workspace alone: absent, or aligned and at least `needed` bytes.
LaunchError CheckWorkspace(const AttentionParams& params, int64_t needed);

// As CheckAttentionShape.
LaunchError CheckAppendKvShape(const AppendKvParams& params);
// Everything: also the slots, or the table.
LaunchError CheckAppendKv(const AppendKvParams& params);

// `offsets`: piece_offsets is host memory, and looked at; otherwise it only must be there.
LaunchError CheckCopyPages(const CopyPagesParams& params, bool offsets);

// Everything: it needs no array, only their addresses.
LaunchError CheckMerge(const MergeParams& params);

// Bytes of one token of one head.
constexpr int64_t HeadBytes(DType dtype, int32_t head_dim) {
  return int64_t{SizeOf(dtype)} * head_dim;
}

}  // namespace quire

#endif  // QUIRE_KERNELS_CHECK_H_
