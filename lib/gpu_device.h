// The logic of a GPU device, over whatever runtime: NewCudaDevice without CUDA.

#ifndef QUIRE_LIB_GPU_DEVICE_H_
#define QUIRE_LIB_GPU_DEVICE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "lib/gpu_runtime.h"
#include "quire/device.h"

namespace quire {

// As NewCudaDevice. `runtime` must outlive the device.
absl::StatusOr<std::unique_ptr<Device>> NewGpuDevice(const DeviceOptions& options, int ordinal,
                                                     GpuRuntime& runtime);

}  // namespace quire

#endif  // QUIRE_LIB_GPU_DEVICE_H_
