// Golden instruction counts: the file that keeps them, callgrind's profiles, and the comparison.

#ifndef QUIRE_TESTS_SUPPORT_GOLDEN_COUNTS_H_
#define QUIRE_TESTS_SUPPORT_GOLDEN_COUNTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace quire::testing {

// How far a count may be from the file's, up or down: a gain that nobody writes down could be lost
// again unseen.
inline constexpr double kGoldenTolerance = 0.03;

struct GoldenCount {
  std::string operation;
  double instructions = 0;  // for each page, or sequence and step
};

struct GoldenFile {
  std::string compiler;  // whose code was counted
  std::vector<GoldenCount> counts;
};

// Lines "compiler: NAME", "operation instructions" and "# comment". kInvalidArgument names the
// line.
absl::StatusOr<GoldenFile> ParseGoldenFile(std::string_view text);

std::string FormatGoldenFile(const GoldenFile& file);

// Instructions in a callgrind profile that ran in `object` itself. What its calls cost in other
// objects does not count: glibc picks its memcpy and memcmp by processor. The profile must have
// been written with --compress-strings=no and hold no event but Ir. kInvalidArgument if it is no
// such profile, or has nothing of `object`.
absl::StatusOr<int64_t> OwnInstructions(std::string_view profile, std::string_view object);

// What is wrong with `measured`, a line for each operation; empty: nothing.
std::vector<std::string> CompareGolden(const GoldenFile& expected, const GoldenFile& measured);

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_GOLDEN_COUNTS_H_
