#include "bench/replay/report_parts.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "bench/replay/charts.h"
#include "bench/replay/charts_svg.h"
#include "bench/replay/report_text.h"

namespace replay {

Policies::Policies(const Results& results) {
  const auto add = [this](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (const SequentialResult& r : results.sequential) add(r.policy);
  for (const ServingResult& r : results.serving) add(r.policy);
}

int Policies::StyleOf(std::string_view name) const {
  return static_cast<int>(std::find(names.begin(), names.end(), name) - names.begin());
}

std::string Table(const std::string& label, const std::vector<std::string>& columns,
                  const std::vector<Row>& rows) {
  std::string out =
      absl::StrCat("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"",
                   Escape(label), "\"><table>\n<thead><tr>");
  for (const std::string& column : columns) {
    absl::StrAppend(&out, "<th scope=\"col\">", Escape(column), "</th>");
  }
  out += "</tr></thead>\n<tbody>\n";
  for (const Row& row : rows) {
    out += row.first ? "<tr class=\"first\">" : "<tr>";
    for (size_t i = 0; i < row.html.size(); ++i) {
      absl::StrAppend(&out, i == 0 ? "<th scope=\"row\">" : "<td>", row.html[i],
                      i == 0 ? "</th>" : "</td>");
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string FoldedTable(const std::string& label, const std::vector<std::string>& columns,
                        const std::vector<Row>& rows) {
  return absl::StrCat("<details><summary>", Escape(label), "</summary>\n",
                      Table(label, columns, rows), "</details>\n");
}

std::string Figure(const std::string& title, const std::string& html, const std::string& note) {
  std::string out = absl::StrCat("<figure><figcaption><b>", Escape(title), "</b>");
  if (!note.empty()) absl::StrAppend(&out, " <span>", Escape(note), "</span>");
  return absl::StrCat(out, "</figcaption>\n", html, "</figure>\n");
}

std::string Paragraph(const std::string& html_class, std::string_view text) {
  return absl::StrCat("<p class=\"", html_class, "\">", Escape(text), "</p>\n");
}

std::string BothWidths(const std::string& wide_html, const std::string& narrow_html) {
  return absl::StrCat("<div class=\"wide\">", wide_html, "</div><div class=\"narrow\">",
                      narrow_html, "</div>\n");
}

std::string Picker(const std::string& id, const std::string& question,
                   const std::vector<Panel>& panels, size_t chosen) {
  if (panels.empty()) return "";
  if (panels.size() == 1) return panels[0].html;
  std::string out =
      absl::StrCat("<fieldset class=\"picker\"><legend>", Escape(question), "</legend>\n");
  for (size_t i = 0; i < panels.size(); ++i) {
    const std::string name = absl::StrCat(id, "-", i);
    absl::StrAppend(&out, "<input type=\"radio\" name=\"", id, "\" id=\"", name, "\"",
                    i == chosen ? " checked=\"checked\"" : "", "/><label for=\"", name, "\">",
                    Escape(panels[i].label), "</label>\n");
  }
  for (const Panel& panel : panels) {
    absl::StrAppend(&out, "<div class=\"panel\"><p class=\"on-paper\">", Escape(panel.label),
                    "</p>\n", panel.html, "</div>\n");
  }
  return out + "</fieldset>\n";
}

std::string Legend(const Policies& policies, const std::vector<std::string>& shown, bool bound) {
  std::string out = "<ul class=\"legend\">\n";
  for (const std::string& name : policies.names) {
    if (std::find(shown.begin(), shown.end(), name) == shown.end()) continue;
    const int style = policies.StyleOf(name);
    absl::StrAppend(&out, "<li class=\"k", style, "\">", Swatch(style), Escape(name), "</li>\n");
  }
  if (bound) absl::StrAppend(&out, "<li>", Swatch(kBound), "Belady’s bound</li>\n");
  return out + "</ul>\n";
}

LifetimeSummary Summarise(const Lifetimes& lifetimes) {
  LifetimeSummary summary;
  for (const int64_t n : lifetimes.bins) summary.evicted += n;
  int64_t below = 0;
  for (size_t b = 0; b < lifetimes.bins.size(); ++b) {
    const int64_t n = lifetimes.bins[b];
    if (n == 0) continue;
    below += n;
    summary.last_bin = static_cast<int>(b);
    if (summary.median_bin < 0 && 2 * below >= summary.evicted) {
      summary.median_bin = summary.last_bin;
    }
    summary.most =
        std::max(summary.most, static_cast<double>(n) / static_cast<double>(summary.evicted));
  }
  return summary;
}

std::string LifetimePanel(const Policies& policies, int32_t pages,
                          const std::vector<NamedLifetimes>& all) {
  HistogramChart chart;
  chart.most = 0;
  std::vector<std::string> columns = {"Requests"};
  for (const NamedLifetimes& one : all) {
    const LifetimeSummary summary = Summarise(*one.lifetimes);
    chart.bins = std::max({chart.bins, summary.last_bin + 1, 4});
    chart.most = std::max(chart.most, summary.most);
    columns.push_back(one.policy);
  }
  if (chart.most == 0) return "";
  std::string html = "<div class=\"multiples\">\n";
  for (const NamedLifetimes& one : all) {
    const LifetimeSummary summary = Summarise(*one.lifetimes);
    const std::string note =
        summary.evicted == 0 ? "nothing evicted"
                             : absl::StrCat(Count(summary.evicted), " evicted, half before ",
                                            Count(int64_t{2} << summary.median_bin), " requests");
    chart.label = absl::StrCat("Lifetimes of pages under ", one.policy, " with ", Count(pages),
                               " pages: ", note, ". The table below has the numbers.");
    chart.style = policies.StyleOf(one.policy);
    chart.lifetimes = one.lifetimes;
    html += Figure(one.policy, DrawHistogram(chart), note);
  }
  html += "</div>\n";
  std::vector<Row> rows;
  for (int b = 0; b < chart.bins; ++b) {
    Row row;
    row.html.push_back(
        absl::StrCat(Count(b == 0 ? 0 : int64_t{1} << b), "–", Count((int64_t{2} << b) - 1)));
    for (const NamedLifetimes& one : all) {
      row.html.push_back(Count(one.lifetimes->bins[static_cast<size_t>(b)]));
    }
    rows.push_back(row);
  }
  return html + FoldedTable(absl::StrCat("Evicted pages by lifetime, ", Count(pages), " pages"),
                            columns, rows);
}

}  // namespace replay
