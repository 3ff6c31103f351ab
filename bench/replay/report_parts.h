// What the sections of the report are put together from. Strings named html are markup; all others
// are plain text and escaped where they are written.

#ifndef QUIRE_BENCH_REPLAY_REPORT_PARTS_H_
#define QUIRE_BENCH_REPLAY_REPORT_PARTS_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bench/replay/result.h"

namespace replay {

// The policies of a run, in the order in which they first appear: a policy's place is its style in
// all charts.
struct Policies {
  std::vector<std::string> names;

  explicit Policies(const Results& results);
  int StyleOf(std::string_view name) const;
};

template <typename Result>
std::vector<int32_t> SizesOf(const std::vector<Result>& all) {
  std::vector<int32_t> sizes;
  for (const Result& r : all) sizes.push_back(r.pages);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

// By size, and within one in the order of the run.
template <typename Result>
std::vector<const Result*> BySize(const std::vector<Result>& all) {
  std::vector<const Result*> sorted;
  for (const Result& r : all) sorted.push_back(&r);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Result* a, const Result* b) { return a->pages < b->pages; });
  return sorted;
}

// Null where the run has none such.
template <typename Result>
const Result* Find(const std::vector<Result>& all, const std::string& policy, int32_t pages) {
  for (const Result& r : all) {
    if (r.policy == policy && r.pages == pages) return &r;
  }
  return nullptr;
}

struct Row {
  bool first = false;             // of a group: a line above
  std::vector<std::string> html;  // the first is the row's heading
};

// In a box of its own that scrolls sideways: on a phone a wide table must not widen the page.
std::string Table(const std::string& label, const std::vector<std::string>& columns,
                  const std::vector<Row>& rows);
// The same, folded: the numbers behind charts.
std::string FoldedTable(const std::string& label, const std::vector<std::string>& columns,
                        const std::vector<Row>& rows);

std::string Figure(const std::string& title, const std::string& html, const std::string& note = "");
std::string Paragraph(const std::string& html_class, std::string_view text);

// Text in a drawing shrinks with it, so a phone gets a drawing of its own.
std::string BothWidths(const std::string& wide_html, const std::string& narrow_html);

// Alternatives of which one is seen: radio buttons and a style sheet, no script. One panel alone
// has no buttons. On paper: the one that was chosen, under its name.
struct Panel {
  std::string label;
  std::string html;
};
constexpr size_t kMaxPanels = 64;  // that the style sheet knows; later ones are always seen
std::string Picker(const std::string& id, const std::string& question,
                   const std::vector<Panel>& panels, size_t chosen);

std::string Legend(const Policies& policies, const std::vector<std::string>& shown, bool bound);

// All that were evicted, and the bin that holds the half-th of them; bin -1 where none was.
struct LifetimeSummary {
  int64_t evicted = 0;
  int median_bin = -1;
  int last_bin = -1;  // the highest that is not empty
  double most = 0;    // the largest bin's share
};
LifetimeSummary Summarise(const Lifetimes& lifetimes);

// Histograms of one size, a policy each, on the same axes. Empty if nothing was evicted.
struct NamedLifetimes {
  std::string policy;
  const Lifetimes* lifetimes = nullptr;
};
std::string LifetimePanel(const Policies& policies, int32_t pages,
                          const std::vector<NamedLifetimes>& all);

// One sentence each, as HTML.
std::vector<std::string> SequentialFindings(const Results& results);
std::vector<std::string> ServingFindings(const Results& results);

std::string SequentialSection(const Results& results, const Policies& policies);
std::string ServingSection(const Results& results, const Policies& policies);

std::string StyleSheet(size_t policies);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_REPORT_PARTS_H_
