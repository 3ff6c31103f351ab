// What a KvCache is made of. Every field: unit, range, default and why.

#ifndef QUIRE_OPTIONS_H_
#define QUIRE_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "quire/types.h"

namespace quire {

// Which cached page is given up first when free pages run out. With every policy a prefix is given
// up from its end: no page stays without the page before it, except one that an outstanding copy
// still needed when its last holder let it go. docs/policies.md compares them.
enum class Reclaim : uint8_t {
  // The page released longest ago; of one request, its tail before its head. O(1).
  kLru,
  // The page computed longest ago; hits do not count. O(1) amortised.
  kFifo,
  // The page used longest ago, where each use before the last, at most four, counts as if it were
  // later by five eighths of the pool. Remembers pages that it gave up: 8 bytes for each, up to
  // eight times the pool (Stats::ghost_bytes). O(1) amortised.
  kAgedFrequency,
  // After S3-FIFO (SOSP 2023). New pages wait in a queue of a tenth of the pool; those without a
  // hit there leave first and are remembered, the others are kept in a main queue, where a hit buys
  // one round more. Ghosts: 8 bytes for each page of the pool. O(1) amortised.
  kS3Fifo,
  // After 2Q (VLDB 1994). New pages leave in the order they came, while they are more than a
  // quarter of the pool; those that come back while they are remembered are kept in kLru's order.
  // Ghosts: 8 bytes for every second page of the pool. O(1) amortised.
  k2Q,
  // The page with the fewest hits to be expected for the memory and time it takes, learned from
  // what happened to pages like it. Remembers pages that it gave up: 8 bytes for each, up to eight
  // times the pool, but at most 4 million or twice the pool (Stats::ghost_bytes). Begins like
  // kLru. O(1) but for a choice among 80 lists, made once for a run of pages.
  kLearned,
};

// One group of layers and its pool.
struct GroupOptions {
  // Tokens whose K/V one page holds. [1, 4096]. Small pages share more and waste less, large ones
  // cost less bookkeeping. Each group's value must be a multiple of the smallest one's.
  int32_t tokens_per_page = 16;

  // Pages in the group's pool. [1, 2^30].
  int32_t page_count = 0;

  // Bytes of one page: layers * (K + V) * kv_heads * tokens_per_page * head_dim * element size
  // (KvLayout::page_bytes() in device.h computes it). >= 0, and the whole pool below 2^63. The
  // manager never touches the memory; it reports bytes in Stats from this number.
  int64_t page_bytes = 0;

  // Tokens before position t that must stay resident to compute position t. kAllTokens for full
  // attention, w - 1 for a sliding window of w keys (the token itself included). >= 0.
  int32_t lookback_tokens = kAllTokens;
};

// What one tenant may count on, and what it may take at most, of every group's pages, live and
// cached together. In thousandths of the pool, so that a quota means the same for pools of
// different sizes, and the same on every machine.
struct Quota {
  // The value given to Namespace::SetTenant. "" is a tenant like any other, and not the same as a
  // namespace without one.
  std::string tenant;

  // Pages that no other tenant takes, neither free ones nor, down to this many, the cached ones.
  // Kept free for the tenant while it does not use them. Rounded down to whole pages. [0, 1000];
  // all quotas together at most 1000.
  int32_t guaranteed_permille = 0;

  // Pages that the tenant never exceeds; it gives up cached pages of its own instead. Rounded up to
  // whole pages. [1, 1000], and not below guaranteed_permille.
  int32_t max_permille = 1000;

  // Of Options::max_sequences, how many are set aside for the tenant, and the most that it may have
  // alive. 0: it shares those that nobody has set aside. All quotas together at most max_sequences.
  int32_t sequences = 0;
};

struct Options {
  // One entry per group; GroupId is the index. 1 to 8 entries. A request hits only as far as every
  // group can resume.
  std::vector<GroupOptions> groups;

  // Sequences alive at one time (handles returned by Start and Fork). [1, 2^20]. Fixes the page
  // tables' address space, so that no step allocates.
  int32_t max_sequences = 1024;

  // Longest sequence, in tokens. [1, 2^30]. A row of the page table has room for this many; only
  // the rows' touched OS pages take memory.
  int32_t max_sequence_tokens = 131072;

  // Off: no page is ever shared through the index (Fork still shares).
  bool prefix_caching = true;

  // A partly matching page is reused, by a planned copy, when that saves at least this many
  // tokens. [1, 2^30]; 2^30 turns it off. The default is about
  // where a page copy costs less than recomputing the tokens.
  int32_t min_copy_tokens = 4;

  // How far Truncate may go back in a group with a window, in tokens: this many more tokens than
  // the lookback stay resident; of what a hit brought, as far as it was still cached. [0, 2^30].
  // Set it to the longest rejected draft.
  int32_t max_rollback_tokens = 0;

  // Nodes of the prefix index (one per unit of tokens; the unit is the smallest tokens_per_page).
  // [0, 2^30]. 0 chooses enough for every page of every group, and, where every group has a window
  // (then nodes whose pages are gone still lead to later ones), for max_sequences full lengths as
  // well, at most 2^24. When nodes run out new pages are not indexed (Stats::commits_not_indexed
  // counts them); nothing fails.
  int32_t max_index_nodes = 0;

  // Which cached page goes first.
  Reclaim reclaim = Reclaim::kLearned;

  // Tenants with a share of their own; at most 64, each named once. All others, and requests
  // without a tenant, share what is left: together they have no guarantee and no maximum. Each
  // quota costs a `reclaim` of its own in each group: 12 bytes and more for each page of the pool,
  // and the memory of pages given up.
  std::vector<Quota> quotas = {};

  // Nothing that a tenant does changes what another can observe: whose requests are answered how,
  // hit what, and lose which cached pages. KvCache says under "Strict tenants" what that covers.
  // Pools become static, so it costs the sharing of idle pages. Needs quotas, each with
  // guaranteed_permille equal to max_permille (both rounded down then, to one page at least) and
  // with sequences of its own. All others together have exactly the rest. Nodes of the prefix index
  // are divided alike: each has what a cache of its size would choose, or its permille of
  // max_index_nodes. A batch (ReserveAll, CommitAll) may name sequences of one tenant only, where
  // all without a quota count as one.
  bool strict_tenants = false;

  // On: a page that becomes free, in whichever way (released, reclaimed, cleared, given up after a
  // failure), is zeroed before anybody else gets to write or read it, and at the latest by the next
  // plan. So it stands in Plan::scrubs of the next TakePlan: have the device carry that plan out
  // before the kernels of the step, also when it has no copies. Cached pages keep their contents
  // until they are reclaimed, and what Truncate cuts from a page that stays with its sequence stays
  // there. Pages that were never used are as the device or the engine made them (device.h).
  // docs/linking.md has a section. Costs 8 bytes for each page of the pool, 12 more for each plan
  // that was ever outstanding at one time, and the writing.
  bool scrub_released = false;

  // Seed of the prefix index's hash. A hit is always confirmed by comparing tokens, so the seed
  // cannot make one wrong; a secret one stops an attacker from building chains of collisions
  // that slow the index down. Policies that remember pages which were given up (all but kLru and
  // kFifo) find those by the hash: with them it may change which page is given up. Fixed by
  // default: the same calls give the same page ids.
  uint64_t hash_seed = 0;
};

}  // namespace quire

#endif  // QUIRE_OPTIONS_H_
