#include "engine/json.h"

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace engine {
namespace {

// Bytes of the UTF-8 character at the front of text, 0 if there is none: the shortest form only, no
// surrogates, nothing past U+10FFFF.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (lead == 0xE0 && byte(1) < 0xA0) return 0;
  if (lead == 0xED && byte(1) > 0x9F) return 0;
  if (lead == 0xF0 && byte(1) < 0x90) return 0;
  if (lead == 0xF4 && byte(1) > 0x8F) return 0;
  return length;
}

std::string Escape(unsigned char byte) {
  char buffer[8];
  std::snprintf(buffer, sizeof(buffer), "\\u%04x", byte);
  return buffer;
}

}  // namespace

std::string QuoteJson(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const char c = text[0];
    size_t length = Utf8Length(text);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (length == 0 || static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      out += Escape(static_cast<unsigned char>(c));
      length = 1;
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out + "\"";
}

void JsonWriter::Key(std::string_view key) {
  Separate();
  text_ += QuoteJson(key);
  text_ += ": ";
  after_key_ = true;
}

void JsonWriter::Value(std::string_view text) { Raw(QuoteJson(text)); }

void JsonWriter::Value(double number) {
  if (!std::isfinite(number)) return Raw("null");
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), "%.6g", number);
  Raw(buffer);
}

void JsonWriter::Value(std::span<const int32_t> numbers) {
  std::string line = "[";
  for (int32_t number : numbers) absl::StrAppend(&line, line.size() > 1 ? ", " : "", number);
  Raw(line + "]");
}

void JsonWriter::Begin(char bracket) {
  Raw(std::string_view(&bracket, 1));
  ++depth_;
  first_ = true;
}

void JsonWriter::End(char bracket) {
  --depth_;
  if (!first_) NewLine();
  text_ += bracket;
  first_ = false;
  if (depth_ == 0) text_ += '\n';
}

void JsonWriter::Raw(std::string_view value) {
  if (!after_key_) Separate();
  after_key_ = false;
  text_ += value;
}

void JsonWriter::Separate() {
  if (!first_) text_ += ',';
  first_ = false;
  if (depth_ > 0) NewLine();
}

void JsonWriter::NewLine() {
  text_ += '\n';
  text_.append(static_cast<size_t>(depth_) * 2, ' ');
}

absl::Status WriteFile(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (file.fail()) {
    return absl::UnavailableError(
        absl::StrCat(path, ": cannot be written; does its folder exist, is there space?"));
  }
  return absl::OkStatus();
}

}  // namespace engine
