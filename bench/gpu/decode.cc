// Decode: a step of one query a row, over pages in random order.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "bench/gpu/attention_problem.h"
#include "bench/gpu/measure.h"
#include "bench/gpu/sections.h"

namespace quire::bench {
namespace {

constexpr int64_t kLarge = 1'000'000'000;  // bytes of K and V
constexpr int64_t kMedium = 128'000'000;

std::vector<BatchShape> Shapes() {
  std::vector<BatchShape> shapes = {DecodeShape("1 x 1k", 1, 1024),
                                    DecodeShape("1 x 32k", 1, 32768),
                                    DecodeShape("1 x 128k", 1, 131072),
                                    DecodeShape("8 x 1k", 8, 1024),
                                    DecodeShape("8 x 16k", 8, 16384),
                                    DecodeShape("64 x 8k", 64, 8192),
                                    DecodeShape("256 x 1k", 256, 1024),
                                    DecodeShape("256 x 8k", 256, 8192),
                                    DecodeShape("1 x 128k + 63 x 1k", 64, 1024)};
  shapes.back().lengths[0] = 131072;
  // Speculation: at head ratio 8 more than a decode tile's 16 query rows.
  shapes.push_back(DecodeShape("1 x 32k, 4 tokens", 1, 32768));
  shapes.back().queries[0] = 4;
  return shapes;
}

// The worst figures, over all head ratios, of what has a target.
struct Worst {
  double large = std::numeric_limits<double>::infinity();         // % of the read rate
  double one_32k = std::numeric_limits<double>::infinity();       // % of the read rate
  double one_1k = 0;                                              // microseconds
  double pages_of_16 = -std::numeric_limits<double>::infinity();  // % slower than contiguous
  double pages_of_1 = -std::numeric_limits<double>::infinity();
};

class Decode {
 public:
  Decode(const Arena& arena, const Ceilings& ceilings, const Peers& peers, Report& report)
      : arena_(arena), ceilings_(ceilings), peers_(peers), report_(report) {}

  void Run(const BatchShape& shape) {
    constexpr int32_t kPageLengths[] = {0, 16, 1, 64};  // 0: contiguous, what pages stand against
    std::vector<AttentionProblem> problems;
    for (const int32_t group : kGroups) {
      problems.emplace_back(shape, group, ScheduleMode::kBatchInvariant);
    }
    double contiguous_us[3] = {};
    for (const int32_t tokens_per_page : kPageLengths) {
      const PagedPool pool(shape, tokens_per_page, arena_.memory, arena_.bytes);
      for (size_t i = 0; i < problems.size(); ++i) {
        const Timing timing = problems[i].Run(pool);
        if (tokens_per_page == 0) contiguous_us[i] = timing.median_us;
        const double slower = 100 * (timing.median_us / contiguous_us[i] - 1);
        AddRow(shape, kGroups[i], tokens_per_page, timing, slower, problems[i].plan_us());
        if (tokens_per_page == 16) Keep(shape, timing, slower);
        if (tokens_per_page == 1 && shape.kv_bytes() >= kMedium) {
          worst_.pages_of_1 = std::max(worst_.pages_of_1, slower);
        }
      }
    }
  }

  // The schedule that balances best, at one head ratio.
  void RunBalanced(const BatchShape& shape) {
    const AttentionProblem problem(shape, 4, ScheduleMode::kBalanced);
    const PagedPool pool(shape, 16, arena_.memory, arena_.bytes);
    const Timing timing = problem.Run(pool);
    AddRow(shape, 4, 16, timing, std::nan(""), problem.plan_us());
  }

  void AddTargets() {
    report_.Target({"decode, >= 1 GB of K/V, pages of 16: % of the read rate", worst_.large, 90,
                    /*at_most=*/false});
    report_.Target({"decode, 1 x 32k, pages of 16: % of the read rate", worst_.one_32k, 78,
                    /*at_most=*/false});
    report_.Target({"decode, 1 x 1k, pages of 16: microseconds", worst_.one_1k, 10,
                    /*at_most=*/true});
    report_.Target({"pages of 16 slower than contiguous, >= 128 MB: %", worst_.pages_of_16, 2,
                    /*at_most=*/true});
    report_.Target({"pages of 1 slower than contiguous, >= 128 MB: %", worst_.pages_of_1, 15,
                    /*at_most=*/true});
  }

 private:
  static constexpr int32_t kGroups[] = {1, 4, 8};

  double PerCent(const BatchShape& shape, double us) const {
    return static_cast<double>(shape.kv_bytes()) / us * 1e8 / ceilings_.read;
  }

  void AddRow(const BatchShape& shape, int32_t group, int32_t tokens_per_page, const Timing& timing,
              double slower, double plan_us) {
    const bool even = shape.longest() == shape.lengths.back();
    const PeerCase peer = {static_cast<int32_t>(shape.lengths.size()), shape.longest(),
                           shape.queries[0], group};
    const std::string pages =
        tokens_per_page == 0 ? (even ? "contiguous" : "1024") : std::to_string(tokens_per_page);
    report_.Add({shape.name + ", ratio " + std::to_string(group) + ", " + pages,
                 {{"us", timing.median_us},
                  {"p95", timing.p95_us},
                  {"GB/s", static_cast<double>(shape.kv_bytes()) / timing.median_us * 1e-3},
                  {"% of read", PerCent(shape, timing.median_us)},
                  {"% slower", slower},
                  {"plan us", plan_us},
                  {"PyTorch us", even ? peers_.MedianUs(peer) : std::nan("")}}});
  }

  void Keep(const BatchShape& shape, const Timing& timing, double slower) {
    const double per_cent = PerCent(shape, timing.median_us);
    if (shape.kv_bytes() >= kLarge) worst_.large = std::min(worst_.large, per_cent);
    if (shape.kv_bytes() >= kMedium) worst_.pages_of_16 = std::max(worst_.pages_of_16, slower);
    if (shape.query_tokens() > 1) return;
    if (shape.longest() == 32768) worst_.one_32k = std::min(worst_.one_32k, per_cent);
    if (shape.longest() == 1024) worst_.one_1k = std::max(worst_.one_1k, timing.median_us);
  }

  const Arena& arena_;
  const Ceilings& ceilings_;
  const Peers& peers_;
  Report& report_;
  Worst worst_;
};

}  // namespace

void MeasureDecode(const Arena& arena, const Ceilings& ceilings, const Peers& peers,
                   Report& report) {
  Decode decode(arena, ceilings, peers, report);
  report.Section(
      "Decode, bfloat16, 8 KV heads x 128: rows, query heads a KV head, tokens a page; % slower is "
      "against contiguous");
  for (const BatchShape& shape : Shapes()) decode.Run(shape);
  report.Section("The same in mode kBalanced");
  for (const BatchShape& shape : Shapes()) decode.RunBalanced(shape);
  decode.AddTargets();
}

}  // namespace quire::bench
