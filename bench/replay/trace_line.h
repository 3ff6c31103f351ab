// One line of a trace, checked by itself: what needs the lines before it is trace.cc's.

#ifndef QUIRE_BENCH_REPLAY_TRACE_LINE_H_
#define QUIRE_BENCH_REPLAY_TRACE_LINE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "bench/replay/trace.h"

namespace simdjson::dom {
class parser;
}

namespace replay {

struct TraceLine {
  int64_t timestamp = 0;
  int64_t input_length = 0;
  int64_t output_length = 0;
  std::vector<uint64_t> hash_ids;  // kMooncake
  std::vector<int32_t> tokens;     // kTokens: the prompt's and, where it is known, the answer's
  bool answer_known = false;       // tokens holds input_length + output_length
  std::string session, tenant;     // empty: none
};

// The memory behind `text` must reach simdjson::SIMDJSON_PADDING bytes further. An error says what
// is wrong and what was expected, without the place; *line is then of no use.
absl::Status ParseTraceLine(std::string_view text, Format format, simdjson::dom::parser* parser,
                            TraceLine* line);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_TRACE_LINE_H_
