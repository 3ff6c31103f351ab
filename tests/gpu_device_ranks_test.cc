// Two GPU devices follow one KvCache, as tensor-parallel ranks do: each gets every plan, a ticket
// is retired once with the worst status, and streams run late and unevenly. What each rank's pages
// hold must at the end be what the sequences' tokens say, also if copies fail on one rank.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "lib/gpu_device.h"
#include "quire/attention.h"
#include "quire/kv_cache.h"
#include "tests/support/adopted_memory.h"
#include "tests/support/fake_gpu.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

constexpr int kRanks = 2;
constexpr int32_t kPages = 40;
constexpr KvLayout kLayout{.layers = 2, .kv_heads = 2, .head_dim = 8, .tokens_per_page = 4};

// One rank: a device, its stream, and a "model" whose K and V of a token are the token's id, the
// layer and the rank.
class Rank {
 public:
  Rank(FakeGpu& gpu, int rank) : gpu_(gpu), rank_(rank), stream_(gpu.NewStream(rank)) {
    // Rank 1 brings tensors of its own: what a rank's memory looks like is no one else's business.
    DeviceGroup group = {.layout = kLayout, .page_count = kPages};
    if (rank == 1) group.views = memory_.views();
    device_ = NewGpuDevice({.groups = {group}}, rank, gpu).value();
    views_ = ViewsOf(*device_, Tier::kDevice, GroupId{0}, kLayout.layers);
  }

  Device& device() { return *device_; }
  Stream stream() const { return stream_; }

  // Queues the kernel that writes a token to a slot.
  void QueueWrite(int64_t slot, TokenId token) {
    gpu_.Enqueue(stream_, [this, slot, token] {
      Visit(slot, [&](int32_t* row, int32_t layer) { *row = Value(token, layer); });
    });
  }

  // How many of the slot's rows do not hold the token.
  int Wrong(int64_t slot, TokenId token) {
    int wrong = 0;
    Visit(slot, [&](const int32_t* row, int32_t layer) { wrong += *row != Value(token, layer); });
    return wrong;
  }

 private:
  int32_t Value(TokenId token, int32_t layer) const { return token * 8 + layer * 2 + rank_; }

  template <typename Visitor>
  void Visit(int64_t slot, Visitor visit) {
    const int64_t page = slot / kLayout.tokens_per_page;
    const int64_t token = slot % kLayout.tokens_per_page;
    for (int32_t layer = 0; layer < kLayout.layers; ++layer) {
      const KvView& view = views_[static_cast<size_t>(layer)];
      for (int32_t head = 0; head < kLayout.kv_heads; ++head) {
        for (const auto& [base, strides] :
             {std::pair(view.k, view.k_strides), std::pair(view.v, view.v_strides)}) {
          visit(reinterpret_cast<int32_t*>(static_cast<char*>(base) + page * strides.page +
                                           head * strides.head + token * strides.token),
                layer);
        }
      }
    }
  }

  FakeGpu& gpu_;
  int rank_;
  Stream stream_;
  AdoptedMemory memory_{kLayout, kPages, Order::kApart};
  std::unique_ptr<Device> device_;
  std::vector<KvView> views_;
};

// The loop of docs/linking.md over random work.
class Engine {
 public:
  Engine(uint32_t seed, int fail_percent)
      : random_(seed), fail_percent_(fail_percent), cache_(NewCache(OneGroup(4, kPages))) {
    for (int rank = 0; rank < kRanks; ++rank) {
      ranks_.push_back(std::make_unique<Rank>(gpu_, rank));
    }
  }

  void Step() {
    Admit();
    ForgetWhatWasLost();
    std::vector<Sequence*> batch;
    std::vector<int32_t> counts;
    std::vector<TokenId> tokens;
    for (Request& request : requests_) Plan1To3Tokens(request, batch, counts, tokens);
    if (batch.empty()) return;
    const absl::Status reserved = cache_->ReserveAll(batch, counts);
    if (absl::IsResourceExhausted(reserved)) {
      requests_.pop_back();  // preemption
      ++preempted;
    } else {
      ASSERT_OK(reserved);
      CarryOutThePlan();
      Write(batch, counts, tokens);
      ASSERT_OK(cache_->CommitAll(batch, tokens, counts));
    }
    for (int i = Random(12); i > 0; --i) gpu_.Advance(ranks_[Random(kRanks)]->stream());
    RetireWhatIsDone();
    EXPECT_OK(cache_->Validate());
  }

  // Lets everything run out, and compares every certain token of every sequence on every rank.
  void Check() {
    gpu_.AdvanceAll();
    RetireWhatIsDone();
    ASSERT_TRUE(outstanding_.empty());
    ForgetWhatWasLost();
    for (const Request& request : requests_) {
      const std::span<const PageId> pages = request.sequence.pages(GroupId{0});
      for (int32_t t = 0; t < request.sequence.length(); ++t) {
        const int64_t slot = PageOffset(pages[static_cast<size_t>(t / 4)], 4) + t % 4;
        for (const auto& rank : ranks_) {
          wrong += rank->Wrong(slot, request.tokens[static_cast<size_t>(t)]);
        }
        ++compared;
      }
    }
  }

  int64_t copies() const { return cache_->stats().groups[0].copies; }

  int64_t wrong = 0;
  int64_t compared = 0;
  int64_t failed = 0;
  int64_t late = 0;
  int64_t preempted = 0;
  int64_t lost = 0;

 private:
  struct Request {
    std::vector<TokenId> tokens;  // certain and to come
    Sequence sequence;
  };
  struct Outstanding {
    Ticket ticket;
    absl::Status worst;
  };

  int32_t Random(int32_t limit) { return static_cast<int32_t>(random_() % limit); }

  // New requests share beginnings, which end inside a page; some are forks.
  void Admit() {
    if (requests_.size() > 2 && Random(4) == 0) requests_.erase(requests_.begin() + Random(2));
    if (requests_.size() >= 6) return;
    if (!requests_.empty() && Random(2) == 0) {
      const Request& parent = requests_[static_cast<size_t>(Random(requests_.size()))];
      const auto begin = parent.tokens.begin();
      requests_.push_back({{begin, begin + parent.sequence.length()}, MustFork(parent.sequence)});
    } else {
      const Tokens prompt = Iota(0, 5 + Random(8)) + Iota(1000 * (1 + Random(50)), 3 + Random(9));
      requests_.push_back({prompt, MustStart(*cache_, prompt)});
    }
  }

  void ForgetWhatWasLost() {
    for (Request& request : requests_) {
      if (request.sequence.valid_length() == request.sequence.length()) continue;
      ++lost;
      ASSERT_OK(request.sequence.Truncate(request.sequence.valid_length()));
    }
  }

  void Plan1To3Tokens(Request& request, std::vector<Sequence*>& batch, std::vector<int32_t>& counts,
                      std::vector<TokenId>& tokens) {
    const int32_t length = request.sequence.length();
    if (static_cast<size_t>(length) == request.tokens.size()) {
      request.tokens.push_back(100000 + Random(1000));  // a decode
    }
    const auto to_go = static_cast<int32_t>(request.tokens.size()) - length;
    counts.push_back(std::min(1 + Random(3), to_go));
    batch.push_back(&request.sequence);
    tokens.insert(tokens.end(), request.tokens.begin() + length,
                  request.tokens.begin() + length + counts.back());
  }

  void CarryOutThePlan() {
    const Plan plan = cache_->TakePlan();
    if (plan.ticket == kNoTicket) return;
    Outstanding outstanding = {plan.ticket, absl::OkStatus()};
    for (const auto& rank : ranks_) {
      if (Random(100) < fail_percent_) gpu_.FailCall(Random(3));
      outstanding.worst.Update(rank->device().Copy(plan, rank->stream()));
      gpu_.Heal();
    }
    outstanding_.push_back(std::move(outstanding));
  }

  void Write(const std::vector<Sequence*>& batch, const std::vector<int32_t>& counts,
             const std::vector<TokenId>& tokens) {
    size_t next = 0;
    for (size_t i = 0; i < batch.size(); ++i) {
      const std::span<const PageId> pages = batch[i]->pages(GroupId{0});
      for (int32_t n = 0; n < counts[i]; ++n, ++next) {
        const int32_t t = batch[i]->length() + n;
        const int64_t slot = PageOffset(pages[static_cast<size_t>(t / 4)], 4) + t % 4;
        for (const auto& rank : ranks_) rank->QueueWrite(slot, tokens[next]);
      }
    }
  }

  // In the order taken, each when all ranks are done with it or it has failed.
  void RetireWhatIsDone() {
    while (!outstanding_.empty()) {
      Outstanding& oldest = outstanding_.front();
      for (const auto& rank : ranks_) {
        const absl::StatusOr<bool> done = rank->device().IsDone(oldest.ticket);
        if (done.ok() && !*done) {
          ++late;
          return;
        }
        oldest.worst.Update(done.status());
      }
      failed += !oldest.worst.ok();
      cache_->Retire(oldest.ticket, oldest.worst);
      outstanding_.pop_front();
    }
  }

  std::mt19937 random_;
  int fail_percent_;
  FakeGpu gpu_{kRanks};
  std::unique_ptr<KvCache> cache_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::vector<Request> requests_;
  std::deque<Outstanding> outstanding_;
};

void RunRounds(Engine& engine) {
  for (int round = 0; round < 30; ++round) {
    for (int step = 0; step < 50; ++step) ASSERT_NO_FATAL_FAILURE(engine.Step());
    ASSERT_NO_FATAL_FAILURE(engine.Check());
  }
}

TEST(GpuDeviceRanksTest, RanksHoldWhatTheTokensSay) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(seed);
    Engine engine(seed, /*fail_percent=*/0);
    ASSERT_NO_FATAL_FAILURE(RunRounds(engine));
    EXPECT_EQ(engine.wrong, 0);
    EXPECT_EQ(engine.failed, 0);
    EXPECT_GT(engine.compared, 200);
    EXPECT_GT(engine.copies(), 50);
    EXPECT_GT(engine.late, 50);
    EXPECT_GT(engine.preempted, 0);
  }
}

TEST(GpuDeviceRanksTest, AFailureOnOneRankIsNeverAWrongToken) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(seed);
    Engine engine(seed, /*fail_percent=*/15);
    ASSERT_NO_FATAL_FAILURE(RunRounds(engine));
    EXPECT_EQ(engine.wrong, 0);
    EXPECT_GT(engine.failed, 10);
    EXPECT_GT(engine.lost, 10);
    EXPECT_GT(engine.compared, 200);
  }
}

}  // namespace
}  // namespace quire::testing
