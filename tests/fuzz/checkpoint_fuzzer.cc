// Model files. A file that is taken has exactly the bytes that its header describes, and every
// weight comes from its place; what a header claims is never allocated before that is known.

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "tests/fuzz/fuzz_input.h"

namespace quire::fuzz {
namespace {

using engine::Checkpoint;
using engine::LayerWeights;

constexpr size_t kHeaderBytes = 28;
constexpr size_t kLargest = 1 << 16;  // of a file that is made here

// Header fields as the file has them: dim, hidden_dim, layers, heads, kv_heads, vocab, context.
std::string DrawHeader(Input& input) {
  const int32_t heads = input.Mostly(1, 4);
  const int32_t fields[] = {
      input.OneIn(8) ? input.AnyInt32() : static_cast<int32_t>(8 * int64_t{heads % 64}),
      input.Mostly(1, 20),
      input.Mostly(1, 3),
      heads,
      input.OneIn(4) ? input.AnyInt32() : heads,
      input.OneIn(2) ? input.Mostly(-20, 20) : input.Mostly(1, 20),
      input.Mostly(1, 20)};
  return std::string(reinterpret_cast<const char*>(fields), kHeaderBytes);
}

// Bytes that the header describes, in plain doubles: exact up to 2^53, and they cannot overflow.
double Described(const int32_t* h) {
  const double dim = h[0], hidden = h[1], layers = h[2], vocab = std::abs(double{1} * h[5]);
  const double head_dim = std::floor(dim / h[3]), kv = head_dim * h[4];
  const double layer = 2 * dim + 2 * dim * dim + 2 * dim * kv + 3 * dim * hidden;
  return kHeaderBytes + 4 * (vocab * dim * (h[5] > 0 ? 1 : 2) + layers * layer + dim +
                             double{1} * h[6] * head_dim);
}

// Reads the file front to back in the documented order and compares.
void CheckWeights(const Checkpoint& c, const std::string& bytes) {
  size_t at = kHeaderBytes;
  const auto expect = [&](const std::vector<float>& weights, int64_t count) {
    const size_t size = static_cast<size_t>(count) * sizeof(float);
    Require(static_cast<int64_t>(weights.size()) == count, "an array has another size");
    Require(size <= bytes.size() - at, "the arrays are longer than the file");
    Require(size == 0 || std::memcmp(weights.data(), bytes.data() + at, size) == 0,
            "a weight is from another place");
    for (const float weight : weights) Require(std::isfinite(weight), "a weight is not finite");
    at += size;
  };
  const int64_t dim = c.config.dim, hidden = c.config.hidden_dim;
  const int64_t kv = dim / c.config.heads * c.config.kv_heads;
  expect(c.embedding, c.config.vocab_size * dim);
  const auto per_layer = [&](std::vector<float> LayerWeights::*member, int64_t count) {
    for (const LayerWeights& layer : c.layers) expect(layer.*member, count);
  };
  Require(static_cast<int32_t>(c.layers.size()) == c.config.layers, "another number of layers");
  per_layer(&LayerWeights::attention_norm, dim);
  per_layer(&LayerWeights::query, dim * dim);
  per_layer(&LayerWeights::key, dim * kv);
  per_layer(&LayerWeights::value, dim * kv);
  per_layer(&LayerWeights::attention_output, dim * dim);
  per_layer(&LayerWeights::feed_forward_norm, dim);
  per_layer(&LayerWeights::gate, dim * hidden);
  per_layer(&LayerWeights::down, dim * hidden);
  per_layer(&LayerWeights::up, dim * hidden);
  expect(c.final_norm, dim);
  at += static_cast<size_t>(c.config.context * (dim / c.config.heads)) * sizeof(float);
  expect(c.classifier, c.config.shared_classifier ? 0 : c.config.vocab_size * dim);
  Require(at == bytes.size(), "the arrays are not the whole file");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  // The input is a file; or a header with as many bytes behind it as it describes, which mutation
  // of a whole file would hardly find.
  std::string file;
  if (input.OneIn(2)) {
    file = DrawHeader(input);
    int32_t header[7];
    std::memcpy(header, file.data(), kHeaderBytes);
    const double described = header[3] == 0 ? 0 : Described(header);
    const std::string weights = input.Rest() + std::string(1, '\1');
    for (size_t i = 0; described <= kLargest && static_cast<double>(file.size()) < described; ++i) {
      file.push_back(weights[i % weights.size()]);
    }
  } else {
    file = input.Rest();
  }
  const absl::StatusOr<Checkpoint> parsed = engine::ParseCheckpoint(file, "model.bin");
  if (parsed.ok()) {
    CheckWeights(*parsed, file);
    return 0;
  }
  Require(absl::IsInvalidArgument(parsed.status()), "another code: " + parsed.status().ToString());
  Require(parsed.status().message().substr(0, 11) == "model.bin: ",
          "no file: " + parsed.status().ToString());
  return 0;
}

}  // namespace quire::fuzz
