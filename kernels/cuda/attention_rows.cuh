// Partial results on their way to an output: 16 query rows over the 128 threads of a block. Used
// where a decode item ends and by the merge, so that it makes no difference, to the last bit, where
// the schedule happened to cut.

#ifndef QUIRE_KERNELS_CUDA_ATTENTION_ROWS_CUH_
#define QUIRE_KERNELS_CUDA_ATTENTION_ROWS_CUH_

#include <bit>
#include <cstdint>

#include "kernels/cuda/args.h"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile.h"

namespace quire::cuda {

// A thread's part of one row: an eighth of its values, and the row's maximum and sum. Runs of eight
// values: the eight threads of a row then read and write 256 bytes at a time.
template <int kDim>
struct RowSlice {
  static constexpr int kThreadsOfRow = kBlockThreads / kDecodeRows;
  static constexpr int kValues = kDim / kThreadsOfRow;

  float max;
  float sum;
  float values[kValues];

  QUIRE_DEVICE static int row() { return ptx::ThreadIndex() / kThreadsOfRow; }
  // Where this thread's first run of eight stands in the row; run r is kRun * r values on.
  QUIRE_DEVICE static int first() { return ptx::ThreadIndex() % kThreadsOfRow * 8; }
  static constexpr int kRun = 8 * kThreadsOfRow;

  // Reads this thread's values of a row, 16-byte aligned.
  QUIRE_DEVICE void Read(const float* row_values) {
    const float* from = row_values + first();
    QUIRE_UNROLL
    for (int i = 0; i < kValues; i += 4) {
      const ptx::Vector16 four =
          *reinterpret_cast<const ptx::Vector16*>(from + i / 8 * kRun + i % 8);
      QUIRE_UNROLL
      for (int j = 0; j < 4; ++j) values[i + j] = std::bit_cast<float>(four.words[j]);
    }
  }

  // Adds a later part of the same row. A part that saw no key changes nothing, exactly.
  QUIRE_DEVICE void Add(const RowSlice& part) {
    const float larger = ptx::Max(max, part.max);
    const float reference = ReferenceOf(larger);
    const float mine = ptx::Exp2(max - reference);
    const float theirs = ptx::Exp2(part.max - reference);
    max = larger;
    sum = ptx::Fma(part.sum, theirs, sum * mine);
    QUIRE_UNROLL
    for (int i = 0; i < kValues; ++i) {
      values[i] = ptx::Fma(part.values[i], theirs, values[i] * mine);
    }
  }

  // To row row(), and from row `first_row` + row(), of partial result `partial`. A row past the
  // last of `count` is not written, and reads as the last.
  QUIRE_DEVICE void Write(const AttentionArgs& args, int count, int64_t partial) const {
    if (row() >= count) return;
    const PartialRow to = PartialRowOf(args, partial, row());
    const int begin = first();
    if (begin == 0) {
      *to.max = max;
      *to.sum = sum;
    }
    QUIRE_UNROLL
    for (int i = 0; i < kValues; i += 4) {
      ptx::Vector16 four;
      QUIRE_UNROLL
      for (int j = 0; j < 4; ++j) four.words[j] = std::bit_cast<uint32_t>(values[i + j]);
      *reinterpret_cast<ptx::Vector16*>(to.values + begin + i / 8 * kRun + i % 8) = four;
    }
  }
  QUIRE_DEVICE void Load(const AttentionArgs& args, int count, int64_t partial, int first_row = 0) {
    const PartialRow from = PartialRowOf(args, partial, MinOf(first_row + row(), count - 1));
    max = *from.max;
    sum = *from.sum;
    Read(from.values);
  }

  // Divides by the sum and writes output and LSE of the item's row `first_row` + row().
  template <class Element>
  QUIRE_DEVICE void Finish(const AttentionArgs& args, const ItemRows& item,
                           int first_row = 0) const {
    if (first_row + row() >= item.count) return;
    const int64_t index = item.IndexOf(args, first_row + row());
    const RowEnd end = EndRow(args, index, max, sum);
    const int begin = first();
    auto* output = static_cast<Element*>(args.output) + index * kDim + begin;
    QUIRE_UNROLL
    for (int i = 0; i < kValues; i += 8) {
      ptx::Vector16 packed;
      QUIRE_UNROLL
      for (int j = 0; j < 4; ++j) {
        packed.words[j] = ptx::Pack(values[i + 2 * j] * end.factor,
                                    values[i + 2 * j + 1] * end.factor, Element());
      }
      *reinterpret_cast<ptx::Vector16*>(output + i / 8 * kRun) = packed;
    }
    if (args.lse != nullptr && begin == 0) args.lse[index] = end.lse;
  }
};

}  // namespace quire::cuda

#endif  // QUIRE_KERNELS_CUDA_ATTENTION_ROWS_CUH_
