// The calls that the fault loop disturbs.

#ifndef QUIRE_TESTS_SUPPORT_FAULT_SCENARIOS_H_
#define QUIRE_TESTS_SUPPORT_FAULT_SCENARIOS_H_

#include <vector>

#include "tests/support/fault_loop.h"

namespace quire::testing {

std::vector<FaultScenario> CreateScenarios();    // KvCache::Create, BlockAllocator
std::vector<FaultScenario> StartScenarios();     // Start, Fork, what only looks, Namespace
std::vector<FaultScenario> SequenceScenarios();  // Reserve, Commit, Truncate, dropping
std::vector<FaultScenario> PlanScenarios();      // TakePlan, Retire, ClearCached, page tables
std::vector<FaultScenario> DeviceScenarios();    // CPU and GPU devices
std::vector<FaultScenario> KernelScenarios();    // the kernels' workspaces

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_FAULT_SCENARIOS_H_
