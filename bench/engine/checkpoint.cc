// The order of the weights in the file: embedding; then per KIND (not per layer) one array over all
// layers: attention norm, query, key, value, output, feed-forward norm, w1, w2, w3; final norm; two
// RoPE tables that today's code computes itself; the classifier if it is not shared.

#include "engine/checkpoint.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace engine {
namespace {

constexpr int64_t kHeaderBytes = 7 * sizeof(int32_t);
constexpr int64_t kMaxFileBytes = int64_t{64} << 30;

absl::Status Bad(const std::string& name, const std::string& problem) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": not a usable llama2.c version 0 checkpoint: ", problem));
}

// Fields in file order with the largest value that is believed. The limits keep every product below
// 2^62, so the size arithmetic cannot overflow.
struct Field {
  const char* name;
  int32_t value;
  int32_t limit;
};

absl::Status CheckFields(const ModelConfig& config, const std::string& name) {
  const Field fields[] = {
      {"dim", config.dim, 1 << 16},
      {"hidden_dim", config.hidden_dim, 1 << 18},
      {"n_layers", config.layers, 1 << 10},
      {"n_heads", config.heads, 1 << 12},
      {"n_kv_heads", config.kv_heads, 1 << 12},
      {"vocab_size", config.vocab_size, 1 << 20},
      {"seq_len", config.context, 1 << 20},
  };
  for (const Field& field : fields) {
    if (field.value < 1 || field.value > field.limit) {
      return Bad(name,
                 absl::StrCat(field.name, " is ", field.value, ", must be 1 to ", field.limit));
    }
  }
  if (config.dim % config.heads != 0) {
    return Bad(name,
               absl::StrCat("dim ", config.dim, " is not a multiple of n_heads ", config.heads));
  }
  if (config.heads % config.kv_heads != 0) {
    return Bad(name, absl::StrCat("n_heads ", config.heads, " is not a multiple of n_kv_heads ",
                                  config.kv_heads));
  }
  const int32_t head_dim = config.head_dim();
  if (head_dim % 8 != 0 || head_dim > 256) {
    return Bad(name, absl::StrCat("head size dim / n_heads is ", head_dim,
                                  "; the attention kernels take multiples of 8 up to 256"));
  }
  return absl::OkStatus();
}

int64_t ExpectedBytes(const ModelConfig& c) {
  const int64_t dim = c.dim, hidden = c.hidden_dim, kv = c.kv_dim(), vocab = c.vocab_size;
  const int64_t per_layer = 2 * dim + 2 * dim * dim + 2 * dim * kv + 3 * dim * hidden;
  const int64_t rope_tables = int64_t{c.context} * c.head_dim();
  const int64_t classifier = c.shared_classifier ? 0 : vocab * dim;
  const int64_t floats = vocab * dim + c.layers * per_layer + dim + rope_tables + classifier;
  return kHeaderBytes + floats * static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<ModelConfig> ParseHeader(std::string_view bytes, int64_t file_bytes,
                                        const std::string& name) {
  if (static_cast<int64_t>(bytes.size()) < kHeaderBytes) {
    return Bad(name, absl::StrCat("it has ", bytes.size(), " bytes, the header alone needs ",
                                  kHeaderBytes));
  }
  int32_t header[7];
  std::memcpy(header, bytes.data(), sizeof(header));
  ModelConfig config;
  config.dim = header[0];
  config.hidden_dim = header[1];
  config.layers = header[2];
  config.heads = header[3];
  config.kv_heads = header[4];
  config.shared_classifier = header[5] > 0;
  // INT32_MIN has no positive twin; leave it, the range check refuses it.
  config.vocab_size = header[5] < 0 && header[5] != INT32_MIN ? -header[5] : header[5];
  config.context = header[6];
  if (absl::Status status = CheckFields(config, name); !status.ok()) return status;
  const int64_t expected = ExpectedBytes(config);
  if (file_bytes != expected) {
    return Bad(name, absl::StrCat("its header describes ", expected, " bytes, it has ", file_bytes,
                                  file_bytes < expected ? "; was the download cut off?"
                                                        : "; is it another version?"));
  }
  return config;
}

// Hands out consecutive arrays of the file; the size was checked before.
class WeightReader {
 public:
  explicit WeightReader(std::string_view bytes) : rest_(bytes.substr(kHeaderBytes)) {}

  std::vector<float> Take(int64_t count) {
    std::vector<float> out(static_cast<size_t>(count));
    std::memcpy(out.data(), rest_.data(), out.size() * sizeof(float));
    rest_.remove_prefix(out.size() * sizeof(float));
    for (float value : out) finite_ = finite_ && std::isfinite(value);
    return out;
  }

  void Skip(int64_t count) { rest_.remove_prefix(static_cast<size_t>(count) * sizeof(float)); }

  bool finite() const { return finite_; }  // all that was taken

 private:
  std::string_view rest_;
  bool finite_ = true;
};

}  // namespace

absl::StatusOr<Checkpoint> ParseCheckpoint(std::string_view bytes, const std::string& name) {
  absl::StatusOr<ModelConfig> config = ParseHeader(bytes, static_cast<int64_t>(bytes.size()), name);
  if (!config.ok()) return config.status();

  Checkpoint checkpoint;
  checkpoint.config = *config;
  checkpoint.layers.resize(static_cast<size_t>(config->layers));
  const int64_t dim = config->dim, hidden = config->hidden_dim, kv = config->kv_dim();

  WeightReader reader(bytes);
  const auto take_per_layer = [&](std::vector<float> LayerWeights::*member, int64_t count) {
    for (LayerWeights& layer : checkpoint.layers) layer.*member = reader.Take(count);
  };
  checkpoint.embedding = reader.Take(config->vocab_size * dim);
  take_per_layer(&LayerWeights::attention_norm, dim);
  take_per_layer(&LayerWeights::query, dim * dim);
  take_per_layer(&LayerWeights::key, dim * kv);
  take_per_layer(&LayerWeights::value, dim * kv);
  take_per_layer(&LayerWeights::attention_output, dim * dim);
  take_per_layer(&LayerWeights::feed_forward_norm, dim);
  take_per_layer(&LayerWeights::gate, dim * hidden);
  take_per_layer(&LayerWeights::down, dim * hidden);
  take_per_layer(&LayerWeights::up, dim * hidden);
  checkpoint.final_norm = reader.Take(dim);
  reader.Skip(int64_t{config->context} * config->head_dim());  // the RoPE tables
  if (!config->shared_classifier) checkpoint.classifier = reader.Take(config->vocab_size * dim);
  if (!reader.finite()) return Bad(name, "a weight is not a finite number");
  return checkpoint;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t limit_bytes) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file; check the path"));
  }
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (error) return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.message()));
  if (size > limit_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": it has ", size, " bytes, at most ", limit_bytes, " are expected"));
  }
  std::ifstream file(path, std::ios::binary);
  std::string bytes(static_cast<size_t>(size), '\0');
  if (!file.read(bytes.data(), static_cast<std::streamsize>(size))) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read; check its permissions"));
  }
  return bytes;
}

absl::StatusOr<Checkpoint> LoadCheckpoint(const std::string& path) {
  // The header decides how large the file must be, so a wrong file is refused before it is read.
  std::error_code error;
  if (std::filesystem::is_regular_file(path, error)) {
    std::ifstream file(path, std::ios::binary);
    std::string header(kHeaderBytes, '\0');
    file.read(header.data(), kHeaderBytes);
    header.resize(static_cast<size_t>(file.gcount()));
    const auto size = static_cast<int64_t>(std::filesystem::file_size(path, error));
    absl::StatusOr<ModelConfig> config = ParseHeader(header, size, path);
    if (!config.ok()) return config.status();
  }
  absl::StatusOr<std::string> bytes = ReadFile(path, kMaxFileBytes);
  if (!bytes.ok()) return bytes.status();
  return ParseCheckpoint(*bytes, path);
}

}  // namespace engine
