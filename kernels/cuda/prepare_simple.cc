#include "kernels/cuda/prepare_simple.h"

#include <algorithm>
#include <cstdint>

#include "kernels/check.h"

namespace quire::cuda {
namespace {

constexpr int64_t kVectorBytes = 16;

int32_t BlocksFor(int64_t units, int64_t units_of_block) {
  const int64_t blocks = (units + units_of_block - 1) / units_of_block;
  return static_cast<int32_t>(std::min<int64_t>(blocks, kMaxBlocks));
}

bool IsVector(const void* pointer, int64_t stride) {
  return reinterpret_cast<uintptr_t>(pointer) % kVectorBytes == 0 && stride % kVectorBytes == 0;
}

}  // namespace

LaunchError PrepareAppendKv(const AppendKvParams& params, AppendKvArgs* args, int32_t* blocks) {
  *blocks = 0;
  if (const LaunchError e = CheckAppendKvShape(params); e != LaunchError::kOk) return e;
  if (!IsVector(params.key, params.key_token_stride) ||
      !IsVector(params.value, params.value_token_stride)) {
    return LaunchError::kMisaligned;
  }
  if (params.token_count == 0) return LaunchError::kOk;
  const PageTableView& table = params.table;
  const bool placed = params.slots != nullptr || table.batch == 0 ||
                      (table.page_ids != nullptr && table.row_begin != nullptr &&
                       table.lengths != nullptr && params.query_begin != nullptr);
  if (!placed || params.key == nullptr || params.value == nullptr || params.kv.k == nullptr ||
      params.kv.v == nullptr) {
    return LaunchError::kBadArgument;
  }
  const int64_t head_bytes = HeadBytes(params.dtype, params.head_dim);
  const int64_t token_bytes = params.kv_heads * head_bytes;
  if (token_bytes > INT32_MAX) return LaunchError::kUnsupported;

  *args = {.params = params,
           .vectors = static_cast<int32_t>(token_bytes / kVectorBytes),
           .chunks = 0,
           .pages = FastDivider(params.tokens_per_page),
           .head_vectors = FastDivider(static_cast<int32_t>(head_bytes / kVectorBytes))};
  args->chunks = (2 * args->vectors + kAppendVectors - 1) / kAppendVectors;
  if (params.key_token_stride == 0) args->params.key_token_stride = token_bytes;
  if (params.value_token_stride == 0) args->params.value_token_stride = token_bytes;
  *blocks = BlocksFor(int64_t{params.token_count} * args->chunks, kBlockWarps);
  return LaunchError::kOk;
}

LaunchError PrepareCopyPages(const CopyPagesParams& params, int32_t first, CopyPagesArgs* args,
                             int32_t* blocks) {
  *blocks = 0;
  args->count = 0;
  if (first == 0) {
    const LaunchError e = CheckCopyPages(params, /*offsets=*/false);
    if (e != LaunchError::kOk) return e;
  }
  if (first >= params.count || params.page_bytes == 0) return LaunchError::kOk;
  const int64_t pieces = std::max(1, params.piece_count);
  const int64_t chunks = (params.page_bytes + kCopyChunkBytes - 1) / kCopyChunkBytes;
  if (chunks > INT32_MAX / pieces) return LaunchError::kUnsupported;  // no memory is that large

  const int64_t units = pieces * chunks;
  args->count = static_cast<int32_t>(
      std::min({int64_t{params.count} - first, int64_t{kCopiesPerLaunch}, INT32_MAX / units}));
  args->to_base = static_cast<char*>(params.base);
  args->from_base =
      params.from_base == nullptr ? args->to_base : static_cast<const char*>(params.from_base);
  if (params.zeros) args->from_base = nullptr;
  args->page_stride = params.page_stride;
  args->page_bytes = params.page_bytes;
  args->piece_offsets = params.piece_count == 0 ? nullptr : params.piece_offsets;
  args->pieces = FastDivider(static_cast<int32_t>(pieces));
  args->chunks = FastDivider(static_cast<int32_t>(chunks));
  args->units = static_cast<int32_t>(args->count * units);
  if (!params.zeros) std::copy_n(params.from + first, args->count, args->from);
  std::copy_n(params.to + first, args->count, args->to);
  *blocks = BlocksFor(args->units, 1);
  return LaunchError::kOk;
}

LaunchError PrepareMerge(const MergeParams& params, MergeArgs* args, int32_t* blocks) {
  *blocks = 0;
  if (const LaunchError e = CheckMerge(params); e != LaunchError::kOk) return e;
  args->params = params;
  *blocks = BlocksFor(int64_t{params.token_count} * params.heads, kBlockWarps);
  return LaunchError::kOk;
}

}  // namespace quire::cuda
