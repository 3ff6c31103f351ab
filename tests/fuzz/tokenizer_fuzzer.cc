// Tokenizer files. A file that is taken has vocab_size tokens and not a byte more; text comes back
// as it was; a token that is none has no text.

#include <cstring>
#include <string>
#include <vector>

#include "engine/tiny_model.h"
#include "engine/tokenizer.h"
#include "tests/fuzz/fuzz_input.h"

namespace quire::fuzz {
namespace {

using engine::Tokenizer;

constexpr int32_t kBaseTokens = 3 + 256;

// The tokens of a file, read as plainly as can be; -1: it is not made of whole tokens.
int64_t TokensIn(const std::string& file) {
  size_t at = 4;
  int64_t tokens = 0;
  while (at < file.size()) {
    int32_t length = 0;
    if (file.size() - at < 8) return -1;
    std::memcpy(&length, file.data() + at + 4, 4);
    at += 8;
    if (length < 0 || static_cast<size_t>(length) > file.size() - at) return -1;
    at += static_cast<size_t>(length);
    ++tokens;
  }
  return tokens;
}

void CheckText(const Tokenizer& tokenizer, const std::string& text, bool whole) {
  for (const bool bos : {false, true}) {
    const std::vector<TokenId> tokens = tokenizer.Encode(text, bos);
    for (const TokenId token : tokens) {
      Require(token >= 0 && token < tokenizer.vocab_size(), "a token outside the vocabulary");
    }
    const std::string back = tokenizer.Decode(engine::kBos, tokens);
    if (whole) Require(back == text, "'" + text + "' comes back as '" + back + "'");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  // The file is the input; or the 259 tokens that each file has, and the input behind them.
  const bool base = input.OneIn(2);
  const int32_t extra = input.Mostly(0, 16);
  const std::string text = input.Bytes(static_cast<size_t>(input.Below(64)));
  const std::string file = (base ? engine::TokenizerBytes({}) : "") + input.Rest();
  int32_t vocab_size = 0;
  if (__builtin_add_overflow(kBaseTokens, extra, &vocab_size)) vocab_size = extra;

  const absl::StatusOr<Tokenizer> parsed = Tokenizer::Parse(file, vocab_size, "tok.bin");
  if (!parsed.ok()) {
    Require(absl::IsInvalidArgument(parsed.status()), parsed.status().ToString());
    Require(parsed.status().message().substr(0, 9) == "tok.bin: ",
            "no file: " + parsed.status().ToString());
    return 0;
  }
  Require(parsed->vocab_size() == vocab_size, "another number of tokens");
  Require(TokensIn(file) == vocab_size, "the file does not have these tokens");
  // A piece named <0x41> stands for a byte, so text that spells it out is not kept.
  CheckText(*parsed, text, base && text.find('<') == std::string::npos);
  for (const TokenId token : {INT32_MIN, -1, vocab_size, INT32_MAX}) {
    Require(parsed->Piece(0, token).empty(), "a token that is none has text");
  }
  return 0;
}

}  // namespace quire::fuzz
