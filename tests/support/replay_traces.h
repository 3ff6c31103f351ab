// Small traces for the tests of the replay: given by hand, or random trees.

#ifndef QUIRE_TESTS_SUPPORT_REPLAY_TRACES_H_
#define QUIRE_TESTS_SUPPORT_REPLAY_TRACES_H_

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "bench/replay/trace.h"

namespace replay {

using Prompts = std::vector<std::vector<int32_t>>;

// Pages of 512 tokens, the last of each prompt with 100 of them.
inline Trace TraceOf(const Prompts& prompts) {
  Trace trace;
  trace.name = "by hand";
  trace.tokens_per_page = 512;
  trace.tenants = {""};
  for (const std::vector<int32_t>& prompt : prompts) {
    Request request;
    request.first_id = static_cast<int64_t>(trace.ids.size());
    request.input_pages = static_cast<int32_t>(prompt.size());
    request.input_tokens = (request.input_pages - 1) * 512 + 100;
    trace.requests.push_back(request);
    for (const int32_t id : prompt) {
      trace.ids.push_back(id);
      trace.id_count = std::max(trace.id_count, id + 1);
    }
  }
  return trace;
}

// Paths in a random tree of `ids` pages: prompts of at most `longest` pages that share beginnings.
inline Prompts RandomPrompts(uint32_t seed, int32_t ids, int32_t count, int32_t longest) {
  std::mt19937 random(seed);
  const auto below = [&](int32_t n) { return static_cast<int32_t>(random() % n); };
  Prompts paths;  // from the root to each page
  for (int32_t id = 0; id < ids; ++id) {
    std::vector<int32_t> path;
    if (id > 0 && below(5) > 0) path = paths[static_cast<size_t>(below(id))];
    if (static_cast<int32_t>(path.size()) >= longest) path.clear();
    path.push_back(id);
    paths.push_back(path);
  }
  Prompts prompts;
  for (int32_t i = 0; i < count; ++i) prompts.push_back(paths[static_cast<size_t>(below(ids))]);
  return prompts;
}

}  // namespace replay

#endif  // QUIRE_TESTS_SUPPORT_REPLAY_TRACES_H_
