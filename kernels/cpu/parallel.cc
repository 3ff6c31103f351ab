#include "kernels/cpu/parallel.h"

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace quire::cpu {

int32_t WorkerCount(const Threads* threads) {
  int32_t workers = 1;
  if (threads != nullptr) {
    workers = threads->workers;
  } else {
#ifdef _OPENMP
    workers = omp_get_max_threads();
#endif
  }
  return std::clamp(workers, 1, 1024);
}

void RunTasks(const Threads* threads, int32_t count, void (*task)(void* argument, int32_t i),
              void* argument) {
  if (count == 1) {
    task(argument, 0);
  } else if (threads != nullptr) {
    threads->run(threads->context, count, task, argument);
  } else {
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 1)
#endif
    for (int32_t i = 0; i < count; ++i) task(argument, i);
  }
}

}  // namespace quire::cpu
