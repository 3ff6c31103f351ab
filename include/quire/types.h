// The words of Quire. Read this file first, then kv_cache.h.
//
//   page        The unit of KV memory: a fixed number of bytes that holds the keys and values of
//               `tokens_per_page` tokens for ALL layers of one group, contiguous. Other systems
//               call it a block; in CUDA a block is a thread block, so here it is always a page.
//               The operating system's page is always called an "OS page".
//   group       Layers that share one page table and one lifetime rule (full attention; sliding
//               window; later: latent attention, recurrent state).
//   page table  Logical page of a sequence -> PageId, one per group.
//   sequence    One token stream: a length and a page table per group. Owns its references.
//   prefix index  A tree with one node per unit of tokens (the smallest tokens_per_page): which
//               pages hold the K/V of which token prefix, so that a later request can share them.
//   lookback    How many tokens before position t a group must still hold to compute position t.
//               Full attention: all. Sliding window of w keys, itself included: w - 1.
//   tier        Where a page lives: device, host, disk, remote.
//   plan        The page copies, and scrubs, owed before the next kernel: plain data with a ticket.
//   device      The memory of a tier and the engine that carries a plan out.
//   schedule    How one attention call is cut into tiles over the cores of a device.
//
// A page is in exactly one of three states:
//   free    no references, no key in the prefix index; handed out next
//   live    one or more references
//   cached  no references, but still in the prefix index; reclaimed when free pages run out
// A page that an outstanding copy names is not handed out before the copy is retired; without
// references it counts as live until then.
//
// Nothing is ever called `page_size`: it is `tokens_per_page` or `page_bytes`.

#ifndef QUIRE_TYPES_H_
#define QUIRE_TYPES_H_

#include <cstdint>

namespace quire {

// Index of a page in its group's pool. An enum class so that `page * stride` does not compile:
// the one place that turns a page into an offset widens to 64 bits first (PageOffset in
// page_table.h). Pools beyond 2^32 bytes are the normal case.
enum class PageId : int32_t {};

// Marks a page-table slot whose page has left the group's lookback. Kernels never read it.
inline constexpr PageId kNoPage{-1};

// Index into Options::groups.
enum class GroupId : int32_t {};

// A token of the model's vocabulary. Quire only compares and hashes tokens; any value is valid.
using TokenId = int32_t;

// Names one plan. Tickets are handed out in increasing order and retired in the same order.
enum class Ticket : uint64_t {};

// The ticket of an empty plan; it need not be retired.
inline constexpr Ticket kNoTicket{0};

enum class Tier : uint8_t { kDevice, kHost, kDisk, kRemote };

// GroupOptions::lookback_tokens of full attention.
inline constexpr int32_t kAllTokens = INT32_MAX;

}  // namespace quire

#endif  // QUIRE_TYPES_H_
