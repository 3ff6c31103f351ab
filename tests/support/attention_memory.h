// Memory that makes a wrong access visible: arrays that end where nothing may be read, and pools
// larger than 2^32 bytes of which only the touched OS pages exist. A GPU's tests put memory of
// their own behind it, which both sides can touch.

#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_MEMORY_H_
#define QUIRE_TESTS_SUPPORT_ATTENTION_MEMORY_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace quire::testing {

// Where what kernels read and write comes from: by default the OS, zero-filled and never backed
// before it is written. `guards`: access to it can be forbidden.
struct TestMemory {
  void* (*allocate)(size_t bytes);
  void (*release)(void* memory, size_t bytes);
  bool guards;
};

inline TestMemory& MemoryForTests() {
  static TestMemory memory = {[](size_t bytes) {
                                void* base =
                                    mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                                return base == MAP_FAILED ? nullptr : base;
                              },
                              [](void* memory, size_t bytes) { munmap(memory, bytes); }, true};
  return memory;
}

// For vectors that kernels read and write.
template <typename T>
struct TestAllocator {
  using value_type = T;
  TestAllocator() = default;
  template <typename U>
  explicit TestAllocator(const TestAllocator<U>&) {}
  T* allocate(size_t count) {
    if (MemoryForTests().guards) return std::allocator<T>().allocate(count);
    return static_cast<T*>(MemoryForTests().allocate(count * sizeof(T)));
  }
  void deallocate(T* memory, size_t count) {
    if (MemoryForTests().guards) return std::allocator<T>().deallocate(memory, count);
    MemoryForTests().release(memory, count * sizeof(T));
  }
  friend bool operator==(const TestAllocator&, const TestAllocator&) { return true; }
};
template <typename T>
using TestVector = std::vector<T, TestAllocator<T>>;

// A run of that memory.
class Mapping {
 public:
  Mapping() = default;
  explicit Mapping(size_t bytes) : bytes_(bytes) {
    if (bytes != 0) base_ = MemoryForTests().allocate(bytes);
  }
  Mapping(Mapping&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping() {
    if (base_ != nullptr) MemoryForTests().release(base_, bytes_);
  }

  char* data() const { return static_cast<char*>(base_); }
  size_t size() const { return bytes_; }

 private:
  void* base_ = nullptr;
  size_t bytes_ = 0;
};

// A copy of an array whose last element is followed by an OS page that cannot be read.
template <typename T>
class GuardedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  GuardedArray() = default;
  explicit GuardedArray(std::span<const T> values) {
    const auto os_page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = values.size_bytes();
    const size_t room = (bytes + os_page - 1) / os_page * os_page;
    mapping_ = Mapping(room + os_page);
    if (MemoryForTests().guards) mprotect(mapping_.data() + room, os_page, PROT_NONE);
    data_ = reinterpret_cast<T*>(mapping_.data() + room - bytes);
    if (bytes != 0) std::memcpy(data_, values.data(), bytes);
  }

  T* data() const { return data_; }

 private:
  Mapping mapping_;
  T* data_ = nullptr;
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_MEMORY_H_
