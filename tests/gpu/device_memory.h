// Memory of the GPU alone, streams and captured graphs, for tests that want what an engine has.

#ifndef QUIRE_TESTS_GPU_DEVICE_MEMORY_H_
#define QUIRE_TESTS_GPU_DEVICE_MEMORY_H_

#include <cstddef>
#include <vector>

#include "cuda_runtime_api.h"
#include "tests/gpu/gpu_kernels.h"

namespace quire::testing {

// null if the GPU has not that much.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) : bytes_(bytes) {
    const cudaError_t error = cudaMalloc(&base_, bytes);
    if (error == cudaErrorMemoryAllocation) {
      base_ = nullptr;
      cudaGetLastError();
      return;
    }
    ExpectCuda(error);
  }
  ~DeviceMemory() { cudaFree(base_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  char* data() const { return static_cast<char*>(base_); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(base_);
  }

  void Fill(int byte) { ExpectCuda(cudaMemset(base_, byte, bytes_)); }
  void Write(const void* from, size_t bytes, size_t offset = 0) {
    if (bytes == 0) return;
    ExpectCuda(cudaMemcpy(data() + offset, from, bytes, cudaMemcpyDefault));
  }
  std::vector<char> Read() const { return Read(0, bytes_); }
  std::vector<char> Read(size_t offset, size_t bytes) const {
    std::vector<char> values(bytes);
    ExpectCuda(cudaMemcpy(values.data(), data() + offset, bytes, cudaMemcpyDefault));
    return values;
  }

 private:
  void* base_ = nullptr;
  size_t bytes_;
};

class TestStream {
 public:
  TestStream() { ExpectCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~TestStream() { cudaStreamDestroy(stream_); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// What `work` queues on the stream, to be replayed.
class CapturedGraph {
 public:
  template <typename Work>
  CapturedGraph(cudaStream_t stream, Work work) : stream_(stream) {
    ExpectCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    work();
    ExpectCuda(cudaStreamEndCapture(stream, &graph_));
    ExpectCuda(cudaGraphInstantiate(&executable_, graph_, 0));
  }
  ~CapturedGraph() {
    cudaGraphExecDestroy(executable_);
    cudaGraphDestroy(graph_);
  }
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;

  void Replay() const { ExpectCuda(cudaGraphLaunch(executable_, stream_)); }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_GPU_DEVICE_MEMORY_H_
