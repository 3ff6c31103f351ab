#include "bench/micro/stream_rate.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

namespace quire::bench {
namespace {

// 64 bytes, summed lane by lane. Compilers lower it to the widest registers they may use; four
// independent sums of it keep enough loads in flight with any of them.
typedef uint64_t Line __attribute__((vector_size(64)));

// How far ahead to prefetch; 0: leave it to the processor. Which one is best differs between
// machines, and between a quiet and a busy one, so all are tried.
constexpr size_t kAhead[] = {0, 2048, 4096, 8192};

void Sum(const char* data, size_t bytes, size_t ahead, uint64_t* to) {
  Line sums[4] = {};
  const Line* lines = reinterpret_cast<const Line*>(data);
  for (size_t i = 0; i + 4 <= bytes / sizeof(Line); i += 4) {
    for (size_t j = 0; j < 4; ++j) {
      if (ahead != 0) __builtin_prefetch(data + (i + j) * sizeof(Line) + ahead);
      sums[j] += lines[i + j];
    }
  }
  const Line sum = sums[0] + sums[1] + sums[2] + sums[3];
  uint64_t total = 0;
  for (size_t lane = 0; lane < 8; ++lane) total += sum[lane];
  *to = total;
}

double SecondsOfOneRound(const HugeBuffer& buffer, int32_t threads, size_t ahead,
                         std::vector<uint64_t>& sums) {
  // All threads start together, and starting them is not measured.
  std::atomic<int32_t> ready{0};
  std::atomic<bool> go{false};
  const size_t part = buffer.size() / static_cast<size_t>(threads) / 4096 * 4096;
  std::vector<std::thread> team;
  for (int32_t i = 0; i < threads; ++i) {
    team.emplace_back([&, i] {
      ready.fetch_add(1);
      while (!go.load()) std::this_thread::yield();
      const auto index = static_cast<size_t>(i);
      Sum(buffer.data() + index * part, part, ahead, &sums[8 * index]);
    });
  }
  while (ready.load() != threads) std::this_thread::yield();
  const auto begin = std::chrono::steady_clock::now();
  go.store(true);
  for (std::thread& thread : team) thread.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

HugeBuffer::HugeBuffer(size_t bytes) : bytes_(bytes) {
  constexpr size_t kHuge = size_t{2} << 20;
  const size_t room = (bytes + kHuge - 1) / kHuge * kHuge;
  void* memory = std::aligned_alloc(kHuge, room);
  if (memory == nullptr) throw std::bad_alloc();
  madvise(memory, room, MADV_HUGEPAGE);
  std::memset(memory, 0, room);
  data_ = static_cast<char*>(memory);
}

HugeBuffer::~HugeBuffer() { std::free(data_); }

double ReadRate(const HugeBuffer& buffer, int32_t threads, int32_t rounds) {
  std::vector<uint64_t> sums(8 * static_cast<size_t>(threads));  // a cache line each
  double best = 1e30;
  for (int32_t i = 0; i < rounds; ++i) {
    for (const size_t ahead : kAhead) {
      best = std::min(best, SecondsOfOneRound(buffer, threads, ahead, sums));
    }
  }
  volatile uint64_t keep = sums[0];  // so that the sums are computed at all
  (void)keep;
  const size_t part = buffer.size() / static_cast<size_t>(threads) / 4096 * 4096;
  return static_cast<double>(part) * threads / best;
}

double ReadRate(int32_t threads, int32_t rounds) {
  static const HugeBuffer buffer(size_t{1} << 30);
  return ReadRate(buffer, threads, rounds);
}

}  // namespace quire::bench
