#include "bench/replay/trace.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "bench/replay/page_ids.h"
#include "bench/replay/trace_line.h"
#include "bench/replay/trace_link.h"
#include "simdjson.h"

namespace replay {
namespace {

constexpr int32_t kMaxTokensPerPage = 4096;

// Ids are int32, and so are requests, of which each has a page.
constexpr int64_t kMaxPages = std::numeric_limits<int32_t>::max();

int32_t PagesOf(int64_t tokens, int32_t tokens_per_page) {
  return static_cast<int32_t>((tokens + tokens_per_page - 1) / tokens_per_page);
}

// The ids of a Mooncake trace, made dense.
class HashIds {
 public:
  // Appends the dense ids of one request. An id that has another parent elsewhere is an error, and
  // then nothing has changed. A parent settles the depth.
  absl::Status Append(const std::vector<uint64_t>& hash_ids, std::vector<int32_t>* ids) {
    const size_t known = raw_.size();
    const size_t first = ids->size();
    int32_t parent = kNoPage;
    for (size_t k = 0; k < hash_ids.size(); ++k) {
      const auto [it, is_new] = dense_.try_emplace(hash_ids[k], static_cast<int32_t>(raw_.size()));
      if (is_new) {
        raw_.push_back(hash_ids[k]);
        parent_.push_back(parent);
      } else if (parent_[static_cast<size_t>(it->second)] != parent) {
        const std::string before = After(parent_[static_cast<size_t>(it->second)]);
        const std::string here = After(parent);
        Forget(known);
        ids->resize(first);
        return absl::InvalidArgumentError(absl::StrCat(
            "hash_ids[", k, "] is ", hash_ids[k], " and stands ", here, ", expected it ", before,
            " as where it stood first: an id stands for all", " tokens up to its page's end"));
      }
      parent = it->second;
      ids->push_back(parent);
    }
    return absl::OkStatus();
  }

  int32_t count() const { return static_cast<int32_t>(raw_.size()); }

 private:
  std::string After(int32_t parent) const {
    return parent == kNoPage ? "at the beginning"
                             : absl::StrCat("after ", raw_[static_cast<size_t>(parent)]);
  }

  void Forget(size_t known) {
    for (size_t i = known; i < raw_.size(); ++i) dense_.erase(raw_[i]);
    raw_.resize(known);
    parent_.resize(known);
  }

  absl::flat_hash_map<uint64_t, int32_t> dense_;
  std::vector<uint64_t> raw_;    // by dense id
  std::vector<int32_t> parent_;  // by dense id
};

// Names to dense numbers, in the order they come.
class Names {
 public:
  int32_t Of(const std::string& name) {
    return numbers_.try_emplace(name, static_cast<int32_t>(numbers_.size())).first->second;
  }

 private:
  absl::flat_hash_map<std::string, int32_t> numbers_;
};

class Reader {
 public:
  explicit Reader(const ReadOptions& options) : format_(options.format) {
    trace_.tokens_per_page = format_ == Format::kMooncake ? 512 : options.tokens_per_page;
  }

  // Changes nothing if the line is bad.
  absl::Status Add(const TraceLine& line) {
    if (line.timestamp < last_timestamp_) {
      return absl::InvalidArgumentError(
          absl::StrCat("timestamp is ", line.timestamp, ", expected at least ", last_timestamp_,
                       ", that of a line before; sort the file by timestamp"));
    }
    if (format_ == Format::kMooncake) {
      const auto first = static_cast<int64_t>(ids_.size());
      if (absl::Status s = hash_ids_.Append(line.hash_ids, &ids_); !s.ok()) return s;
      AddRequest(line, first);
    } else {
      AddRequest(line, AppendTokens(line));
    }
    last_timestamp_ = line.timestamp;
    return absl::OkStatus();
  }

  // Of prompts and answers so far, with those of `line`.
  int64_t PagesWith(const TraceLine& line) const {
    const Request r = Lengths(line);
    return pages_ + r.input_pages + r.output_pages;
  }

  bool empty() const { return read_.empty(); }

  Trace Finish() && {
    trace_.id_count = format_ == Format::kMooncake ? hash_ids_.count() : page_ids_.count();
    LinkTurns(std::move(read_), ids_, &trace_);
    return std::move(trace_);
  }

 private:
  Request Lengths(const TraceLine& line) const {
    const int32_t per_page = trace_.tokens_per_page;
    Request r;
    r.arrival_ms = line.timestamp;
    r.input_tokens = static_cast<int32_t>(line.input_length);
    r.output_tokens = static_cast<int32_t>(line.output_length);
    r.input_pages = PagesOf(line.input_length, per_page);
    if (line.output_length > 0) {
      r.output_pages = PagesOf(line.input_length + line.output_length, per_page) -
                       static_cast<int32_t>(line.input_length / per_page);
    }
    return r;
  }

  void AddRequest(const TraceLine& line, int64_t first_id) {
    ReadRequest read{Lengths(line), line.answer_known};
    read.request.first_id = first_id;
    read.request.tenant = tenants_.Of(line.tenant);
    if (read.request.tenant == static_cast<int32_t>(trace_.tenants.size())) {
      trace_.tenants.push_back(line.tenant);
    }
    if (!line.session.empty()) {
      // Sessions of two tenants are two, though they have one name.
      read.session = sessions_.Of(absl::StrCat(read.request.tenant, " ", line.session));
    }
    pages_ += read.request.input_pages + read.request.output_pages;
    read_.push_back(read);
  }

  // The prompt's pages, then the answer's from the one that both share.
  int64_t AppendTokens(const TraceLine& line) {
    const auto first_id = static_cast<int64_t>(ids_.size());
    const auto per_page = static_cast<size_t>(trace_.tokens_per_page);
    const std::span<const int32_t> all(line.tokens);
    const auto append = [&](std::span<const int32_t> tokens, size_t begin, int32_t parent) {
      for (; begin < tokens.size(); begin += per_page) {
        parent =
            page_ids_.Of(parent, tokens.subspan(begin, std::min(per_page, tokens.size() - begin)));
        ids_.push_back(parent);
      }
    };
    const auto input = static_cast<size_t>(line.input_length);
    append(all.first(input), 0, kNoPage);
    if (all.size() > input) {
      const size_t full = input / per_page;
      append(all, full * per_page,
             full == 0 ? kNoPage : ids_[static_cast<size_t>(first_id) + full - 1]);
    }
    return first_id;
  }

  Format format_;
  Trace trace_;
  std::vector<ReadRequest> read_;
  std::vector<int32_t> ids_;
  HashIds hash_ids_;
  PageIds page_ids_;
  Names tenants_, sessions_;
  int64_t last_timestamp_ = 0;
  int64_t pages_ = 0;
};

bool IsBlank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

std::string At(const std::string& name, int64_t line, const absl::Status& status) {
  return absl::StrCat(name, ":", line, ": ", status.message());
}

// `padded` is the text and simdjson::SIMDJSON_PADDING bytes more.
absl::StatusOr<Trace> ParsePadded(std::string_view padded, const std::string& name,
                                  const ReadOptions& options) {
  if (options.tokens_per_page < 1 || options.tokens_per_page > kMaxTokensPerPage) {
    return absl::InvalidArgumentError(absl::StrCat("tokens_per_page is ", options.tokens_per_page,
                                                   ", must be 1 to ", kMaxTokensPerPage));
  }
  std::string_view rest = padded.substr(0, padded.size() - simdjson::SIMDJSON_PADDING);
  simdjson::dom::parser parser;
  Reader reader(options);
  TraceLine line;
  int64_t skipped = 0;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = rest.find('\n');
    const bool cut_off = end == std::string_view::npos;
    const std::string_view text = rest.substr(0, end);
    rest.remove_prefix(cut_off ? rest.size() : end + 1);
    if (IsBlank(text)) continue;
    absl::Status status = ParseTraceLine(text, options.format, &parser, &line);
    if (status.ok() && reader.PagesWith(line) > kMaxPages) {
      // Not one line's fault, so it cannot be skipped.
      return absl::InvalidArgumentError(absl::StrCat(
          name, ":", number, ": more than ", kMaxPages, " pages of prompts and answers up to here",
          ", expected fewer; cut the file or take larger pages"));
    }
    if (status.ok()) status = reader.Add(line);
    if (status.ok()) continue;
    if (!options.skip_bad) {
      return absl::InvalidArgumentError(
          absl::StrCat(At(name, number, status),
                       cut_off ? "; the last line has no line end: was the file cut off?" : ""));
    }
    ++skipped;
  }
  if (reader.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ":1: no request in it", skipped > 0 ? absl::StrCat(", ", skipped, " bad lines") : "",
        ", expected one JSON object a line"));
  }
  Trace trace = std::move(reader).Finish();
  trace.name = name;
  trace.skipped_lines = skipped;
  return trace;
}

}  // namespace

int64_t Trace::page_refs() const {
  int64_t refs = 0;
  for (const Request& r : requests) refs += r.input_pages;
  return refs;
}

int64_t Trace::distinct_pages() const {
  std::vector<bool> seen(static_cast<size_t>(id_count));
  int64_t distinct = 0;
  for (const Request& r : requests) {
    for (int32_t id : Prompt(r)) {
      if (!seen[static_cast<size_t>(id)]) ++distinct;
      seen[static_cast<size_t>(id)] = true;
    }
  }
  return distinct;
}

absl::StatusOr<Trace> ReadTrace(const std::string& path, const ReadOptions& options) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  }
  std::ifstream file(path, std::ios::binary);
  const auto size = std::filesystem::file_size(path, error);
  if (error || !file) return absl::UnavailableError(absl::StrCat(path, ": cannot be read"));
  std::string padded(size + simdjson::SIMDJSON_PADDING, ' ');
  file.read(padded.data(), static_cast<std::streamsize>(size));
  if (static_cast<uintmax_t>(file.gcount()) != size) {
    return absl::UnavailableError(absl::StrCat(path, ": cannot be read to its end"));
  }
  absl::StatusOr<Trace> trace = ParsePadded(padded, path, options);
  if (trace.ok()) trace->name = std::filesystem::path(path).filename().string();
  return trace;
}

absl::StatusOr<Trace> ParseTrace(std::string_view text, const std::string& name,
                                 const ReadOptions& options) {
  std::string padded(text);
  padded.append(simdjson::SIMDJSON_PADDING, ' ');
  return ParsePadded(padded, name, options);
}

}  // namespace replay
