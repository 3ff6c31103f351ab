// The launches of the attention kernels, one struct for each instantiation. Declared apart from
// their definitions, so that each is compiled in a file of its own (attention_bf16_128.cu, ...) and
// launch.cu, which chooses among them, compiles no kernel.

#ifndef QUIRE_KERNELS_CUDA_ATTENTION_LAUNCH_H_
#define QUIRE_KERNELS_CUDA_ATTENTION_LAUNCH_H_

#include <cstdint>

#include "kernels/cuda/args.h"
#include "quire/attention.h"

namespace quire::cuda {

template <class Element, int kDim>
struct TensorKernels {
  // Queues the work on `workers` thread blocks, then the merge of what they cut.
  static LaunchError Launch(const AttentionArgs& args, int32_t workers, void* stream);
};

template <class Element>
struct PlainKernels {
  static LaunchError Launch(const AttentionArgs& args, int32_t workers, void* stream);
};

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ATTENTION_LAUNCH_H_
