#include "tests/support/fault_pages.h"

#include <algorithm>

namespace quire::testing {
namespace {

constexpr uint64_t kGarbage = 0xBAD0BAD0BAD0BAD0u;

uint64_t Stamp(uint64_t before, TokenId token) {
  uint64_t x = before * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(token) + 1;
  x ^= x >> 29;
  return x * 0xBF58476D1CE4E5B9u;
}

}  // namespace

StampedEngine::StampedEngine(const Options& options, uint64_t first, bool stays, size_t depth)
    : options_(options), first_(first), stays_(stays), depth_(depth), cache_(NewCache(options)) {
  for (const GroupOptions& group : options.groups) {
    stamps_.emplace_back(
        static_cast<size_t>(group.page_count) * static_cast<size_t>(group.tokens_per_page),
        kGarbage);
  }
}

uint64_t& StampedEngine::StampAt(size_t group, PageId page, int32_t position) {
  const int32_t tokens_per_page = options_.groups[group].tokens_per_page;
  const int64_t at = PageOffset(page, tokens_per_page) + position % tokens_per_page;
  return stamps_[group].at(static_cast<size_t>(at));
}

void StampedEngine::CopyAndKeep(const Plan& plan) {
  if (plan.ticket == kNoTicket) return;
  const auto ticket = static_cast<uint64_t>(plan.ticket);
  EXPECT_EQ(ticket, last_ticket_ + 1);
  last_ticket_ = ticket;
  for (const PageCopy& copy : plan.copies) {
    const auto group = static_cast<size_t>(copy.group);
    for (int32_t slot = 0; slot < options_.groups[group].tokens_per_page; ++slot) {
      const bool good = !Fails(ticket) && slot < copy.token_count;
      StampAt(group, copy.to_page, slot) = good ? StampAt(group, copy.from_page, slot) : kGarbage;
    }
  }
  waiting_.push_back(ticket);
}

void StampedEngine::RetireDownTo(size_t depth) {
  while (waiting_.size() > depth) {
    const uint64_t ticket = waiting_.front();
    waiting_.pop_front();
    // What failed was decided when the copy ran.
    const bool failed = first_ > 0 && (stays_ ? ticket >= first_ : ticket == first_);
    cache_->Retire(Ticket{ticket}, failed && ticket < healed_from_
                                       ? absl::InternalError("the copy failed")
                                       : absl::OkStatus());
    EXPECT_OK(cache_->Validate());
  }
}

// The launch that writes tokens [begin, end) of the request.
void StampedEngine::Write(const Request& request, int32_t begin, int32_t end) {
  for (size_t g = 0; g < options_.groups.size(); ++g) {
    const std::span<const PageId> pages = request.sequence.pages(GroupId{static_cast<int32_t>(g)});
    const int32_t tokens_per_page = options_.groups[g].tokens_per_page;
    for (int32_t p = begin; p < end; ++p) {
      const uint64_t before =
          p == 0 ? 0 : StampAt(g, pages[static_cast<size_t>((p - 1) / tokens_per_page)], p - 1);
      StampAt(g, pages[static_cast<size_t>(p / tokens_per_page)], p) =
          Stamp(before, request.tokens[static_cast<size_t>(p)]);
    }
  }
}

// The first `length` tokens are where the page table says they are.
void StampedEngine::Check(const Request& request, int32_t length) {
  for (size_t g = 0; g < options_.groups.size(); ++g) {
    const std::span<const PageId> pages = request.sequence.pages(GroupId{static_cast<int32_t>(g)});
    uint64_t stamp = 0;
    for (int32_t p = 0; p < length; ++p) {
      stamp = Stamp(stamp, request.tokens[static_cast<size_t>(p)]);
      const PageId page = pages[static_cast<size_t>(p / options_.groups[g].tokens_per_page)];
      if (page == kNoPage) continue;
      ++checked_;
      ASSERT_EQ(StampAt(g, page, p), stamp)
          << "group " << g << ": token " << p << " of " << length << " is not what it should be";
    }
  }
}

void StampedEngine::CheckAll() {
  for (const Request& request : requests_) Check(request, request.sequence.valid_length());
}

void StampedEngine::Step(Request& request, int32_t count) {
  Sequence& sequence = request.sequence;
  absl::Status status = sequence.Reserve(count);
  if (status.code() == absl::StatusCode::kDataLoss) {
    ++told_;
    EXPECT_LT(sequence.valid_length(), sequence.length());
    const absl::Status cut = sequence.Truncate(sequence.valid_length());
    if (!cut.ok()) {
      // A window no longer reaches back: the request begins again.
      ASSERT_EQ(cut.code(), absl::StatusCode::kFailedPrecondition);
      sequence = Sequence();
      sequence = MustStart(*cache_, request.tokens);
      count = std::min(count, static_cast<int32_t>(request.tokens.size()) - sequence.length());
    }
    status = sequence.Reserve(count);
  }
  ASSERT_OK(status);
  CopyAndKeep(cache_->TakePlan());
  const int32_t begin = sequence.length();
  Write(request, begin, begin + count);
  EXPECT_OK(sequence.Commit(
      std::span(request.tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(count))));
  RetireDownTo(depth_);
  // While a failure has not been told, nobody can know.
  if (waiting_.empty()) CheckAll();
}

void StampedEngine::Start(const Tokens& prompt) {
  requests_.push_back({MustStart(*cache_, prompt), prompt});
  prompts_.push_back(prompt);
  if (waiting_.empty()) Check(requests_.back(), requests_.back().sequence.length());
}

void StampedEngine::Work(int32_t rounds) {
  const Tokens base = Iota(0, 10);
  Start(base + Iota(50, 6));
  TokenId next = 1000;  // no two requests go on with the same tokens
  for (int32_t round = 0; round < rounds; ++round) {
    for (int32_t i = 0; i < 2; ++i, next += 100) Start(base + Iota(next, 9));
    for (int32_t step = 0; step < 3; ++step) {
      for (Request& request : requests_) {
        const auto left = static_cast<int32_t>(request.tokens.size()) - request.sequence.length();
        if (left > 0) Step(request, std::min(left, 3 + step));
      }
    }
    // A fork shares the page that it will write next.
    const Request& original = requests_.back();
    if (original.sequence.valid_length() < original.sequence.length()) continue;
    Tokens tokens(original.tokens.begin(), original.tokens.begin() + original.sequence.length());
    requests_.push_back({MustFork(original.sequence), tokens + Iota(next, 7)});
    next += 100;
    Step(requests_.back(), 2);
    while (requests_.size() > 4) requests_.pop_front();
  }
}

void StampedEngine::FinishAndCheck() {
  healed_ = true;
  healed_from_ = last_ticket_ + 1;
  RetireDownTo(0);
  CheckAll();
  for (Request& request : requests_) {
    const auto size = static_cast<int32_t>(request.tokens.size());
    while (request.sequence.length() < size ||
           request.sequence.valid_length() < request.sequence.length()) {
      Step(request, std::min(2, size - request.sequence.valid_length()));
      if (::testing::Test::HasFailure()) return;
    }
    RetireDownTo(0);
    Check(request, size);
  }
  requests_.clear();
  // Whatever a later request finds is what it is said to be.
  for (const Tokens& prompt : prompts_) {
    Request request = {MustStart(*cache_, prompt + Iota(90, 1)), prompt};
    Check(request, request.sequence.length());
  }
  EXPECT_OK(cache_->Validate());
}

}  // namespace quire::testing
