// What the experiments of the demo share: progress on the terminal, and the check of every token.

#ifndef QUIRE_BENCH_ENGINE_DEMO_SUPPORT_H_
#define QUIRE_BENCH_ENGINE_DEMO_SUPPORT_H_

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/contiguous.h"
#include "engine/engine.h"
#include "engine/model.h"

namespace engine {

// Tells how far a long run is: one line that is rewritten on a terminal, a line now and then
// elsewhere.
class Progress {
 public:
  Progress();
  void Begin(const std::string& what);
  void Update(int64_t done, int64_t total);
  void End();

 private:
  void Print(const std::string& line);

  bool terminal_;
  std::string what_;
  std::chrono::steady_clock::time_point last_{};
};

// Compares generated tokens with the reference and remembers every difference.
class Checker {
 public:
  explicit Checker(Model* model) : runner_(model) {}

  // Runs all samples of `request` alone and contiguously. A status is a failure to run, not a
  // difference.
  absl::Status Check(const std::string& experiment, int32_t request_number, const Request& request,
                     const Result& result);

  void Compare(const std::string& what, std::span<const quire::TokenId> got,
               std::span<const quire::TokenId> expected);

  int64_t tokens_checked() const { return tokens_checked_; }
  const std::vector<std::string>& mismatches() const { return mismatches_; }
  ContiguousRunner& runner() { return runner_; }

 private:
  ContiguousRunner runner_;
  int64_t tokens_checked_ = 0;
  std::vector<std::string> mismatches_;
};

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_DEMO_SUPPORT_H_
