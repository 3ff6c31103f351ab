#include "engine/threads.h"

namespace engine {
namespace {

using Task = void (*)(void* argument, int32_t i);

void RunHere(void*, int32_t count, Task task, void* argument) {
  for (int32_t i = 0; i < count; ++i) task(argument, i);
}

#ifdef _OPENMP
void RunOpenMp(void* context, int32_t count, Task task, void* argument) {
  // The number of workers is all there is to remember, so it travels in the pointer itself.
  const int workers = static_cast<int>(reinterpret_cast<intptr_t>(context));
#pragma omp parallel for num_threads(workers) schedule(dynamic)
  for (int32_t i = 0; i < count; ++i) task(argument, i);
}
#endif

}  // namespace

quire::Threads MakeThreads(int32_t workers) {
#ifdef _OPENMP
  if (workers > 1) {
    return {workers, reinterpret_cast<void*>(static_cast<intptr_t>(workers)), RunOpenMp};
  }
#endif
  (void)workers;
  return {1, nullptr, RunHere};
}

}  // namespace engine
