// CacheCore: the state behind KvCache and Sequence, and every rule of docs/design.md in one place.
//
// States of a page here, on top of the allocator's (free, live, parked):
//
//   allocator  indexed?  held?   |  called
//   free       no        no      |  free
//   live       any       any     |  live
//   parked     yes       no      |  cached: in the group's Reclaimer, reclaimable at once
//   parked     any       yes     |  live in Stats: an outstanding copy needs it; Retire decides
//   parked     no        no      |  never between two calls
//
// A page may be written by a sequence only if it has one reference and no key. Everything else is
// copied at Reserve, a cached page revived to one reference included. `capacity` of a sequence says
// up to where its pages are writable without asking again; that is what makes Reserve one
// comparison in the common step.
//
// Holds are not references: they keep a copy's source and target from being handed out again, but
// the last of k forks may still write in place.
//
// The exact need of a batch (pages and copies, per group and account) is computed before anything
// is taken, by the rules that take it; every cached page is reclaimable; so a call that fails has
// evicted nothing. cache_core_quota.cc has the rule.
//
// An account is who pays for pages: a tenant with a quota, or all others together (the last one,
// and the only one without quotas). A page is charged to its sequence's account from when it is
// taken until it is free. The tenant is part of every key, so all who ever hold the page have that
// account.
//
// The file is split by verb: cache_core.cc (create, fork, drop), cache_core_start.cc,
// cache_core_reserve.cc, cache_core_quota.cc (accounts), cache_core_commit.cc (commit, truncate),
// cache_core_retention.cc, cache_core_plan.cc (plans, retire, clear), cache_core_scrub.cc,
// cache_core_validate.cc.

#ifndef QUIRE_LIB_CACHE_CORE_H_
#define QUIRE_LIB_CACHE_CORE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/huge_memory.h"
#include "lib/match.h"
#include "lib/prefix_index.h"
#include "lib/reclaimer.h"
#include "quire/block_allocator.h"
#include "quire/kv_cache.h"

namespace quire {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

class CacheCore {
 public:
  static absl::StatusOr<std::unique_ptr<CacheCore>> Create(const Options& options);

  absl::StatusOr<Sequence> Start(std::span<const TokenId> prompt, const Namespace& ns,
                                 const StartOptions& options);
  int32_t MatchLength(std::span<const TokenId> prompt, const Namespace& ns) const;
  absl::Status CheckFits(int64_t total_tokens, int32_t step_tokens, const Namespace& ns) const;
  absl::StatusOr<Sequence> Fork(const Sequence& sequence);
  void Drop(const Sequence& sequence);

  absl::Status ReserveAll(std::span<Sequence* const> sequences, std::span<const int32_t> counts);
  absl::Status CommitAll(std::span<Sequence* const> sequences, std::span<const TokenId> tokens,
                         std::span<const int32_t> counts);
  absl::Status Truncate(const Sequence& sequence, int32_t length);

  Plan TakePlan();
  void Retire(Ticket ticket, bool failed);
  void ClearCached();

  // A sequence's own view.
  int32_t length(const Sequence& s) const { return StateOf(s).length; }
  int32_t capacity(const Sequence& s) const { return StateOf(s).capacity; }
  int32_t hit_tokens(const Sequence& s) const { return StateOf(s).hit_tokens; }
  int32_t valid_length(const Sequence& s) const;
  std::span<const PageId> pages(const Sequence& s, GroupId group) const;
  int64_t row_begin(const Sequence& s, int32_t group) const;
  const PageId* rows(int32_t group) const { return groups_[group].rows.data(); }

  const Options& options() const { return options_; }
  int32_t sequence_count() const { return sequence_count_; }
  void FillStats(Stats* stats) const;
  absl::Status Validate() const;

 private:
  static constexpr int32_t kAllValid = INT32_MAX;
  static constexpr int64_t kMaxNodes = int64_t{1} << 30;  // of the prefix index

  // Resident logical pages of one group are [first_page, page_count) of the row; what lies before
  // has left the lookback and is kNoPage.
  struct Extent {
    int32_t first_page = 0;
    int32_t page_count = 0;
  };

  // One cache line for a cache with one group: a decode step touches one line a sequence.
  struct alignas(64) State {
    uint32_t generation = 0;
    bool alive = false;
    bool write_cache = false;  // what it commits may be indexed
    bool chain_whole = false;  // every whole unit below length is indexed below tip, and the
                               // tokens of the last, unfinished unit are known
    uint8_t account = 0;
    bool retains = false;  // it has entries in retention_
    int32_t length = 0;
    int32_t capacity = 0;  // writable up to here
    int32_t hit_tokens = 0;
    int32_t valid_length =
        kAllValid;              // else some page from there on is bad, reserved ones included
    NodeId tip = kDefaultRoot;  // node of the last indexed unit; pinned
    int32_t tip_units = 0;
    int32_t known_units = 0;  // of those, hit, or once indexed and remembered
    uint64_t batch = 0;       // last batch that named it: finds a sequence named twice
    std::array<Extent, kMaxGroups> extents;
  };

  struct Account {
    std::unique_ptr<Reclaimer> cached;
    int32_t used = 0;  // pages that are not free; kept only with quotas, see UsedBy
    int32_t guaranteed = 0;
    int32_t max = 0;
    int32_t limit = 0;  // max, or less because of what others are guaranteed
    int64_t evictions = 0;
    int64_t copies = 0;
    bool retains = false;  // `cached` is a RetainingReclaimer
  };

  // With Options::scrub_released: what is known about a page's bytes.
  struct ScrubMark {
    enum State : uint64_t {
      kClean,   // free, and scrubbed by `plan` or never used
      kUsed,    // somebody has it, and had it when `plan` was taken or got it later
      kListed,  // in scrubs_: was free since the last plan was taken, and perhaps handed out again
    };
    uint64_t plan : 62;  // ticket of the latest plan that scrubs it
    uint64_t state : 2;
  };

  struct Group {
    GroupOptions options;
    int32_t units_per_page = 1;
    int64_t row_stride = 0;
    int32_t ahead = 0;  // pages to fetch ahead in a walk over a row; 0 where all stays in cache
    BlockAllocator allocator;
    std::vector<Account> accounts;
    Reclaimer* sole = nullptr;      // without quotas: the only account's
    HugeArray<uint8_t> account_of;  // [page] that is not free; empty without quotas
    bool counts_uses = false;       // an account's cached->counts_uses(), without the call
    bool retains = false;           // an account's
    HugeArray<PageId> rows;         // [max_sequences][row_stride]
    HugeArray<uint16_t> holds;      // [page] outstanding copies that name it
    HugeArray<ScrubMark> scrubs;    // [page]; empty without scrub_released
    int32_t held = 0;               // sum of holds: zero lets the common path skip the array
    int64_t evictions = 0;
    int64_t copies = 0;
  };

  // Alive, and the most; of an account without sequences of its own, of all such together.
  struct Seats {
    int32_t alive = 0;
    int32_t max = 0;
  };

  // Of a copy: fails with the plan, or with the page it copies from; kFailing: not yet seen to.
  enum class CopyState : uint8_t { kGood, kFailing, kFailed };

  struct CopyRecord {
    PageCopy copy;
    int32_t page_start;  // token position of the page's first slot
    CopyState state = CopyState::kGood;
    // Pinned. What stands below it may be built on the target: where the target hung when
    // ClearCached emptied the index, or, with several page sizes, where the sequence stood that the
    // copy was planned for.
    NodeId node = kNoNode;
  };

  struct PlanRecord {
    Ticket ticket;
    std::vector<CopyRecord> records;
    std::vector<PageCopy> copies;
    std::vector<PageScrub> scrubs;
  };

  struct SequenceRetention {
    std::vector<Retention> ranges;  // by begin
    int32_t longest = 0;            // the sequence's greatest length before a Truncate
    // [group] what the pages that it let go are worth, at most. What stands before them gets that,
    // too: others may have raised them, and hold other pages of the prefix before.
    std::array<Reclaimer::Worth, kMaxGroups> passed;
  };

  explicit CacheCore(const Options& options) : options_(options) {}
  absl::Status Init();
  absl::Status InitGroup(const GroupOptions& options, int32_t units_per_page);
  absl::Status InitIndex();
  absl::Status InitReclaimers();
  ReclaimerGroup ReclaimerGroupOf(int32_t group) const;

  // cache_core.cc
  State& StateOf(const Sequence& s) { return const_cast<State&>(std::as_const(*this).StateOf(s)); }
  const State& StateOf(const Sequence& s) const;
  Sequence NewSequence(int32_t account);
  PageId* Row(int32_t group, int32_t slot) {
    Group& g = groups_[group];
    return g.rows.data() + slot * g.row_stride;
  }
  const PageId* Row(int32_t group, int32_t slot) const {
    return const_cast<CacheCore*>(this)->Row(group, slot);
  }
  TokenId* TailTokens(int32_t slot) {
    return tail_tokens_.data() + static_cast<size_t>(slot) * static_cast<size_t>(unit_);
  }
  MatchRules Rules() const;
  void PinMatch(State& state, int32_t slot, const MatchResult& match);
  void PinHit(int32_t group, PageId page);
  void ReleasePage(int32_t group, PageId page, const Release& release = {});
  Release ReleaseOf(const State& state) const;
  void FreePage(Group& g, PageId page) {
    if (g.account_of.size() > 0) --g.accounts[g.account_of[static_cast<size_t>(page)]].used;
    if (g.scrubs.size() > 0) ListScrub(g, page);
    g.allocator.Free(page);
  }
  static int32_t AccountOf(const Group& g, PageId page) {
    return g.account_of.size() > 0 ? g.account_of[static_cast<size_t>(page)] : 0;
  }
  static Reclaimer& CachedOf(const Group& g, PageId page) {
    if (g.sole != nullptr) return *g.sole;
    return *g.accounts[g.account_of[static_cast<size_t>(page)]].cached;
  }
  void PrefetchPage(int32_t group, PageId page) const;
  void Park(int32_t group, PageId page, const Release& release);
  void MoveTip(State& state, NodeId tip, int32_t units);
  int32_t group_count() const { return static_cast<int32_t>(groups_.size()); }

  // cache_core_reserve.cc
  struct Need {
    int64_t pages = 0;
    // Of those, copies that could be avoided by taking the page out of the index: its only holder
    // is the sequence that wants to write.
    int64_t avoidable = 0;
    int64_t avoid = 0;  // of those, for which there is no room
  };
  Need& NeedOf(int32_t group, int32_t account) {
    return needs_[static_cast<size_t>(group) * groups_[group].accounts.size() +
                  static_cast<size_t>(account)];
  }
  absl::Status AddNeed(const State& state, int32_t slot, int32_t count);
  int32_t Overdue(int32_t group, int32_t slot, int32_t first, int32_t end) const;
  void SubtractLastForks();
  bool Writable(int32_t group, PageId page) const;
  bool MayTakeOver(int32_t group, PageId page) const;
  bool TailMustBeCopied(int32_t group, const State& state, int32_t slot) const;
  absl::Status DataLoss(const State& state) const;
  absl::Status NeverFits(const std::string& what, int32_t group, int32_t account,
                         int64_t pages) const;
  void TakePages(const Sequence& sequence, int32_t count);
  void TakeFrom(int32_t group, int32_t account, std::span<PageId> out);
  void Evict(int32_t group, int32_t account, int32_t count);
  void PlanCopy(int32_t group, const Sequence& sequence, PageId* tail);

  // cache_core_quota.cc
  static absl::Status CheckQuotas(const Options& options);
  static absl::Status CheckStrict(const Options& options);
  absl::Status InitAccounts(Group* g) const;
  void InitSeats();
  int64_t DefaultNodes(int32_t account) const;
  absl::StatusOr<std::vector<int32_t>> NodeBudgets() const;
  bool IsNamed(int32_t account) const {
    return static_cast<size_t>(account) < options_.quotas.size();
  }
  bool HasOwnSeats(int32_t account) const {
    return IsNamed(account) && options_.quotas[static_cast<size_t>(account)].sequences > 0;
  }
  Seats& SeatsOf(int32_t account) {
    return HasOwnSeats(account) ? seats_[static_cast<size_t>(account)] : seats_.back();
  }
  bool HasSeat(int32_t account) {
    const Seats& seats = SeatsOf(account);
    return seats.alive < seats.max;
  }
  std::string WhoIs(int32_t account) const;
  absl::Status CheckOneTenant(std::span<Sequence* const> sequences) const;
  int32_t PayerOf(const Namespace& ns) const;
  int32_t UsedBy(const Group& g, const Account& account) const {
    return g.accounts.size() == 1 ? g.options.page_count - g.allocator.free_count() : account.used;
  }
  std::string LimitOf(int32_t group, int32_t account) const;
  bool Fits(int32_t group);
  void Charge(int32_t group, int32_t account, int32_t count);
  void FillTenants(const Group& g, std::vector<TenantStats>* tenants) const;
  absl::Status ValidateAccounts(int32_t group) const;

  // cache_core_retention.cc
  static absl::Status CheckRetention(std::span<const Retention> retention);
  absl::Status PrepareRetention(int32_t account, int32_t slot, std::span<const Retention> retention,
                                std::vector<std::unique_ptr<Reclaimer>>* made);
  void HonourRetention(int32_t account, std::vector<std::unique_ptr<Reclaimer>> made);
  void KeepRetention(int32_t slot, std::span<const Retention> retention);
  void AddRetention(const State& state, int32_t slot, int32_t group, int32_t logical,
                    Release* release) const;
  void NoteRelease(const State& state, int32_t slot, int32_t group, int32_t logical,
                   Release* release);
  void Raise(const Reclaimer::Worth& least, Release* release) const;
  void BeginStep();

  // cache_core_commit.cc
  void CommitOne(const Sequence& sequence, std::span<const TokenId> tokens);
  void IndexTokens(State& state, int32_t slot, std::span<const TokenId> tokens);
  int32_t FirstNeeded(int32_t group, int32_t length) const;
  bool AwaitsPlan(const State& state, int32_t slot) const;
  bool IndexUnits(State& state, int32_t slot, const TokenId* tokens, int32_t first, int32_t count);
  bool IndexUnit(State& state, int32_t slot, const TokenId* tokens, uint64_t key, int32_t units);
  void ReleasePastWindow(State& state, int32_t slot);
  void TruncateChain(State& state, int32_t slot, int32_t length);

  // cache_core_plan.cc
  bool SetPlanAside();
  void Hold(int32_t group, PageId page);
  void Unhold(int32_t group, PageId page);
  const CopyRecord* PendingCopyTo(int32_t group, PageId page) const;
  void CancelCopyTo(int32_t group, PageId page);
  void FailPlan(PlanRecord* plan);
  void FailTarget(const CopyRecord& record);
  bool IsBelow(NodeId node, NodeId ancestor) const;
  void UnindexSubtree(NodeId root);
  static constexpr int32_t kAllAccounts = -1;
  void UnindexEverything(int32_t account);
  void DetachAllPages(NodeId node);

  // cache_core_scrub.cc
  absl::Status InitScrubs();
  void ListScrub(Group& g, PageId page);
  static void MarkUsed(Group& g, std::span<const PageId> pages);
  void TakeScrubs(PlanRecord* plan);
  bool AwaitsScrub(const State& state, int32_t slot, int32_t count) const;
  void FailScrubs(const PlanRecord& plan, const std::function<void(const CopyRecord&)>& fail);
  absl::Status ValidateScrubs(int32_t group) const;

  // cache_core_validate.cc
  absl::Status ValidateGroup(int32_t group) const;
  absl::Status ValidateSequence(int32_t slot, std::vector<uint32_t>* pins) const;
  absl::Status ValidateHolds(int32_t group) const;

  Options options_;
  int32_t unit_ = 0;           // tokens of an index node: the smallest tokens_per_page
  int32_t aligned_units_ = 1;  // least common multiple of the groups' pages, in units
  bool uniform_ = true;        // all groups have the same tokens_per_page
  std::vector<Group> groups_;
  PrefixIndex index_;

  HugeArray<State> states_;
  HugeArray<TokenId> tail_tokens_;  // [max_sequences][unit] tokens of the unfinished unit
  std::vector<int32_t> free_slots_;
  int32_t sequence_count_ = 0;
  std::vector<Seats> seats_;  // [account]; the last one's are for all without seats of their own

  std::vector<CopyRecord> pending_;                       // planned, not yet taken
  std::vector<PageScrub> scrubs_;                         // of the next plan; room for every page
  std::vector<std::unique_ptr<PlanRecord>> outstanding_;  // taken, not yet retired; by ticket
  std::vector<std::unique_ptr<PlanRecord>> spare_plans_;  // one at least while copies are pending
  uint64_t last_ticket_ = 0;
  uint64_t last_batch_ = 0;
  std::vector<int32_t> takers_;                           // scratch of ReserveAll: who needs pages
  std::vector<std::pair<int32_t, PageId>> shared_tails_;  // scratch of ReserveAll
  bool overdue_ = false;     // in ReserveAll: has a taker pages from before its window?
  std::vector<Need> needs_;  // [group][account] of ReserveAll

  std::vector<SequenceRetention> retention_;  // [slot]; empty until somebody asks for it
  int64_t step_ = 0;                          // calls of TakePlan

  // Counters of Stats.
  int64_t tokens_looked_up_ = 0;
  int64_t tokens_hit_ = 0;
  MissTokens missed_;
  int64_t commits_not_indexed_ = 0;
  int64_t out_of_room_ = 0;
  int64_t copies_failed_ = 0;
};

}  // namespace quire

#endif  // QUIRE_LIB_CACHE_CORE_H_
