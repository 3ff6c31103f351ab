// Copies whole pages inside a pool, or from one pool to another, or fills them with zeros.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/parallel.h"
#include "quire/attention.h"

namespace quire::cpu {

LaunchError CopyPages(const CopyPagesParams& params) {
  const LaunchError error = CheckCopyPages(params, /*offsets=*/true);
  if (error != LaunchError::kOk) return error;

  // Tasks cut the bytes of all copies in one line, so that few large pages are shared out as well
  // as many small ones; a task is worth a thread from about 64 KB on.
  const int64_t pieces = std::max(1, params.piece_count);
  const int64_t all = params.count * pieces * params.page_bytes;
  const auto tasks =
      static_cast<int32_t>(std::min<int64_t>(all / 65536 + 1, WorkerCount(params.threads)));
  char* base = static_cast<char*>(params.base);
  const char* from_base =
      params.from_base == nullptr ? base : static_cast<const char*>(params.from_base);
  auto copy = [&](int32_t task) {
    int64_t at = all / tasks * task + all % tasks * task / tasks;
    const int64_t end = all / tasks * (task + 1) + all % tasks * (task + 1) / tasks;
    while (at < end) {
      const int64_t run = at / params.page_bytes;
      const int64_t i = run / pieces;
      const int64_t piece = params.piece_count == 0 ? 0 : params.piece_offsets[run % pieces];
      const int64_t offset = at % params.page_bytes;
      const int64_t bytes = std::min(params.page_bytes - offset, end - at);
      char* to = base + PageOffset(params.to[i], params.page_stride) + piece + offset;
      at += bytes;
      if (params.zeros) {
        std::memset(to, 0, static_cast<size_t>(bytes));
        continue;
      }
      const char* from =
          from_base + PageOffset(params.from[i], params.page_stride) + piece + offset;
      if (from != to) std::memcpy(to, from, static_cast<size_t>(bytes));
    }
  };
  ParallelFor(params.threads, tasks, copy);
  return LaunchError::kOk;
}

}  // namespace quire::cpu
