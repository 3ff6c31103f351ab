// A very small model with random weights, so that tests of the engine need no file; and the bytes
// of checkpoint and tokenizer files, so that tests can break them.

#ifndef QUIRE_BENCH_ENGINE_TINY_MODEL_H_
#define QUIRE_BENCH_ENGINE_TINY_MODEL_H_

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/checkpoint.h"

namespace engine {

// Heads share keys (4 heads, 2 of K/V), and no size is a multiple of what the matrix code works on
// at once, except where the kernels ask for it.
inline ModelConfig TinyConfig() {
  ModelConfig config;
  config.dim = 32;
  config.hidden_dim = 44;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.vocab_size = 300;
  config.context = 128;
  return config;
}

// Uniform in [-scale, scale), the same on every platform.
inline std::vector<float> RandomFloats(std::mt19937* random, int64_t count, float scale) {
  std::vector<float> out(static_cast<size_t>(count));
  for (float& value : out) {
    value = (static_cast<float>((*random)() >> 8) * 0x1p-23f - 1.0f) * scale;
  }
  return out;
}

// Weights that are large enough to make a restless model: what it says depends on all of the text
// before, so a wrong page shows at once in other tokens.
inline Checkpoint TinyCheckpoint(const ModelConfig& config = TinyConfig(), uint32_t seed = 1) {
  std::mt19937 random(seed);
  const int64_t dim = config.dim, hidden = config.hidden_dim, kv = config.kv_dim();
  Checkpoint out;
  out.config = config;
  out.embedding = RandomFloats(&random, config.vocab_size * dim, 1.0f);
  for (int32_t i = 0; i < config.layers; ++i) {
    LayerWeights layer;
    layer.attention_norm = std::vector<float>(static_cast<size_t>(dim), 1.0f);
    layer.query = RandomFloats(&random, dim * dim, 0.6f);
    layer.key = RandomFloats(&random, dim * kv, 0.6f);
    layer.value = RandomFloats(&random, dim * kv, 0.6f);
    layer.attention_output = RandomFloats(&random, dim * dim, 0.6f);
    layer.feed_forward_norm = std::vector<float>(static_cast<size_t>(dim), 1.0f);
    layer.gate = RandomFloats(&random, dim * hidden, 0.3f);
    layer.down = RandomFloats(&random, dim * hidden, 0.3f);
    layer.up = RandomFloats(&random, dim * hidden, 0.3f);
    out.layers.push_back(std::move(layer));
  }
  out.final_norm = std::vector<float>(static_cast<size_t>(dim), 1.0f);
  if (!config.shared_classifier) {
    out.classifier = RandomFloats(&random, config.vocab_size * dim, 1.0f);
  }
  return out;
}

template <typename T>
void AppendBytes(const T& value, std::string* out) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out->append(bytes, sizeof(T));
}

// The file that ParseCheckpoint reads.
inline std::string CheckpointBytes(const Checkpoint& checkpoint) {
  const ModelConfig& c = checkpoint.config;
  std::string out;
  for (int32_t field : {c.dim, c.hidden_dim, c.layers, c.heads, c.kv_heads,
                        c.shared_classifier ? c.vocab_size : -c.vocab_size, c.context}) {
    AppendBytes(field, &out);
  }
  const auto append = [&out](const std::vector<float>& weights) {
    for (float weight : weights) AppendBytes(weight, &out);
  };
  append(checkpoint.embedding);
  for (std::vector<float> LayerWeights::*member :
       {&LayerWeights::attention_norm, &LayerWeights::query, &LayerWeights::key,
        &LayerWeights::value, &LayerWeights::attention_output, &LayerWeights::feed_forward_norm,
        &LayerWeights::gate, &LayerWeights::down, &LayerWeights::up}) {
    for (const LayerWeights& layer : checkpoint.layers) append(layer.*member);
  }
  append(checkpoint.final_norm);
  append(std::vector<float>(static_cast<size_t>(c.context * c.head_dim())));  // the RoPE tables
  append(checkpoint.classifier);
  return out;
}

struct TinyPiece {
  std::string text;
  float score;
};

// The file that Tokenizer::Parse reads: <unk>, <s>, </s>, 256 bytes, then `pieces`.
inline std::string TokenizerBytes(const std::vector<TinyPiece>& pieces) {
  std::string out;
  const auto append = [&out](const std::string& text, float score) {
    AppendBytes(score, &out);
    AppendBytes(static_cast<int32_t>(text.size()), &out);
    out += text;
  };
  AppendBytes(int32_t{27}, &out);
  for (const char* special : {"<unk>", "\n<s>\n", "\n</s>\n"}) append(special, 0);
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    append(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">", 0);
  }
  for (const TinyPiece& piece : pieces) append(piece.text, piece.score);
  return out;
}

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_TINY_MODEL_H_
