// The threads of the engine, in the form that Quire's kernels take: matrix products and attention
// then run on the same ones.

#ifndef QUIRE_BENCH_ENGINE_THREADS_H_
#define QUIRE_BENCH_ENGINE_THREADS_H_

#include <cstdint>

#include "quire/attention.h"

namespace engine {

// workers == 1: everything runs on the calling thread. This is what small models want: a step is
// over in less time than it takes to wake a second thread on a busy machine. More: OpenMP's
// threads, or one where there is no OpenMP.
quire::Threads MakeThreads(int32_t workers);

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_THREADS_H_
