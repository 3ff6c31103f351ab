#include "quire/block_allocator.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "lib/check.h"
#include "lib/huge_memory.h"
#include "lib/out_of_memory.h"

namespace quire {

namespace {

constexpr int32_t kMaxPages = 1 << 30;

template <typename T>
T* Map(int32_t count) {
  return static_cast<T*>(MapMemory(static_cast<size_t>(count) * sizeof(T)));
}

}  // namespace

void BlockAllocator::Unmap::operator()(void* memory) const { UnmapMemory(memory, bytes); }

absl::StatusOr<BlockAllocator> BlockAllocator::Create(int32_t page_count) {
  if (page_count < 1 || page_count > kMaxPages) {
    return OrBare(absl::StatusCode::kInvalidArgument, [&] {
      return absl::InvalidArgumentError(
          absl::StrCat("page_count is ", page_count, "; it must be 1 to ", kMaxPages));
    });
  }
  BlockAllocator allocator(page_count);
  if (allocator.refs_ == nullptr || allocator.free_pages_ == nullptr) {
    return OrBare(absl::StatusCode::kResourceExhausted, [&] {
      return absl::ResourceExhaustedError(
          absl::StrCat("no memory for the counts of ", page_count, " pages; lower page_count"));
    });
  }
  for (int32_t i = 0; i < page_count; ++i) {
    allocator.refs_[i] = kFree;
    // The stack is popped from its end, so that a fresh pool hands out 0, 1, 2, ...
    allocator.free_pages_[i] = PageId{page_count - 1 - i};
  }
  return allocator;
}

BlockAllocator::BlockAllocator(int32_t page_count)
    : page_count_(page_count),
      free_count_(page_count),
      refs_(Map<int32_t>(page_count), Unmap{static_cast<size_t>(page_count) * sizeof(int32_t)}),
      free_pages_(Map<PageId>(page_count),
                  Unmap{static_cast<size_t>(page_count) * sizeof(PageId)}) {}

absl::Status BlockAllocator::Allocate(std::span<PageId> out) {
  const auto count = static_cast<int64_t>(out.size());
  if (count > free_count_) return absl::Status(absl::StatusCode::kResourceExhausted, "");
  free_count_ -= static_cast<int32_t>(count);
  const PageId* top = free_pages_.get() + free_count_;
  // At a million pages every count is a cache miss of its own: have the misses overlap.
  constexpr int64_t kAhead = 16;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kAhead < count) {
      __builtin_prefetch(&refs_[static_cast<int32_t>(top[count - 1 - i - kAhead])], 1);
    }
    const PageId page = top[count - 1 - i];
    refs_[static_cast<int32_t>(page)] = 1;
    out[i] = page;
  }
  return absl::OkStatus();
}

[[gnu::cold]] void BlockAllocator::Misuse(const char* what) {
  CheckFailed(__FILE__, __LINE__, "BlockAllocator", what);
}

}  // namespace quire
