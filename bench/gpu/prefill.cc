// Prefill: prompts with and without a cached prefix. Multiply-adds of visible keys only.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "bench/gpu/attention_problem.h"
#include "bench/gpu/measure.h"
#include "bench/gpu/sections.h"

namespace quire::bench {
namespace {

constexpr int32_t kGroup = 4;

double Flops(int32_t queries, int32_t cached) {
  const double pairs = 0.5 * queries * (queries + 1.0) + 1.0 * queries * cached;
  return pairs * kKvHeads * kGroup * 4 * kHeadDim;
}

}  // namespace

void MeasurePrefill(const Arena& arena, const Peers& peers, Report& report) {
  report.Section("Prefill, bfloat16, 32 query heads on 8 KV heads x 128: tokens, cached, a page");
  double worst = std::numeric_limits<double>::infinity();
  for (const int32_t queries : {4096, 16384}) {
    for (const int32_t cached : {0, queries == 4096 ? 12288 : 16384}) {
      const int32_t length = queries + cached;
      const BatchShape shape = {"prefill", {length}, {queries}};
      const AttentionProblem problem(shape, kGroup, ScheduleMode::kBatchInvariant);
      const PeerCase peer = {1, length, queries, kGroup};
      for (const int32_t tokens_per_page : {0, 16, 1}) {
        const PagedPool pool(shape, tokens_per_page, arena.memory, arena.bytes);
        const Timing timing = problem.Run(pool);
        const double rate = Flops(queries, cached) / timing.median_us * 1e-6;
        if (tokens_per_page == 16) worst = std::min(worst, rate);
        const std::string pages =
            tokens_per_page == 0 ? "contiguous" : std::to_string(tokens_per_page);
        report.Add({std::to_string(queries) + ", " + std::to_string(cached) + ", " + pages,
                    {{"us", timing.median_us},
                     {"p95", timing.p95_us},
                     {"TFLOP/s", rate},
                     {"plan us", problem.plan_us()},
                     {"PyTorch us", peers.MedianUs(peer)},
                     {"its TFLOP/s", Flops(queries, cached) / peers.MedianUs(peer) * 1e-6}}});
      }
    }
  }
  report.Target({"prefill, 4k and 16k, with and without prefix: TFLOP/s", worst, 300,
                 /*at_most=*/false});
}

}  // namespace quire::bench
