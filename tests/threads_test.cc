// One writer, and beside it readers of its statistics and callers of kernels.
//
// Eight threads: one writes (starts, reserves, commits, forks, truncates, drops, takes plans and
// has them carried out), three read PublishedStats and check that each answer is whole, four call
// the append and attention kernels on sequences that the writer has handed over, and check what
// they read. Run it in the tsan preset: there is no suppression, and nothing here that needs one.
//
//   QUIRE_THREADS_OPERATIONS=N   operations of each thread: calls of the cache, answers read,
//                                kernels called. 2000000 is the long form.
//   QUIRE_THREADS_SEED=N

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "lib/stats_board.h"
#include "quire/attention.h"
#include "quire/device.h"
#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"
#include "tests/support/seeded.h"

namespace quire::testing {
namespace {

#ifdef __SANITIZE_THREAD__
constexpr int64_t kDefaultOperations = 20000;
#else
constexpr int64_t kDefaultOperations = 5000;
#endif
constexpr int kReaders = 3;
constexpr int kCallers = 4;
constexpr int kThreads = 1 + kReaders + kCallers;

constexpr int32_t kTokensPerPage = 4;
constexpr int32_t kHeadDim = 8;
constexpr int32_t kLongest = 32;
constexpr int32_t kWindow = 8;
constexpr std::array<int32_t, 2> kPages = {72, 56};  // group 1 has the window
constexpr int kGroups = 2;

// What a kernel caller is told: page tables of one sequence, and which tokens it writes.
struct Job {
  std::array<PageTableView, kGroups> tables;
  std::array<std::array<int64_t, 1>, kGroups> row_begin;
  std::array<std::array<int32_t, 1>, kGroups> lengths;
  Tokens tokens;      // the sequence's, the new ones included
  int32_t count = 0;  // of those, new
};

// The hand-over, one for each caller. Whoever `turn` names owns the job.
struct Desk {
  enum Turn : int { kWriter, kCaller, kClosed };
  std::atomic<int> turn{kWriter};
  Job job;
};

// The first mistake of a thread; empty if there was none. Read after the threads have joined.
struct Report {
  std::string mistake;
  int64_t operations = 0;
};

// ---- Callers of kernels ----

class Caller {
 public:
  Caller(Desk* desk, std::vector<KvView> views, int64_t operations, Report* report)
      : desk_(*desk), views_(std::move(views)), operations_(operations), report_(*report) {}

  void Run() {
    while (report_.operations < operations_ && report_.mistake.empty()) {
      if (desk_.turn.load(std::memory_order_acquire) != Desk::kCaller) {
        std::this_thread::yield();
        continue;
      }
      Append();
      const int32_t times = 1 + static_cast<int32_t>(desk_.job.tokens.size()) % 7;
      for (int32_t i = 0; i < times; ++i) Attend(i % kGroups);
      desk_.turn.store(Desk::kWriter, std::memory_order_release);
    }
    // The desk is the writer's now, or it has a job that nobody does: the writer takes it back.
    desk_.turn.store(Desk::kClosed, std::memory_order_release);
  }

 private:
  void Fail(const std::string& what) {
    if (report_.mistake.empty()) report_.mistake = what;
  }

  // Each token's K is zero, so that all keys weigh the same, and its V is the token.
  void Append() {
    const Job& job = desk_.job;
    const auto values = static_cast<size_t>(job.count) * kHeadDim;
    key_.assign(values, 0.0F);
    value_.clear();
    for (auto token = job.tokens.end() - job.count; token != job.tokens.end(); ++token) {
      value_.insert(value_.end(), kHeadDim, static_cast<float>(*token));
    }
    const std::array<int32_t, 2> query_begin = {0, job.count};
    for (size_t g = 0; g < kGroups; ++g) {
      AppendKvParams params{};
      params.kv = views_[g];
      params.dtype = DType::kFloat32;
      params.kv_heads = 1;
      params.head_dim = kHeadDim;
      params.tokens_per_page = kTokensPerPage;
      params.token_count = job.count;
      params.key = key_.data();
      params.value = value_.data();
      params.threads = &inline_;
      params.table = job.tables[g];
      params.query_begin = query_begin.data();
      const LaunchError error = cpu::AppendKv(params);
      if (error != LaunchError::kOk) Fail(std::string("AppendKv: ") + Describe(error));
      ++report_.operations;
    }
  }

  // The last token looks back: what it sees is the mean of the tokens.
  void Attend(int32_t group) {
    const Job& job = desk_.job;
    const auto g = static_cast<size_t>(group);
    const std::array<int32_t, 2> query_begin = {0, 1};
    AttentionParams params{};
    params.table = job.tables[g];
    params.kv = views_[g];
    params.dtype = DType::kFloat32;
    params.query_heads = params.kv_heads = 1;
    params.head_dim = kHeadDim;
    params.query_begin = query_begin.data();
    params.query = query_.data();
    params.output = output_.data();
    params.scale = 1.0F;
    params.window = group == 1 ? kWindow : 0;
    params.causal = true;
    params.threads = &inline_;
    params.workspace = workspace_.data();
    params.workspace_bytes = static_cast<int64_t>(sizeof(workspace_));
    const LaunchError error = cpu::Attention(params);
    if (error != LaunchError::kOk) Fail(std::string("Attention: ") + Describe(error));
    ++report_.operations;
    const size_t seen =
        group == 1 ? std::min<size_t>(kWindow, job.tokens.size()) : job.tokens.size();
    double mean = 0;
    for (auto token = job.tokens.end() - static_cast<std::ptrdiff_t>(seen);
         token != job.tokens.end(); ++token) {
      mean += static_cast<double>(*token) / static_cast<double>(seen);
    }
    // At most kLongest equal weights and one division, each rounded once.
    const double allowed = mean * (kLongest + 2) * std::numeric_limits<float>::epsilon();
    for (const float value : output_) {
      if (std::abs(value - mean) <= allowed) continue;
      Fail("attention of group " + std::to_string(group) + " is " + std::to_string(value) +
           " and should be " + std::to_string(mean));
    }
  }

  static void RunInline(void*, int32_t count, void (*task)(void* argument, int32_t i),
                        void* argument) {
    for (int32_t i = 0; i < count; ++i) task(argument, i);
  }

  Desk& desk_;
  const std::vector<KvView> views_;
  const int64_t operations_;
  Report& report_;
  const Threads inline_{1, nullptr, &RunInline};
  std::vector<float> key_, value_;
  alignas(64) std::array<float, kHeadDim> query_{};
  alignas(64) std::array<float, kHeadDim> output_{};
  alignas(64) std::array<std::byte, 1 << 16> workspace_;
};

// ---- Readers of statistics ----

// What is wrong with one answer; empty: nothing.
std::string Broken(const Stats& stats) {
  for (size_t g = 0; g < stats.groups.size(); ++g) {
    const GroupStats& group = stats.groups[g];
    if (group.pages_free + group.pages_live + group.pages_cached != kPages[g]) {
      return "free + live + cached is not the pool of group " + std::to_string(g);
    }
    if (group.bytes_live != group.pages_live * int64_t{100}) return "bytes_live is of another time";
    int32_t live = 0;
    int32_t cached = 0;
    int64_t evictions = 0;
    for (const TenantStats& tenant : group.tenants) {
      live += tenant.pages_live;
      cached += tenant.pages_cached;
      evictions += tenant.evictions;
    }
    if (live != group.pages_live || cached != group.pages_cached || evictions != group.evictions) {
      return "the tenants do not add up to group " + std::to_string(g);
    }
  }
  const MissTokens& missed = stats.missed;
  if (stats.tokens_looked_up != stats.tokens_hit + missed.last_token + missed.absent +
                                    missed.page_gone + missed.unaligned + missed.disabled) {
    return "hit and missed do not add up to what was looked up";
  }
  return {};
}

bool WentBack(const Stats& before, const Stats& now) {
  bool back = now.tokens_looked_up < before.tokens_looked_up ||
              now.tokens_hit < before.tokens_hit || now.out_of_room < before.out_of_room ||
              now.commits_not_indexed < before.commits_not_indexed;
  for (size_t g = 0; g < now.groups.size(); ++g) {
    back = back || now.groups[g].evictions < before.groups[g].evictions;
  }
  return back;
}

void ReadStats(const KvCache& cache, int64_t operations, Report* report) {
  Stats last = cache.PublishedStats();
  for (; report->operations < operations && report->mistake.empty(); ++report->operations) {
    Stats now = cache.PublishedStats();
    report->mistake = Broken(now);
    if (report->mistake.empty() && WentBack(last, now)) report->mistake = "a counter went back";
    last = std::move(now);
  }
}

// ---- The writer ----

class Writer {
 public:
  Writer(KvCache* cache, Device* device, std::array<Desk, kCallers>* desks, Report* report)
      : cache_(*cache),
        device_(*device),
        desks_(*desks),
        report_(*report),
        dice_(static_cast<uint64_t>(FromEnvironment("QUIRE_THREADS_SEED", 1))) {}

  // At least so many operations, and until every caller has done its own.
  void Run(int64_t operations) {
    while (report_.mistake.empty() && (report_.operations < operations || !AllClosed())) {
      const int64_t before = report_.operations;
      Collect();
      const int action = dice_.Below(16);
      if (action < 3) {
        Start();
      } else if (action < 12) {
        Advance();
      } else if (action < 13) {
        Fork();
      } else if (action < 14) {
        Truncate();
      } else {
        Drop();
      }
      if (report_.operations == before) std::this_thread::yield();
    }
    for (Live& live : live_) live.desk = nullptr;
    live_.clear();
  }

 private:
  struct Live {
    Sequence sequence;
    Tokens tokens;         // committed
    Tokens todo;           // of the prompt
    Desk* desk = nullptr;  // where it is, if it is handed over
  };

  bool AllClosed() const {
    return std::all_of(desks_.begin(), desks_.end(), [](const Desk& desk) {
      return desk.turn.load(std::memory_order_acquire) == Desk::kClosed;
    });
  }

  void Did(const absl::Status& status) {
    ++report_.operations;
    if (status.ok() || status.code() == absl::StatusCode::kResourceExhausted) return;
    if (report_.mistake.empty()) report_.mistake = status.ToString();
  }

  // One that is not handed over; null if there is none.
  Live* Pick() {
    if (live_.empty()) return nullptr;
    Live& live = live_[static_cast<size_t>(dice_.Below(static_cast<int>(live_.size())))];
    return live.desk == nullptr ? &live : nullptr;
  }

  void Collect() {
    for (size_t i = 0; i < live_.size();) {
      Live& live = live_[i];
      const int turn =
          live.desk == nullptr ? Desk::kCaller : live.desk->turn.load(std::memory_order_acquire);
      if (turn == Desk::kCaller) {
        ++i;
        continue;
      }
      const Job& job = live.desk->job;
      live.desk = nullptr;
      if (turn == Desk::kClosed) {  // it may not have been written
        live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(i));
        ++report_.operations;
        continue;
      }
      Did(live.sequence.Commit({job.tokens.end() - job.count, job.tokens.end()}));
      live.tokens = job.tokens;
      ++i;
    }
  }

  void Start() {
    // Few beginnings, so that prompts share pages.
    Tokens prompt(static_cast<size_t>(1 + dice_.Below(kLongest - 4)));
    const int kind = 1 + dice_.Below(4);
    for (size_t i = 0; i < prompt.size(); ++i) {
      prompt[i] = i < 18 ? kind * 100 + static_cast<TokenId>(i) : 1 + dice_.Below(1000);
    }
    Namespace ns;
    if (dice_.OneIn(2)) ns.SetTenant(dice_.OneIn(2) ? "a" : "b");
    absl::StatusOr<Sequence> sequence = cache_.Start(prompt, ns);
    Did(sequence.status());
    if (!sequence.ok()) return;
    const auto hit = prompt.begin() + sequence->length();
    live_.push_back({*std::move(sequence), {prompt.begin(), hit}, {hit, prompt.end()}});
  }

  void Advance() {
    Live* live = Pick();
    const auto desk = std::find_if(desks_.begin(), desks_.end(), [this](const Desk& d) {
      return d.turn.load(std::memory_order_acquire) == Desk::kWriter && !IsTaken(&d);
    });
    if (live == nullptr || desk == desks_.end()) return;
    const auto length = static_cast<int32_t>(live->tokens.size());
    if (length == kLongest) return;
    if (live->todo.empty()) live->todo.push_back(1 + dice_.Below(1000));
    const auto count = std::min<int32_t>(static_cast<int32_t>(live->todo.size()),
                                         1 + dice_.Below(kLongest - length));
    const absl::Status status = live->sequence.Reserve(count);
    Did(status);
    // A copy must be ordered with the kernels that use its pages. Here nobody else does: what is
    // handed over is written in pages that nobody copies.
    const Plan plan = cache_.TakePlan();
    ++report_.operations;
    Did(device_.Copy(plan, Stream()));
    cache_.Retire(plan.ticket);
    ++report_.operations;
    if (!status.ok()) return;
    Job& job = desk->job;
    job.count = count;
    job.tokens = live->tokens;
    job.tokens.insert(job.tokens.end(), live->todo.begin(), live->todo.begin() + count);
    live->todo.erase(live->todo.begin(), live->todo.begin() + count);
    const Sequence* sequence = &live->sequence;
    for (int g = 0; g < kGroups; ++g) {
      const auto i = static_cast<size_t>(g);
      job.tables[i] = cache_.MakePageTable({&sequence, 1}, {&count, 1}, GroupId{g},
                                           {job.row_begin[i], job.lengths[i]});
      ++report_.operations;
    }
    live->desk = &*desk;
    int expected = Desk::kWriter;  // it may close just now
    desk->turn.compare_exchange_strong(expected, Desk::kCaller, std::memory_order_acq_rel);
  }

  bool IsTaken(const Desk* desk) const {
    return std::any_of(live_.begin(), live_.end(),
                       [desk](const Live& live) { return live.desk == desk; });
  }

  void Fork() {
    const Live* live = Pick();
    if (live == nullptr) return;
    absl::StatusOr<Sequence> fork = live->sequence.Fork();
    Did(fork.status());
    if (fork.ok()) live_.push_back({*std::move(fork), live->tokens, live->todo});
  }

  void Truncate() {
    Live* live = Pick();
    if (live == nullptr) return;
    const int32_t length = live->sequence.length();
    const int32_t to = length - dice_.Below(std::min(length, 3) + 1);
    const absl::Status status = live->sequence.Truncate(to);
    ++report_.operations;
    if (!status.ok()) return;  // the window has moved on
    live->tokens.resize(static_cast<size_t>(to));
    live->todo.clear();
  }

  void Drop() {
    const Live* live = Pick();
    if (live == nullptr) return;
    live_.erase(live_.begin() + (live - live_.data()));
    ++report_.operations;
  }

  KvCache& cache_;
  Device& device_;
  std::array<Desk, kCallers>& desks_;
  Report& report_;
  Dice dice_;
  std::vector<Live> live_;
};

// ---- All together ----

Options CacheOptions() {
  Options options = MakeOptions(
      {Group(kTokensPerPage, kPages[0]), Group(kTokensPerPage, kPages[1], kWindow - 1)});
  options.max_sequence_tokens = kLongest;
  options.max_sequences = 10;
  options.min_copy_tokens = 1;
  options.max_rollback_tokens = 2;
  options.quotas = {{.tenant = "a", .guaranteed_permille = 200},
                    {.tenant = "b", .max_permille = 500}};
  return options;
}

std::unique_ptr<Device> NewDevice() {
  DeviceOptions options;
  for (const int32_t pages : kPages) {
    DeviceGroup group;
    group.layout = {.layers = 1,
                    .kv_heads = 1,
                    .head_dim = kHeadDim,
                    .tokens_per_page = kTokensPerPage,
                    .dtype = DType::kFloat32};
    group.page_count = pages;
    options.groups.push_back(group);
  }
  absl::StatusOr<std::unique_ptr<Device>> device = NewCpuDevice(options);
  return device.ok() ? *std::move(device) : nullptr;
}

TEST(ThreadsTest, ReadersAndKernelsRunBesideTheWriter) {
  const int64_t operations = FromEnvironment("QUIRE_THREADS_OPERATIONS", kDefaultOperations);
  const auto cache = NewCache(CacheOptions());
  const std::unique_ptr<Device> device = NewDevice();
  ASSERT_NE(device, nullptr);
  std::vector<KvView> views;
  for (int g = 0; g < kGroups; ++g) {
    views.push_back(device->view(Tier::kDevice, GroupId{g}, 0).value());
  }
  std::array<Desk, kCallers> desks;
  std::array<Report, kThreads> reports;
  std::vector<std::thread> threads;
  threads.emplace_back(
      [&] { Writer(cache.get(), device.get(), &desks, reports.data()).Run(operations); });
  for (size_t i = 0; i < kReaders; ++i) {
    threads.emplace_back([&, i] { ReadStats(*cache, operations, &reports[1 + i]); });
  }
  for (size_t i = 0; i < kCallers; ++i) {
    threads.emplace_back(
        [&, i] { Caller(&desks[i], views, operations, &reports[1 + kReaders + i]).Run(); });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t total = 0;
  for (size_t i = 0; i < reports.size(); ++i) {
    EXPECT_EQ(reports[i].mistake, "") << "thread " << i;
    EXPECT_GE(reports[i].operations, operations) << "thread " << i;
    total += reports[i].operations;
  }
  EXPECT_GE(total, kThreads * operations);
  std::cout << "scorecard: threads: " << kThreads << ", each at least " << operations
            << " operations, together " << total << '\n';
  EXPECT_OK(cache->Validate());
  const Stats stats = cache->stats();
  EXPECT_GT(stats.tokens_hit, 0);
  EXPECT_GT(stats.groups[0].evictions, 0);
  EXPECT_GT(stats.groups[0].copies, 0);
}

// --- PublishedStats, on one thread ---

TEST(PublishedStatsTest, AreThoseOfTheLastPlan) {
  const auto cache = NewCache(CacheOptions());
  EXPECT_EQ(cache->PublishedStats().groups[0].pages_free, kPages[0]);
  Sequence sequence = MustStart(*cache, Iota(0, 9), Namespace().SetTenant("a"));
  ASSERT_OK(sequence.Reserve(9));
  EXPECT_EQ(cache->PublishedStats().sequences, 0) << "nothing was taken yet";
  cache->TakePlan();
  const Stats stats = cache->PublishedStats();
  EXPECT_EQ(stats.sequences, 1);
  EXPECT_EQ(stats.groups[0].pages_live, 3);
  EXPECT_EQ(stats.groups[0].tenants[0].pages_live, 3);
  EXPECT_EQ(stats.groups[0].tenants[0].tenant, "a");
  EXPECT_EQ(stats.groups[0].tenants[0].guaranteed_pages, 14);
  EXPECT_EQ(stats.groups[0].tenants[1].max_pages, 36);
  EXPECT_EQ(stats.metadata_bytes, cache->stats().metadata_bytes);
}

// Each number comes back where it was posted.
TEST(PublishedStatsTest, CarryEveryNumber) {
  Stats stats;
  stats.groups.resize(2);
  for (GroupStats& group : stats.groups) group.tenants.resize(2);
  const StatsBoard board(stats);
  EXPECT_EQ(board.Read().groups[1].tenants[1].copies, 0);
  int64_t next = 1;
  const auto each = [](Stats& s, const auto& f) {
    for (int32_t* count : {&s.sequences, &s.index_nodes}) f(*count);
    for (int64_t* count :
         {&s.tokens_looked_up, &s.tokens_hit, &s.missed.last_token, &s.missed.absent,
          &s.missed.page_gone, &s.missed.unaligned, &s.missed.disabled, &s.commits_not_indexed,
          &s.out_of_room, &s.copies_failed, &s.metadata_bytes, &s.ghost_bytes}) {
      f(*count);
    }
    for (GroupStats& group : s.groups) {
      for (int32_t* count : {&group.pages_free, &group.pages_live, &group.pages_cached}) f(*count);
      for (int64_t* count : {&group.bytes_live, &group.evictions, &group.copies}) f(*count);
      for (TenantStats& tenant : group.tenants) {
        for (int32_t* count : {&tenant.pages_live, &tenant.pages_cached}) f(*count);
        for (int64_t* count : {&tenant.evictions, &tenant.copies}) f(*count);
      }
    }
  };
  each(stats, [&next](auto& count) {
    count = static_cast<std::remove_reference_t<decltype(count)>>(next++);
  });
  StatsBoard posted(Stats{stats});
  Stats read = posted.Read();
  posted.Post(stats);
  int64_t expected = 1;
  each(read, [&expected](auto& count) { EXPECT_EQ(count, expected++); });
  EXPECT_EQ(expected, next);
}

}  // namespace
}  // namespace quire::testing
