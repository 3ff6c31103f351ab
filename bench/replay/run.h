// A whole run of quire_replay: from what was asked to what was found, with a table on the way.

#ifndef QUIRE_BENCH_REPLAY_RUN_H_
#define QUIRE_BENCH_REPLAY_RUN_H_

#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "bench/replay/arguments.h"

namespace replay {

// Replays and writes what `arguments` ask for; a table goes to `out`. Files are tried before
// anything long begins: kUnavailable says which cannot be written.
absl::Status Run(const Arguments& arguments, const std::string& command, std::FILE* out);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_RUN_H_
