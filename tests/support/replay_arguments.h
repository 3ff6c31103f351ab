// The replay's arguments as a test writes them: words, without the program's name.

#ifndef QUIRE_TESTS_SUPPORT_REPLAY_ARGUMENTS_H_
#define QUIRE_TESTS_SUPPORT_REPLAY_ARGUMENTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/replay/arguments.h"

namespace replay {

inline absl::StatusOr<Arguments> Parse(std::vector<std::string> words) {
  words.insert(words.begin(), "quire_replay");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return ParseArguments(static_cast<int>(argv.size()), argv.data());
}

}  // namespace replay

#endif  // QUIRE_TESTS_SUPPORT_REPLAY_ARGUMENTS_H_
