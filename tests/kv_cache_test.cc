// The contract of the front door: what kv_cache.h, options.h and sequence.h promise their caller.

#include "quire/kv_cache.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/block_allocator.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

using Ids32 = std::vector<int32_t>;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Pages of 4 tokens.
std::unique_ptr<KvCache> Fours(int32_t page_count, int32_t min_copy_tokens = 1) {
  Options options = OneGroup(4, page_count);
  options.min_copy_tokens = min_copy_tokens;
  return NewCache(options);
}

struct BadField {
  std::function<void(Options&)> spoil;
  std::vector<std::string> words;
};

TEST(KvCacheTest, BadOptionsAreNamedWithTheirRange) {
  const std::vector<BadField> cases = {
      {[](Options& o) { o.groups.clear(); }, {"groups.size() is 0", "1 to 8"}},
      {[](Options& o) { o.groups.resize(9, Group(4, 8)); }, {"groups.size() is 9", "1 to 8"}},
      {[](Options& o) { o.groups[1].tokens_per_page = 0; },
       {"groups[1].tokens_per_page is 0", "1 to 4096"}},
      {[](Options& o) { o.groups[1].tokens_per_page = 4100; },
       {"groups[1].tokens_per_page is 4100", "1 to 4096"}},
      {[](Options& o) { o.groups[1].tokens_per_page = 6; },
       {"groups[1].tokens_per_page is 6", "multiple of the smallest", "4"}},
      {[](Options& o) { o.groups[0].page_count = 0; },
       {"groups[0].page_count is 0", "1 to 1073741824"}},
      {[](Options& o) { o.groups[0].page_count = (1 << 30) + 1; }, {"groups[0].page_count"}},
      {[](Options& o) { o.groups[0].page_bytes = -1; }, {"groups[0].page_bytes is -1", "0 to "}},
      {[](Options& o) { o.groups[0].lookback_tokens = -1; },
       {"groups[0].lookback_tokens is -1", "0 to "}},
      {[](Options& o) { o.max_sequences = 0; }, {"max_sequences is 0", "1 to 1048576"}},
      {[](Options& o) { o.max_sequences = (1 << 20) + 1; }, {"max_sequences is 1048577"}},
      {[](Options& o) { o.max_sequence_tokens = 0; }, {"max_sequence_tokens is 0", "1 to "}},
      {[](Options& o) { o.max_sequence_tokens = (1 << 30) + 1; }, {"max_sequence_tokens"}},
      {[](Options& o) { o.min_copy_tokens = 0; }, {"min_copy_tokens is 0", "1 to 1073741824"}},
      {[](Options& o) { o.max_rollback_tokens = -1; }, {"max_rollback_tokens is -1", "0 to "}},
      {[](Options& o) { o.max_index_nodes = -1; }, {"max_index_nodes is -1", "0 to "}},
      {[](Options& o) { o.reclaim = static_cast<Reclaim>(9); }, {"reclaim is 9"}},
  };
  for (const BadField& bad : cases) {
    Options options = MakeOptions({Group(4, 8), Group(8, 8)});
    bad.spoil(options);
    EXPECT_TRUE(Says(StatusOf(KvCache::Create(options)), kInvalid, bad.words));
  }
}

TEST(KvCacheTest, OptionsAreKept) {
  const auto cache = NewCache(OneGroup(4, 8, /*lookback_tokens=*/7));
  EXPECT_EQ(cache->options().max_sequences, 16);
  EXPECT_EQ(cache->options().groups[0].lookback_tokens, 7);
}

TEST(KvCacheTest, NoPageLeftIsBareAndChangesNothing) {
  const auto cache = Fours(6);
  Compute(*cache, Iota(0, 8));
  Sequence first = Compute(*cache, Iota(100, 6));
  Sequence second = MustStart(*cache, Iota(0, 6) + Iota(50, 8));
  const std::string before = Snapshot(*cache, {&first, &second});
  const std::vector<Sequence*> both = {&first, &second};
  EXPECT_NO_ROOM(cache->ReserveAll(both, Ids32{7, 8}));
  EXPECT_NO_ROOM(second.Reserve(14));
  EXPECT_EQ(Snapshot(*cache, {&first, &second}), before);
  EXPECT_EQ(cache->TakePlan().ticket, kNoTicket);
  EXPECT_EQ(cache->stats().out_of_room, 2);
  EXPECT_OK(cache->Validate());
}

TEST(KvCacheTest, NoSequenceLeftIsBareAndChangesNothing) {
  Options options = OneGroup(4, 8);
  options.max_sequences = 2;
  const auto cache = NewCache(options);
  const Sequence first = Compute(*cache, Iota(0, 6));
  const Sequence second = MustFork(first);
  const std::string before = Snapshot(*cache, {&first, &second});
  EXPECT_NO_ROOM(cache->Start(Iota(0, 5)));
  EXPECT_NO_ROOM(first.Fork());
  EXPECT_EQ(Snapshot(*cache, {&first, &second}), before);
  EXPECT_OK(cache->Validate());
}

TEST(KvCacheTest, WhatNeverFitsIsRefusedAtOnce) {
  Options options = OneGroup(4, 4);
  options.max_sequence_tokens = 20;
  const auto cache = NewCache(options);
  EXPECT_TRUE(Says(StatusOf(cache->Start({})), kInvalid, {"empty"}));
  EXPECT_TRUE(Says(StatusOf(cache->Start(Iota(0, 21))), kInvalid, {"21", "max_sequence_tokens"}));
  EXPECT_TRUE(
      Says(StatusOf(cache->Start(Iota(0, 17))), kInvalid, {"5 pages", "groups[0].page_count"}));
  EXPECT_OK(cache->CheckFits(16, 16));
  EXPECT_TRUE(Says(cache->CheckFits(17, 1), kInvalid, {"groups[0].page_count", "never fit"}));
  EXPECT_TRUE(Says(cache->CheckFits(21, 1), kInvalid, {"max_sequence_tokens is 20"}));
  EXPECT_TRUE(Says(cache->CheckFits(0, 1), kInvalid, {"total_tokens is 0"}));
  EXPECT_TRUE(Says(cache->CheckFits(1, 0), kInvalid, {"step_tokens 0"}));

  Sequence sequence = Compute(*cache, Iota(0, 5));
  const std::string before = Snapshot(*cache, {&sequence});
  EXPECT_TRUE(Says(sequence.Reserve(-1), kInvalid, {"-1"}));
  EXPECT_TRUE(Says(sequence.Reserve(12), kInvalid, {"5 pages", "4", "never fit"}));
  EXPECT_TRUE(Says(sequence.Reserve(16), kInvalid, {"21 tokens", "max_sequence_tokens"}));
  EXPECT_EQ(Snapshot(*cache, {&sequence}), before);
  EXPECT_EQ(cache->stats().out_of_room, 0);
  EXPECT_OK(sequence.Reserve(11));
  EXPECT_OK(cache->Validate());
}

// What CheckFits admits can be run in such steps, and what it refuses cannot.
TEST(KvCacheTest, CheckFitsKnowsThePeakOfAWindow) {
  for (const int32_t lookback : {0, 3, 4, 7, 9}) {
    for (int32_t step = 1; step <= 13; ++step) {
      SCOPED_TRACE(std::to_string(lookback) + " " + std::to_string(step));
      const auto cache = NewCache(OneGroup(4, 4, lookback));
      const bool fits = cache->CheckFits(90, step).ok();
      StartOptions alone;
      alone.write_cache = false;
      absl::StatusOr<Sequence> sequence = cache->Start(Iota(0, 4), {}, alone);
      ASSERT_OK(sequence);
      absl::Status status;
      while (status.ok() && sequence->length() < 90) {
        status = Feed(*cache, *sequence, Iota(0, std::min(step, 90 - sequence->length())));
      }
      EXPECT_EQ(status.ok(), fits) << status;
    }
  }
}

TEST(KvCacheDeathTest, DoubleReleaseOfAPage) {
  absl::StatusOr<BlockAllocator> pages = BlockAllocator::Create(2);
  ASSERT_OK(pages);
  std::array<PageId, 1> page;
  ASSERT_OK(pages->Allocate(page));
  pages->Release(page[0]);
  EXPECT_DEATH(pages->Release(page[0]), "double release");
}

TEST(KvCacheDeathTest, CommitPastCapacity) {
  const auto cache = Fours(8);
  Sequence sequence = MustStart(*cache, Iota(0, 9));
  EXPECT_DEATH(static_cast<void>(sequence.Commit(Iota(0, 1))), "commit past capacity");
  EXPECT_OK(sequence.Reserve(4));
  EXPECT_DEATH(static_cast<void>(sequence.Commit(Iota(0, 5))), "commit past capacity");
  EXPECT_OK(sequence.Commit(Iota(0, 2)));
  const Sequence fork = MustFork(sequence);
  EXPECT_DEATH(static_cast<void>(sequence.Commit(Iota(2, 1))), "again after Fork");
}

TEST(KvCacheDeathTest, CommitBeforeItsPlanWasTaken) {
  const auto cache = Fours(8);
  const Sequence first = Compute(*cache, Iota(0, 6));
  Sequence fork = MustFork(first);
  EXPECT_OK(fork.Reserve(1));
  EXPECT_DEATH(static_cast<void>(fork.Commit(Iota(6, 1))), "commit before TakePlan");
}

TEST(KvCacheDeathTest, WrongBatches) {
  const auto cache = Fours(8);
  Sequence sequence = MustStart(*cache, Iota(0, 9));
  const std::vector<Sequence*> twice = {&sequence, &sequence};
  EXPECT_DEATH(static_cast<void>(cache->ReserveAll(twice, Ids32{1, 1})), "same sequence twice");
  EXPECT_DEATH(static_cast<void>(cache->ReserveAll(twice, Ids32{1})), "one count for each");
  EXPECT_OK(sequence.Reserve(2));
  EXPECT_DEATH(static_cast<void>(cache->CommitAll(twice, Iota(0, 2), Ids32{1, 1})),
               "same sequence twice");
  EXPECT_DEATH(static_cast<void>(cache->CommitAll({twice.data(), 1}, Iota(0, 2), Ids32{1})),
               "counts must add up");
}

TEST(KvCacheDeathTest, TicketsRetireOnceAndInOrder) {
  const auto cache = Fours(8);
  const Sequence first = Compute(*cache, Iota(0, 6));
  std::vector<Sequence> forks;
  std::vector<Ticket> tickets;
  for (int i = 0; i < 2; ++i) {
    forks.push_back(MustFork(first));
    EXPECT_OK(forks.back().Reserve(1));
    tickets.push_back(cache->TakePlan().ticket);
  }
  EXPECT_LT(tickets[0], tickets[1]);
  EXPECT_DEATH(cache->Retire(tickets[1]), "in the order they were taken");
  cache->Retire(kNoTicket);
  cache->Retire(tickets[0]);
  EXPECT_DEATH(cache->Retire(tickets[0]), "in the order they were taken");
  cache->Retire(tickets[1]);
  EXPECT_OK(cache->Validate());
}

TEST(KvCacheDeathTest, CacheDestroyedWithALiveSequence) {
  auto cache = Fours(8);
  const Sequence sequence = MustStart(*cache, Iota(0, 9));
  EXPECT_DEATH(cache.reset(), "outlives its KvCache");
}

TEST(KvCacheDeathTest, UseAfterMove) {
  const auto cache = Fours(8);
  Sequence from = Compute(*cache, Iota(0, 6));
  Sequence to = std::move(from);
  Sequence* const moved = &from;
  EXPECT_TRUE(moved->empty());
  EXPECT_DEATH(moved->length(), "empty: moved from");
  EXPECT_DEATH(static_cast<void>(moved->Reserve(1)), "empty: moved from");
  EXPECT_DEATH(static_cast<void>(moved->Fork()), "empty: moved from");
  EXPECT_DEATH(static_cast<void>(cache->ReserveAll({&moved, 1}, Ids32{1})), "empty");
  to = Sequence();
  EXPECT_EQ(cache->stats().sequences, 0);
}

TEST(KvCacheTest, MakePageTableDescribesTheStep) {
  const auto cache = NewCache(MakeOptions({Group(4, 16), Group(8, 8, /*lookback_tokens=*/3)}));
  Sequence first = Compute(*cache, Iota(0, 6));
  Sequence second = Compute(*cache, Iota(100, 16));
  EXPECT_OK(first.Reserve(4));
  EXPECT_OK(second.Reserve(1));
  const std::vector<const Sequence*> batch = {&first, &second};
  std::array<int64_t, 2> row_begin;
  std::array<int32_t, 2> lengths;
  for (int32_t g = 0; g < 2; ++g) {
    const PageTableView view =
        cache->MakePageTable(batch, Ids32{4, 1}, GroupId{g}, {row_begin, lengths});
    EXPECT_EQ(view.batch, 2);
    EXPECT_EQ(view.tokens_per_page, g == 0 ? 4 : 8);
    EXPECT_EQ(view.lengths[0], 10);
    EXPECT_EQ(view.lengths[1], 17);
    for (size_t i = 0; i < 2; ++i) {
      const Ids32 pages = PagesOf(*batch[i], g);
      const PageId* row = view.page_ids + view.row_begin[i];
      EXPECT_EQ(Ids(std::span(row, pages.size())), pages);
    }
    // Packed: the same rows, one after the other.
    std::array<PageId, 8> room;
    const absl::StatusOr<PageTableView> packed =
        cache->PackPageTable(batch, Ids32{4, 1}, GroupId{g}, {row_begin, lengths}, room);
    ASSERT_OK(packed);
    EXPECT_EQ(packed->page_ids, room.data());
    EXPECT_EQ(packed->row_begin[0], 0);
    EXPECT_EQ(packed->row_begin[1], g == 0 ? 3 : 2);
    Ids32 both = PagesOf(first, g);
    for (const int32_t page : PagesOf(second, g)) both.push_back(page);
    EXPECT_EQ(Ids(std::span(room).first(both.size())), both);
  }
}

TEST(KvCacheTest, PackPageTableSaysHowMuchRoomItNeeds) {
  const auto cache = Fours(8);
  Sequence sequence = Compute(*cache, Iota(0, 12));
  const std::vector<const Sequence*> batch = {&sequence};
  std::array<int64_t, 1> row_begin = {-7};
  std::array<int32_t, 1> lengths = {-7};
  std::array<PageId, 2> room = {PageId{-7}, PageId{-7}};
  EXPECT_TRUE(
      Says(StatusOf(cache->PackPageTable(batch, Ids32{0}, GroupId{0}, {row_begin, lengths}, room)),
           absl::StatusCode::kOutOfRange, {"2", "3"}));
  EXPECT_EQ(row_begin[0], -7);
  EXPECT_EQ(lengths[0], -7);
  EXPECT_EQ(Ids(room), (Ids32{-7, -7}));
}

TEST(KvCacheDeathTest, PageTablesPastCapacityOrWithoutAGroup) {
  const auto cache = Fours(8);
  const Sequence sequence = Compute(*cache, Iota(0, 4));
  const std::vector<const Sequence*> batch = {&sequence};
  std::array<int64_t, 1> row_begin;
  std::array<int32_t, 1> lengths;
  const PageTableBuffers buffers = {row_begin, lengths};
  EXPECT_DEATH(cache->MakePageTable(batch, Ids32{1}, GroupId{0}, buffers), "Reserve first");
  EXPECT_DEATH(cache->MakePageTable(batch, Ids32{0}, GroupId{1}, buffers), "no such group");
  EXPECT_DEATH(cache->MakePageTable(batch, Ids32{0}, GroupId{0}, {}), "buffers are smaller");
  EXPECT_DEATH(sequence.pages(GroupId{1}), "no such group");
}

TEST(KvCacheTest, StatsOfPagesAndSequences) {
  const auto cache = Fours(8);
  EXPECT_GT(cache->stats().metadata_bytes, 0);
  const Sequence first = Compute(*cache, Iota(0, 10));
  Compute(*cache, Iota(100, 8));
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.sequences, 1);
  EXPECT_EQ(stats.index_nodes, 4);
  EXPECT_EQ(stats.groups[0].pages_live, 3);
  EXPECT_EQ(stats.groups[0].pages_cached, 2);
  EXPECT_EQ(stats.groups[0].pages_free, 3);
  EXPECT_EQ(stats.groups[0].bytes_live, 300);
}

// Every prompt token is a hit or has one reason.
struct Missed {
  int64_t hit, last_token, absent, page_gone, unaligned, disabled;
  bool operator==(const Missed&) const = default;
};

Missed Look(KvCache& cache, const Tokens& prompt, const Namespace& ns = {}) {
  const Stats before = cache.stats();
  static_cast<void>(MustStart(cache, prompt, ns));
  const Stats after = cache.stats();
  const MissTokens& a = after.missed;
  const MissTokens& b = before.missed;
  const Missed missed = {after.tokens_hit - before.tokens_hit,
                         a.last_token - b.last_token,
                         a.absent - b.absent,
                         a.page_gone - b.page_gone,
                         a.unaligned - b.unaligned,
                         a.disabled - b.disabled};
  EXPECT_EQ(missed.hit + missed.last_token + missed.absent + missed.page_gone + missed.unaligned +
                missed.disabled,
            after.tokens_looked_up - before.tokens_looked_up);
  return missed;
}

TEST(KvCacheTest, EveryMissedTokenHasItsReason) {
  const auto cache = Fours(8, /*min_copy_tokens=*/3);
  Compute(*cache, Iota(0, 8));
  EXPECT_EQ(Look(*cache, Iota(0, 9)), (Missed{8, 1, 0, 0, 0, 0}));
  EXPECT_EQ(Look(*cache, Iota(100, 9)), (Missed{0, 1, 8, 0, 0, 0}));
  EXPECT_EQ(Look(*cache, Iota(0, 4) + Iota(50, 5)), (Missed{4, 1, 4, 0, 0, 0}));
  // Two tokens of a page agree, and a copy is worth it from three on.
  EXPECT_EQ(Look(*cache, Iota(0, 6) + Iota(50, 3)), (Missed{4, 1, 2, 0, 2, 0}));
  EXPECT_EQ(Look(*cache, Iota(0, 9), Namespace().SetTenant("x")), (Missed{0, 1, 8, 0, 0, 0}));

  Options options = OneGroup(4, 8);
  options.prefix_caching = false;
  const auto off = NewCache(options);
  EXPECT_EQ(Look(*off, Iota(0, 9)), (Missed{0, 0, 0, 0, 0, 9}));
}

TEST(KvCacheTest, PagesThatAreGoneAreAReason) {
  // The full group keeps all of its pages; the window's have to make room.
  Options options = MakeOptions({Group(4, 32), Group(4, 5, /*lookback_tokens=*/4)});
  options.min_copy_tokens = 1 << 30;
  const auto cache = NewCache(options);
  Compute(*cache, Iota(0, 16));
  Compute(*cache, Iota(100, 20));
  EXPECT_EQ(Look(*cache, Iota(0, 17)), (Missed{0, 1, 0, 16, 0, 0}));
  EXPECT_OK(cache->Validate());
}

TEST(KvCacheTest, ReadAndWriteCanBeTurnedOff) {
  const auto cache = Fours(16);
  StartOptions silent;
  silent.write_cache = false;
  StartOptions blind;
  blind.read_cache = false;
  Compute(*cache, Iota(0, 8), {}, silent);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 0);
  EXPECT_EQ(StatsOf(*cache).pages_free, 16);
  Compute(*cache, Iota(0, 8));
  const Stats before = cache->stats();
  const Sequence unread = Compute(*cache, Iota(0, 9), {}, blind);
  EXPECT_EQ(unread.hit_tokens(), 0);
  EXPECT_EQ(cache->stats().tokens_looked_up, before.tokens_looked_up);
  // A reader that does not write: hits, and what it adds is not found.
  const Sequence reader = Compute(*cache, Iota(0, 16), {}, silent);
  EXPECT_EQ(reader.hit_tokens(), 8);
  EXPECT_EQ(cache->MatchLength(Iota(0, 17)), 8);
  EXPECT_OK(cache->Validate());
}

TEST(KvCacheTest, NamespacesAreApart) {
  const auto cache = Fours(16);
  const auto one = Namespace().SetTenant("one").SetLora("a");
  const Sequence owner = Compute(*cache, Iota(0, 8), one);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9)), 0);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9), Namespace().SetTenant("one")), 0);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9), Namespace().SetTenant("two").SetLora("a")), 0);
  EXPECT_EQ(cache->MatchLength(Iota(0, 9), Namespace().SetLora("a").SetTenant("one")), 8);
  EXPECT_EQ(MustStart(*cache, Iota(0, 9), one).hit_tokens(), 8);
  EXPECT_OK(cache->Validate());
}

// A mixture of calls; everything that a caller sees of it, as text.
std::string Story() {
  Options options = MakeOptions({Group(4, 20), Group(8, 10, /*lookback_tokens=*/9)});
  options.min_copy_tokens = 1;
  const auto cache = NewCache(options);
  std::string seen;
  std::vector<Sequence> live;
  for (int32_t i = 0; i < 60; ++i) {
    absl::StatusOr<Sequence> started =
        cache->Start(Iota(0, 3 + i % 11) + Iota(i % 3 * 100, 9), Namespace().SetTenant("t"));
    if (started.ok()) live.push_back(*std::move(started));
    if (i % 5 == 0) live.push_back(MustFork(live[live.size() / 2]));
    for (Sequence& sequence : live) {
      seen += sequence.Reserve(3).ToString();
      for (const PageCopy& copy : RunPlan(*cache)) {
        seen += ' ' + std::to_string(static_cast<int32_t>(copy.from_page)) + '>' +
                std::to_string(static_cast<int32_t>(copy.to_page));
      }
      const int32_t room = std::min(3, sequence.capacity() - sequence.length());
      EXPECT_OK(sequence.Commit(Iota(sequence.length(), room)));
    }
    if (live.size() > 3) live.erase(live.begin() + i % 3);
    std::vector<const Sequence*> all;
    for (const Sequence& sequence : live) all.push_back(&sequence);
    seen += Snapshot(*cache, all);
  }
  return seen;
}

TEST(KvCacheTest, SameCallsGiveSamePagesAndPlans) {
  const std::string first = Story();
  EXPECT_NE(first.find('>'), std::string::npos);
  EXPECT_EQ(Story(), first);
}

}  // namespace
}  // namespace quire::testing
