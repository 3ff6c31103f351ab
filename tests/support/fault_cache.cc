#include "tests/support/fault_cache.h"

#include <sstream>

namespace quire::testing {
namespace {

void Print(std::ostream& out, const Stats& stats) {
  out << "sequences " << stats.sequences << " nodes " << stats.index_nodes << " looked up "
      << stats.tokens_looked_up << " hit " << stats.tokens_hit << " missed "
      << stats.missed.last_token << ' ' << stats.missed.absent << ' ' << stats.missed.page_gone
      << ' ' << stats.missed.unaligned << ' ' << stats.missed.disabled << " not indexed "
      << stats.commits_not_indexed << " no room " << stats.out_of_room << " failed "
      << stats.copies_failed << " bytes " << stats.metadata_bytes << " ghosts " << stats.ghost_bytes
      << '\n';
  for (const GroupStats& group : stats.groups) {
    out << "free " << group.pages_free << " live " << group.pages_live << " cached "
        << group.pages_cached << " bytes " << group.bytes_live << " evictions " << group.evictions
        << " copies " << group.copies;
    for (const TenantStats& tenant : group.tenants) {
      out << " / " << tenant.tenant << ' ' << tenant.pages_live << ' ' << tenant.pages_cached << ' '
          << tenant.guaranteed_pages << ' ' << tenant.max_pages << ' ' << tenant.evictions << ' '
          << tenant.copies;
    }
    out << '\n';
  }
}

void Print(std::ostream& out, const Plan& plan) {
  out << "plan " << static_cast<uint64_t>(plan.ticket) << ':';
  for (const PageCopy& copy : plan.copies) {
    out << ' ' << static_cast<int32_t>(copy.group) << ':' << static_cast<int32_t>(copy.from_page)
        << '>' << static_cast<int32_t>(copy.to_page) << 'x' << copy.token_count;
  }
  for (const PageScrub& scrub : plan.scrubs) {
    out << " scrub " << static_cast<int32_t>(scrub.group) << ':'
        << static_cast<int32_t>(scrub.page);
  }
  out << '\n';
}

void Print(std::ostream& out, const Sequence& sequence, size_t groups) {
  if (sequence.empty()) {
    out << "no sequence\n";
    return;
  }
  out << "length " << sequence.length() << " capacity " << sequence.capacity() << " hit "
      << sequence.hit_tokens() << " valid " << sequence.valid_length() << " pages";
  for (size_t g = 0; g < groups; ++g) {
    out << " /";
    for (const int32_t page : PagesOf(sequence, static_cast<int32_t>(g))) out << ' ' << page;
  }
  out << '\n';
}

}  // namespace

CacheWorld::CacheWorld(const Options& the_options) : options(the_options) {
  sequences.reserve(32);
  plans.reserve(32);
  row_begin.resize(32);
  lengths.resize(32);
  page_ids.resize(256);
}

std::string CacheWorld::State() {
  if (cache == nullptr) return "no cache";
  std::ostringstream out;
  Print(out, cache->stats());
  for (const Sequence& sequence : sequences) Print(out, sequence, options.groups.size());
  for (const Plan& plan : plans) Print(out, plan);
  for (const auto& [tokens_of_probe, ns_of_probe] : probes) {
    out << "probe " << cache->MatchLength(tokens_of_probe, ns_of_probe) << '\n';
  }
  out << cache->Validate() << '\n';
  return out.str();
}

// The plan that is pending, a token for each sequence, then all dropped and the pool used up: what
// State cannot see has to come out here.
std::string CacheWorld::Finish() {
  if (cache == nullptr) return "no cache";
  std::ostringstream out;
  plans.push_back(cache->TakePlan());
  Print(out, plans.back());
  for (const Plan& plan : plans) cache->Retire(plan.ticket);
  plans.clear();
  out << State();
  for (Sequence& sequence : sequences) {
    if (!sequence.empty()) out << Feed(*cache, sequence, {7}) << '\n';
  }
  out << State();
  while (!sequences.empty()) sequences.pop_back();
  out << State();
  Namespace another;
  another.SetTenant("another");
  for (int32_t i = 0; i < 4; ++i) {
    absl::StatusOr<Sequence> sequence = cache->Start(Iota(9000 + 100 * i, 24), another);
    out << sequence.status() << '\n';
    if (!sequence.ok()) continue;
    out << sequence->Reserve(24) << '\n';
    sequences.push_back(*std::move(sequence));
  }
  out << State();
  sequences.clear();
  cache->ClearCached();
  out << State();
  return out.str();
}

void CacheWorld::Batch(int32_t count) {
  batch.clear();
  views.clear();
  for (Sequence& sequence : sequences) {
    batch.push_back(&sequence);
    views.push_back(&sequence);
  }
  counts.assign(sequences.size(), count);
}

absl::StatusCode CacheWorld::Keep(absl::StatusOr<Sequence> sequence) {
  if (sequence.ok()) sequences.push_back(*std::move(sequence));
  return sequence.status().code();
}

absl::StatusCode CacheWorld::Start(const StartOptions& start) {
  return Keep(cache->Start(prompt, ns, start));
}

Options SmallOptions() {
  Options options = OneGroup(4, 24);
  options.max_sequences = 8;
  options.max_sequence_tokens = 256;
  options.min_copy_tokens = 1;
  options.reclaim = Reclaim::kLru;
  return options;
}

Options MixedOptions() {
  Options options = SmallOptions();
  options.groups = {Group(4, 24), Group(8, 16), Group(4, 24, /*lookback_tokens=*/7)};
  options.max_rollback_tokens = 2;
  return options;
}

Options TenantOptions() {
  Options options = MixedOptions();
  options.quotas = {{.tenant = "a", .guaranteed_permille = 250, .max_permille = 700},
                    {.tenant = "a tenant whose name is too long to stand in the string itself",
                     .guaranteed_permille = 250}};
  return options;
}

Options ScrubbingOptions() {
  Options options = SmallOptions();
  options.scrub_released = true;
  return options;
}

Options StrictOptions() {
  Options options = MixedOptions();
  options.strict_tenants = true;
  options.quotas = {
      {.tenant = "a", .guaranteed_permille = 400, .max_permille = 400, .sequences = 3}};
  return options;
}

FaultScenario CacheScenario(std::string name, const Options& options, CacheStep prepare,
                            CacheRun run, bool allocates, std::vector<absl::StatusCode> may) {
  auto set_up = [options, prepare = std::move(prepare),
                 run = std::move(run)]() -> std::unique_ptr<FaultWorld> {
    auto world = std::make_unique<CacheWorld>(options);
    world->cache = NewCache(options);
    prepare(*world);
    world->run = run;
    return world;
  };
  return {.name = std::move(name),
          .set_up = std::move(set_up),
          .allocates = allocates,
          .may_answer = std::move(may)};
}

}  // namespace quire::testing
