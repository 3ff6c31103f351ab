// What the vectorised attention of one element type needs of a call: the schedule, and where its
// scratch memory and partial results lie. attention.cc fills it, attention-inl.h works on it.

#ifndef QUIRE_KERNELS_CPU_ATTENTION_JOB_H_
#define QUIRE_KERNELS_CPU_ATTENTION_JOB_H_

#include <cstdint>
#include <vector>

#include "kernels/schedule.h"
#include "quire/attention.h"

namespace quire::cpu {

// Rows of queries that are multiplied with a K/V tile at a time.
inline constexpr int32_t kRowBlock = 4;

// The streaming softmax of an item's query rows, up to some key. For row r: max[r] of the scores so
// far, sum[r] of exp(score - max[r]), and values[r * head_dim ...] the sum of the same weights
// times V. A row that saw no key has max -infinity and zeros.
struct SoftmaxState {
  float* max;
  float* sum;
  float* values;
};

constexpr int64_t RoundUpTo16(int64_t floats) { return (floats + 15) / 16 * 16; }

// Floats of a state, a multiple of 16 (64 bytes).
constexpr int64_t StateFloats(int32_t rows, int32_t head_dim) {
  return 2 * RoundUpTo16(rows) + RoundUpTo16(int64_t{rows} * head_dim);
}

// Lays a state of `rows` rows out in memory of StateFloats(rows or more, head_dim) floats.
inline SoftmaxState StateAt(float* memory, int32_t rows) {
  return {memory, memory + RoundUpTo16(rows), memory + 2 * RoundUpTo16(rows)};
}

struct AttentionJob {
  const AttentionParams* params;
  Schedule schedule;
  int32_t item_rows;       // of the largest item
  float* scratch;          // ScratchFloats(...) for each worker
  int64_t scratch_floats;  // of one worker
  float* partials;         // StateFloats(item_rows, head_dim) for each partial
};

// Where K and V of each token of a tile lie, for the first KV head of an item. Tokens without
// visible keys repeat the nearest visible one, so that any of the 64 may be read; nothing is set if
// there is none (`any` is false).
struct TileRows {
  const char* k[kTileTokens];
  const char* v[kTileTokens];
  bool any;
};

// Looks the pages of the keys `keys` up, as far as they are in `tile`.
void FindTileRows(const AttentionJob& job, const Segment& segment, int32_t tile, TileRows* rows);

// Scratch of one worker: the queries of an item in fp32, two states, and scores.
constexpr int64_t ScratchFloats(int32_t rows, int32_t head_dim) {
  return RoundUpTo16(int64_t{rows} * head_dim) + 2 * StateFloats(rows, head_dim) +
         kRowBlock * kTileTokens;
}

// Does what the schedule gives to `worker`; Merge afterwards finishes the item that the worker
// began but did not end, if there is one. All workers must have run before the first Merge.
struct AttentionKernels {
  void (*run)(const AttentionJob& job, int32_t worker);
  void (*merge)(const AttentionJob& job, int32_t worker);
};

// One for each element type; the instructions are chosen for the processor at the call.
AttentionKernels Float32Kernels();
AttentionKernels Float16Kernels();
AttentionKernels BFloat16Kernels();

// What BFloat16Kernels uses with AVX-512 where the processor multiplies bf16 itself; null pointers
// on others.
AttentionKernels BFloat16DotKernels();

// For tests: the instruction sets that this build has code for and this processor runs, the best
// first; and which one the kernels use from now on, in all threads (0: the best).
struct InstructionSet {
  int64_t id;
  const char* name;
};
std::vector<InstructionSet> InstructionSets();
void UseInstructionSet(int64_t id);

}  // namespace quire::cpu

#endif  // QUIRE_KERNELS_CPU_ATTENTION_JOB_H_
