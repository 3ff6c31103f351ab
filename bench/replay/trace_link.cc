#include "bench/replay/trace_link.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace replay {
namespace {

constexpr int32_t kNone = -1;

int32_t& At(std::vector<int32_t>& values, int32_t i) { return values[static_cast<size_t>(i)]; }

struct Linker {
  std::vector<ReadRequest>* read;
  const std::vector<int32_t>* ids;
  int32_t tokens_per_page;

  const Request& Get(int32_t i) const { return (*read)[static_cast<size_t>(i)].request; }
  int32_t FullPages(const Request& r) const { return r.input_tokens / tokens_per_page; }
  int32_t FullPagesWithAnswer(const Request& r) const {
    return (r.input_tokens + r.output_tokens) / tokens_per_page;
  }
  int32_t Prompt(const Request& r, int32_t page) const {
    return (*ids)[static_cast<size_t>(r.first_id + page)];
  }

  bool LongEnough(const Request& earlier, const Request& later) const {
    return later.input_tokens >= earlier.input_tokens + earlier.output_tokens;
  }

  // The last page of `r` that is full and known, kNone if there is none.
  int32_t LastFull(const ReadRequest& r) const {
    const int32_t prompt = FullPages(r.request);
    const int32_t pages = r.answer_known ? FullPagesWithAnswer(r.request) : prompt;
    if (pages == 0) return kNone;
    if (pages <= prompt) return Prompt(r.request, pages - 1);
    // The answer's first page is page number `prompt`.
    return Prompt(r.request, r.request.input_pages + (pages - 1 - prompt));
  }

  void FindPrevious(int32_t id_count) {
    std::vector<int32_t> ended(static_cast<size_t>(id_count), kNone);  // page -> request
    std::vector<bool> seen(static_cast<size_t>(id_count));
    std::vector<int32_t> last;  // session -> request
    for (size_t j = 0; j < read->size(); ++j) {
      ReadRequest& r = (*read)[j];
      Request& later = r.request;
      if (r.session != kNone) {
        last.resize(std::max(last.size(), static_cast<size_t>(r.session) + 1), kNone);
        later.previous = std::exchange(At(last, r.session), static_cast<int32_t>(j));
      } else {
        later.previous = Deepest(later, ended);
        const int32_t page = LastFull(r);
        // A page that was there before is a shared prompt, unless it is the conversation's own and
        // this turn was too short to fill another.
        if (page != kNone && (!seen[static_cast<size_t>(page)] ||
                              (later.previous != kNone && At(ended, page) == later.previous))) {
          At(ended, page) = static_cast<int32_t>(j);
        }
      }
      const int32_t known = later.input_pages + (r.answer_known ? later.output_pages : 0);
      for (int32_t k = 0; k < known; ++k) seen[static_cast<size_t>(Prompt(later, k))] = true;
    }
  }

  int32_t Deepest(const Request& later, std::vector<int32_t>& ended) const {
    for (int32_t k = later.input_pages - 2; k >= 0; --k) {
      const int32_t i = At(ended, Prompt(later, k));
      if (i != kNone && Get(i).tenant == later.tenant && LongEnough(Get(i), later)) return i;
    }
    return kNone;
  }

  // Whether the prompt of `later` begins with that of `earlier` and is long enough to hold its
  // answer too. Ids are chained, so the last full page speaks for all.
  bool GoesOn(const Request& earlier, const Request& later) const {
    const int32_t full = FullPages(earlier);
    return full > 0 && full <= later.input_pages && LongEnough(earlier, later) &&
           Prompt(earlier, full - 1) == Prompt(later, full - 1);
  }
};

}  // namespace

void LinkTurns(std::vector<ReadRequest> read, const std::vector<int32_t>& ids, Trace* trace) {
  const Linker linker{&read, &ids, trace->tokens_per_page};
  Linker(linker).FindPrevious(trace->id_count);

  std::vector<int32_t> next(read.size(), kNone);  // the first that goes on from it
  for (size_t j = 0; j < read.size(); ++j) {
    const int32_t i = read[j].request.previous;
    if (i != kNone && At(next, i) == kNone && linker.GoesOn(linker.Get(i), read[j].request)) {
      At(next, i) = static_cast<int32_t>(j);
    }
  }

  size_t total = 0;
  for (const ReadRequest& r : read) {
    total += static_cast<size_t>(r.request.input_pages + r.request.output_pages);
  }
  trace->ids.reserve(total);
  trace->requests.reserve(read.size());
  for (size_t i = 0; i < read.size(); ++i) {
    Request r = read[i].request;
    const int32_t known = r.input_pages + (read[i].answer_known ? r.output_pages : 0);
    const auto from = ids.begin() + r.first_id;
    r.first_id = static_cast<int64_t>(trace->ids.size());
    trace->ids.insert(trace->ids.end(), from, from + known);
    const int32_t first = linker.FullPages(r);
    for (int32_t k = known - r.input_pages; k < r.output_pages; ++k) {
      const bool copied = next[i] != kNone && first + k < linker.FullPagesWithAnswer(r);
      trace->ids.push_back(copied ? linker.Prompt(linker.Get(next[i]), first + k)
                                  : trace->id_count++);
    }
    trace->requests.push_back(r);
  }
}

}  // namespace replay
