// Ghosts: what is remembered of pages that were given up, found by their key.
//
// A set-associative table: a key belongs to one cache line of eight entries, and where those are
// full the oldest is forgotten. An entry keeps 32 bits of the key. Two keys that agree in those and
// in their line are taken for one: that costs a wrong count of uses, never a wrong page, and
// happens to about one lookup in 2^29.

#ifndef QUIRE_LIB_GHOSTS_H_
#define QUIRE_LIB_GHOSTS_H_

#include <cstdint>

#include "lib/huge_memory.h"

namespace quire {

struct Ghost {
  uint32_t tag = 0;
  uint16_t epoch = 0;  // when the page was last let go
  uint8_t page_class = 0;
  uint8_t uses = 0;  // 0: no entry
};

class Ghosts {
 public:
  // False if there is no memory. Room for about `count` keys, 8 bytes each.
  [[nodiscard]] bool Init(int64_t count);

  // Takes the entry of `key` out; uses == 0 if there is none.
  Ghost Take(uint64_t key);

  // Remembers `ghost` (its tag is set here) and returns what was forgotten for it, uses == 0 if
  // nothing was. `now` tells ages apart.
  Ghost Put(uint64_t key, Ghost ghost, uint16_t now);

  void Prefetch(uint64_t key) const { __builtin_prefetch(LineOf(key), 1); }
  int64_t bytes() const { return static_cast<int64_t>(entries_.bytes()); }

 private:
  static constexpr size_t kLine = 8;
  static uint32_t Tag(uint64_t key) { return static_cast<uint32_t>(key); }
  size_t LineIndex(uint64_t key) const {
    return static_cast<size_t>(((key >> 32) * static_cast<uint64_t>(lines_)) >> 32) * kLine;
  }
  Ghost* LineOf(uint64_t key) { return entries_.data() + LineIndex(key); }
  const Ghost* LineOf(uint64_t key) const { return entries_.data() + LineIndex(key); }

  size_t lines_ = 0;
  HugeArray<Ghost> entries_;
};

// Dates ghosts in pages indexed, coarsely: 64 epochs index as many pages as the pool has.
class GhostClock {
 public:
  GhostClock() = default;
  explicit GhostClock(int32_t page_count) : epoch_pages_(page_count / 64 + 1) {}
  void Tick() { ++indexed_; }
  uint16_t now() const { return static_cast<uint16_t>(indexed_ / epoch_pages_); }

 private:
  uint64_t indexed_ = 0;
  uint64_t epoch_pages_ = 1;
};

}  // namespace quire

#endif  // QUIRE_LIB_GHOSTS_H_
