// The tokenizer: what llama2.c's rules say for small vocabularies, round trips, and bad files.

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "engine/tiny_model.h"
#include "engine/tokenizer.h"
#include "gtest/gtest.h"

namespace engine {
namespace {

using Ids = std::vector<quire::TokenId>;

constexpr int32_t kFirstPiece = 259;

// Ids from kFirstPiece on, in this order.
const std::vector<TinyPiece>& Pieces() {
  static const std::vector<TinyPiece> pieces = {
      {" ", -1},     // 259
      {"a", -2},     // 260
      {"b", -3},     // 261
      {"c", -4},     // 262
      {"ab", 5},     // 263
      {"bc", 7},     // 264
      {" a", 1},     // 265
      {"abc", 9},    // 266
      {"é", -5},     // 267
      {"aa", 5},     // 268
      {"\x80", -6},  // 269
  };
  return pieces;
}

Tokenizer Make() {
  absl::StatusOr<Tokenizer> tokenizer = Tokenizer::Parse(
      TokenizerBytes(Pieces()), kFirstPiece + static_cast<int32_t>(Pieces().size()), "tok");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(TokenizerTest, EmptyTextIsBosAlone) {
  EXPECT_EQ(Make().Encode("", true), (Ids{kBos}));
  EXPECT_EQ(Make().Encode("", false), Ids{});
}

TEST(TokenizerTest, BestScoreMergesFirst) {
  // " abc": "bc" scores best (7), which leaves " ", "a", "bc": "abc" (9), and " a" never comes up.
  EXPECT_EQ(Make().Encode("abc", false), (Ids{259, 266}));
  // " ab": "ab" (5) beats " a" (1).
  EXPECT_EQ(Make().Encode("ab", true), (Ids{kBos, 259, 263}));
}

TEST(TokenizerTest, OfEqualScoresTheLeftmostMerges) {
  // " aab": "aa" and "ab" score 5 each. Merging "ab" first would leave " a", "ab".
  EXPECT_EQ(Make().Encode("aab", false), (Ids{259, 268, 261}));
}

TEST(TokenizerTest, CharactersWithoutAPieceBecomeBytes) {
  EXPECT_EQ(Make().Encode("é", false), (Ids{259, 267}));
  EXPECT_EQ(Make().Encode("\xE2\x82\xAC", false), (Ids{259, 0xE2 + 3, 0x82 + 3, 0xAC + 3}));
  EXPECT_EQ(Make().Encode("z", false), (Ids{259, 'z' + 3}));
}

TEST(TokenizerTest, BytesThatAreNotUtf8StayBytes) {
  const std::string text =
      "\xFF\xC3"
      "a\x80\x80\x80\x80";
  // "a" and three continuations make the four bytes at which a character ends; the fifth byte is a
  // character, and here a piece, of its own.
  const int b = 0x80 + 3;
  EXPECT_EQ(Make().Encode(text, false), (Ids{259, 0xFF + 3, 0xC3 + 3, 'a' + 3, b, b, b, 269}));
}

TEST(TokenizerTest, DecodeGivesTheTextBack) {
  const Tokenizer tokenizer = Make();
  std::string all_bytes;
  for (int byte = 0; byte < 256; ++byte) all_bytes.push_back(static_cast<char>(byte));
  for (const std::string& text :
       {std::string("abc cab aaab"), std::string("é €"), std::string(" two  spaces "), all_bytes}) {
    const Ids ids = tokenizer.Encode(text, true);
    ASSERT_EQ(ids[0], kBos);
    EXPECT_EQ(tokenizer.Decode(kBos, std::span(ids).subspan(1)), text);
  }
}

TEST(TokenizerTest, OnlyTheSpaceBehindBosIsDropped) {
  const Tokenizer tokenizer = Make();
  EXPECT_EQ(tokenizer.Piece(kBos, 265), "a");
  EXPECT_EQ(tokenizer.Piece(260, 265), " a");
  EXPECT_EQ(tokenizer.Piece(260, '\n' + 3), "\n");
  EXPECT_EQ(tokenizer.Piece(260, -1), "");
  EXPECT_EQ(tokenizer.Piece(260, 100000), "");
}

void ExpectBad(const std::string& bytes, int32_t vocab_size, const std::string& part) {
  const absl::Status status = Tokenizer::Parse(bytes, vocab_size, "tok.bin").status();
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << "expected: " << part;
  EXPECT_NE(std::string(status.message()).find(part), std::string::npos) << status;
}

TEST(TokenizerTest, EveryCutIsRefused) {
  const std::string bytes = TokenizerBytes(Pieces());
  const auto vocab = kFirstPiece + static_cast<int32_t>(Pieces().size());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Tokenizer::Parse(bytes.substr(0, size), vocab, "t").ok()) << size;
  }
}

TEST(TokenizerTest, BadFields) {
  const std::string good = TokenizerBytes(Pieces());
  const auto vocab = kFirstPiece + static_cast<int32_t>(Pieces().size());
  const auto with = [&](size_t at, auto value) {
    std::string bytes = good;
    std::memcpy(bytes.data() + at, &value, sizeof(value));
    return bytes;
  };
  ExpectBad(with(0, int32_t{0}), vocab, "max_token_length");
  ExpectBad(with(0, int32_t{-5}), vocab, "max_token_length");
  ExpectBad(with(8, int32_t{-1}), vocab, "has -1 bytes");
  ExpectBad(with(8, std::numeric_limits<int32_t>::max()), vocab, "token 0 has");
  ExpectBad(with(4, std::numeric_limits<float>::quiet_NaN()), vocab, "NaN");
  ExpectBad(good.substr(0, good.size() - 1), vocab, "has 1 bytes, 0 are left");
  ExpectBad(good, vocab + 1, "ends at token");
  ExpectBad(good, vocab - 1, "belong to this model");
  ExpectBad(good, 258, "256 bytes");
  ExpectBad(good, -1, "256 bytes");
}

}  // namespace
}  // namespace engine
