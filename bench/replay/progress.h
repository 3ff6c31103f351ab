// One line on a terminal that says how far a long run is; in a pipe or a file, nothing at all.

#ifndef QUIRE_BENCH_REPLAY_PROGRESS_H_
#define QUIRE_BENCH_REPLAY_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace replay {

// "lru, 1000 pages   42 %   5.31 M refs/s   3 s left": what the line says after `seconds`. `unit`
// is what is counted.
std::string ProgressLine(const std::string& label, const std::string& unit, int64_t done,
                         int64_t total, double seconds);

class Progress {
 public:
  // Draws only if `out` is a terminal.
  explicit Progress(std::FILE* out = stderr);
  ~Progress() { End(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // A new run of `total` units begins; the line of the one before is cleared.
  void Begin(std::string label, std::string unit, int64_t total);

  // Of the run, `done` units are behind us. One comparison in most calls: the clock is read every
  // few thousand units, or a thousand times where there are few; the line is written at most ten
  // times a second.
  void At(int64_t done) {
    if (done >= next_look_) Look(done);
  }

  // Clears the line.
  void End();

 private:
  using Clock = std::chrono::steady_clock;

  void Look(int64_t done);

  std::FILE* const out_;
  const bool terminal_;
  std::string label_;
  std::string unit_;
  int64_t total_ = 0;
  int64_t next_look_ = INT64_MAX;
  bool drawn_ = false;
  Clock::time_point begin_;
  Clock::time_point next_draw_;
};

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_PROGRESS_H_
