#include "kernels/cpu/parallel.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace quire::cpu {
namespace {

#ifdef _OPENMP

int32_t DefaultWorkers() { return omp_get_max_threads(); }

void RunOnDefaultThreads(int32_t count, void (*task)(void* argument, int32_t i), void* argument) {
#pragma omp parallel for schedule(static, 1)
  for (int32_t i = 0; i < count; ++i) task(argument, i);
}

#else

int32_t DefaultWorkers() { return static_cast<int32_t>(std::thread::hardware_concurrency()); }

// Threads are started for every call: an engine that minds passes its own.
void RunOnDefaultThreads(int32_t count, void (*task)(void* argument, int32_t i), void* argument) {
  const int32_t workers = std::min(count, WorkerCount(nullptr));
  const auto run = [=](int32_t first) {
    for (int32_t i = first; i < count; i += workers) task(argument, i);
  };
  std::vector<std::thread> threads;
  int32_t started = 1;  // this one
  try {
    threads.reserve(static_cast<size_t>(workers));
    for (; started < workers; ++started) threads.emplace_back(run, started);
  } catch (const std::exception&) {
    // No memory, or no thread: what is left is done here.
  }
  run(0);
  for (int32_t w = started; w < workers; ++w) run(w);
  for (std::thread& thread : threads) thread.join();
}

#endif

}  // namespace

int32_t WorkerCount(const Threads* threads) {
  return std::clamp(threads != nullptr ? threads->workers : DefaultWorkers(), 1, 1024);
}

void RunTasks(const Threads* threads, int32_t count, void (*task)(void* argument, int32_t i),
              void* argument) {
  if (count == 1) {
    task(argument, 0);
  } else if (threads != nullptr) {
    threads->run(threads->context, count, task, argument);
  } else {
    RunOnDefaultThreads(count, task, argument);
  }
}

}  // namespace quire::cpu
