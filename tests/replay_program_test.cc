// quire_replay as a program: what it prints and writes, and when it draws a line.

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "bench/replay/arguments.h"
#include "bench/replay/json_result.h"
#include "bench/replay/progress.h"
#include "bench/replay/run.h"
#include "gtest/gtest.h"
#include "tests/support/replay_arguments.h"

namespace replay {
namespace {

std::string ReadAll(std::FILE* file) {
  std::rewind(file);
  std::string text;
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) text += static_cast<char>(c);
  return text;
}

TEST(ProgressTest, SaysShareRateAndTimeLeft) {
  EXPECT_EQ(ProgressLine("lru", "refs", 0, 100, 0), "lru     0 %");
  EXPECT_EQ(ProgressLine("lru", "refs", 25, 100, 5), "lru    25 %   5 refs/s   15 s left");
  EXPECT_EQ(ProgressLine("lru", "refs", 6000000, 12000000, 2),
            "lru    50 %   3.00 M refs/s   2 s left");
  EXPECT_EQ(ProgressLine("lru", "requests", 1000, 61000, 0.5),
            "lru     1 %   2.0 k requests/s   30 s left");
  EXPECT_EQ(ProgressLine("lru", "refs", 1, 91, 1), "lru     1 %   1 refs/s   1 min 30 s left");
  EXPECT_EQ(ProgressLine("lru", "refs", 1, 7201, 1), "lru     0 %   1 refs/s   2.0 h left");
}

// Goes on until a line was due, whatever the clock's mood.
void RunForAWhile(Progress* progress) {
  constexpr int64_t kTotal = int64_t{1} << 40;
  progress->Begin("lru", "refs", kTotal);
  const auto begin = std::chrono::steady_clock::now();
  int64_t done = 0;
  while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(150)) {
    progress->At(done += 100);
  }
}

TEST(ProgressTest, DrawsNothingInAPipeOrFile) {
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  {
    Progress progress(file);
    RunForAWhile(&progress);
  }
  EXPECT_EQ(ReadAll(file), "");
  std::fclose(file);
}

TEST(ProgressTest, DrawsOnATerminalAndClearsTheLine) {
  const int master = posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) {
    GTEST_SKIP() << "no pseudo-terminal here";
  }
  std::FILE* terminal = std::fopen(ptsname(master), "w");
  ASSERT_NE(terminal, nullptr);
  {
    Progress progress(terminal);
    RunForAWhile(&progress);
  }
  std::fclose(terminal);  // then reading ends after what was written
  std::string drawn;
  char buffer[256];
  for (ssize_t count; (count = read(master, buffer, sizeof(buffer))) > 0;) {
    drawn.append(buffer, static_cast<size_t>(count));
  }
  close(master);
  ASSERT_GT(drawn.size(), 4u);
  EXPECT_EQ(drawn.substr(0, 4), "\rlru");
  EXPECT_NE(drawn.find("refs/s"), std::string::npos) << drawn;
  EXPECT_EQ(drawn.substr(drawn.size() - 4), "\r\x1b[K");
}

TEST(JsonResultTest, AnEmptyRun) {
  Results results;
  results.trace = "a \"b\"";
  const std::string json = JsonOf(results);
  EXPECT_NE(json.find("\"trace\": \"a \\\"b\\\"\""), std::string::npos) << json;
  EXPECT_NE(json.find("\"sequential\": [],"), std::string::npos) << json;
  EXPECT_NE(json.find("\"serving\": []\n}"), std::string::npos) << json;
}

TEST(JsonResultTest, ASequentialResultKeyForKey) {
  Results results;
  SequentialResult result;
  result.policy = "lru";
  result.pages = 10;
  result.requests = 4;
  result.page_refs = 16;
  result.hit_pages = 4;
  result.hit_tokens = 30;
  result.input_tokens = 120;
  result.hits_fnv1a64 = 0xabc;
  result.evictions = 2;
  result.seconds = 0.5;
  result.cpu_seconds = 0.25;
  result.recompute_saved = 0.125;
  result.metadata_bytes = 900;
  result.ghost_bytes = 60;
  result.lifetimes.bins[1] = 2;
  results.sequential = {result};
  results.belady = {{.pages = 11, .hit_pages = 9}, {.pages = 10, .hit_pages = 8}};
  results.belady[1].pinned_hit_pages = 6;
  const std::string json = JsonOf(results);
  EXPECT_NE(json.find(R"("sequential": [
    {
      "policy": "lru",
      "pages": 10,
      "requests": 4,
      "page_refs": 16,
      "hit_pages": 4,
      "page_hit_rate": 0.250000000,
      "hit_tokens": 30,
      "token_hit_rate": 0.250000000,
      "hits_fnv1a64": "0000000000000abc",
      "evictions": 2,
      "seconds": 0.500000000,
      "refs_per_second": 32,
      "cpu_seconds": 0.250000000,
      "input_tokens": 120,
      "recompute_saved": 0.125000000,
      "metadata_bytes": 900,
      "ghost_bytes": 60,
      "bytes_per_page": 80,
      "belady_hit_pages": 8,
      "belady_page_hit_rate": 0.500000000,
      "belady_pinned_hit_pages": 6,
      "belady_pinned_page_hit_rate": 0.375000000,
      "lifetimes": [
        0,
        2
      ]
    }
  ],)"),
            std::string::npos)
      << json;
}

TEST(JsonResultTest, AServingResultHasEveryField) {
  Results results;
  results.serving.resize(1);
  results.serving[0].samples.resize(1);
  results.serving[0].first_token_ms.p95 = 12.5;
  const std::string json = JsonOf(results);
  for (const char* key : {"policy",
                          "pages",
                          "requests",
                          "refused",
                          "steps",
                          "seconds",
                          "input_tokens",
                          "output_tokens",
                          "hit_tokens",
                          "hit_rate",
                          "rehit_tokens",
                          "recomputed_tokens",
                          "preemptions",
                          "evictions",
                          "first_token_ms",
                          "between_tokens_ms",
                          "end_to_end_ms",
                          "tokens_per_second",
                          "requests_per_second",
                          "fragmentation",
                          "samples",
                          "manager_us",
                          "manager_seconds",
                          "lifetimes",
                          "count",
                          "mean",
                          "p50",
                          "p90",
                          "p99",
                          "most",
                          "pages_free",
                          "pages_live",
                          "pages_cached",
                          "running",
                          "waiting"}) {
    EXPECT_NE(json.find("\"" + std::string(key) + "\": "), std::string::npos) << key;
  }
  EXPECT_NE(json.find("\"p95\": 12.5"), std::string::npos) << json;
}

class RunTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("quire_replay_program_test_" + std::to_string(getpid()));
    std::filesystem::create_directory(folder_);
    out_ = std::tmpfile();
    ASSERT_NE(out_, nullptr);
  }
  void TearDown() override {
    std::fclose(out_);
    std::filesystem::remove_all(folder_);
  }

  std::string File(const std::string& name) const { return (folder_ / name).string(); }
  static std::string Text(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  absl::Status RunWith(std::vector<std::string> words) {
    const auto arguments = Parse(std::move(words));
    return arguments.ok() ? replay::Run(*arguments, "the command", out_) : arguments.status();
  }

  std::filesystem::path folder_;
  std::FILE* out_ = nullptr;
};

// [7 8] then [7 9]: the second hits one page of two.
constexpr char kTwoRequests[] =
    R"({"timestamp": 0, "input_length": 600, "output_length": 3, "hash_ids": [7, 8]}
{"timestamp": 1, "input_length": 700, "output_length": 3, "hash_ids": [7, 9]}
)";

TEST_F(RunTest, SequentialTableJsonAndReport) {
  std::ofstream(File("two.jsonl")) << kTwoRequests;
  const absl::Status status =
      RunWith({"--trace", File("two.jsonl"), "--pages", "3,8", "--policy", "lru", "--json",
               File("a.json"), "--report", File("a.html")});
  ASSERT_TRUE(status.ok()) << status;
  const std::string table = ReadAll(out_);
  EXPECT_NE(table.find("two.jsonl: 2 requests, 4 page references, 3 distinct pages of 512 tokens"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find("0.2500    0.2500     100.0 %"), std::string::npos) << table;
  const std::string json = Text(File("a.json"));
  EXPECT_NE(json.find("\"command\": \"the command\""), std::string::npos) << json;
  EXPECT_NE(json.find("\"hit_pages\": 1,"), std::string::npos) << json;
  EXPECT_NE(json.find("\"belady_hit_pages\": 1,"), std::string::npos) << json;
  EXPECT_NE(json.find("\"unlimited_hit_pages\": 1,"), std::string::npos) << json;
  EXPECT_NE(Text(File("a.html")).find("</html>"), std::string::npos);
}

TEST_F(RunTest, Serving) {
  std::ofstream(File("two.jsonl")) << kTwoRequests;
  const absl::Status status = RunWith({"--trace", File("two.jsonl"), "--pages", "8", "--mode",
                                       "serving", "--json", File("a.json")});
  ASSERT_TRUE(status.ok()) << status;
  const std::string json = Text(File("a.json"));
  EXPECT_NE(json.find("\"output_tokens\": 6,"), std::string::npos) << json;
  EXPECT_NE(json.find("\"sequential\": [],"), std::string::npos) << json;
}

TEST_F(RunTest, AFileThatCannotBeWrittenIsFoundBeforeTheTraceIsRead) {
  for (const char* flag : {"--json", "--report"}) {
    const absl::Status status =
        RunWith({"--trace", File("absent.jsonl"), flag, File("no/such/folder")});
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  }
  // And trying leaves nothing behind.
  EXPECT_TRUE(
      absl::IsNotFound(RunWith({"--trace", File("absent.jsonl"), "--json", File("b.json")})));
  EXPECT_FALSE(std::filesystem::exists(File("b.json")));
}

TEST_F(RunTest, OldResultsStayWhereARunFails) {
  std::ofstream(File("old.json")) << "old";
  EXPECT_FALSE(RunWith({"--trace", File("absent.jsonl"), "--json", File("old.json")}).ok());
  EXPECT_EQ(Text(File("old.json")), "old");
}

TEST_F(RunTest, BadLinesStopTheRunOrAreCounted) {
  std::ofstream(File("bad.jsonl")) << kTwoRequests << "{nonsense\n";
  const absl::Status status = RunWith({"--trace", File("bad.jsonl"), "--pages", "8"});
  EXPECT_NE(std::string(status.message()).find("bad.jsonl:3"), std::string::npos) << status;
  ASSERT_TRUE(RunWith({"--trace", File("bad.jsonl"), "--pages", "8", "--skip-bad"}).ok());
  EXPECT_NE(ReadAll(out_).find("1 malformed line"), std::string::npos);
}

}  // namespace
}  // namespace replay
