// The bytes of a fuzzer, read as whatever it needs; and how a fuzzer says that something is wrong.
//
// Bytes are used from the front, one for each small choice, so that a change of one byte changes
// one choice. When they are used up everything reads as 0.

#ifndef QUIRE_TESTS_FUZZ_FUZZ_INPUT_H_
#define QUIRE_TESTS_FUZZ_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace quire::fuzz {

[[noreturn]] inline void Broken(const std::string& what) {
  std::fprintf(stderr, "broken promise: %s\n", what.c_str());
  std::abort();
}

inline void Require(bool holds, const std::string& what) {
  if (!holds) Broken(what);
}

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }

  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }

  // [0, limit), limit at most 256.
  int Below(int limit) { return Byte() % limit; }
  bool OneIn(int n) { return Byte() % n == n - 1; }  // a used-up input says no

  uint64_t Number(int bytes) {
    uint64_t number = 0;
    for (int i = 0; i < bytes; ++i) number |= static_cast<uint64_t>(Byte()) << (8 * i);
    return number;
  }

  // Where mistakes are: small numbers, powers of two and their neighbours, the ends of the type;
  // and any number.
  int64_t AnyInt64() {
    const int kind = Byte();
    if (kind < 128) return kind % 32 - 4;
    if (kind < 144) return INT64_MIN + kind % 4;
    if (kind < 160) return INT64_MAX - kind % 4;
    if (kind < 224) return (int64_t{1} << (Byte() % 63)) + kind % 4 - 1;
    return static_cast<int64_t>(Number(8));
  }
  int32_t AnyInt32() {
    const int kind = Byte();
    if (kind < 128) return kind % 32 - 4;
    if (kind < 144) return INT32_MIN + kind % 4;
    if (kind < 160) return INT32_MAX - kind % 4;
    if (kind < 224) return (int32_t{1} << (kind % 31)) + Byte() % 3 - 1;
    return static_cast<int32_t>(Number(4));
  }

  // Mostly one of [least, least + count), now and then anything.
  int32_t Mostly(int32_t least, int32_t count) {
    const int byte = Byte();
    return byte < 232 ? least + byte % count : AnyInt32();
  }

  std::string Bytes(size_t count) {
    count = std::min(count, size_);
    std::string bytes(reinterpret_cast<const char*>(data_), count);
    data_ += count;
    size_ -= count;
    return bytes;
  }
  std::string Rest() { return Bytes(size_); }

 private:
  const uint8_t* data_;
  size_t size_;
};

// Named after what it is read from in libFuzzer's own examples: every fuzzer defines one.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

}  // namespace quire::fuzz

#endif  // QUIRE_TESTS_FUZZ_FUZZ_INPUT_H_
