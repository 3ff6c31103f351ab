#include "lib/huge_memory.h"

#include <sys/mman.h>

namespace quire {

namespace {
// Below this, rounding up to a huge OS page would waste more than translation costs.
constexpr size_t kHugeThreshold = size_t{4} << 20;
}  // namespace

void* MapMemory(size_t bytes) {
  if (bytes == 0) bytes = 1;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  // Advice only: a system without huge pages is slower, not wrong.
  if (bytes >= kHugeThreshold) madvise(memory, bytes, MADV_HUGEPAGE);
  return memory;
}

void UnmapMemory(void* memory, size_t bytes) {
  if (memory != nullptr) munmap(memory, bytes == 0 ? 1 : bytes);
}

}  // namespace quire
