// The house rules that a compiler does not see: who may include whom, how long a file, a function
// and a line may be, that every source has a test, and words we do not use.
//
// An include may only point down:
//
//   c ─▶ kv_cache, sequence ─▶ cache_core ─▶ match, reclaimer ─▶ prefix_index ─▶ block_allocator
//   cuda_device ─▶ gpu_device ─▶ gpu_runtime ─▶ attention.h
//   cpu_device, gpu_device ─▶ device_pool ─▶ device.h ─▶ plan.h, page_table.h
//   kernels/* ─▶ attention.h ─▶ page_table.h            (no Abseil, nothing of lib/)
//
// The rules are functions of (path, text), so the tests below also plant a breach of each one.

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;
using Breaches = std::vector<std::string>;

constexpr int kMaxFileLines = 400;        // lib/ and include/
constexpr size_t kMaxFunctionLines = 70;  // lib/ and include/
constexpr int kMaxColumns = 100;

// Over a limit today, with the reason. Take entries out; think hard before you put one in.
const std::map<std::string, int> kLongFiles = {};

// Sources whose tests stand in a test of another name.
const std::map<std::string, std::string> kTestedBy = {
    {"lib/new_reclaimer.cc", "tests/reclaimer_test.cc"},
};

// Direct permissions among the nouns of include/quire and lib; x.h, x.cc and x_*.cc are all x. What
// a noun may include, its own users may include too.
const std::map<std::string, Names> kMayInclude = {
    // Words and plain data.
    {"types", {}},
    {"plan", {"types"}},
    {"page_table", {"types"}},
    {"options", {"types"}},
    {"namespace", {}},
    {"attention", {"page_table"}},
    // Lowest in lib/.
    {"check", {}},
    {"hash", {}},
    {"huge_memory", {"check"}},
    {"out_of_memory", {}},
    // The manager, from the bottom up.
    {"block_allocator", {"types", "check", "hash", "huge_memory", "out_of_memory"}},
    {"prefix_index", {"block_allocator", "namespace", "options"}},
    {"match", {"prefix_index"}},
    {"reuse_model", {"check"}},
    {"ghosts", {"huge_memory"}},
    {"page_lists", {"reclaimer"}},
    {"reclaimer_queues", {"page_lists"}},
    {"reclaimer_simple", {"reclaimer_queues"}},
    {"reclaimer_frequency", {"page_lists", "ghosts"}},
    {"reclaimer_s3_fifo", {"reclaimer_queues", "ghosts"}},
    {"reclaimer_2q", {"reclaimer_queues", "ghosts"}},
    {"reclaimer_learned", {"page_lists", "reuse_model", "ghosts"}},
    {"reclaimer_retaining", {"page_lists"}},
    {"new_reclaimer",
     {"reclaimer_simple", "reclaimer_frequency", "reclaimer_s3_fifo", "reclaimer_2q",
      "reclaimer_learned"}},
    {"reclaimer", {"prefix_index"}},
    {"cache_core", {"match", "new_reclaimer", "reclaimer_retaining", "plan", "page_table"}},
    {"sequence", {"cache_core"}},
    {"stats_board", {"types"}},
    {"kv_cache", {"sequence", "stats_board"}},
    {"c", {"kv_cache"}},
    // Devices: the waist's data and the kernels' contract, never the cache.
    {"device", {"plan", "page_table"}},
    {"device_pool", {"device", "attention", "out_of_memory"}},
    {"cpu_device", {"device_pool"}},
    {"gpu_runtime", {"attention"}},
    {"gpu_device", {"device_pool", "gpu_runtime"}},
    {"cuda_device", {"gpu_device"}},
};

// Declared in the front door's header, needed below it: Stats, MissTokens, StartOptions.
const std::map<std::string, Names> kMayAlsoInclude = {
    {"quire/kv_cache.h", {"match", "cache_core", "stats_board"}},
    {"quire/sequence.h", {"cache_core"}},
};

// The core decides by its arguments alone, so that the same calls give the same page ids.
const Names kNotInCore = {"thread", "chrono", "random", "mutex",  "atomic",
                          "future", "ctime",  "time.h", "fstream"};

struct Include {
  std::string path;
  bool quoted;  // "x" rather than <x>
};

std::vector<Include> IncludesOf(std::string_view text) {
  std::vector<Include> includes;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::string_view rest = line;
    const auto skip = [&](std::string_view word) {
      rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
      if (!rest.starts_with(word)) return false;
      rest.remove_prefix(word.size());
      return true;
    };
    if (!skip("#") || !skip("include")) continue;
    const bool quoted = skip("\"");
    if (!quoted && !skip("<")) continue;
    includes.push_back({std::string(rest.substr(0, rest.find(quoted ? '"' : '>'))), quoted});
  }
  return includes;
}

bool StartsWith(std::string_view path, std::string_view folder) { return path.starts_with(folder); }

// The noun a file of include/quire or lib belongs to; the longest match wins.
std::string NounOf(const std::string& path) {
  const std::string stem = fs::path(path).stem().string();
  std::string best;
  for (const auto& [noun, unused] : kMayInclude) {
    const bool match = stem == noun || (noun.size() > 1 && StartsWith(stem, noun + "_"));
    if (match && noun.size() > best.size()) best = noun;
  }
  return best;
}

Names Reachable(const std::string& noun) {
  Names reached;
  std::vector<std::string> open = {noun};
  while (!open.empty()) {
    const std::string next = open.back();
    open.pop_back();
    if (!reached.insert(next).second) continue;
    for (const std::string& below : kMayInclude.at(next)) open.push_back(below);
  }
  return reached;
}

// The nouns above prefix_index's words that make up the manager.
bool IsCore(const std::string& noun) {
  static const Names core = {"block_allocator",
                             "prefix_index",
                             "match",
                             "reclaimer",
                             "cache_core",
                             "sequence",
                             "kv_cache",
                             "namespace",
                             "page_lists",
                             "reuse_model",
                             "ghosts",
                             "reclaimer_simple",
                             "reclaimer_learned",
                             "new_reclaimer",
                             "reclaimer_queues",
                             "reclaimer_frequency",
                             "reclaimer_s3_fifo",
                             "reclaimer_2q",
                             "reclaimer_retaining"};
  return core.contains(noun);
}

// What keeps `path`, a file of lib/ or include/quire/, from including `include`; empty: nothing.
std::string BreachInLibrary(const std::string& path, const Include& include) {
  const std::string noun = NounOf(path);
  if (noun.empty()) return "is not in kMayInclude: give it a place in the layers";
  if (StartsWith(path, "include/") && StartsWith(include.path, "absl/") &&
      !StartsWith(include.path, "absl/status/")) {
    return "is public: of Abseil only absl/status";
  }
  if (IsCore(noun) && kNotInCore.contains(include.path))
    return "is core: no clock, thread or chance";
  if (!include.quoted || StartsWith(include.path, "absl/")) return "";
  if (include.path == "xxhash.h") return noun == "hash" ? "" : "must hash through lib/hash.h";
  const bool is_public = StartsWith(include.path, "quire/");
  if (!is_public && !StartsWith(include.path, "lib/")) return "may include only quire/ and lib/";
  if (!is_public && StartsWith(path, "include/")) return "is public: nothing of lib/";
  const auto also = kMayAlsoInclude.find(include.path);
  if (also != kMayAlsoInclude.end() && also->second.contains(noun)) return "";
  const std::string target = NounOf(include.path);
  if (target.empty() || !Reachable(noun).contains(target)) return "is below it or beside it";
  return "";
}

std::string BreachInKernels(const Include& include) {
  if (StartsWith(include.path, "absl/")) return "is a kernel: no Abseil";
  if (!include.quoted || StartsWith(include.path, "hwy/")) return "";
  if (StartsWith(include.path, "kernels/")) return "";
  static const Names contract = {"quire/attention.h", "quire/page_table.h", "quire/types.h"};
  if (contract.contains(include.path)) return "";
  return "is a kernel: only attention.h, page_table.h, types.h and kernels/";
}

// bench/engine proves that Quire can be linked: it sees what a user sees, and so does bench/gpu.
// bench/micro measures private parts too.
std::string BreachInBench(const std::string& path, const Include& include) {
  if (!include.quoted) return "";
  if (StartsWith(include.path, "tests/")) return "is not a test: nothing of tests/";
  const bool is_private = StartsWith(include.path, "lib/") || StartsWith(include.path, "kernels/");
  if (is_private && !StartsWith(path, "bench/micro/")) return "sees only the public headers";
  return "";
}

Breaches CheckIncludes(const std::string& path, std::string_view text) {
  Breaches breaches;
  for (const Include& include : IncludesOf(text)) {
    std::string breach;
    if (StartsWith(path, "lib/") || StartsWith(path, "include/")) {
      breach = BreachInLibrary(path, include);
    } else if (StartsWith(path, "kernels/")) {
      breach = BreachInKernels(include);
    } else if (StartsWith(path, "bench/")) {
      breach = BreachInBench(path, include);
    }
    if (!breach.empty()) breaches.push_back(path + " includes " + include.path + ", but " + breach);
  }
  return breaches;
}

std::vector<std::string> LinesOf(std::string_view text) {
  std::vector<std::string> lines;
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::string At(const std::string& path, size_t line) {
  return path + ":" + std::to_string(line + 1) + ": ";
}

// Code points, as an editor counts columns: our diagrams are not ASCII.
int Columns(std::string_view line) {
  return static_cast<int>(
      std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// The text with comments, strings and preprocessor lines blanked; line numbers stay.
std::string CodeOf(std::string_view text) {
  std::string code(text);
  const auto blank = [&](size_t begin, size_t end) {
    end = std::min(end, code.size());
    for (size_t i = begin; i < end; ++i) {
      if (code[i] != '\n') code[i] = ' ';
    }
    return end;
  };
  bool line_start = true;
  for (size_t i = 0; i < code.size();) {
    const std::string_view rest = std::string_view(code).substr(i);
    if (rest.starts_with("//") || (line_start && rest.starts_with("#"))) {
      i = blank(i, code.find('\n', i));
    } else if (rest.starts_with("/*")) {
      i = blank(i, code.find("*/", i) + 2);
    } else if (rest[0] == '"' || (rest[0] == '\'' && (i == 0 || !std::isalnum(code[i - 1])))) {
      size_t end = i + 1;  // a quote after a digit separates digits
      while (end < code.size() && code[end] != rest[0]) end += code[end] == '\\' ? 2 : 1;
      i = blank(i, end + 1);
    } else {
      line_start = rest[0] == '\n' || (line_start && rest[0] == ' ');
      ++i;
    }
  }
  return code;
}

// A '{' opens a function if the statement before it has a '(' and is not a scope's; what is nested
// in a function (lambdas too) is part of it.
bool OpensFunction(std::string statement) {
  statement.erase(0, statement.find_first_not_of(" \n"));
  for (const char* word : {"namespace", "class", "struct", "enum", "union", "extern"}) {
    if (statement.starts_with(word)) return false;
  }
  return statement.find('(') != std::string::npos;
}

Breaches CheckFunctions(const std::string& path, std::string_view text) {
  Breaches breaches;
  std::string statement;  // since the last ';', '{' or '}'
  size_t line = 0;
  size_t begin = 0;  // the line where the open function's body begins
  int depth = 0;     // of braces inside that function, its own included; 0: in no function
  for (char c : CodeOf(text)) {
    if (c == '\n') ++line;
    if (c == '{') {
      if (depth == 0 && OpensFunction(statement)) {
        begin = line;
        depth = 1;
      } else if (depth > 0) {
        ++depth;
      }
    }
    if (c == '}' && depth > 0 && --depth == 0 && line - begin + 1 > kMaxFunctionLines) {
      breaches.push_back(At(path, begin) + "a function of " + std::to_string(line - begin + 1) +
                         " lines; " + std::to_string(kMaxFunctionLines) + " are allowed");
    }
    statement = c == ';' || c == '{' || c == '}' ? "" : statement + c;
  }
  return breaches;
}

Breaches CheckSize(const std::string& path, std::string_view text) {
  const std::vector<std::string> lines = LinesOf(text);
  Breaches breaches;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (Columns(lines[i]) > kMaxColumns) breaches.push_back(At(path, i) + "over 100 columns");
  }
  const bool library = StartsWith(path, "lib/") || StartsWith(path, "include/");
  if (!library) return breaches;
  const auto exception = kLongFiles.find(path);
  const int limit = exception == kLongFiles.end() ? kMaxFileLines : exception->second;
  if (static_cast<int>(lines.size()) > limit) {
    breaches.push_back(path + " has " + std::to_string(lines.size()) + " lines; " +
                       std::to_string(limit) + " are allowed");
  }
  for (std::string& breach : CheckFunctions(path, text)) breaches.push_back(std::move(breach));
  return breaches;
}

// Written in two parts, so that this file does not breach its own rules.
const std::string kPageSize = std::string("page") + "_size";
const std::string kToDo = std::string("TO") + "DO";

Breaches CheckWords(const std::string& path, std::string_view text) {
  const std::vector<std::string> lines = LinesOf(text);
  Breaches breaches;
  for (size_t i = 0; i < lines.size(); ++i) {
    // The glossary may name the word to ban it.
    if (lines[i].find(kPageSize) != std::string::npos && path != "include/quire/types.h") {
      breaches.push_back(At(path, i) + kPageSize + ": say tokens_per_page or page_bytes");
    }
    const size_t todo = lines[i].find(kToDo);
    if (todo != std::string::npos && lines[i].find(kToDo + ": ", todo) == std::string::npos) {
      breaches.push_back(At(path, i) + kToDo + " without a reason: write `" + kToDo + ": why`");
    }
  }
  return breaches;
}

// lib/cache_core_commit.cc is tested by cache_core_commit_test.cc or cache_core_test.cc.
Breaches CheckHasTest(const std::string& path, const Names& files) {
  const bool tested = StartsWith(path, "lib/") || StartsWith(path, "kernels/cpu/");
  if (!tested || !path.ends_with(".cc") || kTestedBy.contains(path)) return {};
  const std::string stem = fs::path(path).stem().string();
  for (size_t end = stem.size(); end != std::string::npos && end != 0;
       end = stem.rfind('_', end - 1)) {
    if (files.contains("tests/" + stem.substr(0, end) + "_test.cc")) return {};
  }
  return {path + " has no tests/" + stem + "_test.cc"};
}

// Every source of the project: path from the root -> text.
const std::map<std::string, std::string>& Sources() {
  static const auto* sources = [] {
    auto* result = new std::map<std::string, std::string>;
    const fs::path root = QUIRE_SOURCE_DIR;
    for (const char* folder : {"include", "lib", "kernels", "bench", "tests"}) {
      for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
        static const Names extensions = {".h", ".cc", ".cu", ".cuh", ".c"};
        if (!extensions.contains(entry.path().extension().string())) continue;
        std::ifstream file(entry.path());
        std::ostringstream text;
        text << file.rdbuf();
        (*result)[fs::relative(entry.path(), root).generic_string()] = text.str();
      }
    }
    return result;
  }();
  return *sources;
}

template <typename Check>
void ExpectNoBreach(Check check) {
  ASSERT_GT(Sources().size(), 20u) << "the sources were not found under " QUIRE_SOURCE_DIR;
  for (const auto& [path, text] : Sources()) {
    for (const std::string& breach : check(path, text)) ADD_FAILURE() << breach;
  }
}

TEST(LayeringTest, IncludesPointDown) { ExpectNoBreach(CheckIncludes); }

TEST(LayeringTest, FilesFunctionsAndLinesAreShort) { ExpectNoBreach(CheckSize); }

TEST(LayeringTest, Words) { ExpectNoBreach(CheckWords); }

TEST(LayeringTest, EverySourceHasATest) {
  Names files;
  for (const auto& [path, text] : Sources()) files.insert(path);
  ExpectNoBreach(
      [&](const std::string& path, const std::string&) { return CheckHasTest(path, files); });
}

TEST(LayeringTest, ExceptionsAreStillNeeded) {
  for (const auto& [path, limit] : kLongFiles) {
    ASSERT_TRUE(Sources().contains(path)) << path;
    const int lines = static_cast<int>(LinesOf(Sources().at(path)).size());
    EXPECT_GT(lines, kMaxFileLines) << path << " is short now: take it out of kLongFiles";
  }
  for (const auto& [path, test] : kTestedBy) {
    EXPECT_TRUE(Sources().contains(path)) << path;
    EXPECT_TRUE(Sources().contains(test)) << test;
  }
}

// One planted breach per rule.
TEST(LayeringRulesTest, CatchPlantedIncludes) {
  const auto breaches = [](const char* path, const std::string& include) {
    return CheckIncludes(path, "#include " + include + "\n").size();
  };
  // Up.
  EXPECT_EQ(breaches("lib/block_allocator.cc", "\"lib/prefix_index.h\""), 1u);
  EXPECT_EQ(breaches("lib/prefix_index.cc", "\"lib/cache_core.h\""), 1u);
  EXPECT_EQ(breaches("lib/reclaimer.cc", "\"quire/kv_cache.h\""), 1u);
  EXPECT_EQ(breaches("lib/sequence.cc", "\"quire/kv_cache.h\""), 1u);
  EXPECT_EQ(breaches("include/quire/sequence.h", "\"quire/kv_cache.h\""), 1u);
  EXPECT_EQ(breaches("include/quire/types.h", "\"quire/plan.h\""), 1u);
  // Sideways.
  EXPECT_EQ(breaches("lib/match.cc", "\"lib/reclaimer.h\""), 1u);
  EXPECT_EQ(breaches("lib/cache_core.cc", "\"quire/device.h\""), 1u);
  EXPECT_EQ(breaches("lib/cpu_device.cc", "\"quire/kv_cache.h\""), 1u);
  EXPECT_EQ(breaches("lib/cpu_device.cc", "\"lib/block_allocator.h\""), 1u);
  // Out.
  EXPECT_EQ(breaches("include/quire/kv_cache.h", "\"lib/check.h\""), 1u);
  EXPECT_EQ(breaches("include/quire/kv_cache.h", "\"absl/strings/str_cat.h\""), 1u);
  EXPECT_EQ(breaches("lib/kv_cache.cc", "\"kernels/cpu/simd.h\""), 1u);
  EXPECT_EQ(breaches("lib/match.cc", "\"xxhash.h\""), 1u);
  EXPECT_EQ(breaches("lib/unheard_of.cc", "\"lib/check.h\""), 1u);
  // No clock, no chance, no thread.
  EXPECT_EQ(breaches("lib/reclaimer.cc", "<chrono>"), 1u);
  EXPECT_EQ(breaches("lib/kv_cache.cc", "<random>"), 1u);
  EXPECT_EQ(breaches("include/quire/kv_cache.h", "<mutex>"), 1u);
  // Kernels and the small engine.
  EXPECT_EQ(breaches("kernels/cpu/attention.cc", "\"absl/status/status.h\""), 1u);
  EXPECT_EQ(breaches("kernels/cpu/attention.cc", "\"lib/check.h\""), 1u);
  EXPECT_EQ(breaches("kernels/cuda/decode.cu", "\"quire/device.h\""), 1u);
  EXPECT_EQ(breaches("bench/engine/model.cc", "\"lib/check.h\""), 1u);
  EXPECT_EQ(breaches("bench/gpu/decode.cc", "\"kernels/cuda/prepare.h\""), 1u);
  EXPECT_EQ(breaches("bench/micro/main.cc", "\"tests/support/model.h\""), 1u);
  // Spelled otherwise.
  EXPECT_EQ(breaches("lib/reclaimer.cc", "<chrono> // why not"), 1u);
  EXPECT_EQ(CheckIncludes("lib/match.cc", "  #  include   \"lib/kv_cache.h\"").size(), 1u);
}

TEST(LayeringRulesTest, AllowWhatPointsDown) {
  const auto breaches = [](const char* path, const std::string& include) {
    return CheckIncludes(path, "#include " + include + "\n").size();
  };
  EXPECT_EQ(breaches("lib/kv_cache.cc", "\"lib/cache_core.h\""), 0u);
  EXPECT_EQ(breaches("lib/cache_core_steps.cc", "\"lib/cache_core.h\""), 0u);
  EXPECT_EQ(breaches("lib/cache_core.h", "\"lib/hash.h\""), 0u);
  EXPECT_EQ(breaches("lib/cpu_device.cc", "\"quire/plan.h\""), 0u);
  EXPECT_EQ(breaches("lib/cpu_device.cc", "<thread>"), 0u);
  EXPECT_EQ(breaches("kernels/cpu/attention.cc", "\"kernels/cpu/simd.h\""), 0u);
  EXPECT_EQ(breaches("bench/engine/model.cc", "\"quire/kv_cache.h\""), 0u);
  EXPECT_EQ(breaches("bench/micro/index.cc", "\"lib/prefix_index.h\""), 0u);
}

TEST(LayeringRulesTest, CatchPlantedSizes) {
  EXPECT_EQ(CheckSize("lib/match.cc", std::string(101, 'x')).size(), 1u);
  EXPECT_EQ(CheckSize("lib/match.cc", std::string(100, 'x')).size(), 0u);
  std::string arrows;  // 100 columns, 300 bytes
  for (int i = 0; i < 100; ++i) arrows += "▶";
  EXPECT_EQ(CheckSize("lib/match.cc", arrows).size(), 0u);
  const auto lines = [](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += "  f();\n";
    return text;
  };
  EXPECT_EQ(CheckSize("lib/match.cc", lines(401)).size(), 1u);
  EXPECT_EQ(CheckSize("lib/match.cc", lines(400)).size(), 0u);
  EXPECT_EQ(CheckSize("lib/match.cc", "void F() {\n" + lines(69) + "}\n").size(), 1u);
  EXPECT_EQ(CheckSize("lib/match.cc", "void F() {\n" + lines(68) + "}\n").size(), 0u);
  EXPECT_EQ(
      CheckSize("lib/match.cc", "void F(int a,\n       int b) {\n" + lines(69) + "}\n").size(), 1u);
  EXPECT_EQ(CheckSize("lib/match.cc", "class C {\n  void F() {\n" + lines(69) + "  }\n};").size(),
            1u);
  // Braces in comments, strings and characters do not count.
  EXPECT_EQ(CheckSize("lib/match.cc", "void F() {  // }\n'}'; \"}\";\n" + lines(68) + "}").size(),
            1u);
  EXPECT_EQ(CheckSize("lib/match.cc", "namespace quire {\n" + lines(300) + "}\n").size(), 0u);
}

TEST(LayeringRulesTest, CatchPlantedWords) {
  EXPECT_EQ(CheckWords("lib/match.cc", "int " + kPageSize + " = 16;").size(), 1u);
  EXPECT_EQ(CheckWords("lib/match.cc", "// " + kToDo + " tidy").size(), 1u);
  EXPECT_EQ(CheckWords("lib/match.cc", "// " + kToDo + ": needs CUDA 14").size(), 0u);
}

TEST(LayeringRulesTest, CatchMissingTest) {
  EXPECT_EQ(CheckHasTest("lib/match.cc", {"lib/match.cc"}).size(), 1u);
  EXPECT_EQ(CheckHasTest("kernels/cpu/attention.cc", {}).size(), 1u);
  EXPECT_EQ(CheckHasTest("lib/match.cc", {"tests/match_test.cc"}).size(), 0u);
  EXPECT_EQ(CheckHasTest("lib/cache_core_plan.cc", {"tests/cache_core_test.cc"}).size(), 0u);
  EXPECT_EQ(CheckHasTest("lib/cache_core_plan.cc", {"tests/cache_test.cc"}).size(), 0u);
  EXPECT_EQ(CheckHasTest("lib/cache_core.cc", {"tests/core_test.cc"}).size(), 1u);
}

}  // namespace
}  // namespace quire
