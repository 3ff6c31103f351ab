#include "bench/replay/policies.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace replay {
namespace {

constexpr PolicyName kPolicies[] = {
    {"lru", quire::Reclaim::kLru},
    {"fifo", quire::Reclaim::kFifo},
    {"aged-frequency", quire::Reclaim::kAgedFrequency},
    {"s3-fifo", quire::Reclaim::kS3Fifo},
    {"2q", quire::Reclaim::k2Q},
    {"learned", quire::Reclaim::kLearned},
};

std::string AllNames() {
  std::string names;
  for (const PolicyName& policy : kPolicies) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", policy.name);
  }
  return names;
}

void AddOnce(const PolicyName& policy, std::vector<PolicyName>* policies) {
  const bool known = std::any_of(policies->begin(), policies->end(), [&](const PolicyName& other) {
    return other.reclaim == policy.reclaim;
  });
  if (!known) policies->push_back(policy);
}

}  // namespace

std::span<const PolicyName> Policies() { return kPolicies; }

absl::StatusOr<std::vector<PolicyName>> ParsePolicies(std::string_view text) {
  std::vector<PolicyName> policies;
  while (true) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view name = text.substr(0, comma);
    bool found = false;
    for (const PolicyName& policy : kPolicies) {
      if (name != "all" && name != policy.name) continue;
      AddOnce(policy, &policies);
      found = true;
    }
    if (!found) {
      return absl::InvalidArgumentError(absl::StrCat("no policy is called \"", std::string(name),
                                                     "\"; there are ", AllNames(),
                                                     ", and all for every one"));
    }
    if (comma == text.size()) return policies;
    text.remove_prefix(comma + 1);
  }
}

std::vector<PolicyName> DefaultPolicies() {
  std::vector<PolicyName> policies;
  for (const quire::Reclaim reclaim : {quire::Reclaim::kLru, quire::Options().reclaim}) {
    for (const PolicyName& policy : kPolicies) {
      if (policy.reclaim == reclaim) AddOnce(policy, &policies);
    }
  }
  return policies;
}

}  // namespace replay
