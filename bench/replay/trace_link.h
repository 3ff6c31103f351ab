// Finds the turns of a conversation in a trace that does not name them, and what was answered.

#ifndef QUIRE_BENCH_REPLAY_TRACE_LINK_H_
#define QUIRE_BENCH_REPLAY_TRACE_LINK_H_

#include <cstdint>
#include <vector>

#include "bench/replay/trace.h"

namespace replay {

// A request as it was read: what trace.h says of Request, without `previous` and with the answer's
// ids only where its tokens are known.
struct ReadRequest {
  Request request;
  bool answer_known = false;
  int32_t session = -1;
};

// Fills trace->requests and trace->ids. `ids` holds each request's known ids in the order of
// `read`; trace->id_count counts them, and grows by the ids of unknown answers. The rules are those
// of trace.h.
void LinkTurns(std::vector<ReadRequest> read, const std::vector<int32_t>& ids, Trace* trace);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_TRACE_LINK_H_
