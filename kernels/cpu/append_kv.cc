// Scatters the new keys and values of a step into their pages.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/parallel.h"
#include "quire/attention.h"

namespace quire::cpu {
namespace {

// Copies all heads of one token; `from` holds them one after another.
void ScatterToken(const void* from, void* base, const KvStrides& strides, int64_t slot,
                  const AppendKvParams& params) {
  const int64_t bytes = HeadBytes(params.dtype, params.head_dim);
  const PageId page{static_cast<int32_t>(slot / params.tokens_per_page)};
  char* to = static_cast<char*>(base) + PageOffset(page, strides.page) +
             slot % params.tokens_per_page * strides.token;
  for (int32_t head = 0; head < params.kv_heads; ++head) {
    std::memcpy(to + head * strides.head, static_cast<const char*>(from) + head * bytes,
                static_cast<size_t>(bytes));
  }
}

// Tokens that may be no padding.
int64_t TokenCount(const AppendKvParams& params) {
  if (params.slots != nullptr) return params.token_count;
  return params.table.batch == 0 ? 0 : params.query_begin[params.table.batch];
}

// Where token t goes; -1: nowhere, it is padding. REQUIRES CheckAppendKv, t < TokenCount(params).
int64_t SlotOfToken(const AppendKvParams& params, int64_t t) {
  if (params.slots != nullptr) return params.slots[t];
  const PageTableView& table = params.table;
  const int32_t* end = params.query_begin + table.batch + 1;
  const auto row =
      static_cast<int32_t>(std::upper_bound(params.query_begin, end, t) - params.query_begin - 1);
  // From the end of the row: its last new token is the last of its length.
  const auto left = static_cast<int32_t>(params.query_begin[row + 1] - t);
  return SlotOf(table, row, table.lengths[row] - left);
}

}  // namespace

LaunchError AppendKv(const AppendKvParams& params) {
  const LaunchError error = CheckAppendKv(params);
  if (error != LaunchError::kOk) return error;
  const int64_t tight = params.kv_heads * HeadBytes(params.dtype, params.head_dim);
  const int64_t key_stride = params.key_token_stride == 0 ? tight : params.key_token_stride;
  const int64_t value_stride = params.value_token_stride == 0 ? tight : params.value_token_stride;

  // A task is worth a thread from about 64 KB of keys on.
  const int64_t count = TokenCount(params);
  const int64_t useful = count * tight / 65536 + 1;
  const auto tasks = static_cast<int32_t>(std::min<int64_t>(useful, WorkerCount(params.threads)));
  auto append = [&](int32_t task) {
    const int64_t begin = count * task / tasks;
    const int64_t end = count * (task + 1) / tasks;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t slot = SlotOfToken(params, t);
      if (slot < 0) continue;
      const char* key = static_cast<const char*>(params.key) + t * key_stride;
      const char* value = static_cast<const char*>(params.value) + t * value_stride;
      ScatterToken(key, params.kv.k, params.kv.k_strides, slot, params);
      ScatterToken(value, params.kv.v, params.kv.v_strides, slot, params);
    }
  };
  ParallelFor(params.threads, tasks, append);
  return LaunchError::kOk;
}

}  // namespace quire::cpu
