#include "bench/replay/report_text.h"

#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace replay {
namespace {

constexpr char kDash[] = "–";
constexpr char kThin[] = "\u202f";  // a narrow space that does not break: between number and unit

// Bytes of the UTF-8 character at the front of text; 0 if there is none that XML allows.
size_t CharacterLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7F ? 1 : 0;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (lead == 0xC2 && byte(1) < 0xA0) return 0;                     // control characters
  if (lead == 0xE0 && byte(1) < 0xA0) return 0;                     // too long a form
  if (lead == 0xED && byte(1) > 0x9F) return 0;                     // surrogates
  if (lead == 0xEF && byte(1) == 0xBF && byte(2) > 0xBD) return 0;  // U+FFFE, U+FFFF
  if (lead == 0xF0 && byte(1) < 0x90) return 0;                     // too long a form
  if (lead == 0xF4 && byte(1) > 0x8F) return 0;                     // past U+10FFFF
  return length;
}

std::string_view EscapeOf(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&quot;";
    case '\'':
      return "&#39;";
    default:
      return {};
  }
}

// "12.0" is "12", "0.10" is "0.1".
std::string Trimmed(std::string number) {
  if (number.find('.') == std::string::npos) return number;
  number.erase(number.find_last_not_of('0') + 1);
  if (number.back() == '.') number.pop_back();
  return number == "-0" ? "0" : number;
}

// With a minus sign, which is as wide as a plus, not a hyphen; what rounds to 0 has no sign.
std::string Signed(double v, int digits, const char* plus) {
  std::string text = absl::StrFormat("%.*f", digits, std::abs(v));
  if (text.find_first_not_of("0.") == std::string::npos) return text;
  return (v < 0 ? "−" : plus) + text;
}

// Three digits that count.
std::string ThreeDigits(double v) {
  const double size = std::abs(v);
  return absl::StrFormat("%.*f", size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2, v);
}

}  // namespace

std::string Escape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    if (length == 0) {
      out += text[0] == '\n' || text[0] == '\t' ? " " : "\uFFFD";
      text.remove_prefix(1);
      continue;
    }
    const std::string_view escape = length == 1 ? EscapeOf(text[0]) : std::string_view();
    out += escape.empty() ? text.substr(0, length) : escape;
    text.remove_prefix(length);
  }
  return out;
}

std::string Count(int64_t n) {
  std::string digits = absl::StrCat(n);
  const size_t first = n < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, ",");
  return digits;
}

std::string Short(double n) {
  if (!std::isfinite(n)) return kDash;
  const double size = std::abs(n);
  if (size >= 999.5e6) return Trimmed(ThreeDigits(n / 1e9)) + "G";
  if (size >= 999.5e3) return Trimmed(ThreeDigits(n / 1e6)) + "M";
  if (size >= 999.5) return Trimmed(ThreeDigits(n / 1e3)) + "k";
  return Trimmed(ThreeDigits(n));
}

std::string Percent(double share, int digits) {
  if (!std::isfinite(share)) return kDash;
  return absl::StrCat(Signed(share * 100, digits, ""), kThin, "%");
}

std::string Points(double difference, int digits) {
  return std::isfinite(difference) ? Signed(difference * 100, digits, "+") : kDash;
}

std::string Milliseconds(double ms) {
  if (!std::isfinite(ms)) return kDash;
  if (ms == 0) return absl::StrCat("0", kThin, "ms");
  if (ms < 0.1) return absl::StrCat(ThreeDigits(ms * 1e3), kThin, "µs");
  if (ms < 999.5) return absl::StrCat(ThreeDigits(ms), kThin, "ms");
  if (ms < 599.5e3) return absl::StrCat(ThreeDigits(ms / 1e3), kThin, "s");
  if (ms < 599.5 * 60e3) return absl::StrCat(ThreeDigits(ms / 60e3), kThin, "min");
  return absl::StrCat(ThreeDigits(ms / 3600e3), kThin, "h");
}

std::string Bytes(int64_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (b < 1024) return absl::StrCat(bytes, kThin, "B");
  if (b < 1048576) return absl::StrCat(ThreeDigits(b / 1024), kThin, "KiB");
  if (b < 1073741824) return absl::StrCat(ThreeDigits(b / 1048576), kThin, "MiB");
  return absl::StrCat(ThreeDigits(b / 1073741824), kThin, "GiB");
}

std::string Coordinate(double v) {
  return Trimmed(absl::StrFormat("%.1f", std::isfinite(v) ? v : 0));
}

std::string Join(const std::vector<std::string>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? " and " : ", ";
    out += words[i];
  }
  return out;
}

std::string Format(Unit unit, double v) {
  switch (unit) {
    case Unit::kShare:
      return Percent(v);
    case Unit::kPoints:
      return Points(v);
    case Unit::kMilliseconds:
      return Milliseconds(v);
    case Unit::kCount:
      break;
  }
  if (!std::isfinite(v)) return kDash;
  return std::abs(v) < 100 ? Trimmed(ThreeDigits(v)) : Count(std::llround(v));
}

std::string FormatTick(Unit unit, double v) {
  switch (unit) {
    case Unit::kShare:
      return absl::StrCat(Trimmed(absl::StrFormat("%.1f", v * 100)), kThin, "%");
    case Unit::kPoints:
      return (v > 0 ? "+" : v < 0 ? "−" : "") + Trimmed(absl::StrFormat("%.2f", std::abs(v) * 100));
    case Unit::kMilliseconds: {
      // "10.0 ms" is "10 ms": a tick is a round number.
      const std::string text = Milliseconds(v);
      const size_t space = text.find(kThin);
      return space == std::string::npos ? text
                                        : Trimmed(text.substr(0, space)) + text.substr(space);
    }
    case Unit::kCount:
      break;
  }
  return Short(v);
}

}  // namespace replay
