#include "engine/kernels.h"

namespace engine {

absl::StatusOr<std::unique_ptr<Kernels>> NewCudaKernels() {
  return absl::UnimplementedError("this build has no CUDA; ./dev build cuda makes one that has");
}

}  // namespace engine
