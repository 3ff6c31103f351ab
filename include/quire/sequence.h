// Sequence: one token stream and the references that keep its pages.

#ifndef QUIRE_SEQUENCE_H_
#define QUIRE_SEQUENCE_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quire/types.h"

namespace quire {

class CacheCore;

// A handle, move-only; its destructor gives every reference back (full pages stay cached and
// findable). It must not outlive its KvCache. A moved-from or default-made Sequence is empty: it
// may only be destroyed or assigned to.
//
//              Reserve(n)                        Commit(tokens)
//   |<-------------- length ------------->|<---- written, not yet certain ---->|
//   0                                  length                              capacity
//
// `length` counts tokens whose K/V is (or will be, in stream order) in the pages. Room for more is
// taken by Reserve. Draft tokens of speculation are written into [length, capacity) and simply
// never committed if rejected. One writer; see KvCache.
class Sequence {
 public:
  Sequence() = default;
  Sequence(Sequence&& other) noexcept;
  Sequence& operator=(Sequence&& other) noexcept;
  ~Sequence();

  // Makes room: capacity() >= length() + tokens. Asking twice is asking once. Plans a copy where
  // the page that will be written next is shared or indexed (or, if the pool has no page left for
  // it and nobody else holds that page, takes it out of the index and writes in place), so take the
  // plan (KvCache::TakePlan) and have the device carry it out before the kernels of the step. Gives
  // back what has left a group's lookback and was kept for a copy. All or nothing:
  //   kResourceExhausted  bare, no message: not now, for want of pages or of memory. Nothing was
  //                       evicted or changed.
  //   kInvalidArgument    it can never fit (pool, quota or max_sequence_tokens too small), says by
  //                       how much; or tokens < 0.
  //   kDataLoss           a copy or scrub it depends on failed; Truncate to valid_length(), or drop
  //                       it.
  // O(pages taken), no heap allocation but the first time and where more plans are outstanding than
  // ever before: what TakePlan and Retire will need is set aside here. For many sequences use
  // KvCache::ReserveAll.
  absl::Status Reserve(int32_t tokens);

  // Appends tokens whose K/V is written by a launch already queued. Pages that are now full become
  // shareable; pages that left a group's lookback are given back, so build the step's page tables
  // before; one that an outstanding copy needs is, later, by the next Reserve that takes pages or
  // Commit. Committing past capacity(), or before the plan that holds this sequence's copies or the
  // scrubs of its pages was taken, is a CHECK. kDataLoss as in Reserve, and then nothing changed.
  // O(tokens), no heap allocation.
  absl::Status Commit(std::span<const TokenId> tokens);

  // Forgets everything from `length` on: rejected tokens, another branch, a failed copy. Gives back
  // pages past it; capacity() becomes `length`, so Reserve before the next Commit. Inside a page
  // that is shared or indexed that Reserve plans a copy, and may be out of room.
  //   kInvalidArgument     length < 0 or > length().
  //   kFailedPrecondition  a group with a window no longer holds [length - lookback, length) or the
  //                        page that `length` stands in; raise Options::max_rollback_tokens.
  // O(pages given back).
  absl::Status Truncate(int32_t length);

  // A second sequence with the same tokens that shares every page up to length(). Whoever writes to
  // the shared tail page first gets a copy, planned at its next Reserve; the last one left writes
  // in place. capacity() of the fork, and of the original if a tail page is shared, is length():
  // Reserve (again) before Commit. kResourceExhausted if max_sequences, or the tenant's, are alive,
  // or if the heap has no memory for its retention. O(pages).
  absl::StatusOr<Sequence> Fork() const;

  int32_t length() const;

  // [length(), capacity()) may be written without asking again.
  int32_t capacity() const;

  // Tokens that Start found in the cache, those the engine need not compute; less after a Truncate
  // below them. A fork has its original's.
  int32_t hit_tokens() const;

  // length(), or less after a failed plan: the tokens whose K/V can still be trusted.
  int32_t valid_length() const;

  // The page table of a group: at least ceil(capacity() / tokens_per_page) entries; kNoPage where
  // the page has left the lookback. Valid until the next non-const call on this sequence. A group
  // that the cache does not have is a CHECK.
  std::span<const PageId> pages(GroupId group) const;

  bool empty() const { return core_ == nullptr; }

 private:
  friend class KvCache;
  friend class CacheCore;
  Sequence(CacheCore* core, int32_t slot, uint32_t generation)
      : core_(core), slot_(slot), generation_(generation) {}

  CacheCore* core_ = nullptr;
  int32_t slot_ = 0;
  uint32_t generation_ = 0;  // catches use after release: a CHECK, never another sequence's pages
};

}  // namespace quire

#endif  // QUIRE_SEQUENCE_H_
