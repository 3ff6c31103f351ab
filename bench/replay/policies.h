// The policies by name.

#ifndef QUIRE_BENCH_REPLAY_POLICIES_H_
#define QUIRE_BENCH_REPLAY_POLICIES_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "quire/options.h"

namespace replay {

struct PolicyName {
  const char* name;
  quire::Reclaim reclaim;
};

// Every one; a new policy is one more line of it.
std::span<const PolicyName> Policies();

// "lru", "lru,fifo", "all"; one named twice counts once. kInvalidArgument lists the names.
absl::StatusOr<std::vector<PolicyName>> ParsePolicies(std::string_view text);

// What --policy stands at: the yardstick, and what a KvCache does when nobody asks.
std::vector<PolicyName> DefaultPolicies();

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_POLICIES_H_
