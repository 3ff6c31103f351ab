// Requests one after another: how often a page was still there.

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/replay/charts.h"
#include "bench/replay/report_parts.h"
#include "bench/replay/report_text.h"

namespace replay {
namespace {

using Value = double (*)(const SequentialResult&);

std::vector<std::string> Shown(const Results& results) {
  std::vector<std::string> shown;
  for (const SequentialResult& r : results.sequential) shown.push_back(r.policy);
  return shown;
}

std::vector<Series> SeriesOf(const Results& results, const Policies& policies, Value value) {
  std::vector<Series> all;
  for (const std::string& policy : policies.names) {
    Series series{policy, policies.StyleOf(policy), {}};
    for (const SequentialResult* r : BySize(results.sequential)) {
      if (r->policy == policy) series.points.emplace_back(r->pages, value(*r));
    }
    if (!series.points.empty()) all.push_back(series);
  }
  return all;
}

// Differences from lru at the same size; empty if there is nothing to compare.
std::vector<Series> DifferencesOf(const Results& results, const Policies& policies, Value value) {
  std::vector<Series> all;
  bool more_than_lru = false;
  for (const std::string& policy : policies.names) {
    Series series{policy, policies.StyleOf(policy), {}};
    for (const SequentialResult* r : BySize(results.sequential)) {
      const SequentialResult* lru = Find(results.sequential, "lru", r->pages);
      if (r->policy != policy || lru == nullptr) continue;
      series.points.emplace_back(r->pages, value(*r) - value(*lru));
    }
    if (series.points.empty()) continue;
    more_than_lru = more_than_lru || policy != "lru";
    all.push_back(series);
  }
  return more_than_lru ? all : std::vector<Series>();
}

std::string CapacityPanel(const Results& results, const Policies& policies,
                          const std::string& title, Value value, bool pages) {
  LineChart chart{.label = absl::StrCat(title,
                                        " against the number of pages, a line for each "
                                        "policy. The table below has the numbers."),
                  .unit = Unit::kShare,
                  .series = SeriesOf(results, policies, value)};
  if (pages && !results.belady.empty()) {
    Series bound{"Belady’s bound", kBound, {}};
    for (const BeladyResult* b : BySize(results.belady)) {
      bound.points.emplace_back(b->pages, SequentialResult::Rate(b->hit_pages, results.page_refs));
    }
    chart.series.insert(chart.series.begin(), bound);
  }
  if (pages && results.unlimited_hit_pages > 0) {
    chart.level = SequentialResult::Rate(results.unlimited_hit_pages, results.page_refs);
    chart.level_name = absl::StrCat("room for every page: ", Percent(*chart.level));
  }
  std::string html =
      Figure(title, BothWidths(DrawLines(chart, 820, 400), DrawLines(chart, 340, 300)));
  LineChart differences{
      .label = absl::StrCat(title,
                            ": difference from lru in percentage points, against the number "
                            "of pages. The table below has the numbers."),
      .unit = Unit::kPoints,
      .series = DifferencesOf(results, policies, value)};
  if (!differences.series.empty()) {
    html += Figure("Difference from lru",
                   BothWidths(DrawLines(differences, 820, 300), DrawLines(differences, 340, 260)),
                   "percentage points");
  }
  return html;
}

const BeladyResult* BoundAt(const Results& results, int32_t pages) {
  for (const BeladyResult& b : results.belady) {
    if (b.pages == pages) return &b;
  }
  return nullptr;
}

Row NumbersOf(const Results& results, const SequentialResult& r, int64_t best) {
  const SequentialResult* lru = Find(results.sequential, "lru", r.pages);
  const BeladyResult* bound = BoundAt(results, r.pages);
  const bool gains = lru != nullptr && bound != nullptr && r.hit_pages > lru->hit_pages &&
                     bound->hit_pages > lru->hit_pages;
  const std::string rate = Percent(r.page_hit_rate());
  return {false,
          {Escape(r.policy), Count(r.pages), r.hit_pages == best ? "<b>" + rate + "</b>" : rate,
           lru == nullptr ? "–" : Points(r.page_hit_rate() - lru->page_hit_rate()),
           gains ? Percent(SequentialResult::Rate(r.hit_pages - lru->hit_pages,
                                                  bound->hit_pages - lru->hit_pages),
                           1)
                 : "–",
           Percent(r.token_hit_rate()), Percent(r.recompute_saved), Count(r.hit_pages),
           Count(r.evictions), r.seconds > 0 ? Short(r.refs_per_second()) : "–",
           Bytes(r.metadata_bytes), Bytes(r.ghost_bytes),
           absl::StrFormat("<code>%016x</code>", r.hits_fnv1a64)}};
}

std::string Numbers(const Results& results) {
  std::vector<Row> rows;
  for (const int32_t size : SizesOf(results.sequential)) {
    const size_t begin = rows.size();
    int64_t best = 0;
    for (const SequentialResult& r : results.sequential) {
      if (r.pages == size) best = std::max(best, r.hit_pages);
    }
    for (const SequentialResult& r : results.sequential) {
      if (r.pages == size) rows.push_back(NumbersOf(results, r, best));
    }
    if (const BeladyResult* bound = BoundAt(results, size)) {
      Row row{false, {"<i>Belady’s bound</i>", Count(size)}};
      row.html.push_back(Percent(SequentialResult::Rate(bound->hit_pages, results.page_refs)));
      row.html.resize(7, "");
      row.html.push_back(Count(bound->hit_pages));
      row.html.resize(13, "");
      rows.push_back(row);
    }
    rows[begin].first = true;
  }
  return Table("All numbers of the sequential replay",
               {"Policy", "Pages", "Page hits", "vs lru", "Of the room", "Token hits", "Cost saved",
                "Hit pages", "Evictions", "Refs/s", "Metadata", "Of it ghosts", "Digest of hits"},
               rows);
}

std::string LifetimesOf(const Results& results, const Policies& policies) {
  std::vector<Panel> panels;
  for (const int32_t size : SizesOf(results.sequential)) {
    std::vector<NamedLifetimes> all;
    for (const SequentialResult& r : results.sequential) {
      if (r.pages == size) all.push_back({r.policy, &r.lifetimes});
    }
    std::string html = LifetimePanel(policies, size, all);
    if (!html.empty()) panels.push_back({absl::StrCat(Count(size), " pages"), std::move(html)});
  }
  if (panels.empty()) return "";
  return absl::StrCat(
      "<h3>How long pages stayed</h3>\n",
      Paragraph("note",
                "Requests from when a page was written until its memory was given to "
                "another: shares of the pages that were evicted. Pages still there at the "
                "end are not counted."),
      Picker("seq-life", "Cache size", panels, panels.size() / 2));
}

}  // namespace

std::string SequentialSection(const Results& results, const Policies& policies) {
  if (results.sequential.empty()) return "";
  std::vector<Panel> panels;
  const auto add = [&](const char* label, const char* title, Value value, bool pages) {
    bool any = pages;  // a rate that is 0 throughout was not counted
    for (const SequentialResult& r : results.sequential) any = any || value(r) > 0;
    if (any) panels.push_back({label, CapacityPanel(results, policies, title, value, pages)});
  };
  add(
      "Pages", "Page hit rate", [](const SequentialResult& r) { return r.page_hit_rate(); }, true);
  add(
      "Tokens", "Token hit rate", [](const SequentialResult& r) { return r.token_hit_rate(); },
      false);
  add(
      "Prefill cost", "Share of the prefill cost saved",
      [](const SequentialResult& r) { return r.recompute_saved; }, false);
  std::string html = absl::StrCat(
      "<section>\n<h2>Sequential: hit rate</h2>\n",
      Paragraph("note",
                "Requests one after another, prompts only. A hit is a page of the longest "
                "beginning of the prompt that was in the cache."),
      Legend(policies, Shown(results), !results.belady.empty()),
      Picker("hits", "Counted in", panels, 0), "<h3>All numbers</h3>\n", Numbers(results));
  html += Paragraph(
      "note",
      "Page hits: pages found, of all asked for; bold is best at that size. vs lru: percentage "
      "points. Of the room: how much of the way from lru to Belady’s bound, the most that any "
      "policy could have at that size, knowing the future. Token hits: prompt tokens found. Cost "
      "saved: of the prefill cost, in which a token late in a prompt weighs more. Digest: "
      "FNV-1a-64 "
      "over the hits of each request; equal digests are equal hits throughout.");
  return html + LifetimesOf(results, policies) + "</section>\n";
}

}  // namespace replay
