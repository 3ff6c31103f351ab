// Options::scrub_released, byte by byte: random operations on a cache with real memory, in which
// every namespace writes a canary of its own into every slot that it may write. Before a step's
// kernels would run, no byte of a page in a sequence's table may be another namespace's, and each
// committed slot must hold its own canary; a drained pool holds none but in cached pages. Plans
// fail half done and are retired late. The same run with a fault planted must find it.
//
//   QUIRE_SCRUB_PAGES=N   hand out N pages in each run instead of the default
//   QUIRE_SCRUB_SEED=K    begin with seed K

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iostream>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/device.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"
#include "tests/support/seeded.h"

namespace quire::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
constexpr int64_t kPages = 40000;
#else
constexpr int64_t kPages = 500000;
#endif

enum class Fault {
  kNone,
  kOptionOff,
  kSkipReclaimed,  // pages evicted
  kSkipCleared,    // pages that ClearCached gave up
  kCopiesFirst,
  kHideFailures,  // retires a plan that failed as if it had not
};

constexpr int32_t kNamespaces = 7;
constexpr int32_t kTexts = 3;  // that requests of a namespace begin with
constexpr int32_t kTextTokens = 48;
constexpr size_t kRequests = 8;
constexpr size_t kOutstanding = 4;

class Engine {
 public:
  Engine(const Options& options, uint64_t seed, Fault fault)
      : options_(options), fault_(fault), random_(seed) {
    options_.scrub_released = fault != Fault::kOptionOff;
    cache_ = NewCache(options_);
    DeviceOptions device;
    for (const GroupOptions& group : options_.groups) {
      const KvLayout layout = {
          .layers = 1, .kv_heads = 1, .head_dim = 8, .tokens_per_page = group.tokens_per_page};
      device.groups.push_back({.layout = layout, .page_count = group.page_count});
      doubt_.emplace_back(static_cast<size_t>(group.page_count), kNoTicket);
      held_at_.emplace_back(static_cast<size_t>(group.page_count), -1);
    }
    device_ = NewCpuDevice(device).value();
    for (size_t g = 0; g < options_.groups.size(); ++g) {
      views_.push_back(device_->view(Tier::kDevice, GroupOf(g), 0).value());
    }
  }

  void Run(int64_t pages) {
    while (handed_ < pages && findings_.empty()) {
      ++now_;
      if (fault_ == Fault::kSkipReclaimed || fault_ == Fault::kSkipCleared) NoteHolders();
      Act();
      if (now_ % 128 == 0) {
        ASSERT_OK(cache_->Validate());
      }
    }
  }

  // Everybody goes; then only what is cached may be left, and after ClearCached nothing.
  void Drain() {
    requests_.clear();
    while (!outstanding_.empty()) RetireOne();
    CarryOut(/*fails=*/false);
    for (size_t g = 0; g < views_.size(); ++g) {
      EXPECT_EQ(DirtyPages(g), StatsOf(*cache_, static_cast<int32_t>(g)).pages_cached);
    }
    cache_->ClearCached();
    CarryOut(/*fails=*/false);
    for (size_t g = 0; g < views_.size(); ++g) {
      EXPECT_EQ(DirtyPages(g), 0);
      EXPECT_EQ(StatsOf(*cache_, static_cast<int32_t>(g)).pages_free,
                options_.groups[g].page_count);
    }
    EXPECT_OK(cache_->Validate());
  }

  int64_t handed() const { return handed_; }
  int64_t bytes() const { return bytes_; }
  const std::string& findings() const { return findings_; }
  const Stats stats() const { return cache_->stats(); }
  int64_t forks = 0, truncations = 0, clears = 0, failed_plans = 0, losses = 0, drafts = 0;

 private:
  struct Request {
    Sequence sequence;
    uint8_t canary;
    Tokens text;
  };
  struct Taken {
    Ticket ticket;
    bool fails;
  };

  static GroupId GroupOf(size_t g) { return GroupId{static_cast<int32_t>(g)}; }
  uint32_t Draw(uint32_t end) { return static_cast<uint32_t>(random_() >> 33) % end; }
  bool OneIn(uint32_t n) { return Draw(n) == 0; }

  // --- Memory. K and V of a page lie one behind the other.
  int64_t PageBytes(size_t g) const { return views_[g].k_strides.page; }
  uint8_t* PageAt(size_t g, PageId page) const {
    return static_cast<uint8_t*>(views_[g].k) + PageOffset(page, PageBytes(g));
  }
  template <typename Visit>  // each byte of a token
  void VisitToken(size_t g, const Request& request, int32_t position, Visit visit) const {
    const int32_t tokens_per_page = options_.groups[g].tokens_per_page;
    const PageId page = request.sequence.pages(GroupOf(g))[position / tokens_per_page];
    if (page == kNoPage) return;
    const int64_t row = views_[g].k_strides.token;
    uint8_t* at = PageAt(g, page) + position % tokens_per_page * row;
    for (uint8_t* half : {at, at + PageBytes(g) / 2}) {
      for (int64_t i = 0; i < row; ++i) visit(page, half[i]);
    }
  }
  int32_t DirtyPages(size_t g) const {
    int32_t dirty = 0;
    for (int32_t p = 0; p < options_.groups[g].page_count; ++p) {
      const uint8_t* at = PageAt(g, PageId{p});
      dirty += std::any_of(at, at + PageBytes(g), [](uint8_t byte) { return byte != 0; });
    }
    return dirty;
  }

  // --- Plans.
  void NoteHolders() {
    for (const auto& request : requests_) {
      for (size_t g = 0; g < views_.size(); ++g) {
        for (const PageId page : request->sequence.pages(GroupOf(g))) {
          if (page != kNoPage) held_at_[g][static_cast<size_t>(page)] = now_;
        }
      }
    }
  }
  bool Skips(const PageScrub& scrub) const {
    const bool was_cached =
        held_at_[static_cast<size_t>(scrub.group)][static_cast<size_t>(scrub.page)] < planned_at_;
    return (fault_ == Fault::kSkipReclaimed && was_cached && !cleared_) ||
           (fault_ == Fault::kSkipCleared && was_cached && cleared_);
  }
  void CarryOut(bool fails) {
    const Plan plan = cache_->TakePlan();
    if (plan.ticket != kNoTicket) {
      // One that fails gets half of its work done.
      std::vector<PageScrub> scrubs;
      for (const PageScrub& scrub : plan.scrubs) {
        Doubt(scrub.group, scrub.page) = fails ? plan.ticket : kNoTicket;
        if (!(fails && OneIn(2)) && !Skips(scrub)) scrubs.push_back(scrub);
      }
      std::vector<PageCopy> copies;
      for (const PageCopy& copy : plan.copies) {
        Doubt(copy.group, copy.to_page) = fails ? plan.ticket : Doubt(copy.group, copy.from_page);
        if (!(fails && OneIn(2))) copies.push_back(copy);
      }
      if (fault_ == Fault::kCopiesFirst) {
        EXPECT_OK(device_->Copy({plan.ticket, copies}, Stream()));
        EXPECT_OK(device_->Copy({plan.ticket, {}, scrubs}, Stream()));
      } else {
        EXPECT_OK(device_->Copy({plan.ticket, copies, scrubs}, Stream()));
      }
      outstanding_.push_back({plan.ticket, fails});
      failed_plans += fails ? 1 : 0;
    }
    planned_at_ = now_;
    cleared_ = false;
  }
  // The plan, to be retired with a failure, that leaves the page's bytes open.
  Ticket& Doubt(GroupId group, PageId page) {
    return doubt_[static_cast<size_t>(group)][static_cast<size_t>(page)];
  }
  // True if it failed.
  bool RetireOne() {
    const Taken taken = outstanding_.front();
    outstanding_.pop_front();
    const bool fails = taken.fails && fault_ != Fault::kHideFailures;
    cache_->Retire(taken.ticket, fails ? absl::InternalError("it failed") : absl::OkStatus());
    for (auto& group : doubt_) std::replace(group.begin(), group.end(), taken.ticket, kNoTicket);
    return fails;
  }

  // --- What happens.
  void Act() {
    const uint32_t what = Draw(100);
    if (requests_.size() < kRequests && (requests_.empty() || what < 30)) {
      Begin();
    } else if (what < 80) {
      Step();
    } else if (what < 84 && requests_.size() < kRequests) {
      const Request& from = *requests_[Draw(requests_.size())];
      requests_.push_back(
          std::make_unique<Request>(Request{MustFork(from.sequence), from.canary, from.text}));
      for (TokenId& token : std::span(requests_.back()->text).subspan(from.sequence.length())) {
        token = static_cast<TokenId>(Draw(1000));
      }
      ++forks;
    } else if (what < 88) {
      Sequence& sequence = requests_[Draw(requests_.size())]->sequence;
      const int32_t back = static_cast<int32_t>(Draw(9));
      if (sequence.Truncate(std::max(0, sequence.length() - back)).ok()) ++truncations;
    } else if (what < 97) {
      requests_.erase(requests_.begin() + Draw(requests_.size()));
    } else if (what < 98 && OneIn(3)) {
      cache_->ClearCached();
      cleared_ = true;
      ++clears;
    } else if (!outstanding_.empty()) {
      RetireOne();
    }
  }

  void Begin() {
    const int32_t ns = static_cast<int32_t>(Draw(kNamespaces));
    const int32_t text = static_cast<int32_t>(Draw(kTexts));
    Tokens tokens = Iota(1000 + 1000 * text, kTextTokens);  // the same in all namespaces
    const int32_t common = static_cast<int32_t>(Draw(kTextTokens));
    for (size_t i = common; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(Draw(1000));
    const Tokens prompt(tokens.begin(), tokens.begin() + 1 + Draw(kTextTokens - 8));
    Sequence sequence = MustStart(*cache_, prompt, Namespace().SetTenant(std::to_string(ns)));
    requests_.push_back(std::make_unique<Request>(
        Request{std::move(sequence), static_cast<uint8_t>(ns + 1), std::move(tokens)}));
  }

  void Step() {
    std::vector<Request*> batch;
    for (const auto& request : requests_) {
      if (OneIn(2) && request->sequence.length() < kTextTokens) batch.push_back(request.get());
    }
    std::vector<Sequence*> sequences;
    std::vector<int32_t> counts;
    std::vector<std::vector<std::vector<PageId>>> before;
    for (Request* request : batch) {
      sequences.push_back(&request->sequence);
      const int32_t left = kTextTokens - request->sequence.length();
      counts.push_back(1 + static_cast<int32_t>(Draw(std::min(left, OneIn(3) ? 40 : 6))));
      before.push_back(RowsOf(*request));
    }
    const absl::Status status = cache_->ReserveAll(sequences, counts);
    if (status.code() == absl::StatusCode::kResourceExhausted) {
      requests_.erase(requests_.begin() + Draw(requests_.size()));
      return;
    }
    if (status.code() == absl::StatusCode::kDataLoss) return GoBack();
    ASSERT_OK(status);
    CarryOut(OneIn(16));
    bool failed = false;
    while (outstanding_.size() > kOutstanding || (!outstanding_.empty() && OneIn(4))) {
      failed = RetireOne() || failed;
    }
    if (failed) return;  // skips the step
    for (size_t i = 0; i < batch.size(); ++i) Look(*batch[i], before[i]);
    for (size_t i = 0; i < batch.size(); ++i) Write(*batch[i], counts[i]);
  }

  void GoBack() {
    ++losses;
    std::erase_if(requests_, [](const auto& request) {
      return !request->sequence.Truncate(request->sequence.valid_length()).ok();
    });
  }

  std::vector<std::vector<PageId>> RowsOf(const Request& request) const {
    std::vector<std::vector<PageId>> rows;
    for (size_t g = 0; g < views_.size(); ++g) {
      const std::span<const PageId> row = request.sequence.pages(GroupOf(g));
      rows.emplace_back(row.begin(), row.end());
    }
    return rows;
  }

  // Before the kernels.
  void Look(const Request& request, const std::vector<std::vector<PageId>>& before) {
    for (size_t g = 0; g < views_.size(); ++g) {
      const std::span<const PageId> row = request.sequence.pages(GroupOf(g));
      for (size_t p = 0; p < row.size(); ++p) {
        if (row[p] == kNoPage) continue;
        handed_ += p >= before[g].size() || before[g][p] != row[p] ? 1 : 0;
        if (Doubt(GroupOf(g), row[p]) != kNoTicket) continue;
        const uint8_t* at = PageAt(g, row[p]);
        bytes_ += PageBytes(g);
        const bool clean = std::all_of(at, at + PageBytes(g), [&](uint8_t byte) {
          return byte == 0 || byte == request.canary;
        });
        if (!clean) Find("another's bytes", g, row[p]);
      }
      for (int32_t position = 0; position < request.sequence.length(); ++position) {
        VisitToken(g, request, position, [&](PageId page, uint8_t byte) {
          if (byte != request.canary && Doubt(GroupOf(g), page) == kNoTicket) {
            Find("its own bytes lost", g, page);
          }
        });
      }
    }
  }

  // The kernels, and Commit. Drafts are written up to capacity and mostly rejected.
  void Write(Request& request, int32_t count) {
    Sequence& sequence = request.sequence;
    const int32_t length = sequence.length();
    const bool draft = OneIn(4);
    drafts += draft ? 1 : 0;
    const int32_t end = draft ? sequence.capacity() : length + count;
    for (size_t g = 0; g < views_.size(); ++g) {
      for (int32_t position = length; position < end; ++position) {
        VisitToken(g, request, position, [&](PageId, uint8_t& byte) { byte = request.canary; });
      }
    }
    if (!outstanding_.empty() && OneIn(8)) RetireOne();  // learned between launch and commit
    const int32_t accepted = draft ? 1 : count;
    const absl::Status status = sequence.Commit(std::span(request.text).subspan(length, accepted));
    if (status.code() == absl::StatusCode::kDataLoss) {
      ++losses;
      if (sequence.Truncate(sequence.valid_length()).ok()) return;
      Request* gone = &request;
      std::erase_if(requests_, [gone](const auto& other) { return other.get() == gone; });
      return;
    }
    ASSERT_OK(status);
  }

  void Find(const char* what, size_t g, PageId page) {
    if (!findings_.empty()) return;
    findings_ = std::string(what) + ": group " + std::to_string(g) + " page " +
                std::to_string(static_cast<int32_t>(page)) + ", operation " + std::to_string(now_);
  }

  Options options_;
  const Fault fault_;
  std::mt19937_64 random_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Device> device_;
  std::vector<KvView> views_;                  // by group
  std::vector<std::vector<Ticket>> doubt_;     // by group, page
  std::vector<std::vector<int64_t>> held_at_;  // the latest operation that found it in a table
  std::deque<Taken> outstanding_;
  int64_t now_ = 0;
  int64_t planned_at_ = -1;
  bool cleared_ = false;
  int64_t handed_ = 0;
  int64_t bytes_ = 0;
  std::string findings_;
  std::vector<std::unique_ptr<Request>> requests_;
};

// Room for about half of what kRequests streams want.
Options SmallPools(int32_t second_tokens_per_page) {
  const int32_t window_pages = second_tokens_per_page == 4 ? 28 : 18;
  Options options = MakeOptions({Group(4, 60), Group(second_tokens_per_page, window_pages,
                                                     /*lookback_tokens=*/9)});
  options.min_copy_tokens = 1;
  options.max_rollback_tokens = 4;
  options.max_sequences = kRequests;
  return options;
}

void ExpectClean(const Options& options) {
  const auto seed = static_cast<uint64_t>(FromEnvironment("QUIRE_SCRUB_SEED", 1));
  const int64_t pages = FromEnvironment("QUIRE_SCRUB_PAGES", kPages);
  Engine engine(options, seed, Fault::kNone);
  engine.Run(pages);
  EXPECT_EQ(engine.findings(), "") << "seed " << seed;
  engine.Drain();
  EXPECT_GE(engine.handed(), pages) << "seed " << seed;
  // The run is worth something.
  const Stats stats = engine.stats();
  for (const GroupStats& group : stats.groups) {
    EXPECT_GT(group.evictions, pages / 100);
    EXPECT_GT(group.copies, pages / 1000);
  }
  EXPECT_GT(stats.tokens_hit, pages / 50);
  EXPECT_GT(stats.copies_failed, pages / 10000);
  for (const int64_t count : {engine.forks, engine.truncations, engine.clears, engine.failed_plans,
                              engine.losses, engine.drafts}) {
    EXPECT_GT(count, 20);
  }
  std::cout << "scorecard: canaries: " << engine.handed() << " pages handed out, " << engine.bytes()
            << " bytes looked at\n";
}

TEST(ScrubCanaryTest, NoByteOfAnother) { ExpectClean(SmallPools(4)); }

TEST(ScrubCanaryTest, NoByteOfAnotherWithTwoPageSizes) { ExpectClean(SmallPools(8)); }

class PlantedFault : public ::testing::TestWithParam<Fault> {};

TEST_P(PlantedFault, IsFound) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    for (const int32_t tokens_per_page : {4, 8}) {
      Engine engine(SmallPools(tokens_per_page), seed, GetParam());
      engine.Run(20000);
      EXPECT_NE(engine.findings(), "") << "seed " << seed << ", " << tokens_per_page;
    }
  }
}

std::string NameOf(const ::testing::TestParamInfo<Fault>& info) {
  const char* const names[] = {"None",        "OptionOff",   "SkipReclaimed",
                               "SkipCleared", "CopiesFirst", "HideFailures"};
  return names[static_cast<int>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(ScrubCanaryTest, PlantedFault,
                         ::testing::Values(Fault::kOptionOff, Fault::kSkipReclaimed,
                                           Fault::kSkipCleared, Fault::kCopiesFirst,
                                           Fault::kHideFailures),
                         NameOf);

}  // namespace
}  // namespace quire::testing
