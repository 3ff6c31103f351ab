// Vectorised attention over bf16 with the processor's own bf16 dot product (AVX-512 BF16), which
// halves the arithmetic of the scores. Highway has no instruction set of that name in the versions
// that distributions ship, so this file adds the instruction to Highway's AVX-512.

#include "kernels/cpu/attention_job.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_bf16_dot.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

// Every pass includes the kernels, because their include guards count passes; only that of AVX-512
// makes code of them. A namespace of its own keeps them apart from those of the other files.
#undef QUIRE_BFLOAT16_DOT
#undef QUIRE_BEGIN_SIMD
#undef QUIRE_END_SIMD
#if HWY_TARGET == HWY_AVX3
#define QUIRE_BFLOAT16_DOT
#define QUIRE_BEGIN_SIMD                            \
  HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16") \
  namespace quire::cpu::HWY_NAMESPACE::dot {
#define QUIRE_END_SIMD \
  }                    \
  HWY_POP_ATTRIBUTES
#else
#define QUIRE_BEGIN_SIMD  \
  HWY_BEFORE_NAMESPACE(); \
  namespace quire::cpu::HWY_NAMESPACE::dot {
#define QUIRE_END_SIMD \
  }                    \
  HWY_AFTER_NAMESPACE();
#endif
#include "kernels/cpu/attention-inl.h"

#if HWY_TARGET == HWY_AVX3
QUIRE_BEGIN_SIMD

void Run(const AttentionJob& job, int32_t worker) { RunWorker<BFloat16Dot>(job, worker); }
void Merge(const AttentionJob& job, int32_t worker) { MergeWorker<BFloat16Dot>(job, worker); }

QUIRE_END_SIMD

#endif  // HWY_AVX3

#if HWY_ONCE
namespace quire::cpu {

#if HWY_ARCH_X86 && (HWY_TARGETS & HWY_AVX3)
AttentionKernels BFloat16DotKernels() {
  if (!__builtin_cpu_supports("avx512bf16")) return {.run = nullptr, .merge = nullptr};
  return {.run = N_AVX3::dot::Run, .merge = N_AVX3::dot::Merge};
}
#else
AttentionKernels BFloat16DotKernels() { return {.run = nullptr, .merge = nullptr}; }
#endif

}  // namespace quire::cpu
#endif  // HWY_ONCE
