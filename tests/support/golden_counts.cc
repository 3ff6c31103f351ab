#include "tests/support/golden_counts.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace quire::testing {

namespace {

constexpr std::string_view kHeader =
    "# Instructions of the operations in operations.cc, for each page (decode_step: for each\n"
    "# sequence), in Quire's own code. golden_instructions_test compares them within 3 %.\n"
    "# Renew with: ./dev golden --write\n";

const GoldenCount* Find(const GoldenFile& file, std::string_view operation) {
  const auto found =
      std::find_if(file.counts.begin(), file.counts.end(),
                   [&](const GoldenCount& count) { return count.operation == operation; });
  return found == file.counts.end() ? nullptr : &*found;
}

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f", value);
  return text;
}

std::string Change(double expected, double measured) {
  char text[32];
  std::snprintf(text, sizeof(text), "%+.1f %%", (measured / expected - 1) * 100);
  return text;
}

}  // namespace

absl::StatusOr<GoldenFile> ParseGoldenFile(std::string_view text) {
  constexpr std::string_view kCompiler = "compiler: ";
  GoldenFile file;
  std::istringstream lines{std::string(text)};
  int at = 0;
  for (std::string line; std::getline(lines, line);) {
    ++at;
    if (line.empty() || line[0] == '#') continue;
    if (line.starts_with(kCompiler)) {
      file.compiler = line.substr(kCompiler.size());
      continue;
    }
    std::istringstream words(line);
    std::string number;
    std::string rest;
    GoldenCount count;
    words >> count.operation >> number;
    if (!absl::SimpleAtod(number, &count.instructions) || !(count.instructions > 0) ||
        words >> rest) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", at, " is not \"operation instructions\": ", line));
    }
    if (Find(file, count.operation) != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", at, " names ", count.operation, " again"));
    }
    file.counts.push_back(std::move(count));
  }
  if (file.compiler.empty() || file.counts.empty()) {
    return absl::InvalidArgumentError("it needs a line \"compiler: NAME\" and a count");
  }
  return file;
}

std::string FormatGoldenFile(const GoldenFile& file) {
  std::string text = absl::StrCat(std::string(kHeader), "compiler: ", file.compiler, "\n");
  for (const GoldenCount& count : file.counts) {
    absl::StrAppend(&text, count.operation, " ", Number(count.instructions), "\n");
  }
  return text;
}

absl::StatusOr<int64_t> OwnInstructions(std::string_view profile, std::string_view object) {
  std::istringstream lines{std::string(profile)};
  bool events = false;
  bool inside = false;  // in `object`
  bool seen = false;
  bool of_a_call = false;  // the next cost is a callee's
  int64_t total = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("events:")) events = line == "events: Ir";
    if (line.starts_with("ob=")) {
      inside = std::string_view(line).substr(3) == object;
      seen = seen || inside;
    }
    if (line.starts_with("calls=")) {
      of_a_call = true;
      continue;
    }
    // A cost: where, then how many. Where may be relative to the line before.
    if (line.empty() || std::string_view("0123456789+-*").find(line[0]) == std::string_view::npos) {
      continue;
    }
    const size_t space = line.find(' ');
    int64_t cost = 0;
    if (space == std::string::npos || !absl::SimpleAtoi(line.substr(space + 1), &cost)) {
      return absl::InvalidArgumentError(absl::StrCat("not a profile's line: ", line));
    }
    if (inside && !of_a_call) total += cost;
    of_a_call = false;
  }
  if (!events) return absl::InvalidArgumentError("not a callgrind profile of instructions (Ir)");
  if (!seen) {
    return absl::InvalidArgumentError(
        absl::StrCat("the profile has nothing of ", std::string(object)));
  }
  return total;
}

std::vector<std::string> CompareGolden(const GoldenFile& expected, const GoldenFile& measured) {
  std::vector<std::string> wrong;
  for (const GoldenCount& count : measured.counts) {
    const GoldenCount* golden = Find(expected, count.operation);
    if (golden == nullptr) {
      wrong.push_back(absl::StrCat(count.operation, " is not in the file"));
      continue;
    }
    const double ratio = count.instructions / golden->instructions;
    if (ratio >= 1 - kGoldenTolerance && ratio <= 1 + kGoldenTolerance) continue;
    wrong.push_back(absl::StrCat(count.operation, " takes ", Number(count.instructions),
                                 " instructions, the file says ", Number(golden->instructions),
                                 ": ", Change(golden->instructions, count.instructions),
                                 ratio > 1 ? ", slower" : ", faster"));
  }
  for (const GoldenCount& count : expected.counts) {
    if (Find(measured, count.operation) != nullptr) continue;
    wrong.push_back(absl::StrCat(count.operation, " is in the file and was not measured"));
  }
  return wrong;
}

}  // namespace quire::testing
