// How fast this machine reads memory now: the yardstick for kernels that read every byte once.

#ifndef QUIRE_BENCH_MICRO_STREAM_RATE_H_
#define QUIRE_BENCH_MICRO_STREAM_RATE_H_

#include <cstddef>
#include <cstdint>

namespace quire::bench {

// Memory that the operating system backs with huge OS pages where it can, already written once, so
// that a measurement meets neither page faults nor more address translation than it must.
class HugeBuffer {
 public:
  explicit HugeBuffer(size_t bytes);
  ~HugeBuffer();
  HugeBuffer(const HugeBuffer&) = delete;
  HugeBuffer& operator=(const HugeBuffer&) = delete;

  char* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  char* data_;
  size_t bytes_;
};

// Bytes a second, the best of `rounds` sums over `buffer`, each thread over its own part.
double ReadRate(const HugeBuffer& buffer, int32_t threads, int32_t rounds = 3);

// The same over a buffer of 1 GB that is made once and kept.
double ReadRate(int32_t threads, int32_t rounds = 3);

}  // namespace quire::bench

#endif  // QUIRE_BENCH_MICRO_STREAM_RATE_H_
