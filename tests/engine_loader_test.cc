// Files from outside: a good one loads exactly, every way to be bad is an error that names it.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>

#include "engine/checkpoint.h"
#include "engine/json.h"
#include "engine/tiny_model.h"
#include "gtest/gtest.h"

namespace engine {
namespace {

std::string Message(const absl::Status& status) { return std::string(status.message()); }

void ExpectBad(const std::string& bytes, const std::string& part) {
  const absl::StatusOr<Checkpoint> parsed = ParseCheckpoint(bytes, "some.bin");
  ASSERT_FALSE(parsed.ok()) << "expected an error about " << part;
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(Message(parsed.status()).find(part), std::string::npos) << parsed.status();
  EXPECT_NE(Message(parsed.status()).find("some.bin"), std::string::npos) << parsed.status();
}

std::string WithField(int index, int32_t value) {
  std::string bytes = CheckpointBytes(TinyCheckpoint());
  std::memcpy(bytes.data() + index * 4, &value, 4);
  return bytes;
}

TEST(CheckpointTest, EveryWeightArrives) {
  for (const bool shared : {true, false}) {
    ModelConfig config = TinyConfig();
    config.shared_classifier = shared;
    const Checkpoint written = TinyCheckpoint(config);
    const absl::StatusOr<Checkpoint> read = ParseCheckpoint(CheckpointBytes(written), "x");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->config.dim, config.dim);
    EXPECT_EQ(read->config.hidden_dim, config.hidden_dim);
    EXPECT_EQ(read->config.heads, config.heads);
    EXPECT_EQ(read->config.kv_heads, config.kv_heads);
    EXPECT_EQ(read->config.vocab_size, config.vocab_size);
    EXPECT_EQ(read->config.context, config.context);
    EXPECT_EQ(read->config.shared_classifier, shared);
    EXPECT_EQ(read->embedding, written.embedding);
    EXPECT_EQ(read->final_norm, written.final_norm);
    EXPECT_EQ(read->classifier, written.classifier);
    ASSERT_EQ(read->layers.size(), written.layers.size());
    for (size_t i = 0; i < written.layers.size(); ++i) {
      EXPECT_EQ(read->layers[i].query, written.layers[i].query);
      EXPECT_EQ(read->layers[i].key, written.layers[i].key);
      EXPECT_EQ(read->layers[i].value, written.layers[i].value);
      EXPECT_EQ(read->layers[i].attention_output, written.layers[i].attention_output);
      EXPECT_EQ(read->layers[i].gate, written.layers[i].gate);
      EXPECT_EQ(read->layers[i].down, written.layers[i].down);
      EXPECT_EQ(read->layers[i].up, written.layers[i].up);
    }
  }
}

TEST(CheckpointTest, EachHeaderFieldIsChecked) {
  const char* const kNames[] = {"dim",        "hidden_dim", "n_layers", "n_heads",
                                "n_kv_heads", "vocab_size", "seq_len"};
  constexpr int32_t kMin = std::numeric_limits<int32_t>::min();
  constexpr int32_t kMax = std::numeric_limits<int32_t>::max();
  for (int field = 0; field < 7; ++field) {
    for (int32_t value : {0, kMax, kMin}) ExpectBad(WithField(field, value), kNames[field]);
    if (field != 5) ExpectBad(WithField(field, -1), kNames[field]);
  }
  // A field that is believable by itself but not beside the size of the file.
  for (int field : {1, 2, 5, 6}) ExpectBad(WithField(field, 8), "header describes");
  ExpectBad(WithField(5, -300), "header describes");  // a classifier of its own is not there
}

TEST(CheckpointTest, HeadsMustDivide) {
  ExpectBad(WithField(3, 3), "not a multiple of n_heads");
  ExpectBad(WithField(4, 3), "not a multiple of n_kv_heads");
  ExpectBad(WithField(3, 16), "head size");  // 32 / 16 = 2
}

TEST(CheckpointTest, EveryCutAndEveryTailIsRefused) {
  const std::string whole = CheckpointBytes(TinyCheckpoint());
  for (size_t size : {size_t{0}, size_t{1}, size_t{27}}) {
    ExpectBad(whole.substr(0, size), "header alone");
  }
  for (size_t size : {size_t{28}, whole.size() / 2, whole.size() - 1}) {
    ExpectBad(whole.substr(0, size), "cut off");
  }
  ExpectBad(whole + "x", "another version");
}

TEST(CheckpointTest, WeightsMustBeNumbers) {
  std::string bytes = CheckpointBytes(TinyCheckpoint());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + 28 + 400, &nan, 4);
  ExpectBad(bytes, "not a finite number");
}

TEST(CheckpointTest, FilesThatAreNone) {
  const std::string folder = ::testing::TempDir();
  EXPECT_EQ(LoadCheckpoint(folder + "no_such_file.bin").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(LoadCheckpoint(folder).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CheckpointTest, LoadsFromDiskWhatItParses) {
  const std::string path = ::testing::TempDir() + "quire_engine_loader_test.bin";
  const Checkpoint written = TinyCheckpoint();
  ASSERT_TRUE(WriteFile(path, CheckpointBytes(written)).ok());
  const absl::StatusOr<Checkpoint> read = LoadCheckpoint(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->embedding, written.embedding);
  // The size is checked against the header before the weights are read.
  ASSERT_TRUE(WriteFile(path, CheckpointBytes(written).substr(0, 1000)).ok());
  EXPECT_EQ(LoadCheckpoint(path).status().code(), absl::StatusCode::kInvalidArgument);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace engine
