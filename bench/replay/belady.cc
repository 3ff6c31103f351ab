#include "bench/replay/belady.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/replay/sequential.h"

namespace replay {
namespace {

constexpr int64_t kNever = -1;

// The references of all prompts in a row. One is named by its index here: that tells its request,
// its depth and its page, and orders references by request, then by depth.
struct References {
  explicit References(const Trace& trace) {
    begin.push_back(0);
    for (const Request& request : trace.requests) {
      const std::span<const int32_t> prompt = trace.Prompt(request);
      ids.insert(ids.end(), prompt.begin(), prompt.end());
      begin.push_back(static_cast<int64_t>(ids.size()));
    }
    std::vector<int64_t> following(static_cast<size_t>(trace.id_count), kNever);
    next.resize(ids.size());
    for (size_t i = ids.size(); i-- > 0;) {
      next[i] = std::exchange(following[static_cast<size_t>(ids[i])], static_cast<int64_t>(i));
    }
  }

  std::vector<int32_t> ids;
  std::vector<int64_t> begin;  // of request r; one entry more
  std::vector<int64_t> next;   // the next reference to the same page, or kNever
};

// The pool at one size. A page that will be used again is known by that next reference, in a heap:
// the latest on top. Used once more, its entry is in the past, where the heap does not reach while
// anything else may go; so none need be removed.
class Pool {
 public:
  Pool(const References& references, int32_t id_count)
      : references_(references), resident_(static_cast<size_t>(id_count), 0) {}

  int64_t resident_count() const { return resident_count_; }

  int64_t CountHits(std::span<const int32_t> ids) const {
    const auto missing = std::find_if(ids.begin(), ids.end(), [&](int32_t id) {
      return resident_[static_cast<size_t>(id)] == 0;
    });
    return missing - ids.begin();
  }

  // REQUIRES a page that is not of the running request, unless that was Used.
  void Evict() {
    int32_t id;
    if (first_dead_ < dead_.size()) {
      id = dead_[first_dead_++];
    } else {
      std::pop_heap(heap_.begin(), heap_.end());
      id = references_.ids[static_cast<size_t>(heap_.back())];
      heap_.pop_back();
    }
    resident_[static_cast<size_t>(id)] = 0;
    --resident_count_;
  }

  // The references [begin, end) of a request were made: its pages are there and may go from now on.
  void Use(int64_t begin, int64_t end) {
    for (int64_t i = end; i-- > begin;) {
      const int32_t id = references_.ids[static_cast<size_t>(i)];
      resident_count_ += 1 - resident_[static_cast<size_t>(id)];
      resident_[static_cast<size_t>(id)] = 1;
      const int64_t next = references_.next[static_cast<size_t>(i)];
      if (next == kNever) {
        dead_.push_back(id);
      } else {
        heap_.push_back(next);
        std::push_heap(heap_.begin(), heap_.end());
      }
    }
  }

 private:
  const References& references_;
  std::vector<uint8_t> resident_;  // [id]
  int64_t resident_count_ = 0;
  std::vector<int64_t> heap_;
  std::vector<int32_t> dead_;  // never used again, in the order in which they go
  size_t first_dead_ = 0;      // those before it are gone
};

int64_t HitsAt(const Trace& trace, const References& references, int32_t pages, bool pinned,
               Progress* progress) {
  Pool pool(references, trace.id_count);
  int64_t hits = 0;
  for (size_t r = 0; r + 1 < references.begin.size(); ++r) {
    const int64_t begin = references.begin[r];
    const int64_t end = references.begin[r + 1];
    const std::span<const int32_t> ids = trace.Prompt(trace.requests[r]);
    const int64_t found = pool.CountHits(ids);
    hits += found;
    const int64_t wanted = end - begin - found;
    while (pinned && pool.resident_count() + wanted > pages) pool.Evict();
    pool.Use(begin, end);
    while (pool.resident_count() > pages) pool.Evict();
    if (progress != nullptr) progress->At(end);
  }
  return hits;
}

}  // namespace

absl::StatusOr<std::vector<BeladyResult>> Belady(const Trace& trace, std::span<const int32_t> pages,
                                                 Progress* progress) {
  for (const int32_t size : pages) {
    if (absl::Status status = CheckRequestsFit(trace, size); !status.ok()) return status;
  }
  const References references(trace);
  std::vector<BeladyResult> results;
  for (const int32_t size : pages) {
    const auto hits_at = [&](bool pinned) {
      if (progress != nullptr) {
        progress->Begin(absl::StrCat("Belady's bound, ", size, " pages"), "refs",
                        static_cast<int64_t>(references.ids.size()));
      }
      return HitsAt(trace, references, size, pinned, progress);
    };
    results.push_back(
        {.pages = size, .hit_pages = hits_at(false), .pinned_hit_pages = hits_at(true)});
  }
  if (progress != nullptr) progress->End();
  return results;
}

int64_t UnlimitedHits(const Trace& trace) {
  std::vector<uint8_t> seen(static_cast<size_t>(trace.id_count), 0);
  int64_t hits = 0;
  for (const Request& request : trace.requests) {
    for (const int32_t id : trace.Prompt(request)) {
      hits += seen[static_cast<size_t>(id)];
      seen[static_cast<size_t>(id)] = 1;
    }
  }
  return hits;
}

}  // namespace replay
