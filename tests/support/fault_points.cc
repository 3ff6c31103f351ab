#include "tests/support/fault_points.h"

#include <atomic>
#include <utility>

namespace quire::testing {
namespace {

struct Armed {
  FaultCount count;
  int64_t first = 0;
  bool stays = false;
  bool counts = false;
  int pauses = 0;
};

// Of plain data, so that it is there before the first allocation and after the last.
thread_local Armed armed;

std::atomic<int64_t> heap_bytes = 0;
std::atomic<int64_t> mapped_bytes = 0;

}  // namespace

void ArmFaults(int64_t first, bool stays) {
  armed = {};
  armed.first = first;
  armed.stays = stays;
  armed.counts = true;
}

FaultCount DisarmFaults() { return std::exchange(armed, {}).count; }

bool FaultHere(FaultKind kind) {
  if (!armed.counts || armed.pauses > 0) return false;
  ++armed.count.reached[static_cast<size_t>(kind)];
  const int64_t number = armed.count.points();
  const bool fails =
      armed.first > 0 && (armed.stays ? number >= armed.first : number == armed.first);
  if (fails) ++armed.count.failed;
  return fails;
}

FaultPause::FaultPause() { ++armed.pauses; }
FaultPause::~FaultPause() { --armed.pauses; }

LiveBytes Live() { return {.heap = heap_bytes, .mapped = mapped_bytes}; }
void CountHeap(int64_t bytes) { heap_bytes += bytes; }
void CountMapped(int64_t bytes) { mapped_bytes += bytes; }

}  // namespace quire::testing
