// Times of replayed CUDA graphs, by events.

#ifndef QUIRE_BENCH_GPU_MEASURE_H_
#define QUIRE_BENCH_GPU_MEASURE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "bench/gpu/cuda_util.h"

namespace quire::bench {

struct Timing {
  double median_us = 0;
  double p95_us = 0;
  int samples = 0;
};

// At least as many bytes lie between two reads of the same ones, so that the L2 cache (50 to 60 MB
// on Hopper, 126 MB on Blackwell) holds nothing of them.
inline constexpr int64_t kColdBytes = int64_t{256} << 20;

// Problems of `bytes` that are used in turn, so that each is cold; `room` bytes hold them all.
int32_t ColdCopies(int64_t bytes, int64_t room);

// Queues `count` pieces of work in turn, each `calls` calls long: microseconds a call. 50 samples,
// fewer where they would take longer than 0.2 seconds, but 9 at least. Before each sample the GPU
// is kept busy, so that nothing waits for the host.
Timing Measure(size_t count, int32_t calls, const std::function<void(size_t)>& queue);

// One graph for each copy, or, where a call is short, one graph of all copies: then the sample is a
// mean over calls that follow one another as a model's layers do, and the launch of the graph
// counts for little. `queue(copy)` queues a call.
template <typename Queue>
Timing MeasureCopies(int32_t copies, bool one_graph, Queue queue) {
  queue(0);  // kernels are loaded by their first launch, which a capture is not
  std::vector<Graph> graphs;
  if (one_graph) {
    graphs.push_back(Graph::Of([&] {
      for (int32_t copy = 0; copy < copies; ++copy) queue(copy);
    }));
    return Measure(1, copies, [&](size_t) { graphs[0].Replay(); });
  }
  for (int32_t copy = 0; copy < copies; ++copy) {
    graphs.push_back(Graph::Of([&] { queue(copy); }));
  }
  return Measure(graphs.size(), 1, [&](size_t i) { graphs[i].Replay(); });
}

// For calls of the runtime that may do better outside a graph: the faster of both.
template <typename Queue>
Timing MeasureFaster(int32_t copies, bool one_graph, Queue queue) {
  const Timing replayed = MeasureCopies(copies, one_graph, queue);
  const Timing queued = Measure(static_cast<size_t>(copies), 1,
                                [&](size_t copy) { queue(static_cast<int32_t>(copy)); });
  return queued.median_us < replayed.median_us ? queued : replayed;
}

// A call that moves so many bytes is short.
inline bool IsShort(int64_t bytes) { return bytes < kColdBytes; }

}  // namespace quire::bench

#endif  // QUIRE_BENCH_GPU_MEASURE_H_
