#include "bench/replay/charts_svg.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "bench/replay/charts.h"
#include "bench/replay/report_text.h"

namespace replay {
namespace {

std::string C(double v) { return Coordinate(v); }

}  // namespace

std::string SvgBegin(double width, double height, const std::string& label) {
  return absl::StrCat("<svg viewBox=\"0 0 ", C(width), " ", C(height),
                      "\" role=\"img\" aria-label=\"", Escape(label), "\">\n");
}

std::string Line(const std::string& classes, double x1, double y1, double x2, double y2) {
  return absl::StrCat("<line class=\"", classes, "\" x1=\"", C(x1), "\" y1=\"", C(y1), "\" x2=\"",
                      C(x2), "\" y2=\"", C(y2), "\"/>\n");
}

std::string Rect(const std::string& classes, double x, double y, double width, double height) {
  return absl::StrCat("<rect class=\"", classes, "\" x=\"", C(x), "\" y=\"", C(y), "\" width=\"",
                      C(std::max(0.0, width)), "\" height=\"", C(std::max(0.0, height)), "\"/>\n");
}

std::string Text(const std::string& classes, double x, double y, const std::string& anchor,
                 std::string_view text) {
  return absl::StrCat("<text class=\"", classes, "\" x=\"", C(x), "\" y=\"", C(y),
                      "\" text-anchor=\"", anchor, "\">", Escape(text), "</text>\n");
}

std::string Title(std::string_view text) {
  return absl::StrCat("<title>", Escape(text), "</title>");
}

std::string StyleClass(int style) {
  return style == kBound ? "bound" : absl::StrCat("s", style, " c", style % kColours);
}

double TextWidth(std::string_view text) {
  const auto follows = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
  return 6.9 * static_cast<double>(text.size() - std::count_if(text.begin(), text.end(), follows));
}

// A mark's shape depends on its colour too: policies 0 and 8 share a colour, not a shape.
std::string Marker(int style, double x, double y, double r) {
  const auto path = [](std::initializer_list<std::pair<double, double>> points) {
    std::string d;
    for (const auto& [px, py] : points) {
      absl::StrAppend(&d, d.empty() ? "M" : "L", C(px), ",", C(py));
    }
    return absl::StrCat("<path class=\"mark\" d=\"", d, "Z\"/>");
  };
  const double t = r / 2.6;  // half the stroke of a cross
  const int shape = style == kBound ? 3 : (style + style / kColours) % kColours;
  switch (shape) {
    case 1:
      return path({{x - r, y - r}, {x + r, y - r}, {x + r, y + r}, {x - r, y + r}});
    case 2:
      return path({{x, y - r - 1}, {x + r + 1, y + r}, {x - r - 1, y + r}});
    case 3:
      return path({{x, y - r - 1}, {x + r + 1, y}, {x, y + r + 1}, {x - r - 1, y}});
    case 4:
      return path({{x - r - 1, y - r}, {x + r + 1, y - r}, {x, y + r + 1}});
    case 5:
      return path({{x - t, y - r},
                   {x + t, y - r},
                   {x + t, y - t},
                   {x + r, y - t},
                   {x + r, y + t},
                   {x + t, y + t},
                   {x + t, y + r},
                   {x - t, y + r},
                   {x - t, y + t},
                   {x - r, y + t},
                   {x - r, y - t},
                   {x - t, y - t}});
    case 6:
      return path({{x - t, y - r - 1}, {x + t, y - r - 1}, {x + t, y + r + 1}, {x - t, y + r + 1}});
    case 7:
      return path({{x - r, y - r}, {x + r, y - r}, {x - r, y + r}, {x + r, y + r}});
    default:
      return absl::StrCat("<circle class=\"mark\" cx=\"", C(x), "\" cy=\"", C(y), "\" r=\"", C(r),
                          "\"/>");
  }
}

std::string Swatch(int style) {
  return absl::StrCat(
      "<svg class=\"swatch ", StyleClass(style), "\" viewBox=\"0 0 34 14\" aria-hidden=\"true\">",
      Line(absl::StrCat("series d", style == kBound ? 9 : style % kColours), 0, 7, 34, 7),
      Marker(style, 17, 7, 4), "</svg>");
}

}  // namespace replay
