// The byte-pair tokenizer of llama2.c: reads its tokenizer.bin, splits and joins text as it does.
//
// Tokens 0, 1, 2 are <unk>, <s> (BOS), </s>; 3 to 258 are the 256 bytes, for text that no other
// token covers; then come the pieces, each with a score.

#ifndef QUIRE_BENCH_ENGINE_TOKENIZER_H_
#define QUIRE_BENCH_ENGINE_TOKENIZER_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "quire/types.h"

namespace engine {

inline constexpr quire::TokenId kBos = 1;

class Tokenizer {
 public:
  // kInvalidArgument with what is wrong; `name` stands in the message. The file does not say how
  // many tokens it holds, the checkpoint does: vocab_size.
  static absl::StatusOr<Tokenizer> Parse(std::string_view bytes, int32_t vocab_size,
                                         const std::string& name);
  static absl::StatusOr<Tokenizer> Load(const std::string& path, int32_t vocab_size);

  // BOS if wanted, a space in front of text that is not empty, one token per character (its bytes
  // where it has none), then the neighbours whose joint piece scores best are merged, leftmost
  // first, until no two make a piece.
  std::vector<quire::TokenId> Encode(std::string_view text, bool bos) const;

  // The text of one token. A space that follows BOS is the one Encode put there, and is dropped.
  std::string_view Piece(quire::TokenId previous, quire::TokenId token) const;

  // The text of tokens that follow `previous`. BOS itself has no text.
  std::string Decode(quire::TokenId previous, std::span<const quire::TokenId> tokens) const;

  int32_t vocab_size() const { return static_cast<int32_t>(pieces_.size()); }

 private:
  Tokenizer() = default;

  quire::TokenId Find(const std::string& text) const;  // -1 if no piece is this text
  quire::TokenId Joined(quire::TokenId left, quire::TokenId right) const;
  std::vector<quire::TokenId> Characters(std::string_view text) const;
  void Merge(std::vector<quire::TokenId>* tokens) const;

  std::vector<std::string> pieces_;  // as in the file
  std::vector<std::string> texts_;   // what is printed: <0x0A> is a newline here
  std::vector<float> scores_;
  std::unordered_map<std::string, quire::TokenId> ids_;
};

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_TOKENIZER_H_
