#include "bench/gpu/cuda_util.h"

#include <cstdio>
#include <cstdlib>

namespace quire::bench {

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "quire_gpu_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

void Check(LaunchError error, const char* what) {
  if (error == LaunchError::kOk) return;
  const cudaError_t cuda = cudaGetLastError();
  std::fprintf(stderr, "quire_gpu_bench: %s: %s (%s)\n", what, Describe(error),
               cudaGetErrorString(cuda));
  std::exit(1);
}

DeviceBuffer::DeviceBuffer(int64_t bytes) : bytes_(bytes) {
  Check(cudaMalloc(&data_, static_cast<size_t>(bytes == 0 ? 1 : bytes)), "allocating");
}

DeviceBuffer::~DeviceBuffer() { cudaFree(data_); }

void DeviceBuffer::Upload(const void* from, int64_t bytes) {
  if (bytes == 0) return;
  // On the stream of what reads it: cudaMemcpy may return before it is there.
  Check(cudaMemcpyAsync(data_, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice,
                        BenchStream()),
        "uploading");
  Check(cudaStreamSynchronize(BenchStream()), "uploading");
}

cudaStream_t BenchStream() {
  static const cudaStream_t stream = [] {
    cudaStream_t made = nullptr;
    Check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "making a stream");
    return made;
  }();
  return stream;
}

void Graph::Begin() {
  Check(cudaStreamBeginCapture(BenchStream(), cudaStreamCaptureModeThreadLocal), "capturing");
}

void Graph::End() {
  cudaGraph_t graph = nullptr;
  Check(cudaStreamEndCapture(BenchStream(), &graph), "capturing");
  Check(cudaGraphInstantiate(&executable_, graph, 0), "instantiating a graph");
  Check(cudaGraphDestroy(graph), "instantiating a graph");
  Check(cudaGraphUpload(executable_, BenchStream()), "uploading a graph");
}

Graph::~Graph() {
  if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
}

}  // namespace quire::bench
