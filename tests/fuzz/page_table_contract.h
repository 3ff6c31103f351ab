// include/quire/attention.h's contract of the CPU launchers, restated as plainly as can be: which
// calls are good, and which bytes a good call may touch. Nothing of kernels/ is used. Numbers are
// 128 bits wide, so that no product overflows.

#ifndef QUIRE_TESTS_FUZZ_PAGE_TABLE_CONTRACT_H_
#define QUIRE_TESTS_FUZZ_PAGE_TABLE_CONTRACT_H_

#include <algorithm>
#include <cstdint>
#include <functional>

#include "quire/attention.h"

namespace quire::fuzz {

using Wide = __int128;

inline bool Aligned(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

inline bool GoodDType(DType dtype) {
  const auto number = static_cast<int32_t>(dtype);
  return number >= 0 && number <= 2;
}

inline bool GoodHead(DType dtype, int32_t heads, int32_t head_dim) {
  return GoodDType(dtype) && heads >= 1 && head_dim >= 8 && head_dim <= 256 && head_dim % 8 == 0;
}

inline Wide HeadBytes(DType dtype, int32_t head_dim) { return Wide{SizeOf(dtype)} * head_dim; }

inline bool GoodThreads(const Threads* threads) {
  return threads == nullptr || (threads->workers >= 1 && threads->run != nullptr);
}

// Sizes beyond this no memory has: refused, whatever is there.
inline bool Possible(Wide bytes) { return bytes <= Wide{1} << 60; }

inline bool GoodView(const KvView& kv, int32_t heads, int32_t tokens_per_page) {
  for (const KvStrides& s : {kv.k_strides, kv.v_strides}) {
    for (const int64_t stride : {s.page, s.head, s.token}) {
      if (stride < 0 || stride % 16 != 0) return false;
    }
    if (!Possible(Wide{s.page} * kv.page_count) || !Possible(Wide{s.head} * heads) ||
        !Possible(Wide{s.token} * tokens_per_page)) {
      return false;
    }
  }
  return kv.page_count >= 0 && Aligned(kv.k, 16) && Aligned(kv.v, 16);
}

// Positions [begin, end) of a row.
struct Positions {
  int64_t begin, end;
};

// The keys that any of the row's queries sees.
inline Positions KeysSeen(const AttentionParams& p, int32_t row) {
  const int64_t length = p.table.lengths[row];
  const int64_t queries = int64_t{p.query_begin[row + 1]} - p.query_begin[row];
  if (queries <= 0) return {0, 0};
  if (!p.causal || p.window == 0) return {0, length};
  const int64_t first_sees_to = length - queries + 1;
  return {std::max<int64_t>(0, first_sees_to - p.window), length};
}

// The positions that a row's new tokens go to.
inline Positions NewTokens(const AppendKvParams& p, int32_t row) {
  const int64_t length = p.table.lengths[row];
  return {length - (int64_t{p.query_begin[row + 1]} - p.query_begin[row]), length};
}

inline bool GoodPages(const PageTableView& table, int32_t row, Positions at, int32_t page_count) {
  if (at.begin >= at.end) return true;
  if (table.page_ids == nullptr || table.row_begin[row] < 0) return false;
  for (int64_t page = at.begin / table.tokens_per_page;
       page <= (at.end - 1) / table.tokens_per_page; ++page) {
    const auto id = static_cast<int32_t>(table.page_ids[table.row_begin[row] + page]);
    if (id < 0 || id >= page_count) return false;
  }
  return true;
}

inline bool GoodAttentionNumbers(const AttentionParams& p) {
  const auto mode = static_cast<int32_t>(p.mode);
  return p.table.batch >= 0 && p.table.tokens_per_page >= 1 && p.query_heads >= 1 &&
         GoodHead(p.dtype, p.kv_heads, p.head_dim) && p.query_heads % p.kv_heads == 0 &&
         p.window >= 0 && (p.causal || p.window == 0) && p.soft_cap >= 0 && mode >= 0 &&
         mode <= 1 && GoodView(p.kv, p.kv_heads, p.table.tokens_per_page) && GoodThreads(p.threads);
}

inline Wide QueryBytes(const AttentionParams& p) {
  return p.table.batch == 0
             ? Wide{0}
             : Wide{p.query_begin[p.table.batch]} * p.query_heads * HeadBytes(p.dtype, p.head_dim);
}

// REQUIRES GoodAttentionNumbers. Everything but the workspace.
inline bool GoodAttention(const AttentionParams& p) {
  const PageTableView& table = p.table;
  if (table.batch == 0) return true;
  if (table.lengths == nullptr || table.row_begin == nullptr || p.query_begin == nullptr) {
    return false;
  }
  if (p.query_begin[0] != 0) return false;
  bool any_key = false;
  for (int32_t row = 0; row < table.batch; ++row) {
    const int64_t queries = int64_t{p.query_begin[row + 1]} - p.query_begin[row];
    if (queries < 0 || table.lengths[row] < 0) return false;
    if (p.causal && queries > table.lengths[row]) return false;
    const Positions keys = KeysSeen(p, row);
    if (!GoodPages(table, row, keys, p.kv.page_count)) return false;
    any_key = any_key || keys.begin < keys.end;
  }
  if (any_key && (p.kv.k == nullptr || p.kv.v == nullptr)) return false;
  const Wide bytes = QueryBytes(p);
  if (bytes == 0) return true;
  if (p.query == nullptr || p.output == nullptr || !Possible(bytes)) return false;
  const Wide query = reinterpret_cast<uintptr_t>(p.query);
  const Wide output = reinterpret_cast<uintptr_t>(p.output);
  return query + bytes <= output || output + bytes <= query;
}

inline bool GoodAppend(const AppendKvParams& p) {
  if (p.tokens_per_page < 1 || p.token_count < 0 || p.key_token_stride < 0 ||
      p.value_token_stride < 0 || !GoodHead(p.dtype, p.kv_heads, p.head_dim) ||
      !GoodView(p.kv, p.kv_heads, p.tokens_per_page) || !GoodThreads(p.threads)) {
    return false;
  }
  const Wide tokens = p.token_count;
  if (!Possible(tokens * p.key_token_stride) || !Possible(tokens * p.value_token_stride) ||
      !Possible(tokens * p.kv_heads * HeadBytes(p.dtype, p.head_dim))) {
    return false;
  }
  bool any = false;
  if (p.slots != nullptr) {
    for (int32_t t = 0; t < p.token_count; ++t) {
      if (p.slots[t] < -1 || p.slots[t] >= Wide{p.kv.page_count} * p.tokens_per_page) return false;
      any = any || p.slots[t] >= 0;
    }
  } else if (p.token_count > 0 || p.table.batch != 0) {
    if (p.table.batch < 0 || p.table.tokens_per_page != p.tokens_per_page) return false;
    if (p.table.batch > 0) {
      if (p.table.row_begin == nullptr || p.table.lengths == nullptr || p.query_begin == nullptr ||
          p.query_begin[0] != 0) {
        return false;
      }
      for (int32_t row = 0; row < p.table.batch; ++row) {
        const Positions added = NewTokens(p, row);
        if (added.begin < 0 || added.begin > added.end) return false;
        if (!GoodPages(p.table, row, added, p.kv.page_count)) return false;
      }
      if (p.query_begin[p.table.batch] > p.token_count) return false;
      any = p.query_begin[p.table.batch] > 0;
    }
  }
  return !any || (p.key != nullptr && p.value != nullptr && p.kv.k != nullptr && p.kv.v != nullptr);
}

// Calls visit(token, page, offset in the page) for each token that a good call writes.
inline void ForEachWrite(const AppendKvParams& p,
                         const std::function<void(int64_t, int64_t, int64_t)>& visit) {
  if (p.slots != nullptr) {
    for (int32_t t = 0; t < p.token_count; ++t) {
      if (p.slots[t] >= 0) visit(t, p.slots[t] / p.tokens_per_page, p.slots[t] % p.tokens_per_page);
    }
    return;
  }
  for (int32_t row = 0; row < p.table.batch; ++row) {
    const Positions tokens = NewTokens(p, row);
    for (int64_t at = tokens.begin; at < tokens.end; ++at) {
      const PageId page = p.table.page_ids[p.table.row_begin[row] + at / p.tokens_per_page];
      visit(p.query_begin[row] + at - tokens.begin, static_cast<int32_t>(page),
            at % p.tokens_per_page);
    }
  }
}

inline bool GoodCopy(const CopyPagesParams& p) {
  const int32_t from_pages = p.from_base == nullptr ? p.page_count : p.from_page_count;
  if (p.count < 0 || p.page_count < 0 || from_pages < 0 || p.page_bytes < 0 ||
      p.page_bytes > p.page_stride || p.page_stride % 16 != 0 || p.piece_count < 0 ||
      !Aligned(p.base, 16) || !Aligned(p.from_base, 16) || !GoodThreads(p.threads)) {
    return false;
  }
  if (p.piece_count > 0 && p.piece_offsets == nullptr) return false;
  if (!Possible(Wide{p.page_stride} * std::max({p.page_count, from_pages, 1}))) return false;
  for (int32_t i = 0; i < p.piece_count; ++i) {
    if (p.piece_offsets[i] < 0 || p.piece_offsets[i] % 16 != 0) return false;
    if (!Possible(p.piece_offsets[i])) return false;
  }
  if (p.count == 0) return true;
  if (p.base == nullptr || p.from == nullptr || p.to == nullptr) return false;
  for (int32_t i = 0; i < p.count; ++i) {
    const auto from = static_cast<int32_t>(p.from[i]), to = static_cast<int32_t>(p.to[i]);
    if (from < 0 || from >= from_pages || to < 0 || to >= p.page_count) return false;
  }
  return true;
}

// A result may be one of the parts, but not lie across one.
inline bool OnPartsOrApart(const void* result, const void* parts, Wide stride, Wide bytes,
                           int32_t part_count) {
  const Wide at = reinterpret_cast<uintptr_t>(result);
  for (int32_t i = 0; i < part_count; ++i) {
    const Wide part = Wide{reinterpret_cast<uintptr_t>(parts)} + stride * i;
    if (at != part && at < part + bytes && part < at + bytes) return false;
  }
  return true;
}

inline bool GoodMerge(const MergeParams& p) {
  if (p.token_count < 0 || p.part_count < 1 || p.output_stride < 0 || p.lse_stride < 0 ||
      p.output_stride % 16 != 0 || !GoodHead(p.dtype, p.heads, p.head_dim) ||
      !GoodThreads(p.threads) || !Aligned(p.outputs, 16) || !Aligned(p.output, 16)) {
    return false;
  }
  const Wide parts = p.part_count;
  if (!Possible(parts * p.output_stride) || !Possible(parts * p.lse_stride * 4) ||
      !Possible(parts * p.token_count * p.heads * HeadBytes(p.dtype, p.head_dim))) {
    return false;
  }
  if (p.token_count == 0) return true;
  if (p.outputs == nullptr || p.lses == nullptr || p.output == nullptr) return false;
  const Wide heads = Wide{p.token_count} * p.heads;
  const Wide bytes = heads * HeadBytes(p.dtype, p.head_dim);
  return OnPartsOrApart(p.output, p.outputs, p.output_stride, bytes, p.part_count) &&
         (p.lse == nullptr ||
          OnPartsOrApart(p.lse, p.lses, Wide{p.lse_stride} * 4, heads * 4, p.part_count));
}

}  // namespace quire::fuzz

#endif  // QUIRE_TESTS_FUZZ_PAGE_TABLE_CONTRACT_H_
