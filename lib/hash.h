// The prefix index's hash. It only finds candidates: every hit is confirmed by comparing tokens and
// the parent, so its quality decides speed and never a result.

#ifndef QUIRE_LIB_HASH_H_
#define QUIRE_LIB_HASH_H_

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstddef>
#include <cstdint>

namespace quire {

inline uint64_t HashBytes(const void* data, size_t bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(data, bytes, seed);
}

// Key of a node from its parent's key and the hash of its own tokens. Units are hashed on their own
// and chained by one multiply, so that the hashes of a long prompt do not wait for one another.
inline uint64_t ChainKey(uint64_t parent_key, uint64_t unit_hash) {
  uint64_t x = (parent_key ^ unit_hash) * 0x9E3779B97F4A7C15u;
  x ^= x >> 29;
  return x * 0xBF58476D1CE4E5B9u;
}

}  // namespace quire

#endif  // QUIRE_LIB_HASH_H_
