// Which instruction sets the vectorised kernels may use: a seam for tests.

#include <cstdint>
#include <vector>

#include "hwy/highway.h"
#include "hwy/targets.h"
#include "kernels/cpu/attention_job.h"

namespace quire::cpu {

std::vector<InstructionSet> InstructionSets() {
  UseInstructionSet(0);
  std::vector<InstructionSet> sets;
  // Highway's better ones have lower bits.
  for (uint64_t left = static_cast<uint64_t>(hwy::SupportedTargets() & HWY_TARGETS); left != 0;
       left &= left - 1) {
    const auto id = static_cast<int64_t>(left & (~left + 1));
    sets.push_back({id, hwy::TargetName(id)});
  }
  return sets;
}

void UseInstructionSet(int64_t id) { hwy::SetSupportedTargetsForTest(id); }

}  // namespace quire::cpu
