// A model that others run too: stories260K must say, token for token, what llama2.c's own program
// says at temperature 0. Opt-in, because the files are not shipped:
//
//   QUIRE_STORIES260K_DIR=<folder with stories260K.bin and tok512.bin> ctest -R engine_stories
//
// The files are at https://huggingface.co/karpathy/tinyllamas, folder stories260K.

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/contiguous.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/tokenizer.h"
#include "gtest/gtest.h"

namespace engine {
namespace {

using Ids = std::vector<quire::TokenId>;

constexpr char kPrompt[] = "Once upon a time";

const Ids kPromptIds = {1, 403, 407, 261, 378};

// What follows at temperature 0.
const Ids kGeneratedIds = {
    432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396, 267, 337, 410, 408, 419,
    292, 411, 322, 265, 282, 295, 433, 426, 385, 328, 432, 358, 394, 261, 370, 432, 352, 266, 268,
    388, 426, 338, 391, 266, 267, 337, 335, 312, 432, 398, 312, 286, 267, 414, 270, 333, 415, 426,
    13,  438, 310, 439, 419, 357, 336, 432, 313, 438, 310, 432, 278, 316, 439, 419, 298, 414, 267,
    265, 282, 295, 433, 426, 436, 317, 286, 296, 418, 269, 279, 292, 416, 439, 413, 409, 416, 327,
    263, 415, 294, 267, 400, 426, 338, 336, 432, 313, 442, 391, 267, 337, 335, 364, 420, 268, 388,
    432, 398, 359, 280, 303, 439, 413, 272, 417, 264, 312, 426, 436, 13,  438, 310, 286, 296, 418,
    269, 279, 292, 416, 439, 413, 409, 416, 327, 263, 415, 294, 267, 400, 426, 338, 336, 432, 313,
    442, 439, 423, 262, 304, 420, 422, 432, 317, 426, 359, 279, 292, 416, 439, 413, 409, 416, 327,
    263, 415, 294, 267, 400, 426, 436, 13,  438, 310, 279, 292, 416, 439, 413, 391, 267, 281, 421,
    427, 311, 357, 432, 384, 358, 336, 432, 313, 442, 439, 423, 262, 304, 420, 422, 432, 357, 426,
    359, 279, 292, 416, 439, 413, 409, 416, 327, 263, 415, 294, 267, 400, 426, 436, 320, 285, 357,
    336, 432, 313, 455, 289, 439, 413, 263, 304, 420, 422, 432, 317, 426, 410, 448, 411, 280, 303,
    281, 421, 427, 364, 426, 436, 13,  438, 310};

class StoriesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("QUIRE_STORIES260K_DIR");
    if (folder == nullptr) {
      GTEST_SKIP() << "set QUIRE_STORIES260K_DIR to a folder with stories260K.bin and tok512.bin";
    }
    const absl::StatusOr<Checkpoint> checkpoint =
        LoadCheckpoint(std::string(folder) + "/stories260K.bin");
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    absl::StatusOr<Tokenizer> tokenizer =
        Tokenizer::Load(std::string(folder) + "/tok512.bin", checkpoint->config.vocab_size);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::make_unique<Tokenizer>(*std::move(tokenizer));
    model_ = std::make_unique<Model>(*checkpoint);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Model> model_;
};

TEST_F(StoriesTest, GreedyTokensAreThoseOfLlama2c) {
  Request request;
  request.prompt = tokenizer_->Encode(kPrompt, /*bos=*/true);
  EXPECT_EQ(request.prompt, kPromptIds);
  request.max_new_tokens = static_cast<int32_t>(kGeneratedIds.size());
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(model_.get(), EngineOptions());
  ASSERT_TRUE(engine.ok()) << engine.status();
  ASSERT_TRUE((*engine)->Submit(request).ok());
  ASSERT_TRUE((*engine)->Run().ok());
  EXPECT_EQ((*engine)->result(0).samples[0], kGeneratedIds);
  EXPECT_EQ(*ContiguousRunner(model_.get()).Generate(request), kGeneratedIds);
}

TEST_F(StoriesTest, TextComesBack) {
  for (const std::string text : {"Lily's mom said, \"Go!\"", "a\nb", "na\u00efve \u6f22\u5b57"}) {
    const Ids ids = tokenizer_->Encode(text, /*bos=*/true);
    EXPECT_EQ(tokenizer_->Decode(kBos, std::span(ids).subspan(1)), text);
  }
}

}  // namespace
}  // namespace engine
