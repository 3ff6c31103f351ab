#include "bench/replay/charts.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "bench/replay/charts_svg.h"

namespace replay {
namespace {

// Room that the axes' texts need; the rest is the plot.
struct Plot {
  double left, right, top, bottom;
};

struct Extent {
  double low = 0, high = 0;
};

std::vector<double> SizesOf(const LineChart& chart) {
  std::vector<double> sizes;
  for (const Series& series : chart.series) {
    for (const auto& [size, unused] : series.points) sizes.push_back(size);
  }
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

Extent ValuesOf(const LineChart& chart) {
  Extent extent;
  for (const Series& series : chart.series) {
    for (const auto& [unused, v] : series.points) {
      if (!std::isfinite(v)) continue;
      extent.low = std::min(extent.low, v);
      extent.high = std::max(extent.high, v);
    }
  }
  if (chart.level) extent.high = std::max(extent.high, *chart.level);
  if (extent.low == extent.high) extent.high = extent.low + 1;  // all 0: an axis must have a length
  return extent;
}

const double* At(const Series& series, double size) {
  for (const auto& point : series.points) {
    if (point.first == size) return &point.second;
  }
  return nullptr;
}

std::string YAxis(const LineChart& chart, const Plot& plot, const Scale& y, int ticks) {
  std::string out;
  for (const double tick : Ticks(y.low, y.high, ticks)) {
    const double at = y.At(tick);
    out += Line(tick == 0 ? "axis" : "grid", plot.left, at, plot.right, at);
    out += Text("tick", plot.left - 8, at + 4, "end", FormatTick(chart.unit, tick));
  }
  return out;
}

// A tick at each size, with its number where there is room: first at the ends, then from the left.
std::string XAxis(const std::vector<double>& sizes, const Plot& plot, const Scale& x) {
  std::string out;
  std::vector<std::pair<double, double>> taken;
  const auto label = [&](size_t i) {
    const std::string text = Count(std::llround(sizes[i]));
    const double half = TextWidth(text) / 2;
    const double centre = std::min(x.At(sizes[i]), plot.right + 12 - half);
    for (const auto& [begin, end] : taken) {
      if (centre - half - 4 < end && centre + half + 4 > begin) return;
    }
    taken.emplace_back(centre - half, centre + half);
    out += Text("tick", centre, plot.bottom + 19, "middle", text);
  };
  for (const double size : sizes) {
    out += Line("axis", x.At(size), plot.bottom, x.At(size), plot.bottom + 5);
  }
  label(sizes.size() - 1);
  for (size_t i = 0; i + 1 < sizes.size(); ++i) label(i);
  out += Text("title", (plot.left + plot.right) / 2, plot.bottom + 38, "middle",
              x.log ? "pages in the cache (log scale)" : "pages in the cache");
  return out;
}

std::string DrawSeries(const Series& series, const Scale& x, const Scale& y) {
  std::string d, marks;
  for (const auto& [size, v] : series.points) {
    if (!std::isfinite(v)) continue;
    absl::StrAppend(&d, d.empty() ? "M" : "L", Coordinate(x.At(size)), ",", Coordinate(y.At(v)));
    marks += Marker(series.style, x.At(size), y.At(v), 4);
  }
  return absl::StrCat("<g class=\"policy ", StyleClass(series.style), "\"><path class=\"series d",
                      series.style == kBound ? 9 : series.style % kColours, "\" d=\"", d, "\"/>\n",
                      marks, "</g>\n");
}

// What all series say at one size, largest first: shown while the pointer is near that size.
std::string Readout(const LineChart& chart, double size, const Plot& plot, const Scale& x) {
  std::vector<std::pair<double, const Series*>> rows;
  double name_width = TextWidth("pages") + 40;
  for (const Series& series : chart.series) {
    const double* v = At(series, size);
    if (v == nullptr) continue;
    rows.emplace_back(*v, &series);
    name_width = std::max(name_width, TextWidth(series.name));
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  const double width = name_width + 96;
  const double height = 28 + 17 * static_cast<double>(rows.size());
  const double at = x.At(size);
  const bool on_right = at < (plot.left + plot.right) / 2;
  const double left =
      std::clamp(on_right ? at + 12 : at - 12 - width, 2.0, std::max(2.0, plot.right + 10 - width));
  std::string out = "<g class=\"tip\">";
  out += Line("cross", at, plot.top, at, plot.bottom);
  out += Rect("box", left, plot.top, width, height);
  out += Text("strong", left + 10, plot.top + 18, "start",
              absl::StrCat(Count(std::llround(size)), " pages"));
  double row = plot.top + 36;
  for (const auto& [v, series] : rows) {
    absl::StrAppend(&out, "<g class=\"", StyleClass(series->style), "\">",
                    Marker(series->style, left + 14, row - 4, 3.5), "</g>");
    out += Text("tip-text", left + 26, row, "start", series->name);
    out += Text("tip-text", left + width - 10, row, "end", Format(chart.unit, v));
    row += 17;
  }
  return out + "</g>";
}

// A strip for each size, from half way to its neighbours: the pointer's catch for the readout.
std::string Readouts(const LineChart& chart, const std::vector<double>& sizes, const Plot& plot,
                     const Scale& x) {
  std::string out;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const double at = x.At(sizes[i]);
    const double begin = i == 0 ? plot.left : (x.At(sizes[i - 1]) + at) / 2;
    const double end = i + 1 == sizes.size() ? plot.right : (x.At(sizes[i + 1]) + at) / 2;
    out += "<g class=\"stop\">";
    out += Rect("catch", begin, plot.top, end - begin, plot.bottom - plot.top);
    out += Readout(chart, sizes[i], plot, x) + "</g>\n";
  }
  return out;
}

// One size: a bar for each series, its name above it, its value at its end.
std::string DrawBars(const LineChart& chart, double width) {
  const double top = chart.level ? 26 : 6;
  const double row = 40;
  const double height = top + row * static_cast<double>(chart.series.size()) + 4;
  const Extent extent = ValuesOf(chart);
  const double room = TextWidth("100,000,000") + 8;
  const Scale x{extent.low, extent.high, 2, width - room, false};
  std::string out = SvgBegin(width, height, chart.label);
  double y = top;
  for (const Series& series : chart.series) {
    if (series.points.empty()) continue;
    const double v = series.points.front().second;
    const double begin = std::min(x.At(0), x.At(v));
    const double end = std::max(x.At(0), x.At(v));
    absl::StrAppend(&out, "<g class=\"policy ", StyleClass(series.style), "\">",
                    Title(absl::StrCat(series.name, ": ", Format(chart.unit, v))),
                    Marker(series.style, 7, y + 9, 4));
    out += Text("name", 18, y + 13, "start", series.name);
    out += Rect("bar", begin, y + 19, end - begin, 12);
    out += Text("value", end + 7, y + 30, "start", Format(chart.unit, v)) + "</g>\n";
    y += row;
  }
  if (extent.low < 0) out += Line("axis", x.At(0), top, x.At(0), height - 4);
  if (chart.level) {
    const double at = x.At(*chart.level);
    out += Line("level", at, 20, at, height - 4);
    out += Text("tick", at + 6, 14, at > width / 2 ? "end" : "start", chart.level_name);
  }
  return out + "</svg>\n";
}

}  // namespace

double Scale::At(double v) const {
  if (!(high > low) || !std::isfinite(v)) return from;
  const double inside = std::clamp(v, low, high);
  const double share =
      log ? std::log(inside / low) / std::log(high / low) : (inside - low) / (high - low);
  return from + share * (to - from);
}

std::vector<double> Ticks(double low, double high, int most) {
  if (!(high > low) || !std::isfinite(high - low) || most < 1) return {low};
  const double magnitude = std::pow(10, std::floor(std::log10((high - low) / most)));
  for (const double factor : {1.0, 2.0, 5.0, 10.0, 20.0, 50.0}) {
    const double step = factor * magnitude;
    const double first = std::ceil(low / step - 1e-9);
    const double last = std::floor(high / step + 1e-9);
    if (last - first + 1 > most) continue;
    std::vector<double> ticks;
    for (double i = first; i <= last; ++i) ticks.push_back(i * step + 0.0);  // + 0: never -0
    return ticks;
  }
  return {low};
}

std::vector<double> LogTicks(double low, double high) {
  if (!(high > low) || !(low > 0) || !std::isfinite(high)) return {low};
  const bool few = high / low < 500;
  std::vector<double> ticks;
  for (double power = std::pow(10, std::floor(std::log10(low))); power <= high; power *= 10) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && !few) break;
      const double tick = factor * power;
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push_back(tick);
    }
  }
  return ticks;
}

std::string DrawLines(const LineChart& chart, double width, double height) {
  const std::vector<double> sizes = SizesOf(chart);
  if (sizes.size() < 2) return DrawBars(chart, width);
  const Plot plot{52, width - 14, 14, height - 46};
  const Extent extent = ValuesOf(chart);
  const double room = (extent.high - extent.low) * 0.06;  // above the highest line
  const Scale y{extent.low < 0 ? extent.low - room : 0, extent.high + room, plot.bottom, plot.top,
                false};
  const Scale x{sizes.front(), sizes.back(), plot.left + 14, plot.right - 8,
                sizes.front() > 0 && sizes.back() / sizes.front() > 8};
  std::string out = SvgBegin(width, height, chart.label);
  out += YAxis(chart, plot, y, 7) + XAxis(sizes, plot, x);
  if (chart.level) {
    out += Line("level", plot.left, y.At(*chart.level), plot.right, y.At(*chart.level));
    out += Text("level-name", plot.left + 6, y.At(*chart.level) - 5, "start", chart.level_name);
  }
  for (const Series& series : chart.series) out += DrawSeries(series, x, y);
  out += Readouts(chart, sizes, plot, x);
  return out + "</svg>\n";
}

}  // namespace replay
