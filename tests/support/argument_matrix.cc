#include "tests/support/argument_matrix.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace quire::testing {

namespace {

std::string WithoutComments(const std::string& text) {
  std::istringstream lines(text);
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line[0] == '#') continue;
    out += line.substr(0, line.find("//")) + '\n';
  }
  return out;
}

// Behind the brace that closes the one at `at`.
size_t SkipBraces(const std::string& text, size_t at) {
  int depth = 0;
  for (; at < text.size(); ++at) {
    depth += text[at] == '{' ? 1 : text[at] == '}' ? -1 : 0;
    if (depth == 0) return at + 1;
  }
  return at;
}

// Identifiers with their "::", and all else a character at a time.
std::vector<std::string> TokensOf(const std::string& text) {
  const auto in_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  std::vector<std::string> tokens;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    while (at < text.size() && in_name(text[at])) ++at;
    if (at == begin) ++at;
    const std::string token = text.substr(begin, at - begin);
    if (std::isspace(static_cast<unsigned char>(token[0])) == 0) tokens.push_back(token);
  }
  return tokens;
}

bool IsInteger(const std::string& type) {
  static const std::set<std::string> integers = {
      "int8_t",   "int16_t",  "int32_t", "int64_t", "uint8_t", "uint16_t",
      "uint32_t", "uint64_t", "int",     "size_t",  "PageId",  "GroupId",
      "Ticket",   "TokenId",  "Tier",    "DType",   "Reclaim", "ScheduleMode"};
  return integers.count(type) > 0;
}

struct Scope {
  std::string name;  // with "::"; empty for a namespace that is not named in the results
  bool is_private = false;
};

class Scanner {
 public:
  explicit Scanner(const std::string& text) : text_(WithoutComments(text)) {}

  std::vector<std::string> Run() {
    std::string statement;
    for (size_t at = 0; at < text_.size();) {
      const char c = text_[at];
      if (c == ';') {
        Take(statement);
        statement.clear();
        ++at;
      } else if (c == '}') {
        if (!scopes_.empty()) scopes_.pop_back();
        statement.clear();
        ++at;
      } else if (c == '{') {
        at = Open(&statement, at);
      } else {
        statement += c;
        ++at;
      }
    }
    return found_;
  }

 private:
  // A brace: of a scope, a body, or a value.
  size_t Open(std::string* statement, size_t at) {
    const std::vector<std::string> tokens = TokensOf(*statement);
    const auto has = [&](const char* token) {
      return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
    };
    const bool value = has("=") && !has(")");
    if (!value && !has("enum") && !has("(")) {
      for (size_t i = 0; i + 1 < tokens.size(); ++i) {
        const std::string& kind = tokens[i];
        if (kind != "namespace" && kind != "struct" && kind != "class") continue;
        SetAccess(*statement);
        const bool silent = kind == "namespace" && tokens[i + 1] == "quire";
        const bool hidden = !scopes_.empty() && scopes_.back().is_private;
        scopes_.push_back({silent ? "" : tokens[i + 1] + "::", hidden});
        statement->clear();
        return at + 1;
      }
    }
    const size_t behind = SkipBraces(text_, at);
    if (value) return behind;  // the statement goes on
    // A default argument is a value, too: `const Namespace& ns = {}, int32_t x`.
    const auto opened = std::count(statement->begin(), statement->end(), '(');
    if (opened > std::count(statement->begin(), statement->end(), ')')) return behind;
    Take(*statement);
    statement->clear();
    return behind;
  }

  void SetAccess(const std::string& statement) {
    if (scopes_.empty()) return;
    const size_t to_private = statement.rfind("private:");
    const size_t to_public = statement.rfind("public:");
    if (to_private == std::string::npos && to_public == std::string::npos) return;
    scopes_.back().is_private = to_public == std::string::npos ||
                                (to_private != std::string::npos && to_private > to_public);
  }

  void Take(const std::string& statement) {
    SetAccess(statement);
    if (!scopes_.empty() && scopes_.back().is_private) return;
    const std::vector<std::string> tokens = TokensOf(statement);
    std::string scope;
    for (const Scope& outer : scopes_) scope += outer.name;
    const auto open = std::find(tokens.begin(), tokens.end(), "(");
    const bool is_function = open != tokens.end();
    for (const char* other : {"delete", "using"}) {
      if (std::find(tokens.begin(), tokens.end(), other) != tokens.end()) return;
    }
    const bool constant = std::find(tokens.begin(), tokens.end(), "constexpr") != tokens.end();
    if (!is_function && constant) return;
    const std::string function = is_function && open != tokens.begin() ? *(open - 1) : "";
    for (auto at = is_function ? open : tokens.begin(); at != tokens.end(); ++at) {
      if (!IsInteger(*at)) continue;
      auto name = at + 1;
      while (name != tokens.end() && (*name == "const" || *name == ">" || *name == "*")) ++name;
      if (name == tokens.end() || (std::isalpha(static_cast<unsigned char>((*name)[0])) == 0)) {
        continue;
      }
      const bool ends =
          name + 1 == tokens.end() || std::string("=,)[").find(*(name + 1)) != std::string::npos;
      if (!ends) continue;
      found_.push_back(is_function ? absl::StrCat(scope, function, "(", *name, ")")
                                   : absl::StrCat(scope, *name));
    }
  }

  const std::string text_;
  std::vector<Scope> scopes_;
  std::vector<std::string> found_;
};

}  // namespace

std::string LetterOf(const absl::Status& status) {
  const std::string message(status.message());
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return "o";
    case absl::StatusCode::kInvalidArgument:
      return "i " + message;
    case absl::StatusCode::kOutOfRange:
      return "r " + message;
    case absl::StatusCode::kFailedPrecondition:
      return "p " + message;
    case absl::StatusCode::kNotFound:
      return "n " + message;
    case absl::StatusCode::kUnimplemented:
      return "a " + message;
    case absl::StatusCode::kResourceExhausted:
      return "x " + message;
    default:
      return "? " + status.ToString();
  }
}

std::string LetterOf(LaunchError error) {
  const std::string sentence = Describe(error);
  switch (error) {
    case LaunchError::kOk:
      return "o";
    case LaunchError::kBadArgument:
      return "i " + sentence;
    case LaunchError::kUnsupported:
      return "u " + sentence;
    case LaunchError::kMisaligned:
      return "m " + sentence;
    case LaunchError::kWorkspaceTooSmall:
      return "w " + sentence;
    case LaunchError::kUnimplemented:
    case LaunchError::kNoGpu:
      return "a " + sentence;
    case LaunchError::kLaunchFailed:
      break;
  }
  return "? " + sentence;
}

std::vector<std::string> IntegersIn(const std::string& header) { return Scanner(header).Run(); }

std::vector<std::string> ScanHeaders() {
  std::vector<std::string> all;
  for (const auto& entry : std::filesystem::directory_iterator(QUIRE_SOURCE_DIR "/include/quire")) {
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    for (std::string& name : IntegersIn(text.str())) all.push_back(std::move(name));
  }
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace quire::testing
