// The report: one HTML file out of the results of a run. It asks the network for nothing and holds
// no script, so it opens from a disk, from an attachment and in ten years.

#ifndef QUIRE_BENCH_REPLAY_REPORT_H_
#define QUIRE_BENCH_REPLAY_REPORT_H_

#include <string>

#include "bench/replay/result.h"

namespace replay {

// Well-formed as XML too, so that a test can read it. What has no data is left out.
std::string HtmlReport(const Results& results);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_REPORT_H_
