// Draws options and operations. No std::distribution: a seed means the same on every machine.

#include <algorithm>

#include "tests/support/model.h"

namespace quire::testing {

namespace {

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Shares for one to three of the tenants. What is guaranteed is at most all of the pool.
template <typename Below>
std::vector<Quota> DrawQuotas(Below below) {
  std::vector<Quota> quotas;
  for (const char* tenant : {"a", "b", ""}) {
    if (!quotas.empty() && below(2) == 0) continue;
    Quota& quota = quotas.emplace_back();
    quota.tenant = tenant;
    quota.guaranteed_permille = below(4) == 0 ? 0 : below(334);
    if (below(2) == 0) quota.max_permille = std::max(quota.guaranteed_permille, 150 + below(851));
  }
  return quotas;
}

}  // namespace

Options DrawOptions(uint64_t seed) {
  uint64_t state = Mix(seed + 77);
  const auto below = [&state](int limit) {
    state = Mix(state + 0x9E3779B97F4A7C15u);
    return static_cast<int>(state % static_cast<uint64_t>(limit));
  };
  Options options;
  const int per_page = 1 + below(5);
  const int pages = 4 + below(below(3) == 0 ? 61 : 13);
  const auto window = [&] { return below(12) == 0 ? 0 : 1 + below(11); };
  const auto other_pages = [&] { return 4 + below(pages); };
  switch (below(6)) {
    case 0:
    case 1:
      options.groups = {Group(per_page, pages)};
      break;
    case 2:
      options.groups = {Group(per_page, pages), Group(per_page, other_pages(), window())};
      break;
    case 3:
      options.groups = {Group(per_page, pages), Group(per_page * 2, other_pages())};
      break;
    case 4:
      options.groups = {Group(per_page, pages, window())};
      break;
    default:
      // Pages of two sizes of which neither divides the other, over the unit of the third.
      options.groups = {Group(per_page * 2, pages), Group(per_page, other_pages() * 2, window()),
                        Group(per_page * 3, pages)};
  }
  options.max_sequences = 2 + below(7);
  options.max_sequence_tokens = 16 + below(49);
  options.prefix_caching = below(16) != 0;
  options.min_copy_tokens = 1 + below(4);
  options.max_rollback_tokens = below(2) == 0 ? 0 : below(6);
  options.max_index_nodes = below(12) == 0 ? 1 + below(12) : 0;
  options.hash_seed = static_cast<uint64_t>(below(1000));
  options.scrub_released = below(4) == 0;
  // Half of them in the order that the model knows.
  options.reclaim = below(2) == 0
                        ? Reclaim::kLru
                        : static_cast<Reclaim>(below(static_cast<int>(Reclaim::kLearned) + 1));
  if (below(3) == 0) options.quotas = DrawQuotas(below);
  return options;
}

// Mixed twice: states that are a step apart would draw the same numbers, one later.
OpSource::OpSource(uint64_t seed) : state_(Mix(Mix(seed + 1) + 0x632BE59BD9B4E019u)) {
  retains_ = OneIn(2);
}

uint64_t OpSource::Random() { return Mix(state_ += 0x9E3779B97F4A7C15u); }

// Two tokens only, so that unrelated prompts often agree for a while.
Tokens OpSource::Suffix(int longest) {
  Tokens tokens(static_cast<size_t>(Below(longest + 1)));
  for (TokenId& token : tokens) token = OneIn(20) ? -1 : Below(2);
  return tokens;
}

Tokens OpSource::DrawPrompt(const Model& model, int* ns) {
  const int longest = std::min(model.options().max_sequence_tokens, 40);
  *ns = OneIn(3) ? Below(kNamespaces) : OneIn(2) ? 1 : 0;
  Tokens prompt;
  if (!seen_.empty() && !OneIn(5)) {
    const auto& [old_ns, old] = seen_[static_cast<size_t>(Below(static_cast<int>(seen_.size())))];
    if (!OneIn(6)) *ns = old_ns;
    prompt.assign(old.begin(), old.begin() + Below(static_cast<int>(old.size()) + 1));
  }
  prompt = prompt + Suffix(OneIn(4) ? longest : 6);
  if (!OneIn(50) && static_cast<int>(prompt.size()) > longest) {
    prompt.resize(static_cast<size_t>(longest));
  }
  if (prompt.empty() && !OneIn(10)) prompt = {Below(2)};
  seen_.emplace_back(*ns, prompt);
  if (seen_.size() > 24) seen_.erase(seen_.begin() + Below(24));
  return prompt;
}

// Few priorities, so that they meet, and lifetimes that end within the run.
std::vector<Retention> OpSource::DrawRetention() {
  static constexpr int kPriorities[] = {0, 20, 49, 50, 51, 80, 100};
  std::vector<Retention> ranges(static_cast<size_t>(1 + Below(3)));
  for (Retention& range : ranges) {
    range.begin = OneIn(2) ? 0 : Below(30);
    range.end = OneIn(2) ? kAllTokens : range.begin + 1 + Below(12);
    range.priority = kPriorities[Below(7)];
    range.lifetime_steps = OneIn(2) ? 0 : 1 + Below(20);
  }
  if (!OneIn(40)) return ranges;
  // One that Start must refuse.
  Retention& range = ranges.back();
  switch (Below(4)) {
    case 0:
      range.begin = -1;
      break;
    case 1:
      range.end = range.begin;
      break;
    case 2:
      range.priority = OneIn(2) ? -1 : 101;
      break;
    default:
      range.lifetime_steps = -1;
  }
  return ranges;
}

// What an engine would commit next: the rest of the prompt, then sampled tokens.
Tokens OpSource::NextTokens(const Model& model, int seq, int count) {
  Tokens tokens = model.todo(seq);
  if (static_cast<int>(tokens.size()) > count) tokens.resize(static_cast<size_t>(count));
  while (static_cast<int>(tokens.size()) < count) tokens.push_back(Below(2));
  return tokens;
}

// A step of several sequences, sometimes with forks of one another in it.
std::vector<Op> OpSource::Batch(const Model& model) {
  std::vector<Op> ops;
  ReserveAllOp reserve;
  CommitAllOp commit;
  for (int seq = 0; seq < model.live(); ++seq) {
    if (OneIn(4)) continue;
    const int count = 1 + Below(OneIn(4) ? 7 : 2);
    reserve.seqs.push_back(seq);
    reserve.counts.push_back(count);
    commit.tokens = commit.tokens + NextTokens(model, seq, count);
  }
  commit.seqs = reserve.seqs;
  commit.counts = reserve.counts;
  if (reserve.seqs.empty()) return ops;
  if (OneIn(3)) ops.push_back(ForkOp{Below(model.live())});
  ops.push_back(reserve);
  if (!OneIn(3)) ops.push_back(TakePlanOp{OneIn(12)});
  if (OneIn(6)) ops.push_back(DraftOp{reserve.seqs[0]});
  if (!OneIn(5)) ops.push_back(commit);
  if (!OneIn(3)) ops.push_back(RetireOp{});
  return ops;
}

// Something that needs no sequence.
std::vector<Op> OpSource::Ask(const Model& model) {
  int ns = 0;
  const Tokens prompt = DrawPrompt(model, &ns);
  if (OneIn(8)) {
    return {FitsOp{ns, OneIn(20) ? -Below(2) : Below(70), OneIn(20) ? -Below(2) : 1 + Below(9)}};
  }
  if (OneIn(7)) return {MatchOp{ns, prompt}};
  StartOp start{ns, prompt, !OneIn(12), !OneIn(12)};
  if (retains_ && OneIn(2)) start.retention = DrawRetention();
  return {start};
}

// A step of one sequence.
std::vector<Op> OpSource::Step(const Model& model) {
  const int seq = Below(model.live());
  const int count = 1 + Below(OneIn(3) ? 12 : 3);
  std::vector<Op> ops = {ReserveOp{seq, count}};
  if (OneIn(2)) ops.push_back(TakePlanOp{OneIn(12)});
  if (OneIn(5)) ops.push_back(DraftOp{seq});
  if (!OneIn(5)) ops.push_back(CommitOp{seq, NextTokens(model, seq, 1 + Below(count))});
  if (OneIn(2)) ops.push_back(RetireOp{});
  return ops;
}

std::vector<Op> OpSource::Next(const Model& model) {
  if (model.tickets() > 3) return {RetireOp{}};
  const int kind = Below(100);
  if (model.live() == 0 || kind < 23) return Ask(model);
  const int seq = Below(model.live());
  if (kind < 47) return Batch(model);
  if (kind < 67) return Step(model);
  if (kind < 75) {
    if (OneIn(20)) return {TruncateOp{seq, model.length(seq) + 1}};
    // Most often a sequence with lost data goes back to what is good, as an engine would.
    const bool lost = model.valid_length(seq) < model.length(seq);
    if (lost && !OneIn(3)) return {TruncateOp{seq, model.valid_length(seq)}};
    return {TruncateOp{seq, model.length(seq) - Below(5)}};
  }
  if (kind < 83) return {ForkOp{seq}};
  if (kind < 93) return {DropOp{seq}};
  if (kind < 96) return {TakePlanOp{OneIn(4)}};
  if (kind < 99 || !OneIn(4)) return {RetireOp{}};
  return {ClearOp{}};
}

}  // namespace quire::testing
