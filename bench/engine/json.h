// Writes JSON, and nothing else: objects and arrays in the order of the calls, two spaces deep.
// Always valid JSON, whatever the text: a byte that is not part of UTF-8 becomes the escape of its
// value (0xFF becomes \u00ff), a number that is not finite becomes null.

#ifndef QUIRE_BENCH_ENGINE_JSON_H_
#define QUIRE_BENCH_ENGINE_JSON_H_

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace engine {

class JsonWriter {
 public:
  void BeginObject() { Begin('{'); }
  void EndObject() { End('}'); }
  void BeginArray() { Begin('['); }
  void EndArray() { End(']'); }

  void Key(std::string_view key);

  void Value(std::string_view text);
  void Value(const char* text) { Value(std::string_view(text)); }
  void Value(double number);
  void Value(bool value) { Raw(value ? "true" : "false"); }
  void Value(std::integral auto number) { Raw(std::to_string(number)); }
  void Value(std::span<const int32_t> numbers);  // on one line
  void Raw(std::string_view value);              // what is JSON already

  template <typename T>
  void Field(std::string_view key, const T& value) {
    Key(key);
    Value(value);
  }

  const std::string& text() const { return text_; }

 private:
  void Begin(char bracket);
  void End(char bracket);
  void Separate();
  void NewLine();

  std::string text_;
  int depth_ = 0;
  bool first_ = true;  // nothing stands before in this object or array
  bool after_key_ = false;
};

// `text` as a JSON string, quotes included.
std::string QuoteJson(std::string_view text);

// kUnavailable says which file could not be written.
absl::Status WriteFile(const std::string& path, std::string_view text);

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_JSON_H_
