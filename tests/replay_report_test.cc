// The report: well-formed, self-contained, and its charts where and what they should be.
//
// The file is read back as XML by the small reader below, and what it says is held against the
// results that went in.

#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/replay/charts.h"
#include "bench/replay/report.h"
#include "bench/replay/report_text.h"
#include "gtest/gtest.h"

namespace replay {
namespace {

struct Element {
  std::string tag;
  std::map<std::string, std::string> attributes;
  std::string text;  // of itself and all below, entities resolved
  int parent = -1;
};

// Reads the XML that the report keeps to: elements, quoted attributes and the five entities. What
// is wrong is in `error`.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {
    Skip("<!DOCTYPE html>\n");
    while (error.empty() && !rest_.empty()) Next();
    if (error.empty() && !open_.empty()) error = "open at the end: " + elements[open_.back()].tag;
  }

  std::vector<Element> elements;
  std::string error;

 private:
  bool Skip(std::string_view word) {
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }

  void Fail(const std::string& what) {
    if (error.empty()) error = what + " before: " + std::string(rest_.substr(0, 60));
  }

  std::string Until(char end) {
    const size_t length = std::min(rest_.find(end), rest_.size());
    const std::string out(rest_.substr(0, length));
    rest_.remove_prefix(length);
    return out;
  }

  std::string Resolve(const std::string& raw) {
    static const std::map<std::string, char> kEntities = {
        {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"#39", '\''}};
    std::string out;
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] == '<') Fail("< in an attribute");
      if (raw[i] != '&') {
        if (static_cast<unsigned char>(raw[i]) < 0x20 && raw[i] != '\n') Fail("control character");
        out += raw[i];
        continue;
      }
      const size_t end = raw.find(';', i);
      const auto entity = kEntities.find(raw.substr(i + 1, end - i - 1));
      if (end == std::string::npos || entity == kEntities.end()) return Fail("bad entity"), out;
      out += entity->second;
      i = end;
    }
    return out;
  }

  std::string Name() {
    size_t length = 0;
    while (length < rest_.size() &&
           (std::isalnum(static_cast<unsigned char>(rest_[length])) != 0 || rest_[length] == '-')) {
      ++length;
    }
    const std::string out(rest_.substr(0, length));
    rest_.remove_prefix(length);
    if (out.empty()) Fail("no name");
    return out;
  }

  void Next() {
    if (rest_[0] != '<') {
      const std::string text = Resolve(Until('<'));
      if (open_.empty() && text != "\n") Fail("text outside");
      for (const size_t e : open_) elements[e].text += text;
    } else if (Skip("</")) {
      const std::string tag = Name();
      if (open_.empty() || elements[open_.back()].tag != tag || !Skip(">")) {
        return Fail("wrong end of " + tag);
      }
      open_.pop_back();
    } else {
      Skip("<");
      Begin();
    }
  }

  void Begin() {
    Element element{Name(), {}, "", open_.empty() ? -1 : static_cast<int>(open_.back())};
    while (error.empty() && Skip(" ")) {
      const std::string name = Name();
      if (!Skip("=\"")) return Fail("attribute without a quoted value");
      if (!element.attributes.emplace(name, Resolve(Until('"'))).second) Fail("twice: " + name);
      if (!Skip("\"")) Fail("unfinished attribute");
    }
    elements.push_back(element);
    if (Skip("/>")) return;
    if (!Skip(">")) return Fail("unfinished tag");
    open_.push_back(elements.size() - 1);
  }

  std::string_view rest_;
  std::vector<size_t> open_;
};

Percentiles Times(double p50) {
  return {.count = 100,
          .mean = p50 * 1.5,
          .p50 = p50,
          .p90 = p50 * 3,
          .p95 = p50 * 4,
          .p99 = p50 * 9,
          .most = p50 * 20};
}

const std::vector<std::string> kPolicies = {"lru",     "fifo", "aged-frequency",
                                            "s3-fifo", "2q",   "adaptive"};
const std::vector<int32_t> kSizes = {1000, 10000, 100000};

void AddSequential(Results& results) {
  for (size_t s = 0; s < kSizes.size(); ++s) {
    results.belady.push_back({kSizes[s], 50000 + 20000 * static_cast<int64_t>(s)});
    for (size_t p = 0; p < kPolicies.size(); ++p) {
      SequentialResult r;
      r.policy = kPolicies[p];
      r.pages = kSizes[s];
      r.requests = results.requests;
      r.page_refs = results.page_refs;
      r.hit_pages = static_cast<int64_t>(10000 + 30000 * s + 500 * p);
      r.input_tokens = 1000000;
      r.hit_tokens = static_cast<int64_t>(100000 + 200000 * s);
      r.recompute_saved = 0.2;
      r.hits_fnv1a64 = 0x00CD00000000EF00 + s;
      r.evictions = 70000;
      r.seconds = 0.05;
      r.metadata_bytes = 96 * kSizes[s];
      for (size_t b = 0; b < 14; ++b) r.lifetimes.bins[b] = static_cast<int64_t>(100 * b + p);
      results.sequential.push_back(r);
    }
  }
}

void AddServing(Results& results) {
  for (const int32_t pages : {2000, 8000}) {
    for (size_t p = 0; p < kPolicies.size(); ++p) {
      ServingResult r;
      r.policy = kPolicies[p];
      r.pages = pages;
      r.requests = 100;
      r.steps = 5000;
      r.seconds = 3600;
      r.input_tokens = 1000000;
      r.hit_tokens = static_cast<int64_t>(200000 + 10 * p) + pages;
      r.first_token_ms = Times(200.0 + 10 * static_cast<double>(p));
      r.between_tokens_ms = Times(12);
      r.end_to_end_ms = Times(2000);
      r.manager_us = Times(3);
      r.tokens_per_second = 1200;
      r.evictions = 300;
      r.lifetimes.bins[5] = 300;
      for (int i = 0; i < 700; ++i) {
        Sample sample{.seconds = 5.0 * i};
        sample.pages_live = i;
        sample.pages_cached = pages - 2 * i;
        sample.pages_free = i;
        sample.running = i % 60;
        sample.waiting = i % 7;
        r.samples.push_back(sample);
      }
      results.serving.push_back(r);
    }
  }
  results.cost_model = "6 ms a step & more";
}

Results Made(bool sequential, bool serving) {
  Results results;
  results.trace = "chat.jsonl";
  results.requests = 12031;
  results.page_refs = 288500;
  results.distinct_pages = 182790;
  results.tokens_per_page = 512;
  results.read_seconds = 0.4;
  results.command = "./dev replay --trace chat.jsonl";
  results.unlimited_hit_pages = 105710;
  if (sequential) AddSequential(results);
  if (serving) AddServing(results);
  return results;
}

Reader Read(const Results& results) {
  Reader reader(HtmlReport(results));
  EXPECT_EQ(reader.error, "");
  return reader;
}

// All text that is seen or told.
std::string TextOf(const Reader& reader) {
  std::string text;
  for (const Element& e : reader.elements) {
    if (e.tag == "body" || e.tag == "title") text += e.text + "\n";
    if (const auto label = e.attributes.find("aria-label"); label != e.attributes.end()) {
      text += label->second + "\n";
    }
  }
  return text;
}

// Words "nan" and "inf", also as -inf or in a path's "Mnan,3".
bool HasNoNumber(const std::string& text) {
  for (const char* word : {"nan", "inf"}) {
    for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
      const char before = at == 0 ? ' ' : text[at - 1];
      const char after = at + 3 >= text.size() ? ' ' : text[at + 3];
      const bool letter_before = std::islower(static_cast<unsigned char>(before)) != 0;
      if (!letter_before && std::isalpha(static_cast<unsigned char>(after)) == 0) return true;
    }
  }
  return false;
}

TEST(ReplayReportTest, TheReaderSeesWhatIsMalformed) {
  EXPECT_EQ(Reader("<a b=\"&lt;\">x<c/></a>").error, "");
  for (const char* bad : {"<a>", "<a></b>", "<a b=c></a>", "<a b=\"1\" b=\"2\"/>", "<a>&nbsp;</a>",
                          "<a>x & y</a>", "<a b=\"<\"/>", "<a", "</a>", "x", "<a>\x01</a>"}) {
    EXPECT_NE(Reader(bad).error, "") << bad;
  }
  EXPECT_TRUE(HasNoNumber("M1,nan"));
  EXPECT_TRUE(HasNoNumber("-inf %"));
  EXPECT_FALSE(HasNoNumber("information of the manager, nankeen"));
}

TEST(ReplayReportTest, WellFormedWhateverIsThere) {
  for (const bool sequential : {false, true}) {
    for (const bool serving : {false, true}) Read(Made(sequential, serving));
  }
  Read(Results());
}

TEST(ReplayReportTest, IdsAreUniqueAndLabelsHaveTheirInputs) {
  const Reader reader = Read(Made(true, true));
  std::set<std::string> ids;
  for (const Element& e : reader.elements) {
    const auto id = e.attributes.find("id");
    if (id == e.attributes.end()) continue;
    EXPECT_TRUE(ids.insert(id->second).second) << id->second;
  }
  int labels = 0;
  for (const Element& e : reader.elements) {
    if (e.tag != "label") continue;
    ++labels;
    EXPECT_TRUE(ids.contains(e.attributes.at("for")));
  }
  EXPECT_GE(labels, 3 + 3 + 4 + 2 + 2 + 2);
}

TEST(ReplayReportTest, OneButtonOfEachPickerIsChosen) {
  std::map<std::string, int> chosen;
  for (const Element& e : Read(Made(true, true)).elements) {
    if (e.tag == "input") chosen[e.attributes.at("name")] += e.attributes.contains("checked");
  }
  EXPECT_EQ(chosen.size(), 6u);
  for (const auto& [name, count] : chosen) EXPECT_EQ(count, 1) << name;
}

TEST(ReplayReportTest, FetchesAndRunsNothing) {
  const std::string html = HtmlReport(Made(true, true));
  for (const char* word : {"http:", "https:", "//", "@import", "url(", "<script", "<link", "<img",
                           "<iframe", "<object", " src=", " href=", " onload=", "data:"}) {
    EXPECT_EQ(html.find(word), std::string::npos) << word;
  }
  EXPECT_NE(html.find("default-src &#39;none&#39;"), std::string::npos);
}

TEST(ReplayReportTest, NamesAreEscapedEverywhere) {
  Results results = Made(true, true);
  const std::string name = "<img src=x> & \"a\" 'b'";
  results.trace = results.command = results.cost_model = name;
  results.trace += "\xFF\x01";
  for (SequentialResult& r : results.sequential) r.policy = r.policy == "2q" ? name : r.policy;
  for (ServingResult& r : results.serving) r.policy = r.policy == "2q" ? name : r.policy;
  const Reader reader = Read(results);
  for (const Element& e : reader.elements) EXPECT_NE(e.tag, "img");
  size_t seen = 0;
  const std::string text = TextOf(reader);
  for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) ++seen;
  EXPECT_GT(seen, 30u);
  EXPECT_NE(text.find(name + "\uFFFD\uFFFD"), std::string::npos);
}

TEST(ReplayReportTest, EveryPolicySizeAndDigestIsThere) {
  const Results results = Made(true, true);
  std::set<std::vector<std::string>> rows;  // heading, then cells
  const Reader reader = Read(results);
  std::map<int, std::vector<std::string>> cells;
  for (const Element& e : reader.elements) {
    if (e.tag == "td" || e.tag == "th") cells[e.parent].push_back(e.text);
  }
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> found;
  for (const auto& [unused, row] : cells) {
    if (row.size() > 12) found.emplace(std::pair(row[0], row[1]), row);
  }
  for (const SequentialResult& r : results.sequential) {
    const auto row = found.find({r.policy, Count(r.pages)});
    ASSERT_NE(row, found.end()) << r.policy << " " << r.pages;
    EXPECT_EQ(row->second[2], Percent(r.page_hit_rate()));
    EXPECT_EQ(row->second[7], Count(r.hit_pages));
    const std::string last = r.pages == 1000 ? "0" : r.pages == 10000 ? "1" : "2";
    EXPECT_EQ(row->second[12], "00cd00000000ef0" + last);
  }
  for (const ServingResult& r : results.serving) {
    EXPECT_TRUE(found.contains({r.policy, Count(r.pages)})) << r.policy << " " << r.pages;
  }
}

// The numbers of an attribute such as "M1,2L3.5,4Z".
std::vector<double> Numbers(const std::string& text) {
  std::vector<double> numbers;
  const char* at = text.c_str();
  while (*at != '\0') {
    char* end = nullptr;
    const double v = std::strtod(at, &end);
    if (end == at) {
      ++at;
      continue;
    }
    numbers.push_back(v);
    at = end;
  }
  return numbers;
}

// All (x, y) that an element draws at, circles by their corners.
std::vector<std::pair<double, double>> PointsOf(const Element& e) {
  const auto number = [&](const char* name) { return std::stod(e.attributes.at(name)); };
  std::vector<std::pair<double, double>> points;
  if (e.tag == "line") {
    points = {{number("x1"), number("y1")}, {number("x2"), number("y2")}};
  } else if (e.tag == "rect") {
    const double x = number("x"), y = number("y");
    points = {{x, y}, {x + number("width"), y + number("height")}};
  } else if (e.tag == "text") {
    points = {{number("x"), number("y")}};
  } else if (e.tag == "circle") {
    const double x = number("cx"), y = number("cy"), r = number("r");
    points = {{x - r, y - r}, {x + r, y + r}};
  } else if (e.tag == "path") {
    const std::vector<double> numbers = Numbers(e.attributes.at("d"));
    EXPECT_EQ(numbers.size() % 2, 0u);
    for (size_t i = 0; i + 1 < numbers.size(); i += 2) {
      points.emplace_back(numbers[i], numbers[i + 1]);
    }
  }
  return points;
}

void ExpectAllInside(const Results& results) {
  const Reader reader = Read(results);
  int drawings = 0, points = 0;
  std::map<int, std::vector<double>> boxes;  // by element
  for (size_t i = 0; i < reader.elements.size(); ++i) {
    const Element& e = reader.elements[i];
    const auto parent = boxes.find(e.parent);
    if (e.tag == "svg") {
      boxes[static_cast<int>(i)] = Numbers(e.attributes.at("viewBox"));
      ++drawings;
    } else if (parent != boxes.end()) {
      boxes[static_cast<int>(i)] = parent->second;
      EXPECT_FALSE(e.attributes.contains("transform"));
      for (const auto& [x, y] : PointsOf(e)) {
        ++points;
        ASSERT_TRUE(x >= 0 && y >= 0 && x <= parent->second[2] && y <= parent->second[3])
            << e.tag << " at " << x << ", " << y << " " << e.text;
      }
    }
  }
  EXPECT_GT(drawings, 6);
  EXPECT_GT(points, 100);
}

TEST(ReplayReportTest, AllMarksLieInTheirDrawings) {
  ExpectAllInside(Made(true, true));
  Results wild = Made(true, true);
  wild.sequential[0].hit_pages = 0;
  wild.sequential[1].recompute_saved = -0.5;
  wild.sequential[2].recompute_saved = std::numeric_limits<double>::quiet_NaN();
  wild.serving[0].first_token_ms.p50 = 0;
  wild.serving[0].samples.resize(1);
  wild.serving[1].samples[5].pages_live = 1000000;
  ExpectAllInside(wild);
}

TEST(ReplayReportTest, DrawingsHaveTextAlternatives) {
  int labelled = 0;
  for (const Element& e : Read(Made(true, true)).elements) {
    if (e.tag != "svg") continue;
    const bool decoration = e.attributes.contains("aria-hidden");
    EXPECT_TRUE(decoration || !e.attributes.at("aria-label").empty());
    labelled += !decoration;
  }
  EXPECT_GT(labelled, 20);
}

TEST(ReplayReportTest, SectionsWithoutDataAreLeftOut) {
  const auto headings = [](const Results& results) {
    std::vector<std::string> found;
    for (const Element& e : Read(results).elements) {
      if (e.tag == "h2" || e.tag == "h3") found.push_back(e.text);
    }
    return found;
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(headings(Results()), Texts());
  EXPECT_EQ(headings(Made(true, false)),
            (Texts{"Sequential: hit rate", "All numbers", "How long pages stayed"}));
  EXPECT_EQ(headings(Made(false, true)),
            (Texts{"Serving: requests at their times", "How long requests took", "Pages over time",
                   "All numbers", "How long pages stayed"}));
  Results bare = Made(true, true);
  for (SequentialResult& r : bare.sequential) r.lifetimes = {};
  for (ServingResult& r : bare.serving) {
    r.lifetimes = {};
    r.samples.clear();
    r.first_token_ms = r.between_tokens_ms = r.end_to_end_ms = r.manager_us = {};
  }
  EXPECT_EQ(headings(bare), (Texts{"Sequential: hit rate", "All numbers",
                                   "Serving: requests at their times", "All numbers"}));
}

TEST(ReplayReportTest, ZeroesMakeNoNan) {
  Results zero;
  zero.sequential.resize(2);
  zero.serving.resize(2);
  zero.sequential[1].pages = zero.serving[1].pages = 10;
  zero.belady.resize(1);
  zero.serving[0].samples.resize(3);
  Results odd = Made(true, true);
  odd.sequential[0].seconds = 0;
  odd.sequential[3].recompute_saved = std::numeric_limits<double>::quiet_NaN();
  odd.serving[0].tokens_per_second = std::numeric_limits<double>::infinity();
  odd.serving[1].first_token_ms.p99 = std::numeric_limits<double>::infinity();
  for (const Results& results : {Results(), zero, odd}) {
    const Reader reader = Read(results);
    EXPECT_FALSE(HasNoNumber(TextOf(reader)));
    for (const Element& e : reader.elements) {
      for (const auto& [name, value] : e.attributes) {
        EXPECT_FALSE(HasNoNumber(value)) << e.tag << " " << name << "=" << value.substr(0, 60);
      }
    }
  }
}

TEST(ReplayReportTest, FindingsAreThoseOfTheData) {
  const auto findings = [](const Results& results) {
    std::vector<std::string> found;
    for (const Element& e : Read(results).elements) {
      if (e.tag == "li" && !e.attributes.contains("class") && e.text.ends_with(".")) {
        found.push_back(e.text);
      }
    }
    return found;
  };
  Results results = Made(true, false);
  // lru has 10,000, 40,000 and 70,000 hits of 288,500; adaptive, the last, 2,500 more; the bound
  // is 50,000, 70,000 and 90,000.
  for (SequentialResult& r : results.sequential) {
    if (r.policy == "adaptive" && r.pages == 100000) r.hit_pages = 69000;
    if (r.policy == "adaptive" && r.pages == 10000) r.hit_pages = 47500;
  }
  EXPECT_EQ(
      findings(results),
      (std::vector<std::string>{
          "Highest page hit rate: adaptive at 1,000 and 10,000; 2q at 100,000 pages.",
          "The largest lead over lru is that of adaptive at 10,000 pages: 16.46\u202f% against "
          "13.86\u202f%, which is 25\u202f% of the room between lru and Belady’s bound "
          "(24.26\u202f%).",
          "Below lru: adaptive at 1 of 3 sizes, by 0.35 points.",
          "With room for every page, 36.64\u202f% would be found; the rest are asked for the "
          "first time."}));
}

TEST(ReplayReportTest, OneSizeIsDrawnAsBars) {
  Results results = Made(true, false);
  std::erase_if(results.sequential, [](const SequentialResult& r) { return r.pages != 1000; });
  results.belady.resize(1);
  const auto bars = [](const Results& from) {
    int found = 0;
    for (const Element& e : Read(from).elements) {
      const auto label = e.attributes.find("aria-label");
      if (e.tag == "svg" && label != e.attributes.end() && label->second.starts_with("Page hit")) {
        EXPECT_NE(e.text.find("adaptive"), std::string::npos);
        found += e.text.find("pages in the cache") == std::string::npos;
      }
    }
    return found;
  };
  EXPECT_EQ(bars(results), 2 * 2);  // rates and differences, for wide and for narrow screens
  EXPECT_EQ(bars(Made(true, false)), 0);
  ExpectAllInside(Made(true, false));
}

TEST(ReplayReportTest, ScalesMapKnownValues) {
  const Scale linear{0, 200, 10, 110, false};
  EXPECT_DOUBLE_EQ(linear.At(0), 10);
  EXPECT_DOUBLE_EQ(linear.At(50), 35);
  EXPECT_DOUBLE_EQ(linear.At(200), 110);
  EXPECT_DOUBLE_EQ(linear.At(300), 110);  // never outside
  const Scale log{1000, 100000, 300, 100, true};
  EXPECT_DOUBLE_EQ(log.At(1000), 300);
  EXPECT_NEAR(log.At(10000), 200, 1e-9);
  EXPECT_DOUBLE_EQ(log.At(100000), 100);
  for (double v = 1000; v < 100000; v += 777) EXPECT_GT(log.At(v), log.At(v + 777));
  EXPECT_EQ((Scale{5, 5, 1, 2, false}).At(5), 1);
  EXPECT_EQ(linear.At(std::numeric_limits<double>::quiet_NaN()), 10);
}

TEST(ReplayReportTest, TicksAreRoundAndInside) {
  using Ts = std::vector<double>;
  EXPECT_EQ(Ticks(0, 10, 6), (Ts{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(Ticks(-30, 30, 4), (Ts{-20, 0, 20}));
  EXPECT_EQ(Ticks(3, 3, 5), (Ts{3}));
  EXPECT_EQ(LogTicks(150, 2500), (Ts{200, 500, 1000, 2000}));
  EXPECT_EQ(LogTicks(1, 1e4), (Ts{1, 10, 100, 1000, 10000}));
  EXPECT_EQ(LogTicks(0, 5), (Ts{0}));
  const double infinite = std::numeric_limits<double>::infinity();
  EXPECT_EQ(Ticks(0, infinite, 5), (Ts{0}));  // and it ends
  EXPECT_EQ(LogTicks(1, infinite), (Ts{1}));
}

// A line's points go right and up as sizes and rates do, at the places of a log axis; a value that
// is not finite moves none of them.
TEST(ReplayReportTest, ALineFollowsItsNumbers) {
  LineChart chart{.label = "x", .series = {{"lru", 0, {{1000, 0.1}, {10000, 0.2}, {100000, 0.3}}}}};
  const auto line = [](const LineChart& of) {
    const Reader reader(DrawLines(of, 800, 400));
    EXPECT_EQ(reader.error, "");
    for (const Element& e : reader.elements) {
      if (e.tag == "path" && e.attributes.at("class") == "series d0") {
        return Numbers(e.attributes.at("d"));
      }
    }
    return std::vector<double>();
  };
  const std::vector<double> d = line(chart);
  ASSERT_EQ(d.size(), 6u);
  EXPECT_NEAR(d[2] - d[0], d[4] - d[2], 0.11);  // coordinates have one decimal
  EXPECT_NEAR(d[1] - d[3], d[3] - d[5], 0.11);
  EXPECT_GT(d[2], d[0] + 100);
  EXPECT_GT(d[1], d[3] + 100);
  const double infinite = std::numeric_limits<double>::infinity();
  chart.series.push_back({"fifo", 1, {{1000, infinite}, {10000, 0.3}, {100000, -infinite}}});
  EXPECT_EQ(line(chart), d);
}

// 64 policies: no two share colour and marker.
TEST(ReplayReportTest, PoliciesDifferInMoreThanColour) {
  std::set<std::pair<int, std::string>> looks;
  std::set<std::string> shapes;
  for (int style = 0; style < 64; ++style) {
    const std::string shape = Marker(style, 10, 10, 4);
    EXPECT_TRUE(looks.emplace(style % kColours, shape).second) << style;
    if (style >= kColours) continue;
    EXPECT_TRUE(shapes.insert(shape).second) << style;
  }
}

TEST(ReplayReportTest, NumbersAsTheyAreWritten) {
  EXPECT_EQ(Count(0), "0");
  EXPECT_EQ(Count(999), "999");
  EXPECT_EQ(Count(1000), "1,000");
  EXPECT_EQ(Count(-1234567), "-1,234,567");
  EXPECT_EQ(Short(5859), "5.86k");
  EXPECT_EQ(Short(999), "999");
  EXPECT_EQ(Short(1e6), "1M");
  EXPECT_EQ(Percent(0.2403), "24.03\u202f%");
  EXPECT_EQ(Percent(-0.5, 0), "−50\u202f%");
  EXPECT_EQ(Percent(NAN), "–");
  EXPECT_EQ(Points(0.028), "+2.80");
  EXPECT_EQ(Points(-0.001), "−0.10");
  EXPECT_EQ(Points(-0.0000001), "0.00");
  EXPECT_EQ(Milliseconds(0.0042), "4.20\u202fµs");
  EXPECT_EQ(Milliseconds(12), "12.0\u202fms");
  EXPECT_EQ(Milliseconds(1500), "1.50\u202fs");
  EXPECT_EQ(Milliseconds(7.2e7), "20.0\u202fh");
  EXPECT_EQ(Bytes(1536), "1.50\u202fKiB");
  EXPECT_EQ(Coordinate(12.04), "12");
  EXPECT_EQ(Coordinate(-0.01), "0");
  EXPECT_EQ(Join({"a", "b", "c"}), "a, b and c");
  EXPECT_EQ(Escape("a\xC2\x80z"), "a\uFFFD\uFFFDz");
  EXPECT_EQ(Escape("é € 🙂"), "é € 🙂");
}

}  // namespace
}  // namespace replay
