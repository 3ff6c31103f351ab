#include "engine/flags.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <system_error>

#include "absl/strings/str_cat.h"

#ifndef QUIRE_MODEL_DIR
#error "QUIRE_MODEL_DIR must name the folder of the shipped model; CMakeLists.txt sets it"
#endif

namespace engine {
namespace {

absl::Status Bad(const std::string& name, const std::string& text, const std::string& wanted) {
  return absl::InvalidArgumentError(absl::StrCat(name, " ", text, ": must be ", wanted));
}

// The whole text as a number, or false.
template <typename T>
bool ParseNumber(const std::string& text, T* value) {
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc() && stop == end;
}

template <typename T>
std::function<absl::Status(const std::string&)> SetWhole(const std::string& name, T* value, T least,
                                                         T most) {
  return [=](const std::string& text) {
    T number = 0;
    if (!ParseNumber(text, &number) || number < least || number > most) {
      return Bad(name, text, absl::StrCat("a whole number from ", least, " to ", most));
    }
    *value = number;
    return absl::OkStatus();
  };
}

}  // namespace

void Flags::Add(const std::string& name, std::string* value) {
  setters_[name] = [value](const std::string& text) {
    *value = text;
    return absl::OkStatus();
  };
}

void Flags::Add(const std::string& name, int32_t* value, int32_t least, int32_t most) {
  setters_[name] = SetWhole(name, value, least, most);
}

void Flags::Add(const std::string& name, int64_t* value, int64_t least, int64_t most) {
  setters_[name] = SetWhole(name, value, least, most);
}

void Flags::Add(const std::string& name, uint64_t* value) {
  setters_[name] = [=](const std::string& text) {
    if (!ParseNumber(text, value)) return Bad(name, text, "a whole number from 0");
    return absl::OkStatus();
  };
}

void Flags::Add(const std::string& name, float* value) {
  setters_[name] = [=](const std::string& text) {
    float number = 0;
    if (!ParseNumber(text, &number) || !std::isfinite(number) || number < 0) {
      return Bad(name, text, "a number from 0");
    }
    *value = number;
    return absl::OkStatus();
  };
}

void Flags::Add(const std::string& name, double* value) {
  setters_[name] = [=](const std::string& text) {
    double number = 0;
    if (!ParseNumber(text, &number) || std::isnan(number) || number < 0) {
      return Bad(name, text, "a number from 0, or inf");
    }
    *value = number;
    return absl::OkStatus();
  };
}

void Flags::AddSwitch(const std::string& name, bool* value) {
  switches_.insert(name);
  setters_[name] = [=](const std::string& text) {
    if (text != "true" && text != "false") {
      return Bad(name, text, "given without a value, or as =true or =false");
    }
    *value = text == "true";
    return absl::OkStatus();
  };
}

absl::Status Flags::Parse(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name == "--help" || name == "-h") return absl::CancelledError("help");
    std::string value;
    const size_t equals = name.find('=');
    const bool has_value = equals != std::string::npos;
    if (has_value) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    const auto setter = setters_.find(name);
    if (setter == setters_.end()) {
      return absl::InvalidArgumentError(absl::StrCat("unknown flag ", name, "; --help lists them"));
    }
    if (!has_value && switches_.contains(name)) {
      value = "true";
    } else if (!has_value) {
      if (++i == argc) return absl::InvalidArgumentError(absl::StrCat(name, " needs a value"));
      value = argv[i];
    }
    absl::Status status = setter->second(value);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

int ExitWith(const absl::Status& status, const char* usage) {
  if (status.ok()) return 0;
  if (absl::IsCancelled(status)) {
    std::fputs(usage, stdout);
    return 0;
  }
  std::fprintf(stderr, "error: %s\n", status.ToString().c_str());
  return 1;
}

std::string DefaultModelPath() { return QUIRE_MODEL_DIR "/tiny_shakespeare.bin"; }
std::string DefaultTokenizerPath() { return QUIRE_MODEL_DIR "/tiny_shakespeare_tok.bin"; }

}  // namespace engine
