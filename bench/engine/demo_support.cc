#include "engine/demo_support.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>

#include "absl/strings/str_cat.h"

namespace engine {

using quire::TokenId;

Progress::Progress() : terminal_(isatty(STDOUT_FILENO) != 0) {}

void Progress::Begin(const std::string& what) {
  what_ = what;
  last_ = {};
}

void Progress::Update(int64_t done, int64_t total) {
  const auto now = std::chrono::steady_clock::now();
  const double since = std::chrono::duration<double>(now - last_).count();
  if (since < (terminal_ ? 0.1 : 3.0)) return;
  last_ = now;
  Print(absl::StrCat(what_, ": ", done, " of ", total));
}

void Progress::End() {
  Print(absl::StrCat(what_, ": done"));
  if (terminal_) std::printf("\n");
}

void Progress::Print(const std::string& line) {
  std::printf(terminal_ ? "\r%-78s" : "%s\n", line.c_str());
  std::fflush(stdout);
}

absl::Status Checker::Check(const std::string& experiment, int32_t request_number,
                            const Request& request, const Result& result) {
  for (int32_t sample = 0; sample < request.samples; ++sample) {
    absl::StatusOr<std::vector<TokenId>> expected = runner_.Generate(request, sample);
    if (!expected.ok()) return expected.status();
    Compare(absl::StrCat(experiment, ", request ", request_number, ", sample ", sample),
            result.samples[static_cast<size_t>(sample)], *expected);
  }
  return absl::OkStatus();
}

void Checker::Compare(const std::string& what, std::span<const TokenId> got,
                      std::span<const TokenId> expected) {
  const size_t common = std::min(got.size(), expected.size());
  tokens_checked_ += static_cast<int64_t>(std::max(got.size(), expected.size()));
  for (size_t i = 0; i < common; ++i) {
    if (got[i] == expected[i]) continue;
    mismatches_.push_back(absl::StrCat(what, ": generated token ", i, " is ", got[i],
                                       ", the contiguous reference has ", expected[i]));
    return;  // what follows a different token differs anyway
  }
  if (got.size() != expected.size()) {
    mismatches_.push_back(absl::StrCat(what, ": ", got.size(),
                                       " tokens, the contiguous reference "
                                       "has ",
                                       expected.size()));
  }
}

}  // namespace engine
