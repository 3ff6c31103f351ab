// The kernels' contract: append, copy and attention over page tables. One contract for decode,
// several query tokens (speculation), prefill over a cached prefix, and all of these in one call.
// Plain data and launchers; no Abseil, nothing of the manager.
//
// Kernels only read what the page table names. Unused slots of a page and unused pages may hold
// anything, NaN included, and never reach a result. Results do not depend on page ids: renumbering
// the pages gives the same bits.

#ifndef QUIRE_ATTENTION_H_
#define QUIRE_ATTENTION_H_

#include <cstdint>

#include "quire/page_table.h"

namespace quire {

// What a launcher answers. Nothing was written unless kOk.
enum class LaunchError : int32_t {
  kOk = 0,
  kUnimplemented,      // not in this build (CUDA kernels in a CPU library)
  kUnsupported,        // a shape or type that no kernel covers: see each launcher
  kBadArgument,        // a null pointer, negative size, or inconsistent counts
  kMisaligned,         // a base or stride not a multiple of 16 bytes, a workspace not of 64
  kWorkspaceTooSmall,  // see WorkspaceBytes; also if none was given and none could be allocated
};

// A short sentence for logs; never null.
const char* Describe(LaunchError error);

// Threads that the caller supplies. Run must call task(argument, i) once for every i in [0, count),
// in any order, on any threads, and return when all are done. `workers` is how many run at once.
// Where a params struct has a null `threads`, OpenMP's are used, or std::thread in a build without.
struct Threads {
  int32_t workers;
  void* context;
  void (*run)(void* context, int32_t count, void (*task)(void* argument, int32_t i),
              void* argument);
};

// How the work of one call is cut.
enum class ScheduleMode : int32_t {
  // Each row is split at fixed lengths and its parts merged in order: a row's bits depend on
  // nothing
  // else, not the batch around it, not the number of workers. The default.
  kBatchInvariant = 0,
  // Each worker takes a contiguous run of tiles: the best balance. Bitwise the same for the same
  // lengths and the same number of workers.
  kBalanced = 1,
};

// Queries of a batch in CSR form. Query token j of row i is global token query_begin[i] + j; it
// stands at position lengths[i] - (query_begin[i + 1] - query_begin[i]) + j of its sequence.
struct AttentionParams {
  PageTableView table;
  KvView kv;
  DType dtype;          // of query, K, V and output
  int32_t query_heads;  // a multiple of kv_heads, any ratio
  int32_t kv_heads;
  int32_t head_dim;            // a multiple of 8, 8 to 256
  const int32_t* query_begin;  // [batch + 1], begins with 0; a row may have no query
  const void* query;           // [query tokens, query_heads, head_dim]
  void* output;                // [query tokens, query_heads, head_dim]; may not alias query
  float* lse;                  // [query tokens, query_heads], natural log; null if not wanted
  float scale;                 // usually 1 / sqrt(head_dim)
  float soft_cap;              // 0: none; c: scores become c * tanh(score / c)
  int32_t window;              // 0: unlimited; w: a query sees w keys, itself included
  bool causal;                 // false: a query sees all lengths[i] keys (window must be 0 then)
  const float* sinks;          // [query_heads] a logit that only joins the denominator; null: none
  ScheduleMode mode;
  const Threads* threads;  // null: OpenMP
  void* workspace;         // WorkspaceBytes(...) bytes, 64-byte aligned; null: allocated per call
  int64_t workspace_bytes;
};
// A query that sees no key (lengths[i] == 0) gives output 0 and LSE -infinity, sinks apart.
// fp32 accumulation whatever the dtype; a back end may round the softmax weights to the dtype
// before they meet V, as its matrix instructions want (their sum and the LSE stay fp32). A row with
// more queries than lengths[i] is kBadArgument when causal.
//
// In mode kBatchInvariant the bits of one query's output and LSE depend only on that query, the
// keys and values it sees and their positions: not on tokens_per_page, page ids, strides, the other
// queries of its row (so chunked prefill, prefill over a cached prefix and token-by-token decode
// agree), the other rows, or the threads.

// New K and V of a step into their pages. Token t goes to slot slots[t] = page * tokens_per_page +
// offset in its page; -1 is padding and skipped.
struct AppendKvParams {
  KvView kv;
  DType dtype;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t tokens_per_page;
  int32_t token_count;
  const int64_t* slots;  // [token_count]
  const void* key;       // [token_count, kv_heads, head_dim], token stride below
  const void* value;
  int64_t key_token_stride;  // bytes; 0 means kv_heads * head_dim * element size
  int64_t value_token_stride;
  const Threads* threads;
};

// Whole pages of a pool: `count` copies of page_bytes from from[i] to to[i]. base is the pool.
struct CopyPagesParams {
  void* base;
  int64_t page_stride;  // bytes
  int64_t page_bytes;   // bytes to copy, <= page_stride
  int32_t page_count;   // of the pool
  int32_t count;
  const PageId* from;
  const PageId* to;
  const Threads* threads;
};

namespace cpu {

// Vectorised (Highway, chosen at run time for the processor), streaming.
LaunchError Attention(const AttentionParams& params);
// The oracle: plain loops that can be checked by eye. Same contract, same answers to bad input.
LaunchError AttentionPlain(const AttentionParams& params);

// Workspace that Attention needs at most for these params (their pointers may be null except
// table.lengths and query_begin).
int64_t WorkspaceBytes(const AttentionParams& params);

// kBadArgument, and nothing written, if a slot is < -1 or beyond the pool.
LaunchError AppendKv(const AppendKvParams& params);

// kBadArgument, and nothing written, if a page id is outside the pool.
LaunchError CopyPages(const CopyPagesParams& params);

}  // namespace cpu

namespace cuda {

// The same on the caller's stream (a cudaStream_t). kUnimplemented in a build without CUDA.
LaunchError Attention(const AttentionParams& params, void* stream);
LaunchError AppendKv(const AppendKvParams& params, void* stream);
LaunchError CopyPages(const CopyPagesParams& params, void* stream);

}  // namespace cuda

// Where token `position` of row `row` lives, for AppendKvParams::slots. REQUIRES that the row has a
// page there.
inline int64_t SlotOf(const PageTableView& table, int32_t row, int32_t position) {
  const PageId page = table.page_ids[table.row_begin[row] + position / table.tokens_per_page];
  return PageOffset(page, table.tokens_per_page) + position % table.tokens_per_page;
}

}  // namespace quire

#endif  // QUIRE_ATTENTION_H_
