#include "kernels/check.h"

#include <algorithm>
#include <cstdint>

#include "kernels/schedule.h"

namespace quire {
namespace {

bool IsAligned(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

LaunchError CheckStrides(const KvStrides& strides) {
  if (strides.page < 0 || strides.head < 0 || strides.token < 0) return LaunchError::kBadArgument;
  const bool aligned = strides.page % 16 == 0 && strides.head % 16 == 0 && strides.token % 16 == 0;
  return aligned ? LaunchError::kOk : LaunchError::kMisaligned;
}

// The type, the shape of a head, and where K and V lie.
LaunchError CheckKv(const KvView& kv, DType dtype, int32_t kv_heads, int32_t head_dim) {
  if (kv_heads < 1 || head_dim < 1 || kv.page_count < 0) return LaunchError::kBadArgument;
  if (dtype != DType::kFloat32 && dtype != DType::kFloat16 && dtype != DType::kBFloat16) {
    return LaunchError::kUnsupported;
  }
  if (head_dim % 8 != 0 || head_dim > 256) return LaunchError::kUnsupported;
  if (!IsAligned(kv.k, 16) || !IsAligned(kv.v, 16)) return LaunchError::kMisaligned;
  if (const LaunchError e = CheckStrides(kv.k_strides); e != LaunchError::kOk) return e;
  return CheckStrides(kv.v_strides);
}

LaunchError CheckThreads(const Threads* threads) {
  if (threads == nullptr) return LaunchError::kOk;
  return threads->workers >= 1 && threads->run != nullptr ? LaunchError::kOk
                                                          : LaunchError::kBadArgument;
}

// The pages that a kernel would read for row i: inside the pool, and there at all.
bool RowPagesAreGood(const AttentionParams& params, const WorkShape& shape, int32_t row) {
  const PageTableView& table = params.table;
  const KeyRange keys = KeysOfRow(shape, row);
  if (keys.begin >= keys.end) return true;
  if (table.page_ids == nullptr || table.row_begin[row] < 0) return false;
  if (params.kv.k == nullptr || params.kv.v == nullptr) return false;
  const PageId* ids = table.page_ids + table.row_begin[row];
  const int64_t last = (keys.end - 1) / table.tokens_per_page;
  for (int64_t page = keys.begin / table.tokens_per_page; page <= last; ++page) {
    const int32_t id = static_cast<int32_t>(ids[page]);
    if (id < 0 || id >= params.kv.page_count) return false;
  }
  return true;
}

LaunchError CheckRows(const AttentionParams& params) {
  const PageTableView& table = params.table;
  if (table.batch == 0) return LaunchError::kOk;
  if (table.row_begin == nullptr || table.lengths == nullptr || params.query_begin == nullptr ||
      params.query_begin[0] != 0) {
    return LaunchError::kBadArgument;
  }
  const WorkShape shape = WorkShapeOf(params);
  for (int32_t row = 0; row < table.batch; ++row) {
    if (params.query_begin[row + 1] < params.query_begin[row]) return LaunchError::kBadArgument;
    const int32_t queries = params.query_begin[row + 1] - params.query_begin[row];
    if (table.lengths[row] < 0) return LaunchError::kBadArgument;
    if (params.causal && queries > table.lengths[row]) return LaunchError::kBadArgument;
    if (!RowPagesAreGood(params, shape, row)) return LaunchError::kBadArgument;
  }
  return LaunchError::kOk;
}

LaunchError CheckQueries(const AttentionParams& params) {
  const int64_t tokens = params.table.batch == 0 ? 0 : params.query_begin[params.table.batch];
  if (tokens == 0) return LaunchError::kOk;
  if (params.query == nullptr || params.output == nullptr) return LaunchError::kBadArgument;
  const int64_t bytes = tokens * params.query_heads * HeadBytes(params.dtype, params.head_dim);
  const auto query = reinterpret_cast<uintptr_t>(params.query);
  const auto output = reinterpret_cast<uintptr_t>(params.output);
  const bool apart = query + bytes <= output || output + bytes <= query;
  return apart ? LaunchError::kOk : LaunchError::kBadArgument;
}

}  // namespace

LaunchError CheckAttention(const AttentionParams& params) {
  if (params.table.batch < 0 || params.table.tokens_per_page < 1) return LaunchError::kBadArgument;
  if (params.query_heads < 1 || params.kv_heads < 1 || params.query_heads % params.kv_heads != 0) {
    return LaunchError::kBadArgument;
  }
  if (params.window < 0 || (!params.causal && params.window != 0) || !(params.soft_cap >= 0)) {
    return LaunchError::kBadArgument;
  }
  if (params.mode != ScheduleMode::kBatchInvariant && params.mode != ScheduleMode::kBalanced) {
    return LaunchError::kUnsupported;
  }
  LaunchError e = CheckKv(params.kv, params.dtype, params.kv_heads, params.head_dim);
  if (e == LaunchError::kOk) e = CheckThreads(params.threads);
  if (e == LaunchError::kOk) e = CheckRows(params);
  if (e == LaunchError::kOk) e = CheckQueries(params);
  return e;
}

LaunchError CheckWorkspace(const AttentionParams& params, int64_t needed) {
  if (params.workspace == nullptr) return LaunchError::kOk;
  if (!IsAligned(params.workspace, 64)) return LaunchError::kMisaligned;
  return params.workspace_bytes >= needed ? LaunchError::kOk : LaunchError::kWorkspaceTooSmall;
}

LaunchError CheckAppendKv(const AppendKvParams& params) {
  if (params.tokens_per_page < 1 || params.token_count < 0 || params.key_token_stride < 0 ||
      params.value_token_stride < 0) {
    return LaunchError::kBadArgument;
  }
  LaunchError e = CheckKv(params.kv, params.dtype, params.kv_heads, params.head_dim);
  if (e == LaunchError::kOk) e = CheckThreads(params.threads);
  if (e != LaunchError::kOk || params.token_count == 0) return e;
  if (params.slots == nullptr) return LaunchError::kBadArgument;
  const int64_t limit = int64_t{params.kv.page_count} * params.tokens_per_page;
  bool any = false;
  for (int32_t t = 0; t < params.token_count; ++t) {
    if (params.slots[t] < -1 || params.slots[t] >= limit) return LaunchError::kBadArgument;
    any = any || params.slots[t] >= 0;
  }
  const bool all_there = params.key != nullptr && params.value != nullptr &&
                         params.kv.k != nullptr && params.kv.v != nullptr;
  return all_there || !any ? LaunchError::kOk : LaunchError::kBadArgument;
}

LaunchError CheckCopyPages(const CopyPagesParams& params) {
  if (params.count < 0 || params.page_count < 0 || params.page_bytes < 0 ||
      params.page_bytes > params.page_stride) {
    return LaunchError::kBadArgument;
  }
  if (!IsAligned(params.base, 16) || params.page_stride % 16 != 0) return LaunchError::kMisaligned;
  if (const LaunchError e = CheckThreads(params.threads); e != LaunchError::kOk) return e;
  if (params.count == 0) return LaunchError::kOk;
  if (params.base == nullptr || params.from == nullptr || params.to == nullptr) {
    return LaunchError::kBadArgument;
  }
  const auto in_pool = [&](PageId page) {
    return static_cast<int32_t>(page) >= 0 && static_cast<int32_t>(page) < params.page_count;
  };
  const bool good = std::all_of(params.from, params.from + params.count, in_pool) &&
                    std::all_of(params.to, params.to + params.count, in_pool);
  return good ? LaunchError::kOk : LaunchError::kBadArgument;
}

const char* Describe(LaunchError error) {
  switch (error) {
    case LaunchError::kOk:
      return "ok";
    case LaunchError::kUnimplemented:
      return "this build has no kernels for that device";
    case LaunchError::kUnsupported:
      return "no kernel covers this type, head dimension or mode";
    case LaunchError::kBadArgument:
      return "a null pointer, a number out of range, or counts that disagree";
    case LaunchError::kMisaligned:
      return "a base address or stride is not a multiple of 16 bytes (workspace: 64)";
    case LaunchError::kWorkspaceTooSmall:
      return "the workspace is smaller than WorkspaceBytes";
  }
  return "unknown launch error";
}

}  // namespace quire
