// The namespace and compiler attributes of the attention-*-inl.h files: Highway's for the current
// instruction set, unless the including file asked for an instruction beyond them.

#ifndef QUIRE_KERNELS_CPU_ATTENTION_SIMD_H_
#define QUIRE_KERNELS_CPU_ATTENTION_SIMD_H_

#include "hwy/highway.h"

#ifndef QUIRE_BEGIN_SIMD
#define QUIRE_BEGIN_SIMD  \
  HWY_BEFORE_NAMESPACE(); \
  namespace quire::cpu::HWY_NAMESPACE {
#define QUIRE_END_SIMD \
  }                    \
  HWY_AFTER_NAMESPACE();
#endif

#endif  // QUIRE_KERNELS_CPU_ATTENTION_SIMD_H_
