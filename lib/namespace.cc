#include "quire/namespace.h"

#include <utility>

namespace quire {

namespace {

// One encoded field: tag, length, bytes. The length makes the encoding prefix-free, so that no
// value can run into the next field.
void AppendLength(std::string* out, uint64_t length) {
  for (int shift = 0; shift < 64; shift += 8) out->push_back(static_cast<char>(length >> shift));
}

uint64_t ReadLength(const std::string& bytes, size_t at) {
  uint64_t length = 0;
  for (int i = 0; i < 8; ++i) {
    length |= static_cast<uint64_t>(static_cast<uint8_t>(bytes[at + i])) << (8 * i);
  }
  return length;
}

constexpr size_t kHeader = 1 + 8;

size_t FieldEnd(const std::string& bytes, size_t at) {
  return at + kHeader + static_cast<size_t>(ReadLength(bytes, at + 1));
}

// Big-endian with the sign bit flipped: byte order is number order.
std::string SortablePosition(int64_t position) {
  const uint64_t biased = static_cast<uint64_t>(position) ^ (uint64_t{1} << 63);
  std::string out;
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(biased >> shift));
  return out;
}

}  // namespace

Namespace& Namespace::SetTenant(std::string_view salt) { return SetField(Tag::kTenant, salt); }
Namespace& Namespace::SetLora(std::string_view adapter) { return SetField(Tag::kLora, adapter); }
Namespace& Namespace::SetModel(std::string_view model) { return SetField(Tag::kModel, model); }

Namespace& Namespace::AddMedia(int64_t position, std::string_view content_digest) {
  const std::string value = SortablePosition(position) + std::string(content_digest);
  size_t at = 0;
  while (at < media_.size()) {
    const size_t end = FieldEnd(media_, at);
    if (media_.compare(at + kHeader, end - at - kHeader, value) > 0) break;
    at = end;
  }
  std::string field(1, static_cast<char>(Tag::kMedia));
  AppendLength(&field, value.size());
  media_.insert(at, field + value);
  return *this;
}

Namespace& Namespace::SetField(Tag tag, std::string_view value) {
  std::string field(1, static_cast<char>(tag));
  AppendLength(&field, value.size());
  field.append(value);
  size_t at = 0;
  while (at < bytes_.size() && static_cast<uint8_t>(bytes_[at]) < static_cast<uint8_t>(tag)) {
    at = FieldEnd(bytes_, at);
  }
  const bool present = at < bytes_.size() && bytes_[at] == static_cast<char>(tag);
  bytes_.replace(at, present ? FieldEnd(bytes_, at) - at : 0, field);
  return *this;
}

std::optional<std::string_view> Namespace::tenant() const {
  // Fields are sorted by tag, and the tenant's is the lowest.
  static_assert(static_cast<int>(Tag::kTenant) == 1);
  if (bytes_.empty() || bytes_[0] != static_cast<char>(Tag::kTenant)) return std::nullopt;
  return std::string_view(bytes_).substr(kHeader, FieldEnd(bytes_, 0) - kHeader);
}

std::string Namespace::Encode() const { return bytes_ + media_; }

}  // namespace quire
