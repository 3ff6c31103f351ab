#include "quire/kv_cache.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/cache_core.h"
#include "lib/check.h"
#include "lib/out_of_memory.h"
#include "lib/stats_board.h"

namespace quire {

namespace {

constexpr absl::StatusCode kNoMemory = absl::StatusCode::kResourceExhausted;

// What a kernel may read of a row: pages up to this many, for `length` tokens.
int64_t PagesFor(int32_t length, int32_t tokens_per_page) {
  return (static_cast<int64_t>(length) + tokens_per_page - 1) / tokens_per_page;
}

// A sequence's length with the step's tokens, for which there must be room.
int32_t LengthWith(const CacheCore& core, const Sequence* sequence, int32_t count) {
  QUIRE_CHECK(sequence != nullptr, "a sequence of the batch is null");
  const int32_t length = core.length(*sequence);
  QUIRE_CHECK(count >= 0 && count <= core.capacity(*sequence) - length,
              "the page table ends before the step's tokens: Reserve first");
  return length + count;
}

}  // namespace

KvCache::KvCache(std::unique_ptr<CacheCore> core) : core_(std::move(core)) {
  core_->FillStats(&stats_);
  board_ = std::make_unique<StatsBoard>(stats_);
}

KvCache::~KvCache() {
  QUIRE_CHECK(core_->sequence_count() == 0, "a Sequence outlives its KvCache");
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const Options& options) {
  return OrBare(kNoMemory, [&]() -> absl::StatusOr<std::unique_ptr<KvCache>> {
    absl::StatusOr<std::unique_ptr<CacheCore>> core = CacheCore::Create(options);
    if (!core.ok()) return core.status();
    return std::unique_ptr<KvCache>(new KvCache(*std::move(core)));
  });
}

absl::StatusOr<Sequence> KvCache::Start(std::span<const TokenId> prompt, const Namespace& ns,
                                        const StartOptions& options) {
  return OrBare(kNoMemory, [&] { return core_->Start(prompt, ns, options); });
}

int32_t KvCache::MatchLength(std::span<const TokenId> prompt, const Namespace& ns) const {
  try {
    return core_->MatchLength(prompt, ns);
  } catch (const std::bad_alloc&) {
    return 0;  // a hint: Start would not get far now
  }
}

absl::Status KvCache::CheckFits(int64_t total_tokens, int32_t step_tokens,
                                const Namespace& ns) const {
  // Only its errors allocate.
  return OrBare(absl::StatusCode::kInvalidArgument,
                [&] { return core_->CheckFits(total_tokens, step_tokens, ns); });
}

absl::Status KvCache::ReserveAll(std::span<Sequence* const> sequences,
                                 std::span<const int32_t> counts) {
  return core_->ReserveAll(sequences, counts);
}

absl::Status KvCache::CommitAll(std::span<Sequence* const> sequences,
                                std::span<const TokenId> tokens, std::span<const int32_t> counts) {
  return core_->CommitAll(sequences, tokens, counts);
}

Plan KvCache::TakePlan() {
  const Plan plan = core_->TakePlan();
  core_->FillStats(&stats_);
  board_->Post(stats_);
  return plan;
}

void KvCache::Retire(Ticket ticket, const absl::Status& status) {
  core_->Retire(ticket, !status.ok());
}

PageTableView KvCache::MakePageTable(std::span<const Sequence* const> sequences,
                                     std::span<const int32_t> counts, GroupId group,
                                     const PageTableBuffers& buffers) const {
  const auto g = static_cast<int32_t>(group);
  QUIRE_CHECK(g >= 0 && g < static_cast<int32_t>(options().groups.size()),
              "there is no such group");
  QUIRE_CHECK(sequences.size() == counts.size(), "one count for each sequence");
  QUIRE_CHECK(
      buffers.row_begin.size() >= sequences.size() && buffers.lengths.size() >= sequences.size(),
      "the page table's buffers are smaller than the batch");
  for (size_t i = 0; i < sequences.size(); ++i) {
    buffers.lengths[i] = LengthWith(*core_, sequences[i], counts[i]);
    buffers.row_begin[i] = core_->row_begin(*sequences[i], g);
  }
  return {.page_ids = core_->rows(g),
          .row_begin = buffers.row_begin.data(),
          .lengths = buffers.lengths.data(),
          .batch = static_cast<int32_t>(sequences.size()),
          .tokens_per_page = options().groups[static_cast<size_t>(g)].tokens_per_page};
}

absl::StatusOr<PageTableView> KvCache::PackPageTable(std::span<const Sequence* const> sequences,
                                                     std::span<const int32_t> counts, GroupId group,
                                                     const PageTableBuffers& buffers,
                                                     std::span<PageId> page_ids) const {
  QUIRE_CHECK(sequences.size() == counts.size(), "one count for each sequence");
  const auto g = static_cast<size_t>(group);
  QUIRE_CHECK(g < options().groups.size(), "there is no such group");
  const int32_t tokens_per_page = options().groups[g].tokens_per_page;
  int64_t needed = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    needed += PagesFor(LengthWith(*core_, sequences[i], counts[i]), tokens_per_page);
  }
  if (needed > static_cast<int64_t>(page_ids.size())) {
    return OrBare(absl::StatusCode::kOutOfRange, [&] {
      return absl::OutOfRangeError(absl::StrCat("page_ids has room for ", page_ids.size(),
                                                " pages; this batch needs ", needed));
    });
  }
  PageTableView view = MakePageTable(sequences, counts, group, buffers);
  int64_t at = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const int64_t pages = PagesFor(buffers.lengths[i], tokens_per_page);
    std::copy_n(view.page_ids + buffers.row_begin[i], pages, page_ids.data() + at);
    buffers.row_begin[i] = at;
    at += pages;
  }
  view.page_ids = page_ids.data();
  return view;
}

void KvCache::ClearCached() { core_->ClearCached(); }

const Options& KvCache::options() const { return core_->options(); }

Stats KvCache::stats() const {
  Stats stats;
  core_->FillStats(&stats);
  return stats;
}

Stats KvCache::PublishedStats() const { return board_->Read(); }

absl::Status KvCache::Validate() const {
  return OrBare(kNoMemory, [&] { return core_->Validate(); });
}

}  // namespace quire
