// Fault points: the places where a system may refuse, numbered in the order in which one call
// reaches them. The n-th is made to fail, once or from then on.
//
// Who can refuse asks FaultHere: the replaced functions of fault_replacements.h, and FaultGpu.

#ifndef QUIRE_TESTS_SUPPORT_FAULT_POINTS_H_
#define QUIRE_TESTS_SUPPORT_FAULT_POINTS_H_

#include <array>
#include <cstdint>

namespace quire::testing {

// What may refuse: operator new, mmap, madvise, aligned_alloc, a call of the GPU's runtime.
enum class FaultKind { kHeap, kMap, kAdvice, kAligned, kGpuCall };
inline constexpr int kFaultKinds = 5;

struct FaultCount {
  std::array<int64_t, kFaultKinds> reached{};  // by kind
  int64_t failed = 0;
  int64_t points() const {
    int64_t sum = 0;
    for (const int64_t n : reached) sum += n;
    return sum;
  }
};

// From now on this thread's points count, from 1. Number `first` fails, and all after it if
// `stays`. 0: none fails.
void ArmFaults(int64_t first, bool stays);
FaultCount DisarmFaults();

// Counts one point. True: it has to fail.
bool FaultHere(FaultKind kind);

// What the test itself allocates is no point.
class FaultPause {
 public:
  FaultPause();
  FaultPause(const FaultPause&) = delete;
  FaultPause& operator=(const FaultPause&) = delete;
  ~FaultPause();
};

// Of all threads: what operator new and mmap gave and was not given back.
struct LiveBytes {
  int64_t heap = 0;
  int64_t mapped = 0;
  bool operator==(const LiveBytes&) const = default;
};
LiveBytes Live();
void CountHeap(int64_t bytes);
void CountMapped(int64_t bytes);

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_FAULT_POINTS_H_
