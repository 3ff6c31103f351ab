// Vectorised attention over fp16 queries, keys and values, compiled once for each instruction set.

#include "kernels/cpu/attention_job.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_f16.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {

void RunFloat16(const AttentionJob& job, int32_t worker) { RunWorker<hwy::float16_t>(job, worker); }
void MergeFloat16(const AttentionJob& job, int32_t worker) {
  MergeWorker<hwy::float16_t>(job, worker);
}

}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(RunFloat16);
HWY_EXPORT(MergeFloat16);

AttentionKernels Float16Kernels() {
  return {.run =
              [](const AttentionJob& job, int32_t worker) {
                HWY_DYNAMIC_DISPATCH(RunFloat16)
                (job, worker);
              },
          .merge =
              [](const AttentionJob& job, int32_t worker) {
                HWY_DYNAMIC_DISPATCH(MergeFloat16)
                (job, worker);
              }};
}

}  // namespace quire::cpu
#endif  // HWY_ONCE
