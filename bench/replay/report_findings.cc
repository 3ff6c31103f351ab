// What the numbers say, in sentences: only what can be read off them.

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/replay/report_parts.h"
#include "bench/replay/report_text.h"

namespace replay {
namespace {

constexpr char kBaseline[] = "lru";

std::string Bold(std::string_view name) { return absl::StrCat("<b>", Escape(name), "</b>"); }

// (who, sizes): who is best at which sizes, in order of size.
using Winners = std::vector<std::pair<std::string, std::vector<std::string>>>;

// `better(a, b)`: a is strictly better. Those that are equal share the first place.
template <typename Result, typename Better>
Winners Best(const std::vector<Result>& all, Better better) {
  Winners winners;
  for (const int32_t size : SizesOf(all)) {
    std::vector<std::string> names;
    const Result* best = nullptr;
    for (const Result& r : all) {
      if (r.pages != size) continue;
      if (best == nullptr || better(r, *best)) {
        best = &r;
        names.clear();
      }
      if (!better(*best, r)) names.push_back(Bold(r.policy));
    }
    const std::string who =
        names.size() > 3 ? absl::StrCat(names.size(), " policies together") : Join(names);
    auto place = winners.begin();
    while (place != winners.end() && place->first != who) ++place;
    if (place == winners.end()) place = winners.insert(place, {who, {}});
    place->second.push_back(Count(size));
  }
  return winners;
}

std::string Sentence(const std::string& what, const Winners& winners) {
  if (winners.size() == 1) {
    const auto& [who, sizes] = winners.front();
    return sizes.size() == 1 ? absl::StrCat(what, " at ", sizes[0], " pages: ", who, ".")
                             : absl::StrCat(what, ": ", who, " at every size.");
  }
  std::string out = absl::StrCat(what, ": ");
  for (const auto& [who, sizes] : winners) {
    absl::StrAppend(&out, &who == &winners.front().first ? "" : "; ", who, " at ", Join(sizes));
  }
  return out + " pages.";
}

// Where some policy leads the baseline by most.
std::string LargestLead(const Results& results) {
  const SequentialResult *best = nullptr, *base = nullptr;
  for (const SequentialResult& r : results.sequential) {
    const SequentialResult* lru = Find(results.sequential, kBaseline, r.pages);
    if (lru == nullptr || r.hit_pages <= lru->hit_pages) continue;
    if (best == nullptr ||
        r.page_hit_rate() - lru->page_hit_rate() > best->page_hit_rate() - base->page_hit_rate()) {
      best = &r;
      base = lru;
    }
  }
  if (best == nullptr) return "";
  std::string out = absl::StrCat(
      "The largest lead over lru is that of ", Bold(best->policy), " at ", Count(best->pages),
      " pages: ", Percent(best->page_hit_rate()), " against ", Percent(base->page_hit_rate()));
  for (const BeladyResult& bound : results.belady) {
    const int64_t room = bound.hit_pages - base->hit_pages;
    if (bound.pages != best->pages || room <= 0) continue;
    absl::StrAppend(&out, ", which is ",
                    Percent(SequentialResult::Rate(best->hit_pages - base->hit_pages, room), 0),
                    " of the room between lru and Belady’s bound (",
                    Percent(SequentialResult::Rate(bound.hit_pages, best->page_refs)), ")");
  }
  return out + ".";
}

std::string BelowBaseline(const Results& results) {
  std::vector<std::string> parts;
  for (const std::string& policy : Policies(results).names) {
    int sizes = 0, below = 0;
    double most = 0;
    for (const SequentialResult& r : results.sequential) {
      const SequentialResult* lru = Find(results.sequential, kBaseline, r.pages);
      if (r.policy != policy || lru == nullptr) continue;
      ++sizes;
      if (r.hit_pages >= lru->hit_pages) continue;
      ++below;
      most = std::max(most, lru->page_hit_rate() - r.page_hit_rate());
    }
    if (below == 0) continue;
    const std::string where =
        sizes == 1 ? "" : absl::StrCat(" at ", below, " of ", sizes, " sizes,");
    parts.push_back(absl::StrCat(Bold(policy), where, below > 1 ? " by up to " : " by ",
                                 most < 0.00005 ? "less than 0.01" : Points(most).substr(1),
                                 " points"));
  }
  if (parts.empty()) return "";
  std::string out = "Below lru: ";
  for (size_t i = 0; i < parts.size(); ++i) absl::StrAppend(&out, i > 0 ? "; " : "", parts[i]);
  return out + ".";
}

// At the size where it differs most between policies.
std::string FirstTokenSpread(const Results& results) {
  const ServingResult *fast = nullptr, *slow = nullptr;
  for (const ServingResult& a : results.serving) {
    for (const ServingResult& b : results.serving) {
      const double from = a.first_token_ms.p99, to = b.first_token_ms.p99;
      if (a.pages != b.pages || !(from > 0) || !(to > from)) continue;
      if (fast == nullptr || to / from > slow->first_token_ms.p99 / fast->first_token_ms.p99) {
        fast = &a;
        slow = &b;
      }
    }
  }
  if (fast == nullptr) return "";
  const bool one_size = SizesOf(results.serving).size() == 1;
  return absl::StrCat("The 99th percentile of the time to first token ",
                      one_size ? "is " : "differs most at ",
                      one_size ? "" : absl::StrCat(Count(fast->pages), " pages: "),
                      Milliseconds(fast->first_token_ms.p99), " with ", Bold(fast->policy), ", ",
                      Milliseconds(slow->first_token_ms.p99), " with ", Bold(slow->policy), ".");
}

}  // namespace

std::vector<std::string> SequentialFindings(const Results& results) {
  std::vector<std::string> findings;
  const auto& all = results.sequential;
  if (all.empty()) return findings;
  if (Policies(results).names.size() > 1) {
    findings.push_back(Sentence(
        "Highest page hit rate",
        Best(all, [](const auto& a, const auto& b) { return a.hit_pages > b.hit_pages; })));
    for (std::string sentence : {LargestLead(results), BelowBaseline(results)}) {
      if (!sentence.empty()) findings.push_back(std::move(sentence));
    }
  } else {
    const SequentialResult &low = *BySize(all).front(), &high = *BySize(all).back();
    findings.push_back(absl::StrCat(Bold(low.policy), " finds ", Percent(low.page_hit_rate()),
                                    " of the pages at ", Count(low.pages), " pages"));
    if (high.pages != low.pages) {
      absl::StrAppend(&findings.back(), ", ", Percent(high.page_hit_rate()), " at ",
                      Count(high.pages));
    }
    findings.back() += ".";
  }
  if (results.unlimited_hit_pages > 0 && results.page_refs > 0) {
    findings.push_back(absl::StrCat(
        "With room for every page, ",
        Percent(SequentialResult::Rate(results.unlimited_hit_pages, results.page_refs)),
        " would be found; the rest are asked for the first time."));
  }
  return findings;
}

std::vector<std::string> ServingFindings(const Results& results) {
  std::vector<std::string> findings;
  const auto& all = results.serving;
  if (all.empty() || Policies(results).names.size() < 2) return findings;
  findings.push_back(Sentence(
      "Highest token hit rate in serving",
      Best(all, [](const auto& a, const auto& b) { return a.hit_rate() > b.hit_rate(); })));
  std::string spread = FirstTokenSpread(results);
  if (!spread.empty()) findings.push_back(std::move(spread));
  return findings;
}

}  // namespace replay
