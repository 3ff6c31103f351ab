// Requests at their times, batched: what they waited for, and where the pages were.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/replay/charts.h"
#include "bench/replay/report_parts.h"
#include "bench/replay/report_text.h"

namespace replay {
namespace {

using Value = double (*)(const ServingResult&);
using Times = const Percentiles& (*)(const ServingResult&);

std::vector<std::string> Shown(const Results& results) {
  std::vector<std::string> shown;
  for (const ServingResult& r : results.serving) shown.push_back(r.policy);
  return shown;
}

std::string SizeLabel(int32_t pages) { return absl::StrCat(Count(pages), " pages"); }

std::string CapacityChart(const Results& results, const Policies& policies,
                          const std::string& title, Unit unit, Value value) {
  LineChart chart{.label = absl::StrCat(title,
                                        " against the number of pages, a line for each "
                                        "policy. The table below has the numbers."),
                  .unit = unit};
  for (const std::string& policy : policies.names) {
    Series series{policy, policies.StyleOf(policy), {}};
    for (const ServingResult* r : BySize(results.serving)) {
      if (r->policy == policy) series.points.emplace_back(r->pages, value(*r));
    }
    if (!series.points.empty()) chart.series.push_back(series);
  }
  return Figure(title, BothWidths(DrawLines(chart, 820, 340), DrawLines(chart, 340, 280)));
}

std::string AgainstCapacity(const Results& results, const Policies& policies) {
  std::vector<Panel> panels;
  const auto add = [&](const char* label, const char* title, Unit unit, Value value) {
    bool any = false;
    for (const ServingResult& r : results.serving) any = any || value(r) > 0;
    if (any) panels.push_back({label, CapacityChart(results, policies, title, unit, value)});
  };
  add("Token hits", "Token hit rate", Unit::kShare,
      [](const ServingResult& r) { return r.hit_rate(); });
  add("Tokens/s", "Output tokens a second, simulated", Unit::kCount,
      [](const ServingResult& r) { return r.tokens_per_second; });
  add("First token, p99", "Time to first token, 99th percentile", Unit::kMilliseconds,
      [](const ServingResult& r) { return r.first_token_ms.p99; });
  add("Preemptions", "Preemptions", Unit::kCount,
      [](const ServingResult& r) { return static_cast<double>(r.preemptions); });
  add("Evictions", "Pages evicted", Unit::kCount,
      [](const ServingResult& r) { return static_cast<double>(r.evictions); });
  return Picker("serve", "Shown", panels, 0);
}

std::string TimesChart(const Results& results, const Policies& policies, const std::string& title,
                       const std::string& note, int32_t pages, Times times) {
  RangeChart chart{.low = 0, .high = 0};
  bool any = false;
  for (const ServingResult& r : results.serving) {
    // The axis is that of all sizes, so that switching between them shows the difference.
    const Percentiles& p = times(r);
    if (p.count > 0 && p.p50 > 0) chart.low = chart.low > 0 ? std::min(chart.low, p.p50) : p.p50;
    if (p.count > 0 && std::isfinite(p.p99)) chart.high = std::max(chart.high, p.p99);
    if (r.pages != pages) continue;
    any = any || p.count > 0;
    chart.rows.push_back({r.policy, policies.StyleOf(r.policy), p});
  }
  if (!any) return "";
  chart.label = absl::StrCat(title, " with ", Count(pages),
                             " pages: percentiles of each policy. "
                             "The table below has the numbers.");
  return Figure(title, BothWidths(DrawRanges(chart, 500), DrawRanges(chart, 320)), note);
}

struct Timing {
  const char* title;
  const char* note;
  Times times;
};
const Timing kTimings[] = {
    {"Time to first token", "from arrival",
     [](const ServingResult& r) -> const Percentiles& { return r.first_token_ms; }},
    {"Time between tokens", "a request’s mean",
     [](const ServingResult& r) -> const Percentiles& { return r.between_tokens_ms; }},
    {"End to end", "from arrival to last token",
     [](const ServingResult& r) -> const Percentiles& { return r.end_to_end_ms; }},
};

// The manager's times are in microseconds, the charts' in milliseconds.
Percentiles InMilliseconds(Percentiles us) {
  for (double* v : {&us.mean, &us.p50, &us.p90, &us.p95, &us.p99, &us.most}) *v /= 1e3;
  return us;
}

std::string ManagerChart(const Results& results, const Policies& policies, int32_t pages) {
  Results copy;
  for (const ServingResult& r : results.serving) {
    ServingResult one;
    one.policy = r.policy;
    one.pages = r.pages;
    one.first_token_ms = InMilliseconds(r.manager_us);
    copy.serving.push_back(one);
  }
  return TimesChart(copy, policies, "Manager’s processor time a step", "measured, not simulated",
                    pages, kTimings[0].times);
}

std::string TimesTable(const Results& results, int32_t pages) {
  std::vector<Row> rows;
  const auto add = [&](const ServingResult& r, bool first, const char* what, const Percentiles& p) {
    Row row{first, {Escape(r.policy), Escape(what), Count(p.count)}};
    for (const double v : {p.mean, p.p50, p.p90, p.p95, p.p99, p.most}) {
      row.html.push_back(p.count > 0 ? Milliseconds(v) : "–");
    }
    rows.push_back(row);
  };
  for (const ServingResult& r : results.serving) {
    if (r.pages != pages) continue;
    for (const Timing& t : kTimings) add(r, &t == kTimings, t.title, t.times(r));
    add(r, false, "Manager a step", InMilliseconds(r.manager_us));
  }
  return FoldedTable(absl::StrCat("Percentiles, ", SizeLabel(pages)),
                     {"Policy", "Of", "Count", "Mean", "p50", "p90", "p95", "p99", "Most"}, rows);
}

std::string Latencies(const Results& results, const Policies& policies) {
  std::vector<Panel> panels;
  for (const int32_t size : SizesOf(results.serving)) {
    std::string charts;
    for (const Timing& t : kTimings) {
      charts += TimesChart(results, policies, t.title, t.note, size, t.times);
    }
    charts += ManagerChart(results, policies, size);
    if (charts.empty()) continue;
    panels.push_back({SizeLabel(size), absl::StrCat("<div class=\"pair\">\n", charts, "</div>\n",
                                                    TimesTable(results, size))});
  }
  if (panels.empty()) return "";
  const auto key = [](int shape, const char* text) {
    return absl::StrCat("<li><svg class=\"dot c0\" viewBox=\"0 0 14 14\" aria-hidden=\"true\">",
                        Marker(shape, 7, 7,
                               shape == 0   ? 5
                               : shape == 6 ? 6
                                            : 4),
                        "</svg>", text, "</li>");
  };
  return absl::StrCat(
      "<h3>How long requests took</h3>\n", Paragraph("note", "Written at the right: p50 and p99."),
      "<ul class=\"legend plain\">", key(0, "p50"), key(3, "p90"), key(1, "p95"), key(6, "p99"),
      "</ul>\n", Picker("times", "Cache size", panels, panels.size() / 2));
}

Row PoolRow(const ServingResult& r) {
  double live = 0, cached = 0, free = 0;
  int32_t most_live = 0, most_running = 0, most_waiting = 0;
  for (const Sample& s : r.samples) {
    live += s.pages_live;
    cached += s.pages_cached;
    free += s.pages_free;
    most_live = std::max(most_live, s.pages_live);
    most_running = std::max(most_running, s.running);
    most_waiting = std::max(most_waiting, s.waiting);
  }
  const auto share = [&](double sum) {
    const double all = static_cast<double>(r.samples.size()) * std::max(1, r.pages);
    return r.samples.empty() ? std::string("–") : Percent(sum / all, 1);
  };
  return {false,
          {Escape(r.policy), share(live), Count(most_live), share(cached), share(free),
           Count(most_running), Count(most_waiting)}};
}

std::string PagesOverTime(const Results& results, const Policies& policies) {
  std::vector<Panel> panels;
  int32_t most_requests = 1;
  for (const ServingResult& r : results.serving) {
    for (const Sample& s : r.samples) {
      most_requests = std::max({most_requests, s.running, s.waiting});
    }
  }
  for (const int32_t size : SizesOf(results.serving)) {
    std::string charts;
    std::vector<Row> rows;
    for (const ServingResult& r : results.serving) {
      if (r.pages != size || r.samples.empty()) continue;
      const int style = policies.StyleOf(r.policy);
      PoolChart chart{absl::StrCat("Pages live, cached and free over time under ", r.policy,
                                   " with ", Count(size),
                                   " pages, and requests running and waiting. The table below has "
                                   "means."),
                      size, most_requests, &r.samples};
      absl::StrAppend(&charts, "<div class=\"policy ", "s", style, "\">",
                      Figure(r.policy, DrawPool(chart)), "</div>\n");
      rows.push_back(PoolRow(r));
    }
    if (charts.empty()) continue;
    panels.push_back({SizeLabel(size),
                      absl::StrCat("<div class=\"multiples\">\n", charts, "</div>\n",
                                   FoldedTable(absl::StrCat("Means over time, ", SizeLabel(size)),
                                               {"Policy", "Live", "Most live", "Cached", "Free",
                                                "Most running", "Most waiting"},
                                               rows))});
  }
  if (panels.empty()) return "";
  return absl::StrCat(
      "<h3>Pages over time</h3>\n",
      Paragraph("note",
                "Above: all pages, stacked. Below: requests, the most in each interval. "
                "Time is simulated."),
      "<ul class=\"legend plain\"><li><i class=\"key free\"></i>free</li>"
      "<li><i class=\"key cached\"></i>cached</li><li><i class=\"key live\"></i>live</li>"
      "<li><i class=\"key running\"></i>running</li><li><i class=\"key waiting\"></i>waiting</li>"
      "</ul>\n",
      Picker("pool", "Cache size", panels, panels.size() / 2));
}

std::string LifetimesOf(const Results& results, const Policies& policies) {
  std::vector<Panel> panels;
  for (const int32_t size : SizesOf(results.serving)) {
    std::vector<NamedLifetimes> all;
    for (const ServingResult& r : results.serving) {
      if (r.pages == size) all.push_back({r.policy, &r.lifetimes});
    }
    std::string html = LifetimePanel(policies, size, all);
    if (!html.empty()) panels.push_back({SizeLabel(size), std::move(html)});
  }
  if (panels.empty()) return "";
  return absl::StrCat("<h3>How long pages stayed</h3>\n",
                      Paragraph("note",
                                "Requests from when a page was written until its memory "
                                "was given to another."),
                      Picker("serve-life", "Cache size", panels, panels.size() / 2));
}

std::string Numbers(const Results& results) {
  std::vector<Row> rows;
  int32_t size = -1;
  for (const ServingResult* r : BySize(results.serving)) {
    rows.push_back(
        {r->pages != size,
         {Escape(r->policy), Count(r->pages), Percent(r->hit_rate()), Count(r->requests),
          Count(r->refused), Format(Unit::kCount, r->tokens_per_second),
          Format(Unit::kCount, r->requests_per_second), Milliseconds(r->first_token_ms.p50),
          Milliseconds(r->first_token_ms.p99), Count(r->preemptions), Count(r->recomputed_tokens),
          Count(r->rehit_tokens), Count(r->evictions), Percent(r->fragmentation, 1),
          Count(r->steps), Milliseconds(r->seconds * 1e3), Milliseconds(r->manager_us.mean / 1e3),
          Milliseconds(r->manager_seconds * 1e3)}});
    size = r->pages;
  }
  return Table("All numbers of serving",
               {"Policy", "Pages", "Token hits", "Requests", "Refused", "Tokens/s", "Requests/s",
                "First token p50", "p99", "Preemptions", "Recomputed", "Found again", "Evictions",
                "Fragmentation", "Steps", "Simulated", "Manager a step", "In all"},
               rows);
}

}  // namespace

std::string ServingSection(const Results& results, const Policies& policies) {
  if (results.serving.empty()) return "";
  std::string html = absl::StrCat(
      "<section>\n<h2>Serving: requests at their times</h2>\n",
      Paragraph("note",
                "Requests arrive as in the trace and are batched. Times are simulated by "
                "the cost model; only the manager’s processor time is measured."));
  if (!results.cost_model.empty()) {
    html += absl::StrCat("<p class=\"model\"><b>Cost model.</b> ", Escape(results.cost_model),
                         "</p>\n");
  }
  html += absl::StrCat(Legend(policies, Shown(results), false), AgainstCapacity(results, policies),
                       Latencies(results, policies), PagesOverTime(results, policies),
                       "<h3>All numbers</h3>\n", Numbers(results));
  html += Paragraph(
      "note",
      "Token hits: prompt tokens found when a request was first admitted, of all. Refused: could "
      "never fit. Recomputed: tokens computed before and lost by preemption. Found again: tokens "
      "found on the way back in after preemption, which are in no hit rate. Fragmentation: share "
      "of "
      "the slots of live pages that hold no token. Manager: real processor time in its calls, as a "
      "mean and in all.");
  return html + LifetimesOf(results, policies) + "</section>\n";
}

}  // namespace replay
