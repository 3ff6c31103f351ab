#include "kernels/check.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "kernels/schedule.h"

namespace quire {
namespace {

bool IsAligned(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

// No address space has this many bytes. What claims more is a number out of range, and is refused
// before anything is computed from it; sums of four such do not overflow.
constexpr int64_t kMaxBytes = int64_t{1} << 60;

// Whether the product is at most kMaxBytes. Factors are not negative.
bool Fits(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  bool fits = true;
  for (const int64_t factor : factors) {
    if (factor == 0) return true;
    fits = fits && !__builtin_mul_overflow(product, factor, &product);
  }
  return fits && product <= kMaxBytes;
}

bool PoolFits(const KvStrides& strides, int32_t pages, int32_t heads, int32_t tokens) {
  return Fits({strides.page, pages}) && Fits({strides.head, heads}) &&
         Fits({strides.token, tokens});
}

LaunchError CheckStrides(const KvStrides& strides) {
  if (strides.page < 0 || strides.head < 0 || strides.token < 0) return LaunchError::kBadArgument;
  const bool aligned = strides.page % 16 == 0 && strides.head % 16 == 0 && strides.token % 16 == 0;
  return aligned ? LaunchError::kOk : LaunchError::kMisaligned;
}

LaunchError CheckHeads(DType dtype, int32_t heads, int32_t head_dim) {
  if (heads < 1 || head_dim < 1) return LaunchError::kBadArgument;
  if (dtype != DType::kFloat32 && dtype != DType::kFloat16 && dtype != DType::kBFloat16) {
    return LaunchError::kUnsupported;
  }
  if (head_dim % 8 != 0 || head_dim > 256) return LaunchError::kUnsupported;
  return LaunchError::kOk;
}

// The type, the shape of a head, and where K and V lie.
LaunchError CheckKv(const KvView& kv, DType dtype, int32_t kv_heads, int32_t head_dim,
                    int32_t tokens_per_page) {
  if (kv.page_count < 0) return LaunchError::kBadArgument;
  if (const LaunchError e = CheckHeads(dtype, kv_heads, head_dim); e != LaunchError::kOk) return e;
  if (!IsAligned(kv.k, 16) || !IsAligned(kv.v, 16)) return LaunchError::kMisaligned;
  if (const LaunchError e = CheckStrides(kv.k_strides); e != LaunchError::kOk) return e;
  if (const LaunchError e = CheckStrides(kv.v_strides); e != LaunchError::kOk) return e;
  const bool fits = PoolFits(kv.k_strides, kv.page_count, kv_heads, tokens_per_page) &&
                    PoolFits(kv.v_strides, kv.page_count, kv_heads, tokens_per_page);
  return fits ? LaunchError::kOk : LaunchError::kBadArgument;
}

LaunchError CheckThreads(const Threads* threads) {
  if (threads == nullptr) return LaunchError::kOk;
  return threads->workers >= 1 && threads->run != nullptr ? LaunchError::kOk
                                                          : LaunchError::kBadArgument;
}

bool InPool(PageId page, int32_t page_count) {
  return static_cast<int32_t>(page) >= 0 && static_cast<int32_t>(page) < page_count;
}

// The pages that hold the positions `keys` of a row: inside the pool, and there at all.
bool PagesAreGood(const PageTableView& table, int32_t page_count, int32_t row, KeyRange keys) {
  if (keys.begin >= keys.end) return true;
  if (table.page_ids == nullptr || table.row_begin[row] < 0) return false;
  const PageId* ids = table.page_ids + table.row_begin[row];
  const int64_t first = keys.begin / table.tokens_per_page;
  const int64_t last = (keys.end - 1) / table.tokens_per_page;
  return std::all_of(ids + first, ids + last + 1,
                     [&](PageId id) { return InPool(id, page_count); });
}

// K and V, unless no key is read.
LaunchError CheckKeys(const AttentionParams& params) {
  if (params.kv.k != nullptr && params.kv.v != nullptr) return LaunchError::kOk;
  const WorkShape shape = WorkShapeOf(params);
  for (int32_t row = 0; row < params.table.batch; ++row) {
    const KeyRange keys = KeysOfRow(shape, row);
    if (keys.begin < keys.end) return LaunchError::kBadArgument;
  }
  return LaunchError::kOk;
}

LaunchError CheckQueries(const AttentionParams& params) {
  const int64_t tokens = params.table.batch == 0 ? 0 : params.query_begin[params.table.batch];
  if (tokens == 0) return LaunchError::kOk;
  if (params.query == nullptr || params.output == nullptr ||
      !Fits({tokens, params.query_heads, HeadBytes(params.dtype, params.head_dim)})) {
    return LaunchError::kBadArgument;
  }
  const int64_t bytes = tokens * params.query_heads * HeadBytes(params.dtype, params.head_dim);
  const auto query = reinterpret_cast<uintptr_t>(params.query);
  const auto output = reinterpret_cast<uintptr_t>(params.output);
  const bool apart = query + bytes <= output || output + bytes <= query;
  return apart ? LaunchError::kOk : LaunchError::kBadArgument;
}

// Slots inside the pool or padding; `any`: one of them is no padding.
LaunchError CheckSlots(const AppendKvParams& params, bool* any) {
  const int64_t limit = int64_t{params.kv.page_count} * params.tokens_per_page;
  for (int32_t t = 0; t < params.token_count; ++t) {
    if (params.slots[t] < -1 || params.slots[t] >= limit) return LaunchError::kBadArgument;
    *any = *any || params.slots[t] >= 0;
  }
  return LaunchError::kOk;
}

// The rows of the table form; `any`: there is a token that is no padding.
LaunchError CheckAppendRows(const AppendKvParams& params, bool* any) {
  const PageTableView& table = params.table;
  if (table.batch == 0) return LaunchError::kOk;
  const int32_t* query_begin = params.query_begin;
  if (table.row_begin == nullptr || table.lengths == nullptr || query_begin == nullptr ||
      query_begin[0] != 0) {
    return LaunchError::kBadArgument;
  }
  for (int32_t row = 0; row < table.batch; ++row) {
    if (query_begin[row + 1] < query_begin[row]) return LaunchError::kBadArgument;
    const int32_t queries = query_begin[row + 1] - query_begin[row];
    const int64_t length = table.lengths[row];
    if (length < queries) return LaunchError::kBadArgument;
    if (!PagesAreGood(table, params.kv.page_count, row, {length - queries, length})) {
      return LaunchError::kBadArgument;
    }
  }
  *any = query_begin[table.batch] > 0;
  return query_begin[table.batch] <= params.token_count ? LaunchError::kOk
                                                        : LaunchError::kBadArgument;
}

// Whether two runs of this length are the same one, or share nothing.
bool SameOrApart(uintptr_t a, uintptr_t b, uintptr_t bytes) {
  return a == b || a + bytes <= b || b + bytes <= a;
}

// What is merged in place must lie on a part exactly: a token is written when its parts have been
// read, and no others'.
bool LiesOnParts(const void* result, const void* parts, uintptr_t stride, uintptr_t bytes,
                 int32_t part_count) {
  const auto at = reinterpret_cast<uintptr_t>(result);
  auto part = reinterpret_cast<uintptr_t>(parts);
  for (int32_t p = 0; p < part_count; ++p, part += stride) {
    if (!SameOrApart(at, part, bytes)) return false;
  }
  return true;
}

}  // namespace

LaunchError CheckAttentionShape(const AttentionParams& params) {
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
  const LaunchError e = CheckKv(params.kv, params.dtype, params.kv_heads, params.head_dim,
                                params.table.tokens_per_page);
  return e == LaunchError::kOk ? CheckThreads(params.threads) : e;
}

LaunchError CheckAttentionRows(const AttentionParams& params, bool pages) {
  const PageTableView& table = params.table;
  if (table.batch == 0) return LaunchError::kOk;
  if (table.lengths == nullptr || params.query_begin == nullptr || params.query_begin[0] != 0 ||
      (pages && table.row_begin == nullptr)) {
    return LaunchError::kBadArgument;
  }
  const WorkShape shape = WorkShapeOf(params);
  for (int32_t row = 0; row < table.batch; ++row) {
    if (params.query_begin[row + 1] < params.query_begin[row]) return LaunchError::kBadArgument;
    const int32_t queries = params.query_begin[row + 1] - params.query_begin[row];
    if (table.lengths[row] < 0) return LaunchError::kBadArgument;
    if (params.causal && queries > table.lengths[row]) return LaunchError::kBadArgument;
    if (pages && !PagesAreGood(table, params.kv.page_count, row, KeysOfRow(shape, row))) {
      return LaunchError::kBadArgument;
    }
  }
  return LaunchError::kOk;
}

LaunchError CheckAttention(const AttentionParams& params) {
  LaunchError e = CheckAttentionShape(params);
  if (e == LaunchError::kOk) e = CheckAttentionRows(params, true);
  if (e == LaunchError::kOk) e = CheckKeys(params);
  if (e == LaunchError::kOk) e = CheckQueries(params);
  return e;
}

LaunchError CheckWorkspace(const AttentionParams& params, int64_t needed) {
  if (params.workspace == nullptr) return LaunchError::kOk;
  if (!IsAligned(params.workspace, 64)) return LaunchError::kMisaligned;
  return params.workspace_bytes >= needed ? LaunchError::kOk : LaunchError::kWorkspaceTooSmall;
}

LaunchError CheckAppendKvShape(const AppendKvParams& params) {
  if (params.tokens_per_page < 1 || params.token_count < 0 || params.key_token_stride < 0 ||
      params.value_token_stride < 0) {
    return LaunchError::kBadArgument;
  }
  const bool nothing = params.token_count == 0 && params.table.batch == 0;
  const bool by_table = params.slots == nullptr && !nothing;
  if (by_table &&
      (params.table.batch < 0 || params.table.tokens_per_page != params.tokens_per_page)) {
    return LaunchError::kBadArgument;
  }
  const LaunchError e =
      CheckKv(params.kv, params.dtype, params.kv_heads, params.head_dim, params.tokens_per_page);
  if (e != LaunchError::kOk) return e;
  const int64_t tokens = params.token_count;
  const bool fits = Fits({tokens, params.key_token_stride}) &&
                    Fits({tokens, params.value_token_stride}) &&
                    Fits({tokens, params.kv_heads, HeadBytes(params.dtype, params.head_dim)});
  return fits ? CheckThreads(params.threads) : LaunchError::kBadArgument;
}

LaunchError CheckAppendKv(const AppendKvParams& params) {
  LaunchError e = CheckAppendKvShape(params);
  if (e != LaunchError::kOk) return e;
  bool any = false;
  e = params.slots != nullptr ? CheckSlots(params, &any) : CheckAppendRows(params, &any);
  if (e != LaunchError::kOk) return e;
  const bool all_there = params.key != nullptr && params.value != nullptr &&
                         params.kv.k != nullptr && params.kv.v != nullptr;
  return all_there || !any ? LaunchError::kOk : LaunchError::kBadArgument;
}

LaunchError CheckCopyPages(const CopyPagesParams& params, bool offsets) {
  if (params.count < 0 || params.page_count < 0 || params.page_bytes < 0 ||
      params.page_bytes > params.page_stride || params.piece_count < 0 ||
      (params.piece_count > 0 && params.piece_offsets == nullptr)) {
    return LaunchError::kBadArgument;
  }
  const bool reads = !params.zeros;
  const int32_t from_pages =
      params.from_base == nullptr ? params.page_count : params.from_page_count;
  if (reads && from_pages < 0) return LaunchError::kBadArgument;
  if (!Fits({params.page_stride, std::max({params.page_count, reads ? from_pages : 0, 1})})) {
    return LaunchError::kBadArgument;
  }
  if (!IsAligned(params.base, 16) || (reads && !IsAligned(params.from_base, 16)) ||
      params.page_stride % 16 != 0) {
    return LaunchError::kMisaligned;
  }
  for (int32_t p = 0; offsets && p < params.piece_count; ++p) {
    if (params.piece_offsets[p] < 0 || params.piece_offsets[p] > kMaxBytes) {
      return LaunchError::kBadArgument;
    }
    if (params.piece_offsets[p] % 16 != 0) return LaunchError::kMisaligned;
  }
  if (const LaunchError e = CheckThreads(params.threads); e != LaunchError::kOk) return e;
  if (params.count == 0) return LaunchError::kOk;
  if (params.base == nullptr || (reads && params.from == nullptr) || params.to == nullptr) {
    return LaunchError::kBadArgument;
  }
  for (int32_t i = 0; i < params.count; ++i) {
    if ((reads && !InPool(params.from[i], from_pages)) ||
        !InPool(params.to[i], params.page_count)) {
      return LaunchError::kBadArgument;
    }
  }
  return LaunchError::kOk;
}

LaunchError CheckMerge(const MergeParams& params) {
  if (params.token_count < 0 || params.part_count < 1 || params.output_stride < 0 ||
      params.lse_stride < 0) {
    return LaunchError::kBadArgument;
  }
  LaunchError e = CheckHeads(params.dtype, params.heads, params.head_dim);
  if (e == LaunchError::kOk) e = CheckThreads(params.threads);
  if (e != LaunchError::kOk) return e;
  const bool fits = Fits({params.part_count, params.output_stride}) &&
                    Fits({params.part_count, params.lse_stride, int64_t{sizeof(float)}}) &&
                    Fits({params.part_count, params.token_count, params.heads,
                          HeadBytes(params.dtype, params.head_dim)});
  if (!fits) return LaunchError::kBadArgument;
  if (!IsAligned(params.outputs, 16) || !IsAligned(params.output, 16) ||
      params.output_stride % 16 != 0) {
    return LaunchError::kMisaligned;
  }
  if (params.token_count == 0) return LaunchError::kOk;
  if (params.outputs == nullptr || params.lses == nullptr || params.output == nullptr) {
    return LaunchError::kBadArgument;
  }
  const int64_t lses = int64_t{params.token_count} * params.heads;
  const int64_t bytes = lses * HeadBytes(params.dtype, params.head_dim);
  constexpr uintptr_t kFloatBytes = sizeof(float);
  const bool good =
      LiesOnParts(params.output, params.outputs, static_cast<uintptr_t>(params.output_stride),
                  static_cast<uintptr_t>(bytes), params.part_count) &&
      LiesOnParts(params.lse, params.lses, static_cast<uintptr_t>(params.lse_stride) * kFloatBytes,
                  static_cast<uintptr_t>(lses) * kFloatBytes, params.part_count);
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
    case LaunchError::kNoGpu:
      return "no CUDA driver, or no GPU of that number";
    case LaunchError::kLaunchFailed:
      return "the CUDA runtime refused the launch";
  }
  return "unknown launch error";
}

}  // namespace quire
