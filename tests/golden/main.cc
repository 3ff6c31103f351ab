// Counts the instructions of golden_operations under callgrind and compares them with the file.
//
//   golden_instructions OPERATIONS COUNTS COMPILER [--write]
//
// OPERATIONS is the program, COUNTS the file, COMPILER the one that built OPERATIONS. With --write
// the file is renewed. Exits with 77 where there is no valgrind, or the file is another compiler's.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/support/golden_counts.h"

namespace quire::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kSkipped = 77;

int Fail(const std::string& why) {
  std::fprintf(stderr, "golden_instructions: %s\n", why.c_str());
  return 1;
}

int Skip(const std::string& why) {
  std::printf("skipped: %s\n", why.c_str());
  return kSkipped;
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Runs `command` with its output in `folder`. A clean environment: the dynamic linker and the
// allocator listen to some variables.
absl::StatusOr<std::string> Output(const std::string& command, const fs::path& folder) {
  const std::string whole =
      "cd '" + folder.string() + "' && env -i PATH=\"$PATH\" " + command + " > stdout 2> stderr";
  if (std::system(whole.c_str()) != 0) {
    return absl::InternalError(command + " failed:\n" + ReadFile(folder / "stderr"));
  }
  return ReadFile(folder / "stdout");
}

// One run for each operation, so that a profile holds nothing else.
absl::StatusOr<std::vector<GoldenCount>> Count(const std::string& operations,
                                               const fs::path& folder) {
  absl::StatusOr<std::string> output = Output("'" + operations + "'", folder);
  if (!output.ok()) return output.status();
  std::vector<GoldenCount> counts;
  std::istringstream lines(*output);
  std::string operation;
  double units = 0;
  while (lines >> operation >> units) {
    const std::string command =
        "valgrind --tool=callgrind --callgrind-out-file=profile --collect-atstart=no"
        " --compress-strings=no --toggle-collect=golden_" +
        operation + " '" + operations + "'";
    output = Output(command, folder);
    if (!output.ok()) return output.status();
    absl::StatusOr<int64_t> own = OwnInstructions(ReadFile(folder / "profile"), operations);
    if (!own.ok()) {
      return absl::InternalError(operation + ": " + std::string(own.status().message()));
    }
    counts.push_back({operation, static_cast<double>(*own) / units});
  }
  return counts;
}

int Run(const std::string& operations, const fs::path& file, const std::string& compiler,
        bool write) {
  if (std::system("valgrind --version > /dev/null 2>&1") != 0) {
    return Skip("valgrind is not installed");
  }
  absl::StatusOr<GoldenFile> expected = ParseGoldenFile(ReadFile(file));
  if (!write && !expected.ok()) {
    return Fail(file.string() + ": " + std::string(expected.status().message()));
  }
  if (!write && expected->compiler != compiler) {
    return Skip("the counts are those of " + expected->compiler + ", and this is " + compiler);
  }
  std::string folder = fs::temp_directory_path() / "golden_instructions_XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return Fail("cannot make a folder like " + folder);
  absl::StatusOr<std::vector<GoldenCount>> counts = Count(operations, folder);
  fs::remove_all(folder);
  if (!counts.ok()) return Fail(std::string(counts.status().message()));
  const GoldenFile measured = {.compiler = compiler, .counts = *counts};
  for (const GoldenCount& count : measured.counts) {
    std::printf("%-18s %10.2f\n", count.operation.c_str(), count.instructions);
  }
  if (write) {
    std::ofstream(file) << FormatGoldenFile(measured);
    std::printf("written to %s\n", file.c_str());
    return 0;
  }
  const std::vector<std::string> wrong = CompareGolden(*expected, measured);
  for (const std::string& line : wrong) Fail(line);
  if (wrong.empty()) return 0;
  return Fail("more than 3 % from " + file.string() +
              ". If that is meant, ./dev golden --write renews the file; commit it with the change "
              "and say why.");
}

}  // namespace
}  // namespace quire::testing

int main(int argc, char** argv) {
  const bool write = argc == 5 && std::string(argv[4]) == "--write";
  if (argc != 4 && !write) {
    return quire::testing::Fail("usage: golden_instructions OPERATIONS COUNTS COMPILER [--write]");
  }
  return quire::testing::Run(argv[1], argv[2], argv[3], write);
}
