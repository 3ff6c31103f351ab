// Every special instruction that the kernels use, each behind a small function, so that the same
// kernel source also compiles for the host: tests/support/twin/ has a second header of this name
// and puts its folder first in the include path. There the threads of a block are fibres, and the
// functions do what the PTX manual says.
//
// So kernels name nothing of CUDA by itself: no threadIdx, no __shared__, no intrinsic. A host
// compiler knows none of them, which enforces the rule.
//
// Sources: PTX ISA 9.0 (sections are named at each function); CUDA C++ Programming Guide 13.0.

#ifndef QUIRE_KERNELS_CUDA_PTX_CUH_
#define QUIRE_KERNELS_CUDA_PTX_CUH_

#include <cstdint>

#include "kernels/half.h"

// A function for the device, and a kernel of `threads` threads of which `blocks` share a
// multiprocessor.
#define QUIRE_DEVICE __device__ __forceinline__
#define QUIRE_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
// A kernel's parameter that is read where it lies, not copied into registers or the stack.
#define QUIRE_PARAMETER(type) const __grid_constant__ type
#define QUIRE_UNROLL _Pragma("unroll")
#define QUIRE_UNROLL_BY(times) _Pragma(QUIRE_TEXT(unroll times))
#define QUIRE_TEXT(words) #words

namespace quire {

// The bits of one element; a type for each format, so that a kernel is told which one it is given.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

namespace ptx {

inline constexpr int kWarpThreads = 32;

// Who and where. The thread's index is read anew at each call: what is derived from it would
// otherwise be kept in registers through code that needs them all.
QUIRE_DEVICE int ThreadIndex() {
  int index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}
QUIRE_DEVICE int BlockIndex() { return static_cast<int>(blockIdx.x); }
QUIRE_DEVICE int BlockCount() { return static_cast<int>(gridDim.x); }
QUIRE_DEVICE int BlockThreads() { return static_cast<int>(blockDim.x); }

// The block's dynamic shared memory, 128-byte aligned. What it holds at the start is unspecified.
QUIRE_DEVICE char* Smem() {
  extern __shared__ __align__(128) char quire_shared_memory[];
  return quire_shared_memory;
}

// Waits for all threads of the block (bar.sync), of a warp (bar.warp.sync), or for `threads`
// threads, whole warps, that name the same barrier 1 to 15. Memory written before is seen after.
QUIRE_DEVICE void SyncBlock() { __syncthreads(); }
QUIRE_DEVICE void SyncWarp() { __syncwarp(); }
QUIRE_DEVICE void SyncNamed(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// The value of another lane of the warp (shfl.sync): of lane `lane`, or of this lane's number
// exclusive-or `mask`. All 32 lanes must call. They order no memory.
QUIRE_DEVICE int32_t Shuffle(int32_t value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
QUIRE_DEVICE float Shuffle(float value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
QUIRE_DEVICE int64_t Shuffle(int64_t value, int lane) {                  // two instructions
  return __shfl_sync(0xffffffffu, static_cast<long long>(value), lane);  // NOLINT
}
QUIRE_DEVICE float ShuffleXor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// Votes of all 32 lanes (vote.sync).
QUIRE_DEVICE bool Any(bool predicate) { return __any_sync(0xffffffffu, predicate) != 0; }
QUIRE_DEVICE bool All(bool predicate) { return __all_sync(0xffffffffu, predicate) != 0; }
QUIRE_DEVICE uint32_t Ballot(bool predicate) { return __ballot_sync(0xffffffffu, predicate); }

// 16 bytes, loaded or stored at once; 16-byte aligned.
struct alignas(16) Vector16 {
  uint32_t words[4];
};
// Data that no one writes while the kernel runs (ld.global.nc).
QUIRE_DEVICE Vector16 LoadConstant(const Vector16* at) {
  const uint4 v = __ldg(reinterpret_cast<const uint4*>(at));
  return {{v.x, v.y, v.z, v.w}};
}
QUIRE_DEVICE int32_t LoadConstant(const int32_t* at) { return __ldg(at); }
// The same, for data that is read once (ld.global.nc.L1::no_allocate).
QUIRE_DEVICE Vector16 LoadStreaming(const Vector16* at) {
  Vector16 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.words[0]), "=r"(v.words[1]), "=r"(v.words[2]), "=r"(v.words[3])
               : "l"(at));
  return v;
}

// Four 8x8 matrices of 16-bit elements from shared memory (9.7.14.5.15, ldmatrix). Lane 8 i + r
// gives the address of row r of matrix i, 16 bytes, 16-byte aligned. Lane l gets elements
// (l / 4, 2 (l % 4)) and (l / 4, 2 (l % 4) + 1) of matrix i in registers[i], the first in the low
// half; Transposed: of its transpose.
QUIRE_DEVICE void LoadMatrices(uint32_t (&registers)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(address)
               : "memory");
}
QUIRE_DEVICE void LoadMatricesTransposed(uint32_t (&registers)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(address)
               : "memory");
}

// c += a b, a 16x16, b 16x8, c 16x8 of fp32 (9.7.14.5.8, mma.m16n8k16). With g = lane / 4 and
// t = lane % 4, and pairs of neighbouring columns (a) or rows (b) in one register:
//   a[0] (g, 2t..)  a[1] (g + 8, 2t..)  a[2] (g, 2t + 8..)  a[3] (g + 8, 2t + 8..)
//   b0 (2t.., g)    b1 (2t + 8.., g)
//   c[0] (g, 2t)    c[1] (g, 2t + 1)    c[2] (g + 8, 2t)    c[3] (g + 8, 2t + 1)
QUIRE_DEVICE void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                              BFloat16 /*elements*/) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
QUIRE_DEVICE void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                              Half /*elements*/) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 16 bytes from global to shared memory, in the background (9.7.9.25.3.1, cp.async); both 16-byte
// aligned. If not `valid` the source is not read and the target becomes zeros; the address must
// still be one inside some allocation. The bytes are there for the issuing thread after
// WaitForGroups; for others after a barrier that follows.
QUIRE_DEVICE void CopyAsync(void* shared, const void* global, bool valid) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile(
      "{\n\t.reg .pred ignore;\n\tsetp.eq.s32 ignore, %2, 0;\n\t"
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, ignore;\n\t}" ::"r"(address),
      "l"(global), "r"(static_cast<int>(valid))
      : "memory");
}
// Closes the group of this thread's copies since the last close (it may be empty).
QUIRE_DEVICE void CommitGroup() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all but this thread's kPending youngest groups are complete.
template <int kPending>
QUIRE_DEVICE void WaitForGroups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// 2^x, log2 x and tanh x. Exp2(-inf) = 0, Log2(0) = -inf; errors up to 2 ulp, 2^-22 absolute, 2
// ulp.
QUIRE_DEVICE float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
QUIRE_DEVICE float Log2(float x) { return log2f(x); }
QUIRE_DEVICE float Tanh(float x) { return tanhf(x); }
// 1 / x, error up to 1 ulp; 0 of infinity.
QUIRE_DEVICE float Reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// a b + c, rounded once. Where the bits of a result are promised the source fuses by itself and the
// compiler does not (--fmad=false).
QUIRE_DEVICE float Fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
// The larger one; if one is NaN, the other.
QUIRE_DEVICE float Max(float a, float b) { return fmaxf(a, b); }

// Two numbers rounded to nearest even, the first in the low half (cvt.rn).
QUIRE_DEVICE uint32_t Pack(float low, float high, BFloat16 /*elements*/) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
QUIRE_DEVICE uint32_t Pack(float low, float high, Half /*elements*/) {
  uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

QUIRE_DEVICE int32_t AtomicAdd(int32_t* at, int32_t value) { return atomicAdd(at, value); }

// Stops the kernel, where the build asks for it (QUIRE_CUDA_CHECKS): for what costs too much to
// look at in a release build.
QUIRE_DEVICE void Check([[maybe_unused]] bool condition) {
#ifdef QUIRE_CUDA_CHECKS
  if (!condition) __trap();
#endif
}

}  // namespace ptx
}  // namespace quire

#endif  // QUIRE_KERNELS_CUDA_PTX_CUH_
