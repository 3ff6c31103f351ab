// A pool that is full, a demand of two to four times the pool, and pages that are held by copies
// not yet retired and by sequences that are parked: does everybody get done?
//
// What is shown, at every call: Reserve succeeds at once exactly if there is room, where what is
// cached counts as room (RoomFor is the rule). Then for a scheduler that serves the oldest first
// and lets it preempt whoever came later: nobody waits longer than the longest hold while nothing
// moves, and all end within a number of steps that follows from the demand. A request that can
// never fit is told so before it takes anything.
//
// Steps are counted, no clock is read.
//
//   QUIRE_LIVENESS_SEEDS=N   N seeds of each case instead of the default
//   QUIRE_LIVENESS_FIRST=K   begin with seed K

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/manager_util.h"
#include "tests/support/seeded.h"

namespace quire::testing {
namespace {

constexpr int kRequests = 40;
constexpr int kLongestHold = 50;  // steps that a copy stays outstanding
constexpr int kLongestPark = 25;  // steps that a sequence stays where it is, holding its pages
constexpr int kChunk = 8;

struct Request {
  int id = 0;  // in the order of arrival
  int tenant = 0;
  Tokens tokens;  // the prompt, and what will be generated
  int known = 0;  // of them
  int alone = 0;  // steps that it takes if nobody is in its way
  int parks_at = -1;
  int parked_until = 0;
  int preempted = 0;
  int preemptions_allowed = 0;
  bool fresh = false;  // it has not reserved since Start
  std::optional<Sequence> sequence;
};

Namespace NamespaceOf(int tenant) {
  return tenant == 0 ? Namespace() : Namespace().SetTenant(tenant == 1 ? "a" : "b");
}

// The account of `tenant` in TenantStats: a, b, all others.
size_t AccountOf(int tenant) { return tenant == 0 ? 2 : static_cast<size_t>(tenant - 1); }

int PagesFor(const GroupOptions& group, int tokens) {
  return (tokens + group.tokens_per_page - 1) / group.tokens_per_page;
}

class Scheduler {
 public:
  Scheduler(const Options& options, uint64_t seed)
      : options_(options), random_(seed), cache_(NewCache(options)) {
    for (int i = 0; i < 4; ++i) stems_.push_back(DrawTokens(6 + random_.Below(20)));
  }

  // All requests of a run. False where something went wrong; gtest knows what.
  void Run();

  int64_t steps = 0;
  int64_t full_steps = 0;  // somebody was refused
  int64_t refused = 0;
  int64_t preemptions = 0;
  int64_t within_guarantee = 0;  // reservations that another's flood could not refuse
  int longest_stall = 0;
  int64_t held = 0;    // summed over the steps: plans outstanding,
  int64_t parked = 0;  // and sequences that stand still

 private:
  Tokens DrawTokens(int count) {
    Tokens tokens(static_cast<size_t>(count));
    for (TokenId& token : tokens) token = random_.Below(50);
    return tokens;
  }
  void Arrive();
  void RefuseWhatCannotFit();
  bool RoomFor(const Request& request, int count, bool with_copy, bool guaranteed,
               bool at_best) const;
  bool Reserve(Request& request, int count);
  bool PreemptFor(const Request& request);
  bool Advance(Request& request);
  bool Admit(Request& request, bool guaranteed);
  int CountOf(const Request& request) const;
  void TakeAndRetirePlans();
  int DemandInPages() const;
  bool Step();

  Options options_;
  Dice random_;
  std::unique_ptr<KvCache> cache_;
  std::vector<Tokens> stems_;
  std::vector<std::unique_ptr<Request>> open_;  // not done, the oldest first
  int arrived_ = 0;
  int64_t alone_ = 0;                               // sum over all requests
  std::deque<std::pair<Ticket, int64_t>> tickets_;  // with the step at which they retire
};

// Keeps the demand between two and four times the pool while there are requests to come.
void Scheduler::Arrive() {
  const int pages = options_.groups[0].page_count;
  while (arrived_ < kRequests && DemandInPages() < (open_.empty() ? 4 : 3) * pages) {
    auto request = std::make_unique<Request>();
    request->id = arrived_++;
    request->tenant = random_.Below(3);
    Tokens prompt = stems_[static_cast<size_t>(random_.Below(4))];
    prompt.resize(static_cast<size_t>(1 + random_.Below(static_cast<int>(prompt.size()))));
    prompt = prompt + DrawTokens(random_.Below(20));
    request->known = static_cast<int>(prompt.size());
    const int output = 1 + random_.Below(random_.OneIn(4) ? 100 : 30);
    request->tokens = prompt + DrawTokens(output);
    const auto total = static_cast<int>(request->tokens.size());
    const Namespace ns = NamespaceOf(request->tenant);
    if (!cache_->CheckFits(total, kChunk, ns).ok()) {
      // Nor does it get in: whoever asked is told before anything was taken.
      if (cache_->CheckFits(request->known, 1, ns).ok()) continue;
      const absl::StatusOr<Sequence> started = cache_->Start(prompt, ns);
      EXPECT_TRUE(Says(started.status(), absl::StatusCode::kInvalidArgument, {}));
      continue;
    }
    request->alone = (request->known + kChunk - 1) / kChunk + output;
    if (random_.OneIn(2)) request->parks_at = request->known + random_.Below(output);
    request->preemptions_allowed = static_cast<int>(alone_);  // each step of each older one
    alone_ += request->alone;
    open_.push_back(std::move(request));
  }
}

int Scheduler::DemandInPages() const {
  int pages = 0;
  for (const auto& request : open_) {
    pages += PagesFor(options_.groups[0], static_cast<int>(request->tokens.size()));
  }
  return pages;
}

// Too large for the pool, for the quota or for a row: never "not now".
void Scheduler::RefuseWhatCannotFit() {
  const GroupOptions& group = options_.groups[0];
  const Stats before = cache_->stats();
  const int pool = group.page_count * group.tokens_per_page;
  struct Case {
    int tokens;
    int tenant;
  };
  std::vector<Case> cases = {{options_.max_sequence_tokens + 1, 0}};
  if (group.lookback_tokens == kAllTokens) cases.push_back({pool + 1, 0});
  if (!options_.quotas.empty()) {
    const TenantStats b = before.groups[0].tenants[AccountOf(2)];
    cases.push_back({b.max_pages * group.tokens_per_page + 1, 2});
  }
  for (const Case& one : cases) {
    const Namespace ns = NamespaceOf(one.tenant);
    EXPECT_TRUE(
        Says(cache_->CheckFits(one.tokens, kChunk, ns), absl::StatusCode::kInvalidArgument, {}));
    const absl::StatusOr<Sequence> started = cache_->Start(Iota(0, one.tokens), ns);
    EXPECT_TRUE(Says(started.status(), absl::StatusCode::kInvalidArgument, {}));
  }
  const Stats after = cache_->stats();
  EXPECT_EQ(after.sequences, before.sequences);
  EXPECT_EQ(after.groups[0].pages_free, before.groups[0].pages_free);
  EXPECT_EQ(after.groups[0].evictions, before.groups[0].evictions);
}

// The next tokens: of what is known a chunk, then one at a time.
int Scheduler::CountOf(const Request& request) const {
  const int length = request.sequence->length();
  return length < request.known ? std::min(kChunk, request.known - length) : 1;
}

// The rule. Live pages stay, cached ones can all go. With quotas no account may have more than its
// maximum live, and what accounts have live, or are guaranteed where that is more, fits in the
// pool. `guaranteed`: is the account's own guarantee enough? `at_best`: what has left the
// sequence's window goes first, unless a copy still needs it.
bool Scheduler::RoomFor(const Request& request, int count, bool with_copy, bool guaranteed,
                        bool at_best) const {
  const Stats stats = cache_->stats();
  for (size_t g = 0; g < options_.groups.size(); ++g) {
    const GroupOptions& group = options_.groups[g];
    const Sequence& sequence = *request.sequence;
    const int end = sequence.length() + count;
    const std::span<const PageId> pages = sequence.pages(GroupId{static_cast<int>(g)});
    const auto have = static_cast<int>(pages.size());
    int need = std::max(0, PagesFor(group, end) - have);
    const int past = std::max(0, sequence.length() - group.lookback_tokens) / group.tokens_per_page;
    for (int p = 0; at_best && p < past; ++p) {
      need -= pages[static_cast<size_t>(p)] != kNoPage;
    }
    if (with_copy && sequence.length() % group.tokens_per_page != 0) ++need;
    const GroupStats& now = stats.groups[g];
    if (now.tenants.empty()) {
      if (guaranteed || now.pages_live + need > group.page_count) return false;
      continue;
    }
    int sum = 0;
    for (size_t a = 0; a < now.tenants.size(); ++a) {
      const TenantStats& tenant = now.tenants[a];
      const int live = tenant.pages_live + (a == AccountOf(request.tenant) ? need : 0);
      const bool payer = a == AccountOf(request.tenant);
      if (payer && live > (guaranteed ? tenant.guaranteed_pages : tenant.max_pages)) return false;
      sum += std::max(live, tenant.guaranteed_pages);
    }
    if (!guaranteed && sum > group.page_count) return false;
  }
  return true;
}

bool Scheduler::Reserve(Request& request, int count) {
  const bool surely = RoomFor(request, count, request.fresh, false, false);
  const bool perhaps = RoomFor(request, count, false, false, true);
  const bool guaranteed = RoomFor(request, count, request.fresh, true, false);
  const int64_t evictions = StatsOf(*cache_).evictions;
  const absl::Status status = request.sequence->Reserve(count);
  if (status.ok()) {
    EXPECT_TRUE(perhaps) << "request " << request.id << " got pages that nobody had";
    within_guarantee += guaranteed;
    request.fresh = false;
    return true;
  }
  EXPECT_NO_ROOM(status);
  EXPECT_FALSE(surely) << "request " << request.id << " was refused though there is room";
  EXPECT_FALSE(guaranteed) << "request " << request.id << " was refused what it is guaranteed";
  EXPECT_EQ(StatsOf(*cache_).evictions, evictions) << "evicted for nothing";
  ++refused;
  return false;
}

// The newest of those who came later and are not parked gives way: of the same tenant first.
bool Scheduler::PreemptFor(const Request& request) {
  for (const bool same_tenant : {true, false}) {
    for (size_t i = open_.size(); i-- > 0;) {
      Request& victim = *open_[i];
      if (victim.id <= request.id) break;
      if (!victim.sequence.has_value() || victim.parked_until > steps) continue;
      if (same_tenant && victim.tenant != request.tenant) continue;
      victim.sequence.reset();
      ++victim.preempted;
      ++preemptions;
      EXPECT_LE(victim.preempted, victim.preemptions_allowed) << "request " << victim.id;
      return true;
    }
  }
  return false;
}

// One step of one request. False if it has to wait.
bool Scheduler::Advance(Request& request) {
  const int count = CountOf(request);
  while (!Reserve(request, count)) {
    if (!PreemptFor(request)) return false;
  }
  TakeAndRetirePlans();
  const int length = request.sequence->length();
  const auto begin = request.tokens.begin() + length;
  EXPECT_OK(request.sequence->Commit(Tokens(begin, begin + count)));
  request.known = std::max(request.known, length + count);
  if (request.parks_at >= 0 && length + count > request.parks_at) {
    request.parks_at = -1;
    request.parked_until = static_cast<int>(steps) + 1 + random_.Below(kLongestPark);
  }
  return true;
}

// `guaranteed`: only if it is guaranteed what it needs now.
bool Scheduler::Admit(Request& request, bool guaranteed) {
  const Tokens prompt(request.tokens.begin(), request.tokens.begin() + request.known);
  absl::StatusOr<Sequence> started = cache_->Start(prompt, NamespaceOf(request.tenant));
  if (!started.ok()) {
    EXPECT_NO_ROOM(started.status());  // max_sequences
    return false;
  }
  request.sequence = *std::move(started);
  request.fresh = true;
  // Not at the cost of others: it goes on waiting if there is no room.
  const int count = CountOf(request);
  if ((!guaranteed || RoomFor(request, count, true, true, false)) && Reserve(request, count))
    return true;
  request.sequence.reset();
  return false;
}

void Scheduler::TakeAndRetirePlans() {
  const Plan plan = cache_->TakePlan();
  if (plan.ticket == kNoTicket) return;
  const int64_t last = tickets_.empty() ? 0 : tickets_.back().second;
  // In order, so none later than the longest hold after it was taken.
  tickets_.emplace_back(plan.ticket, std::max(last, steps + 1 + random_.Below(kLongestHold)));
}

// Oldest first. While one waits, those behind it may take no more than what they are guaranteed: so
// pages that are given back are for the one that waits. True if anything moved.
bool Scheduler::Step() {
  for (; !tickets_.empty() && tickets_.front().second <= steps; tickets_.pop_front()) {
    cache_->Retire(tickets_.front().first);
  }
  held += static_cast<int64_t>(tickets_.size());
  bool moved = false;
  bool somebody_waits = false;
  for (size_t i = 0; i < open_.size(); ++i) {
    Request& request = *open_[i];
    if (request.parked_until > steps) {
      ++parked;
      continue;
    }
    if (!request.sequence.has_value()) {
      if (!Admit(request, somebody_waits)) {
        somebody_waits = true;
        continue;
      }
    } else if (somebody_waits && !RoomFor(request, CountOf(request), true, true, false)) {
      continue;
    }
    if (!Advance(request)) {
      somebody_waits = true;
      continue;
    }
    moved = true;
    if (request.sequence->length() < static_cast<int>(request.tokens.size())) continue;
    request.sequence.reset();
    open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(i--));
  }
  full_steps += somebody_waits;
  return moved;
}

void Scheduler::Run() {
  // The oldest is never preempted, and moves unless pages are held that it needs; while it waits
  // nobody begins to hold more. So each of its steps comes after at most one hold and one park.
  const int hold = kLongestHold + kLongestPark;
  int stall = 0;
  for (Arrive(); !open_.empty() || arrived_ < kRequests; Arrive()) {
    ++steps;
    if (steps % 16 == 0) RefuseWhatCannotFit();
    stall = Step() ? 0 : stall + 1;
    longest_stall = std::max(longest_stall, stall);
    ASSERT_LE(stall, hold) << "nothing moves any more";
    ASSERT_LE(steps, alone_ * (1 + hold)) << "not done within what the demand allows";
    if (steps % 8 == 0) {
      ASSERT_OK(cache_->Validate());
    }
    if (::testing::Test::HasFailure()) return;
  }
  for (const auto& [ticket, step] : tickets_) cache_->Retire(ticket);
  tickets_.clear();
  EXPECT_EQ(StatsOf(*cache_).pages_live, 0);
}

struct Case {
  const char* name;
  bool window;
  bool quotas;
};

Options OptionsFor(const Case& one, Reclaim reclaim, uint64_t seed) {
  Dice random(seed + 1000);
  const int per_page = 2 + random.Below(6);
  const int pages = (90 + random.Below(60)) / per_page;
  Options options = OneGroup(per_page, pages);
  if (one.window) options.groups.push_back(Group(per_page, pages / 2 + 4, 9));
  options.max_sequence_tokens = 4 * per_page * pages;
  options.max_sequences = 12;
  options.min_copy_tokens = 1;
  options.reclaim = reclaim;
  if (one.quotas) options.quotas = {{"a", 300, 1000}, {"b", 0, 700}};
  return options;
}

class LivenessTest : public ::testing::TestWithParam<Case> {};

TEST_P(LivenessTest, EverybodyGetsDone) {
  const auto seeds = static_cast<int>(FromEnvironment("QUIRE_LIVENESS_SEEDS", 2));
  const auto first = static_cast<int>(FromEnvironment("QUIRE_LIVENESS_FIRST", 0));
  int64_t steps = 0, full = 0, refused = 0, preemptions = 0, guaranteed = 0, held = 0, parked = 0;
  int stall = 0;
  for (int seed = first; seed < first + seeds; ++seed) {
    for (int i = 0; i <= static_cast<int>(Reclaim::kLearned); ++i) {
      const auto number = static_cast<uint64_t>(seed);
      Scheduler run(OptionsFor(GetParam(), static_cast<Reclaim>(i), number), number);
      run.Run();
      ASSERT_FALSE(HasFailure()) << "seed " << seed << ", policy " << i;
      steps += run.steps;
      full += run.full_steps;
      refused += run.refused;
      preemptions += run.preemptions;
      guaranteed += run.within_guarantee;
      held += run.held;
      parked += run.parked;
      stall = std::max(stall, run.longest_stall);
    }
  }
  std::printf(
      "scorecard: liveness: steps %lld, of them with somebody waiting %lld, refusals %lld, "
      "preemptions %lld, "
      "within a guarantee %lld, plans outstanding %.2f and sequences parked %.2f in a step, "
      "longest stall %d\n",
      static_cast<long long>(steps), static_cast<long long>(full), static_cast<long long>(refused),
      static_cast<long long>(preemptions), static_cast<long long>(guaranteed), 1.0 * held / steps,
      1.0 * parked / steps, stall);
  // Otherwise it was not full, and nobody in anybody's way.
  EXPECT_GT(2 * full, steps);
  EXPECT_GT(preemptions, 10);
  EXPECT_GT(held, steps / 4);
  EXPECT_GT(parked, steps / 4);
  EXPECT_GT(stall, 1);  // and it was the holds that somebody had to wait for
  EXPECT_EQ(guaranteed > 0, GetParam().quotas);
}

// Tenant b takes all it can get, with sequences that it never gives back, and more of them at each
// step. Requests of tenant a that fit into what it is guaranteed do not notice: each ends in the
// steps that it takes alone.
TEST(GuaranteeTest, AFloodDoesNotDelayWhatIsGuaranteed) {
  for (int i = 0; i <= static_cast<int>(Reclaim::kLearned); ++i) {
    Options options = OneGroup(2, 50);
    options.reclaim = static_cast<Reclaim>(i);
    options.max_sequences = 200;
    options.quotas = {{"a", 300, 1000}};
    const std::unique_ptr<KvCache> cache = NewCache(options);
    Dice random(static_cast<uint64_t>(i) + 1);
    std::vector<Sequence> flood;
    int refused = 0;
    const auto flood_more = [&] {
      flood.push_back(MustStart(*cache, Iota(random.Below(1000), 8), NamespaceOf(2)));
      for (Sequence& sequence : flood) {
        const absl::Status status = Feed(*cache, sequence, {random.Below(9)});
        if (status.ok()) continue;
        EXPECT_NO_ROOM(status);
        ++refused;
      }
      if (flood.size() > 100) flood.erase(flood.begin() + 60, flood.end());
    };
    while (refused == 0) flood_more();
    for (int request = 0; request < 20; ++request) {
      // 15 pages are guaranteed: 30 tokens.
      Sequence sequence = MustStart(*cache, Iota(30 * random.Below(3), 20), NamespaceOf(1));
      while (sequence.length() < 30) {
        flood_more();
        const int length = sequence.length();
        ASSERT_OK(Feed(*cache, sequence, {length < 20 ? length : random.Below(9)}))
            << "request " << request << " at " << length << " tokens";
      }
    }
    EXPECT_GT(refused, 1000);
    EXPECT_EQ(StatsOf(*cache).tenants[1].pages_live, 35);
    flood.clear();
    EXPECT_OK(cache->Validate());
  }
}

INSTANTIATE_TEST_SUITE_P(Pools, LivenessTest,
                         ::testing::Values(Case{"plain", false, false}, Case{"window", true, false},
                                           Case{"quotas", false, true},
                                           Case{"windowAndQuotas", true, true}),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace quire::testing
