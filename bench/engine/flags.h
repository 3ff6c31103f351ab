// Command-line flags of the programs here: --name VALUE or --name=VALUE, checked. A switch has no
// value: --name, or --name=true and --name=false.

#ifndef QUIRE_BENCH_ENGINE_FLAGS_H_
#define QUIRE_BENCH_ENGINE_FLAGS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "absl/status/status.h"

namespace engine {

class Flags {
 public:
  void Add(const std::string& name, std::string* value);
  void Add(const std::string& name, int32_t* value, int32_t least, int32_t most);
  void Add(const std::string& name, int64_t* value, int64_t least, int64_t most);
  void Add(const std::string& name, uint64_t* value);
  void Add(const std::string& name, float* value);   // at least 0
  void Add(const std::string& name, double* value);  // at least 0, or "inf"
  void AddSwitch(const std::string& name, bool* value);

  // kInvalidArgument names the flag and what is wrong; kCancelled for --help.
  absl::Status Parse(int argc, char** argv);

 private:
  std::map<std::string, std::function<absl::Status(const std::string&)>> setters_;
  std::set<std::string> switches_;  // of those, what needs no value
};

// Exit code of a program that ended with `status`; prints what went wrong. With --help (kCancelled)
// prints `usage` and succeeds.
int ExitWith(const absl::Status& status, const char* usage = "");

// The model in bench/engine/model/.
std::string DefaultModelPath();
std::string DefaultTokenizerPath();

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_FLAGS_H_
