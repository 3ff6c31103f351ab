// Every function of ptx.cuh, asked by a kernel and compared with what the PTX manual promises. The
// same cases run on the host twin (twin_ptx_test.cc) and on a GPU (gpu/ptx_test.cu): the first
// shows that the twin is right, the second that the assembly is.
//
// A launcher has
//   T* Allocate<T>(size_t count)   memory that host and kernels see, which it keeps
//   void Run(blocks, threads, shared_bytes, kernel, arguments...)   returns when the kernel has
//   ended
// Expected values are made by plain loops from the manual's tables (PTX ISA 9.0, 9.7.14.5), each
// element asking which lane holds it, where the twin has each lane ask for its elements.

#ifndef QUIRE_TESTS_SUPPORT_PTX_CASES_CUH_
#define QUIRE_TESTS_SUPPORT_PTX_CASES_CUH_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cuda/ptx.cuh"
#include "kernels/half.h"

namespace quire::testing {

inline constexpr int kCaseThreads = 128;

// --- Kernels ---

struct WhoOutput {
  int32_t thread, block, blocks, threads, misaligned;
};
QUIRE_KERNEL(kCaseThreads, 1) WhoKernel(WhoOutput* out) {
  const int thread = ptx::ThreadIndex();
  const int block = ptx::BlockIndex();
  const auto shared = reinterpret_cast<uintptr_t>(ptx::Smem());
  ptx::Check(thread >= 0);
  out[block * ptx::BlockThreads() + thread] = {
      thread, block, ptx::BlockCount(), ptx::BlockThreads(), static_cast<int32_t>(shared % 128)};
}

struct LaneInput {
  int64_t wide;
  int32_t narrow;
  float real;
  int32_t lane;
  int32_t mask;  // the same in a warp, as shuffles by a mask are used
  bool predicate;
};
struct LaneOutput {
  int64_t wide;
  int32_t narrow;
  float real;
  float exchanged;
  uint32_t ballot;
  bool any;
  bool all;
};
QUIRE_KERNEL(kCaseThreads, 1) LaneKernel(const LaneInput* in, LaneOutput* out) {
  const int thread = ptx::ThreadIndex();
  const LaneInput mine = in[thread];
  out[thread] = {ptx::Shuffle(mine.wide, mine.lane),
                 ptx::Shuffle(mine.narrow, mine.lane),
                 ptx::Shuffle(mine.real, mine.lane),
                 ptx::ShuffleXor(mine.real, mine.mask),
                 ptx::Ballot(mine.predicate),
                 ptx::Any(mine.predicate),
                 ptx::All(mine.predicate)};
}

QUIRE_KERNEL(kCaseThreads, 1)
LoadKernel(const ptx::Vector16* in, const int32_t* words, ptx::Vector16* out) {
  const int thread = ptx::ThreadIndex();
  const int32_t word = ptx::LoadConstant(words + thread);
  out[3 * thread] = ptx::LoadConstant(in + thread);
  out[3 * thread + 1] = ptx::LoadStreaming(in + thread);
  out[3 * thread + 2] = {{static_cast<uint32_t>(word), 0, 0, 0}};
}

// One warp. Row i of the 32 is put at places[i] * 16 bytes into shared memory.
QUIRE_KERNEL(32, 1)
MatrixKernel(const ptx::Vector16* rows, const int32_t* places, uint32_t* out,
             uint32_t* transposed) {
  const int lane = ptx::ThreadIndex();
  auto* const shared = reinterpret_cast<ptx::Vector16*>(ptx::Smem());
  shared[places[lane]] = rows[lane];
  ptx::SyncWarp();
  uint32_t registers[4];
  ptx::LoadMatrices(registers, shared + places[lane]);
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = registers[i];
  ptx::LoadMatricesTransposed(registers, shared + places[lane]);
  for (int i = 0; i < 4; ++i) transposed[4 * lane + i] = registers[i];
}

// One warp. Operands as registers, [lane][register], and the same as matrices, A row by row and B
// row by row; the sum of both ways, which are added to the same c.
struct ProductArgs {
  const uint32_t* a;            // [32][4]
  const uint32_t* b;            // [32][2]
  const ptx::Vector16* a_rows;  // [16][2]
  const ptx::Vector16* b_rows;  // [16]
  float* c;                     // [32][4], from registers
  float* c_shared;              // [32][4], from shared memory
};
template <typename Element>
QUIRE_KERNEL(32, 1)
ProductKernel(QUIRE_PARAMETER(ProductArgs) args) {
  const int lane = ptx::ThreadIndex();
  uint32_t a[4];
  float c[4];
  for (int i = 0; i < 4; ++i) a[i] = args.a[4 * lane + i];
  for (int i = 0; i < 4; ++i) c[i] = args.c[4 * lane + i];
  ptx::MultiplyAdd(c, a, args.b[2 * lane], args.b[2 * lane + 1], Element{});
  for (int i = 0; i < 4; ++i) args.c[4 * lane + i] = c[i];

  auto* const shared = reinterpret_cast<ptx::Vector16*>(ptx::Smem());
  shared[lane] = args.a_rows[lane];
  if (lane < 16) shared[32 + lane] = args.b_rows[lane];
  ptx::SyncWarp();
  uint32_t b[4];
  ptx::LoadMatrices(a, shared + 2 * (lane % 16) + lane / 16);
  ptx::LoadMatricesTransposed(b, shared + 32 + lane % 16);
  for (int i = 0; i < 4; ++i) c[i] = args.c_shared[4 * lane + i];
  ptx::MultiplyAdd(c, a, b[0], b[1], Element{});
  for (int i = 0; i < 4; ++i) args.c_shared[4 * lane + i] = c[i];
}

// Three groups of one copy each, of which the second is followed by an empty group. `own` is what
// the thread itself sees after each wait, `other` what it sees of a thread of another warp.
inline constexpr int kCopyGroups = 3;
QUIRE_KERNEL(kCaseThreads, 1)
CopyKernel(const ptx::Vector16* from, const int32_t* sources, const int32_t* valid,
           ptx::Vector16* own, ptx::Vector16* other) {
  const int thread = ptx::ThreadIndex();
  auto* const shared = reinterpret_cast<ptx::Vector16*>(ptx::Smem());
  for (int group = 0; group < kCopyGroups; ++group) {
    const int at = group * kCaseThreads + thread;
    ptx::CopyAsync(shared + at, from + sources[at], valid[at] != 0);
    ptx::CommitGroup();
    if (group == 1) ptx::CommitGroup();
  }
  ptx::WaitForGroups<3>();
  own[thread] = shared[thread];
  ptx::WaitForGroups<1>();
  own[kCaseThreads + thread] = shared[kCaseThreads + thread];
  ptx::WaitForGroups<0>();
  own[2 * kCaseThreads + thread] = shared[2 * kCaseThreads + thread];
  ptx::SyncBlock();
  const int partner = (thread + 37) % kCaseThreads;
  for (int group = 0; group < kCopyGroups; ++group) {
    other[group * kCaseThreads + thread] = shared[group * kCaseThreads + partner];
  }
}

QUIRE_KERNEL(kCaseThreads, 1)
PackKernel(const float* pairs, int count, uint32_t* half, uint32_t* bfloat16) {
  for (int i = ptx::ThreadIndex(); i < count; i += kCaseThreads) {
    half[i] = ptx::Pack(pairs[2 * i], pairs[2 * i + 1], Half{});
    bfloat16[i] = ptx::Pack(pairs[2 * i], pairs[2 * i + 1], BFloat16{});
  }
}

struct MathOutput {
  float exp2, log2, tanh, fma, max;
};
QUIRE_KERNEL(kCaseThreads, 1) MathKernel(const float* in, int count, MathOutput* out) {
  for (int i = ptx::ThreadIndex(); i < count; i += kCaseThreads) {
    const float y = in[(i + 1) % count];
    const float z = in[(i + 7) % count];
    out[i] = {ptx::Exp2(in[i]), ptx::Log2(in[i]), ptx::Tanh(in[i]), ptx::Fma(in[i], y, z),
              ptx::Max(in[i], y)};
  }
}

QUIRE_KERNEL(kCaseThreads, 1) AtomicKernel(int32_t* counter, int32_t* sum, int32_t* before) {
  const int at = ptx::BlockIndex() * kCaseThreads + ptx::ThreadIndex();
  before[at] = ptx::AtomicAdd(counter, 1);
  ptx::AtomicAdd(sum, at % 2 == 0 ? at : -3 * at);
}

// Threads pass numbers to one another through shared memory and add up what they get: within the
// warp, within a pair of warps that has a barrier of its own, within the block.
QUIRE_KERNEL(kCaseThreads, 1) BarrierKernel(int rounds, int32_t* out) {
  const int thread = ptx::ThreadIndex();
  auto* const shared = reinterpret_cast<int32_t*>(ptx::Smem());
  int32_t sums[3] = {0, 0, 0};
  for (int round = 0; round < rounds; ++round) {
    shared[thread] = round + thread;
    ptx::SyncWarp();
    sums[0] += shared[thread / 32 * 32 + (thread + 1 + round) % 32];
    ptx::SyncWarp();
    shared[thread] = 2 * round + thread;
    ptx::SyncNamed(1 + thread / 64, 64);
    sums[1] += shared[thread / 64 * 64 + (thread + 33) % 64];
    ptx::SyncNamed(15 - thread / 64, 64);
    shared[thread] = 3 * round + thread;
    ptx::SyncBlock();
    sums[2] += shared[(thread + 65) % kCaseThreads];
    ptx::SyncNamed(3, kCaseThreads);
  }
  for (int i = 0; i < 3; ++i) out[3 * thread + i] = sums[i];
}

// --- Expectations ---

// Collects what is wrong, the first few of each case.
class PtxFailures {
 public:
  void Begin(const std::string& name) { name_ = name; }
  template <typename Got, typename Wanted>
  void Expect(bool right, int64_t at, const Got& got, const Wanted& wanted) {
    if (right || ++counts_[name_] > 5) return;
    std::ostringstream text;
    text.precision(10);
    text << name_ << " " << at << ": " << got << ", not " << wanted;
    list_.push_back(text.str());
  }
  template <typename Got, typename Wanted>
  void ExpectSame(int64_t at, const Got& got, const Wanted& wanted) {
    Expect(got == wanted, at, got, wanted);
  }
  const std::vector<std::string>& list() const { return list_; }

 private:
  std::string name_;
  std::map<std::string, int> counts_;
  std::vector<std::string> list_;
};

template <typename Launcher>
class PtxCases {
 public:
  PtxCases(Launcher& launcher, uint32_t seed) : launcher_(launcher), random_(seed) {}

  // What is wrong, in words; empty: nothing.
  std::vector<std::string> Run() {
    Who();
    Lanes();
    Loads();
    Matrices();
    for (const Operands operands : {Operands::kSmallIntegers, Operands::kRandomBits}) {
      Products<Half>(operands);
      Products<BFloat16>(operands);
    }
    ProductsOfInfinities();
    Copies();
    Packs();
    Maths();
    Atomics();
    Barriers();
    return failures_.list();
  }

 private:
  static constexpr int kMasks[4] = {1, 16, 31, 6};  // of warp 0, 1, ...
  enum class Operands { kSmallIntegers, kRandomBits, kInfinity };
  struct Dense {
    uint16_t a[16][16];
    uint16_t b[16][8];
    float c[16][8];
  };

  template <typename T>
  T* Filled(const std::vector<T>& values) {
    T* const at = launcher_.template Allocate<T>(values.size());
    std::copy(values.begin(), values.end(), at);
    return at;
  }
  uint32_t Bits() { return static_cast<uint32_t>(random_()); }
  int32_t Below(uint32_t limit) { return static_cast<int32_t>(Bits() % limit); }
  ptx::Vector16 Bytes() { return {{Bits(), Bits(), Bits(), Bits()}}; }
  std::vector<ptx::Vector16> ManyBytes(int count) {
    std::vector<ptx::Vector16> bytes(static_cast<size_t>(count));
    for (ptx::Vector16& b : bytes) b = Bytes();
    return bytes;
  }

  void Who() {
    constexpr int kBlocks = 3;
    auto* const out = launcher_.template Allocate<WhoOutput>(kBlocks * 64);
    launcher_.Run(kBlocks, 64, 48, WhoKernel, out);
    failures_.Begin("indices and shared memory, thread");
    for (int i = 0; i < kBlocks * 64; ++i) {
      failures_.ExpectSame(i, out[i].thread, i % 64);
      failures_.ExpectSame(i, out[i].block, i / 64);
      failures_.ExpectSame(i, out[i].blocks, kBlocks);
      failures_.ExpectSame(i, out[i].threads, 64);
      failures_.ExpectSame(i, out[i].misaligned, 0);
    }
  }

  void Lanes() {
    std::vector<LaneInput> in(kCaseThreads);
    for (int i = 0; i < kCaseThreads; ++i) {
      const auto wide = static_cast<int64_t>(uint64_t{Bits()} << 32 | Bits());
      const auto real = std::bit_cast<float>(Bits() & 0xbfffffff);  // never a NaN
      const bool predicate = i / 32 == 0 || (i / 32 >= 2 && Bits() % 2 == 0);
      in[static_cast<size_t>(i)] = {
          wide, static_cast<int32_t>(Bits()), real, Below(32), kMasks[i / 32], predicate};
    }
    auto* const out = launcher_.template Allocate<LaneOutput>(kCaseThreads);
    launcher_.Run(1, kCaseThreads, 0, LaneKernel, Filled(in), out);
    failures_.Begin("shuffles and votes, thread");
    for (int i = 0; i < kCaseThreads; ++i) {
      const LaneInput& mine = in[static_cast<size_t>(i)];
      const LaneInput* const warp = &in[static_cast<size_t>(i / 32 * 32)];
      uint32_t ballot = 0;
      for (int lane = 0; lane < 32; ++lane) ballot |= (warp[lane].predicate ? 1u : 0u) << lane;
      failures_.ExpectSame(i, out[i].wide, warp[mine.lane].wide);
      failures_.ExpectSame(i, out[i].narrow, warp[mine.lane].narrow);
      failures_.ExpectSame(i, out[i].real, warp[mine.lane].real);
      failures_.ExpectSame(i, out[i].exchanged, warp[i % 32 ^ mine.mask].real);
      failures_.ExpectSame(i, out[i].ballot, ballot);
      failures_.ExpectSame(i, out[i].any, ballot != 0);
      failures_.ExpectSame(i, out[i].all, ballot == 0xffffffff);
    }
  }

  void ExpectBytes(int64_t at, const ptx::Vector16& got, const ptx::Vector16& wanted) {
    for (int i = 0; i < 4; ++i) failures_.ExpectSame(at, got.words[i], wanted.words[i]);
  }

  void Loads() {
    const std::vector<ptx::Vector16> in = ManyBytes(kCaseThreads);
    std::vector<int32_t> words(kCaseThreads);
    for (int32_t& word : words) word = static_cast<int32_t>(Bits());
    auto* const out = launcher_.template Allocate<ptx::Vector16>(3 * kCaseThreads);
    launcher_.Run(1, kCaseThreads, 0, LoadKernel, Filled(in), Filled(words), out);
    failures_.Begin("loads, thread");
    for (int i = 0; i < kCaseThreads; ++i) {
      ExpectBytes(i, out[3 * i], in[static_cast<size_t>(i)]);
      ExpectBytes(i, out[3 * i + 1], in[static_cast<size_t>(i)]);
      failures_.ExpectSame(i, static_cast<int32_t>(out[3 * i + 2].words[0]),
                           words[static_cast<size_t>(i)]);
    }
  }

  static uint16_t Part(uint32_t word, int half) {
    return static_cast<uint16_t>(half == 0 ? word & 0xffff : word >> 16);
  }

  void Matrices() {
    const std::vector<ptx::Vector16> rows = ManyBytes(32);
    std::vector<int32_t> places(64);
    for (int i = 0; i < 64; ++i) places[static_cast<size_t>(i)] = i;
    std::shuffle(places.begin(), places.end(), random_);
    auto* const out = launcher_.template Allocate<uint32_t>(128);
    auto* const transposed = launcher_.template Allocate<uint32_t>(128);
    launcher_.Run(1, 32, 64 * 16, MatrixKernel, Filled(rows), Filled(places), out, transposed);
    failures_.Begin("LoadMatrices, element");
    for (int matrix = 0; matrix < 4; ++matrix) {
      for (int row = 0; row < 8; ++row) {
        for (int column = 0; column < 8; ++column) {
          const ptx::Vector16& bytes = rows[static_cast<size_t>(8 * matrix + row)];
          const int element = Part(bytes.words[column / 2], column % 2);
          const int at = 64 * matrix + 8 * row + column;
          // A row lies in four neighbouring lanes, two elements each; of the transpose, a column.
          const uint32_t word = out[4 * (4 * row + column / 2) + matrix];
          failures_.ExpectSame(at, Part(word, column % 2), element);
          const uint32_t other = transposed[4 * (4 * column + row / 2) + matrix];
          failures_.ExpectSame(at + 256, Part(other, row % 2), element);
        }
      }
    }
  }

  template <typename Element>
  static float Widen(uint16_t bits) {
    return std::is_same_v<Element, Half> ? FromFloat16(bits) : FromBFloat16(bits);
  }
  template <typename Element>
  static uint16_t Narrow(float value) {
    return std::is_same_v<Element, Half> ? ToFloat16(value) : ToBFloat16(value);
  }

  // Any finite number for fp16; for bf16 of 2^-30 to 2^30, so that no product leaves fp32.
  template <typename Element>
  uint16_t RandomElement(Operands operands) {
    if (operands == Operands::kSmallIntegers) {
      return Narrow<Element>(static_cast<float>(Below(17) - 8));
    }
    const uint32_t bits = Bits();
    if (std::is_same_v<Element, Half>) {
      return static_cast<uint16_t>((bits & 0x83ff) | (bits >> 16) % 31 << 10);
    }
    return static_cast<uint16_t>((bits & 0x807f) | (97 + (bits >> 16) % 61) << 7);
  }

  template <typename Element>
  Dense RandomOperands(Operands operands) {
    Dense dense;
    for (auto& row : dense.a) {
      for (uint16_t& element : row) element = RandomElement<Element>(operands);
    }
    for (auto& row : dense.b) {
      for (uint16_t& element : row) element = RandomElement<Element>(operands);
    }
    for (auto& row : dense.c) {
      for (float& element : row) {
        element = Widen<Element>(RandomElement<Element>(operands)) * 3;
      }
    }
    return dense;
  }

  // Lays the operands out as the manual's figures do, element by element, and runs the kernel.
  template <typename Element>
  void Multiply(const Dense& dense, Dense* registers, Dense* shared) {
    std::vector<uint32_t> a(128);
    std::vector<uint32_t> b(64);
    std::vector<float> c(128);
    const auto put = [](uint32_t& word, int half, uint32_t bits) { word |= bits << 16 * half; };
    for (int row = 0; row < 16; ++row) {
      for (int k = 0; k < 16; ++k) {
        const int lane = row % 8 * 4 + k % 8 / 2;
        put(a[static_cast<size_t>(4 * lane + row / 8 + k / 8 * 2)], k % 2, dense.a[row][k]);
      }
      for (int column = 0; column < 8; ++column) c[CIndex(row, column)] = dense.c[row][column];
    }
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < 8; ++column) {
        const int lane = column * 4 + k % 8 / 2;
        put(b[static_cast<size_t>(2 * lane + k / 8)], k % 2, dense.b[k][column]);
      }
    }
    ProductArgs args = {};
    args.a = Filled(a);
    args.b = Filled(b);
    args.a_rows = Rows(&dense.a[0][0], 32);
    args.b_rows = Rows(&dense.b[0][0], 16);
    args.c = Filled(c);
    args.c_shared = Filled(c);
    launcher_.Run(1, 32, 48 * 16, ProductKernel<Element>, args);
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        registers->c[row][column] = args.c[CIndex(row, column)];
        shared->c[row][column] = args.c_shared[CIndex(row, column)];
      }
    }
  }
  static size_t CIndex(int row, int column) {
    return static_cast<size_t>(4 * (row % 8 * 4 + column / 2) + row / 8 * 2 + column % 2);
  }
  ptx::Vector16* Rows(const uint16_t* elements, int count) {
    std::vector<ptx::Vector16> rows(static_cast<size_t>(count));
    for (int i = 0; i < 8 * count; ++i) {
      uint32_t& word = rows[static_cast<size_t>(i / 8)].words[i % 8 / 2];
      word = i % 2 == 0 ? elements[i] : word | static_cast<uint32_t>(elements[i]) << 16;
    }
    return Filled(rows);
  }

  // A tensor core adds up to 17 numbers after cutting each to the place of the largest one's last
  // bit, 2^-23 of it, and may do so in two steps (Fasi, Higham, Mikaitis and Pranesh, "Numerical
  // behavior of NVIDIA tensor cores", 2021). Small integers are exact.
  template <typename Element>
  void Products(Operands operands) {
    failures_.Begin(std::is_same_v<Element, Half> ? "MultiplyAdd of Half, element"
                                                  : "MultiplyAdd of BFloat16, element");
    for (int repeat = 0; repeat < 8; ++repeat) {
      const Dense dense = RandomOperands<Element>(operands);
      Dense registers;
      Dense shared;
      Multiply<Element>(dense, &registers, &shared);
      for (int at = 0; at < 128; ++at) {
        const int row = at / 8;
        const int column = at % 8;
        double sum = dense.c[row][column];
        double size = std::abs(sum);
        for (int k = 0; k < 16; ++k) {
          const double a = Widen<Element>(dense.a[row][k]);
          sum += a * Widen<Element>(dense.b[k][column]);
          size += std::abs(a * Widen<Element>(dense.b[k][column]));
        }
        const double bound = operands == Operands::kSmallIntegers ? 0 : 17 * 0x1p-22 * size;
        for (const Dense* const got : {&registers, &shared}) {
          const float c = got->c[row][column];
          failures_.Expect(std::abs(c - sum) <= bound, at, c, sum);
        }
      }
    }
  }

  // An infinity in A reaches its row, a NaN in B its column, and nothing else.
  void ProductsOfInfinities() {
    failures_.Begin("MultiplyAdd of infinity and NaN, element");
    Dense dense = RandomOperands<BFloat16>(Operands::kSmallIntegers);
    for (auto& row : dense.b) std::fill(std::begin(row), std::end(row), ToBFloat16(1));
    dense.a[5][11] = 0x7f80;
    dense.b[2][6] = 0x7fc0;
    Dense registers;
    Dense shared;
    Multiply<BFloat16>(dense, &registers, &shared);
    for (int at = 0; at < 128; ++at) {
      const float c = registers.c[at / 8][at % 8];
      const bool right = at % 8 == 6   ? std::isnan(c)
                         : at / 8 == 5 ? c == std::numeric_limits<float>::infinity()
                                       : std::isfinite(c);
      failures_.Expect(right, at, c, "what it must be");
    }
  }

  void Copies() {
    constexpr int kCopies = kCopyGroups * kCaseThreads;
    const std::vector<ptx::Vector16> from = ManyBytes(1000);
    std::vector<int32_t> sources(kCopies);
    std::vector<int32_t> valid(kCopies);
    for (int32_t& source : sources) source = Below(1000);
    for (int32_t& v : valid) v = Below(4) != 0 ? 1 : 0;
    auto* const own = launcher_.template Allocate<ptx::Vector16>(kCopies);
    auto* const other = launcher_.template Allocate<ptx::Vector16>(kCopies);
    launcher_.Run(1, kCaseThreads, kCopies * 16, CopyKernel, Filled(from), Filled(sources),
                  Filled(valid), own, other);
    const auto wanted = [&](int at) {
      const auto source = static_cast<size_t>(sources[static_cast<size_t>(at)]);
      return valid[static_cast<size_t>(at)] != 0 ? from[source] : ptx::Vector16{{0, 0, 0, 0}};
    };
    failures_.Begin("CopyAsync, copy");
    for (int at = 0; at < kCopies; ++at) {
      const int partner = at / kCaseThreads * kCaseThreads + (at + 37) % kCaseThreads;
      ExpectBytes(at, own[at], wanted(at));
      ExpectBytes(at, other[at], wanted(partner));
    }
  }

  // Random bits, and what is special: ties, the largest numbers and beyond, subnormals, NaN.
  std::vector<float> ManyNumbers(int count) {
    std::vector<float> numbers;
    for (const uint32_t bits :
         {0x00000000u, 0x00000001u, 0x007fffffu, 0x00800000u, 0x33000000u, 0x33000001u, 0x33800000u,
          0x33c00000u, 0x387fc000u, 0x387fe000u, 0x38800000u, 0x3f800000u, 0x3f800800u, 0x3f801000u,
          0x3f803000u, 0x3f808000u, 0x3f818000u, 0x3f818001u, 0x40000000u, 0x40490fdbu, 0x42fe0000u,
          0x43000000u, 0x43160000u, 0x477fe000u, 0x477fefffu, 0x477ff000u, 0x7f7f0000u, 0x7f7f7fffu,
          0x7f7f8000u, 0x7f7fffffu, 0x7f800000u, 0x7fc00000u, 0x7f800001u, 0x7fffffffu}) {
      numbers.push_back(std::bit_cast<float>(bits));
      numbers.push_back(std::bit_cast<float>(bits | 0x80000000));
    }
    // fp16's ties, subnormals among them, then sizes that exponentials meet, then anything.
    while (static_cast<int>(numbers.size()) < count) {
      const float tie = FromFloat16(static_cast<uint16_t>(Bits() % 0x7c00)) * (1 + 0x1p-11f);
      numbers.push_back(tie);
      numbers.push_back(static_cast<float>(Below(1 << 24) - (1 << 23)) * 0x1p-16f);
      numbers.push_back(std::bit_cast<float>(Bits() & 0xffff8000));
      numbers.push_back(std::bit_cast<float>(Bits()));
    }
    return numbers;
  }

  void ExpectNarrow(int64_t at, uint16_t got, uint16_t wanted, float widened) {
    failures_.Expect(got == wanted || (std::isnan(widened) && (got & 0x7fff) == 0x7fff), at, got,
                     wanted);
  }
  void Packs() {
    constexpr int kPairs = 4096;
    const std::vector<float> numbers = ManyNumbers(2 * kPairs);
    auto* const half = launcher_.template Allocate<uint32_t>(kPairs);
    auto* const bfloat16 = launcher_.template Allocate<uint32_t>(kPairs);
    launcher_.Run(1, kCaseThreads, 0, PackKernel, Filled(numbers), kPairs, half, bfloat16);
    failures_.Begin("Pack, number");
    for (int i = 0; i < 2 * kPairs; ++i) {
      const float number = numbers[static_cast<size_t>(i)];
      ExpectNarrow(i, Part(half[i / 2], i % 2), ToFloat16(number), number);
      ExpectNarrow(i, Part(bfloat16[i / 2], i % 2), ToBFloat16(number), number);
    }
  }

  // Within `bound`, or the same infinity, or both NaN.
  void ExpectNear(const char* name, int at, float got, double wanted, double bound) {
    failures_.Begin(name);
    const bool right = std::isnan(wanted)   ? std::isnan(got)
                       : std::isinf(wanted) ? got == wanted
                                            : std::abs(got - wanted) <= bound;
    failures_.Expect(right, at, got, wanted);
  }

  void Maths() {
    constexpr int kCount = 4096;
    constexpr double kTiny = std::numeric_limits<float>::min();
    const std::vector<float> in = ManyNumbers(kCount);
    const int count = static_cast<int>(in.size());
    auto* const out = launcher_.template Allocate<MathOutput>(in.size());
    launcher_.Run(1, kCaseThreads, 0, MathKernel, Filled(in), count, out);
    for (int i = 0; i < count; ++i) {
      const float x = in[static_cast<size_t>(i)];
      const float y = in[static_cast<size_t>((i + 1) % count)];
      const float z = in[static_cast<size_t>((i + 7) % count)];
      // At the edges fp32 rounds to infinity, or subnormals become zero: both are right there.
      const double power = std::exp2(static_cast<double>(x));
      if (power > 0x1.fffffep127 && !std::isinf(power)) {
        ExpectNear("Exp2 above, number", i, out[i].exp2, HUGE_VAL, 0);
      } else {
        ExpectNear("Exp2, number", i, out[i].exp2, power < kTiny ? 0 : power, power * 0x1p-22);
      }
      const double logarithm = std::log2(static_cast<double>(x));
      ExpectNear("Log2, number", i, out[i].log2, logarithm,
                 std::max(1.0, std::abs(logarithm)) * 0x1p-22);
      const double tangent = std::tanh(static_cast<double>(x));
      ExpectNear("Tanh, number", i, out[i].tanh, tangent,
                 std::max(std::abs(tangent) * 0x1p-22, 0x1p-148));
      ExpectNear("Fma, number", i, out[i].fma, std::fma(x, y, z), 0);
      // Not std::fmax, to which a signalling NaN is more than a missing number.
      const float larger = std::isnan(x) || x < y ? y : x;
      ExpectNear("Max, number", i, out[i].max, std::isnan(y) ? x : larger, 0);
    }
  }

  void Atomics() {
    constexpr int kThreads = 5 * kCaseThreads;
    auto* const counters = Filled(std::vector<int32_t>{0, 0});
    auto* const before = launcher_.template Allocate<int32_t>(kThreads);
    launcher_.Run(5, kCaseThreads, 0, AtomicKernel, counters, counters + 1, before);
    int32_t sum = 0;
    for (int i = 0; i < kThreads; ++i) sum += i % 2 == 0 ? i : -3 * i;
    failures_.Begin("AtomicAdd");
    failures_.ExpectSame(-1, counters[0], kThreads);
    failures_.ExpectSame(-2, counters[1], sum);
    std::sort(before, before + kThreads);
    for (int i = 0; i < kThreads; ++i) failures_.ExpectSame(i, before[i], i);
  }

  void Barriers() {
    constexpr int kRounds = 20;
    auto* const out = launcher_.template Allocate<int32_t>(3 * kCaseThreads);
    launcher_.Run(1, kCaseThreads, kCaseThreads * 4, BarrierKernel, kRounds, out);
    failures_.Begin("barriers, thread");
    for (int thread = 0; thread < kCaseThreads; ++thread) {
      int32_t sums[3] = {0, 0, 0};
      for (int round = 0; round < kRounds; ++round) {
        sums[0] += round + thread / 32 * 32 + (thread + 1 + round) % 32;
        sums[1] += 2 * round + thread / 64 * 64 + (thread + 33) % 64;
        sums[2] += 3 * round + (thread + 65) % kCaseThreads;
      }
      for (int i = 0; i < 3; ++i) failures_.ExpectSame(thread, out[3 * thread + i], sums[i]);
    }
  }

  Launcher& launcher_;
  std::mt19937 random_;
  PtxFailures failures_;
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_PTX_CASES_CUH_
