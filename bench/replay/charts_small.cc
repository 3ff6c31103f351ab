// The small charts, drawn side by side for many policies: 320 units wide, which is a phone's width
// without margins, so that their text keeps its size there.

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/replay/charts.h"
#include "bench/replay/charts_svg.h"

namespace replay {
namespace {

constexpr double kWidth = 320;

int64_t Total(const Lifetimes& lifetimes) {
  int64_t total = 0;
  for (const int64_t n : lifetimes.bins) total += n;
  return total;
}

// Samples that fall on one unit of width, brought to one: areas by their mean, requests by their
// most, so that a spike of the queue is still seen.
struct Column {
  double seconds = 0, live = 0, cached = 0;
  double running = 0, waiting = 0;
};

std::vector<Column> ColumnsOf(const std::vector<Sample>& samples) {
  const size_t most = 270;
  const size_t per = (samples.size() + most - 1) / most;
  std::vector<Column> columns;
  for (size_t begin = 0; begin < samples.size(); begin += per) {
    const size_t end = std::min(samples.size(), begin + per);
    Column column{.seconds = samples[begin].seconds};
    for (size_t i = begin; i < end; ++i) {
      column.live += samples[i].pages_live;
      column.cached += samples[i].pages_cached;
      column.running = std::max<double>(column.running, samples[i].running);
      column.waiting = std::max<double>(column.waiting, samples[i].waiting);
    }
    column.live /= static_cast<double>(end - begin);
    column.cached /= static_cast<double>(end - begin);
    columns.push_back(column);
  }
  return columns;
}

// A path through value(column), or, with `floor`, the area between the two.
template <typename Value, typename Floor>
std::string Area(const std::string& classes, const std::vector<Column>& columns, const Scale& x,
                 const Scale& y, Value value, Floor floor, const std::string& title) {
  std::string d;
  for (const Column& c : columns) {
    absl::StrAppend(&d, d.empty() ? "M" : "L", Coordinate(x.At(c.seconds)), ",",
                    Coordinate(y.At(value(c))));
  }
  for (auto c = columns.rbegin(); c != columns.rend(); ++c) {
    absl::StrAppend(&d, "L", Coordinate(x.At(c->seconds)), ",", Coordinate(y.At(floor(*c))));
  }
  return absl::StrCat("<path class=\"", classes, "\" d=\"", d, "Z\">", Title(title), "</path>\n");
}

template <typename Value>
std::string Curve(const std::string& classes, const std::vector<Column>& columns, const Scale& x,
                  const Scale& y, Value value) {
  std::string d;
  for (const Column& c : columns) {
    absl::StrAppend(&d, d.empty() ? "M" : "L", Coordinate(x.At(c.seconds)), ",",
                    Coordinate(y.At(value(c))));
  }
  return absl::StrCat("<path class=\"", classes, "\" d=\"", d, "\"/>\n");
}

// Ticks at round seconds, minutes or hours.
std::string TimeAxis(const Scale& x, double y) {
  const double unit = x.high >= 2 * 3600 ? 3600 : x.high >= 120 ? 60 : 1;
  const char* name = unit == 3600 ? "hours" : unit == 60 ? "minutes" : "seconds";
  std::string out;
  for (const double tick : Ticks(x.low / unit, x.high / unit, 6)) {
    const double at = x.At(tick * unit);
    out += Line("axis", at, y, at, y + 4);
    if (at < x.to - 66) out += Text("tick", at, y + 16, "middle", Short(tick));
  }
  return out + Text("title", x.to, y + 16, "end", name);
}

}  // namespace

std::string DrawHistogram(const HistogramChart& chart) {
  const double height = 150;
  const double left = 40, right = kWidth - 6, top = 10, bottom = height - 36;
  const Scale y{0, chart.most, bottom, top, false};
  std::string out = SvgBegin(kWidth, height, chart.label);
  for (const double tick : Ticks(0, chart.most, 4)) {
    out += Line(tick == 0 ? "axis" : "grid", left, y.At(tick), right, y.At(tick));
    out += Text("tick", left - 6, y.At(tick) + 4, "end", FormatTick(Unit::kShare, tick));
  }
  const auto total = static_cast<double>(std::max<int64_t>(1, Total(*chart.lifetimes)));
  const double slot = (right - left) / chart.bins;
  const int each = chart.bins > 18 ? 3 : chart.bins > 9 ? 2 : 1;  // how many bins share a label
  absl::StrAppend(&out, "<g class=\"policy ", StyleClass(chart.style), "\">\n");
  for (int b = 0; b < chart.bins; ++b) {
    const int64_t low = b == 0 ? 0 : int64_t{1} << b;
    const int64_t high = (int64_t{2} << b) - 1;
    const int64_t n = chart.lifetimes->bins[static_cast<size_t>(b)];
    const double share = static_cast<double>(n) / total;
    absl::StrAppend(&out, "<g>",
                    Title(absl::StrCat(Count(low), " to ", Count(high), " requests: ", Count(n),
                                       " pages (", Percent(share, 1), ")")));
    out += Rect("catch", left + b * slot, top, slot, bottom - top);
    out += Rect("bar", left + b * slot + 1, y.At(share), slot - 2, bottom - y.At(share)) + "</g>\n";
    if (b % each == 0) {
      out += Text("tick", left + b * slot + slot / 2, bottom + 15, "middle",
                  low < 10000 ? Count(low) : Short(static_cast<double>(low)));
    }
  }
  out += "</g>";
  out +=
      Text("title", (left + right) / 2, bottom + 32, "middle", "requests from written to evicted");
  return out + "</svg>\n";
}

std::string DrawPool(const PoolChart& chart) {
  const std::vector<Column> columns = ColumnsOf(*chart.samples);
  const double left = 44, right = kWidth - 6;
  const double end = columns.back().seconds;
  const Scale x{0, end > 0 ? end : 1, left, right, false};
  const Scale y{0, static_cast<double>(std::max(1, chart.pages)), 130, 10, false};
  const Scale q{0, static_cast<double>(std::max(1, chart.most_requests)), 186, 146, false};
  const auto zero = [](const Column&) { return 0.0; };
  const auto live = [](const Column& c) { return c.live; };
  const auto used = [](const Column& c) { return c.live + c.cached; };
  const auto all = [&](const Column&) { return static_cast<double>(chart.pages); };
  std::string out = SvgBegin(kWidth, 210, chart.label);
  out += Area("free", columns, x, y, all, used, "free");
  out += Area("cached", columns, x, y, used, live, "cached: found again if asked for");
  out += Area("live", columns, x, y, live, zero, "live: held by running requests");
  for (const double tick : Ticks(y.low, y.high, 5)) {
    out += Line(tick == 0 ? "axis" : "grid", left, y.At(tick), right, y.At(tick));
    out += Text("tick", left - 6, y.At(tick) + 4, "end", Short(tick));
  }
  for (const double tick : Ticks(q.low, q.high, 2)) {
    out += Line(tick == 0 ? "axis" : "grid", left, q.At(tick), right, q.At(tick));
    out += Text("tick", left - 6, q.At(tick) + 4, "end", Short(tick));
  }
  out += Curve("waiting", columns, x, q, [](const Column& c) { return c.waiting; });
  out += Curve("running", columns, x, q, [](const Column& c) { return c.running; });
  return out + TimeAxis(x, 186) + "</svg>\n";
}

std::string DrawRanges(const RangeChart& chart, double width) {
  const double row = 42, top = 6;
  const double bottom = top + row * static_cast<double>(chart.rows.size()) + 2;
  const double left = 10, right = width - 10;
  // Where the slowest is far from the fastest, a linear axis would press the fast ones together.
  const bool log = chart.low > 0 && chart.high / chart.low > 8;
  const Scale x{log ? chart.low : 0, chart.high > 0 ? chart.high : 1, left, right, log};
  std::string out = SvgBegin(width, bottom + 38, chart.label);
  double free_from = 0;
  for (const double tick : log ? LogTicks(x.low, x.high) : Ticks(x.low, x.high, 5)) {
    const std::string text = FormatTick(Unit::kMilliseconds, tick);
    const double half = TextWidth(text) / 2;
    const double centre = std::clamp(x.At(tick), half, width - half);
    out += Line("grid", x.At(tick), top, x.At(tick), bottom);
    if (centre - half < free_from) continue;
    out += Text("tick", centre, bottom + 15, "middle", text);
    free_from = centre + half + 6;
  }
  double y = top;
  for (const RangeRow& r : chart.rows) {
    const Percentiles& p = r.ms;
    const std::string values =
        p.count == 0 ? "none" : absl::StrCat(Milliseconds(p.p50), " · ", Milliseconds(p.p99));
    absl::StrAppend(
        &out, "<g class=\"policy ", StyleClass(r.style), "\">",
        Title(absl::StrCat(r.name, ": p50 ", Milliseconds(p.p50), ", p90 ", Milliseconds(p.p90),
                           ", p95 ", Milliseconds(p.p95), ", p99 ", Milliseconds(p.p99))));
    out += Rect("catch", 0, y, width, row);
    out += Text("name", left - 6, y + 14, "start", r.name);
    out += Text("value", right + 6, y + 14, "end", values);
    if (p.count > 0) {
      const double at = y + 28;
      out += Line("range", x.At(p.p50), at, x.At(p.p99), at);
      out += Marker(0, x.At(p.p50), at, 5) + Marker(3, x.At(p.p90), at, 3.5) +
             Marker(1, x.At(p.p95), at, 3.2) + Marker(6, x.At(p.p99), at, 6);
    }
    out += "</g>\n";
    y += row;
  }
  out += Line("axis", left, bottom, right, bottom);
  out += Text("title", width / 2, bottom + 32, "middle", log ? "log scale" : "linear scale");
  return out + "</svg>\n";
}

}  // namespace replay
