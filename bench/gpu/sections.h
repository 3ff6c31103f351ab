// What quire_gpu_bench measures, one function and one file each.

#ifndef QUIRE_BENCH_GPU_SECTIONS_H_
#define QUIRE_BENCH_GPU_SECTIONS_H_

#include <cstdint>

#include "bench/gpu/peers.h"
#include "bench/gpu/report.h"

namespace quire::bench {

// What all figures are held against, measured in the same run.
struct Ceilings {
  double read = 0;  // bytes a second
  double copy = 0;  // bytes a second, read and written
};

// Most of the GPU's memory, filled with numbers: every pool is a part of it.
struct Arena {
  char* memory;
  int64_t bytes;
};

Ceilings MeasureCeilings(const Arena& arena, Report& report);

// Pages that hold all layers against layers apart, in a pool of the whole arena.
void MeasureLayout(const Arena& arena, const Ceilings& ceilings, Report& report);

void MeasureDecode(const Arena& arena, const Ceilings& ceilings, const Peers& peers,
                   Report& report);
void MeasurePrefill(const Arena& arena, const Peers& peers, Report& report);
void MeasureAppend(const Arena& arena, Report& report);
void MeasurePageCopies(const Arena& arena, Report& report);

}  // namespace quire::bench

#endif  // QUIRE_BENCH_GPU_SECTIONS_H_
