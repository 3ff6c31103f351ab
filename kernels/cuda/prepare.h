// The pure host part of the CUDA attention launchers: checks, sizes, the schedule, the kernels'
// arguments. In every build, so that it is tested without a GPU, and so that the host twin launches
// the very arguments that a GPU would get.

#ifndef QUIRE_KERNELS_CUDA_PREPARE_H_
#define QUIRE_KERNELS_CUDA_PREPARE_H_

#include <cstdint>

#include "kernels/cuda/args.h"
#include "quire/attention.h"

namespace quire::cuda {

// Which kernel a call needs.
enum class AttentionKind { kTensor, kPlain };
AttentionKind KindOf(const AttentionParams& params, const Gpu& gpu);

// Thread blocks that a schedule has room for, and those that a call's kernel runs with.
int32_t MaxWorkers(const Gpu& gpu);
int32_t WorkersOf(const AttentionParams& params, const Gpu& gpu);

// A call's work as the schedule cuts it.
WorkShape DeviceWorkShape(const AttentionParams& params);

// Checks all that can be seen without reading device memory and fills the arguments.
LaunchError PrepareAttention(const AttentionParams& params, const Gpu& gpu, AttentionKind kind,
                             AttentionArgs* args);

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_PREPARE_H_
