// The functions of kernels/cuda/ptx.cuh for the host twin, where the threads of a block are fibres
// (twin.h). The rules are written down there.
//
// Whatever a kernel can see in memory is read and written here, in code that sanitizers watch; the
// runtime behind it is not watched.

#ifndef QUIRE_TESTS_SUPPORT_TWIN_KERNELS_CUDA_PTX_CUH_
#define QUIRE_TESTS_SUPPORT_TWIN_KERNELS_CUDA_PTX_CUH_

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/half.h"
#include "tests/support/twin/twin.h"

#define QUIRE_DEVICE inline
#define QUIRE_KERNEL(threads, blocks) void
#define QUIRE_PARAMETER(type) const type
#define QUIRE_UNROLL
#define QUIRE_UNROLL_BY(times)

namespace quire {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

namespace ptx {

inline constexpr int kWarpThreads = 32;

QUIRE_DEVICE int ThreadIndex() { return twin::ThreadIndex(); }
QUIRE_DEVICE int BlockIndex() { return twin::BlockIndex(); }
QUIRE_DEVICE int BlockCount() { return twin::BlockCount(); }
QUIRE_DEVICE int BlockThreads() { return twin::BlockThreads(); }
QUIRE_DEVICE char* Smem() { return twin::Smem(); }

QUIRE_DEVICE void SyncBlock() { twin::Barrier(0, twin::BlockThreads()); }
QUIRE_DEVICE void SyncWarp() { twin::WarpOperation(twin::Operation::kSyncWarp, nullptr); }
QUIRE_DEVICE void SyncNamed(int barrier, int threads) {
  if (barrier < 1 || barrier > 15) twin::Fail("SyncNamed: the barrier is not one of 1 to 15");
  twin::Barrier(barrier, threads);
}

QUIRE_DEVICE int64_t Shuffle(int64_t value, int lane) {
  if (lane < 0 || lane >= kWarpThreads) twin::Fail("Shuffle: the lane is not one of 0 to 31");
  const auto bits = static_cast<uint64_t>(value);
  uint32_t words[3] = {static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32),
                       static_cast<uint32_t>(lane)};
  twin::WarpOperation(twin::Operation::kShuffle, words);
  return static_cast<int64_t>(uint64_t{words[1]} << 32 | words[0]);
}
QUIRE_DEVICE int32_t Shuffle(int32_t value, int lane) {
  return static_cast<int32_t>(Shuffle(int64_t{value}, lane));
}
QUIRE_DEVICE float Shuffle(float value, int lane) {
  return std::bit_cast<float>(Shuffle(std::bit_cast<int32_t>(value), lane));
}
QUIRE_DEVICE float ShuffleXor(float value, int mask) {
  if (mask < 0 || mask >= kWarpThreads) twin::Fail("ShuffleXor: the mask is not one of 0 to 31");
  uint32_t words[2] = {std::bit_cast<uint32_t>(value), static_cast<uint32_t>(mask)};
  twin::WarpOperation(twin::Operation::kShuffleXor, words);
  return std::bit_cast<float>(words[0]);
}

QUIRE_DEVICE uint32_t Ballot(bool predicate) {
  uint32_t words[1] = {predicate};
  twin::WarpOperation(twin::Operation::kBallot, words);
  return words[0];
}
QUIRE_DEVICE bool Any(bool predicate) { return Ballot(predicate) != 0; }
QUIRE_DEVICE bool All(bool predicate) { return Ballot(predicate) == 0xffffffffu; }

struct alignas(16) Vector16 {
  uint32_t words[4];
};

// Ends the process unless `at` is 16-byte aligned.
QUIRE_DEVICE void CheckAligned(const void* at, const char* sentence) {
  if (reinterpret_cast<uintptr_t>(at) % 16 != 0) twin::Fail(sentence);
}

QUIRE_DEVICE Vector16 LoadConstant(const Vector16* at) {
  CheckAligned(at, "LoadConstant: the address is not a multiple of 16");
  return *at;
}
QUIRE_DEVICE int32_t LoadConstant(const int32_t* at) { return *at; }
QUIRE_DEVICE Vector16 LoadStreaming(const Vector16* at) {
  CheckAligned(at, "LoadStreaming: the address is not a multiple of 16");
  return *at;
}

QUIRE_DEVICE void LoadMatrices(uint32_t (&registers)[4], const void* row) {
  twin::CheckShared(row, "LoadMatrices: the row");
  const Vector16 read = *static_cast<const Vector16*>(row);
  for (int i = 0; i < 4; ++i) registers[i] = read.words[i];
  twin::WarpOperation(twin::Operation::kLoadMatrices, registers);
}
QUIRE_DEVICE void LoadMatricesTransposed(uint32_t (&registers)[4], const void* row) {
  twin::CheckShared(row, "LoadMatricesTransposed: the row");
  const Vector16 read = *static_cast<const Vector16*>(row);
  for (int i = 0; i < 4; ++i) registers[i] = read.words[i];
  twin::WarpOperation(twin::Operation::kLoadMatricesTransposed, registers);
}

QUIRE_DEVICE void MultiplyAdd(twin::Operation operation, float (&c)[4], const uint32_t (&a)[4],
                              uint32_t b0, uint32_t b1) {
  uint32_t words[10];
  for (int i = 0; i < 4; ++i) words[i] = std::bit_cast<uint32_t>(c[i]);
  for (int i = 0; i < 4; ++i) words[4 + i] = a[i];
  words[8] = b0;
  words[9] = b1;
  twin::WarpOperation(operation, words);
  for (int i = 0; i < 4; ++i) c[i] = std::bit_cast<float>(words[i]);
}
QUIRE_DEVICE void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                              BFloat16 /*elements*/) {
  MultiplyAdd(twin::Operation::kMultiplyAddBFloat16, c, a, b0, b1);
}
QUIRE_DEVICE void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                              Half /*elements*/) {
  MultiplyAdd(twin::Operation::kMultiplyAddHalf, c, a, b0, b1);
}

// A GPU may read the source and write the target at any time until the wait. Here the source is
// read at once, so that the address is judged at the line that gave it; the target is NaN until the
// wait, and AddressSanitizer forbids to touch it.
QUIRE_DEVICE void CopyAsync(void* shared, const void* global, bool valid) {
  twin::CheckShared(shared, "CopyAsync: the target");
  CheckAligned(global, "CopyAsync: the source is not a multiple of 16");
  const Vector16 read = valid ? *static_cast<const Vector16*>(global) : Vector16{{0, 0, 0, 0}};
  auto* const target = static_cast<Vector16*>(shared);
  *target = {{~0u, ~0u, ~0u, ~0u}};
  twin::BeginCopy(target->words, read.words);
}
QUIRE_DEVICE void CommitGroup() { twin::CommitGroup(); }
template <int kPending>
QUIRE_DEVICE void WaitForGroups() {
  static_assert(kPending >= 0);
  Vector16 landed;
  while (uint32_t* const target = twin::NextLanding(kPending, landed.words)) {
    for (int i = 0; i < 4; ++i) target[i] = landed.words[i];
  }
}

// ex2.approx.ftz: subnormals, given or returned, are zero.
QUIRE_DEVICE float Exp2(float x) {
  const float y = std::exp2(x);
  return y < std::numeric_limits<float>::min() ? 0.0f : y;
}
QUIRE_DEVICE float Log2(float x) { return std::log2(x); }
QUIRE_DEVICE float Tanh(float x) { return std::tanh(x); }
// rcp.approx.ftz: subnormals, given or returned, are zero.
QUIRE_DEVICE float Reciprocal(float x) {
  constexpr float kTiny = std::numeric_limits<float>::min();
  const float y = 1 / (std::abs(x) < kTiny ? std::copysign(0.0f, x) : x);
  return std::abs(y) < kTiny ? std::copysign(0.0f, y) : y;
}
QUIRE_DEVICE float Fma(float a, float b, float c) { return std::fma(a, b, c); }
// Not std::fmax, which returns a NaN for a signalling one.
QUIRE_DEVICE float Max(float a, float b) {
  if (std::isnan(a)) return b;
  return b > a ? b : a;
}

// cvt.rn makes every NaN 0x7fff.
QUIRE_DEVICE uint32_t Pack(float low, float high, BFloat16 /*elements*/) {
  const uint32_t low_bits = std::isnan(low) ? 0x7fff : ToBFloat16(low);
  const uint32_t high_bits = std::isnan(high) ? 0x7fff : ToBFloat16(high);
  return high_bits << 16 | low_bits;
}
QUIRE_DEVICE uint32_t Pack(float low, float high, Half /*elements*/) {
  const uint32_t low_bits = std::isnan(low) ? 0x7fff : ToFloat16(low);
  const uint32_t high_bits = std::isnan(high) ? 0x7fff : ToFloat16(high);
  return high_bits << 16 | low_bits;
}

// Relaxed, as on a GPU, so that ThreadSanitizer does not take it for an order of other memory.
QUIRE_DEVICE int32_t AtomicAdd(int32_t* at, int32_t value) {
  return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

QUIRE_DEVICE void Check(bool condition) {
  if (!condition) twin::Fail("ptx::Check failed");
}

}  // namespace ptx
}  // namespace quire

#endif  // QUIRE_TESTS_SUPPORT_TWIN_KERNELS_CUDA_PTX_CUH_
