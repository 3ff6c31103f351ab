// Arrays for the manager's bookkeeping, on huge OS pages where the system has them.
//
// At a million pages of KV the bookkeeping is tens of megabytes that are read at random, and with
// 4 KB OS pages most of the time of a lookup goes to address translation: a prototype measured
// 172-203 ns a page without huge pages and 52-53 ns with them. The address space is reserved at
// once and touched lazily, so a generous limit costs nothing until it is used.

#ifndef QUIRE_LIB_HUGE_MEMORY_H_
#define QUIRE_LIB_HUGE_MEMORY_H_

#include <cstddef>
#include <utility>

#include "lib/check.h"

namespace quire {

// Zeroed memory; nullptr if the system has none. Released with UnmapMemory(memory, bytes).
void* MapMemory(size_t bytes);
void UnmapMemory(void* memory, size_t bytes);

// A fixed-size array of a trivial type, zeroed, in mapped memory. Move-only.
template <typename T>
class HugeArray {
 public:
  HugeArray() = default;
  HugeArray(HugeArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  HugeArray& operator=(HugeArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~HugeArray() {
    if (data_ != nullptr) UnmapMemory(data_, size_ * sizeof(T));
  }

  // False if the system has no memory. Only on an empty array.
  [[nodiscard]] bool Allocate(size_t size) {
    QUIRE_CHECK(data_ == nullptr, "allocated twice");
    data_ = static_cast<T*>(MapMemory(size * sizeof(T)));
    if (data_ != nullptr) size_ = size;
    return data_ != nullptr;
  }

  T& operator[](size_t i) {
    QUIRE_DCHECK(i < size_, "index out of range");
    return data_[i];
  }
  const T& operator[](size_t i) const {
    QUIRE_DCHECK(i < size_, "index out of range");
    return data_[i];
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace quire

#endif  // QUIRE_LIB_HUGE_MEMORY_H_
