// What the card can do: read, copy, and start kernels.

#include <algorithm>
#include <cstdint>
#include <limits>

#include "bench/gpu/cuda_util.h"
#include "bench/gpu/measure.h"
#include "bench/gpu/sections.h"
#include "bench/gpu/yardsticks.h"

namespace quire::bench {
namespace {

int32_t Multiprocessors() {
  cuda::Gpu gpu;
  Check(cuda::DescribeGpu(0, &gpu), "describing the GPU");
  return gpu.multiprocessors;
}

void MeasureFloor(Report& report) {
  const int blocks = 2 * Multiprocessors();
  report.Section("Launch floor: empty kernels in the grid of an attention call, microseconds");
  for (const int kernels : {1, 2}) {
    const auto queue = [&](int32_t /*call*/) {
      for (int i = 0; i < kernels; ++i) LaunchEmpty(blocks);
    };
    const Timing alone = MeasureCopies(1, false, queue);
    const Timing chained = MeasureCopies(64, true, queue);
    report.Add({kernels == 1 ? "one kernel a call" : "two kernels a call",
                {{"graph of 1", alone.median_us},
                 {"p95", alone.p95_us},
                 {"graph of 64", chained.median_us}}});
  }
}

}  // namespace

Ceilings MeasureCeilings(const Arena& arena, Report& report) {
  const int64_t bytes = std::min(arena.bytes / 2, int64_t{8} << 30) / 4096 * 4096;
  const DeviceBuffer sink(64);
  Ceilings ceilings;
  report.Section("Ceilings");
  // The first pass also brings the clocks up.
  for (const int blocks : {4, 1, 2, 4}) {
    const Timing timing = MeasureCopies(2, false, [&](int32_t copy) {
      LaunchRead(arena.memory + copy * bytes, bytes, blocks * Multiprocessors(),
                 sink.as<uint32_t>());
    });
    const double rate = static_cast<double>(bytes) / timing.median_us * 1e6;
    ceilings.read = std::max(ceilings.read, rate);
    report.Add({"read, " + std::to_string(blocks * 512) + " threads a multiprocessor",
                {{"GB", static_cast<double>(bytes) * 1e-9},
                 {"us", timing.median_us},
                 {"p95", timing.p95_us},
                 {"GB/s", rate * 1e-9}}});
  }
  const Timing copy = MeasureFaster(1, false, [&](int32_t) {
    Check(cudaMemcpyAsync(arena.memory + bytes, arena.memory, static_cast<size_t>(bytes),
                          cudaMemcpyDeviceToDevice, BenchStream()),
          "copying");
  });
  ceilings.copy = 2 * static_cast<double>(bytes) / copy.median_us * 1e6;
  report.Add({"device-to-device copy, read + written",
              {{"GB", 2 * static_cast<double>(bytes) * 1e-9},
               {"us", copy.median_us},
               {"p95", copy.p95_us},
               {"GB/s", ceilings.copy * 1e-9}}});
  MeasureFloor(report);
  return ceilings;
}

}  // namespace quire::bench
