// The SVG elements that charts are made of.

#ifndef QUIRE_BENCH_REPLAY_CHARTS_SVG_H_
#define QUIRE_BENCH_REPLAY_CHARTS_SVG_H_

#include <string>
#include <string_view>

namespace replay {

// `label` is the text alternative: what a reader who does not see the chart is told.
std::string SvgBegin(double width, double height, const std::string& label);

std::string Line(const std::string& classes, double x1, double y1, double x2, double y2);
std::string Rect(const std::string& classes, double x, double y, double width, double height);
// `anchor` is start, middle or end; `text` is escaped here.
std::string Text(const std::string& classes, double x, double y, const std::string& anchor,
                 std::string_view text);
// A tooltip, for the element that it is in.
std::string Title(std::string_view text);
// "s3", or "bound".
std::string StyleClass(int style);
// About how wide a text of 12 pixels is drawn, for boxes and to keep labels apart.
double TextWidth(std::string_view text);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_CHARTS_SVG_H_
