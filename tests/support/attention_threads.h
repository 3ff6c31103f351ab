// Threads for the kernels under test: as many at once as asked for, tasks in a shuffled order, so
// that nothing can rely on which task runs first or where.

#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_THREADS_H_
#define QUIRE_TESTS_SUPPORT_ATTENTION_THREADS_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "quire/attention.h"

namespace quire::testing {

class TestThreads {
 public:
  explicit TestThreads(int32_t workers, uint32_t seed = 1)
      : random_(seed), threads_{workers, this, &Run} {}
  TestThreads(const TestThreads&) = delete;
  TestThreads& operator=(const TestThreads&) = delete;

  const Threads* get() const { return &threads_; }

 private:
  static void Run(void* context, int32_t count, void (*task)(void* argument, int32_t i),
                  void* argument) {
    auto* self = static_cast<TestThreads*>(context);
    std::vector<int32_t> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), self->random_);
    std::atomic<size_t> next{0};
    std::vector<std::thread> team;
    for (int32_t w = 0; w < std::min(self->threads_.workers, count); ++w) {
      team.emplace_back([&] {
        for (size_t i = next++; i < order.size(); i = next++) task(argument, order[i]);
      });
    }
    for (std::thread& thread : team) thread.join();
  }

  std::mt19937 random_;
  Threads threads_;
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_THREADS_H_
