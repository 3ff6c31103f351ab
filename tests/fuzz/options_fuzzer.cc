// Options of the cache and of a request, from any integers. Each set is judged by a
// plain restatement of its header: a good one is taken, a bad one is refused with a message that
// names the field, and neither costs memory that the options do not promise to cost. What was made
// is then used with any integers, too.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "quire/kv_cache.h"
#include "tests/fuzz/fuzz_input.h"

namespace quire::fuzz {
namespace {

constexpr int32_t kSmallPool = 512;  // Validate is O(pages)
constexpr int32_t kMostNodes = 1 << 20;
constexpr int64_t kMostPages = 1 << 20;  // so is Create: larger pools are right, but take too long

bool In(int64_t value, int64_t least, int64_t most) { return value >= least && value <= most; }

bool Good(const std::vector<Quota>& quotas) {
  std::set<std::string> names;
  int64_t guaranteed = 0;
  for (const Quota& quota : quotas) {
    if (!In(quota.guaranteed_permille, 0, 1000) || !In(quota.max_permille, 1, 1000)) return false;
    if (quota.max_permille < quota.guaranteed_permille) return false;
    if (!names.insert(quota.tenant).second) return false;
    guaranteed += quota.guaranteed_permille;
  }
  return quotas.size() <= 64 && guaranteed <= 1000;
}

bool Good(const Options& options) {
  if (!In(static_cast<int64_t>(options.groups.size()), 1, 8)) return false;
  int32_t least = 4096;
  for (const GroupOptions& group : options.groups) {
    if (!In(group.tokens_per_page, 1, 4096) || !In(group.page_count, 1, 1 << 30)) return false;
    if (group.page_bytes < 0 || group.lookback_tokens < 0) return false;
    if (group.page_bytes > INT64_MAX / group.page_count) return false;
    least = std::min(least, group.tokens_per_page);
  }
  for (const GroupOptions& group : options.groups) {
    if (group.tokens_per_page % least != 0) return false;
  }
  return In(options.max_sequences, 1, 1 << 20) && In(options.max_sequence_tokens, 1, 1 << 30) &&
         In(options.min_copy_tokens, 1, 1 << 30) && In(options.max_rollback_tokens, 0, 1 << 30) &&
         In(options.max_index_nodes, 0, 1 << 30) &&
         In(static_cast<int64_t>(options.reclaim), 0, static_cast<int64_t>(Reclaim::kLearned)) &&
         Good(options.quotas);
}

bool Good(const std::vector<Retention>& retention) {
  return std::all_of(retention.begin(), retention.end(), [](const Retention& r) {
    return r.begin >= 0 && r.end > r.begin && In(r.priority, 0, 100) && r.lifetime_steps >= 0;
  });
}

Options DrawOptions(Input& input) {
  Options options;
  const int groups = input.OneIn(16) ? input.Below(12) : 1 + input.Below(3);
  const int32_t unit = input.Mostly(1, 8);
  for (int i = 0; i < groups; ++i) {
    GroupOptions group;
    group.tokens_per_page = unit;
    if (input.OneIn(3)) group.tokens_per_page = input.OneIn(2) ? input.AnyInt32() : 8;
    group.page_count = input.Mostly(1, 40);
    group.page_bytes = input.OneIn(8) ? input.AnyInt64() : input.Byte();
    if (input.OneIn(3)) group.lookback_tokens = input.Mostly(0, 20);
    options.groups.push_back(group);
  }
  options.max_sequences = input.Mostly(1, 8);
  options.max_sequence_tokens = input.Mostly(1, 200);
  options.prefix_caching = !input.OneIn(8);
  options.min_copy_tokens = input.Mostly(1, 6);
  options.max_rollback_tokens = input.Mostly(0, 6);
  if (input.OneIn(4)) options.max_index_nodes = input.Mostly(0, 40);
  options.reclaim = static_cast<Reclaim>(input.OneIn(16) ? input.Byte() : input.Below(6));
  const int quotas = input.OneIn(3) ? input.Below(4) : input.OneIn(64) ? 60 + input.Below(8) : 0;
  for (int i = 0; i < quotas; ++i) {
    Quota quota;
    quota.tenant = std::string(1, static_cast<char>('a' + i));
    if (input.OneIn(8)) quota.tenant = input.Bytes(1);
    quota.guaranteed_permille = input.Mostly(0, 200);
    quota.max_permille = input.OneIn(4) ? input.Mostly(1, 200) : 1000;
    options.quotas.push_back(quota);
  }
  options.hash_seed = input.Byte();
  return options;
}

std::string MessageOf(const absl::Status& status) {
  const std::string message(status.message());
  Require(message.size() > 20, "a message that says little: " + status.ToString());
  return message;
}

// A status of a call that may not fit now, or never, or was asked nonsense.
void ExpectUsual(const absl::Status& status) {
  if (absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status)) MessageOf(status);
  Require(status.ok() || absl::IsInvalidArgument(status) || absl::IsResourceExhausted(status) ||
              absl::IsFailedPrecondition(status) || absl::IsDataLoss(status),
          "another code: " + status.ToString());
}

std::vector<Retention> DrawRetention(Input& input) {
  std::vector<Retention> retention(static_cast<size_t>(input.OneIn(3) ? 1 + input.Below(3) : 0));
  for (Retention& r : retention) {
    r.begin = input.Mostly(0, 8);
    r.end = input.OneIn(2) ? input.Mostly(1, 20) : kAllTokens;
    r.priority = input.Mostly(0, 101);
    r.lifetime_steps = input.OneIn(4) ? input.AnyInt64() : input.Below(4);
  }
  return retention;
}

// One step of a request, with any integers where there are integers.
void UseSequence(Input& input, KvCache& cache, Sequence& sequence) {
  const int32_t wanted = input.Mostly(0, 9);
  const absl::Status reserved = sequence.Reserve(wanted);
  ExpectUsual(reserved);
  Require(!reserved.ok() || wanted >= 0, "less than nothing was reserved");
  const Plan plan = cache.TakePlan();
  cache.Retire(plan.ticket,
               input.OneIn(8) ? absl::InternalError("the copy failed") : absl::OkStatus());
  const int32_t room = sequence.capacity() - sequence.length();
  std::vector<TokenId> tokens(static_cast<size_t>(std::min(room, input.Below(8))));
  for (TokenId& token : tokens) token = input.Below(2);
  ExpectUsual(sequence.Commit(tokens));
  if (!input.OneIn(4)) return;
  const int32_t length = sequence.length();
  const int32_t to = input.Mostly(0, 12);
  const absl::Status truncated = sequence.Truncate(to);
  ExpectUsual(truncated);
  Require(sequence.length() == (truncated.ok() ? to : length), "Truncate left another length");
}

void UseCache(Input& input, KvCache& cache, bool small) {
  std::vector<Sequence> sequences;
  for (int i = 0; i < 12 && !input.empty(); ++i) {
    const int64_t total = input.AnyInt64();
    const int32_t step = input.AnyInt32();
    const absl::Status fits = cache.CheckFits(total, step);
    ExpectUsual(fits);
    Require(!fits.ok() || (total >= 1 && step >= 1), "a request of nothing fits");
    Require(fits.ok() || absl::IsInvalidArgument(fits), "CheckFits says: not now");
    Namespace ns;
    if (input.OneIn(2)) ns.SetTenant(std::string(1, static_cast<char>('a' + input.Below(4))));
    std::vector<TokenId> prompt(static_cast<size_t>(input.Below(24)));
    for (TokenId& token : prompt) token = input.Below(2);
    const std::vector<Retention> retention = DrawRetention(input);
    auto sequence = cache.Start(prompt, ns, {.retention = retention});
    ExpectUsual(sequence.status());
    if (!sequence.ok()) continue;
    Require(Good(retention) && !prompt.empty(), "a bad request was started");
    sequences.push_back(*std::move(sequence));
    UseSequence(input, cache,
                sequences[static_cast<size_t>(input.Below(static_cast<int>(sequences.size())))]);
    if (input.OneIn(3)) sequences.erase(sequences.begin());
    if (!small) continue;
    const absl::Status valid = cache.Validate();
    Require(valid.ok(), valid.ToString());
  }
}

void FuzzCache(Input& input) {
  const Options options = DrawOptions(input);
  const bool good = Good(options);
  int64_t pages = 0;
  for (const GroupOptions& group : options.groups) pages += std::max(0, group.page_count);
  if (good && pages > kMostPages) return;
  const auto cache = KvCache::Create(options);
  if (!cache.ok()) {
    const std::string message = MessageOf(cache.status());
    if (absl::IsResourceExhausted(cache.status())) {
      Require(good && message.find("ower ") != std::string::npos, "no advice: " + message);
      return;
    }
    Require(absl::IsInvalidArgument(cache.status()), cache.status().ToString());
    Require(message.starts_with("Options."), "names no field: " + message);
    Require(!good, "good options are refused: " + message);
    return;
  }
  Require(good, "bad options are taken");
  // Validate looks at all of it, and counts the references of each node.
  const bool small =
      options.max_index_nodes <= kMostNodes &&
      std::all_of(options.groups.begin(), options.groups.end(),
                  [](const GroupOptions& group) { return group.page_count <= kSmallPool; });
  UseCache(input, **cache, small);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  FuzzCache(input);
  return 0;
}

}  // namespace quire::fuzz
