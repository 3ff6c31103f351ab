// The model: the same bits for a token whatever page, chunk or batch it is computed in.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "engine/contiguous.h"
#include "engine/model.h"
#include "engine/tiny_model.h"
#include "gtest/gtest.h"

namespace engine {
namespace {

using Ids = std::vector<quire::TokenId>;
using Logits = std::vector<float>;

Ids RandomIds(uint32_t seed, size_t count) {
  std::mt19937 random(seed);
  Ids out;
  for (size_t i = 0; i < count; ++i) {
    out.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(TinyConfig().vocab_size)));
  }
  return out;
}

void ExpectSameBits(const Logits& a, const Logits& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

// A pool of pages by hand, with no manager: every row's pages are scattered, and what is not
// written is NaN.
class Pool {
 public:
  Pool(const ModelConfig& config, int32_t tokens_per_page, int32_t rows)
      : tokens_per_page_(tokens_per_page),
        pages_per_row_((config.context + tokens_per_page - 1) / tokens_per_page) {
    const int64_t head = int64_t{config.head_dim()} * tokens_per_page;
    const int64_t layer = 2 * head * config.kv_heads, page = layer * config.layers;
    const int32_t count = rows * pages_per_row_;
    memory_.assign(static_cast<size_t>(page * count), std::numeric_limits<float>::quiet_NaN());
    const quire::KvStrides strides = {page * 4, head * 4, int64_t{config.head_dim()} * 4};
    for (int32_t i = 0; i < config.layers; ++i) {
      float* k = memory_.data() + layer * i;
      views_.push_back({k, k + head * config.kv_heads, strides, strides, count});
    }
    std::vector<int32_t> ids(static_cast<size_t>(count));
    std::iota(ids.begin(), ids.end(), 0);
    std::mt19937 random(77);
    for (size_t i = ids.size() - 1; i > 0; --i) std::swap(ids[i], ids[random() % (i + 1)]);
    for (int32_t id : ids) page_ids_.push_back(quire::PageId{id});
    lengths_.resize(static_cast<size_t>(rows));
    for (int32_t row = 0; row < rows; ++row) row_begin_.push_back(int64_t{row} * pages_per_row_);
  }

  // Computes the next counts[i] tokens of row i; logits of each row's last one.
  Logits Step(Model* model, const std::vector<Ids>& rows, const std::vector<int32_t>& counts) {
    Ids tokens;
    std::vector<int32_t> query_begin = {0}, wanted;
    for (size_t row = 0; row < rows.size(); ++row) {
      const auto first = rows[row].begin() + lengths_[row];
      tokens.insert(tokens.end(), first, first + counts[row]);
      lengths_[row] += counts[row];
      query_begin.push_back(static_cast<int32_t>(tokens.size()));
      if (counts[row] > 0) wanted.push_back(query_begin.back() - 1);
    }
    StepBatch batch;
    batch.tokens = tokens;
    batch.query_begin = query_begin;
    batch.table = {page_ids_.data(), row_begin_.data(), lengths_.data(),
                   static_cast<int32_t>(rows.size()), tokens_per_page_};
    batch.kv = views_;
    batch.wanted = wanted;
    Logits logits;
    const absl::Status status = model->Forward(batch, &logits);
    EXPECT_TRUE(status.ok()) << status;
    return logits;
  }

 private:
  int32_t tokens_per_page_, pages_per_row_;
  std::vector<float> memory_;
  std::vector<quire::KvView> views_;
  std::vector<quire::PageId> page_ids_;
  std::vector<int64_t> row_begin_;
  std::vector<int32_t> lengths_;
};

// The logits of the last token, computed alone, at once, on contiguous memory.
Logits Reference(Model* model, const Ids& tokens) {
  ContiguousRunner runner(model);
  Logits logits;
  EXPECT_TRUE(runner.Compute(tokens, 0, &logits).ok());
  return logits;
}

TEST(ModelTest, ChunksAndPagesChangeNoBit) {
  Model model(TinyCheckpoint());
  const Ids tokens = RandomIds(1, 61);
  const Logits expected = Reference(&model, tokens);
  for (const int32_t tokens_per_page : {1, 5, 16}) {
    for (const int32_t chunk : {1, 7, 64}) {
      SCOPED_TRACE(testing::Message() << tokens_per_page << " a page, chunks of " << chunk);
      Pool pool(model.config(), tokens_per_page, 1);
      Logits logits;
      for (int32_t done = 0; done < 61; done += chunk) {
        logits = pool.Step(&model, {tokens}, {std::min(chunk, 61 - done)});
      }
      ExpectSameBits(logits, expected);
    }
  }
}

TEST(ModelTest, PrefillsAndDecodesShareACallWithoutTouchingEachOther) {
  Model model(TinyCheckpoint());
  const std::vector<Ids> rows = {RandomIds(2, 40), RandomIds(3, 90), RandomIds(4, 8)};
  Pool pool(model.config(), 16, 3);
  pool.Step(&model, rows, {39, 10, 0});
  const Logits logits = pool.Step(&model, rows, {1, 80, 8});  // a decode, a chunk, a prompt
  const auto vocab = static_cast<size_t>(model.config().vocab_size);
  ASSERT_EQ(logits.size(), 3 * vocab);
  for (size_t row = 0; row < rows.size(); ++row) {
    SCOPED_TRACE(row);
    const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(row * vocab);
    ExpectSameBits(Logits(begin, begin + static_cast<std::ptrdiff_t>(vocab)),
                   Reference(&model, rows[row]));
  }
}

TEST(ModelTest, LogitsDependOnEveryToken) {
  Model model(TinyCheckpoint());
  const Ids tokens = RandomIds(5, 50);
  const Logits expected = Reference(&model, tokens);
  for (size_t i = 0; i < tokens.size(); i += 7) {
    Ids other = tokens;
    other[i] = (other[i] + 1) % model.config().vocab_size;
    EXPECT_NE(Reference(&model, other), expected) << i;
  }
}

TEST(ModelTest, ThreadsChangeNoBit) {
  const Checkpoint checkpoint = TinyCheckpoint();
  Model one(checkpoint), three(checkpoint, MakeThreads(3));
  const Ids tokens = RandomIds(6, 120);
  ExpectSameBits(Reference(&one, tokens), Reference(&three, tokens));
}

TEST(ModelTest, SeparateClassifierIsUsed) {
  ModelConfig config = TinyConfig();
  config.shared_classifier = false;
  Model model(TinyCheckpoint(config));
  Checkpoint shared = TinyCheckpoint(config);
  shared.config.shared_classifier = true;
  Model other(shared);
  const Ids tokens = RandomIds(7, 9);
  EXPECT_NE(Reference(&model, tokens), Reference(&other, tokens));
}

TEST(ModelTest, TheWrongNumberOfLayersIsAnError) {
  Model model(TinyCheckpoint());
  Logits logits;
  EXPECT_EQ(model.Forward(StepBatch(), &logits).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace engine
