// The loop: for n = 1, 2, 3, ... the n-th fault point of one call fails, until the call reaches
// fewer than n points.

#ifndef QUIRE_TESTS_SUPPORT_FAULT_LOOP_H_
#define QUIRE_TESTS_SUPPORT_FAULT_LOOP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace quire::testing {

// What a call is made on. Two that were set up alike are alike in all that can be seen.
class FaultWorld {
 public:
  virtual ~FaultWorld() = default;
  // The call. Whatever it allocates is a fault point, so it makes nothing of its own.
  virtual absl::StatusCode Run() = 0;
  // All that a caller can see.
  virtual std::string State() = 0;
  // After a failure, where that is documented to leave something behind that State leaves out.
  virtual void CheckFailed() {}
  // Goes on to the end, and says what was seen on the way.
  virtual std::string Finish() { return {}; }
};

struct FaultScenario {
  std::string name;
  std::function<std::unique_ptr<FaultWorld>()> set_up;
  bool allocates = true;  // false: the call reaches no fault point at all
  int64_t may_keep = 0;   // heap bytes that a failure leaves: the words of a plan that failed
  // What it may answer when something fails, beside its own answer.
  std::vector<absl::StatusCode> may_answer = {absl::StatusCode::kResourceExhausted};
};

struct FaultResult {
  int64_t heap = 0;  // points of the call when nothing fails
  int64_t maps = 0;
  int64_t gpu_calls = 0;
  int64_t single = 0;      // runs with one fault
  int64_t persistent = 0;  // and with all from one on
  int64_t unmoved = 0;     // of both, those whose answer was as without a fault
  int64_t pairs = 0;
};

// Reports failures to GoogleTest. `pairs`: also a fault in the call, and one in its repetition.
FaultResult RunFaultLoop(const FaultScenario& scenario, bool pairs);

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_FAULT_LOOP_H_
