// Reads a llama2.c "version 0" checkpoint: seven 32-bit integers, then fp32 weights.
//
// The file comes from outside, so nothing in it is believed: every field has a range, the weights
// that the header promises must be exactly what the file holds, and this is checked before any of
// them is read. A bad file is an error that says which file, what is wrong and what was expected.

#ifndef QUIRE_BENCH_ENGINE_CHECKPOINT_H_
#define QUIRE_BENCH_ENGINE_CHECKPOINT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace engine {

// The shape of a Llama model.
struct ModelConfig {
  int32_t dim = 0;         // width of the residual stream
  int32_t hidden_dim = 0;  // width inside the feed-forward block
  int32_t layers = 0;
  int32_t heads = 0;     // query heads
  int32_t kv_heads = 0;  // key and value heads; heads is a multiple
  int32_t vocab_size = 0;
  int32_t context = 0;            // longest sequence, in tokens
  bool shared_classifier = true;  // the classifier is the embedding (a positive vocab_size)

  int32_t head_dim() const { return dim / heads; }
  int32_t kv_dim() const { return head_dim() * kv_heads; }
};

// Matrices are [output][input], as in the file.
struct LayerWeights {
  std::vector<float> attention_norm;     // [dim]
  std::vector<float> query;              // [dim][dim]
  std::vector<float> key;                // [kv_dim][dim]
  std::vector<float> value;              // [kv_dim][dim]
  std::vector<float> attention_output;   // [dim][dim]
  std::vector<float> feed_forward_norm;  // [dim]
  std::vector<float> gate;               // [hidden_dim][dim], w1 in the file
  std::vector<float> down;               // [dim][hidden_dim], w2
  std::vector<float> up;                 // [hidden_dim][dim], w3
};

struct Checkpoint {
  ModelConfig config;
  std::vector<float> embedding;  // [vocab_size][dim]
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;  // [dim]
  std::vector<float> classifier;  // [vocab_size][dim], empty if shared with the embedding
};

// kInvalidArgument with what is wrong; `name` stands in the message. Allocates no more than a small
// multiple of bytes.size().
absl::StatusOr<Checkpoint> ParseCheckpoint(std::string_view bytes, const std::string& name);

// kNotFound if the file cannot be opened, otherwise as ParseCheckpoint.
absl::StatusOr<Checkpoint> LoadCheckpoint(const std::string& path);

// The bytes of a whole file. kNotFound says how to fix it; kInvalidArgument for what is no regular
// file or is larger than `limit_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t limit_bytes);

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_CHECKPOINT_H_
