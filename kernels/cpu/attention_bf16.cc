// Vectorised attention over bf16 queries, keys and values, compiled once for each instruction set.

#include "kernels/cpu/attention_job.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_bf16.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {

void RunBFloat16(const AttentionJob& job, int32_t worker) {
#if HWY_TARGET == HWY_AVX3
  if (const auto dot = BFloat16DotKernels(); dot.run != nullptr) return dot.run(job, worker);
#endif
  RunWorker<hwy::bfloat16_t>(job, worker);
}

void MergeBFloat16(const AttentionJob& job, int32_t worker) {
#if HWY_TARGET == HWY_AVX3
  if (const auto dot = BFloat16DotKernels(); dot.merge != nullptr) return dot.merge(job, worker);
#endif
  MergeWorker<hwy::bfloat16_t>(job, worker);
}

}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(RunBFloat16);
HWY_EXPORT(MergeBFloat16);

AttentionKernels BFloat16Kernels() {
  return {.run =
              [](const AttentionJob& job, int32_t worker) {
                HWY_DYNAMIC_DISPATCH(RunBFloat16)
                (job, worker);
              },
          .merge =
              [](const AttentionJob& job, int32_t worker) {
                HWY_DYNAMIC_DISPATCH(MergeBFloat16)
                (job, worker);
              }};
}

}  // namespace quire::cpu
#endif  // HWY_ONCE
