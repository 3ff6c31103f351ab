// The prefix index's hash. It only finds candidates: every hit is confirmed by comparing tokens and
// the parent, so its quality decides speed and never a result.
//
// QUIRE_HASH_BITS below 64 is for the test that shows it (tests/collisions): keys keep that many
// bits, so that at 8 nearly every lookup meets nodes of other prefixes under its own key.

#ifndef QUIRE_LIB_HASH_H_
#define QUIRE_LIB_HASH_H_

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstddef>
#include <cstdint>

#ifndef QUIRE_HASH_BITS
#define QUIRE_HASH_BITS 64
#endif

namespace quire {

// The high bits stay: the index takes its tags from there.
inline constexpr uint64_t kKeyMask = ~uint64_t{0} << (64 - QUIRE_HASH_BITS);

#if QUIRE_HASH_BITS < 64
inline int64_t refused_candidates = 0;
#endif

// Told of each candidate that was compared, so that the test can count the refused ones.
inline void NoteCandidate([[maybe_unused]] bool confirmed) {
#if QUIRE_HASH_BITS < 64
  refused_candidates += confirmed ? 0 : 1;
#endif
}

inline uint64_t HashBytes(const void* data, size_t bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(data, bytes, seed) & kKeyMask;
}

// Key of a node from its parent's key and the hash of its own tokens. Units are hashed on their own
// and chained by one multiply, so that the hashes of a long prompt do not wait for one another.
inline uint64_t ChainKey(uint64_t parent_key, uint64_t unit_hash) {
  uint64_t x = (parent_key ^ unit_hash) * 0x9E3779B97F4A7C15u;
  x ^= x >> 29;
  return (x * 0xBF58476D1CE4E5B9u) & kKeyMask;
}

}  // namespace quire

#endif  // QUIRE_LIB_HASH_H_
