// operator new, replaced for the whole program so that allocations can be counted. Of one thread:
// what is measured runs on one, and a shared counter would cost the others.

#include <cstdint>
#include <cstdlib>
#include <new>

#include "bench/micro/workloads.h"

namespace {

thread_local int64_t allocations = 0;

void* NotNull(void* memory) {
  if (memory == nullptr) std::abort();
  return memory;
}

// Out of line: inlined into a delete, gcc takes the free() in it for a mismatch with new.
[[gnu::noinline]] void Freed(void* memory) { std::free(memory); }

}  // namespace

// The standard library's other forms call these.
void* operator new(size_t bytes) {
  ++allocations;
  return NotNull(std::malloc(bytes == 0 ? 1 : bytes));
}
void* operator new(size_t bytes, std::align_val_t align) {
  ++allocations;
  const auto alignment = static_cast<size_t>(align);
  return NotNull(std::aligned_alloc(alignment, (bytes / alignment + 1) * alignment));
}
void operator delete(void* memory) noexcept { Freed(memory); }
void operator delete(void* memory, size_t) noexcept { Freed(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Freed(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { Freed(memory); }

namespace quire::bench {

int64_t Allocations() { return allocations; }

}  // namespace quire::bench
