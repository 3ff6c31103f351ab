// Runs the tasks of one call on the caller's threads, or on OpenMP's.

#ifndef QUIRE_KERNELS_CPU_PARALLEL_H_
#define QUIRE_KERNELS_CPU_PARALLEL_H_

#include <cstdint>

#include "quire/attention.h"

namespace quire::cpu {

// How many tasks are worth making: the threads that would run at once, at most 1024.
int32_t WorkerCount(const Threads* threads);

// Calls task(argument, i) once for every i in [0, count) and returns when all are done.
void RunTasks(const Threads* threads, int32_t count, void (*task)(void* argument, int32_t i),
              void* argument);

// The same for a callable.
template <typename Task>
void ParallelFor(const Threads* threads, int32_t count, Task& task) {
  RunTasks(
      threads, count, [](void* argument, int32_t i) { (*static_cast<Task*>(argument))(i); }, &task);
}

}  // namespace quire::cpu

#endif  // QUIRE_KERNELS_CPU_PARALLEL_H_
