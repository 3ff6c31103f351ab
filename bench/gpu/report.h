// What was measured: printed as a table as it comes, and written as JSON.

#ifndef QUIRE_BENCH_GPU_REPORT_H_
#define QUIRE_BENCH_GPU_REPORT_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace quire::bench {

// One line: a name and figures. A figure that is not a number does not apply.
struct ReportRow {
  std::string name;
  std::vector<std::pair<std::string, double>> figures;  // heading, value
};

struct ReportTarget {
  std::string what;
  double value;
  double target;
  bool at_most;
};

class Report {
 public:
  // Facts about the machine and the run.
  void Fact(const std::string& name, const std::string& value);

  // Begins a table. The first row's headings are the table's.
  void Section(const std::string& title);
  void Add(const ReportRow& row);

  // Held against a target, in a table of its own at the end.
  void Target(const ReportTarget& target) { targets_.push_back(target); }
  void PrintTargets() const;

  // JSON of another program, to stand in ours under a key of its own.
  void Include(const std::string& key, const std::string& json) { included_[key] = json; }

  // False if the file cannot be written, after saying so.
  bool WriteJson(const std::string& path) const;

 private:
  struct Table {
    std::string title;
    std::vector<ReportRow> rows;
  };

  std::vector<std::pair<std::string, std::string>> facts_;
  std::vector<Table> tables_;
  std::vector<ReportTarget> targets_;
  std::map<std::string, std::string> included_;
};

}  // namespace quire::bench

#endif  // QUIRE_BENCH_GPU_REPORT_H_
