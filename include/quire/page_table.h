// The plain data at the waist of the design, half one: what a kernel needs to find K and V.
// (The other half is plan.h.) The manager fills these, kernels read them, neither sees the other.
// No Abseil here: kernels and .cu files include this header.

#ifndef QUIRE_PAGE_TABLE_H_
#define QUIRE_PAGE_TABLE_H_

#include <cstdint>

#include "quire/types.h"

namespace quire {

// Element type of keys and values.
enum class DType : int32_t { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

constexpr int32_t SizeOf(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

// The page tables of a batch, for one group. Two layouts are the same three pointers:
//   packed (CSR): rows follow one another; row i has ceil(lengths[i] / tokens_per_page) pages.
//   fixed rows:   row i begins at slot * row_stride, and a step only writes its new ids.
// Borrowed memory: all three arrays must outlive the kernel that reads them. Any thread may read
// them: no other sequence's row shares an entry with these (KvCache, "One writer").
struct PageTableView {
  const PageId* page_ids;    // logical page p of row i is page_ids[row_begin[i] + p]
  const int64_t* row_begin;  // [batch]
  const int32_t* lengths;    // [batch] tokens of each row, this step's new tokens included
  int32_t batch;
  int32_t tokens_per_page;
  // Entries at or past ceil(lengths[i] / tokens_per_page), and entries whose tokens all lie before
  // the window, may hold anything and are never read.
};

// Byte distances inside a pool. int64 because a pool is larger than 2^32 bytes.
struct KvStrides {
  int64_t page;
  int64_t head;
  int64_t token;
};

// Keys and values of ONE layer of one group. `k` and `v` already include the layer's offset; the
// head_dim values of a (page, head, token) are contiguous. K and V have strides of their own, so
// that any pool can be described: page-major, layer-major, token-major, an engine's own tensors.
struct KvView {
  void* k;
  void* v;
  KvStrides k_strides;
  KvStrides v_strides;
  int32_t page_count;
};

// The only place where a page becomes an offset. REQUIRES a page of a pool that exists: kernels
// call it for every page, so nothing is checked.
constexpr int64_t PageOffset(PageId page, int64_t page_stride) {
  return static_cast<int64_t>(page) * page_stride;
}

}  // namespace quire

#endif  // QUIRE_PAGE_TABLE_H_
