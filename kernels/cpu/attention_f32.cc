// Vectorised attention over fp32 queries, keys and values, compiled once for each instruction set.

#include "kernels/cpu/attention_job.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_f32.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {

void RunFloat32(const AttentionJob& job, int32_t worker) { RunWorker<float>(job, worker); }
void MergeFloat32(const AttentionJob& job, int32_t worker) { MergeWorker<float>(job, worker); }

}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(RunFloat32);
HWY_EXPORT(MergeFloat32);

AttentionKernels Float32Kernels() {
  return {.run =
              [](const AttentionJob& job, int32_t worker) {
                HWY_DYNAMIC_DISPATCH(RunFloat32)
                (job, worker);
              },
          .merge =
              [](const AttentionJob& job, int32_t worker) {
                HWY_DYNAMIC_DISPATCH(MergeFloat32)
                (job, worker);
              }};
}

}  // namespace quire::cpu
#endif  // HWY_ONCE
