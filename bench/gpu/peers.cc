#include "bench/gpu/peers.h"

#include <cstdio>
#include <cstdlib>
#include <limits>

namespace quire::bench {
namespace {

// The text between `key` and the next quote or comma of a line of flat JSON.
std::string FieldOf(const std::string& line, const std::string& key) {
  const std::string mark = "\"" + key + "\": ";
  const size_t found = line.find(mark);
  if (found == std::string::npos) return "";
  size_t begin = found + mark.size();
  if (begin < line.size() && line[begin] == '"') ++begin;
  return line.substr(begin, line.find_first_of("\",}", begin) - begin);
}

}  // namespace

std::string PeerCase::Name() const {
  std::string name = std::to_string(batch);
  for (const int32_t number : {length, queries, group}) name += ":" + std::to_string(number);
  return name;
}

void Peers::Run(const std::vector<PeerCase>& cases) {
  std::string command = "timeout 150 python3 '" QUIRE_SOURCE_DIR "/bench/peers/sdpa.py'";
  for (const PeerCase& c : cases) command += " " + c.Name();
  std::FILE* const pipe = popen(command.c_str(), "r");
  about_ = "PyTorch's figures could not be had";
  if (pipe == nullptr) return;
  char buffer[1024];
  while (std::fgets(buffer, sizeof(buffer), pipe) != nullptr) {
    const std::string line = buffer;
    if (const std::string about = FieldOf(line, "about"); !about.empty()) about_ = about;
    const std::string name = FieldOf(line, "case");
    const double us = std::atof(FieldOf(line, "median_us").c_str());
    if (!name.empty() && us > 0) median_us_[name] = us;
  }
  if (pclose(pipe) != 0) about_ += " (ended early)";
}

double Peers::MedianUs(const PeerCase& c) const {
  const auto found = median_us_.find(c.Name());
  return found == median_us_.end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
}

}  // namespace quire::bench
