// Sequential mode: by hand, against an independent model of LRU, and against published answers.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "bench/replay/json_result.h"
#include "bench/replay/sequential.h"
#include "gtest/gtest.h"
#include "tests/support/replay_traces.h"

namespace replay {
namespace {

SequentialOptions Lru(int32_t pages) {
  SequentialOptions options;
  options.pages = pages;
  return options;
}

// Four pages. After each request its pages stand last in line, tail before head:
//   [0 1]    hits 0; line 1 0
//   [0 1 2]  hits 2; line 2 1 0
//   [0 3]    hits 1, takes the last free page; line 2 1 3 0
//   [0 1]    hits 2; line 2 3 1 0
//   [4 5 6]  hits 0, evicts 2 3 1; line 0 6 5 4
//   [0 1]    hits 1, evicts 6; line 5 4 1 0
const Prompts kByHand = {{0, 1}, {0, 1, 2}, {0, 3}, {0, 1}, {4, 5, 6}, {0, 1}};

TEST(SequentialTest, ByHand) {
  SequentialOptions options = Lru(4);
  options.lifetimes = true;
  options.cost.context = std::numeric_limits<double>::infinity();
  const auto result = RunSequential(TraceOf(kByHand), options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->policy, "lru");
  EXPECT_EQ(result->pages, 4);
  EXPECT_EQ(result->requests, 6);
  EXPECT_EQ(result->page_refs, 14);
  EXPECT_EQ(result->hit_pages, 6);
  EXPECT_EQ(result->hits_fnv1a64, HashCounts(std::vector<int32_t>{0, 2, 1, 2, 0, 1}));
  EXPECT_EQ(result->evictions, 4);
  // Two pages of the prompt [0 1] are 612 tokens, not 1024.
  EXPECT_EQ(result->hit_tokens, 1024 + 512 + 612 + 512);
  EXPECT_EQ(result->input_tokens, 4 * 612 + 2 * 1124);
  // Where each token costs the same, the cost saved is the share of tokens.
  EXPECT_DOUBLE_EQ(result->recompute_saved, 2660.0 / 4696);
  // Written in request 1, 2, 0 (from 0) and given away in 4: lifetimes 3, 2, 4. Page 6: 4 to 5.
  EXPECT_EQ(result->lifetimes.bins[0], 1);
  EXPECT_EQ(result->lifetimes.bins[1], 2);
  EXPECT_EQ(result->lifetimes.bins[2], 1);
  EXPECT_EQ(result->lifetimes.bins[3], 0);
}

TEST(SequentialTest, LaterTokensCostMore) {
  SequentialOptions options = Lru(4);
  options.cost.context = 0.5;  // tokens 0, 1, 2, ... cost 1, 3, 5, ...: the first n cost n * n
  const auto result = RunSequential(TraceOf(kByHand), options);
  ASSERT_TRUE(result.ok()) << result.status();
  const double saved = 1024.0 * 1024 + 512.0 * 512 + 612.0 * 612 + 512.0 * 512;
  EXPECT_DOUBLE_EQ(result->recompute_saved, saved / (4 * 612.0 * 612 + 2 * 1124.0 * 1124));
}

TEST(SequentialTest, LifetimesAreOnlyGatheredWhereAsked) {
  const auto result = RunSequential(TraceOf(kByHand), Lru(4));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->lifetimes.bins, Lifetimes().bins);
}

// Least recently used, as slow and plain as can be: a line of pages, the first goes first.
struct PlainLru {
  std::vector<int32_t> hits;
  int64_t evictions = 0;

  PlainLru(const Prompts& prompts, size_t pages) {
    std::vector<int32_t> line;
    for (const std::vector<int32_t>& prompt : prompts) {
      size_t hit = 0;
      while (hit < prompt.size() && Remove(prompt[hit], &line)) ++hit;
      hits.push_back(static_cast<int32_t>(hit));
      // The pages hit are out of the line, so out of reach, but they take room.
      for (size_t need = prompt.size(); line.size() + need > pages; ++evictions) {
        line.erase(line.begin());
      }
      line.insert(line.end(), prompt.rbegin(), prompt.rend());
    }
  }

  static bool Remove(int32_t id, std::vector<int32_t>* line) {
    const auto found = std::find(line->begin(), line->end(), id);
    if (found == line->end()) return false;
    line->erase(found);
    return true;
  }
};

TEST(SequentialTest, IsPlainLruOnRandomTraces) {
  int64_t evictions = 0;
  int64_t hits = 0;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const Prompts prompts = RandomPrompts(seed, 120, 300, 12);
    const Trace trace = TraceOf(prompts);
    for (const int32_t pages : {13, 20, 50, 119, 200}) {
      const PlainLru plain(prompts, static_cast<size_t>(pages));
      const auto result = RunSequential(trace, Lru(pages));
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->hits_fnv1a64, HashCounts(plain.hits)) << seed << ", " << pages;
      EXPECT_EQ(result->evictions, plain.evictions) << seed << ", " << pages;
      evictions += result->evictions;
      hits += result->hit_pages;
    }
  }
  EXPECT_GT(evictions, 1000);
  EXPECT_GT(hits, 1000);
}

TEST(SequentialTest, ARequestLargerThanThePoolIsRefusedBeforeAnythingRuns) {
  const Trace trace = TraceOf({{0}, {1, 2, 3}, {4, 5, 6, 7}});
  EXPECT_TRUE(CheckRequestsFit(trace, 5).ok());
  for (const int32_t pages : {3, 2}) {
    const absl::Status status = RunSequential(trace, Lru(pages)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    const std::string message(status.message());
    EXPECT_NE(message.find("by hand: request 2 has 3 pages"), std::string::npos) << message;
    EXPECT_NE(message.find("--pages 5"), std::string::npos) << message;
  }
  // Four pages are enough for four, but not for the token that goes on from them.
  EXPECT_FALSE(RunSequential(trace, Lru(4)).ok());
  EXPECT_TRUE(RunSequential(trace, Lru(5)).ok());
}

TEST(SequentialTest, TheManagerKeepsItsPromiseOfMemory) {
  const auto result = RunSequential(TraceOf(kByHand), Lru(1 << 20));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->metadata_bytes, 0);
  EXPECT_LE(BytesPerPage(*result), 96);
}

TEST(HashCountsTest, IsFnv1a) {
  EXPECT_EQ(HashCounts({}), 0xcbf29ce484222325u);
  // The four bytes of "foob"; its value is in the test suite of FNV's authors.
  EXPECT_EQ(HashCounts(std::vector<int32_t>{0x626f6f66}), 0xdd120e790c2512afu);
}

struct Published {
  const char* file;
  int32_t pages;
  uint64_t hash;
  int64_t hits;
};

TEST(SequentialTest, PublishedAnswers) {
  const char* folder = std::getenv("QUIRE_TRACES");
  if (folder == nullptr) GTEST_SKIP() << "QUIRE_TRACES names no folder with the Mooncake traces";
  const Published all[] = {
      {"conversation_trace.jsonl", 100000, 0x954f7e8e6cc98e1b, 104924},
      {"conversation_trace.jsonl", 30000, 0x66501aebe09212db, 93978},
      {"conversation_trace.jsonl", 10000, 0x66f78a61859615cd, 61046},
      {"conversation_trace.jsonl", 5859, 0xe17563f9c92baf93, 39258},
      {"conversation_trace.jsonl", 1000, 0x7bfc7bf35633caee, 12847},
      {"synthetic_trace.jsonl", 100000, 0x2ebee35b770c0d60, 77953},
      {"synthetic_trace.jsonl", 30000, 0xeb4c6f512804df2e, 76077},
      {"synthetic_trace.jsonl", 10000, 0x208ada36e02ce82c, 51669},
      {"synthetic_trace.jsonl", 5859, 0x629a6f92bfe2e936, 37703},
      {"synthetic_trace.jsonl", 1000, 0x33e4de4199148941, 10252},
  };
  for (const Published& published : all) {
    const auto trace = ReadTrace(std::string(folder) + "/" + published.file, {});
    ASSERT_TRUE(trace.ok()) << trace.status();
    const auto result = RunSequential(*trace, Lru(published.pages));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->hits_fnv1a64, published.hash) << published.file << " " << published.pages;
    EXPECT_EQ(result->hit_pages, published.hits) << published.file << " " << published.pages;
  }
}

}  // namespace
}  // namespace replay
