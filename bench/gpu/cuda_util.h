// The CUDA runtime with errors that end the program: a benchmark has nothing to recover.

#ifndef QUIRE_BENCH_GPU_CUDA_UTIL_H_
#define QUIRE_BENCH_GPU_CUDA_UTIL_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "quire/attention.h"

namespace quire::bench {

// Says what failed and exits.
void Check(cudaError_t error, const char* what);
void Check(LaunchError error, const char* what);

// Memory of the GPU.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(int64_t bytes);
  template <typename T>
  explicit DeviceBuffer(const std::vector<T>& values)
      : DeviceBuffer(static_cast<int64_t>(values.size() * sizeof(T))) {
    Upload(values.data(), bytes_);
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceBuffer();

  void Upload(const void* from, int64_t bytes);
  char* data() const { return static_cast<char*>(data_); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// The stream of all measurements.
cudaStream_t BenchStream();

// What a piece of code queues on BenchStream, to be replayed.
class Graph {
 public:
  template <typename Work>
  static Graph Of(Work work) {
    Graph graph;
    Begin();
    work();
    graph.End();
    return graph;
  }
  Graph(Graph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(executable_, other.executable_);
    return *this;
  }
  ~Graph();

  void Replay() const { Check(cudaGraphLaunch(executable_, BenchStream()), "replaying a graph"); }

 private:
  Graph() = default;
  static void Begin();
  void End();

  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace quire::bench

#endif  // QUIRE_BENCH_GPU_CUDA_UTIL_H_
