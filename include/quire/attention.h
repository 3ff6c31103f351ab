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

// What a launcher answers. Nothing was written unless kOk, or kLaunchFailed.
enum class LaunchError : int32_t {
  kOk = 0,
  kUnimplemented,      // not in this build (CUDA kernels in a CPU library)
  kUnsupported,        // a shape or type that no kernel covers: see each launcher
  kBadArgument,        // a null pointer, a size that is negative or no memory has, or inconsistent
                       // counts
  kMisaligned,         // a base or stride not a multiple of 16 bytes, a workspace not of 64
  kWorkspaceTooSmall,  // see WorkspaceBytes; also if none was given and none could be allocated
  kNoGpu,              // no CUDA driver, or no GPU of that number
  kLaunchFailed,       // the CUDA runtime refused the launch; cudaGetLastError says why
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
  // nothing else, not the batch around it, not the number of workers. The default. On a GPU a row
  // with more than 16 query rows (query tokens x query heads of a KV head) is not split: for few
  // and long rows of that kind take kBalanced.
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
  const Threads* threads;  // CPU only; null: OpenMP
  void* workspace;         // WorkspaceBytes(...) bytes, 64-byte aligned; null: allocated per call
                           // (CPU), kWorkspaceTooSmall (CUDA)
  int64_t workspace_bytes;
  // CUDA only, see cuda::Attention. A device copy of what cuda::BuildSchedule wrote; a multiple of
  // 64 bytes.
  const void* schedule = nullptr;
  int32_t max_queries = 1;  // most query tokens that a row has, now or at a replay; 0 is taken as 1
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

// New K and V of a step into their pages, told in one of two ways:
//   slots  token t goes to slot slots[t] = page * tokens_per_page + offset in its page; -1 is
//          padding and skipped.
//   table  slots is null. Token query_begin[i] + j is the j-th new token of row i and goes to
//          position lengths[i] - (query_begin[i + 1] - query_begin[i]) + j of the row, as in
//          AttentionParams. Tokens from query_begin[batch] on are padding. (A captured launch
//          replays a smaller batch if the rest of query_begin repeats its last value.)
struct AppendKvParams {
  KvView kv;
  DType dtype;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t tokens_per_page;
  int32_t token_count;
  const int64_t* slots;  // [token_count], or null
  const void* key;       // [token_count, kv_heads, head_dim], token stride below
  const void* value;
  int64_t key_token_stride;  // bytes; 0 means kv_heads * head_dim * element size
  int64_t value_token_stride;
  const Threads* threads;
  // Where slots is null. table.tokens_per_page must equal tokens_per_page.
  PageTableView table = {};
  const int32_t* query_begin = nullptr;  // [batch + 1]
  // CUDA only, null or a counter in device memory: tokens whose slot or page is outside the pool
  // are not written, and are added to it. (The CPU launcher sees them and refuses the call.)
  int32_t* rejected = nullptr;
};

// Whole pages: `count` copies from page from[i] of one pool to page to[i] of the same or another
// one. A page is one run of page_bytes, or piece_count runs of that length, the first byte of run p
// at base + piece_offsets[p] + page * page_stride: so a pool that keeps each layer apart is copied
// in one launch. No page may be both source and target, nor target twice. With `zeros` nothing is
// read: the targets are filled with zero bytes.
struct CopyPagesParams {
  void* base;           // of the pool written to
  int64_t page_stride;  // bytes
  int64_t page_bytes;   // bytes to copy, <= page_stride
  int32_t page_count;   // of the pool
  int32_t count;
  const PageId* from;  // [count], host memory on every device
  const PageId* to;
  const Threads* threads;
  const void* from_base = nullptr;  // null: the same pool; else one of the same strides
  int32_t from_page_count = 0;
  int32_t piece_count = 0;                 // 0: one piece, at offset 0
  const int64_t* piece_offsets = nullptr;  // [piece_count] multiples of 16; CUDA: device memory
  bool zeros = false;                      // from and from_base are not looked at
};

// Attention over disjoint sets of keys, put together: the result of attention over all of them.
//   output = sum over parts of softmax(lse of the parts)[p] * outputs[p]
//   lse    = log of the sum of exp(lse[p])
// A part without keys has LSE -infinity (or +infinity, as FlashMLA writes it) and counts for
// nothing, whatever its output holds; if all are empty the result is 0 and -infinity. Sinks must be
// in one part only. Parts are added in their order. Source: the recurrence of Milakov and
// Gimelshein, "Online normalizer calculation for softmax", 2018.
struct MergeParams {
  DType dtype;
  int32_t heads;
  int32_t head_dim;  // a multiple of 8, 8 to 256
  int32_t token_count;
  int32_t part_count;     // 1 or more
  const void* outputs;    // part p at outputs + p * output_stride: [token_count, heads, head_dim]
  int64_t output_stride;  // bytes, a multiple of 16
  const float* lses;      // part p at lses + p * lse_stride: [token_count, heads], natural log
  int64_t lse_stride;     // floats
  void* output;           // may be one of the parts
  float* lse;             // may be one of the parts; null if not wanted
  const Threads* threads;
};

namespace cpu {

// Vectorised (Highway, chosen at run time for the processor), streaming.
LaunchError Attention(const AttentionParams& params);
// The oracle: plain loops that can be checked by eye. Same contract, same answers to bad input. Its
// scratch is from the heap: kWorkspaceTooSmall without.
LaunchError AttentionPlain(const AttentionParams& params);

// Workspace that Attention needs at most for these params (their pointers may be null except
// table.lengths and query_begin); 0 for params that it refuses.
int64_t WorkspaceBytes(const AttentionParams& params);

// kBadArgument, and nothing written, if a slot is < -1 or beyond the pool.
LaunchError AppendKv(const AppendKvParams& params);

// kBadArgument, and nothing written, if a page id is outside its pool.
LaunchError CopyPages(const CopyPagesParams& params);

LaunchError Merge(const MergeParams& params);

}  // namespace cpu

// The same on a GPU, on the caller's stream (a cudaStream_t); nothing is waited for. Pointers are
// device memory, or host memory that the device can read, except where said. kUnimplemented in a
// build without CUDA.
namespace cuda {

// What schedules and workspaces depend on. Two GPUs with the same numbers give the same bits.
struct Gpu {
  int32_t multiprocessors;
  int32_t shared_bytes;                 // shared memory that one thread block may ask for
  int32_t shared_bytes_multiprocessor;  // and that all of a multiprocessor's may have
};

// GPU `ordinal` of this process. kNoGpu without a driver or such a GPU.
LaunchError DescribeGpu(int32_t ordinal, Gpu* gpu);

// Attention is launched in three moves, so that a captured CUDA graph can be replayed with other
// lengths, a smaller batch and empty rows:
//
//   BuildSchedule   host: cuts this step's work. table.lengths and query_begin are HOST arrays; so
//                   are page_ids and row_begin, which may be null and are checked if not. The other
//                   pointers are not looked at.
//   the caller      copies the schedule, lengths, query_begin, row_begin and page ids to fixed
//                   places in device memory, on the same stream.
//   Attention       queues the kernels. All pointers are DEVICE memory; its launches depend on
//                   head counts, head_dim, dtype, mode and max_queries, never on lengths, and
//                   table.batch is the largest batch that will be replayed.
//
// Bytes of a schedule and of a workspace: fixed by the GPU and, for the workspace, by head counts,
// head_dim, dtype, mode and max_queries. They depend on no batch and on no length.
int64_t ScheduleBytes(const Gpu& gpu);
int64_t WorkspaceBytes(const AttentionParams& params, const Gpu& gpu);

// Errors as CheckAttention on the CPU; kBadArgument too if a row has more than max_queries.
// `schedule` is host memory of ScheduleBytes(gpu), 64-byte aligned; nothing is written on error.
// O(batch + query tokens / 16 + workers * log batch), and 8 bytes a row from the heap meanwhile.
LaunchError BuildSchedule(const AttentionParams& params, const Gpu& gpu, void* schedule);

// float16 and bfloat16 with head_dim 64, 128 or 256 and at most 128 query heads a KV head (64 for
// head_dim 256) run on tensor cores, where a thread block may have the shared memory they need
// (96 KB; 160 KB for head_dim 256). Everything else of the contract runs on one plain kernel,
// which is right and slow.
//
// In mode kBatchInvariant the bits of a row depend on nothing else in the batch, not on page ids
// and not on the GPU's size, as long as the same kernel is chosen. In both modes they are the same
// from run to run. Less than on the CPU: a query's bits may depend on how many queries its row has
// in this call (decode and prefill use other tiles), and a value that is not finite at a key that
// some query of the same row sees may reach the row's other queries of the call.
//
// query and output may not be null if table.batch > 0, and must be multiples of 16 bytes. K and V
// may be null only if no row has keys. The first launch of each kernel loads it, so launch once
// before a capture.
LaunchError Attention(const AttentionParams& params, void* stream);

// The oracle on a GPU: the plain kernel, for every shape. Needs the schedule, but no workspace.
LaunchError AttentionPlain(const AttentionParams& params, void* stream);

// kMisaligned if key, value or one of their strides is not a multiple of 16 bytes; kBadArgument if
// an array is null and there are tokens: padding cannot be seen from the host.
LaunchError AppendKv(const AppendKvParams& params, void* stream);
// One launch for each 500 copies.
LaunchError CopyPages(const CopyPagesParams& params, void* stream);
LaunchError Merge(const MergeParams& params, void* stream);

}  // namespace cuda

// Where token `position` of row `row` lives, for AppendKvParams::slots. REQUIRES that the row has a
// page there.
inline int64_t SlotOf(const PageTableView& table, int32_t row, int32_t position) {
  const PageId page = table.page_ids[table.row_begin[row] + position / table.tokens_per_page];
  return PageOffset(page, table.tokens_per_page) + position % table.tokens_per_page;
}

}  // namespace quire

#endif  // QUIRE_ATTENTION_H_
