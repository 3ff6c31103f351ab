// Traces: both formats, what is inferred from page ids, and that whatever is malformed is named
// with its line and leaves nothing behind.

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "bench/replay/trace.h"
#include "gtest/gtest.h"
#include "tests/support/replay_trace_check.h"

namespace replay {
namespace {

constexpr ReadOptions kMooncake;

ReadOptions Tokens(int32_t tokens_per_page, bool skip_bad = false) {
  return {Format::kTokens, tokens_per_page, skip_bad};
}

Trace Parse(const std::string& text, const ReadOptions& options) {
  absl::StatusOr<Trace> trace = ParseTrace(text, "t.jsonl", options);
  EXPECT_TRUE(trace.ok()) << trace.status();
  if (!trace.ok()) return {};
  EXPECT_EQ(TraceFault(*trace), "");
  return *std::move(trace);
}

std::vector<int32_t> List(std::span<const int32_t> ids) { return {ids.begin(), ids.end()}; }
std::vector<int32_t> Prompt(const Trace& t, size_t i) { return List(t.Prompt(t.requests[i])); }
std::vector<int32_t> Answer(const Trace& t, size_t i) { return List(t.Answer(t.requests[i])); }
using Ids = std::vector<int32_t>;

std::string Line(int64_t timestamp, int64_t input, int64_t output, const std::string& ids) {
  return "{\"timestamp\": " + std::to_string(timestamp) +
         ", \"input_length\": " + std::to_string(input) +
         ", \"output_length\": " + std::to_string(output) + ", \"hash_ids\": [" + ids + "]}\n";
}

TEST(MooncakeTest, Fields) {
  const Trace t = Parse(Line(0, 1000, 30, "7, 9") + Line(5, 512, 0, "18446744073709551615") +
                            Line(5, 513, 511, "7,3"),
                        kMooncake);
  EXPECT_EQ(t.name, "t.jsonl");
  EXPECT_EQ(t.tokens_per_page, 512);
  EXPECT_EQ(t.tenants, std::vector<std::string>{""});
  ASSERT_EQ(t.requests.size(), 3u);
  EXPECT_EQ(Prompt(t, 0), (Ids{0, 1}));
  EXPECT_EQ(Prompt(t, 1), (Ids{2}));
  EXPECT_EQ(Prompt(t, 2), (Ids{0, 3}));
  EXPECT_EQ(t.requests[1].arrival_ms, 5);
  EXPECT_EQ(t.requests[2].input_tokens, 513);
  EXPECT_EQ(t.requests[2].output_tokens, 511);
  EXPECT_EQ(Answer(t, 0), (Ids{4, 5}));  // pages 1 and 2: 1030 tokens
  EXPECT_EQ(Answer(t, 1), (Ids{}));
  EXPECT_EQ(Answer(t, 2), (Ids{6}));  // the shared page, full with the answer
  EXPECT_EQ(t.id_count, 7);
  EXPECT_EQ(t.page_refs(), 5);
  EXPECT_EQ(t.distinct_pages(), 4);
}

TEST(MooncakeTest, LineEndsAndBlankLines) {
  const std::string line = Line(0, 3, 0, "1");
  const std::string crlf = line.substr(0, line.size() - 1) + "\r\n";
  EXPECT_EQ(Parse("\n \t\r\n" + crlf + "\n" + crlf, kMooncake).requests.size(), 2u);
  EXPECT_EQ(Parse(line + line.substr(0, line.size() - 1), kMooncake).requests.size(), 2u);
  EXPECT_EQ(Parse(line + "{\"type\": \"text\", " + line.substr(1), kMooncake).requests.size(), 2u);
}

TEST(MooncakeTest, AnswerIsTakenFromTheNextTurn) {
  // 700 + 900 = 1600 tokens: pages 1 and 2 are full and in the next turn, page 3 is not full.
  const Trace t =
      Parse(Line(0, 700, 900, "1, 2") + Line(9, 2100, 3, "1, 10, 11, 12, 13"), kMooncake);
  EXPECT_EQ(t.requests[0].previous, -1);
  EXPECT_EQ(t.requests[1].previous, 0);
  EXPECT_EQ(Prompt(t, 1), (Ids{0, 2, 3, 4, 5}));
  EXPECT_EQ(Answer(t, 0), (Ids{2, 3, 6}));
  EXPECT_EQ(Answer(t, 1), (Ids{7}));
}

TEST(MooncakeTest, AnswerIsTakenFromTheFirstOfTwo) {
  const Trace t = Parse(
      Line(0, 700, 400, "1, 2") + Line(8, 1200, 0, "1, 20, 21") + Line(9, 1300, 0, "1, 10, 11"),
      kMooncake);
  EXPECT_EQ(t.requests[1].previous, 0);
  EXPECT_EQ(t.requests[2].previous, 0);
  EXPECT_EQ(Answer(t, 0), (Ids{Prompt(t, 1)[1], 6}));
}

TEST(MooncakeTest, TooShortToHoldTheAnswerIsNoNextTurn) {
  const Trace t = Parse(
      Line(0, 600, 600, "1, 2") + Line(8, 1199, 0, "1, 10, 11") + Line(9, 1200, 0, "1, 20, 21"),
      kMooncake);
  EXPECT_EQ(t.requests[1].previous, -1);
  EXPECT_EQ(t.requests[2].previous, 0);
}

TEST(MooncakeTest, ASharedPromptIsNoConversation) {
  // Page 1 is everyone's. The second ends in it, but it is not its own.
  const Trace t = Parse(Line(0, 1500, 0, "1, 2, 3") + Line(1, 600, 0, "1, 4") +
                            Line(2, 700, 0, "1, 5") + Line(3, 1600, 0, "1, 2, 6, 7"),
                        kMooncake);
  EXPECT_EQ(t.requests[1].previous, -1);
  EXPECT_EQ(t.requests[2].previous, -1);
  EXPECT_EQ(t.requests[3].previous, 0);
}

TEST(MooncakeTest, DeepestTurnIsTheLast) {
  const Trace t = Parse(Line(0, 600, 10, "1, 2") +            // page 1 is its own
                            Line(1, 700, 10, "1, 3") +        // no new full page: still page 1
                            Line(2, 1100, 10, "1, 4, 5") +    // goes on from the second
                            Line(3, 1600, 10, "1, 4, 6, 7"),  // and this from the third
                        kMooncake);
  EXPECT_EQ(t.requests[1].previous, 0);
  EXPECT_EQ(t.requests[2].previous, 1);
  EXPECT_EQ(t.requests[3].previous, 2);
}

TEST(MooncakeTest, WholePromptIsNoStrictPrefix) {
  const Trace t = Parse(Line(0, 1024, 0, "1, 2") + Line(1, 1024, 0, "1, 2"), kMooncake);
  EXPECT_EQ(t.requests[1].previous, -1);
}

TEST(TokensTest, PagesAreChained) {
  const Trace t = Parse(
      "{\"tokens\": [1, 2, 3, 4, 5], \"output_tokens\": [6, 7, 8, 9]}\n"
      "{\"tokens\": [1, 2, 3, 4]}\n"
      "{\"tokens\": [1, 2, 1, 2, 5]}\n"
      "{\"tokens\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}\n"
      "{\"tokens\": [-2147483648, 2147483647]}\n",
      Tokens(2));
  ASSERT_EQ(t.requests.size(), 5u);
  EXPECT_EQ(Prompt(t, 0), (Ids{0, 1, 2}));  // [5] alone is 2
  EXPECT_EQ(Answer(t, 0), (Ids{3, 4, 5}));  // [5 6] [7 8] [9]
  EXPECT_EQ(Prompt(t, 1), (Ids{0, 1}));
  EXPECT_EQ(Prompt(t, 2), (Ids{0, 6, 7}));  // [1 2] after [1 2], then [5] after that
  EXPECT_EQ(Prompt(t, 3), (Ids{0, 1, 3, 4, 5}));
  EXPECT_EQ(Prompt(t, 4), (Ids{8}));
  EXPECT_EQ(t.id_count, 9);
  EXPECT_EQ(t.requests[0].input_tokens, 5);
  EXPECT_EQ(t.requests[0].output_tokens, 4);
  EXPECT_EQ(t.requests[3].previous, 0);
}

TEST(TokensTest, KnownAnswerMustStandInTheNextTurn) {
  const Trace t = Parse(
      "{\"tokens\": [1, 2, 3], \"output_tokens\": [4, 5, 6]}\n"
      "{\"tokens\": [1, 2, 3, 9, 9, 9, 9]}\n"   // another answer
      "{\"tokens\": [1, 2, 3, 4, 5, 6, 7]}\n",  // this one
      Tokens(2));
  EXPECT_EQ(t.requests[1].previous, -1);
  EXPECT_EQ(t.requests[2].previous, 0);
}

TEST(TokensTest, UnknownAnswerIsInferred) {
  const Trace t = Parse(
      "{\"tokens\": [1, 2, 3], \"output_length\": 4}\n"
      "{\"tokens\": [1, 2, 3, 4, 5, 6, 7, 8]}\n",
      Tokens(2));
  EXPECT_EQ(t.requests[1].previous, 0);
  EXPECT_EQ(Prompt(t, 1), (Ids{0, 2, 3, 4}));
  EXPECT_EQ(Answer(t, 0), (Ids{2, 3, 5}));
}

TEST(TokensTest, TextIsBytes) {
  const Trace t = Parse(
      "{\"text\": \"ab\\u0000\", \"output_text\": \"\\u00e9!\"}\n"
      "{\"tokens\": [97, 98, 0, 195, 169, 33]}\n",
      Tokens(4));
  EXPECT_EQ(t.requests[0].input_tokens, 3);
  EXPECT_EQ(t.requests[0].output_tokens, 3);
  EXPECT_EQ(Answer(t, 0), Prompt(t, 1));
}

TEST(TokensTest, SessionsAndTenants) {
  const Trace t = Parse(
      "{\"tokens\": [1], \"session\": \"s\", \"tenant\": \"x\", \"timestamp\": 3}\n"
      "{\"tokens\": [1], \"session\": \"s\", \"tenant\": \"y\", \"timestamp\": 3}\n"
      "{\"tokens\": [2], \"session\": \"s\", \"tenant\": \"x\", \"timestamp\": 4}\n"
      "{\"tokens\": [2], \"session\": null, \"timestamp\": 5}\n"
      "{\"tokens\": [3], \"session\": \"s\", \"tenant\": \"x\", \"timestamp\": 5}\n",
      Tokens(16));
  EXPECT_EQ(t.tenants, (std::vector<std::string>{"x", "y", ""}));
  const std::vector<int32_t> previous = {-1, -1, 0, -1, 2};
  const std::vector<int32_t> tenant = {0, 1, 0, 2, 0};
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(t.requests[i].previous, previous[i]) << i;
    EXPECT_EQ(t.requests[i].tenant, tenant[i]) << i;
  }
  EXPECT_EQ(t.requests[1].arrival_ms, 3);
  EXPECT_EQ(t.id_count, 3);
}

TEST(TokensTest, TenantsDoNotGoOnFromEachOther) {
  const Trace t = Parse(
      "{\"tokens\": [1, 2, 3], \"tenant\": \"x\"}\n"
      "{\"tokens\": [1, 2, 3, 4, 5], \"tenant\": \"y\"}\n",
      Tokens(2));
  EXPECT_EQ(t.requests[1].previous, -1);
}

TEST(TokensTest, ASessionThatStartsOverDoesNotGiveTheAnswer) {
  const Trace t = Parse(
      "{\"tokens\": [1, 2], \"output_length\": 2, \"session\": \"s\"}\n"
      "{\"tokens\": [9, 9, 9, 9], \"session\": \"s\"}\n",
      Tokens(2));
  EXPECT_EQ(t.requests[1].previous, 0);
  EXPECT_EQ(Answer(t, 0), (Ids{3}));
}

struct BadLine {
  const char* line;
  const char* message;
};

// With a good line before, a blank line, and a good line after: the bad one is line 3.
void ExpectBad(const BadLine& bad, const std::string& good, ReadOptions options) {
  const std::string text = good + "\n" + bad.line + "\n" + good;
  const absl::Status status = ParseTrace(text, "t.jsonl", options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.line;
  EXPECT_EQ(status.message(), std::string("t.jsonl:3: ") + bad.message) << bad.line;
  options.skip_bad = true;
  const Trace skipped = Parse(text, options);
  const Trace without = Parse(good + good, options);
  EXPECT_EQ(skipped.skipped_lines, 1) << bad.line;
  EXPECT_EQ(without.skipped_lines, 0) << bad.line;
  EXPECT_EQ(skipped.ids, without.ids) << bad.line;
  EXPECT_EQ(skipped.id_count, without.id_count) << bad.line;
  EXPECT_EQ(skipped.tenants, without.tenants) << bad.line;
  EXPECT_EQ(skipped.requests.size(), 2u) << bad.line;
}

TEST(BadLineTest, Mooncake) {
  const std::string good = Line(5, 600, 1, "1, 2");
#define M(ts, in, out, ids) \
  "{\"timestamp\":" ts ",\"input_length\":" in ",\"output_length\":" out ",\"hash_ids\":" ids "}"
  const BadLine bad_lines[] = {
      {M("5", "0", "1", "[]"), "input_length is 0, expected an integer from 1 to 16777216"},
      {M("5", "-1", "1", "[]"), "input_length is -1, expected an integer from 1 to 16777216"},
      {M("5", "16777217", "1", "[]"),
       "input_length is 16777217, expected an integer from 1 to 16777216"},
      {M("5", "1.0", "1", "[8]"), "input_length is 1.0, expected an integer from 1 to 16777216"},
      {M("5", "true", "1", "[8]"), "input_length is true, expected an integer from 1 to 16777216"},
      {M("5", "1", "-3", "[8]"), "output_length is -3, expected an integer from 0 to 16777216"},
      {M("5", "1", "18446744073709551615", "[8]"),
       "output_length is 18446744073709551615, expected an integer from 0 to 16777216"},
      {M("\"5\"", "1", "1", "[8]"),
       "timestamp is a string, expected an integer from 0 to 1000000000000000"},
      {M("-5", "1", "1", "[8]"), "timestamp is -5, expected an integer from 0 to 1000000000000000"},
      {M("null", "1", "1", "[8]"),
       "timestamp is null, expected an integer from 0 to 1000000000000000"},
      {M("4", "1", "1", "[8]"),
       "timestamp is 4, expected at least 5, that of a line before; sort the file by timestamp"},
      {M("5", "512", "1", "[8, 9]"),
       "hash_ids has 2 entries, expected 1: one for each 512 tokens of input_length 512"},
      {M("5", "513", "1", "[8]"),
       "hash_ids has 1 entries, expected 2: one for each 512 tokens of input_length 513"},
      {M("5", "1", "1", "8"), "hash_ids is 8, expected an array of integers"},
      {M("5", "600", "1", "[8, -1]"),
       "hash_ids[1] is -1, expected an integer from 0 to 18446744073709551615"},
      {M("5", "600", "1", "[8, {}]"),
       "hash_ids[1] is an object, expected an integer from 0 to 18446744073709551615"},
      {M("5", "1", "1", "[18446744073709551616]"),
       "a number that is malformed or has more than 64 bits, expected one JSON object a line"},
      {M("5", "600", "1", "[8, 8]"),
       "hash_ids[1] is 8 and stands after 8, expected it at the beginning as where it stood first: "
       "an id stands for all tokens up to its page's end"},
      {M("5", "1000", "1", "[8, 2]"),
       "hash_ids[1] is 2 and stands after 8, expected it after 1 as where it stood first: an id "
       "stands for all tokens up to its page's end"},
      {M("5", "1500", "1", "[1, 8, 2]"),
       "hash_ids[2] is 2 and stands after 8, expected it after 1 as where it stood first: an id "
       "stands for all tokens up to its page's end"},
      {M("5", "1", "1", "[8], \"timestamp\": 5"), "timestamp stands twice, expected once"},
      {"{\"timestamp\":5,\"input_length\":1,\"hash_ids\":[8]}",
       "output_length is missing, expected timestamp, input_length, output_length and hash_ids"},
      {"{\"tokens\":[1]}",
       "timestamp is missing, expected timestamp, input_length, output_length and hash_ids; or is "
       "this a trace of tokens?"},
      {"[1, 2]", "an array, expected a JSON object"},
      {"7", "7, expected a JSON object"},
      {"{\"timestamp\":5", "not JSON, expected one JSON object a line"},
      {"{\"timestamp", "a string without an end, expected one JSON object a line"},
      {"{\"timestamp\":5} {}", "not JSON, expected one JSON object a line"},
      {"{\"timestamp\":1e999}",
       "a number that is malformed or has more than 64 bits, expected one JSON object a line"},
  };
#undef M
  for (const BadLine& bad : bad_lines) ExpectBad(bad, good, kMooncake);
}

TEST(BadLineTest, Tokens) {
  const std::string good = "{\"timestamp\":5,\"tokens\":[1,2,3],\"tenant\":\"x\"}\n";
  const BadLine bad_lines[] = {
      {"{\"timestamp\":5}", "no prompt, expected tokens or text; or is this a Mooncake trace?"},
      {"{\"timestamp\":5,\"tokens\":[]}", "the prompt is empty, expected at least one token"},
      {"{\"timestamp\":5,\"text\":\"\"}", "the prompt is empty, expected at least one token"},
      {"{\"timestamp\":5,\"tokens\":[1],\"text\":\"a\",\"tenant\":\"new\"}",
       "both tokens and text, expected one of them"},
      {"{\"timestamp\":5,\"tokens\":[1],\"output_text\":\"a\",\"output_length\":1}",
       "both output_length and output_text, expected one of them"},
      {"{\"timestamp\":5,\"tokens\":[1],\"output_text\":\"a\",\"output_tokens\":[1]}",
       "both output_tokens and output_text, expected one of them"},
      {"{\"timestamp\":5,\"tokens\":[7,2147483648]}",
       "tokens[1] is 2147483648, expected an integer from -2147483648 to 2147483647"},
      {"{\"timestamp\":5,\"tokens\":[9],\"output_tokens\":[-2147483649]}",
       "output_tokens[0] is -2147483649, expected an integer from -2147483648 to 2147483647"},
      {"{\"timestamp\":5,\"tokens\":[1.5]}",
       "tokens[0] is 1.5, expected an integer from -2147483648 to 2147483647"},
      {"{\"timestamp\":5,\"text\":7}", "text is 7, expected a string"},
      {"{\"timestamp\":5,\"tokens\":[1],\"session\":[]}", "session is an array, expected a string"},
      {"{\"timestamp\":5,\"tokens\":[1],\"tenant\":2}", "tenant is 2, expected a string"},
      {"{\"tokens\":[8]}",
       "timestamp is 0, expected at least 5, that of a line before; sort the file by timestamp"},
      {"{\"timestamp\":5,\"text\":\"a\tb\"}",
       "a string with a bad escape or a control character, expected one JSON object a line"},
      {"{\"timestamp\":5,\"text\":\"a\\x\"}",
       "a string with a bad escape or a control character, expected one JSON object a line"},
      {"{\"timestamp\":5,\"text\":\"a\xFF\"}", "not valid UTF-8, expected one JSON object a line"},
      {"\xEF\xBB\xBF{\"timestamp\":5,\"text\":\"a\"}",
       "a byte-order mark, expected UTF-8 without one"},
  };
  for (const BadLine& bad : bad_lines) ExpectBad(bad, good, Tokens(2));
}

// What a list of C strings cannot hold.
TEST(BadLineTest, NulByte) {
  const std::string good = Line(0, 1, 0, "1");
  const absl::Status status =
      ParseTrace(good + std::string("{\0}", 3), "t.jsonl", kMooncake).status();
  EXPECT_EQ(
      status.message(),
      "t.jsonl:2: a NUL byte, expected one JSON object a line; is this a text file?; the last "
      "line has no line end: was the file cut off?");
}

TEST(BadLineTest, CutOff) {
  const std::string text = Line(0, 1, 0, "1") + Line(0, 1, 0, "1");
  for (size_t end = text.size() / 2 + 1; end + 1 < text.size(); ++end) {
    const std::string message(
        ParseTrace(text.substr(0, end), "t.jsonl", kMooncake).status().message());
    EXPECT_EQ(message.find("t.jsonl:2: "), 0u) << message;
    EXPECT_NE(message.find("; the last line has no line end: was the file cut off?"),
              std::string::npos)
        << message;
  }
}

TEST(BadLineTest, NoRequest) {
  EXPECT_EQ(ParseTrace("\n", "t.jsonl", kMooncake).status().message(),
            "t.jsonl:1: no request in it, expected one JSON object a line");
  EXPECT_EQ(ParseTrace("x\ny", "t.jsonl", {Format::kMooncake, 16, true}).status().message(),
            "t.jsonl:1: no request in it, 2 bad lines, expected one JSON object a line");
}

TEST(BadLineTest, TooManyPages) {
  std::string text;  // 2^24 pages of answer a line, without memory for any
  for (int i = 0; i < 128; ++i) text += "{\"tokens\": [1], \"output_length\": 16777216}\n";
  EXPECT_EQ(ParseTrace(text, "t.jsonl", Tokens(1, true)).status().message(),
            "t.jsonl:128: more than 2147483647 pages of prompts and answers up to here, expected "
            "fewer; cut the file or take larger pages");
}

TEST(ReadTest, TokensPerPage) {
  for (int32_t bad : {-1, 0, 4097}) {
    EXPECT_EQ(ParseTrace("{\"tokens\": [1]}", "t", Tokens(bad)).status().message(),
              "tokens_per_page is " + std::to_string(bad) + ", must be 1 to 4096");
  }
}

TEST(ReadTest, Files) {
  const std::string path = testing::TempDir() + "replay_trace_test.jsonl";
  std::ofstream(path) << Line(0, 1, 0, "1") << "{";
  EXPECT_EQ(ReadTrace(path, kMooncake).status().message().find(path + ":2: not JSON"), 0u);
  const absl::StatusOr<Trace> trace = ReadTrace(path, {Format::kMooncake, 16, true});
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->name, "replay_trace_test.jsonl");
  EXPECT_EQ(trace->skipped_lines, 1);
  std::filesystem::remove(path);
  EXPECT_EQ(ReadTrace(path, kMooncake).status(), absl::NotFoundError(path + ": no such file"));
  EXPECT_EQ(ReadTrace(testing::TempDir(), kMooncake).status().code(),
            absl::StatusCode::kUnavailable);
}

// The Mooncake traces of FAST'25, where they are; the counts are those of the files.
TEST(ReadTest, PublishedTraces) {
  const char* folder = std::getenv("QUIRE_TRACES");
  if (folder == nullptr) GTEST_SKIP() << "QUIRE_TRACES names no folder of traces";
  struct Published {
    const char* name;
    size_t requests;
    int64_t refs, distinct;
  };
  for (const Published& published : {Published{"conversation", 12031, 288500, 182790},
                                     Published{"synthetic", 3993, 121877, 43924}}) {
    const absl::StatusOr<Trace> trace =
        ReadTrace(std::string(folder) + "/" + published.name + "_trace.jsonl", kMooncake);
    ASSERT_TRUE(trace.ok()) << trace.status();
    EXPECT_EQ(trace->requests.size(), published.requests);
    EXPECT_EQ(trace->page_refs(), published.refs);
    EXPECT_EQ(trace->distinct_pages(), published.distinct);
    EXPECT_EQ(TraceFault(*trace), "");
  }
}

}  // namespace
}  // namespace replay
