#include "engine/page_map.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace engine {
namespace {

constexpr quire::GroupId kGroup{0};

// Sizes in pixels.
constexpr int kCell = 20;
constexpr int kPitch = 22;  // cell and the gap behind it
constexpr int kMargin = 32;
constexpr int kPanelGap = 48;
constexpr int kHeader = 76;  // title of the picture
constexpr int kPanelHeader = 54;
constexpr int kLegendRow = 19;
constexpr int kLegendColumn = 172;
constexpr int kMaxStripes = 4;

constexpr char kFree[] = "#eceff1";
constexpr char kCached[] = "#b4bcc2";
constexpr char kInk[] = "#263238";
constexpr char kPaleInk[] = "#607d8b";

// Hues a golden angle apart, so that neighbours differ however many there are; three lightnesses,
// so that hues that come close again differ too.
std::string Colour(int32_t holder) {
  const int hue = static_cast<int>(std::fmod(205.0 + 137.508 * holder, 360.0));
  constexpr int kLightness[] = {50, 62, 40};
  char buffer[40];
  std::snprintf(buffer, sizeof(buffer), "hsl(%d,62%%,%d%%)", hue, kLightness[holder % 3]);
  return buffer;
}

std::string Rect(double x, double y, double width, double height, const std::string& fill,
                 const std::string& more = "") {
  char buffer[120];
  std::snprintf(buffer, sizeof(buffer), R"(<rect x="%.4g" y="%.4g" width="%.4g" height="%.4g" )", x,
                y, width, height);
  return absl::StrCat(buffer, "fill=\"", fill, "\"", more.empty() ? "" : " ", more, "/>");
}

std::string Text(int x, int y, const std::string& style, const std::string& text) {
  return absl::StrCat("<text x=\"", x, "\" y=\"", y, "\" class=\"", style, "\">", text,
                      "</text>\n");
}

// A live page: a stripe per holder (up to kMaxStripes), full height pale, the used part in full.
std::string LivePage(const PageMap& map, const PageMap::Page& page, int x, int y) {
  std::string out;
  const int stripes = std::min<int>(static_cast<int>(page.holders.size()), kMaxStripes);
  const double width = static_cast<double>(kCell) / stripes;
  const double used = static_cast<double>(kCell) * page.used_tokens / map.tokens_per_page;
  for (int stripe = 0; stripe < stripes; ++stripe) {
    const std::string colour = Colour(page.holders[static_cast<size_t>(stripe)]);
    const double left = x + stripe * width;
    out += Rect(left, y, width, kCell, colour, "opacity=\"0.28\"");
    if (used > 0) out += Rect(left, y + kCell - used, width, used, colour);
  }
  if (page.holders.size() > 1) {
    out += Rect(x, y, kCell, kCell, "none", "class=\"shared\"");
    out += absl::StrCat("<text x=\"", x + kCell / 2, "\" y=\"", y + kCell / 2 + 4,
                        "\" class=\"count\">", page.holders.size(), "</text>");
  }
  return out;
}

std::string Describe(const PageMap& map, size_t id) {
  const PageMap::Page& page = map.pages[id];
  std::string text = absl::StrCat("page ", id, ": ");
  if (page.holders.empty()) return text + (page.cached ? "cached" : "free");
  for (size_t i = 0; i < page.holders.size(); ++i) {
    absl::StrAppend(&text, i > 0 ? ", " : "", map.names[static_cast<size_t>(page.holders[i])]);
  }
  return absl::StrCat(text, "; ", page.used_tokens, " of ", map.tokens_per_page, " tokens");
}

std::string Grid(const PageMapPanel& panel, int left, int top) {
  std::string out;
  for (size_t id = 0; id < panel.map.pages.size(); ++id) {
    const PageMap::Page& page = panel.map.pages[id];
    const int x = left + static_cast<int>(id) % panel.columns * kPitch;
    const int y = top + static_cast<int>(id) / panel.columns * kPitch;
    absl::StrAppend(&out, "<g><title>", Describe(panel.map, id), "</title>");
    out += page.holders.empty() ? Rect(x, y, kCell, kCell, page.cached ? kCached : kFree)
                                : LivePage(panel.map, page, x, y);
    out += "</g>\n";
  }
  return out;
}

int PanelWidth(const PageMapPanel& panel) { return panel.columns * kPitch; }

int LegendColumns(const PageMapPanel& panel) {
  return std::max(1, PanelWidth(panel) / kLegendColumn);
}

int GridHeight(const PageMapPanel& panel) {
  const int pages = static_cast<int>(panel.map.pages.size());
  return (pages + panel.columns - 1) / panel.columns * kPitch;
}

int PanelHeight(const PageMapPanel& panel) {
  const int names = static_cast<int>(panel.map.names.size());
  const int rows = (names + LegendColumns(panel) - 1) / LegendColumns(panel);
  return kPanelHeader + GridHeight(panel) + 14 + rows * kLegendRow;
}

std::string Panel(const PageMapPanel& panel, int left, int top) {
  std::string out = Text(left, top + 16, "panel", panel.title);
  out += Text(left, top + 36, "note", panel.subtitle);
  out += Grid(panel, left, top + kPanelHeader);
  const int legend = top + kPanelHeader + GridHeight(panel) + 14;
  const int columns = LegendColumns(panel);
  for (int i = 0; i < static_cast<int>(panel.map.names.size()); ++i) {
    const int x = left + i % columns * kLegendColumn;
    const int y = legend + i / columns * kLegendRow;
    out += Rect(x, y, 12, 12, Colour(i));
    out += Text(x + 18, y + 10, "name", panel.map.names[static_cast<size_t>(i)]);
  }
  return out;
}

// How to read the picture: what does not depend on the panel.
std::string Key(int left, int top) {
  PageMap sample;
  sample.tokens_per_page = 16;
  const PageMap::Page part{.holders = {0}, .used_tokens = 6};
  const PageMap::Page shared{.holders = {0, 1, 2}, .used_tokens = 16};
  int x = left;
  std::string out;
  const auto entry = [&](const std::string& cell, const std::string& text, int width) {
    out += cell + Text(x + kCell + 8, top + 14, "name", text);
    x += width;
  };
  entry(LivePage(sample, part, x, top), "held by one; the pale part is not used yet", 312);
  entry(LivePage(sample, shared, x, top), "shared, by how many", 172);
  entry(Rect(x, top, kCell, kCell, kCached), "cached: can be found again", 208);
  entry(Rect(x, top, kCell, kCell, kFree), "free", 80);
  return out;
}

}  // namespace

int32_t PageMap::live() const {
  return static_cast<int32_t>(
      std::count_if(pages.begin(), pages.end(), [](const Page& p) { return !p.holders.empty(); }));
}

int32_t PageMap::shared() const {
  return static_cast<int32_t>(std::count_if(pages.begin(), pages.end(),
                                            [](const Page& p) { return p.holders.size() > 1; }));
}

int32_t PageMap::cached() const {
  return static_cast<int32_t>(
      std::count_if(pages.begin(), pages.end(), [](const Page& p) { return p.cached; }));
}

int32_t PageMap::shared_references() const {
  size_t sum = 0;
  for (const Page& page : pages) sum += page.holders.size() > 1 ? page.holders.size() : 0;
  return static_cast<int32_t>(sum);
}

int32_t PageMap::unused_tokens() const {
  int32_t sum = 0;
  for (const Page& page : pages) {
    if (!page.holders.empty()) sum += tokens_per_page - page.used_tokens;
  }
  return sum;
}

PageMap TakePageMap(const Engine& engine) {
  const quire::GroupOptions& group = engine.cache().options().groups[0];
  PageMap map;
  map.tokens_per_page = group.tokens_per_page;
  map.pages.resize(static_cast<size_t>(group.page_count));
  for (const RunningView& view : engine.Running()) {
    const auto holder = static_cast<int32_t>(map.names.size());
    std::string name = absl::StrCat("request ", view.request);
    if (engine.result(view.request).samples.size() > 1) name = absl::StrCat("sample ", view.sample);
    map.names.push_back(absl::StrCat(name, ": ", view.sequence->length(), " tokens"));
    const std::span<const quire::PageId> pages = view.sequence->pages(kGroup);
    for (size_t p = 0; p < pages.size(); ++p) {
      PageMap::Page& page = map.pages[static_cast<size_t>(pages[p])];
      const int32_t begin = static_cast<int32_t>(p) * map.tokens_per_page;
      const int32_t used = std::clamp(view.sequence->length() - begin, 0, map.tokens_per_page);
      page.holders.push_back(holder);
      page.used_tokens = std::max(page.used_tokens, used);
    }
  }
  return map;
}

void MarkCached(Engine* engine, std::span<const std::vector<quire::TokenId>> streams,
                PageMap* map) {
  for (const std::vector<quire::TokenId>& tokens : streams) {
    absl::StatusOr<quire::Sequence> probe = engine->mutable_cache()->Start(tokens);
    if (!probe.ok()) continue;  // a picture is not worth an error
    for (quire::PageId id : probe->pages(kGroup)) {
      PageMap::Page& page = map->pages[static_cast<size_t>(id)];
      page.cached = page.holders.empty();
    }
  }
}

std::string DrawPageMaps(const std::string& title, std::span<const PageMapPanel> panels) {
  int width = kMargin, height = 0;
  for (const PageMapPanel& panel : panels) {
    width += PanelWidth(panel) + kPanelGap;
    height = std::max(height, PanelHeight(panel));
  }
  width += kMargin - kPanelGap;
  height += kHeader + kMargin + 56;

  std::string out = absl::StrCat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", width, "\" height=\"", height,
      "\" viewBox=\"0 0 ", width, " ", height, "\">\n<style>\n",
      "text{font-family:'DejaVu Sans',Helvetica,Arial,sans-serif;fill:", kInk, "}\n",
      ".title{font-size:22px;font-weight:bold}\n.panel{font-size:15px;font-weight:bold}\n",
      ".note{font-size:12px;fill:", kPaleInk, "}\n.name{font-size:11px}\n",
      ".count{font-size:10px;font-weight:bold;text-anchor:middle;fill:#fff;stroke:", kInk,
      ";stroke-width:2.4px;paint-order:stroke}\n.shared{stroke:", kInk,
      ";stroke-width:1.4px}\n</style>\n");
  out += Rect(0, 0, width, height, "#ffffff") + "\n";
  out += Text(kMargin, kMargin + 12, "title", title);
  int left = kMargin;
  for (const PageMapPanel& panel : panels) {
    out += Panel(panel, left, kHeader);
    left += PanelWidth(panel) + kPanelGap;
  }
  out += Key(kMargin, height - kMargin - kCell + 4);
  return out + "</svg>\n";
}

}  // namespace engine
