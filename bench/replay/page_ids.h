// Gives chained page ids to page contents: equal contents after the same page are the same page.

#ifndef QUIRE_BENCH_REPLAY_PAGE_IDS_H_
#define QUIRE_BENCH_REPLAY_PAGE_IDS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace replay {

inline constexpr int32_t kNoPage = -1;  // what the first page of a request comes after

class PageIds {
 public:
  // The id of the page with this content after `parent`; the next free one where it is new. The
  // words may mean anything (tokens, or where tokens come from): they are only compared. Contents
  // are kept and compared whole, because an id shared by chance would show as a hit.
  int32_t Of(int32_t parent, std::span<const int32_t> words) {
    const absl::string_view content(reinterpret_cast<const char*>(words.data()),
                                    words.size_bytes());
    if (const auto it = ids_.find({parent, content}); it != ids_.end()) return it->second;
    ids_.emplace(std::pair(parent, Keep(content)), count_);
    return count_++;
  }

  // An id that nothing else will have.
  int32_t Fresh() { return count_++; }

  int32_t count() const { return count_; }

 private:
  // The keys' bytes must not move, so they lie in chunks that never grow.
  absl::string_view Keep(absl::string_view content) {
    constexpr size_t kChunk = size_t{1} << 20;
    if (content.size() > left_) {
      left_ = content.size() > kChunk ? content.size() : kChunk;
      chunks_.push_back(std::make_unique<char[]>(left_));
      next_ = chunks_.back().get();
    }
    std::memcpy(next_, content.data(), content.size());
    const absl::string_view kept(next_, content.size());
    next_ += content.size();
    left_ -= content.size();
    return kept;
  }

  absl::flat_hash_map<std::pair<int32_t, absl::string_view>, int32_t> ids_;
  std::vector<std::unique_ptr<char[]>> chunks_;
  char* next_ = nullptr;
  size_t left_ = 0;
  int32_t count_ = 0;
};

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_PAGE_IDS_H_
