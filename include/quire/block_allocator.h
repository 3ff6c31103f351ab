// BlockAllocator: hands out fixed-size pages by number and owns every reference count.
//
// It is the only code that changes a count. It never touches page memory, so the same class serves
// any tier, and an engine that has its own prefix cache can use it alone.
//
// States of a page, and who moves it:
//
//            Allocate              Ref / Unref
//     free ───────────▶ live (refs >= 1) ◀──▶ ...
//      ▲                  │ Unref to zero
//      │ Free             ▼
//      └────────────── parked (refs == 0)  ──Ref──▶ live
//
// A parked page belongs to the caller, who either keeps it (a cached page of the prefix index) or
// gives it back with Free. Release does Unref and Free in one step for stand-alone use.
//
// Misuse (a page out of range, Unref below zero, Free of a page that is not parked) is a
// programmer's error and stops the process, in release builds too: a count that is silently wrong
// gives one user another user's memory. What is caught is a double release that reaches zero; a
// bare id cannot tell two holders of one page apart (Sequence handles can).
//
// Deterministic: a fresh allocator hands out 0, 1, 2, ...; afterwards the page freed last goes
// first, because its lines are warm. Not thread-safe.

#ifndef QUIRE_BLOCK_ALLOCATOR_H_
#define QUIRE_BLOCK_ALLOCATOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quire/types.h"

namespace quire {

class BlockAllocator {
 public:
  // kInvalidArgument unless 1 <= page_count <= 2^30. O(page_count) once; 8 bytes a page.
  static absl::StatusOr<BlockAllocator> Create(int32_t page_count);

  BlockAllocator(BlockAllocator&&) = default;  // the moved-from object may only be destroyed
  BlockAllocator& operator=(BlockAllocator&&) = default;

  // Takes out.size() pages, each with one reference. All or nothing: a bare kResourceExhausted
  // (no message, no heap allocation) if fewer are free, and then nothing has changed. O(n).
  absl::Status Allocate(std::span<PageId> out);

  // Adds a reference to a live or parked page. O(1).
  void Ref(PageId page) {
    const int32_t i = Checked(page);
    if (refs_[i] < 0) Misuse("Ref of a free page");
    ++refs_[i];
  }

  // Drops a reference; true if it was the last one, and the page is now parked. O(1).
  [[nodiscard]] bool Unref(PageId page) {
    const int32_t i = Checked(page);
    if (refs_[i] <= 0) Misuse("double release: Unref of a page without a reference");
    return --refs_[i] == 0;
  }

  // Parked -> free. O(1).
  void Free(PageId page) {
    const int32_t i = Checked(page);
    if (refs_[i] != 0) Misuse("Free of a page that is not parked");
    refs_[i] = kFree;
    free_pages_[free_count_++] = page;
  }

  // Unref, and Free if that was the last reference. O(1).
  void Release(PageId page) {
    if (Unref(page)) Free(page);
  }

  // Fetches the page's count into the processor's cache: on a large pool a walk over many pages is
  // bound by such misses. Nothing happens for a page outside the pool: the address is computed as a
  // number, because there a pointer would be undefined.
  void Prefetch(PageId page) const {
    const auto offset = static_cast<uintptr_t>(static_cast<int32_t>(page)) * sizeof(int32_t);
    __builtin_prefetch(
        reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(refs_.get()) + offset), 1);
  }

  // 0 for a parked page, -1 for a free one.
  int32_t refs(PageId page) const { return refs_[Checked(page)]; }
  int32_t page_count() const { return page_count_; }
  int32_t free_count() const { return free_count_; }

 private:
  static constexpr int32_t kFree = -1;

  explicit BlockAllocator(int32_t page_count);

  int32_t Checked(PageId page) const {
    const auto i = static_cast<int32_t>(page);
    if (i < 0 || i >= page_count_) Misuse("the page is not in the pool");
    return i;
  }

  // Says what was wrong and stops the process.
  [[noreturn]] static void Misuse(const char* what);

  int32_t page_count_ = 0;
  int32_t free_count_ = 0;
  struct Unmap {
    size_t bytes = 0;
    void operator()(void* memory) const;
  };
  std::unique_ptr<int32_t[], Unmap> refs_;       // [page_count] as refs() reports
  std::unique_ptr<PageId[], Unmap> free_pages_;  // [page_count] a stack, in use up to free_count_
};

}  // namespace quire

#endif  // QUIRE_BLOCK_ALLOCATOR_H_
