// Belady's bound: by hand, against every policy there is on tiny traces, and as published.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "bench/replay/belady.h"
#include "bench/replay/sequential.h"
#include "gtest/gtest.h"
#include "tests/support/replay_traces.h"

namespace replay {
namespace {

BeladyResult BoundOf(const Trace& trace, int32_t pages) {
  const auto results = Belady(trace, std::vector<int32_t>{pages});
  EXPECT_TRUE(results.ok()) << results.status();
  return results.ok() ? (*results)[0] : BeladyResult();
}

// Pool of three. [0 1] [2 3] [0 1] [2 3]: pinned, [2 3] must evict 1 (farther than 0 by depth),
// then [0 1] hits 0 and evicts 3 and later [2 3] hits 2: two hits. Not pinned, the pool may keep
// 0, 1 and 2 all along: 2 hits, then 1.
TEST(BeladyTest, ByHand) {
  const Trace trace = TraceOf({{0, 1}, {2, 3}, {0, 1}, {2, 3}});
  const BeladyResult bound = BoundOf(trace, 3);
  EXPECT_EQ(bound.pages, 3);
  EXPECT_EQ(bound.pinned_hit_pages, 2);
  EXPECT_EQ(bound.hit_pages, 3);
  EXPECT_EQ(UnlimitedHits(trace), 4);
  EXPECT_EQ(BoundOf(trace, 4).pinned_hit_pages, 4);
}

// The most hits of any policy, by trying all: for each set of pages that can be in the pool after a
// request, the most hits until there. A set must hold the parent of each page in it.
class EveryPolicy {
 public:
  EveryPolicy(const Prompts& prompts, int32_t pages, bool pinned) : pages_(pages), pinned_(pinned) {
    std::map<uint32_t, int64_t> best = {{0, 0}};
    for (const std::vector<int32_t>& prompt : prompts) {
      for (size_t i = 0; i < prompt.size(); ++i) {
        needs_[prompt[i]] = i == 0 ? 0 : 1U << prompt[i - 1];
      }
      std::map<uint32_t, int64_t> next;
      for (const auto& [pool, hits] : best) Step(prompt, pool, hits, &next);
      best = next;
    }
    for (const auto& [pool, hits] : best) most_ = std::max(most_, hits);
  }

  int64_t most() const { return most_; }

 private:
  void Step(const std::vector<int32_t>& prompt, uint32_t pool, int64_t hits,
            std::map<uint32_t, int64_t>* next) const {
    uint32_t own = 0;
    bool all = true;
    for (const int32_t id : prompt) {
      own |= 1U << id;
      all = all && (pool >> id & 1U) != 0;
      hits += all ? 1 : 0;
    }
    const uint32_t choice = pinned_ ? pool & ~own : pool | own;
    for (uint32_t kept = choice;; kept = (kept - 1) & choice) {  // every subset of `choice`
      const uint32_t after = pinned_ ? kept | own : kept;
      if (std::popcount(after) <= pages_ && Closed(after)) {
        int64_t& most = (*next)[after];
        most = std::max(most, hits);
      }
      if (kept == 0) return;
    }
  }

  bool Closed(uint32_t pool) const {
    return std::all_of(needs_.begin(), needs_.end(), [&](const auto& need) {
      return (pool >> need.first & 1U) == 0 || (need.second & ~pool) == 0;
    });
  }

  const int32_t pages_;
  const bool pinned_;
  std::map<int32_t, uint32_t> needs_;  // the parent of each page, as a set
  int64_t most_ = 0;
};

TEST(BeladyTest, IsTheBestOfEveryPolicy) {
  int differ = 0;
  int below_unlimited = 0;
  for (uint32_t seed = 0; seed < 150; ++seed) {
    const Prompts prompts = RandomPrompts(seed, 8, 12, 3);
    const Trace trace = TraceOf(prompts);
    for (const int32_t pages : {4, 5, 6}) {
      const BeladyResult bound = BoundOf(trace, pages);
      EXPECT_EQ(bound.hit_pages, EveryPolicy(prompts, pages, false).most()) << seed << " " << pages;
      EXPECT_EQ(bound.pinned_hit_pages, EveryPolicy(prompts, pages, true).most())
          << seed << " " << pages;
      differ += bound.hit_pages != bound.pinned_hit_pages ? 1 : 0;
      below_unlimited += bound.hit_pages < UnlimitedHits(trace) ? 1 : 0;
    }
  }
  EXPECT_GT(differ, 20);
  EXPECT_GT(below_unlimited, 20);
}

TEST(BeladyTest, IsAboveLruAndMeetsTheUnlimited) {
  for (uint32_t seed = 0; seed < 5; ++seed) {
    const Trace trace = TraceOf(RandomPrompts(seed, 200, 600, 12));
    for (const int32_t pages : {13, 40, 100, 201}) {
      SequentialOptions options;
      options.pages = pages;
      const auto lru = RunSequential(trace, options);
      ASSERT_TRUE(lru.ok()) << lru.status();
      const BeladyResult bound = BoundOf(trace, pages);
      EXPECT_GE(bound.hit_pages, bound.pinned_hit_pages);
      EXPECT_GE(bound.pinned_hit_pages, lru->hit_pages);
      EXPECT_EQ(bound.pinned_hit_pages == UnlimitedHits(trace), pages == 201) << pages;
      EXPECT_EQ(bound.pinned_hit_pages > lru->hit_pages, pages != 201) << pages;
    }
  }
}

TEST(BeladyTest, ARequestThatCannotFitIsAnError) {
  const Trace trace = TraceOf({{0, 1, 2}});
  EXPECT_EQ(Belady(trace, std::vector<int32_t>{10, 3}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

struct Published {
  const char* file;
  int32_t pages;
  int rate;  // in ten thousandths
};

TEST(BeladyTest, PublishedAnswers) {
  const char* folder = std::getenv("QUIRE_TRACES");
  if (folder == nullptr) GTEST_SKIP() << "QUIRE_TRACES names no folder with the Mooncake traces";
  const Published all[] = {
      {"conversation_trace.jsonl", 100000, 3664}, {"conversation_trace.jsonl", 50000, 3664},
      {"conversation_trace.jsonl", 30000, 3664},  {"conversation_trace.jsonl", 10000, 3664},
      {"conversation_trace.jsonl", 1000, 1907},   {"synthetic_trace.jsonl", 30000, 6396},
      {"synthetic_trace.jsonl", 10000, 6180},     {"synthetic_trace.jsonl", 1000, 2767},
  };
  for (const Published& published : all) {
    const auto trace = ReadTrace(std::string(folder) + "/" + published.file, {});
    ASSERT_TRUE(trace.ok()) << trace.status();
    const BeladyResult bound = BoundOf(*trace, published.pages);
    const int64_t refs = trace->page_refs();
    EXPECT_EQ((bound.hit_pages * 10000 + refs / 2) / refs, published.rate)
        << published.file << " " << published.pages;
  }
}

}  // namespace
}  // namespace replay
