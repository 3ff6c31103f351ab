// NewCudaDevice of a build without CUDA; the build takes this file or cuda_device.cc, never both.

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quire/device.h"

namespace quire {

absl::StatusOr<std::unique_ptr<Device>> NewCudaDevice(const DeviceOptions&, int) {
  return absl::UnimplementedError(
      "this Quire was built without CUDA; build it where nvcc is found, with -DQUIRE_CUDA=ON, or "
      "use NewCpuDevice");
}

}  // namespace quire
