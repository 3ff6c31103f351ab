// What trace.h promises of every trace, whoever made it.

#ifndef QUIRE_TESTS_SUPPORT_REPLAY_TRACE_CHECK_H_
#define QUIRE_TESTS_SUPPORT_REPLAY_TRACE_CHECK_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/replay/trace.h"

namespace replay {

class TraceChecker {
 public:
  explicit TraceChecker(const Trace& trace)
      : trace_(trace), places_(static_cast<size_t>(trace.id_count)) {}

  std::string Fault() {
    int64_t next = 0, arrival = 0;
    for (size_t i = 0; i < trace_.requests.size(); ++i) {
      const Request& r = trace_.requests[i];
      const std::string fault = Shape(r) + Chains(r);
      const bool linked = r.previous >= -1 && r.previous < static_cast<int32_t>(i);
      if (!fault.empty() || r.first_id != next || r.arrival_ms < arrival || !linked) {
        return "request " + std::to_string(i) + ": " +
               (fault.empty() ? "first_id, arrival_ms or previous" : fault);
      }
      next += r.input_pages + r.output_pages;
      arrival = r.arrival_ms;
    }
    if (next != static_cast<int64_t>(trace_.ids.size())) return "ids are left over";
    for (const Place& place : places_) {
      if (place.depth < 0) return "an id below id_count stands nowhere";
    }
    return "";
  }

 private:
  struct Place {
    int32_t parent = -1, depth = -1, tokens = 0;
  };

  std::string Shape(const Request& r) const {
    const int64_t per_page = trace_.tokens_per_page;
    const int64_t total = int64_t{r.input_tokens} + r.output_tokens;
    if (r.input_tokens < 1 || r.output_tokens < 0) return "tokens";
    if (r.input_pages != (r.input_tokens + per_page - 1) / per_page) return "input_pages";
    const int64_t answer = (total + per_page - 1) / per_page - r.input_tokens / per_page;
    if (r.output_pages != (r.output_tokens == 0 ? 0 : answer)) return "output_pages";
    if (r.tenant < 0 || r.tenant >= static_cast<int32_t>(trace_.tenants.size())) return "tenant";
    return "";
  }

  // Each id has one parent, one depth and one number of tokens.
  std::string Chains(const Request& r) {
    const int32_t full = r.input_tokens / trace_.tokens_per_page;
    const auto prompt = trace_.Prompt(r), answer = trace_.Answer(r);
    std::vector<int32_t> pages(prompt.begin(), prompt.end());
    std::string fault = Chain(pages, 0, r.input_tokens);
    pages.resize(static_cast<size_t>(full));
    pages.insert(pages.end(), answer.begin(), answer.end());
    if (!answer.empty()) fault += Chain(pages, full, r.input_tokens + r.output_tokens);
    return fault;
  }

  std::string Chain(const std::vector<int32_t>& pages, int32_t from, int32_t tokens) {
    for (auto k = from; k < static_cast<int32_t>(pages.size()); ++k) {
      const int32_t id = pages[static_cast<size_t>(k)];
      if (id < 0 || id >= trace_.id_count) return "id " + std::to_string(id) + " is not dense";
      Place& place = places_[static_cast<size_t>(id)];
      const Place here{k == 0 ? -1 : pages[static_cast<size_t>(k) - 1], k,
                       std::min(trace_.tokens_per_page, tokens - k * trace_.tokens_per_page)};
      if (place.depth < 0) place = here;
      if (place.parent != here.parent || place.depth != here.depth || place.tokens != here.tokens) {
        return "id " + std::to_string(id) + " has two parents, depths or numbers of tokens";
      }
    }
    return "";
  }

  const Trace& trace_;
  std::vector<Place> places_;  // by id
};

// Empty, or what is wrong with `trace`.
inline std::string TraceFault(const Trace& trace) { return TraceChecker(trace).Fault(); }

}  // namespace replay

#endif  // QUIRE_TESTS_SUPPORT_REPLAY_TRACE_CHECK_H_
