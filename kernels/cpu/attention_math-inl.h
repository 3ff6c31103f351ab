// Vector arithmetic of attention: element types to and from fp32, exp and tanh.
// Compiled once for each instruction set (no include guard in the usual sense).

#if defined(QUIRE_KERNELS_CPU_ATTENTION_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUIRE_KERNELS_CPU_ATTENTION_MATH_INL_H_
#undef QUIRE_KERNELS_CPU_ATTENTION_MATH_INL_H_
#else
#define QUIRE_KERNELS_CPU_ATTENTION_MATH_INL_H_
#endif

#include <cstdint>
#include <cstring>
#include <limits>

#include "hwy/highway.h"
#include "kernels/cpu/attention_simd.h"
#include "kernels/half.h"

QUIRE_BEGIN_SIMD

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// At most kLanes floats; fewer where the registers are shorter.
template <int kLanes>
using Floats = hn::CappedTag<float, kLanes>;

// 2N consecutive elements as two vectors of N floats. Which element is in which lane is the type's
// own affair: bf16 has the even elements in `a` and the odd ones in `b`, because a shift and a mask
// then widen a whole register. Queries, keys, values and outputs are all in this order, so it never
// shows.
template <class V>
struct Pair {
  V a;
  V b;
};

template <class D, class V = hn::Vec<D>>
HWY_INLINE Pair<V> LoadPair(D d, const float* from) {
  return {hn::LoadU(d, from), hn::LoadU(d, from + hn::Lanes(d))};
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE Pair<V> LoadPair(D d, const hwy::float16_t* from) {
  const hn::Rebind<hwy::float16_t, D> half;
  return {hn::PromoteTo(d, hn::LoadU(half, from)),
          hn::PromoteTo(d, hn::LoadU(half, from + hn::Lanes(d)))};
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE Pair<V> LoadPair(D d, const hwy::bfloat16_t* from) {
  const hn::RebindToUnsigned<D> du;
#if HWY_TARGET == HWY_SCALAR
  uint32_t word;
  std::memcpy(&word, from, sizeof(word));
  const auto words = hn::Set(du, word);
#else
  const auto words = hn::LoadU(du, reinterpret_cast<const uint32_t*>(from));
#endif
  return {hn::BitCast(d, hn::ShiftLeft<16>(words)),
          hn::BitCast(d, hn::And(words, hn::Set(du, 0xffff0000u)))};
}

template <class D, class V>
HWY_INLINE void StorePair(D d, Pair<V> pair, float* to) {
  hn::StoreU(pair.a, d, to);
  hn::StoreU(pair.b, d, to + hn::Lanes(d));
}

template <class D, class V>
HWY_INLINE void StorePair(D d, Pair<V> pair, hwy::float16_t* to) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_SSE4
  // These have no conversion instruction, and Highway's replacement does not round to nearest.
  float rounded[2 * hn::MaxLanes(d)];
  StorePair(d, pair, rounded);
  for (size_t i = 0; i < 2 * hn::Lanes(d); ++i) {
    const uint16_t bits = ToFloat16(rounded[i]);
    std::memcpy(to + i, &bits, sizeof(bits));
  }
#else
  const hn::Rebind<hwy::float16_t, D> half;
  hn::StoreU(hn::DemoteTo(half, pair.a), half, to);
  hn::StoreU(hn::DemoteTo(half, pair.b), half, to + hn::Lanes(d));
#endif
}

// bf16 in the upper 16 bits; the lower ones are rubbish.
template <class D, class V>
HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> RoundToBFloat16(D, V v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffu)));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000u));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
}

template <class D, class V>
HWY_INLINE void StorePair(D d, Pair<V> pair, hwy::bfloat16_t* to) {
  const hn::RebindToUnsigned<D> du;
  const auto even = hn::ShiftRight<16>(RoundToBFloat16(d, pair.a));
  const auto odd = hn::And(RoundToBFloat16(d, pair.b), hn::Set(du, 0xffff0000u));
#if HWY_TARGET == HWY_SCALAR
  const uint32_t word = hn::GetLane(hn::Or(even, odd));
  std::memcpy(to, &word, sizeof(word));
#else
  hn::StoreU(hn::Or(even, odd), du, reinterpret_cast<uint32_t*>(to));
#endif
}

// ---- Scores: a chain of multiply-adds over head_dim, 2N elements at a time.
//
// Queries are kept in scratch memory in the form that Dot wants: fp32, or as they came where the
// processor multiplies bf16 itself (BFloat16Dot). kQueryWords: 4-byte words for two elements.

template <class E>
inline constexpr int kQueryWords = 2;

template <class D, class E, class V = hn::Vec<D>>
HWY_INLINE Pair<V> LoadKey(D d, const E* from) {
  return LoadPair(d, from);
}

template <class E, class D, class V = hn::Vec<D>>
requires(kQueryWords<E> == 2) HWY_INLINE Pair<V> LoadQuery(D d, const float* from) {
  return LoadPair(d, from);
}

template <class E, class D>
requires(kQueryWords<E> == 2) HWY_INLINE void StoreQuery(D d, const E* from, float* to) {
  StorePair(d, LoadPair(d, from), to);
}

template <class D, class V>
HWY_INLINE V Dot(D, Pair<V> query, Pair<V> key, V sum) {
  return hn::MulAdd(query.b, key.b, hn::MulAdd(query.a, key.a, sum));
}

#ifdef QUIRE_BFLOAT16_DOT
// bf16 with the dot-product instruction: every lane becomes sum + x1 y1 + x0 y0. Its products are
// exact, so scores lose nothing by it. The weights of values are rounded to bf16 for it, as kernels
// on other devices do; their sum is not.
struct BFloat16Dot : hwy::bfloat16_t {};

template <>
inline constexpr int kQueryWords<BFloat16Dot> = 1;

// Pairs of bf16.
template <class D>
using Words = hn::Vec<hn::RebindToUnsigned<D>>;

template <class D>
HWY_INLINE Words<D> LoadKey(D, const BFloat16Dot* from) {
  return hn::LoadU(hn::RebindToUnsigned<D>(), reinterpret_cast<const uint32_t*>(from));
}

template <class E, class D>
requires(kQueryWords<E> == 1) HWY_INLINE Words<D> LoadQuery(D, const float* from) {
  return hn::LoadU(hn::RebindToUnsigned<D>(), reinterpret_cast<const uint32_t*>(from));
}

template <class E, class D>
requires(kQueryWords<E> == 1) HWY_INLINE void StoreQuery(D d, const E* from, float* to) {
  hn::StoreU(LoadKey(d, from), hn::RebindToUnsigned<D>(), reinterpret_cast<uint32_t*>(to));
}

template <class D, class V, class W>
HWY_INLINE V Dot(D, W x, W y, V sum) {
  if constexpr (sizeof(sum.raw) == 64) {
    return V{_mm512_dpbf16_ps(sum.raw, (__m512bh)x.raw, (__m512bh)y.raw)};
  } else if constexpr (sizeof(sum.raw) == 32) {
    return V{_mm256_dpbf16_ps(sum.raw, (__m256bh)x.raw, (__m256bh)y.raw)};
  } else {
    return V{_mm_dpbf16_ps(sum.raw, (__m128bh)x.raw, (__m128bh)y.raw)};
  }
}

// In every 128-bit block, `a` has the first four elements and `b` the others: the order in which
// values of two tokens are brought together.
template <class D, class V>
HWY_INLINE void StorePair(D d, Pair<V> pair, BFloat16Dot* to) {
  const auto a = hn::ShiftRight<16>(RoundToBFloat16(d, pair.a));
  const auto b = hn::ShiftRight<16>(RoundToBFloat16(d, pair.b));
  if constexpr (sizeof(a.raw) == 64) {
    _mm512_storeu_si512(to, _mm512_packus_epi32(a.raw, b.raw));
  } else if constexpr (sizeof(a.raw) == 32) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_packus_epi32(a.raw, b.raw));
  } else {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_packus_epi32(a.raw, b.raw));
  }
}

// The words {x[i], y[i]} for the elements that StorePair wants in `a` and in `b`.
template <class D, class W>
HWY_INLINE Pair<W> Interleave(D, W x, W y) {
  const hn::Repartition<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> du;
  const auto x16 = hn::BitCast(d16, x);
  const auto y16 = hn::BitCast(d16, y);
  return {hn::BitCast(du, hn::InterleaveLower(d16, x16, y16)),
          hn::BitCast(du, hn::InterleaveUpper(d16, x16, y16))};
}
#endif  // QUIRE_BFLOAT16_DOT

// exp(x) for x <= 0, within 2 units in the last place; exactly 1 at 0, exactly 0 below -87.3 (where
// the result would be subnormal); NaN stays NaN. Each lane depends on its own x only.
template <class D, class V>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  // x - n ln 2 in two steps: the first constant has few bits, so that its product is exact.
  V r = hn::MulAdd(n, hn::Set(d, -0.693359375f), x);
  r = hn::MulAdd(n, hn::Set(d, 2.12194440e-4f), r);
  // Taylor coefficients: |r| <= 0.35, so the first omitted term is below 1e-8.
  V p = hn::Set(d, 1.0f / 5040);
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  const V result = hn::Mul(p, hn::BitCast(d, exponent));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3f)), result);
}

// tanh with an absolute error of about 1e-7, which is what a capped score needs.
template <class D, class V>
HWY_INLINE V Tanh(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V e = Exp(d, hn::Mul(hn::Abs(x), hn::Set(d, -2.0f)));
  return hn::CopySign(hn::Div(hn::Sub(one, e), hn::Add(one, e)), x);
}

// One number at a time, with the same bits as in a vector.
HWY_INLINE float ExpOf(float x) {
  const Floats<4> d;
  return hn::GetLane(Exp(d, hn::Set(d, x)));
}

// a * b + c, rounded as MulAdd rounds on this instruction set whatever the compiler would do.
HWY_INLINE float MulAddOf(float a, float b, float c) {
  const Floats<4> d;
  return hn::GetLane(hn::MulAdd(hn::Set(d, a), hn::Set(d, b), hn::Set(d, c)));
}

// Sums of four vectors' lanes, to[0..3]. The order of the additions is the same for all four.
#if HWY_TARGET == HWY_SCALAR
template <class D, class V>
HWY_INLINE void StoreSums(D, V v0, V v1, V v2, V v3, float* to) {
  to[0] = hn::GetLane(v0);
  to[1] = hn::GetLane(v1);
  to[2] = hn::GetLane(v2);
  to[3] = hn::GetLane(v3);
}
#else
// The sum of v's 128-bit blocks.
template <class D, class V>
HWY_INLINE void StoreBlockSum(D d, V v, float* to) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    hn::StoreU(v, d, to);
  } else {
    const hn::Half<D> half;
    StoreBlockSum(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), to);
  }
}

template <class D, class V>
HWY_INLINE void StoreSums(D d, V v0, V v1, V v2, V v3, float* to) {
  const hn::RepartitionToWide<D> wide;
  // In every 128-bit block: s01 = {v0, v1, v0, v1} and s23 = {v2, v3, v2, v3}, half summed.
  const V s01 = hn::Add(hn::InterleaveLower(d, v0, v1), hn::InterleaveUpper(d, v0, v1));
  const V s23 = hn::Add(hn::InterleaveLower(d, v2, v3), hn::InterleaveUpper(d, v2, v3));
  const auto w01 = hn::BitCast(wide, s01);
  const auto w23 = hn::BitCast(wide, s23);
  StoreBlockSum(d,
                hn::Add(hn::BitCast(d, hn::InterleaveLower(wide, w01, w23)),
                        hn::BitCast(d, hn::InterleaveUpper(wide, w01, w23))),
                to);
}
#endif

QUIRE_END_SIMD

#endif  // toggle
