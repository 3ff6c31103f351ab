// KvCache: the front door. It decides which page holds what; it never touches page memory.
//
//   request ─▶ Start ─▶ Sequence ─▶ ReserveAll ─▶ TakePlan ─▶ Device::Copy
//            (find+pin,     │       (all or nothing)             │
//             one step)     └─▶ MakePageTable ─▶ append kernel ─▶ attention kernel
//                                     Commit(tokens) ─▶ prefix index        Retire(ticket)
//                                     ~Sequence ─▶ cached ─▶ reclaimed when pages run out
//
// Copy-on-write is a PageCopy that Reserve plans; a preempted request is a Sequence that is dropped
// and started again (it finds its own pages); a hybrid model is more groups. docs/linking.md shows
// an engine's step call by call.
//
// One writer, no locks: calls on a cache and its sequences must not overlap, on whatever threads.
// Beside the writer any thread may
//   * read options() and PublishedStats();
//   * run kernels over a PageTableView. Rows are memory of their own: the writer may go on with
//     other sequences, and with those of the view through const calls. Fork, and whatever is not
//     const, waits until the kernels that use the sequence are done (or, on an ordered stream, are
//     queued and have their own copy of the row). The pages are written by kernels and copies only;
//     whoever runs them on several threads orders a copy with the kernels that write its source or
//     use its target.
// What is handed to another thread, and back, needs a hand-over that orders memory: a lock, a
// queue, an acquire after a release.
//
// Deterministic: no clock, no random number, no global, no thread of its own, so the same calls
// always give the same page ids and the same plans, and N tensor-parallel ranks can follow one
// cache.
//
// Kernels in flight: all launches and copies are queued on ONE ordered stream. Then a page given
// back by a call may be handed out by the next one, since whatever writes it is queued later.
//
// Strict tenants (Options::strict_tenants): what a tenant observes depends on its own calls, the
// options, and the engine's events: when plans are taken and retired, whether they fail, and
// ClearCached. That is the status and message of each call; length, capacity, hit_tokens,
// valid_length and the number of pages of its sequences, and which are kNoPage; MatchLength and
// CheckFits; its TenantStats; how many copies are planned for it. Page ids, rows, tickets, the
// other numbers of Stats, and time are not covered: the engine must not pass them on.
//
// Three kinds of failure. Expected (no room now): a bare status code, no allocation. Environment or
// bad input: a status with a message that says what to do. Programmer's error (double release,
// commit past capacity, use of a moved-from Sequence): CHECK, in release builds too. On a status
// that is not OK, nothing changed but the counters of Stats.
//
// Out of memory is one of these statuses, never an exception: a bare kResourceExhausted from a call
// that needs memory, and an error without its words where those have none. TakePlan, Retire,
// ClearCached and destructors need none. Only stats(), PublishedStats() and Namespace, which hand
// out containers, throw std::bad_alloc as those do, and change nothing.

#ifndef QUIRE_KV_CACHE_H_
#define QUIRE_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quire/namespace.h"
#include "quire/options.h"
#include "quire/page_table.h"
#include "quire/plan.h"
#include "quire/sequence.h"
#include "quire/types.h"

namespace quire {

// Why the part of a prompt that was not hit was not hit; counted in tokens. Each missed token has
// exactly one reason.
struct MissTokens {
  int64_t last_token = 0;  // a hit always leaves at least one token to compute
  int64_t absent = 0;      // no such prefix in the index (never seen, or evicted)
  int64_t page_gone = 0;   // the prefix is known but some group no longer holds its pages
  int64_t unaligned = 0;   // matched, but inside a page that is not worth or not able to be copied
  int64_t disabled = 0;    // prefix_caching is off
};

// Pages charged to a tenant with a quota, or to all others together.
struct TenantStats {
  std::string tenant;
  int32_t pages_live = 0;
  int32_t pages_cached = 0;
  int32_t guaranteed_pages = 0;
  int32_t max_pages = 0;
  int64_t evictions = 0;  // its cached pages reclaimed
  int64_t copies = 0;     // page copies planned for its sequences
};

struct GroupStats {
  int32_t pages_free = 0;
  int32_t pages_live = 0;
  int32_t pages_cached = 0;
  int64_t bytes_live = 0;  // pages_live * page_bytes
  int64_t evictions = 0;   // cached pages reclaimed
  int64_t copies = 0;      // page copies planned
  // One for each of Options::quotas, in their order, then one for all others; empty without quotas.
  std::vector<TenantStats> tenants;
};

struct Stats {
  std::vector<GroupStats> groups;
  int32_t sequences = 0;            // alive
  int32_t index_nodes = 0;          // in the prefix index, namespace roots not counted
  int64_t tokens_looked_up = 0;     // prompt tokens given to Start with reading on
  int64_t tokens_hit = 0;           // of those, found
  MissTokens missed;                // of those, not found
  int64_t commits_not_indexed = 0;  // commits whose pages stayed unindexed: nodes had run out
  int64_t out_of_room = 0;          // Reserve calls answered kResourceExhausted
  int64_t copies_failed = 0;        // page copies retired with a failure
  // Memory of the manager itself, page-table rows apart; tables count in full though untouched
  // parts take no memory yet.
  int64_t metadata_bytes = 0;
  int64_t ghost_bytes = 0;  // of that, what Options::reclaim remembers of pages given up
};

inline constexpr int32_t kDefaultPriority = 50;

// How long a part of a request should stay cached once nobody uses it. Soft: every cached page can
// be reclaimed, but those of a higher priority only after all of a lower one, whatever
// Options::reclaim says; among pages of the default priority that decides. So a priority above the
// default shields pages from all ordinary traffic, and one below gives them up before any.
//
// A prefix is of use only as a whole, so a page gets the highest priority and the longest lifetime
// of all that follows it in the request. If several requests used a page it keeps the highest
// priority and the latest end that any of them gave it, and the pages before it get that, too.
struct Retention {
  // Tokens [begin, end) of the sequence, committed ones included. 0 <= begin < end; end may lie
  // past the prompt, kAllTokens is everything to come. Where ranges overlap the highest priority
  // counts; where none is, the default. A page that is partly covered counts as covered, and as not
  // covered, too.
  int32_t begin = 0;
  int32_t end = kAllTokens;

  int32_t priority = kDefaultPriority;  // [0, 100]

  // Of a priority above the default: for how many steps after a sequence gave the page back it
  // holds. Then the page counts as just given back with the default. A step is one
  // KvCache::TakePlan, which an engine calls once a step. >= 0; 0: as long as the page is cached.
  int64_t lifetime_steps = 0;
};

struct StartOptions {
  bool read_cache = true;   // false: no hit, and the lookup does not count in Stats
  bool write_cache = true;  // false: what this sequence commits is never shared through the index

  // Copied; forks inherit it. Every page given back costs O(entries). The first use sets about 40
  // bytes aside for each page of the pool.
  std::span<const Retention> retention = {};
};

// Where MakePageTable writes. The caller owns the storage; spans of at least the batch's size.
struct PageTableBuffers {
  std::span<int64_t> row_begin;
  std::span<int32_t> lengths;
};

class StatsBoard;

class KvCache {
 public:
  // kInvalidArgument: names the field and its range. kResourceExhausted: the system has no memory
  // for the bookkeeping; says which option to lower, or is bare if not even the heap has any.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const Options& options);

  // CHECKs that no Sequence is alive.
  ~KvCache();

  // Begins a sequence with the longest usable cached prefix of `prompt`, pinned in the same step.
  // The hit is the longest run of full pages whose tokens, namespace and every earlier page were
  // compared and are equal, then a partly matching page if that saves min_copy_tokens (its copy is
  // planned at the first Reserve). At least one token is always left to compute. Allocates no page,
  // so it cannot be out of pages.
  //   kInvalidArgument    empty prompt; a prompt that can never fit; or a bad StartOptions.
  //   kResourceExhausted  bare: max_sequences, or the tenant's Quota::sequences, are alive, or the
  //                       heap has no memory for retention or a new namespace. With a message: the
  //                       system has none for retention.
  // O(prompt tokens).
  absl::StatusOr<Sequence> Start(std::span<const TokenId> prompt, const Namespace& ns = {},
                                 const StartOptions& options = {});

  // Tokens that Start would hit; 0 for an empty prompt, and if the heap has no memory to look for a
  // namespace. Changes nothing, not even recency: for routers and schedulers.
  int32_t MatchLength(std::span<const TokenId> prompt, const Namespace& ns = {}) const;

  // kOk if a sequence of `total_tokens`, advanced at most `step_tokens` at a time, fits in an empty
  // cache, within the quota of the namespace's tenant and beside what others are guaranteed;
  // otherwise kInvalidArgument saying which limit it breaks. For refusing a request at once rather
  // than preempting for ever.
  absl::Status CheckFits(int64_t total_tokens, int32_t step_tokens, const Namespace& ns = {}) const;

  // Sequence::Reserve for a whole step: counts[i] more tokens for sequences[i], all or nothing
  // across the batch and all groups; the need is known before anything is evicted. Errors
  // as Sequence::Reserve; kInvalidArgument also for two tenants with strict tenants. A CHECK: the
  // same Sequence twice, a null one, spans of unequal length.
  absl::Status ReserveAll(std::span<Sequence* const> sequences, std::span<const int32_t> counts);

  // Sequence::Commit for a whole step: the next counts[i] entries of `tokens` go to sequences[i].
  // kDataLoss if any sequence has lost data; then none was committed. kInvalidArgument, too, with
  // strict tenants and sequences of two. CHECKs as ReserveAll, and that the counts add up to the
  // tokens.
  absl::Status CommitAll(std::span<Sequence* const> sequences, std::span<const TokenId> tokens,
                         std::span<const int32_t> counts);

  // Hands over what was planned since the last call: copies in order and, with
  // Options::scrub_released, every page that became free. Carry it out before the step's kernels.
  // Sources and targets of copies are held until Retire. Each call is a step for
  // Retention::lifetime_steps.
  Plan TakePlan();

  // The plan is done (OK) or failed. Tickets retire in the order they were taken (CHECK);
  // kNoTicket is ignored. With several devices: once, with the worst status. After a failure no
  // copied page is ever visible again under its key: the target, whatever was computed on top of it
  // and copies of it leave the index; sequences that hold them answer kDataLoss until truncated to
  // valid_length(). What others share below the failed page stays. Another sequence that committed
  // the very same tokens after the failed page is told kDataLoss too: the index cannot tell whose
  // page an heir built on, and loses a cached page rather than trust a wrong one. Where groups have
  // different page sizes the whole index of its tenant is given up, those without a quota being one
  // (live sequences keep their pages): smaller pages may have been indexed on top of the failed one
  // before that was full; and every sequence that goes on from where the copying one stood is told
  // kDataLoss. Scrubs fail alike: pages that are free stand in the next plan again; those that were
  // handed out since are treated as targets of a failed copy, also where no token was committed to
  // them yet (then valid_length() is length(), and Truncate to it gives them back).
  void Retire(Ticket ticket, const absl::Status& status = absl::OkStatus());

  // The page table of a step for kernels that read host memory (or a device that mirrors it row by
  // row): fixed rows, nothing is copied. lengths[i] = sequences[i]->length() + counts[i].
  // Valid until the next non-const call on any of the sequences. A CHECK: no such group, a count
  // that is negative or more than was reserved, a null sequence, spans or buffers that are too
  // short.
  PageTableView MakePageTable(std::span<const Sequence* const> sequences,
                              std::span<const int32_t> counts, GroupId group,
                              const PageTableBuffers& buffers) const;

  // The same, packed: copies the live part of each row into page_ids for upload to a device.
  // kOutOfRange if page_ids is too small, with the size needed; nothing is written then.
  absl::StatusOr<PageTableView> PackPageTable(std::span<const Sequence* const> sequences,
                                              std::span<const int32_t> counts, GroupId group,
                                              const PageTableBuffers& buffers,
                                              std::span<PageId> page_ids) const;

  // Drops every cached page. Live sequences keep theirs, which leave the index too, and what those
  // with a token go on to commit is not indexed: after this no lookup hits anything that depends on
  // tokens committed before (call it when the weights change). O(pages).
  void ClearCached();

  const Options& options() const;

  // As of now; on the writer's thread.
  Stats stats() const;

  // The same as of the last TakePlan, or of Create before the first: all of one moment. From any
  // thread, beside the writer, as long as the cache lives. The writer never waits for it; a call
  // that meets a TakePlan reads once more.
  Stats PublishedStats() const;

  // Checks every invariant of the manager: conservation of pages, references = holders, index and
  // pages agree, reclaim lists complete. kInternal with what is wrong; a bare kResourceExhausted if
  // there is no memory to look. O(pages); for tests and debugging.
  absl::Status Validate() const;

 private:
  explicit KvCache(std::unique_ptr<CacheCore> core);
  std::unique_ptr<CacheCore> core_;
  Stats stats_;  // what was posted last; its vectors are kept
  std::unique_ptr<StatsBoard> board_;
};

}  // namespace quire

#endif  // QUIRE_KV_CACHE_H_
