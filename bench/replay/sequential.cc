#include "bench/replay/sequential.h"

#include <time.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "quire/kv_cache.h"

namespace replay {
namespace {

constexpr quire::TokenId kSentinel = -1;  // ids begin at 0

absl::StatusOr<std::unique_ptr<quire::KvCache>> NewCache(const SequentialOptions& options,
                                                         int32_t longest) {
  quire::Options cache;
  cache.groups = {{.tokens_per_page = 1, .page_count = options.pages}};
  cache.max_sequences = 1;
  cache.max_sequence_tokens = longest + 1;
  cache.reclaim = options.policy.reclaim;
  return quire::KvCache::Create(cache);
}

double ThreadSeconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// When each page was written, by the number of the request.
class Births {
 public:
  explicit Births(int32_t pages) : born_(static_cast<size_t>(pages), -1) {}

  void Write(std::span<const quire::PageId> pages, int32_t request, Lifetimes* lifetimes) {
    for (const quire::PageId page : pages) {
      int32_t& born = born_[static_cast<size_t>(page)];
      if (born >= 0) {
        const auto lifetime = static_cast<uint32_t>(request - born);
        ++lifetimes->bins[static_cast<size_t>(std::bit_width(lifetime | 1U)) - 1];
      }
      born = request;
    }
  }

 private:
  std::vector<int32_t> born_;
};

// Replays the whole trace. hits[i] becomes the pages that request i found. kTrackLifetimes is known
// at compile time so that the timed loop has nothing of it.
template <bool kTrackLifetimes>
absl::Status Replay(const Trace& trace, quire::KvCache* cache, Progress* progress,
                    std::vector<int32_t>* hits, Births* births, Lifetimes* lifetimes) {
  std::vector<quire::TokenId> prompt(static_cast<size_t>(LongestPrompt(trace)) + 1);
  int64_t done = 0;
  for (size_t i = 0; i < trace.requests.size(); ++i) {
    const std::span<const int32_t> ids = trace.Prompt(trace.requests[i]);
    *std::copy(ids.begin(), ids.end(), prompt.begin()) = kSentinel;
    absl::StatusOr<quire::Sequence> sequence = cache->Start({prompt.data(), ids.size() + 1});
    if (!sequence.ok()) return sequence.status();
    const auto hit = static_cast<size_t>(sequence->hit_tokens());
    (*hits)[i] = static_cast<int32_t>(hit);
    if (hit < ids.size()) {
      const auto missed = static_cast<int32_t>(ids.size() - hit);
      if (absl::Status status = sequence->Reserve(missed); !status.ok()) return status;
      if (kTrackLifetimes) {
        births->Write(sequence->pages(quire::GroupId{0}).subspan(hit, ids.size() - hit),
                      static_cast<int32_t>(i), lifetimes);
      }
      if (absl::Status status = sequence->Commit(ids.subspan(hit)); !status.ok()) return status;
    }
    done += static_cast<int64_t>(ids.size());
    if (progress != nullptr) progress->At(done);
  }
  return absl::OkStatus();
}

void Summarise(const Trace& trace, const CostModel& cost, std::span<const int32_t> hits,
               SequentialResult* result) {
  double saved = 0;
  double whole = 0;
  for (size_t i = 0; i < trace.requests.size(); ++i) {
    const Request& request = trace.requests[i];
    const int64_t hit_tokens = std::min<int64_t>(
        static_cast<int64_t>(hits[i]) * trace.tokens_per_page, request.input_tokens);
    result->page_refs += request.input_pages;
    result->hit_pages += hits[i];
    result->input_tokens += request.input_tokens;
    result->hit_tokens += hit_tokens;
    saved += cost.PrefillUs(0, hit_tokens);
    whole += cost.PrefillUs(0, request.input_tokens);
  }
  result->requests = static_cast<int64_t>(trace.requests.size());
  result->recompute_saved = whole > 0 ? saved / whole : 0;
  result->hits_fnv1a64 = HashCounts(hits);
}

}  // namespace

int32_t LongestPrompt(const Trace& trace) {
  int32_t longest = 0;
  for (const Request& request : trace.requests) longest = std::max(longest, request.input_pages);
  return longest;
}

absl::Status CheckRequestsFit(const Trace& trace, int32_t pages) {
  for (size_t i = 0; i < trace.requests.size(); ++i) {
    const int32_t input_pages = trace.requests[i].input_pages;
    if (input_pages < pages) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(trace.name, ": request ", i + 1, " has ", input_pages,
                     " pages and needs one more to go on; a pool of ", pages,
                     " can never hold it. The longest request of the trace needs --pages ",
                     LongestPrompt(trace) + 1));
  }
  return absl::OkStatus();
}

uint64_t HashCounts(std::span<const int32_t> counts) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const int32_t count : counts) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash ^= static_cast<uint32_t>(count) >> shift & 0xFF;
      hash *= 0x100000001b3;
    }
  }
  return hash;
}

absl::StatusOr<SequentialResult> RunSequential(const Trace& trace,
                                               const SequentialOptions& options) {
  if (absl::Status status = CheckRequestsFit(trace, options.pages); !status.ok()) return status;
  const int32_t longest = LongestPrompt(trace);
  auto cache = NewCache(options, longest);
  if (!cache.ok()) return cache.status();
  SequentialResult result;
  result.policy = options.policy.name;
  result.pages = options.pages;
  std::vector<int32_t> hits(trace.requests.size());
  if (options.progress != nullptr) {
    options.progress->Begin(absl::StrCat(options.policy.name, ", ", options.pages, " pages"),
                            "refs", trace.page_refs());
  }
  const double cpu_begin = ThreadSeconds();
  const auto begin = std::chrono::steady_clock::now();
  absl::Status status =
      Replay<false>(trace, cache->get(), options.progress, &hits, nullptr, nullptr);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  result.cpu_seconds = ThreadSeconds() - cpu_begin;
  if (options.progress != nullptr) options.progress->End();
  if (!status.ok()) return status;
  Summarise(trace, options.cost, hits, &result);
  const quire::Stats stats = (*cache)->stats();
  result.evictions = stats.groups[0].evictions;
  result.metadata_bytes = stats.metadata_bytes;
  result.ghost_bytes = stats.ghost_bytes;
  if (options.lifetimes) {
    cache->reset();  // never two caches at a time: they may be large
    cache = NewCache(options, longest);
    if (!cache.ok()) return cache.status();
    Births births(options.pages);
    status = Replay<true>(trace, cache->get(), nullptr, &hits, &births, &result.lifetimes);
    if (!status.ok()) return status;
  }
  return result;
}

}  // namespace replay
