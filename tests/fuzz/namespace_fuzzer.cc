// Namespace: any setters in any order. The encoding must say what was set and nothing else: a plain
// decoder reads it back. Two namespaces encode alike exactly if the same was set in both.

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "quire/namespace.h"
#include "tests/fuzz/fuzz_input.h"

namespace quire::fuzz {
namespace {

// What was set, in the plainest form.
struct Fields {
  std::map<int, std::string> scalars;                  // by tag
  std::vector<std::pair<int64_t, std::string>> media;  // sorted

  friend bool operator==(const Fields&, const Fields&) = default;
};

struct Call {
  int tag;  // 1 tenant, 2 LoRA, 3 model, 4 media
  int64_t position;
  std::string value;
};

std::vector<Call> DrawCalls(Input& input) {
  std::vector<Call> calls;
  const int count = input.Below(12);
  for (int i = 0; i < count; ++i) {
    Call call = {.tag = 1 + input.Below(4), .position = 0, .value = ""};
    if (call.tag == 4) call.position = input.AnyInt64();
    call.value = input.Bytes(static_cast<size_t>(input.Below(24)));
    calls.push_back(call);
  }
  return calls;
}

void Apply(const Call& call, Namespace* ns) {
  switch (call.tag) {
    case 1:
      ns->SetTenant(call.value);
      return;
    case 2:
      ns->SetLora(call.value);
      return;
    case 3:
      ns->SetModel(call.value);
      return;
    default:
      ns->AddMedia(call.position, call.value);
  }
}

Fields FieldsOf(const std::vector<Call>& calls) {
  Fields fields;
  for (const Call& call : calls) {
    if (call.tag == 4) {
      fields.media.emplace_back(call.position, call.value);
    } else {
      fields.scalars[call.tag] = call.value;
    }
  }
  std::sort(fields.media.begin(), fields.media.end());
  return fields;
}

// Tag (1 byte), length (8 bytes, little-endian), bytes; a media field's begin with the position, 8
// bytes, big-endian with the sign flipped.
Fields Decode(const std::string& bytes) {
  Fields fields;
  size_t at = 0;
  const auto take = [&](uint64_t count) {
    Require(count <= bytes.size() - at, "the encoding ends inside a field");
    std::string taken = bytes.substr(at, static_cast<size_t>(count));
    at += static_cast<size_t>(count);
    return taken;
  };
  int last_tag = 0;
  while (at < bytes.size()) {
    const int tag = static_cast<uint8_t>(take(1)[0]);
    Require(tag >= last_tag && tag <= 4, "tags are not in order");
    last_tag = tag;
    uint64_t length = 0;
    const std::string header = take(8);
    for (size_t i = 8; i-- > 0;) length = length << 8 | static_cast<uint8_t>(header[i]);
    std::string value = take(length);
    if (tag != 4) {
      Require(fields.scalars.emplace(tag, value).second, "a field stands twice");
      continue;
    }
    Require(value.size() >= 8, "a media field without a position");
    uint64_t position = 0;
    for (size_t i = 0; i < 8; ++i) position = position << 8 | static_cast<uint8_t>(value[i]);
    fields.media.emplace_back(static_cast<int64_t>(position ^ uint64_t{1} << 63), value.substr(8));
  }
  Require(std::is_sorted(fields.media.begin(), fields.media.end()), "media are not in order");
  return fields;
}

// The same calls, shuffled; of those that set one field the last stays the last.
std::vector<Call> Shuffled(const std::vector<Call>& calls, Input& input) {
  std::vector<Call> all = calls;
  for (size_t i = all.size(); i > 1; --i) {
    std::swap(all[i - 1], all[static_cast<size_t>(input.Below(static_cast<int>(i)))]);
  }
  for (const auto& [tag, value] : FieldsOf(calls).scalars) {
    all.push_back({.tag = tag, .position = 0, .value = value});
  }
  return all;
}

std::string EncodingOf(const std::vector<Call>& calls) {
  Namespace ns;
  for (const Call& call : calls) Apply(call, &ns);
  const Fields fields = FieldsOf(calls);
  Require(ns.empty() == calls.empty(), "empty() is wrong");
  const auto tenant = fields.scalars.find(1);
  Require(ns.tenant().has_value() == (tenant != fields.scalars.end()), "has it a tenant?");
  if (ns.tenant()) Require(*ns.tenant() == tenant->second, "another tenant");
  const std::string bytes = ns.Encode();
  Require(Decode(bytes) == fields, "the encoding does not say what was set");
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const std::vector<Call> first = DrawCalls(input);
  // Half of the time a namespace close to the first: most pairs of lists have nothing in common.
  std::vector<Call> second = input.OneIn(2) ? first : DrawCalls(input);
  if (!second.empty() && input.OneIn(2)) {
    Call& call = second[static_cast<size_t>(input.Below(static_cast<int>(second.size())))];
    call.value = input.Bytes(static_cast<size_t>(input.Below(24)));
    call.tag = 1 + input.Below(4);
  }
  const std::string a = EncodingOf(first), b = EncodingOf(second);
  Require((a == b) == (FieldsOf(first) == FieldsOf(second)),
          "two namespaces encode alike, but other fields were set; or the other way round");
  Require(EncodingOf(Shuffled(first, input)) == a, "the order of the calls changes the encoding");
  return 0;
}

}  // namespace quire::fuzz
