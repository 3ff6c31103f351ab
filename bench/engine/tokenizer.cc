#include "engine/tokenizer.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint.h"

namespace engine {
namespace {

using quire::TokenId;

constexpr TokenId kFirstByte = 3;
constexpr int32_t kMinVocab = kFirstByte + 256;
constexpr int32_t kMaxPieceBytes = 1 << 12;
constexpr int64_t kMaxFileBytes = int64_t{1} << 30;
constexpr TokenId kNone = -1;

absl::Status Bad(const std::string& name, const std::string& problem) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": not a usable llama2.c tokenizer file: ", problem));
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// "<0x0A>" stands for the byte 0x0A; any other piece is its own text.
std::string TextOf(const std::string& piece) {
  if (piece.size() != 6 || piece.compare(0, 3, "<0x") != 0 || piece[5] != '>') return piece;
  const int high = HexDigit(piece[3]), low = HexDigit(piece[4]);
  if (high < 0 || low < 0) return piece;
  return std::string(1, static_cast<char>(high * 16 + low));
}

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Takes a value off the front of `rest`; false if there are not enough bytes.
template <typename T>
bool Take(std::string_view* rest, T* value) {
  if (rest->size() < sizeof(T)) return false;
  std::memcpy(value, rest->data(), sizeof(T));
  rest->remove_prefix(sizeof(T));
  return true;
}

}  // namespace

absl::StatusOr<Tokenizer> Tokenizer::Parse(std::string_view bytes, int32_t vocab_size,
                                           const std::string& name) {
  if (vocab_size < kMinVocab) {
    return Bad(name, absl::StrCat("the model has ", vocab_size,
                                  " tokens; 3 special ones and 256 "
                                  "bytes are the least"));
  }
  std::string_view rest = bytes;
  int32_t longest = 0;  // a hint of the file that is not needed here, but tells a wrong file
  if (!Take(&rest, &longest) || longest < 1 || longest > kMaxPieceBytes) {
    return Bad(name,
               absl::StrCat("max_token_length is ", longest, ", must be 1 to ", kMaxPieceBytes));
  }
  Tokenizer tokenizer;
  for (int32_t id = 0; id < vocab_size; ++id) {
    float score = 0;
    int32_t length = 0;
    if (!Take(&rest, &score) || !Take(&rest, &length)) {
      return Bad(name, absl::StrCat("it ends at token ", id, " of ", vocab_size,
                                    "; does it belong to this model?"));
    }
    if (std::isnan(score)) return Bad(name, absl::StrCat("the score of token ", id, " is NaN"));
    if (length < 0 || length > kMaxPieceBytes || static_cast<size_t>(length) > rest.size()) {
      return Bad(name,
                 absl::StrCat("token ", id, " has ", length, " bytes, ", rest.size(), " are left"));
    }
    tokenizer.scores_.push_back(score);
    tokenizer.pieces_.emplace_back(rest.substr(0, static_cast<size_t>(length)));
    tokenizer.texts_.push_back(TextOf(tokenizer.pieces_.back()));
    tokenizer.ids_.emplace(tokenizer.pieces_.back(), id);  // of equal pieces the first counts
    rest.remove_prefix(static_cast<size_t>(length));
  }
  if (!rest.empty()) {
    return Bad(name, absl::StrCat(rest.size(), " bytes follow its ", vocab_size,
                                  " tokens; does it belong to this model?"));
  }
  return tokenizer;
}

absl::StatusOr<Tokenizer> Tokenizer::Load(const std::string& path, int32_t vocab_size) {
  absl::StatusOr<std::string> bytes = ReadFile(path, kMaxFileBytes);
  if (!bytes.ok()) return bytes.status();
  return Parse(*bytes, vocab_size, path);
}

TokenId Tokenizer::Find(const std::string& text) const {
  const auto it = ids_.find(text);
  return it == ids_.end() ? kNone : it->second;
}

TokenId Tokenizer::Joined(TokenId left, TokenId right) const {
  return Find(pieces_[static_cast<size_t>(left)] + pieces_[static_cast<size_t>(right)]);
}

// One token per UTF-8 character, or its bytes. Text that is not UTF-8 comes out as bytes too: a
// character ends before the next byte that is no continuation, or after four.
std::vector<TokenId> Tokenizer::Characters(std::string_view text) const {
  std::vector<TokenId> tokens;
  std::string character;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!IsContinuation(text[i])) character.clear();
    character.push_back(text[i]);
    const bool more = i + 1 < text.size() && IsContinuation(text[i + 1]);
    if (more && character.size() < 4) continue;
    if (const TokenId id = Find(character); id != kNone) {
      tokens.push_back(id);
    } else {
      for (char c : character) tokens.push_back(static_cast<unsigned char>(c) + kFirstByte);
    }
    character.clear();
  }
  return tokens;
}

// Looks each pair up once and again only where a merge changed it, so long prompts stay cheap.
void Tokenizer::Merge(std::vector<TokenId>* tokens) const {
  std::vector<TokenId> joined;  // joined[i]: what tokens i and i + 1 make
  for (size_t i = 0; i + 1 < tokens->size(); ++i) {
    joined.push_back(Joined((*tokens)[i], (*tokens)[i + 1]));
  }
  while (true) {
    size_t best = joined.size();
    float best_score = -1e10f;
    for (size_t i = 0; i < joined.size(); ++i) {
      if (joined[i] == kNone) continue;
      const float score = scores_[static_cast<size_t>(joined[i])];
      if (score > best_score) {
        best = i;
        best_score = score;
      }
    }
    if (best == joined.size()) return;
    (*tokens)[best] = joined[best];
    tokens->erase(tokens->begin() + static_cast<std::ptrdiff_t>(best) + 1);
    joined.erase(joined.begin() + static_cast<std::ptrdiff_t>(best));
    if (best > 0) joined[best - 1] = Joined((*tokens)[best - 1], (*tokens)[best]);
    if (best < joined.size()) joined[best] = Joined((*tokens)[best], (*tokens)[best + 1]);
  }
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text, bool bos) const {
  std::vector<TokenId> tokens;
  if (!text.empty()) {
    const TokenId space = Find(" ");
    tokens.push_back(space != kNone ? space : ' ' + kFirstByte);
    for (TokenId token : Characters(text)) tokens.push_back(token);
  }
  // BOS takes part in merging, as in llama2.c; no piece begins with its text, so nothing comes of
  // it.
  if (bos) tokens.insert(tokens.begin(), kBos);
  Merge(&tokens);
  return tokens;
}

std::string_view Tokenizer::Piece(TokenId previous, TokenId token) const {
  if (token < 0 || token >= vocab_size()) return "";
  std::string_view text = texts_[static_cast<size_t>(token)];
  if (previous == kBos && !text.empty() && text[0] == ' ') text.remove_prefix(1);
  return text;
}

std::string Tokenizer::Decode(TokenId previous, std::span<const TokenId> tokens) const {
  std::string text;
  for (TokenId token : tokens) {
    if (token != kBos) text += Piece(previous, token);
    previous = token;
  }
  return text;
}

}  // namespace engine
