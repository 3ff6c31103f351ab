#include "lib/ghosts.h"

#include <algorithm>
#include <utility>

namespace quire {

bool Ghosts::Init(int64_t count) {
  lines_ = static_cast<size_t>(std::max<int64_t>(1, count / static_cast<int64_t>(kLine)));
  return entries_.Allocate(lines_ * kLine);
}

Ghost Ghosts::Take(uint64_t key) {
  Ghost* line = LineOf(key);
  for (size_t i = 0; i < kLine; ++i) {
    if (line[i].uses > 0 && line[i].tag == Tag(key)) return std::exchange(line[i], Ghost{});
  }
  return {};
}

Ghost Ghosts::Put(uint64_t key, Ghost ghost, uint16_t now) {
  ghost.tag = Tag(key);
  Ghost* line = LineOf(key);
  Ghost* place = line;
  int32_t place_age = -1;
  for (size_t i = 0; i < kLine; ++i) {
    // Its own entry even before a free one, or the key would be remembered twice.
    int32_t age = static_cast<uint16_t>(now - line[i].epoch);
    if (line[i].uses == 0) {
      age = INT32_MAX - 1;
    } else if (line[i].tag == ghost.tag) {
      age = INT32_MAX;
    }
    if (age <= place_age) continue;
    place = &line[i];
    place_age = age;
  }
  return std::exchange(*place, ghost);
}

}  // namespace quire
