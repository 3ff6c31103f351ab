// A growing stream of tokens, as pages. A token is named by where it comes from (a content and a
// place in it), so that streams which begin with the same contents have the same first pages.

#ifndef QUIRE_BENCH_REPLAY_PAGE_STREAM_H_
#define QUIRE_BENCH_REPLAY_PAGE_STREAM_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/replay/page_ids.h"

namespace replay {

class PageStream {
 public:
  PageStream(int32_t tokens_per_page, PageIds* ids) : per_page_(tokens_per_page), ids_(ids) {}

  // Appends the first `length` tokens of `content`.
  void Append(int32_t content, int32_t length) {
    parts_.push_back({content, length});
    AppendFrom(content, 0, length);
  }

  // Back to when there were so many parts().
  void Truncate(size_t parts) {
    parts_.resize(parts);
    tokens_ = 0;
    for (const Part& part : parts_) tokens_ += part.length;
    full_.resize(static_cast<size_t>(tokens_ / per_page_));
    tail_.clear();
    const int32_t tail_begin = tokens_ / per_page_ * per_page_;
    tokens_ = 0;
    for (const Part& part : parts_) {
      const int32_t skipped = std::clamp(tail_begin - tokens_, 0, part.length);
      tokens_ += skipped;
      AppendFrom(part.content, skipped, part.length);
    }
  }

  int32_t tokens() const { return tokens_; }
  size_t parts() const { return parts_.size(); }

  // Writes the ids of the pages from number `first` on, the last as full as it is.
  void WritePages(int32_t first, std::vector<int32_t>* out) const {
    out->insert(out->end(), full_.begin() + first, full_.end());
    if (!tail_.empty()) out->push_back(ids_->Of(Parent(), tail_));
  }

 private:
  struct Part {
    int32_t content, length;
  };

  int32_t Parent() const { return full_.empty() ? kNoPage : full_.back(); }

  void AppendFrom(int32_t content, int32_t begin, int32_t end) {
    while (begin < end) {
      const int32_t taken = std::min(end - begin, per_page_ - tokens_ % per_page_);
      tail_.insert(tail_.end(), {content, begin, taken});
      begin += taken;
      tokens_ += taken;
      if (tokens_ % per_page_ == 0) {
        full_.push_back(ids_->Of(Parent(), tail_));
        tail_.clear();
      }
    }
  }

  int32_t per_page_;
  PageIds* ids_;
  std::vector<Part> parts_;
  std::vector<int32_t> full_;  // ids of the full pages
  std::vector<int32_t> tail_;  // content, place, length of each piece of the last page
  int32_t tokens_ = 0;
};

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_PAGE_STREAM_H_
