#include "bench/replay/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace replay {
namespace {

constexpr int64_t kMostBetweenLooks = 4096;
constexpr auto kBetweenDraws = std::chrono::milliseconds(100);

std::string TimeLeft(double seconds) {
  char text[48];
  const auto whole = std::llround(seconds);
  if (whole < 60) {
    std::snprintf(text, sizeof(text), "%d s left", static_cast<int>(whole));
  } else if (whole < 3600) {
    std::snprintf(text, sizeof(text), "%d min %02d s left", static_cast<int>(whole / 60),
                  static_cast<int>(whole % 60));
  } else {
    std::snprintf(text, sizeof(text), "%.1f h left", seconds / 3600);
  }
  return text;
}

std::string Rate(double per_second) {
  char text[32];
  if (per_second >= 1e6) {
    std::snprintf(text, sizeof(text), "%.2f M", per_second / 1e6);
  } else if (per_second >= 1e3) {
    std::snprintf(text, sizeof(text), "%.1f k", per_second / 1e3);
  } else {
    std::snprintf(text, sizeof(text), "%.0f", per_second);
  }
  return text;
}

}  // namespace

std::string ProgressLine(const std::string& label, const std::string& unit, int64_t done,
                         int64_t total, double seconds) {
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
  char percent[16];
  std::snprintf(percent, sizeof(percent), "%3d %%", static_cast<int>(std::min(share, 1.0) * 100));
  std::string line = label + "   " + percent;
  if (seconds > 0 && done > 0) {
    const double rate = static_cast<double>(done) / seconds;
    line += "   " + Rate(rate) + " " + unit + "/s   ";
    line += TimeLeft(static_cast<double>(std::max<int64_t>(0, total - done)) / rate);
  }
  return line;
}

Progress::Progress(std::FILE* out) : out_(out), terminal_(isatty(fileno(out)) == 1) {}

void Progress::Begin(std::string label, std::string unit, int64_t total) {
  End();
  if (!terminal_) return;
  label_ = std::move(label);
  unit_ = std::move(unit);
  total_ = total;
  next_look_ = 0;
  begin_ = Clock::now();
  next_draw_ = begin_ + kBetweenDraws;  // a short run needs no line, and a rate needs some time
}

void Progress::Look(int64_t done) {
  next_look_ = done + std::clamp<int64_t>(total_ / 1000, 1, kMostBetweenLooks);
  const Clock::time_point now = Clock::now();
  if (now < next_draw_) return;
  next_draw_ = now + kBetweenDraws;
  const std::chrono::duration<double> elapsed = now - begin_;
  const std::string line = ProgressLine(label_, unit_, done, total_, elapsed.count());
  std::fprintf(out_, "\r%s\x1b[K", line.c_str());  // the escape clears what an older line left over
  std::fflush(out_);
  drawn_ = true;
}

void Progress::End() {
  next_look_ = INT64_MAX;
  if (!drawn_) return;
  std::fputs("\r\x1b[K", out_);
  std::fflush(out_);
  drawn_ = false;
}

}  // namespace replay
