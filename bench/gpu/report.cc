#include "bench/gpu/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/status/status.h"
#include "engine/json.h"

namespace quire::bench {
namespace {

constexpr int kNameColumns = 34;
constexpr int kFigureColumns = 11;

bool Reached(const ReportTarget& target) {
  return target.at_most ? target.value <= target.target : target.value >= target.target;
}

void PrintFigure(double value) {
  if (!std::isfinite(value)) {
    std::printf(" %*s", kFigureColumns, "-");
  } else {
    std::printf(" %*.*f", kFigureColumns, std::fabs(value) < 1000 ? 2 : 0, value);
  }
}

}  // namespace

void Report::Fact(const std::string& name, const std::string& value) {
  facts_.emplace_back(name, value);
  std::printf("%-18s %s\n", name.c_str(), value.c_str());
}

void Report::Section(const std::string& title) {
  tables_.push_back({title, {}});
  std::printf("\n%s\n", title.c_str());
}

void Report::Add(const ReportRow& row) {
  Table& table = tables_.back();
  if (table.rows.empty()) {
    std::printf("%-*s", kNameColumns, "");
    for (const auto& [heading, value] : row.figures) {
      std::printf(" %*s", kFigureColumns, heading.c_str());
    }
    std::printf("\n");
  }
  table.rows.push_back(row);
  std::printf("%-*s", kNameColumns, row.name.c_str());
  for (const auto& [heading, value] : row.figures) PrintFigure(value);
  std::printf("\n");
  std::fflush(stdout);
}

void Report::PrintTargets() const {
  std::printf("\n%-58s %10s %12s\n", "Targets", "measured", "target");
  for (const ReportTarget& target : targets_) {
    std::printf("%-58s %10.1f %4s%8.1f %s\n", target.what.c_str(), target.value,
                target.at_most ? "<=" : ">=", target.target,
                Reached(target) ? "reached" : "MISSED");
  }
}

bool Report::WriteJson(const std::string& path) const {
  engine::JsonWriter json;
  json.BeginObject();
  for (const auto& [name, value] : facts_) json.Field(name, value);
  json.Key("sections");
  json.BeginArray();
  for (const Table& table : tables_) {
    json.BeginObject();
    json.Field("title", table.title);
    json.Key("rows");
    json.BeginArray();
    for (const ReportRow& row : table.rows) {
      json.BeginObject();
      json.Field("name", row.name);
      for (const auto& [heading, value] : row.figures) json.Field(heading, value);
      json.EndObject();
    }
    json.EndArray();
    json.EndObject();
  }
  json.EndArray();
  json.Key("targets");
  json.BeginArray();
  for (const ReportTarget& target : targets_) {
    json.BeginObject();
    json.Field("what", target.what);
    json.Field("measured", target.value);
    json.Field(target.at_most ? "at_most" : "at_least", target.target);
    json.Field("reached", Reached(target));
    json.EndObject();
  }
  json.EndArray();
  for (const auto& [key, text] : included_) {
    json.Key(key);
    json.Raw(text);
  }
  json.EndObject();
  const absl::Status written = engine::WriteFile(path, json.text() + "\n");
  if (!written.ok()) std::fprintf(stderr, "quire_gpu_bench: %s\n", written.ToString().c_str());
  return written.ok();
}

}  // namespace quire::bench
