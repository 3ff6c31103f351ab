// A cache, its sequences and plans, as the fault loop sees them.

#ifndef QUIRE_TESTS_SUPPORT_FAULT_CACHE_H_
#define QUIRE_TESTS_SUPPORT_FAULT_CACHE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fault_loop.h"
#include "tests/support/manager_util.h"

namespace quire::testing {

struct CacheWorld : FaultWorld {
  explicit CacheWorld(const Options& the_options);

  absl::StatusCode Run() override { return run(*this); }
  std::string State() override;
  std::string Finish() override;

  // With room for what Run will add, which then allocates nothing of its own.
  Options options;
  std::unique_ptr<KvCache> cache;  // null where Run creates it
  std::vector<Sequence> sequences;
  std::vector<Plan> plans;  // taken and not retired
  std::vector<std::pair<Tokens, Namespace>> probes;
  std::function<absl::StatusCode(CacheWorld&)> run;

  // Arguments of Run.
  Tokens prompt;
  Tokens tokens;
  Namespace ns;
  std::vector<Retention> retention;
  std::vector<Sequence*> batch;
  std::vector<const Sequence*> views;
  std::vector<int32_t> counts;
  std::vector<int64_t> row_begin;
  std::vector<int32_t> lengths;
  std::vector<PageId> page_ids;

  // counts[i] more tokens for every sequence.
  void Batch(int32_t count);
  absl::StatusCode Start(const StartOptions& start = {});
  absl::StatusCode Keep(absl::StatusOr<Sequence> sequence);
};

using CacheStep = std::function<void(CacheWorld&)>;
using CacheRun = std::function<absl::StatusCode(CacheWorld&)>;

// Options small enough that a step can fill them.
Options SmallOptions();  // one group
Options MixedOptions();  // several page sizes and a window
Options TenantOptions();
Options ScrubbingOptions();
Options StrictOptions();  // the same with quotas

FaultScenario CacheScenario(std::string name, const Options& options, CacheStep prepare,
                            CacheRun run, bool allocates,
                            std::vector<absl::StatusCode> may = {
                                absl::StatusCode::kResourceExhausted});

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_FAULT_CACHE_H_
