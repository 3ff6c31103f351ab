#include "tests/support/simulation_device.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace quire::testing {

constexpr uint64_t kGarbage = 0xA5A5A5A5A5A5A5A5u;

SimulatedDevice::SimulatedDevice(const std::vector<GroupOptions>& groups, int32_t rank,
                                 uint64_t seed, const DeviceFaults& faults)
    : rank_(rank), faults_(faults), random_(seed) {
  for (const GroupOptions& group : groups) {
    Pool pool;
    pool.options = group;
    const auto tokens =
        static_cast<size_t>(group.page_count) * static_cast<size_t>(group.tokens_per_page);
    pool.tokens[static_cast<size_t>(Tier::kDevice)].resize(tokens);
    pool.writers.resize(tokens);
    pools_.push_back(std::move(pool));
  }
}

absl::Status SimulatedDevice::Copy(const Plan& plan, Stream) {
  outcomes_.resize(static_cast<uint64_t>(plan.ticket), Outcome::kNeverSaid);
  outcomes_.back() = Outcome::kOpen;
  if (random_.OneIn(faults_.copy_refused)) {
    outcomes_.back() = Outcome::kFailed;
    return absl::Status(absl::StatusCode::kUnavailable, "");
  }
  queue_.push_back({plan.ticket,
                    {plan.copies.begin(), plan.copies.end()},
                    {plan.scrubs.begin(), plan.scrubs.end()},
                    nullptr});
  return absl::OkStatus();
}

absl::StatusOr<bool> SimulatedDevice::IsDone(Ticket ticket) {
  const auto i = static_cast<uint64_t>(ticket) - 1;
  if (i >= outcomes_.size()) return absl::NotFoundError("no such ticket");
  if (outcomes_[i] == Outcome::kFailed) return absl::Status(absl::StatusCode::kDataLoss, "");
  return outcomes_[i] == Outcome::kDone;
}

absl::StatusOr<KvView> SimulatedDevice::view(Tier tier, GroupId group, int32_t layer) const {
  const auto g = static_cast<size_t>(group);
  if (g >= pools_.size() || layer != 0) return absl::InvalidArgumentError("no such group or layer");
  const std::vector<uint64_t>& tokens = pools_[g].tokens[static_cast<size_t>(tier)];
  if (tokens.empty()) return absl::InvalidArgumentError("no pages in this tier");
  const int64_t page = static_cast<int64_t>(sizeof(uint64_t)) * pools_[g].options.tokens_per_page;
  const KvStrides strides = {.page = page, .head = page, .token = sizeof(uint64_t)};
  void* base = const_cast<uint64_t*>(tokens.data());
  return KvView{base, base, strides, strides, pools_[g].options.page_count};
}

void SimulatedDevice::Launch(std::shared_ptr<SimulatedLaunch> launch) {
  queue_.push_back({kNoTicket, {}, {}, std::move(launch)});
}

void SimulatedDevice::Run(int32_t entries) {
  for (; entries > 0 && !queue_.empty(); --entries) {
    Entry entry = std::move(queue_.front());
    queue_.pop_front();
    if (entry.launch != nullptr) {
      RunLaunch(entry.launch.get());
    } else {
      RunPlan(&entry);
    }
  }
}

void SimulatedDevice::Reset() {
  for (const Entry& entry : queue_) {
    if (entry.launch != nullptr) {
      entry.launch->lost = true;
      --entry.launch->ranks_left;
    } else {
      outcomes_[static_cast<uint64_t>(entry.ticket) - 1] = Outcome::kNeverSaid;
    }
  }
  queue_.clear();
  if (random_.OneIn(2)) return;
  for (Pool& pool : pools_) {
    for (std::vector<uint64_t>& tokens : pool.tokens) {
      for (uint64_t& token : tokens) token = random_.Next();
    }
  }
}

std::optional<SimulatedDevice::Message> SimulatedDevice::TakeMessage() {
  if (mailbox_.empty()) return std::nullopt;
  const auto i = static_cast<size_t>(random_.Below(static_cast<int32_t>(mailbox_.size())));
  Message message = mailbox_[i];
  if (random_.OneIn(faults_.answer_twice)) return message;
  mailbox_[i] = mailbox_.back();
  mailbox_.pop_back();
  return message;
}

uint64_t* SimulatedDevice::PageAt(Tier tier, int32_t group, PageId page) {
  Pool& pool = pools_[static_cast<size_t>(group)];
  return pool.tokens[static_cast<size_t>(tier)].data() +
         PageOffset(page, pool.options.tokens_per_page);
}

uint8_t* SimulatedDevice::WritersOf(int32_t group, PageId page) {
  Pool& pool = pools_[static_cast<size_t>(group)];
  return pool.writers.data() + PageOffset(page, pool.options.tokens_per_page);
}

// Scrubs, and then copies in any order: a plan promises that they do not depend on one another. If
// it fails, then in one of them.
void SimulatedDevice::RunPlan(Entry* entry) {
  const bool fails = random_.OneIn(faults_.copy_fails);
  const auto scrubs = static_cast<int32_t>(entry->scrubs.size());
  auto left = static_cast<int32_t>(entry->copies.size());
  const int32_t failing = random_.Below(left + scrubs);
  for (int32_t i = 0; i < scrubs; ++i) {
    if (!fails || left + i != failing) ScrubPage(entry->scrubs[static_cast<size_t>(i)]);
  }
  for (; left > 0; --left) {
    PageCopy& copy = entry->copies[static_cast<size_t>(random_.Below(left))];
    CopyPage(copy, fails && left - 1 == failing);
    std::swap(copy, entry->copies[static_cast<size_t>(left) - 1]);
  }
  Answer(entry->ticket, fails ? absl::Status(absl::StatusCode::kDataLoss, "") : absl::OkStatus());
}

void SimulatedDevice::ScrubPage(const PageScrub& scrub) {
  const auto group = static_cast<int32_t>(scrub.group);
  const int32_t tokens_per_page = pools_[static_cast<size_t>(group)].options.tokens_per_page;
  std::fill_n(PageAt(scrub.tier, group, scrub.page), tokens_per_page, 0);
  std::fill_n(WritersOf(group, scrub.page), tokens_per_page, 0);
}

void SimulatedDevice::CopyPage(const PageCopy& copy, bool fails) {
  const auto group = static_cast<int32_t>(copy.group);
  const int32_t tokens_per_page = pools_[static_cast<size_t>(group)].options.tokens_per_page;
  const uint64_t* from = PageAt(copy.from_tier, group, copy.from_page);
  uint64_t* to = PageAt(copy.to_tier, group, copy.to_page);
  // A device may copy more of a page than it must.
  int32_t count = random_.OneIn(2) ? tokens_per_page : copy.token_count;
  if (fails) count = random_.Below(copy.token_count + 1);
  std::copy_n(from, count, to);
  std::copy_n(WritersOf(group, copy.from_page), count, WritersOf(group, copy.to_page));
  if (!fails || random_.OneIn(4)) return;
  // One byte of one token.
  uint64_t* token = to + random_.Below(tokens_per_page);
  *token ^= uint64_t{0xFF} << (8 * random_.Below(8));
}

void SimulatedDevice::RunLaunch(SimulatedLaunch* launch) {
  const auto groups = static_cast<int32_t>(pools_.size());
  for (size_t i = 0; i < launch->rows.size(); ++i) {
    for (int32_t g = 0; g < groups; ++g) Append(*launch, launch->rows[i], i, g, 0);
  }
  for (size_t i = 0; i < launch->rows.size(); ++i) {
    bool right = true;
    for (int32_t g = 0; g < groups && launch->clean; ++g) {
      SimulatedRow& row = launch->rows[i];
      row.leaked = row.leaked || !HoldsOnlyItsOwn(*launch, row, i, g);
    }
    for (int32_t g = 0; g < groups; ++g) {
      const bool group_right = Attend(launch, &launch->rows[i], i, g);
      right = right && group_right;
    }
    // What a layer writes depends on what the layers before it have read.
    for (int32_t g = 0; g < groups && !right; ++g) Append(*launch, launch->rows[i], i, g, kGarbage);
  }
  --launch->ranks_left;
}

// Writes where the page table says. A table that names no page there is found by Attend.
void SimulatedDevice::Append(const SimulatedLaunch& launch, const SimulatedRow& row, size_t index,
                             int32_t group, uint64_t garbage) {
  const SimulatedLaunch::Table& table = launch.tables[static_cast<size_t>(group)];
  const int32_t tokens_per_page = pools_[static_cast<size_t>(group)].options.tokens_per_page;
  const PageId* pages = table.page_ids.data() + table.row_begin[index];
  const uint64_t* paths = launch.paths.data() + row.paths_begin;
  for (int32_t p = row.length; p < row.length + row.count; ++p) {
    const PageId page = pages[p / tokens_per_page];
    if (page == kNoPage) continue;
    PageAt(Tier::kDevice, group, page)[p % tokens_per_page] =
        StampOf(paths[p], group, rank_) ^ garbage;
    WritersOf(group, page)[p % tokens_per_page] = static_cast<uint8_t>(1 + row.ns);
  }
}

// Reads all that any of the row's queries sees. False if some of it is not the row's.
bool SimulatedDevice::Attend(SimulatedLaunch* launch, SimulatedRow* row, size_t index,
                             int32_t group) {
  const SimulatedLaunch::Table& table = launch->tables[static_cast<size_t>(group)];
  const GroupOptions& options = pools_[static_cast<size_t>(group)].options;
  const PageId* pages = table.page_ids.data() + table.row_begin[index];
  const uint64_t* paths = launch->paths.data() + row->paths_begin;
  const int32_t end = row->length + row->count;
  int32_t p = std::max(0, row->length - options.lookback_tokens);
  slots_read_ += end - p;
  bool right = true;
  while (p < end) {
    const int32_t logical = p / options.tokens_per_page;
    const int32_t begin = logical * options.tokens_per_page;
    const int32_t border = std::min(end, begin + options.tokens_per_page);
    const PageId page = pages[logical];
    const uint64_t* tokens = page == kNoPage ? nullptr : PageAt(Tier::kDevice, group, page);
    for (; p < border; ++p) {
      if (tokens != nullptr && tokens[p - begin] == StampOf(paths[p], group, rank_)) continue;
      right = false;
      if (row->wrong) continue;
      row->wrong = true;
      launch->wrong_rank = rank_;
      launch->wrong_group = group;
      launch->wrong_position = p;
      launch->wrong_page = page;
    }
  }
  return right;
}

// Whole pages: what a query does not see may be loaded, too.
bool SimulatedDevice::HoldsOnlyItsOwn(const SimulatedLaunch& launch, const SimulatedRow& row,
                                      size_t index, int32_t group) {
  const SimulatedLaunch::Table& table = launch.tables[static_cast<size_t>(group)];
  const GroupOptions& options = pools_[static_cast<size_t>(group)].options;
  const int32_t tokens_per_page = options.tokens_per_page;
  const PageId* pages = table.page_ids.data() + table.row_begin[index];
  const int32_t first = std::max(0, row.length - options.lookback_tokens) / tokens_per_page;
  for (int32_t p = first; p * tokens_per_page < row.length + row.count; ++p) {
    if (pages[p] == kNoPage) continue;
    const uint8_t* writers = WritersOf(group, pages[p]);
    const bool own = std::all_of(writers, writers + tokens_per_page,
                                 [&](uint8_t by) { return by == 0 || by == 1 + row.ns; });
    if (!own) return false;
  }
  return true;
}

void SimulatedDevice::Answer(Ticket ticket, const absl::Status& status) {
  Outcome& outcome = outcomes_[static_cast<uint64_t>(ticket) - 1];
  if (random_.OneIn(faults_.answer_lost)) {
    outcome = Outcome::kNeverSaid;
    return;
  }
  outcome = status.ok() ? Outcome::kDone : Outcome::kFailed;
  mailbox_.push_back({ticket, status});
}

}  // namespace quire::testing
