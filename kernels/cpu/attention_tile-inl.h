// The three steps of attention on one tile of 64 keys, for a block of up to four query rows:
// scores, softmax, and the weighted sum of values. Compiled once for each instruction set.
//
// Every number is computed by the same operations in the same order whatever stands beside it: a
// score is one chain of multiply-adds over head_dim and one tree over lanes; a value is one chain
// over the visible keys in order of position. Keys that a row does not see take no part at all.
// This is what makes a row's bits independent of blocks, pages, chunks and batches.

#if defined(QUIRE_KERNELS_CPU_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUIRE_KERNELS_CPU_ATTENTION_TILE_INL_H_
#undef QUIRE_KERNELS_CPU_ATTENTION_TILE_INL_H_
#else
#define QUIRE_KERNELS_CPU_ATTENTION_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/cpu/attention_job.h"
#include "kernels/cpu/attention_math-inl.h"

QUIRE_BEGIN_SIMD

// Registers: 32 hold 4 rows x 4 keys of scores, or 4 rows x 2 pairs of values; 16 hold half.
inline constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON;
inline constexpr int kScoreRows = kManyRegisters ? 4 : 2;
inline constexpr int kValuePairs = kManyRegisters ? 2 : 1;

// Into the second-level cache: far more lines can be on their way there than to the first.
HWY_INLINE void PrefetchBytes(const char* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

// A tile, for one KV head of its item: byte distances from the item's first head.
struct HeadTile {
  const TileRows* rows;
  int64_t k;
  int64_t v;

  template <class E>
  HWY_INLINE const E* Key(int t) const {
    return reinterpret_cast<const E*>(rows->k[t] + k);
  }
  template <class E>
  HWY_INLINE const E* Value(int t) const {
    return reinterpret_cast<const E*>(rows->v[t] + v);
  }
};

// scores[r * kTileTokens + t] = query row r . key t, for kRows rows and keys [begin, end), both
// multiples of 4. `next`, if any, is the tile whose keys are fetched meanwhile.
template <class E, int kLanes, int kRows>
HWY_INLINE void ScoreRows(const float* queries, int32_t head_dim, const HeadTile& tile, int begin,
                          int end, float* HWY_RESTRICT scores, const HeadTile* next) {
  const Floats<kLanes> d;
  using V = hn::Vec<decltype(d)>;
  const int32_t step = 2 * static_cast<int32_t>(hn::Lanes(d));
  const int64_t query_stride = int64_t{head_dim} / 2 * kQueryWords<E>;
  for (int t = begin; t < end; t += 4) {
    if (next != nullptr) {
      for (int i = 0; i < 4; ++i) {
        PrefetchBytes(next->Key<char>(t + i), int64_t{sizeof(E)} * head_dim);
      }
    }
    const E* const keys[4] = {tile.Key<E>(t), tile.Key<E>(t + 1), tile.Key<E>(t + 2),
                              tile.Key<E>(t + 3)};
    V sums[kRows][4];
    for (int r = 0; r < kRows; ++r) {
      for (int i = 0; i < 4; ++i) sums[r][i] = hn::Zero(d);
    }
    for (int32_t e = 0; e < head_dim; e += step) {
      const auto key0 = LoadKey(d, keys[0] + e);
      const auto key1 = LoadKey(d, keys[1] + e);
      const auto key2 = LoadKey(d, keys[2] + e);
      const auto key3 = LoadKey(d, keys[3] + e);
      for (int r = 0; r < kRows; ++r) {
        const auto query = LoadQuery<E>(d, queries + r * query_stride + e / 2 * kQueryWords<E>);
        sums[r][0] = Dot(d, query, key0, sums[r][0]);
        sums[r][1] = Dot(d, query, key1, sums[r][1]);
        sums[r][2] = Dot(d, query, key2, sums[r][2]);
        sums[r][3] = Dot(d, query, key3, sums[r][3]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      StoreSums(d, sums[r][0], sums[r][1], sums[r][2], sums[r][3], scores + r * kTileTokens + t);
    }
  }
}

template <class E, int kLanes>
HWY_INLINE void Scores(const float* queries, int32_t head_dim, int row_count, const HeadTile& tile,
                       int begin, int end, float* HWY_RESTRICT scores, const HeadTile* next) {
  const int64_t query_stride = int64_t{head_dim} / 2 * kQueryWords<E>;
  int r = 0;
  for (; r + kScoreRows <= row_count; r += kScoreRows) {
    ScoreRows<E, kLanes, kScoreRows>(queries + r * query_stride, head_dim, tile, begin, end,
                                     scores + r * kTileTokens, next);
    next = nullptr;
  }
  for (; r < row_count; ++r) {
    ScoreRows<E, kLanes, 1>(queries + r * query_stride, head_dim, tile, begin, end,
                            scores + r * kTileTokens, next);
    next = nullptr;
  }
}

// Turns the scores of one row's visible keys [begin, end) into weights exp(score - max), brings
// max[0] and sum[0] up to date, and returns the factor for what was summed before.
HWY_INLINE float Softmax(const AttentionParams& params, int begin, int end,
                         float* HWY_RESTRICT scores, float* max, float* sum) {
  const Floats<16> d;
  using V = hn::Vec<decltype(d)>;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const V scale = hn::Set(d, params.scale);
  const V first = hn::Set(d, static_cast<float>(begin));
  const V last = hn::Set(d, static_cast<float>(end));

  V highest = hn::Set(d, -kInfinity);
  for (int t = 0; t < kTileTokens; t += lanes) {
    V score = hn::Mul(hn::LoadU(d, scores + t), scale);
    if (params.soft_cap != 0) {
      const V cap = hn::Set(d, params.soft_cap);
      score = hn::Mul(cap, Tanh(d, hn::Div(score, cap)));
    }
    const V position = hn::Iota(d, static_cast<float>(t));
    const auto visible = hn::And(hn::Ge(position, first), hn::Lt(position, last));
    score = hn::IfThenElse(visible, score, hn::Set(d, -kInfinity));
    hn::StoreU(score, d, scores + t);
    highest = hn::Max(highest, score);
  }
  const float tile_max = hn::GetLane(hn::MaxOfLanes(d, highest));
  const float new_max = tile_max > max[0] ? tile_max : max[0];
  // -infinity only if every score so far is: then all weights are 0, not exp(-inf + inf).
  const float reference = new_max == -kInfinity ? 0 : new_max;
  const float factor = max[0] == new_max ? 1 : ExpOf(max[0] - reference);

  V total = hn::Zero(d);
  for (int t = 0; t < kTileTokens; t += lanes) {
    const V weight = Exp(d, hn::Sub(hn::LoadU(d, scores + t), hn::Set(d, reference)));
    hn::StoreU(weight, d, scores + t);
    total = hn::Add(total, weight);
  }
  max[0] = new_max;
  sum[0] = MulAddOf(sum[0], factor, hn::GetLane(hn::SumOfLanes(d, total)));
  return factor;
}

#ifdef QUIRE_BFLOAT16_DOT
// Rounds a row's weights to bf16, in place: 32 words of two.
template <class E>
requires(kQueryWords<E> == 1) HWY_INLINE void PackWeights(float* weights) {
  for (int t = 0; t < kTileTokens; t += 32) {
    const __m512 lower = _mm512_loadu_ps(weights + t);
    const __m512 upper = _mm512_loadu_ps(weights + t + 16);
    _mm512_storeu_si512(weights + t / 2, (__m512i)_mm512_cvtne2ps_pbh(upper, lower));
  }
}

// The weights of keys t and t + 1.
HWY_INLINE uint32_t PackedWeights(const float* weights, int t) {
  uint32_t word;
  std::memcpy(&word, weights + t / 2, sizeof(word));
  return word;
}
#endif  // QUIRE_BFLOAT16_DOT

// Keys that must be taken together in the sum of values.
template <class E>
inline constexpr int kValueKeys = kQueryWords<E> == 1 ? 2 : 1;

template <class E>
requires(kQueryWords<E> == 2) HWY_INLINE void PackWeights(float*) {}

// values[r] = values[r] * factors[r] + sum of weights[r][t] * V[t], keys [begin, end) in order, for
// kRows rows and 2 * kPairs vectors of each from element e on.
template <class E, int kLanes, int kRows, int kPairs>
requires(kQueryWords<E> == 2) HWY_INLINE
    void ValueBlock(const float* HWY_RESTRICT weights, const float* factors, int32_t e,
                    int32_t head_dim, const HeadTile& tile, int begin, int end,
                    float* HWY_RESTRICT values, const HeadTile* next) {
  const Floats<kLanes> d;
  using V = hn::Vec<decltype(d)>;
  const int32_t lanes = static_cast<int32_t>(hn::Lanes(d));
  V sums[kRows][2 * kPairs];
  for (int r = 0; r < kRows; ++r) {
    const V factor = hn::Set(d, factors[r]);
    for (int c = 0; c < 2 * kPairs; ++c) {
      sums[r][c] = hn::Mul(hn::LoadU(d, values + int64_t{r} * head_dim + e + c * lanes), factor);
    }
  }
  for (int t = begin; t < end; ++t) {
    if (next != nullptr) {
      PrefetchBytes(next->Value<char>(t) + int64_t{sizeof(E)} * e,
                    int64_t{sizeof(E)} * 2 * kPairs * lanes);
    }
    Pair<V> v[kPairs];
    for (int c = 0; c < kPairs; ++c) v[c] = LoadPair(d, tile.Value<E>(t) + e + c * 2 * lanes);
    for (int r = 0; r < kRows; ++r) {
      const V weight = hn::Set(d, weights[r * kTileTokens + t]);
      for (int c = 0; c < kPairs; ++c) {
        sums[r][2 * c] = hn::MulAdd(weight, v[c].a, sums[r][2 * c]);
        sums[r][2 * c + 1] = hn::MulAdd(weight, v[c].b, sums[r][2 * c + 1]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < 2 * kPairs; ++c) {
      hn::StoreU(sums[r][c], d, values + int64_t{r} * head_dim + e + c * lanes);
    }
  }
}

#ifdef QUIRE_BFLOAT16_DOT
// The same with the dot-product instruction, two keys at a time: an even position and the next. A
// key outside [begin, end) is replaced by zeros, so that its V is not touched; its weight is
// finite.
template <class E, int kLanes, int kRows, int kPairs>
requires(kQueryWords<E> == 1) HWY_INLINE
    void ValueBlock(const float* HWY_RESTRICT weights, const float* factors, int32_t e,
                    int32_t head_dim, const HeadTile& tile, int begin, int end,
                    float* HWY_RESTRICT values, const HeadTile* next) {
  const Floats<kLanes> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  using V = hn::Vec<decltype(d)>;
  using W = Words<decltype(d)>;
  const int32_t lanes = static_cast<int32_t>(hn::Lanes(d));
  V sums[kRows][2 * kPairs];
  for (int r = 0; r < kRows; ++r) {
    const V factor = hn::Set(d, factors[r]);
    for (int c = 0; c < 2 * kPairs; ++c) {
      sums[r][c] = hn::Mul(hn::LoadU(d, values + int64_t{r} * head_dim + e + c * lanes), factor);
    }
  }
  for (int t = begin / 2 * 2; t < end; t += 2) {
    if (next != nullptr) {
      constexpr int64_t kBytes = int64_t{sizeof(E)} * 2 * kPairs;
      PrefetchBytes(next->Value<char>(t) + int64_t{sizeof(E)} * e, kBytes * lanes);
      PrefetchBytes(next->Value<char>(t + 1) + int64_t{sizeof(E)} * e, kBytes * lanes);
    }
    Pair<W> v[kPairs];
    for (int c = 0; c < kPairs; ++c) {
      const int32_t at = e + c * 2 * lanes;
      const W even = t >= begin ? LoadKey(d, tile.Value<E>(t) + at) : hn::Zero(du);
      const W odd = t + 1 < end ? LoadKey(d, tile.Value<E>(t + 1) + at) : hn::Zero(du);
      v[c] = Interleave(d, even, odd);
    }
    for (int r = 0; r < kRows; ++r) {
      const W weight = hn::Set(du, PackedWeights(weights + r * kTileTokens, t));
      for (int c = 0; c < kPairs; ++c) {
        sums[r][2 * c] = Dot(d, weight, v[c].a, sums[r][2 * c]);
        sums[r][2 * c + 1] = Dot(d, weight, v[c].b, sums[r][2 * c + 1]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < 2 * kPairs; ++c) {
      hn::StoreU(sums[r][c], d, values + int64_t{r} * head_dim + e + c * lanes);
    }
  }
}
#endif  // QUIRE_BFLOAT16_DOT

// Not inlined: it has several callers, and each copy of its loops is large.
template <class E, int kLanes, int kRows>
HWY_NOINLINE void ValueRows(const float* weights, const float* factors, int32_t head_dim,
                            const HeadTile& tile, int begin, int end, float* values,
                            const HeadTile* next) {
  const int32_t pair = 2 * static_cast<int32_t>(hn::Lanes(Floats<kLanes>()));
  int32_t e = 0;
  for (; e + kValuePairs * pair <= head_dim; e += kValuePairs * pair) {
    ValueBlock<E, kLanes, kRows, kValuePairs>(weights, factors, e, head_dim, tile, begin, end,
                                              values, next);
  }
  for (; e < head_dim; e += pair) {
    ValueBlock<E, kLanes, kRows, 1>(weights, factors, e, head_dim, tile, begin, end, values, next);
  }
}

template <class E, int kLanes>
HWY_INLINE void Values(const float* weights, const float* factors, int32_t head_dim, int row_count,
                       const HeadTile& tile, int begin, int end, float* values,
                       const HeadTile* next) {
  switch (row_count) {
    case 4:
      return ValueRows<E, kLanes, 4>(weights, factors, head_dim, tile, begin, end, values, next);
    case 3:
      return ValueRows<E, kLanes, 3>(weights, factors, head_dim, tile, begin, end, values, next);
    case 2:
      return ValueRows<E, kLanes, 2>(weights, factors, head_dim, tile, begin, end, values, next);
    default:
      return ValueRows<E, kLanes, 1>(weights, factors, head_dim, tile, begin, end, values, next);
  }
}

// Where a row's visible keys lie in a tile.
struct Visible {
  int begin;
  int end;
};

// Row r alone, keys [begin, end); its factor is then used up.
template <class E, int kLanes>
HWY_INLINE void ValuesOfOne(int r, int begin, int end, const float* weights, float* factors,
                            int32_t head_dim, const HeadTile& tile, float* values) {
  if (begin >= end) return;
  ValueRows<E, kLanes, 1>(weights + r * kTileTokens, factors + r, head_dim, tile, begin, end,
                          values + int64_t{r} * head_dim, nullptr);
  factors[r] = 1;
}

// The keys that all rows see, cut to whole groups of kValueKeys unless all see the same.
template <class E>
HWY_INLINE Visible SeenByAll(const Visible* visible, int row_count) {
  Visible all = visible[0];
  bool equal = true;
  for (int r = 1; r < row_count; ++r) {
    equal = equal && visible[r].begin == visible[0].begin && visible[r].end == visible[0].end;
    all.begin = std::max(all.begin, visible[r].begin);
    all.end = std::min(all.end, visible[r].end);
  }
  constexpr int kKeys = kValueKeys<E>;
  return equal ? all : Visible{(all.begin + kKeys - 1) / kKeys * kKeys, all.end / kKeys * kKeys};
}

// Values for rows that see different keys: those that all see are done together; before and after
// them, each row goes alone.
template <class E, int kLanes>
HWY_INLINE void MaskedValues(const float* weights, float* factors, int32_t head_dim, int row_count,
                             const Visible* visible, const HeadTile& tile, float* values,
                             const HeadTile* next) {
  const Visible all = SeenByAll<E>(visible, row_count);
  const bool together = all.begin < all.end;
  for (int r = 0; r < row_count; ++r) {
    const int end = together ? all.begin : visible[r].end;
    ValuesOfOne<E, kLanes>(r, visible[r].begin, end, weights, factors, head_dim, tile, values);
  }
  if (!together) return;
  Values<E, kLanes>(weights, factors, head_dim, row_count, tile, all.begin, all.end, values, next);
  for (int r = 0; r < row_count; ++r) {
    factors[r] = 1;
    ValuesOfOne<E, kLanes>(r, all.end, visible[r].end, weights, factors, head_dim, tile, values);
  }
}

QUIRE_END_SIMD

#endif  // toggle
