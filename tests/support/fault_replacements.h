// Every operator new and delete, mmap, munmap, madvise and aligned_alloc of a program, replaced by
// ones that ask FaultHere. They are definitions: exactly one source of a program includes this.
// (In the support library they would find their way into every test.)

#ifndef QUIRE_TESTS_SUPPORT_FAULT_REPLACEMENTS_H_
#define QUIRE_TESTS_SUPPORT_FAULT_REPLACEMENTS_H_

#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "tests/support/fault_points.h"

namespace quire::testing {

// nullptr if it has to fail, or if there is none.
[[gnu::noinline]] inline void* FaultyNew(size_t bytes, size_t alignment) {
  if (FaultHere(FaultKind::kHeap)) return nullptr;
  void* memory = nullptr;
  if (alignment <= alignof(std::max_align_t)) {
    memory = std::malloc(std::max<size_t>(bytes, 1));
  } else if (posix_memalign(&memory, alignment, std::max<size_t>(bytes, 1)) != 0) {
    return nullptr;
  }
  if (memory != nullptr) CountHeap(static_cast<int64_t>(malloc_usable_size(memory)));
  return memory;
}

inline void* FaultyNewOrThrow(size_t bytes, size_t alignment) {
  void* memory = FaultyNew(bytes, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// Out of line: inlined into a delete, gcc takes the free() in it for a mismatch with new.
[[gnu::noinline]] inline void FaultyDelete(void* memory) {
  if (memory != nullptr) CountHeap(-static_cast<int64_t>(malloc_usable_size(memory)));
  std::free(memory);
}

}  // namespace quire::testing

// NOLINTBEGIN: the standard's declarations
void* operator new(size_t n) { return quire::testing::FaultyNewOrThrow(n, 1); }
void* operator new[](size_t n) { return quire::testing::FaultyNewOrThrow(n, 1); }
void* operator new(size_t n, const std::nothrow_t&) noexcept {
  return quire::testing::FaultyNew(n, 1);
}
void* operator new[](size_t n, const std::nothrow_t&) noexcept {
  return quire::testing::FaultyNew(n, 1);
}
void* operator new(size_t n, std::align_val_t a) {
  return quire::testing::FaultyNewOrThrow(n, static_cast<size_t>(a));
}
void* operator new[](size_t n, std::align_val_t a) {
  return quire::testing::FaultyNewOrThrow(n, static_cast<size_t>(a));
}
void* operator new(size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return quire::testing::FaultyNew(n, static_cast<size_t>(a));
}
void* operator new[](size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return quire::testing::FaultyNew(n, static_cast<size_t>(a));
}
void operator delete(void* p) noexcept { quire::testing::FaultyDelete(p); }
void operator delete[](void* p) noexcept { quire::testing::FaultyDelete(p); }
void operator delete(void* p, size_t) noexcept { quire::testing::FaultyDelete(p); }
void operator delete[](void* p, size_t) noexcept { quire::testing::FaultyDelete(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { quire::testing::FaultyDelete(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { quire::testing::FaultyDelete(p); }
void operator delete(void* p, std::align_val_t) noexcept { quire::testing::FaultyDelete(p); }
void operator delete[](void* p, std::align_val_t) noexcept { quire::testing::FaultyDelete(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept {
  quire::testing::FaultyDelete(p);
}
void operator delete[](void* p, size_t, std::align_val_t) noexcept {
  quire::testing::FaultyDelete(p);
}
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept {
  quire::testing::FaultyDelete(p);
}
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept {
  quire::testing::FaultyDelete(p);
}

// The program's own come before the C library's, and before a sanitizer's.
extern "C" {

void* mmap(void* address, size_t bytes, int protection, int flags, int file, off_t at) noexcept {
  if (quire::testing::FaultHere(quire::testing::FaultKind::kMap)) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  const long result =  // as syscall declares it
      syscall(SYS_mmap, address, bytes, protection, flags, file, at);
  auto* memory = reinterpret_cast<void*>(result);
  if (memory != MAP_FAILED) quire::testing::CountMapped(static_cast<int64_t>(bytes));
  return memory;
}

int munmap(void* address, size_t bytes) noexcept {
  quire::testing::CountMapped(-static_cast<int64_t>(bytes));
  return static_cast<int>(syscall(SYS_munmap, address, bytes));
}

int madvise(void* address, size_t bytes, int advice) noexcept {
  if (quire::testing::FaultHere(quire::testing::FaultKind::kAdvice)) {
    errno = EINVAL;
    return -1;
  }
  return static_cast<int>(syscall(SYS_madvise, address, bytes, advice));
}

void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  void* memory = nullptr;
  if (quire::testing::FaultHere(quire::testing::FaultKind::kAligned) ||
      posix_memalign(&memory, alignment, bytes) != 0) {
    errno = ENOMEM;
    return nullptr;
  }
  return memory;
}

}  // extern "C"
// NOLINTEND

#endif  // QUIRE_TESTS_SUPPORT_FAULT_REPLACEMENTS_H_
