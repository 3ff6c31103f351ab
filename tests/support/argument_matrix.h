// The argument matrix: a row for each public integer, and a scan of the public headers that says
// which rows there must be.

#ifndef QUIRE_TESTS_SUPPORT_ARGUMENT_MATRIX_H_
#define QUIRE_TESTS_SUPPORT_ARGUMENT_MATRIX_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quire/attention.h"

namespace quire::testing {

// One integer, a field or a parameter, and what a call has to answer to each value. Any other
// answer, and any undefined behaviour that a sanitizer sees, is a failure. The letters:
//
//   o  OK                                 C  a CHECK that says `word`
//   i  kInvalidArgument, kBadArgument     r  kOutOfRange
//   p  kFailedPrecondition                n  kNotFound
//   u  kUnsupported                       m  kMisaligned
//   w  kWorkspaceTooSmall                 a  kUnimplemented, kNoGpu or, where there is one, OK
//   x  kResourceExhausted, or OK where the system promises such memory
//   -  not asked: it says how long an array of the caller's is, which nobody can check
struct Row {
  std::string name;  // as ScanHeaders() writes it
  std::vector<int64_t> values;
  std::string answers;                       // a letter for each value
  std::string word;                          // an error's message must contain it
  std::function<std::string(int64_t)> call;  // the letter and the message; "!" if a refused call
                                             // changed something
};

// min, -1, 0, 1, max. Of an unsigned type -1 is the greatest value, once more.
template <typename Integer>
std::vector<int64_t> EdgesOf() {
  return {static_cast<int64_t>(std::numeric_limits<Integer>::min()), -1, 0, 1,
          static_cast<int64_t>(std::numeric_limits<Integer>::max())};
}

std::string LetterOf(const absl::Status& status);
std::string LetterOf(LaunchError error);
template <typename T>
std::string LetterOf(const absl::StatusOr<T>& status_or) {
  return LetterOf(status_or.status());
}

std::vector<Row> ManagerRows();
std::vector<Row> DeviceRows();
std::vector<Row> KernelRows();

// Every integer and every enum that a caller can set or give, of one header's text: "Options::x" or
// "KvCache::CheckFits(total_tokens)". Private parts, bodies of functions, constants and the values
// that functions return are left out.
std::vector<std::string> IntegersIn(const std::string& header);

// Of all headers in include/quire, sorted.
std::vector<std::string> ScanHeaders();

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ARGUMENT_MATRIX_H_
