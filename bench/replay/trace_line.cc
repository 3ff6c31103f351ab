#include "bench/replay/trace_line.h"

#include <array>
#include <cstddef>
#include <limits>

#include "absl/strings/str_cat.h"
#include "simdjson.h"

namespace replay {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr int64_t kMaxTimestamp = 1000000000000000;  // ms: 31 thousand years, exact as a double

// Well above the longest context of any model today; a line that says more is wrong, and must not
// be answered with memory for its pages.
constexpr int64_t kMaxTokens = int64_t{1} << 24;

enum Field : uint32_t {
  kTimestamp = 1,
  kInputLength = 2,
  kOutputLength = 4,
  kHashIds = 8,
  kTokenList = 16,
  kText = 32,
  kOutputTokens = 64,
  kOutputText = 128,
  kSession = 256,
  kTenant = 512,
};

struct FieldName {
  const char* name;
  Field field;
  bool in_mooncake, in_tokens;
};

constexpr std::array<FieldName, 10> kFields = {{
    {"timestamp", kTimestamp, true, true},
    {"input_length", kInputLength, true, false},
    {"output_length", kOutputLength, true, true},
    {"hash_ids", kHashIds, true, false},
    {"tokens", kTokenList, false, true},
    {"text", kText, false, true},
    {"output_tokens", kOutputTokens, false, true},
    {"output_text", kOutputText, false, true},
    {"session", kSession, false, true},
    {"tenant", kTenant, false, true},
}};

const FieldName* FindField(std::string_view name, Format format) {
  for (const FieldName& field : kFields) {
    if ((format == Format::kMooncake ? field.in_mooncake : field.in_tokens) && name == field.name) {
      return &field;
    }
  }
  return nullptr;
}

absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError(what); }

// In our words: simdjson's change from version to version.
const char* Describe(simdjson::error_code error) {
  switch (error) {
    case simdjson::UTF8_ERROR:
      return "not valid UTF-8";
    case simdjson::NUMBER_ERROR:
      return "a number that is malformed or has more than 64 bits";
    case simdjson::UNCLOSED_STRING:
      return "a string without an end";
    case simdjson::STRING_ERROR:
    case simdjson::UNESCAPED_CHARS:
      return "a string with a bad escape or a control character";
    case simdjson::CAPACITY:
    case simdjson::MEMALLOC:
      return "a line that is too long";
    default:
      return "not JSON";
  }
}

// A number as it is, anything else by its kind: a line may be megabytes long.
std::string Describe(element value) {
  switch (value.type()) {
    case element_type::ARRAY:
      return "an array";
    case element_type::OBJECT:
      return "an object";
    case element_type::STRING:
      return "a string";
    default:
      return simdjson::to_string(value);
  }
}

absl::Status ReadInteger(const std::string& name, element value, int64_t least, int64_t most,
                         int64_t* result) {
  if (value.get(*result) == simdjson::SUCCESS && *result >= least && *result <= most) {
    return absl::OkStatus();
  }
  return Bad(absl::StrCat(name, " is ", Describe(value), ", expected an integer from ", least,
                          " to ", most));
}

absl::Status ReadString(const std::string& name, element value, std::string* result) {
  std::string_view text;
  if (value.get(text) != simdjson::SUCCESS) {
    return Bad(absl::StrCat(name, " is ", Describe(value), ", expected a string"));
  }
  *result = text;
  return absl::OkStatus();
}

// T as simdjson reads it, then cut to what `result` holds.
template <typename T, typename Result>
absl::Status ReadArray(const std::string& name, element value, T least, T most,
                       std::vector<Result>* result) {
  simdjson::dom::array array;
  if (value.get(array) != simdjson::SUCCESS) {
    return Bad(absl::StrCat(name, " is ", Describe(value), ", expected an array of integers"));
  }
  for (element entry : array) {
    T number = 0;
    if (entry.get(number) != simdjson::SUCCESS || number < least || number > most) {
      return Bad(absl::StrCat(name, "[", result->size(), "] is ", Describe(entry),
                              ", expected an integer from ", least, " to ", most));
    }
    result->push_back(static_cast<Result>(number));
  }
  return absl::OkStatus();
}

absl::Status ReadTokens(const std::string& name, element value, std::vector<int32_t>* tokens) {
  return ReadArray<int64_t>(name, value, std::numeric_limits<int32_t>::min(),
                            std::numeric_limits<int32_t>::max(), tokens);
}

absl::Status ReadText(const std::string& name, element value, std::vector<int32_t>* tokens) {
  std::string text;
  if (absl::Status status = ReadString(name, value, &text); !status.ok()) return status;
  for (char c : text) tokens->push_back(static_cast<unsigned char>(c));
  return absl::OkStatus();
}

absl::Status ReadField(const FieldName& field, element value, TraceLine* line,
                       std::vector<int32_t>* answer) {
  switch (field.field) {
    case kTimestamp:
      return ReadInteger(field.name, value, 0, kMaxTimestamp, &line->timestamp);
    case kInputLength:
      return ReadInteger(field.name, value, 1, kMaxTokens, &line->input_length);
    case kOutputLength:
      return ReadInteger(field.name, value, 0, kMaxTokens, &line->output_length);
    case kHashIds:
      return ReadArray<uint64_t>(field.name, value, 0, std::numeric_limits<uint64_t>::max(),
                                 &line->hash_ids);
    case kTokenList:
      return ReadTokens(field.name, value, &line->tokens);
    case kText:
      return ReadText(field.name, value, &line->tokens);
    case kOutputTokens:
      return ReadTokens(field.name, value, answer);
    case kOutputText:
      return ReadText(field.name, value, answer);
    case kSession:
      return ReadString(field.name, value, &line->session);
    case kTenant:
      return ReadString(field.name, value, &line->tenant);
  }
  return absl::OkStatus();
}

absl::Status CheckMooncake(uint32_t present, const TraceLine& line) {
  for (const FieldName& field : kFields) {
    if (field.in_mooncake && (present & field.field) == 0) {
      const bool tokens = (present & kTimestamp) == 0 || (present & kInputLength) == 0;
      return Bad(absl::StrCat(field.name, " is missing, expected timestamp, input_length, ",
                              "output_length and hash_ids",
                              tokens ? "; or is this a trace of tokens?" : ""));
    }
  }
  const int64_t pages = (line.input_length + 511) / 512;
  if (static_cast<int64_t>(line.hash_ids.size()) != pages) {
    return Bad(absl::StrCat("hash_ids has ", line.hash_ids.size(), " entries, expected ", pages,
                            ": one for each 512 tokens of input_length ", line.input_length));
  }
  return absl::OkStatus();
}

// At most one of `group` may stand in a line.
absl::Status CheckOneOf(uint32_t present, uint32_t group) {
  const char* first = nullptr;
  for (const FieldName& field : kFields) {
    if ((present & group & field.field) == 0) continue;
    if (first != nullptr) {
      return Bad(absl::StrCat("both ", first, " and ", field.name, ", expected one of them"));
    }
    first = field.name;
  }
  return absl::OkStatus();
}

absl::Status FinishTokens(uint32_t present, const std::vector<int32_t>& answer, TraceLine* line) {
  if (absl::Status s = CheckOneOf(present, kTokenList | kText); !s.ok()) return s;
  if (absl::Status s = CheckOneOf(present, kOutputTokens | kOutputText | kOutputLength); !s.ok()) {
    return s;
  }
  if ((present & (kTokenList | kText)) == 0) {
    return Bad("no prompt, expected tokens or text; or is this a Mooncake trace?");
  }
  if (line->tokens.empty()) return Bad("the prompt is empty, expected at least one token");
  line->input_length = static_cast<int64_t>(line->tokens.size());
  if ((present & kOutputLength) == 0) {
    line->output_length = static_cast<int64_t>(answer.size());
    line->answer_known = true;
    line->tokens.insert(line->tokens.end(), answer.begin(), answer.end());
  }
  if (line->input_length > kMaxTokens || line->output_length > kMaxTokens) {
    return Bad(absl::StrCat(line->input_length, " tokens of prompt and ", line->output_length,
                            " of answer, expected at most ", kMaxTokens, " of each"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseTraceLine(std::string_view text, Format format, simdjson::dom::parser* parser,
                            TraceLine* line) {
  *line = TraceLine{};
  if (text.starts_with("\xEF\xBB\xBF")) {
    return Bad("a byte-order mark, expected UTF-8 without one");
  }
  // simdjson rejects it too, but calls it improper structure.
  if (text.find('\0') != std::string_view::npos) {
    return Bad("a NUL byte, expected one JSON object a line; is this a text file?");
  }
  element root;
  if (const auto error = parser->parse(text.data(), text.size(), false).get(root)) {
    return Bad(absl::StrCat(Describe(error), ", expected one JSON object a line"));
  }
  simdjson::dom::object object;
  if (root.get(object) != simdjson::SUCCESS) {
    return Bad(absl::StrCat(Describe(root), ", expected a JSON object"));
  }
  uint32_t present = 0;
  std::vector<int32_t> answer;
  for (const auto& [key, value] : object) {
    const FieldName* field = FindField(key, format);
    if (field == nullptr) continue;
    // What an exporter writes for a value it does not have.
    if (format == Format::kTokens && value.is_null()) continue;
    if ((present & field->field) != 0) {
      return Bad(absl::StrCat(field->name, " stands twice, expected once"));
    }
    present |= field->field;
    if (absl::Status s = ReadField(*field, value, line, &answer); !s.ok()) return s;
  }
  return format == Format::kMooncake ? CheckMooncake(present, *line)
                                     : FinishTokens(present, answer, line);
}

}  // namespace replay
