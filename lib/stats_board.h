// StatsBoard: where the writer posts its Stats for other threads to read.
//
// A seqlock over an array of words: the writer never waits, and a reader that met a change reads
// again. No fence, which ThreadSanitizer would not see: the order is in the words themselves.
//
//   writer   version odd (relaxed); each word (release); version even (release)
//   reader   version (acquire); each word (acquire); version again: the same, and even?
//
// A reader that sees a word of a later post has, by that word's release and its own acquire, the
// odd version of that post or a later one in its second look, and throws the words away. So two
// equal looks mean that all words are one post's.

#ifndef QUIRE_LIB_STATS_BOARD_H_
#define QUIRE_LIB_STATS_BOARD_H_

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "quire/kv_cache.h"

namespace quire {

class StatsBoard {
 public:
  // `first` also fixes what never changes: the groups, the tenants and their limits.
  explicit StatsBoard(const Stats& first) : first_(first), words_(CountWords(first)) {
    Post(first);
  }

  // By the writer alone. O(groups * tenants), no allocation.
  void Post(const Stats& stats) {
    const uint64_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    auto word = words_.begin();
    ForEachCount(stats,
                 [&word](const auto& count) { (word++)->store(count, std::memory_order_release); });
    version_.store(version + 2, std::memory_order_release);
  }

  // By any thread.
  Stats Read() const {
    Stats stats = first_;
    while (true) {
      const uint64_t version = version_.load(std::memory_order_acquire);
      auto word = words_.begin();
      ForEachCount(stats, [&word]<typename Count>(Count& count) {
        count = static_cast<Count>((word++)->load(std::memory_order_acquire));
      });
      if (version % 2 == 0 && version == version_.load(std::memory_order_relaxed)) return stats;
    }
  }

 private:
  // Every number that changes, always in the same order.
  template <typename AnyStats, typename F>
  static void ForEachCount(AnyStats& stats, F f) {
    f(stats.sequences);
    f(stats.index_nodes);
    f(stats.tokens_looked_up);
    f(stats.tokens_hit);
    f(stats.missed.last_token);
    f(stats.missed.absent);
    f(stats.missed.page_gone);
    f(stats.missed.unaligned);
    f(stats.missed.disabled);
    f(stats.commits_not_indexed);
    f(stats.out_of_room);
    f(stats.copies_failed);
    f(stats.metadata_bytes);
    f(stats.ghost_bytes);
    for (auto& group : stats.groups) {
      f(group.pages_free);
      f(group.pages_live);
      f(group.pages_cached);
      f(group.bytes_live);
      f(group.evictions);
      f(group.copies);
      for (auto& tenant : group.tenants) {
        f(tenant.pages_live);
        f(tenant.pages_cached);
        f(tenant.evictions);
        f(tenant.copies);
      }
    }
  }
  static size_t CountWords(const Stats& stats) {
    size_t words = 0;
    ForEachCount(stats, [&words](const auto&) { ++words; });
    return words;
  }

  const Stats first_;
  alignas(64) std::atomic<uint64_t> version_{0};
  std::vector<std::atomic<int64_t>> words_;
};

}  // namespace quire

#endif  // QUIRE_LIB_STATS_BOARD_H_
