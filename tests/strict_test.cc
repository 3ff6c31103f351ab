// Strict tenants: what one tenant observes is the same with the others and without them.
//
// A trace pair is two runs of one tenant's random operations: alone, and between random operations
// of two others, which flood, abort, fork, retain and run out of everything. The engine's own
// events (a plan is taken, fails or not, is retired later; the cache is cleared) are the same in
// both runs: they are the tenant's environment and no other tenant's doing. After each operation
// all that the tenant may see is written down, and the two texts must be equal. What it does next
// depends on what it saw, so a difference cannot heal unseen.
//
//   QUIRE_STRICT_PAIRS=N   trace pairs (10,000 in optimised builds, fewer in others)
//   QUIRE_STRICT_SEED=N    the first seed

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"
#include "tests/support/seeded.h"

namespace quire::testing {
namespace {

#ifdef NDEBUG
constexpr int64_t kDefaultPairs = 10000;
#else
constexpr int64_t kDefaultPairs = 150;
#endif
constexpr int kTurns = 60;

// Who the observed tenant and the two others are; "" in `tenants` is no tenant at all.
constexpr std::array<const char*, 3> kTenants = {"a", "b", ""};

struct Scene {
  Options options;
  int observed = 0;  // of kTenants
};

std::vector<GroupOptions> DrawGroups(Dice& dice) {
  const int pages = dice.Between(12, 48);
  switch (dice.Below(5)) {
    case 0:
      return {Group(2, pages)};
    case 1:
      return {Group(2, pages), Group(2, pages, dice.Between(0, 6))};
    case 2:  // several page lengths
      return {Group(2, pages), Group(4, pages)};
    case 3:
      return {Group(1, pages, dice.Between(0, 4)), Group(2, pages, dice.Between(0, 6))};
    default:
      return {Group(1, pages), Group(2, pages), Group(3, pages, dice.Between(0, 7))};
  }
}

Scene DrawScene(uint64_t seed) {
  Dice dice(seed);
  Scene scene;
  Options& options = scene.options;
  options = MakeOptions(DrawGroups(dice));
  options.reclaim = static_cast<Reclaim>(seed % 6);
  options.max_sequences = dice.Between(6, 12);
  options.max_sequence_tokens = dice.Between(16, 48);
  options.min_copy_tokens = dice.Between(1, 3);
  options.max_rollback_tokens = dice.OneIn(2) ? dice.Below(5) : 0;
  if (dice.OneIn(3)) options.max_index_nodes = dice.Between(8, 80);
  options.strict_tenants = true;
  for (const char* tenant : {"a", "b"}) {
    const int permille = dice.Between(200, 400);
    options.quotas.push_back({.tenant = tenant,
                              .guaranteed_permille = permille,
                              .max_permille = permille,
                              .sequences = dice.Between(1, 3)});
  }
  scene.observed = dice.Below(3);
  return scene;
}

// One tenant: draws operations, carries them out and writes down what it sees.
class Tenant {
 public:
  Tenant(KvCache* cache, int tenant, uint64_t seed)
      : cache_(*cache), tenant_(tenant), dice_(seed) {}

  void Act(int64_t step) {
    step_ = step;
    const int live = static_cast<int>(sequences_.size());
    const int action = dice_.Below(16);
    if (action < 2 || live == 0) {
      Start();
    } else if (action < 3) {
      Ask();
    } else if (action < 10) {
      Advance(dice_.Below(live));
    } else if (action < 11) {
      ReserveAll();
    } else if (action < 12) {
      Truncate(dice_.Below(live));
    } else if (action < 13) {
      Fork(dice_.Below(live));
    } else {
      Drop(dice_.Below(live));
    }
    See();
  }

  // What the tenant may see at any time.
  void See() {
    for (const Live& live : sequences_) {
      const Sequence& sequence = live.sequence;
      out_ << " [" << sequence.length() << ' ' << sequence.capacity() << ' '
           << sequence.hit_tokens() << ' ' << sequence.valid_length();
      for (size_t g = 0; g < cache_.options().groups.size(); ++g) {
        const std::span<const PageId> pages = sequence.pages(GroupId{static_cast<int32_t>(g)});
        out_ << '|' << pages.size() << ' ' << std::count(pages.begin(), pages.end(), kNoPage);
      }
      out_ << ']';
    }
    for (const GroupStats& group : cache_.stats().groups) {
      if (group.tenants.empty()) continue;
      const TenantStats& own = group.tenants[static_cast<size_t>(tenant_)];
      out_ << " {" << own.tenant << ' ' << own.pages_live << ' ' << own.pages_cached << ' '
           << own.guaranteed_pages << ' ' << own.max_pages << ' ' << own.evictions << ' '
           << own.copies << '}';
    }
    out_ << '\n';
  }

  std::string trace() const { return out_.str(); }
  int64_t commits() const { return commits_; }

 private:
  struct Live {
    Sequence sequence;
    int64_t reserved_at;  // step of the last Reserve: its copies may await a plan
    Tokens todo;          // of the prompt
  };

  Namespace Ns() {
    Namespace ns;
    if (*kTenants[static_cast<size_t>(tenant_)] != '\0') {
      ns.SetTenant(kTenants[static_cast<size_t>(tenant_)]);
    } else if (dice_.OneIn(3)) {
      ns.SetTenant("c");  // has no quota either
    }
    if (dice_.OneIn(4)) ns.SetLora("x");
    return ns;
  }

  // Few tokens and few beginnings, so that prompts share.
  Tokens Prompt() {
    Tokens prompt(static_cast<size_t>(dice_.Between(1, 14)));
    const int kind = dice_.Below(4);
    for (size_t i = 0; i < prompt.size(); ++i) {
      prompt[i] = i < 9 && kind < 3 ? kind : dice_.Below(2);
    }
    return prompt;
  }

  std::vector<Retention> DrawRetention() {
    std::vector<Retention> retention;
    for (int i = dice_.OneIn(3) ? dice_.Between(1, 2) : 0; i > 0; --i) {
      const int begin = dice_.Below(6);
      retention.push_back({.begin = begin,
                           .end = dice_.OneIn(2) ? kAllTokens : begin + dice_.Between(1, 8),
                           .priority = dice_.OneIn(2) ? 60 : dice_.Below(101),
                           .lifetime_steps = dice_.Below(8)});
    }
    return retention;
  }

  void Say(const char* what, const absl::Status& status) { out_ << what << ' ' << status; }

  void Start() {
    const Tokens prompt = Prompt();
    const std::vector<Retention> retention = DrawRetention();
    absl::StatusOr<Sequence> sequence = cache_.Start(
        prompt, Ns(),
        {.read_cache = !dice_.OneIn(8), .write_cache = !dice_.OneIn(8), .retention = retention});
    Say("start", sequence.status());
    if (!sequence.ok()) return;
    Tokens todo(prompt.begin() + sequence->length(), prompt.end());
    sequences_.push_back({*std::move(sequence), step_, std::move(todo)});
    Advance(static_cast<int>(sequences_.size()) - 1);
  }

  // Towards the end of its prompt, and some tokens further.
  void Advance(int i) {
    const Live& live = sequences_[static_cast<size_t>(i)];
    if (live.reserved_at < step_ && live.sequence.capacity() > live.sequence.length()) {
      Commit(i);
    } else {
      Reserve(i);
    }
  }

  void Ask() {
    out_ << "match " << cache_.MatchLength(Prompt(), Ns()) << ' ';
    Say("fits", cache_.CheckFits(dice_.Between(1, 50), dice_.Between(1, 8), Ns()));
  }

  void Reserve(int i) {
    Live& live = sequences_[static_cast<size_t>(i)];
    const int32_t wanted = std::max(1, static_cast<int32_t>(live.todo.size()));
    Say("reserve", live.sequence.Reserve(dice_.OneIn(8) ? dice_.Between(0, 20) : wanted));
    live.reserved_at = step_;
  }

  void ReserveAll() {
    std::vector<Sequence*> batch;
    std::vector<int32_t> counts;
    for (Live& live : sequences_) {
      batch.push_back(&live.sequence);
      counts.push_back(dice_.Below(4));
      live.reserved_at = step_;
    }
    Say("all", cache_.ReserveAll(batch, counts));
  }

  void Commit(int i) {
    Live& live = sequences_[static_cast<size_t>(i)];
    const int32_t room = live.sequence.capacity() - live.sequence.length();
    Tokens tokens;
    for (int32_t n = dice_.OneIn(4) ? dice_.Between(1, room) : room; n > 0; --n) {
      if (live.todo.empty()) {
        tokens.push_back(dice_.Below(2));
      } else {
        tokens.push_back(live.todo.front());
        live.todo.erase(live.todo.begin());
      }
    }
    Say("commit", live.sequence.Commit(tokens));
    commits_ += static_cast<int64_t>(tokens.size());
  }

  void Truncate(int i) {
    Live& live = sequences_[static_cast<size_t>(i)];
    const bool lost = live.sequence.valid_length() < live.sequence.length();
    const int32_t length =
        lost ? live.sequence.valid_length() : dice_.Below(live.sequence.length() + 1);
    Say("truncate", live.sequence.Truncate(length));
    live.todo.clear();
  }

  void Fork(int i) {
    Live& live = sequences_[static_cast<size_t>(i)];
    absl::StatusOr<Sequence> fork = live.sequence.Fork();
    Say("fork", fork.status());
    if (fork.ok()) sequences_.push_back({*std::move(fork), live.reserved_at, live.todo});
  }

  void Drop(int i) {
    if (!sequences_[static_cast<size_t>(i)].todo.empty() && dice_.OneIn(2)) return;
    sequences_.erase(sequences_.begin() + i);
    out_ << "drop";
  }

  KvCache& cache_;
  const int tenant_;
  Dice dice_;
  int64_t step_ = 0;
  int64_t commits_ = 0;
  std::vector<Live> sequences_;
  std::ostringstream out_;
};

struct Outcome {
  std::string trace;
  int64_t commits = 0;  // tokens of the observed tenant
};

// The engine's events, the same whoever is there: steps, their outcomes, when they are retired.
class Engine {
 public:
  Engine(KvCache* cache, uint64_t seed) : cache_(*cache), dice_(seed) {}

  int64_t step() const { return step_; }
  void Step() {
    ++step_;
    const bool fails = dice_.OneIn(6);
    const int64_t due = step_ + (dice_.OneIn(2) ? 0 : dice_.Below(4));
    outstanding_.push_back({cache_.TakePlan().ticket, fails, due});
    while (!outstanding_.empty() && outstanding_.front().due <= step_) Retire();
    if (dice_.OneIn(40)) cache_.ClearCached();
  }
  void Finish() {
    while (!outstanding_.empty()) Retire();
  }

 private:
  struct Outstanding {
    Ticket ticket;
    bool fails;
    int64_t due;
  };
  void Retire() {
    const Outstanding first = outstanding_.front();
    outstanding_.pop_front();
    cache_.Retire(first.ticket, first.fails ? absl::InternalError("") : absl::OkStatus());
  }

  KvCache& cache_;
  Dice dice_;
  int64_t step_ = 0;
  std::deque<Outstanding> outstanding_;
};

Outcome Play(const Scene& scene, uint64_t seed, bool with_others) {
  const std::unique_ptr<KvCache> cache = NewCache(scene.options);
  Outcome outcome;
  {
    std::vector<std::unique_ptr<Tenant>> tenants;
    for (int i = 0; i < 3; ++i) {
      tenants.push_back(
          std::make_unique<Tenant>(cache.get(), i, seed * 8 + static_cast<uint64_t>(i)));
    }
    Tenant& observed = *tenants[static_cast<size_t>(scene.observed)];
    Engine engine(cache.get(), seed * 8 + 6);
    Dice others(seed * 8 + 7);
    for (int turn = 0; turn < kTurns; ++turn) {
      for (int i = 0; i < 3 && with_others; ++i) {
        if (i == scene.observed) continue;
        for (int n = others.Below(5); n > 0; --n) {
          tenants[static_cast<size_t>(i)]->Act(engine.step());
        }
      }
      observed.Act(engine.step());
      engine.Step();
      observed.See();  // what the engine's events did to it
    }
    outcome.trace = observed.trace();
    outcome.commits = observed.commits();
    engine.Finish();
    EXPECT_OK(cache->Validate()) << "seed " << seed;
  }
  return outcome;
}

// The first line in which the traces differ, and the line before it.
std::string Difference(const std::string& alone, const std::string& together) {
  std::istringstream a(alone), b(together);
  std::string line_a, line_b, before;
  for (int line = 1; std::getline(a, line_a) && std::getline(b, line_b); ++line) {
    if (line_a != line_b) {
      return "line " + std::to_string(line) + "\n  before  " + before + "\n  alone   " + line_a +
             "\n  others  " + line_b;
    }
    before = line_a;
  }
  return "one trace is longer";
}

TEST(StrictTest, WhatOneTenantSeesIsTheSameWithOthersAndWithout) {
  const int64_t pairs = FromEnvironment("QUIRE_STRICT_PAIRS", kDefaultPairs);
  const auto first = static_cast<uint64_t>(FromEnvironment("QUIRE_STRICT_SEED", 1));
  int64_t compared = 0;
  int64_t commits = 0;
  for (uint64_t seed = first; seed < first + static_cast<uint64_t>(pairs); ++seed) {
    const Scene scene = DrawScene(seed);
    const Outcome alone = Play(scene, seed, false);
    const Outcome together = Play(scene, seed, true);
    ASSERT_EQ(alone.trace == together.trace, true)
        << "QUIRE_STRICT_SEED=" << seed << " tenant '"
        << kTenants[static_cast<size_t>(scene.observed)] << "' policy "
        << static_cast<int>(scene.options.reclaim) << ' '
        << Difference(alone.trace, together.trace);
    ++compared;
    commits += alone.commits;
  }
  std::cout << "scorecard: strict tenants: " << compared << " pairs of traces from seed " << first
            << ", 0 different\n";
  EXPECT_EQ(compared, pairs);
  EXPECT_GT(commits, 20 * pairs) << "the traces say nothing if nothing is committed";
#ifdef NDEBUG
  if (std::getenv("QUIRE_STRICT_PAIRS") == nullptr) {
    EXPECT_EQ(compared, 10000);
  }
#endif
}

// The same comparison finds what quotas alone leave open, so it can find something.
TEST(StrictTest, WithoutStrictTenantsTheTracesDiffer) {
  int with_quotas = 0;
  int without = 0;
  constexpr int kPairs = 60;
  for (uint64_t seed = 1; seed <= kPairs; ++seed) {
    Scene scene = DrawScene(seed);
    scene.options.strict_tenants = false;
    for (Quota& quota : scene.options.quotas) {
      quota.guaranteed_permille /= 2;
      quota.sequences = 0;
    }
    const auto differ = [&] {
      return Play(scene, seed, false).trace != Play(scene, seed, true).trace;
    };
    with_quotas += differ() ? 1 : 0;
    scene.options.quotas.clear();
    without += differ() ? 1 : 0;
  }
  EXPECT_GT(with_quotas, kPairs / 2);
  EXPECT_GT(without, kPairs / 2);
}

// --- What it is made of, one by one ---

// One token a page, a fifth of 20 pages for a and two fifths for b.
Options Strict() {
  Options options = OneGroup(1, 20);
  options.reclaim = Reclaim::kLru;
  options.max_sequences = 8;
  options.strict_tenants = true;
  options.quotas = {
      {.tenant = "a", .guaranteed_permille = 200, .max_permille = 200, .sequences = 2},
      {.tenant = "b", .guaranteed_permille = 400, .max_permille = 400, .sequences = 3}};
  return options;
}

Namespace Of(const char* tenant) { return Namespace().SetTenant(tenant); }

TEST(StrictTest, PoolsAreStaticAndRoundedDown) {
  Options options = Strict();
  options.groups[0].page_count = 19;
  const auto cache = NewCache(options);
  const std::vector<TenantStats> tenants = StatsOf(*cache).tenants;
  const std::array<int32_t, 3> pages = {3, 7, 9};
  for (size_t i = 0; i < pages.size(); ++i) {
    EXPECT_EQ(tenants[i].guaranteed_pages, pages[i]) << i;
    EXPECT_EQ(tenants[i].max_pages, pages[i]) << i;
  }
  // The others' part is as fixed as the named ones', though all else is free.
  EXPECT_OK(cache->CheckFits(9, 1));
  EXPECT_TRUE(Says(cache->CheckFits(10, 1), absl::StatusCode::kInvalidArgument,
                   {"tenants without a quota may have 9", "10 are guaranteed to other tenants"}));
}

TEST(StrictTest, SequencesAreSetAside) {
  const auto cache = NewCache(Strict());
  std::vector<Sequence> others;
  for (int i = 0; i < 3; ++i) others.push_back(MustStart(*cache, {1}));
  EXPECT_NO_ROOM(cache->Start(Tokens{1}));
  EXPECT_NO_ROOM(others[0].Fork());
  Sequence first = MustStart(*cache, {1}, Of("a"));
  const Sequence second = MustFork(first);
  EXPECT_NO_ROOM(cache->Start(Tokens{1}, Of("a")));
  first = Sequence();
  MustStart(*cache, {1}, Of("a"));
  for (int i = 0; i < 3; ++i) others.push_back(MustStart(*cache, {1}, Of("b")));
  EXPECT_NO_ROOM(cache->Start(Tokens{1}, Of("b")));
}

TEST(StrictTest, SequencesCanBeSetAsideWithoutTheRest) {
  Options options = OneGroup(1, 20);
  options.max_sequences = 3;
  options.quotas = {{.tenant = "a", .sequences = 1}, {.tenant = "b"}};
  const auto cache = NewCache(options);
  const Sequence b = MustStart(*cache, {1}, Of("b"));
  const Sequence other = MustStart(*cache, {1});
  EXPECT_NO_ROOM(cache->Start(Tokens{1}, Of("b")));
  EXPECT_NO_ROOM(cache->Start(Tokens{1}));
  const Sequence a = MustStart(*cache, {1}, Of("a"));
  EXPECT_NO_ROOM(cache->Start(Tokens{1}, Of("a")));
}

TEST(StrictTest, WhoCanNeverHaveASequenceIsToldSo) {
  Options options = Strict();
  options.max_sequences = 5;
  const auto cache = NewCache(options);
  const std::vector<std::string> words = {"without a quota", "no sequence", "5 (max_sequences)"};
  EXPECT_TRUE(Says(cache->CheckFits(1, 1), absl::StatusCode::kInvalidArgument, words));
  EXPECT_TRUE(Says(cache->Start(Tokens{1}).status(), absl::StatusCode::kInvalidArgument, words));
  EXPECT_OK(cache->Start(Tokens{1}, Of("a")));
}

TEST(StrictTest, IndexNodesAreDivided) {
  Options options = Strict();
  options.max_index_nodes = 10;  // 2 for a, 4 for b, 4 for all others
  const auto cache = NewCache(options);
  Compute(*cache, Iota(0, 6), Of("b"));
  Compute(*cache, Iota(0, 6));
  EXPECT_EQ(cache->stats().index_nodes, 8);
  Compute(*cache, Iota(0, 4), Of("a"));
  EXPECT_EQ(cache->MatchLength(Iota(0, 4), Of("a")), 2);
  EXPECT_EQ(cache->stats().index_nodes, 10);
  EXPECT_OK(cache->Validate());
}

// Several page lengths: a failure takes the tenant's own index, and nobody else's.
TEST(StrictTest, AFailedCopyTakesTheIndexOfItsTenantOnly) {
  Options options = Strict();
  options.groups = {Group(1, 40), Group(2, 40)};
  const auto cache = NewCache(options);
  for (const char* tenant : {"a", "b"}) Compute(*cache, Iota(0, 4), Of(tenant));
  Compute(*cache, Iota(0, 4));
  Sequence b = MustStart(*cache, Iota(0, 3), Of("b"));
  ASSERT_OK(b.Truncate(1));
  ASSERT_OK(b.Reserve(1));  // inside the second group's page, which is indexed
  const Plan plan = cache->TakePlan();
  ASSERT_EQ(plan.copies.size(), 1u);
  cache->Retire(plan.ticket, absl::InternalError("lost"));
  EXPECT_EQ(cache->MatchLength(Iota(0, 5), Of("b")), 0);
  EXPECT_EQ(cache->MatchLength(Iota(0, 5), Of("a")), 4);
  EXPECT_EQ(cache->MatchLength(Iota(0, 5)), 4);
  EXPECT_EQ(b.valid_length(), 0);
  EXPECT_OK(cache->Validate());
}

TEST(StrictTest, ABatchIsOneTenants) {
  const auto cache = NewCache(Strict());
  Sequence a = MustStart(*cache, {1, 2}, Of("a"));
  Sequence b = MustStart(*cache, {1, 2}, Of("b"));
  const std::array<Sequence*, 2> both = {&a, &b};
  const std::vector<std::string> words = {"tenant 'a'", "tenant 'b'", "one call for each"};
  EXPECT_TRUE(
      Says(cache->ReserveAll(both, std::array{1, 1}), absl::StatusCode::kInvalidArgument, words));
  EXPECT_EQ(a.capacity(), 0);
  ASSERT_OK(a.Reserve(1));
  ASSERT_OK(b.Reserve(1));
  EXPECT_TRUE(Says(cache->CommitAll(both, Tokens{1, 1}, std::array{1, 1}),
                   absl::StatusCode::kInvalidArgument, words));
  EXPECT_EQ(a.length(), 0);
  Sequence lora = MustStart(*cache, {1, 2}, Of("a").SetLora("x"));
  const std::array<Sequence*, 2> same = {&a, &lora};
  EXPECT_OK(cache->ReserveAll(same, std::array{1, 1}));
}

TEST(StrictTest, CreateSaysWhatIsMissing) {
  const auto refuses = [](const Options& options, const std::vector<std::string>& words) {
    return Says(KvCache::Create(options).status(), absl::StatusCode::kInvalidArgument, words);
  };
  Options options = Strict();
  options.quotas[1].max_permille = 401;
  EXPECT_TRUE(refuses(options, {"quotas[1]", "tenant 'b'", "equal", "400 and 401"}));
  options = Strict();
  options.quotas[0].sequences = 0;
  EXPECT_TRUE(refuses(options, {"quotas[0]", "tenant 'a'", "sequences is 0"}));
  options = Strict();
  options.quotas[1].sequences = 7;
  EXPECT_TRUE(refuses(options, {"quotas[1]", "sequences is 7", "max_sequences, 8"}));
  options.quotas[1].sequences = -1;
  EXPECT_TRUE(refuses(options, {"quotas[1]", "sequences is -1", "at least 0"}));
  options = Strict();
  options.groups.push_back(Group(1, 4));
  EXPECT_TRUE(refuses(options, {"tenant 'a'", "no page of groups[1]", "200 thousandths of 4"}));
  options = Strict();
  options.quotas.clear();
  EXPECT_TRUE(refuses(options, {"strict_tenants", "quotas is empty"}));
  options = Strict();
  // A window's way to its pages may be as long as the sequences are.
  options.groups[0] = Group(1, 100, 4);
  options.max_sequences = 1024;
  options.max_sequence_tokens = 1 << 20;
  options.quotas.clear();
  for (int i = 0; i < 64; ++i) {
    options.quotas.push_back({.tenant = std::to_string(i),
                              .guaranteed_permille = 15,
                              .max_permille = 15,
                              .sequences = 16});
  }
  EXPECT_TRUE(
      refuses(options, {"prefix index would need", "at most 1073741824", "max_index_nodes"}));
}

}  // namespace
}  // namespace quire::testing
