// Belady's bound: the most hits that any policy could have in sequential mode, knowing the future.
//
// When room is needed, the page goes whose next use is farthest away. Source: Belady, "A study of
// replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966. Two
// bounds, because it matters in a small pool where a request finds room for what it writes:
//   hit_pages         Between two requests the pool keeps the best of what was there and what the
//                     request brought; while it runs it takes no room. No policy has more, and the
//                     published figures are these.
//   pinned_hit_pages  As in a KvCache: a running request needs all its pages in the pool at one
//                     time, also those that nobody will use again. The tighter bound.
//
// That a page never stays without its parent: each request that uses a page uses its parent too, so
// a parent's next use is never later than its child's. Of pages with one next use, all in one
// request, the deeper goes first. Of pages that are never used again, the one whose last use is
// longest ago goes first, within one request the deeper: a parent's last use is never earlier than
// its child's. So whenever a parent would be chosen, a child of it that is there would have been
// chosen before; unless that is pinned, and then the parent is.

#ifndef QUIRE_BENCH_REPLAY_BELADY_H_
#define QUIRE_BENCH_REPLAY_BELADY_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/replay/progress.h"
#include "bench/replay/result.h"
#include "bench/replay/trace.h"

namespace replay {

// The bounds for each of `pages`. O(references * log(references)) each. kInvalidArgument as
// CheckRequestsFit.
absl::StatusOr<std::vector<BeladyResult>> Belady(const Trace& trace, std::span<const int32_t> pages,
                                                 Progress* progress = nullptr);

// Page references that are not the first of their page: the hits with room for everything.
int64_t UnlimitedHits(const Trace& trace);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_BELADY_H_
