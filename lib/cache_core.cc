#include "lib/cache_core.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "lib/check.h"
#include "lib/new_reclaimer.h"
#include "lib/out_of_memory.h"

namespace quire {

namespace {

constexpr int32_t kMaxTokensPerPage = 4096;
constexpr int32_t kMaxPages = 1 << 30;
constexpr int32_t kMaxSequences = 1 << 20;
constexpr int32_t kMaxTokens = 1 << 30;
constexpr int64_t kMaxPathNodes = int64_t{1} << 24;  // see Options::max_index_nodes

absl::Status OutOfRange(const std::string& field, int64_t value, int64_t low, int64_t high) {
  return absl::InvalidArgumentError(
      absl::StrCat("Options.", field, " is ", value, "; it must be ", low, " to ", high));
}

absl::Status CheckGroup(const GroupOptions& group, size_t i, int32_t unit) {
  const std::string name = absl::StrCat("groups[", i, "].");
  if (group.tokens_per_page < 1 || group.tokens_per_page > kMaxTokensPerPage) {
    return OutOfRange(name + "tokens_per_page", group.tokens_per_page, 1, kMaxTokensPerPage);
  }
  if (group.tokens_per_page % unit != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("Options.", name, "tokens_per_page is ", group.tokens_per_page,
                     "; it must be a multiple of the smallest group's, ", unit));
  }
  if (group.page_count < 1 || group.page_count > kMaxPages) {
    return OutOfRange(name + "page_count", group.page_count, 1, kMaxPages);
  }
  // So that the bytes of the whole pool are a number.
  const int64_t most = INT64_MAX / group.page_count;
  if (group.page_bytes < 0 || group.page_bytes > most) {
    return OutOfRange(name + "page_bytes", group.page_bytes, 0, most);
  }
  if (group.lookback_tokens < 0) {
    return OutOfRange(name + "lookback_tokens", group.lookback_tokens, 0, kAllTokens);
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const Options& options) {
  if (options.groups.empty() || options.groups.size() > kMaxGroups) {
    return OutOfRange("groups.size()", static_cast<int64_t>(options.groups.size()), 1, kMaxGroups);
  }
  int32_t unit = kMaxTokensPerPage;
  for (const GroupOptions& group : options.groups) {
    unit = std::max(1, std::min(unit, group.tokens_per_page));
  }
  for (size_t i = 0; i < options.groups.size(); ++i) {
    if (absl::Status status = CheckGroup(options.groups[i], i, unit); !status.ok()) return status;
  }
  const auto check = [](const char* field, int64_t value, int64_t low, int64_t high) {
    return value < low || value > high ? OutOfRange(field, value, low, high) : absl::OkStatus();
  };
  for (const absl::Status& status :
       {check("max_sequences", options.max_sequences, 1, kMaxSequences),
        check("max_sequence_tokens", options.max_sequence_tokens, 1, kMaxTokens),
        check("min_copy_tokens", options.min_copy_tokens, 1, kMaxTokens),
        check("max_rollback_tokens", options.max_rollback_tokens, 0, kMaxTokens),
        check("max_index_nodes", options.max_index_nodes, 0, kMaxPages),
        check("reclaim", static_cast<int64_t>(options.reclaim), 0,
              static_cast<int64_t>(Reclaim::kLearned))}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Pages fetched ahead in a walk over a row: on a large pool each page's count, key and links are
// cache misses of their own. A small pool stays in cache, and fetching would only cost.
constexpr int32_t kAhead = 12;
constexpr int32_t kLargePool = 1 << 15;

}  // namespace

absl::StatusOr<std::unique_ptr<CacheCore>> CacheCore::Create(const Options& options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  if (absl::Status status = CheckQuotas(options); !status.ok()) return status;
  if (absl::Status status = CheckStrict(options); !status.ok()) return status;
  auto core = std::unique_ptr<CacheCore>(new CacheCore(options));
  if (absl::Status status = core->Init(); !status.ok()) return status;
  return core;
}

absl::Status CacheCore::Init() {
  unit_ = options_.groups[0].tokens_per_page;
  for (const GroupOptions& group : options_.groups) unit_ = std::min(unit_, group.tokens_per_page);
  for (const GroupOptions& group : options_.groups) {
    const int32_t units = group.tokens_per_page / unit_;
    aligned_units_ = std::lcm(aligned_units_, units);
    uniform_ = uniform_ && units == 1;
    if (absl::Status status = InitGroup(group, units); !status.ok()) return status;
  }
  InitSeats();
  if (absl::Status status = InitIndex(); !status.ok()) return status;
  if (absl::Status status = InitReclaimers(); !status.ok()) return status;
  const auto sequences = static_cast<size_t>(options_.max_sequences);
  if (!states_.Allocate(sequences) ||
      !tail_tokens_.Allocate(sequences * static_cast<size_t>(unit_))) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for the states of ", sequences, " sequences; lower max_sequences"));
  }
  free_slots_.resize(sequences);
  for (size_t i = 0; i < sequences; ++i) {
    free_slots_[i] = static_cast<int32_t>(sequences - 1 - i);  // slot 0 goes first
  }
  takers_.reserve(sequences);
  shared_tails_.reserve(sequences * groups_.size());
  pending_.reserve(sequences * groups_.size());
  return options_.scrub_released ? InitScrubs() : absl::OkStatus();
}

// What max_index_nodes = 0 chooses for an account's share of the cache, or for all of it.
int64_t CacheCore::DefaultNodes(int32_t account) const {
  const bool all = account == kAllAccounts;
  const int64_t sequences = all ? options_.max_sequences : seats_[static_cast<size_t>(account)].max;
  int64_t nodes = 0;
  for (const Group& g : groups_) {
    const int64_t pages = all ? g.options.page_count : g.accounts[static_cast<size_t>(account)].max;
    nodes += pages * g.units_per_page;
  }
  // A source of a copy becomes cached only when its plan is retired; its ancestors may go before it
  // then, and their nodes stay behind as the way to it.
  nodes += nodes * 2 / 5 + 8 * sequences;
  const bool all_windows =
      std::all_of(options_.groups.begin(), options_.groups.end(),
                  [](const GroupOptions& group) { return group.lookback_tokens != kAllTokens; });
  if (all_windows) {
    // Then a page's ancestors have lost theirs and still lead to it.
    nodes +=
        std::min<int64_t>(kMaxPathNodes, sequences * CeilDiv(options_.max_sequence_tokens, unit_));
  }
  return nodes;
}

absl::Status CacheCore::InitIndex() {
  int64_t nodes =
      options_.max_index_nodes > 0 ? options_.max_index_nodes : DefaultNodes(kAllAccounts);
  nodes = std::min(nodes, kMaxNodes);
  std::vector<int32_t> budgets;
  if (options_.strict_tenants) {
    absl::StatusOr<std::vector<int32_t>> divided = NodeBudgets();
    if (!divided.ok()) return divided.status();
    budgets = *std::move(divided);
    nodes = std::accumulate(budgets.begin(), budgets.end(), int64_t{0});
  }
  if (!options_.prefix_caching) nodes = 0;
  std::vector<IndexGroup> index_groups;
  int64_t root_holders = options_.max_sequences;
  for (const Group& g : groups_) {
    index_groups.push_back({g.options.page_count, g.units_per_page});
    // So that not even roots run out: a copy may be all that pins one, and has a page of its own.
    if (options_.strict_tenants) root_holders += g.options.page_count;
  }
  absl::Status status =
      index_.Init(unit_, index_groups, static_cast<int32_t>(nodes),
                  static_cast<int32_t>(std::min(root_holders, kMaxNodes)), options_.hash_seed);
  if (!status.ok() || budgets.empty() || index_.Divide(budgets)) return status;
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory to note who pays for ", nodes, " index nodes; lower page_count"));
}

absl::Status CacheCore::InitGroup(const GroupOptions& options, int32_t units_per_page) {
  absl::StatusOr<BlockAllocator> allocator = BlockAllocator::Create(options.page_count);
  if (!allocator.ok()) return allocator.status();
  Group group{.options = options,
              .units_per_page = units_per_page,
              .row_stride = CeilDiv(options_.max_sequence_tokens, options.tokens_per_page),
              .ahead = options.page_count >= kLargePool ? kAhead : 0,
              .allocator = *std::move(allocator),
              .accounts = {},
              .sole = nullptr,
              .account_of = {},
              .rows = {},
              .holds = {},
              .scrubs = {}};
  const auto rows = static_cast<size_t>(options_.max_sequences);
  if (!group.rows.Allocate(rows * static_cast<size_t>(group.row_stride)) ||
      !group.holds.Allocate(static_cast<size_t>(options.page_count))) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no address space for ", rows, " page-table rows of ", group.row_stride,
                     " pages; lower max_sequences or max_sequence_tokens"));
  }
  if (absl::Status status = InitAccounts(&group); !status.ok()) return status;
  groups_.push_back(std::move(group));
  return absl::OkStatus();
}

ReclaimerGroup CacheCore::ReclaimerGroupOf(int32_t group) const {
  const Group& g = groups_[group];
  return {.index = &index_,
          .group = group,
          .page_count = g.options.page_count,
          .units_per_page = g.units_per_page,
          .closed = g.options.lookback_tokens == kAllTokens};
}

absl::Status CacheCore::InitReclaimers() {
  for (int32_t g = 0; g < group_count(); ++g) {
    for (Account& account : groups_[g].accounts) {
      account.cached = NewReclaimer(options_.reclaim, ReclaimerGroupOf(g));
      if (account.cached == nullptr) {
        return absl::ResourceExhaustedError(
            absl::StrCat("no memory for the order of group ", g, "'s ",
                         groups_[g].options.page_count, " cached pages; lower page_count",
                         options_.quotas.empty() ? "" : " or have fewer quotas"));
      }
      groups_[g].counts_uses = account.cached->counts_uses();
    }
    if (options_.quotas.empty()) groups_[g].sole = groups_[g].accounts[0].cached.get();
  }
  needs_.resize(groups_.size() * groups_[0].accounts.size());
  return absl::OkStatus();
}

const CacheCore::State& CacheCore::StateOf(const Sequence& s) const {
  QUIRE_CHECK(s.core_ == this, "the sequence is empty or belongs to another cache");
  const State& state = states_[static_cast<size_t>(s.slot_)];
  QUIRE_CHECK(state.alive && state.generation == s.generation_, "the sequence was released");
  return state;
}

Sequence CacheCore::NewSequence(int32_t account) {
  ++SeatsOf(account).alive;
  const int32_t slot = free_slots_.back();
  free_slots_.pop_back();
  ++sequence_count_;
  State& state = states_[static_cast<size_t>(slot)];
  const uint32_t generation = state.generation + 1;
  state = State{};
  state.generation = generation;
  state.alive = true;
  state.account = static_cast<uint8_t>(account);
  if (!retention_.empty()) retention_[static_cast<size_t>(slot)].passed.fill({});
  return Sequence(this, slot, generation);
}

absl::StatusOr<Sequence> CacheCore::Fork(const Sequence& sequence) {
  const int32_t from = sequence.slot_;
  State& source = StateOf(sequence);
  if (!HasSeat(source.account)) return Bare(absl::StatusCode::kResourceExhausted);
  // First of all, because it may allocate; nobody reads what a free slot has.
  if (source.retains) retention_[free_slots_.back()] = retention_[from];
  Sequence fork = NewSequence(source.account);
  State& state = StateOf(fork);
  const uint32_t generation = state.generation;
  state = source;
  state.generation = generation;
  state.batch = 0;
  state.capacity = state.length;
  // What is wrong with pages past length() is the original's affair: they are not shared.
  if (state.length <= state.valid_length) state.valid_length = kAllValid;
  index_.Pin(state.tip);
  std::copy_n(TailTokens(from), unit_, TailTokens(fork.slot_));
  bool tail_shared = false;
  for (int32_t g = 0; g < group_count(); ++g) {
    const int32_t tokens_per_page = groups_[g].options.tokens_per_page;
    Extent& extent = state.extents[g];
    extent.page_count = static_cast<int32_t>(CeilDiv(state.length, tokens_per_page));
    const PageId* row = Row(g, from);
    std::copy_n(row, extent.page_count, Row(g, fork.slot_));
    for (int32_t p = extent.first_page; p < extent.page_count; ++p)
      groups_[g].allocator.Ref(row[p]);
    tail_shared = tail_shared || state.length % tokens_per_page != 0;
  }
  // Both now share the page that would be written next: the original has to ask again, too.
  if (tail_shared) source.capacity = source.length;
  return fork;
}

void CacheCore::Drop(const Sequence& sequence) {
  State& state = StateOf(sequence);
  for (int32_t g = 0; g < group_count(); ++g) {
    const PageId* row = Row(g, sequence.slot_);
    const Extent& extent = state.extents[g];
    // The tail first: a prefix is only of use from its beginning, so its end is reclaimed first.
    const int32_t ahead = groups_[g].ahead;
    Release release = ReleaseOf(state);
    const int32_t last = state.tip_units / groups_[g].units_per_page - 1;
    for (int32_t p = extent.page_count - 1; p >= extent.first_page; --p) {
      if (ahead > 0 && p - ahead >= extent.first_page) PrefetchPage(g, row[p - ahead]);
      release.last = p == last;
      if (groups_[g].retains) NoteRelease(state, sequence.slot_, g, p, &release);
      ReleasePage(g, row[p], release);
    }
  }
  index_.Unpin(state.tip);
  state.alive = false;
  --SeatsOf(state.account).alive;
  --sequence_count_;
  free_slots_.push_back(sequence.slot_);
}

void CacheCore::PinHit(int32_t group, PageId page) {
  Group& g = groups_[group];
  // A parked page that is held was never given to the reclaimer.
  if (g.allocator.refs(page) == 0 && (g.held == 0 || g.holds[static_cast<size_t>(page)] == 0)) {
    CachedOf(g, page).Revive(page);
  } else if (g.counts_uses) {
    CachedOf(g, page).HitLive(page);
  }
  g.allocator.Ref(page);
}

Release CacheCore::ReleaseOf(const State& state) const {
  return {.new_units = state.tip_units - state.known_units, .continues = state.known_units > 1};
}

void CacheCore::ReleasePage(int32_t group, PageId page, const Release& release) {
  Group& g = groups_[group];
  if (!g.allocator.Unref(page)) return;
  if (g.held > 0 && g.holds[static_cast<size_t>(page)] > 0) {
    // Nobody wants the copy any more: if it was not handed over yet, it need not be made.
    CancelCopyTo(group, page);
    if (g.holds[static_cast<size_t>(page)] > 0) return;
    if (g.allocator.refs(page) != 0) return;
  }
  Park(group, page, release);
}

void CacheCore::PrefetchPage(int32_t group, PageId page) const {
  groups_[group].allocator.Prefetch(page);
  CachedOf(groups_[group], page).Prefetch(page);
  index_.PrefetchKey(group, page);
}

// Decides what becomes of a page without references and holds.
void CacheCore::Park(int32_t group, PageId page, const Release& release) {
  Group& g = groups_[group];
  if (index_.keyed(group, page)) {
    CachedOf(g, page).Insert(page, release);
  } else {
    FreePage(g, page);
  }
}

void CacheCore::MoveTip(State& state, NodeId tip, int32_t units) {
  if (tip != state.tip) {
    index_.Pin(tip);
    index_.Unpin(state.tip);
    state.tip = tip;
  }
  state.tip_units = units;
}

int32_t CacheCore::valid_length(const Sequence& s) const {
  const State& state = StateOf(s);
  return std::min(state.length, state.valid_length);
}

std::span<const PageId> CacheCore::pages(const Sequence& s, GroupId group) const {
  const State& state = StateOf(s);
  const auto g = static_cast<int32_t>(group);
  QUIRE_CHECK(g >= 0 && g < group_count(), "there is no such group");
  return {Row(g, s.slot_), static_cast<size_t>(state.extents[g].page_count)};
}

int64_t CacheCore::row_begin(const Sequence& s, int32_t group) const {
  StateOf(s);
  return s.slot_ * groups_[group].row_stride;
}

}  // namespace quire
