// The twin's runtime: fibres, their order, and what they do together.
//
// This file alone is compiled without sanitizers, also where the rest has them: here one lane reads
// and writes the arguments of all 32, which ThreadSanitizer would call a race. So it uses no shared
// template that another file may have compiled with a sanitizer, and calls none of the functions
// that sanitizers intercept (memcpy) on a kernel's memory.

#include "tests/support/twin/twin.h"

#include <algorithm>
#include <bit>
#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/half.h"

// Present where the program has the sanitizer.
extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void* at, size_t size);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* at, size_t size);
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom,
                                                  size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom,
                                                   size_t* size);
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
[[gnu::weak]] void __tsan_acquire(void* at);
[[gnu::weak]] void __tsan_release(void* at);
}

namespace quire::twin {
namespace {

namespace context = boost::context;

constexpr int kWarpThreads = 32;
constexpr int kMaxThreads = 1024;
constexpr size_t kMaxSharedBytes = 227 * 1024;
constexpr size_t kStackBytes = 256 * 1024;
constexpr int kBarriers = 16;
constexpr unsigned kNoSynchronisation = 1;  // of __tsan_switch_to_fiber

// A place to which ThreadSanitizer ties an order: what came before Release() there comes before
// what follows Acquire().
class Order {
 public:
  void Release() {
    if (__tsan_release != nullptr) __tsan_release(&place_);
  }
  void Acquire() {
    if (__tsan_acquire != nullptr) __tsan_acquire(&place_);
  }

 private:
  uint64_t place_ = 0;
};

// Two places used in turn: a thread that is quick to reach the next meeting must not seem to come
// before one that is slow to leave this one.
class Meetings {
 public:
  Order& Next() { return orders_[held_ % 2]; }
  void Hold() { ++held_; }

 private:
  Order orders_[2];
  uint32_t held_ = 0;
};

struct Copy {
  uint32_t* to;
  uint32_t words[4];
  uint32_t group;
};

struct Warp {
  uint32_t ready = 0;    // lanes that can run
  uint32_t arrived = 0;  // lanes at the operation
  uint32_t exited = 0;
  Operation operation = {};
  uint32_t barrier = 0;  // of kSyncBlock and kSyncNamed: its number, and how many threads
  uint32_t barrier_threads = 0;
  uint32_t* words[kWarpThreads] = {};
  Meetings meetings;
  Order* passed = nullptr;  // the barrier that this warp has passed last
};

struct BlockBarrier {
  uint32_t threads = 0;  // that the first to arrive has named
  uint32_t arrived = 0;
  uint32_t warps = 0;
  Meetings meetings;
};

struct Thread {
  int index = 0;
  context::fiber self;
  context::fiber hub;
  context::stack_context stack;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* tsan_fiber = nullptr;
  std::vector<Copy> copies;  // in flight, from `landed` on
  size_t landed = 0;
  uint32_t group = 0;  // the open one
};

// What runs now. Never destroyed: the fibres wait in it for the next launch.
struct Machine {
  LaunchShape shape = {};
  void (*body)(const void*) = nullptr;
  const void* closure = nullptr;
  uint64_t seed = 0;
  uint64_t random = 0;
  int block = 0;
  int warp_count = 0;
  char* shared = nullptr;
  Thread* current = nullptr;
  bool barrier_opened = false;  // since a warp was picked
  uint64_t resumes = 0;
  std::vector<std::unique_ptr<Thread>> threads;
  Warp warps[kMaxThreads / kWarpThreads];
  BlockBarrier barriers[kBarriers];
  Order block_start;
  Order block_end;
  void* hub_fake_stack = nullptr;
  const void* hub_stack = nullptr;
  size_t hub_stack_bytes = 0;
  void* hub_tsan_fiber = nullptr;
};
Machine& machine = *new Machine;

uint32_t Random(uint32_t below) {  // splitmix64: Steele, Lea and Flood, 2014
  uint64_t z = machine.random += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return static_cast<uint32_t>((z ^ z >> 31) >> 32) % below;
}

const char* Name(Operation operation) {
  switch (operation) {
    case Operation::kSyncWarp:
      return "SyncWarp";
    case Operation::kSyncBlock:
      return "SyncBlock";
    case Operation::kSyncNamed:
      return "SyncNamed";
    case Operation::kShuffle:
      return "Shuffle";
    case Operation::kShuffleXor:
      return "ShuffleXor";
    case Operation::kBallot:
      return "Any, All or Ballot";
    case Operation::kLoadMatrices:
      return "LoadMatrices";
    case Operation::kLoadMatricesTransposed:
      return "LoadMatricesTransposed";
    case Operation::kMultiplyAddHalf:
      return "MultiplyAdd of Half";
    case Operation::kMultiplyAddBFloat16:
      return "MultiplyAdd of BFloat16";
  }
  return "?";
}

// --- Fibres ---

// The hub is the thread that called Launch(); it resumes one fibre after another.
void Resume(Thread& thread) {
  machine.current = &thread;
  ++machine.resumes;
  if (__sanitizer_start_switch_fiber != nullptr) {
    const auto* const top = static_cast<const char*>(thread.stack.sp);
    __sanitizer_start_switch_fiber(&machine.hub_fake_stack, top - thread.stack.size,
                                   thread.stack.size);
  }
  if (__tsan_switch_to_fiber != nullptr) {
    __tsan_switch_to_fiber(thread.tsan_fiber, kNoSynchronisation);
  }
  thread.self = std::move(thread.self).resume();
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(machine.hub_fake_stack, nullptr, nullptr);
  }
  machine.current = nullptr;
}

void FinishSwitch(Thread& thread) {
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(thread.fake_stack, &machine.hub_stack,
                                    &machine.hub_stack_bytes);
  }
}

void Suspend(Thread& thread) {
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(&thread.fake_stack, machine.hub_stack, machine.hub_stack_bytes);
  }
  if (__tsan_switch_to_fiber != nullptr) {
    __tsan_switch_to_fiber(machine.hub_tsan_fiber, kNoSynchronisation);
  }
  thread.hub = std::move(thread.hub).resume();
  FinishSwitch(thread);
}

// A fibre serves one CUDA thread of every block, and never ends.
[[noreturn]] void Serve(Thread& thread) {
  FinishSwitch(thread);
  while (true) {
    machine.block_start.Acquire();
    machine.body(machine.closure);
    if (thread.landed != thread.copies.size()) {
      Fail("the thread ended with copies in flight: WaitForGroups<0>() is missing");
    }
    machine.block_end.Release();
    machine.warps[thread.index / kWarpThreads].exited |= 1u << thread.index % kWarpThreads;
    Suspend(thread);
  }
}

// Gives a fibre the stack that a Thread remembers: AddressSanitizer wants to know its bounds.
struct RememberedStack {
  Thread* thread;
  context::stack_context allocate() {
    return thread->stack = context::protected_fixedsize_stack(kStackBytes).allocate();
  }
  void deallocate(context::stack_context& stack) {
    context::protected_fixedsize_stack().deallocate(stack);
  }
};

void MakeThreads(int count) {
  while (static_cast<int>(machine.threads.size()) < count) {
    auto thread = std::make_unique<Thread>();
    thread->index = static_cast<int>(machine.threads.size());
    thread->self = context::fiber(std::allocator_arg, RememberedStack{thread.get()},
                                  [thread = thread.get()](context::fiber&& hub) -> context::fiber {
                                    thread->hub = std::move(hub);
                                    Serve(*thread);
                                  });
    if (__tsan_create_fiber != nullptr) thread->tsan_fiber = __tsan_create_fiber(0);
    machine.threads.push_back(std::move(thread));
  }
}

// --- The order of the threads ---

// One of the set bits; which one is left to `turn` (0 to 63), 0: the lowest.
int PickBit(uint32_t mask, uint32_t turn) {
  const int shift = static_cast<int>(turn % 32);
  const uint32_t turned = std::rotr(mask, shift);
  const int found = turn < 32 ? std::countr_zero(turned) : 31 - std::countl_zero(turned);
  return (found + shift) % 32;
}

[[noreturn]] void ReportDeadlock() {
  std::fprintf(stderr, "twin: nothing can run (deadlock) in block %d:\n", machine.block);
  for (int w = 0; w < machine.warp_count; ++w) {
    const Warp& warp = machine.warps[w];
    std::fprintf(stderr, "  warp %d: %d threads have ended", w, std::popcount(warp.exited));
    if (std::popcount(warp.exited) < kWarpThreads) {
      std::fprintf(stderr, ", %d wait at %s", kWarpThreads - std::popcount(warp.exited),
                   Name(warp.operation));
      if (warp.operation == Operation::kSyncNamed) {
        std::fprintf(stderr, "(%u, %u)", warp.barrier, warp.barrier_threads);
      }
      if (warp.arrived != 0) std::fprintf(stderr, " for the other lanes of the warp");
    }
    std::fprintf(stderr, "\n");
  }
  std::abort();
}

// Lets one warp run until it can go no further, or for a random while. False: the block has ended.
bool RunSome() {
  uint32_t ready = 0;
  bool ended = true;
  for (int w = 0; w < machine.warp_count; ++w) {
    ready |= (machine.warps[w].ready != 0 ? 1u : 0u) << w;
    ended &= machine.warps[w].exited == ~0u;
  }
  if (ready == 0) {
    if (!ended) ReportDeadlock();
    return false;
  }
  const bool random = machine.seed != 0;
  const bool bursts = random && machine.seed % 2 == 0;
  const int w = PickBit(ready, random ? Random(64) : 0);
  Warp& warp = machine.warps[w];
  const uint32_t turn = random ? Random(64) : 0;
  uint32_t left = bursts ? 1 + Random(8) : ~0u;
  machine.barrier_opened = false;  // once it has, any warp may be the first beyond
  for (; left > 0 && warp.ready != 0 && !machine.barrier_opened; --left) {
    const int lane = PickBit(warp.ready, turn);
    warp.ready &= ~(1u << lane);
    Resume(*machine.threads[static_cast<size_t>(w * kWarpThreads + lane)]);
  }
  return true;
}

// --- Blocks ---

// Of exact size where AddressSanitizer finds an overrun; else with a margin to look at afterwards.
class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes)
      : bytes_(bytes), margin_(__asan_poison_memory_region != nullptr ? 0 : 128) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 128, bytes + margin_) != 0) Fail("no memory left");
    memory_ = static_cast<unsigned char*>(memory);
    std::memset(memory_, 0xff, bytes + margin_);
  }
  ~SharedMemory() {
    for (size_t i = bytes_; i < bytes_ + margin_; ++i) {
      if (memory_[i] != 0xff) Fail("the block wrote past the end of its shared memory");
    }
    std::free(memory_);
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  char* begin() { return reinterpret_cast<char*>(memory_); }

 private:
  size_t bytes_;
  size_t margin_;
  unsigned char* memory_;
};

void RunBlock(int block) {
  SharedMemory shared(machine.shape.shared_bytes);
  machine.block = block;
  machine.shared = shared.begin();
  for (int w = 0; w < machine.warp_count; ++w) {
    machine.warps[w].ready = ~0u;
    machine.warps[w].exited = 0;
  }
  machine.block_start.Release();
  while (RunSome()) {
  }
  machine.block_end.Acquire();
}

// --- Operations of a warp ---

void DoShuffle(Warp& warp) {
  uint32_t values[kWarpThreads][2];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    for (int i = 0; i < 2; ++i) values[lane][i] = warp.words[lane][i];
  }
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    uint32_t* const words = warp.words[lane];
    const uint32_t from = words[2];
    for (int i = 0; i < 2; ++i) words[i] = values[from][i];
  }
}

void DoShuffleXor(Warp& warp) {
  uint32_t values[kWarpThreads];
  for (int lane = 0; lane < kWarpThreads; ++lane) values[lane] = warp.words[lane][0];
  for (uint32_t lane = 0; lane < kWarpThreads; ++lane) {
    warp.words[lane][0] = values[lane ^ warp.words[lane][1]];
  }
}

void DoBallot(Warp& warp) {
  uint32_t mask = 0;
  for (int lane = 0; lane < kWarpThreads; ++lane) mask |= warp.words[lane][0] << lane;
  for (uint32_t* const words : warp.words) words[0] = mask;
}

void DoLoadMatrices(Warp& warp, bool transposed) {
  uint16_t elements[4][8][8];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const uint32_t word = warp.words[lane][i];
      elements[lane / 8][lane % 8][2 * i] = static_cast<uint16_t>(word);
      elements[lane / 8][lane % 8][2 * i + 1] = static_cast<uint16_t>(word >> 16);
    }
  }
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const int row = lane / 4;
    const int column = 2 * (lane % 4);
    for (int i = 0; i < 4; ++i) {
      const auto& matrix = elements[i];
      const uint32_t first = transposed ? matrix[column][row] : matrix[row][column];
      const uint32_t second = transposed ? matrix[column + 1][row] : matrix[row][column + 1];
      warp.words[lane][i] = second << 16 | first;
    }
  }
}

struct WidenHalf {
  static float Widen(uint32_t bits) {
    // 2^112 moves the exponent's bias from 15 to 127; exact, also for subnormals.
    const float scaled = std::bit_cast<float>((bits & 0x7fff) << 13) * 0x1p112f;
    const uint32_t special = (bits & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | special | (bits & 0x8000) << 16);
  }
};
struct WidenBFloat16 {
  static float Widen(uint32_t bits) { return std::bit_cast<float>(bits << 16); }
};

// In float64 products are exact, and a sum of 17 terms is rounded to fp32 once.
template <typename Format>
void DoMultiplyAdd(Warp& warp) {
  double a[16][16];
  double b[16][8];
  double c[16][8];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const uint32_t* const words = warp.words[lane];
    const int g = lane / 4;
    const int t = 2 * (lane % 4);
    for (int half = 0; half < 2; ++half) {
      const int shift = 16 * half;
      for (int i = 0; i < 4; ++i) {
        a[g + i % 2 * 8][t + i / 2 * 8 + half] = Format::Widen(words[4 + i] >> shift & 0xffff);
      }
      b[t + half][g] = Format::Widen(words[8] >> shift & 0xffff);
      b[t + 8 + half][g] = Format::Widen(words[9] >> shift & 0xffff);
      c[g][t + half] = std::bit_cast<float>(words[half]);
      c[g + 8][t + half] = std::bit_cast<float>(words[2 + half]);
    }
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const double sum = c[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
      warp.words[lane][i] = std::bit_cast<uint32_t>(static_cast<float>(sum));
    }
  }
}

void ArriveAtBarrier(Warp& warp, Order& lanes) {
  BlockBarrier& barrier = machine.barriers[warp.barrier];
  if (barrier.arrived == 0) barrier.threads = warp.barrier_threads;
  if (barrier.threads != warp.barrier_threads) {
    Fail("SyncNamed: warps give different numbers of threads for one barrier");
  }
  lanes.Acquire();
  warp.passed = &barrier.meetings.Next();
  warp.passed->Release();
  barrier.arrived += kWarpThreads;
  barrier.warps |= 1u << (&warp - machine.warps);
  if (barrier.arrived < barrier.threads) return;
  for (int w = 0; w < machine.warp_count; ++w) {
    if ((barrier.warps >> w & 1) != 0) machine.warps[w].ready = ~0u;
  }
  barrier.arrived = 0;
  barrier.warps = 0;
  barrier.meetings.Hold();
  machine.barrier_opened = true;
}

// The last lane does it for all.
void Perform(Warp& warp, Order& lanes) {
  switch (warp.operation) {
    case Operation::kSyncWarp:
      return;
    case Operation::kSyncBlock:
    case Operation::kSyncNamed:
      return ArriveAtBarrier(warp, lanes);
    case Operation::kShuffle:
      return DoShuffle(warp);
    case Operation::kShuffleXor:
      return DoShuffleXor(warp);
    case Operation::kBallot:
      return DoBallot(warp);
    case Operation::kLoadMatrices:
      return DoLoadMatrices(warp, false);
    case Operation::kLoadMatricesTransposed:
      return DoLoadMatrices(warp, true);
    case Operation::kMultiplyAddHalf:
      return DoMultiplyAdd<WidenHalf>(warp);
    case Operation::kMultiplyAddBFloat16:
      return DoMultiplyAdd<WidenBFloat16>(warp);
  }
}

// Waits for the lanes of the warp, and at a barrier for the other warps too.
void Meet(Operation operation, uint32_t* words, int barrier, int threads) {
  Thread& thread = *machine.current;
  Warp& warp = machine.warps[thread.index / kWarpThreads];
  if (warp.arrived == 0) {
    warp.operation = operation;
    warp.barrier = static_cast<uint32_t>(barrier);
    warp.barrier_threads = static_cast<uint32_t>(threads);
  } else if (warp.operation != operation || warp.barrier != static_cast<uint32_t>(barrier) ||
             warp.barrier_threads != static_cast<uint32_t>(threads)) {
    char sentence[160];
    std::snprintf(sentence, sizeof(sentence),
                  "lanes of one warp are at different operations: %s here, %s before",
                  Name(operation), Name(warp.operation));
    Fail(sentence);
  }
  const bool at_barrier = operation == Operation::kSyncBlock || operation == Operation::kSyncNamed;
  const bool orders = at_barrier || operation == Operation::kSyncWarp;
  Order& lanes = warp.meetings.Next();
  const uint32_t bit = 1u << thread.index % kWarpThreads;
  if (orders) lanes.Release();
  warp.words[thread.index % kWarpThreads] = words;
  warp.arrived |= bit;
  const bool last = warp.arrived == ~0u;
  if (last) {
    Perform(warp, lanes);
    warp.meetings.Hold();
    warp.arrived = 0;
    if (!at_barrier) warp.ready = ~bit;  // this lane runs on
  }
  if (!last || at_barrier) Suspend(thread);
  if (orders) (at_barrier ? *warp.passed : lanes).Acquire();
}

}  // namespace

void Fail(const char* sentence) {
  if (machine.current == nullptr) {
    std::fprintf(stderr, "twin: %s\n", sentence);
  } else {
    std::fprintf(stderr, "twin: block %d, thread %d: %s\n", machine.block, machine.current->index,
                 sentence);
  }
  std::abort();
}

void LaunchBody(const LaunchShape& shape, uint64_t seed, void (*body)(const void*),
                const void* closure) {
  if (machine.body != nullptr) Fail("a launch within a launch");
  if (shape.blocks < 1) Fail("a launch without blocks");
  if (shape.threads < 1 || shape.threads > kMaxThreads || shape.threads % kWarpThreads != 0) {
    Fail("the threads of a block are not 1 to 32 whole warps");
  }
  if (shape.shared_bytes > kMaxSharedBytes) Fail("more shared memory than a block can have");
  MakeThreads(shape.threads);
  machine.shape = shape;
  machine.body = body;
  machine.closure = closure;
  machine.seed = seed;
  machine.random = seed;
  machine.warp_count = shape.threads / kWarpThreads;
  if (__tsan_get_current_fiber != nullptr) machine.hub_tsan_fiber = __tsan_get_current_fiber();
  for (int block = 0; block < shape.blocks; ++block) RunBlock(block);
  machine.body = nullptr;
}

uint64_t Resumes() { return machine.resumes; }

int ThreadIndex() { return machine.current->index; }
int BlockIndex() { return machine.block; }
int BlockCount() { return machine.shape.blocks; }
int BlockThreads() { return machine.shape.threads; }
char* Smem() { return machine.shared; }

void WarpOperation(Operation operation, uint32_t* words) { Meet(operation, words, 0, 0); }

void Barrier(int barrier, int threads) {
  if (threads < kWarpThreads || threads > machine.shape.threads || threads % kWarpThreads != 0) {
    Fail("SyncNamed: the threads are not whole warps of the block");
  }
  Meet(barrier == 0 ? Operation::kSyncBlock : Operation::kSyncNamed, nullptr, barrier, threads);
}

void CheckShared(const void* at, const char* what) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(machine.shared);
  const uintptr_t address = reinterpret_cast<uintptr_t>(at);
  const bool aligned = address % 16 == 0;
  if (aligned && address >= begin && address + 16 <= begin + machine.shape.shared_bytes) return;
  char sentence[160];
  std::snprintf(sentence, sizeof(sentence), "%s %s (byte %lld of %zu)", what,
                aligned ? "lies outside shared memory" : "is not a multiple of 16",
                static_cast<long long>(address - begin), machine.shape.shared_bytes);  // NOLINT
  Fail(sentence);
}

void BeginCopy(uint32_t* to, const uint32_t (&words)[4]) {
  Thread& thread = *machine.current;
  thread.copies.push_back({to, {words[0], words[1], words[2], words[3]}, thread.group});
  if (__asan_poison_memory_region != nullptr) __asan_poison_memory_region(to, 16);
}

void CommitGroup() { ++machine.current->group; }

uint32_t* NextLanding(uint32_t pending, uint32_t (&words)[4]) {
  Thread& thread = *machine.current;
  if (thread.landed == thread.copies.size()) {
    thread.copies.clear();
    thread.landed = 0;
    return nullptr;
  }
  const Copy& copy = thread.copies[thread.landed];
  if (thread.group - copy.group <= pending) return nullptr;
  ++thread.landed;
  for (int i = 0; i < 4; ++i) words[i] = copy.words[i];
  if (__asan_unpoison_memory_region != nullptr) __asan_unpoison_memory_region(copy.to, 16);
  return copy.to;
}

}  // namespace quire::twin
