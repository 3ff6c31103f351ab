// Numbers and names as the report writes them. A number that is none (0 / 0) is a dash: a report
// that says "nan" has lost its reader.

#ifndef QUIRE_BENCH_REPLAY_REPORT_TEXT_H_
#define QUIRE_BENCH_REPLAY_REPORT_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace replay {

// For text and attributes. What is not UTF-8, or a control character, becomes U+FFFD: a file's name
// may hold any byte.
std::string Escape(std::string_view text);

std::string Count(int64_t n);                           // 12,345
std::string Short(double n);                            // 12.3k: where there is little room
std::string Percent(double share, int digits = 2);      // 0.2403: "24.03 %"
std::string Points(double difference, int digits = 2);  // 0.028: "+2.80", percentage points
std::string Milliseconds(double ms);                    // "0.35 ms", "1.20 s", "3.4 min"
std::string Bytes(int64_t bytes);                       // "1.2 MiB"
std::string Coordinate(double v);                       // for SVG: one decimal at most

// "a", "a and b", "a, b and c".
std::string Join(const std::vector<std::string>& words);

// What an axis counts.
enum class Unit : uint8_t { kShare, kPoints, kCount, kMilliseconds };
std::string Format(Unit unit, double v);      // in full
std::string FormatTick(Unit unit, double v);  // beside an axis

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_REPORT_TEXT_H_
