// Where the kernels of append, copy and merge run, as types, so that one suite runs on each.
// The one of the host twin is in twin_backend.h.

#ifndef QUIRE_TESTS_SUPPORT_KERNEL_BACKENDS_H_
#define QUIRE_TESTS_SUPPORT_KERNEL_BACKENDS_H_

#include "quire/attention.h"

namespace quire::testing {

struct CpuBackend {
  static LaunchError AppendKv(const AppendKvParams& params) { return cpu::AppendKv(params); }
  static LaunchError CopyPages(const CopyPagesParams& params) { return cpu::CopyPages(params); }
  static LaunchError Merge(const MergeParams& params) { return cpu::Merge(params); }
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_KERNEL_BACKENDS_H_
