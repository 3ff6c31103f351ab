// The behaviours that the field's older cache managers are tested for, in Quire's terms. The
// comment behind a test is its item in the list this file follows (F: managers, S: past bugs).

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "quire/block_allocator.h"
#include "quire/device.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

using Ids32 = std::vector<int32_t>;

// Pages of 4 tokens.
std::unique_ptr<KvCache> Fours(int32_t page_count, int32_t lookback = kAllTokens,
                               int32_t min_copy_tokens = 4) {
  Options options = OneGroup(4, page_count, lookback);
  options.min_copy_tokens = min_copy_tokens;
  return NewCache(options);
}

int32_t PagesInUse(const KvCache& cache) { return StatsOf(cache).pages_live; }

// ---- Accounting

TEST(AcceptanceTest, ForksShareEveryPageButTheLast) {  // F1
  const auto cache = Fours(16);
  std::vector<Sequence> beams;
  beams.push_back(Compute(*cache, Iota(0, 10)));
  for (int i = 0; i < 3; ++i) beams.push_back(MustFork(beams[0]));
  EXPECT_EQ(PagesInUse(*cache), 3);
  for (int32_t i = 0; i < 4; ++i) EXPECT_OK(Feed(*cache, beams[i], Iota(50 + i, 1)));
  EXPECT_EQ(PagesInUse(*cache), 2 + 4);
  EXPECT_EQ(StatsOf(*cache).pages_free, 10);
  std::set<int32_t> last;
  for (const Sequence& beam : beams) {
    EXPECT_EQ(PagesOf(beam)[0], 0);
    EXPECT_EQ(PagesOf(beam)[1], 1);
    last.insert(PagesOf(beam)[2]);
  }
  EXPECT_EQ(last.size(), 4u);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceTest, UnwrittenForksShareTheLastPageToo) {  // F2
  const auto cache = Fours(16);
  const Sequence owner = Compute(*cache, Iota(0, 10));
  const Sequence second = MustFork(owner);
  const Sequence third = MustFork(second);
  EXPECT_EQ(PagesOf(second), (Ids32{0, 1, 2}));
  EXPECT_EQ(PagesOf(third), PagesOf(owner));
  EXPECT_EQ(PagesInUse(*cache), 3);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceDeathTest, SequenceNamedTwiceInABatch) {  // F3
  const auto cache = Fours(16);
  Sequence sequence = MustStart(*cache, Iota(0, 10));
  const std::array<Sequence*, 2> batch = {&sequence, &sequence};
  EXPECT_DEATH(static_cast<void>(cache->ReserveAll(batch, Ids32{1, 1})), "twice in one batch");
}

TEST(AcceptanceTest, AskingPastTheFreePagesLeavesThemFree) {  // F4
  const auto cache = Fours(4);
  const Sequence holder = Compute(*cache, Iota(0, 6));
  Sequence sequence = MustStart(*cache, Iota(100, 12));
  EXPECT_NO_ROOM(sequence.Reserve(12));
  EXPECT_EQ(StatsOf(*cache).pages_free, 2);
  EXPECT_EQ(sequence.capacity(), 0);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceTest, DroppingASequenceRestoresTheFreePages) {  // F5
  for (const bool caching : {false, true}) {
    Options options = OneGroup(4, 8);
    options.prefix_caching = caching;
    const auto cache = NewCache(options);
    Sequence sequence = Compute(*cache, Iota(0, 10));
    EXPECT_EQ(StatsOf(*cache).pages_free, 5);
    sequence = Sequence();
    EXPECT_EQ(StatsOf(*cache).pages_live, 0);
    EXPECT_EQ(StatsOf(*cache).pages_cached, caching ? 2 : 0);
    cache->ClearCached();
    EXPECT_EQ(StatsOf(*cache).pages_free, 8);
    EXPECT_OK(cache->Validate());
  }
}

TEST(AcceptanceTest, ATokenTakesAPageOnlyAtABorder) {  // F6
  const auto cache = Fours(8);
  Sequence sequence = MustStart(*cache, Iota(0, 1));
  for (int32_t i = 0; i < 17; ++i) {
    EXPECT_OK(Feed(*cache, sequence, Iota(i, 1)));
    EXPECT_EQ(PagesInUse(*cache), i / 4 + 1) << i;
  }
}

TEST(AcceptanceTest, RewindOverABorderGivesThePageBack) {  // F7
  const auto cache = Fours(8);
  Sequence sequence = Compute(*cache, Iota(0, 10));
  EXPECT_OK(sequence.Truncate(9));
  EXPECT_EQ(PagesInUse(*cache), 3);
  EXPECT_OK(sequence.Truncate(8));
  EXPECT_EQ(PagesInUse(*cache), 2);
  EXPECT_EQ(StatsOf(*cache).pages_free, 6);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceTest, PageTableAndViewGiveTheOffsets) {  // F8
  const auto cache = Fours(8, /*lookback=*/4);
  const Sequence sequence = Compute(*cache, Iota(0, 10));
  EXPECT_EQ(PagesOf(sequence), (Ids32{-1, 1, 2}));
  const std::array<const Sequence*, 1> batch = {&sequence};
  std::array<int64_t, 1> row_begin;
  std::array<int32_t, 1> lengths;
  const PageTableView table = cache->MakePageTable(batch, Ids32{0}, GroupId{0},
                                                   {.row_begin = row_begin, .lengths = lengths});
  EXPECT_EQ(table.page_ids[table.row_begin[0]], kNoPage);
  EXPECT_EQ(SlotOf(table, 0, 5), 1 * 4 + 1);
  EXPECT_EQ(SlotOf(table, 0, 9), 2 * 4 + 1);

  const KvLayout layout{.layers = 2, .kv_heads = 2, .head_dim = 8, .tokens_per_page = 4};
  const auto device = NewCpuDevice({.groups = {{.layout = layout, .page_count = 8}}});
  ASSERT_OK(device);
  const KvView view = *(*device)->view(Tier::kDevice, GroupId{0}, 1);
  const KvView first = *(*device)->view(Tier::kDevice, GroupId{0}, 0);
  const auto* base = static_cast<char*>(first.k);
  EXPECT_EQ(static_cast<char*>(view.k) - base, layout.layer_bytes());
  EXPECT_EQ(static_cast<char*>(first.v) - base, 2 * layout.head_bytes());  // V behind K
  EXPECT_EQ(PageOffset(PageId{2}, view.k_strides.page), 2 * layout.page_bytes());
}

TEST(AcceptanceTest, GroupsOfUnlikePagesHavePoolsAndRowsOfTheirOwn) {  // F9
  Options options = MakeOptions({Group(4, 8), Group(8, 4)});
  options.groups[1].page_bytes = 700;
  const auto cache = NewCache(options);
  const Sequence sequence = Compute(*cache, Iota(0, 10));
  EXPECT_EQ(PagesOf(sequence, 0), (Ids32{0, 1, 2}));
  EXPECT_EQ(PagesOf(sequence, 1), (Ids32{0, 1}));
  EXPECT_EQ(StatsOf(*cache, 0).bytes_live, 300);
  EXPECT_EQ(StatsOf(*cache, 1).bytes_live, 1400);
  EXPECT_EQ(StatsOf(*cache, 0).pages_free, 5);
  EXPECT_EQ(StatsOf(*cache, 1).pages_free, 2);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceTest, PagesOfTheNextStepsWithDrafts) {  // F12
  // Length, tokens a step with its drafts, pages for one step and for two.
  const std::vector<std::array<int32_t, 4>> cases = {{1, 1, 0, 0}, {3, 1, 0, 1}, {4, 1, 1, 1},
                                                     {2, 3, 1, 1}, {3, 4, 1, 2}, {4, 4, 1, 2},
                                                     {1, 8, 2, 4}, {7, 1, 0, 1}, {8, 5, 2, 3}};
  for (const auto& [length, step, one, two] : cases) {
    const auto cache = Fours(8);
    Sequence sequence = Compute(*cache, Iota(0, length));
    const int32_t before = PagesInUse(*cache);
    EXPECT_OK(sequence.Reserve(step));
    EXPECT_EQ(PagesInUse(*cache) - before, one) << length << " " << step;
    EXPECT_OK(sequence.Reserve(2 * step));
    EXPECT_EQ(PagesInUse(*cache) - before, two) << length << " " << step;
  }
}

// Grows a sequence to `total` tokens in an empty cache.
absl::Status Grow(KvCache& cache, int32_t total, int32_t step) {
  Sequence sequence = MustStart(cache, Iota(0, 1));
  while (sequence.length() < total) {
    const int32_t count = std::min(step, total - sequence.length());
    const absl::Status fed = Feed(cache, sequence, Iota(sequence.length(), count));
    if (!fed.ok()) return fed;
  }
  return absl::OkStatus();
}

TEST(AcceptanceTest, CheckFitsSaysWhatARequestNeedsToItsEnd) {  // F13
  for (const int32_t lookback : {0, 3, 4, 5, kAllTokens}) {
    for (int32_t pages = 1; pages <= 5; ++pages) {
      for (int32_t total = 1; total <= 24; ++total) {
        for (const int32_t step : {1, 2, 3, 4, 7, 24}) {
          const auto cache = Fours(pages, lookback);
          EXPECT_EQ(cache->CheckFits(total, step).ok(), Grow(*cache, total, step).ok())
              << lookback << " " << pages << " " << total << " " << step;
        }
      }
    }
  }
}

TEST(AcceptanceTest, FullPoolIsAllFreeOnceTheRequestsEnd) {  // F14
  for (const int32_t window : {3, 4, 7, 8, 9}) {
    for (const int32_t length : {window - 1, window, window + 1}) {
      for (const bool together : {false, true}) {
        const auto cache = Fours(12, window);
        std::vector<Sequence> sequences;
        while (cache->stats().sequences < 16) {
          const Tokens prompt = Iota(100 * cache->stats().sequences, length);
          Sequence next = MustStart(*cache, prompt);
          if (!Feed(*cache, next, prompt).ok()) break;
          sequences.push_back(std::move(next));
          EXPECT_OK(cache->Validate());
        }
        EXPECT_GE(sequences.size(), 4u);
        while (!together && !sequences.empty()) {
          sequences.erase(sequences.begin());
          EXPECT_OK(cache->Validate());
        }
        sequences.clear();
        EXPECT_EQ(PagesInUse(*cache), 0);
        cache->ClearCached();
        EXPECT_EQ(StatsOf(*cache).pages_free, 12);
      }
    }
  }
}

// ---- Reuse

TEST(AcceptanceTest, TheLastPromptTokenIsNeverHit) {  // F15
  for (const int32_t min_copy : {1, 4}) {
    const auto cache = Fours(8, kAllTokens, min_copy);
    Compute(*cache, Iota(0, 8));
    EXPECT_EQ(MustStart(*cache, Iota(0, 8)).hit_tokens(), min_copy == 1 ? 7 : 4);
    EXPECT_EQ(MustStart(*cache, Iota(0, 9)).hit_tokens(), 8);
  }
}

TEST(AcceptanceTest, OneTokenPromptHitsNothing) {  // F16
  const auto cache = Fours(8, kAllTokens, 1);
  Compute(*cache, Iota(0, 8));
  EXPECT_EQ(MustStart(*cache, Iota(0, 1)).hit_tokens(), 0);
  EXPECT_EQ(cache->stats().missed.last_token, 2);  // of both prompts
}

// A duplicate is kept until its pool needs it, and either of the two serves.
TEST(AcceptanceTest, DuplicatePageIsASpareOne) {  // F17
  const auto cache = Fours(4);
  Sequence first = MustStart(*cache, Iota(0, 8));
  Sequence second = MustStart(*cache, Iota(0, 8));
  EXPECT_OK(Feed(*cache, first, Iota(0, 8)));
  EXPECT_OK(Feed(*cache, second, Iota(0, 8)));
  first = Sequence();
  second = Sequence();
  EXPECT_EQ(StatsOf(*cache).pages_cached, 4);
  EXPECT_EQ(cache->stats().index_nodes, 2);
  Sequence other = Compute(*cache, Iota(100, 8));
  EXPECT_EQ(StatsOf(*cache).evictions, 2);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 8);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceTest, OnlyTheCommonPrefixIsHit) {  // F18
  const auto cache = Fours(8);
  Compute(*cache, Iota(0, 16));
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 8);
  EXPECT_EQ(cache->MatchLength(Iota(0, 7)), 4);
  EXPECT_EQ(cache->MatchLength(Iota(0, 8) + Iota(100, 12)), 8);
  EXPECT_EQ(cache->MatchLength(Iota(0, 4) + Iota(100, 1) + Iota(5, 12)), 4);
  EXPECT_EQ(cache->MatchLength(Iota(100, 1) + Iota(1, 15)), 0);
}

TEST(AcceptanceTest, PartlyMatchingPageIsCopiedUnlessItIsTheLastOne) {  // F19
  const auto cache = Fours(3, kAllTokens, 1);
  Sequence holder = Compute(*cache, Iota(0, 8));
  Sequence sequence = MustStart(*cache, Iota(0, 6) + Iota(50, 2));
  EXPECT_EQ(sequence.hit_tokens(), 6);
  EXPECT_EQ(PagesInUse(*cache), 2);
  EXPECT_OK(Feed(*cache, sequence, Iota(50, 2)));
  EXPECT_EQ(PagesOf(sequence), (Ids32{0, 2}));
  EXPECT_EQ(PagesOf(holder), (Ids32{0, 1}));
  EXPECT_EQ(StatsOf(*cache).copies, 1);
  holder = Sequence();
  sequence = Sequence();
  // Of three cached pages one is matched in part and the other two are needed as well.
  Sequence large = MustStart(*cache, Iota(0, 1) + Iota(200, 11));
  EXPECT_EQ(large.hit_tokens(), 1);
  EXPECT_OK(Feed(*cache, large, Iota(200, 11)));
  EXPECT_EQ(PagesOf(large)[0], 0);
  EXPECT_EQ(StatsOf(*cache).copies, 1);
  EXPECT_OK(cache->Validate());
}

// Where the bytes of one token of one head stand, of K and of V.
std::vector<std::vector<char>> TokenBytes(const Device& device, const KvLayout& layout, PageId page,
                                          int32_t tokens) {
  std::vector<std::vector<char>> bytes;
  for (int32_t layer = 0; layer < layout.layers; ++layer) {
    const KvView view = *device.view(Tier::kDevice, GroupId{0}, layer);
    for (int32_t i = 0; i < layout.kv_heads * tokens * 2; ++i) {
      const KvStrides& strides = i % 2 == 0 ? view.k_strides : view.v_strides;
      const auto* at = static_cast<const char*>(i % 2 == 0 ? view.k : view.v) +
                       PageOffset(page, strides.page) + i / 2 % layout.kv_heads * strides.head +
                       i / 2 / layout.kv_heads * strides.token;
      bytes.emplace_back(at, at + layout.head_dim * SizeOf(layout.dtype));
    }
  }
  return bytes;
}

TEST(AcceptanceTest, PartialCopyIsByteExactAndTouchesNoOtherPage) {  // F20
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    for (int32_t matched = 1; matched <= 3; ++matched) {
      const KvLayout layout{
          .layers = 2, .kv_heads = 3, .head_dim = 8, .tokens_per_page = 4, .dtype = dtype};
      const auto size = static_cast<size_t>(layout.page_bytes());
      auto created = NewCpuDevice({.groups = {{.layout = layout, .page_count = 6}}});
      ASSERT_OK(created);
      Device& device = **created;
      auto* pool = static_cast<char*>(device.view(Tier::kDevice, GroupId{0}, 0)->k);
      std::mt19937 random(7);
      std::generate_n(pool, 6 * size, [&random] { return static_cast<char>(random()); });
      const std::vector<char> before(pool, pool + 6 * size);

      const auto cache = Fours(6, kAllTokens, 1);
      Compute(*cache, Iota(0, 8));
      Sequence sequence = MustStart(*cache, Iota(0, 4 + matched) + Iota(50, 2));
      ASSERT_EQ(sequence.hit_tokens(), 4 + matched);
      ASSERT_OK(sequence.Reserve(1));
      const Plan plan = cache->TakePlan();
      ASSERT_OK(device.Copy(plan, Stream()));
      cache->Retire(plan.ticket);
      const PageId target = sequence.pages(GroupId{0})[1];
      EXPECT_NE(target, PageId{1});
      EXPECT_EQ(TokenBytes(device, layout, target, matched),
                TokenBytes(device, layout, PageId{1}, matched));
      for (int32_t page = 0; page < 6; ++page) {
        if (PageId{page} == target) continue;
        const size_t at = static_cast<size_t>(page) * size;
        EXPECT_EQ(std::memcmp(pool + at, before.data() + at, size), 0) << page;
      }
    }
  }
}

TEST(AcceptanceTest, TokensRewoundInsideAPageAreNotFound) {  // F21
  const auto cache = Fours(8, kAllTokens, 1);
  Sequence sequence = Compute(*cache, Iota(0, 7));
  EXPECT_OK(sequence.Truncate(5));
  EXPECT_OK(Feed(*cache, sequence, Iota(50, 3)));
  sequence = Sequence();
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 5);
  EXPECT_EQ(cache->MatchLength(Iota(0, 5) + Iota(50, 4)), 8);
  Sequence other = Compute(*cache, Iota(100, 7));
  EXPECT_OK(other.Truncate(5));
  other = Sequence();
  EXPECT_EQ(cache->MatchLength(Iota(100, 9)), 4);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceTest, RequestAsLargeAsThePoolWithAnAccidentalMatch) {  // F22
  const auto cache = Fours(4, kAllTokens, 1);
  Compute(*cache, Iota(0, 16));
  Sequence sequence = MustStart(*cache, Iota(0, 1) + Iota(100, 15));
  EXPECT_EQ(sequence.hit_tokens(), 1);
  EXPECT_OK(Feed(*cache, sequence, Iota(100, 15)));
  EXPECT_EQ(sequence.length(), 16);
  EXPECT_EQ(PagesInUse(*cache), 4);
  EXPECT_EQ(cache->MatchLength(Iota(0, 17)), 1);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceTest, APageIsFoundOnlyBehindItsWholePath) {  // F23
  const auto cache = Fours(8);
  Compute(*cache, Iota(0, 12));
  for (int32_t pages = 1; pages <= 3; ++pages) {
    EXPECT_EQ(cache->MatchLength(Iota(0, 4 * pages + 1)), 4 * pages);
  }
  EXPECT_EQ(cache->MatchLength(Iota(4, 9)), 0);
  EXPECT_EQ(cache->MatchLength(Iota(100, 4) + Iota(4, 9)), 0);
  EXPECT_EQ(cache->MatchLength(Iota(0, 4) + Iota(8, 5)), 4);
}

// All of these differ; each hits what was computed under it and nothing else.
void ExpectIsolated(const std::vector<Namespace>& namespaces) {
  for (size_t i = 0; i < namespaces.size(); ++i) {
    const auto cache = Fours(8, kAllTokens, 1);
    Compute(*cache, Iota(0, 9), namespaces[i]);
    for (size_t j = 0; j < namespaces.size(); ++j) {
      EXPECT_EQ(MustStart(*cache, Iota(0, 9), namespaces[j]).hit_tokens(), i == j ? 8 : 0)
          << i << " " << j;
    }
    EXPECT_OK(cache->Validate());
  }
}

TEST(AcceptanceTest, ModelsAreApart) {  // F24
  ExpectIsolated({{}, Namespace().SetModel("a"), Namespace().SetModel("b")});
}

TEST(AcceptanceTest, MediaIsApartAsAWhole) {  // F25
  const Namespace both = Namespace().AddMedia(1, "x").AddMedia(5, "y");
  ExpectIsolated({{},
                  both,
                  Namespace().AddMedia(1, "x"),
                  Namespace().AddMedia(1, "x").AddMedia(5, "z"),
                  Namespace().AddMedia(2, "x").AddMedia(5, "y")});
  const auto cache = Fours(8);
  Compute(*cache, Iota(0, 9), both);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9), Namespace().AddMedia(5, "y").AddMedia(1, "x")), 8);
}

TEST(AcceptanceTest, LorasAreApart) {  // F26
  ExpectIsolated({{}, Namespace().SetLora("a"), Namespace().SetLora("b"), Namespace().SetLora("")});
}

TEST(AcceptanceTest, TenantsAndCombinationsAreApart) {  // F27
  ExpectIsolated({{},
                  Namespace().SetTenant("a"),
                  Namespace().SetTenant("b"),
                  Namespace().SetTenant(""),
                  Namespace().SetLora("a"),
                  Namespace().SetTenant("a").SetLora("a"),
                  Namespace().SetTenant("a").SetLora("b"),
                  Namespace().SetTenant("ab"),
                  Namespace().SetTenant("a").SetLora("a").SetModel("a").AddMedia(0, "a")});
}

TEST(AcceptanceTest, StatsOfOneRequest) {  // F28
  const auto cache = Fours(8);
  Compute(*cache, Iota(0, 10));
  const Stats before = cache->stats();
  Sequence sequence = MustStart(*cache, Iota(0, 8) + Iota(50, 6));
  EXPECT_EQ(sequence.hit_tokens(), 8);
  EXPECT_EQ(PagesInUse(*cache), 2);
  EXPECT_OK(Feed(*cache, sequence, Iota(50, 6)));
  EXPECT_EQ(PagesInUse(*cache), 4);
  const Stats after = cache->stats();
  EXPECT_EQ(after.tokens_looked_up - before.tokens_looked_up, 14);
  EXPECT_EQ(after.tokens_hit - before.tokens_hit, 8);
  EXPECT_EQ(after.missed.absent - before.missed.absent, 5);
  EXPECT_EQ(after.missed.last_token - before.missed.last_token, 1);
}

// ---- Eviction

TEST(AcceptanceTest, LeafGoesBeforeItsParent) {  // F32
  const auto cache = Fours(4);
  Compute(*cache, Iota(0, 12));
  Sequence sequence = MustStart(*cache, Iota(100, 16));
  const std::array<int32_t, 4> left = {12, 8, 4, 0};
  for (int32_t pages = 1; pages <= 4; ++pages) {
    EXPECT_OK(sequence.Reserve(4 * pages));
    EXPECT_EQ(cache->MatchLength(Iota(0, 13)), left[pages - 1]);
    EXPECT_EQ(StatsOf(*cache).evictions, pages - 1);
    EXPECT_OK(cache->Validate());
  }
}

TEST(AcceptanceTest, PoolFullOfHeldPagesRefusesCleanly) {  // F34
  const auto cache = Fours(4);
  const Sequence holder = Compute(*cache, Iota(0, 16));
  Sequence sequence = MustStart(*cache, Iota(100, 4));
  const std::string before = Snapshot(*cache, {&holder, &sequence});
  EXPECT_NO_ROOM(sequence.Reserve(1));
  EXPECT_EQ(Snapshot(*cache, {&holder, &sequence}), before);
  EXPECT_EQ(StatsOf(*cache).evictions, 0);
  EXPECT_OK(cache->Validate());
}

// ---- Windows

TEST(AcceptanceTest, RowKeepsItsLengthWhenPagesLeaveTheWindow) {  // F38
  Options options = OneGroup(8, 4, /*lookback_tokens=*/2);
  const auto cache = NewCache(options);
  Sequence sequence = MustStart(*cache, Iota(0, 1));
  for (int32_t i = 0; i < 20; ++i) {
    EXPECT_OK(Feed(*cache, sequence, Iota(i, 1)));
    EXPECT_EQ(PagesOf(sequence).size(), static_cast<size_t>(i / 8 + 1));
    EXPECT_LE(PagesInUse(*cache), 2);
  }
  EXPECT_EQ(PagesOf(sequence)[0], -1);
  EXPECT_EQ(PagesOf(sequence)[1], -1);
  EXPECT_EQ(PagesInUse(*cache), 1);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceTest, PagesTakenBehindTheWindowAreNotFound) {  // F39
  const auto cache = Fours(5, /*lookback=*/4);
  Sequence sequence = Compute(*cache, Iota(0, 16));
  const Sequence taker = Compute(*cache, Iota(100, 16));
  EXPECT_EQ(StatsOf(*cache).evictions, 3);
  sequence = Sequence();
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 0);
  EXPECT_EQ(cache->MatchLength(Iota(0, 13)), 0);
  EXPECT_EQ(cache->MatchLength(Iota(0, 17)), 16);  // its window is still there
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceTest, EachWindowReusesItsOwnRunOfAPrompt) {  // F40
  Options options = MakeOptions({Group(4, 8), Group(4, 8, 8), Group(4, 8, 4)});
  const auto cache = NewCache(options);
  Compute(*cache, Iota(0, 16));
  const Sequence sequence = MustStart(*cache, Iota(0, 17));
  EXPECT_EQ(sequence.hit_tokens(), 16);
  EXPECT_EQ(PagesOf(sequence, 0), (Ids32{0, 1, 2, 3}));
  EXPECT_EQ(PagesOf(sequence, 1), (Ids32{-1, -1, 2, 3}));
  EXPECT_EQ(PagesOf(sequence, 2), (Ids32{-1, -1, -1, 3}));
  EXPECT_OK(cache->Validate());
}

// ---- Bugs that others had

TEST(AcceptanceTest, FoundPagesCannotBeTakenBeforeTheyAreUsed) {  // S1
  const auto cache = Fours(4);
  Compute(*cache, Iota(0, 16));
  Sequence first = MustStart(*cache, Iota(0, 13));  // pins three of the four cached pages
  Sequence taker = MustStart(*cache, Iota(100, 8));
  EXPECT_NO_ROOM(taker.Reserve(8));
  EXPECT_OK(Feed(*cache, taker, Iota(100, 4)));
  EXPECT_EQ(PagesOf(taker), (Ids32{3}));
  EXPECT_EQ(PagesOf(first), (Ids32{0, 1, 2}));
  EXPECT_EQ(cache->MatchLength(Iota(0, 17)), 12);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceTest, ForksPastAWindowAreFreedOnceInAnyOrder) {  // S2
  std::array<int32_t, 4> order = {0, 1, 2, 3};
  do {
    const auto cache = Fours(24, /*lookback=*/5);
    std::vector<Sequence> forks;
    forks.push_back(Compute(*cache, Iota(0, 10)));
    for (int i = 0; i < 3; ++i) forks.push_back(MustFork(forks[i]));
    for (int32_t i = 0; i < 4; ++i) EXPECT_OK(Feed(*cache, forks[i], Iota(50 * i, 5 + 2 * i)));
    for (const int32_t i : order) {
      std::set<int32_t> seen;
      for (const int32_t page : PagesOf(forks[i])) {
        EXPECT_TRUE(page == -1 || seen.insert(page).second);
      }
      forks[i] = Sequence();
      EXPECT_OK(cache->Validate());
    }
    EXPECT_EQ(PagesInUse(*cache), 0);
    cache->ClearCached();
    EXPECT_EQ(StatsOf(*cache).pages_free, 24);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(AcceptanceTest, StaleHandleFreesNothing) {  // S8
  const auto cache = Fours(4);
  Sequence gone = Compute(*cache, Iota(0, 4));
  { const Sequence released = std::move(gone); }
  const Sequence heir = Compute(*cache, Iota(100, 6));  // stands where the first one stood
  gone = Sequence();
  EXPECT_EQ(PagesInUse(*cache), 2);
  EXPECT_EQ(heir.length(), 6);
  EXPECT_OK(cache->Validate());
}

TEST(AcceptanceDeathTest, CountsNeverGoBelowZero) {  // S9, S14
  absl::StatusOr<BlockAllocator> allocator = BlockAllocator::Create(2);
  ASSERT_OK(allocator);
  std::array<PageId, 1> page;
  ASSERT_OK(allocator->Allocate(page));
  allocator->Release(page[0]);
  EXPECT_DEATH(allocator->Release(page[0]), "double release");
  EXPECT_DEATH(static_cast<void>(allocator->Unref(page[0])), "double release");
  EXPECT_EQ(allocator->refs(page[0]), -1);
  EXPECT_EQ(allocator->free_count(), 2);
}

TEST(AcceptanceTest, BatchRefusedMidwayTakesNothing) {  // S10
  for (int32_t room = 0; room <= 4; ++room) {
    const auto cache = NewCache(MakeOptions({Group(4, 16), Group(4, 5 + room)}));
    Sequence owner = Compute(*cache, Iota(0, 18));
    Sequence fork = MustFork(owner);
    Sequence fresh = MustStart(*cache, Iota(200, 8));
    const std::array<Sequence*, 3> batch = {&owner, &fork, &fresh};
    const std::vector<const Sequence*> all = {&owner, &fork, &fresh};
    const std::string before = Snapshot(*cache, all);
    // Needs one page for the copy of the shared tail, one past it, and two.
    const Ids32 counts = {1, 3, 8};
    const absl::Status reserved = cache->ReserveAll(batch, counts);
    EXPECT_EQ(reserved.ok(), room == 4) << room;
    if (!reserved.ok()) {
      EXPECT_EQ(Snapshot(*cache, all), before);
      EXPECT_EQ(cache->TakePlan().ticket, kNoTicket);
    }
    EXPECT_OK(cache->Validate());
  }
}

TEST(AcceptanceTest, UseIsNeverBelowZeroOrAboveThePool) {  // S15
  const auto cache = Fours(6);
  std::vector<Sequence> sequences(3);
  std::mt19937 random(11);
  for (int step = 0; step < 400; ++step) {
    Sequence& sequence = sequences[random() % 3];
    const auto kind = static_cast<TokenId>(random() % 4);
    if (sequence.empty()) {
      sequence = MustStart(*cache, Iota(100 * kind, 9));
    } else if (kind == 0 || !Feed(*cache, sequence, Iota(100 * kind, 1 + kind)).ok()) {
      sequence = Sequence();
    }
    const GroupStats stats = StatsOf(*cache);
    EXPECT_GE(std::min({stats.pages_free, stats.pages_live, stats.pages_cached}), 0);
    EXPECT_EQ(stats.pages_free + stats.pages_live + stats.pages_cached, 6);
    ASSERT_OK(cache->Validate());
  }
  EXPECT_GT(StatsOf(*cache).evictions, 0);
}

TEST(AcceptanceTest, TheSeedOfTheHashDecidesNothing) {  // S38
  for (const uint64_t seed : {0ull, 1ull, ~0ull, 0x9e3779b97f4a7c15ull}) {
    Options options = OneGroup(4, 8);
    options.hash_seed = seed;
    const auto cache = NewCache(options);
    Compute(*cache, Iota(0, 12));
    Compute(*cache, Iota(0, 4) + Iota(100, 8));
    EXPECT_EQ(cache->MatchLength(Iota(0, 13)), 12);
    EXPECT_EQ(cache->MatchLength(Iota(0, 4) + Iota(100, 9)), 12);
    EXPECT_EQ(cache->MatchLength(Iota(0, 4) + Iota(200, 9)), 4);
    EXPECT_EQ(PagesOf(MustStart(*cache, Iota(0, 4) + Iota(100, 9))), (Ids32{0, 3, 4}));
  }
}

}  // namespace
}  // namespace quire::testing
