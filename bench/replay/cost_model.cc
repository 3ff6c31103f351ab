#include "bench/replay/cost_model.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace replay {

absl::Status CheckCostModel(const CostModel& cost) {
  const std::pair<const char*, double> values[] = {{"fixed_ms", cost.fixed_ms},
                                                   {"prefill_us", cost.prefill_us},
                                                   {"decode_us", cost.decode_us},
                                                   {"read_us_per_ktok", cost.read_us_per_ktok}};
  for (const auto& [name, value] : values) {
    if (std::isfinite(value) && value >= 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("the cost model's ", name, " is ", value,
                                                   "; it must be 0 or more, and finite"));
  }
  if (!(cost.context > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the cost model's context is ", cost.context,
                     "; it is the position where attention doubles a token's cost and must be "
                     "above 0 (inf: attention costs nothing)"));
  }
  return absl::OkStatus();
}

std::string Describe(const CostModel& cost) {
  return absl::StrCat("step = ", cost.fixed_ms, " ms + ", cost.prefill_us,
                      " us * sum over new prompt tokens t of (1 + t / ", cost.context, ") + ",
                      cost.decode_us, " us * decoding sequences + ", cost.read_us_per_ktok,
                      " us * 1000 tokens of K/V that those read");
}

}  // namespace replay
