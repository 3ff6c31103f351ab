// quire_replay: traces through the real page manager. --help says what it takes.

#include <string>

#include "absl/status/statusor.h"
#include "bench/replay/arguments.h"
#include "bench/replay/run.h"
#include "engine/flags.h"

int main(int argc, char** argv) {
  const absl::StatusOr<replay::Arguments> arguments = replay::ParseArguments(argc, argv);
  if (!arguments.ok()) {
    // 2: asked wrongly; 1: went wrong.
    return engine::ExitWith(arguments.status(), replay::kUsage) == 0 ? 0 : 2;
  }
  std::string command = "quire_replay";
  for (int i = 1; i < argc; ++i) command.append(" ").append(argv[i]);
  return engine::ExitWith(replay::Run(*arguments, command, stdout));
}
