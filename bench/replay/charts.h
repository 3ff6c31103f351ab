// Charts as inline SVG, pure functions of their data. Every mark has absolute coordinates (no
// transforms), so that a test can hold it against the viewBox. Colours are the style sheet's, by
// class: s<n> is policy n, and each policy has a colour, a dash and a marker of its own, so that
// nothing hangs on colour alone.

#ifndef QUIRE_BENCH_REPLAY_CHARTS_H_
#define QUIRE_BENCH_REPLAY_CHARTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench/replay/report_text.h"
#include "bench/replay/result.h"

namespace replay {

constexpr int kColours = 8;  // the style sheet's; a ninth policy has the first colour again, with
                             // another marker
constexpr int kBound = -1;   // style of what is no policy: Belady's line

// From [low, high] to [from, to]; with `log`, both low and high are > 0.
struct Scale {
  double low = 0, high = 1, from = 0, to = 1;
  bool log = false;

  // Outside values are brought to the nearest end: a mark never leaves its chart.
  double At(double v) const;
};

// Round numbers (1, 2 or 5 times a power of ten) in [low, high], `most` of them or fewer.
std::vector<double> Ticks(double low, double high, int most);
// Powers of ten, and where there are few of them 1, 2 and 5 times those.
std::vector<double> LogTicks(double low, double high);

// A marker as an SVG element, and the legend's picture of a line with it.
std::string Marker(int style, double x, double y, double radius);
std::string Swatch(int style);

struct Series {
  std::string name;
  int style = 0;
  std::vector<std::pair<double, double>> points;  // ascending in x
};

// Something against the number of pages.
struct LineChart {
  std::string label = {};  // the text alternative
  Unit unit = Unit::kShare;
  std::vector<Series> series = {};
  std::optional<double> level = std::nullopt;  // a horizontal line
  std::string level_name = {};
};

// The x axis is logarithmic where the sizes span more than eight times. With one size only, bars.
std::string DrawLines(const LineChart& chart, double width, double height);

// Lifetimes as shares of all of them. `bins`: how many are drawn; `most`: the y axis' end.
struct HistogramChart {
  std::string label = {};
  int style = 0;
  const Lifetimes* lifetimes = nullptr;
  int bins = 1;
  double most = 1;
};
std::string DrawHistogram(const HistogramChart& chart);

// Live, cached and free pages over time, stacked; below, requests running and waiting.
struct PoolChart {
  std::string label = {};
  int32_t pages = 0;
  int32_t most_requests = 1;  // end of the lower y axis
  const std::vector<Sample>* samples = nullptr;
};
std::string DrawPool(const PoolChart& chart);

// Percentiles as marks on a line, a row each.
struct RangeRow {
  std::string name;
  int style = 0;
  Percentiles ms = {};
};
struct RangeChart {
  std::string label = {};
  double low = 0, high = 1;  // of all that shall be compared
  std::vector<RangeRow> rows = {};
};
std::string DrawRanges(const RangeChart& chart, double width);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_CHARTS_H_
