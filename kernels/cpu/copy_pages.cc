// Copies whole pages inside a pool.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/parallel.h"
#include "quire/attention.h"

namespace quire::cpu {

LaunchError CopyPages(const CopyPagesParams& params) {
  const LaunchError error = CheckCopyPages(params);
  if (error != LaunchError::kOk) return error;

  // Tasks cut the bytes of all copies in one line, so that few large pages are shared out as well
  // as many small ones; a task is worth a thread from about 64 KB on.
  const int64_t all = params.count * params.page_bytes;
  const auto tasks =
      static_cast<int32_t>(std::min<int64_t>(all / 65536 + 1, WorkerCount(params.threads)));
  char* base = static_cast<char*>(params.base);
  auto copy = [&](int32_t task) {
    int64_t at = all / tasks * task + all % tasks * task / tasks;
    const int64_t end = all / tasks * (task + 1) + all % tasks * (task + 1) / tasks;
    while (at < end) {
      const int64_t i = at / params.page_bytes;
      const int64_t offset = at % params.page_bytes;
      const int64_t bytes = std::min(params.page_bytes - offset, end - at);
      if (params.from[i] != params.to[i]) {
        std::memcpy(base + PageOffset(params.to[i], params.page_stride) + offset,
                    base + PageOffset(params.from[i], params.page_stride) + offset,
                    static_cast<size_t>(bytes));
      }
      at += bytes;
    }
  };
  ParallelFor(params.threads, tasks, copy);
  return LaunchError::kOk;
}

}  // namespace quire::cpu
