// What quire_replay can be asked, and what it says where it was asked wrongly.

#include "tests/support/replay_arguments.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/replay/arguments.h"
#include "bench/replay/policies.h"
#include "gtest/gtest.h"
#include "tests/support/replay_traces.h"

namespace replay {
namespace {

TEST(ArgumentsTest, Defaults) {
  const auto arguments = Parse({"--trace", "a.jsonl"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_EQ(arguments->trace, "a.jsonl");
  EXPECT_EQ(arguments->read.format, Format::kMooncake);
  EXPECT_FALSE(arguments->read.skip_bad);
  EXPECT_FALSE(arguments->serving);
  EXPECT_TRUE(arguments->pages.empty());
  ASSERT_FALSE(arguments->policies.empty());
  EXPECT_STREQ(arguments->policies[0].name, "lru");
  EXPECT_EQ(arguments->policies.back().reclaim, quire::Options().reclaim);
}

TEST(ArgumentsTest, EveryFlag) {
  const auto arguments = Parse({"--generate=agent",
                                "--seed",
                                "7",
                                "--refs",
                                "1000",
                                "--rate",
                                "2.5",
                                "--tokens-per-page",
                                "64",
                                "--mode",
                                "serving",
                                "--pages",
                                "100,20,100",
                                "--policy",
                                "lru,lru",
                                "--skip-bad",
                                "--lifetimes=false",
                                "--speed",
                                "inf",
                                "--batch",
                                "8",
                                "--token-budget",
                                "16",
                                "--fixed-ms",
                                "1",
                                "--prefill-us",
                                "2",
                                "--context",
                                "inf",
                                "--decode-us",
                                "3",
                                "--read-us",
                                "4.5",
                                "--json",
                                "a.json"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_EQ(arguments->generate.traffic, Traffic::kAgent);
  EXPECT_EQ(arguments->generate.seed, 7u);
  EXPECT_EQ(arguments->generate.page_refs, 1000);
  EXPECT_EQ(arguments->generate.requests_per_second, 2.5);
  EXPECT_EQ(arguments->generate.tokens_per_page, 64);
  EXPECT_TRUE(arguments->serving);
  EXPECT_EQ(arguments->pages, (std::vector<int32_t>{100, 20}));
  EXPECT_EQ(arguments->policies.size(), 1u);
  EXPECT_TRUE(arguments->read.skip_bad);
  EXPECT_FALSE(arguments->lifetimes);
  EXPECT_TRUE(std::isinf(arguments->speed));
  EXPECT_EQ(arguments->max_batch, 8);
  EXPECT_EQ(arguments->token_budget, 16);
  EXPECT_EQ(arguments->cost.fixed_ms, 1);
  EXPECT_EQ(arguments->cost.prefill_us, 2);
  EXPECT_TRUE(std::isinf(arguments->cost.context));
  EXPECT_EQ(arguments->cost.decode_us, 3);
  EXPECT_EQ(arguments->cost.read_us_per_ktok, 4.5);
  EXPECT_EQ(arguments->json, "a.json");
}

TEST(ArgumentsTest, AReportBringsLifetimes) {
  const auto arguments = Parse({"--generate", "chat", "--report", "a.html"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_TRUE(arguments->lifetimes);
}

TEST(ArgumentsTest, WrongOnesAreNamedAndSayWhatTheyTake) {
  const struct {
    std::vector<std::string> words;
    std::string expected;
  } cases[] = {
      {{}, "give --trace FILE or --generate KIND"},
      {{"--trace", "a", "--generate", "chat"}, "only one of them"},
      {{"--generate", "chatter"}, "chat, agent, rag or sampling"},
      {{"--trace", "a", "--format", "csv"}, "--format csv: must be mooncake or tokens"},
      {{"--trace", "a", "--tokens-per-page", "16"}, "--format tokens"},
      {{"--trace", "a", "--tokens-per-page", "0"}, "a whole number from 1 to 4096"},
      {{"--trace", "a", "--mode", "both"}, "--mode both: must be sequential or serving"},
      {{"--trace", "a", "--pages", "0"}, "whole numbers from 1 to 1073741824"},
      {{"--trace", "a", "--pages", "10,"}, "--pages 10,"},
      {{"--trace", "a", "--pages", "1e4"}, "--pages 1e4"},
      {{"--trace", "a", "--policy", "mru"}, "no policy is called \"mru\"; there are lru"},
      {{"--trace", "a", "--policy", "lru,"}, "no policy is called \"\""},
      {{"--trace", "a", "--speed", "0"}, "--speed 0: must be above 0"},
      {{"--trace", "a", "--speed", "nan"}, "--speed nan: must be a number from 0, or inf"},
      {{"--trace", "a", "--batch", "64", "--token-budget", "63"}, "--token-budget 63 is less"},
      {{"--trace", "a", "--context", "0"}, "context is 0"},
      {{"--trace", "a", "--refs", "-1"}, "--refs -1: must be a whole number from 1"},
      {{"--trace", "a", "--skip-bad=yes"}, "--skip-bad yes: must be given without a value"},
      {{"--trace", "a", "--json"}, "--json needs a value"},
      {{"--trace", "a", "--sizes", "3"}, "unknown flag --sizes"},
  };
  for (const auto& wrong : cases) {
    const absl::Status status = Parse(wrong.words).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << wrong.expected;
    const std::string message(status.message());
    EXPECT_NE(message.find(wrong.expected), std::string::npos) << message;
  }
  EXPECT_TRUE(absl::IsCancelled(Parse({"--help"}).status()));
}

TEST(ArgumentsTest, HelpNamesEveryFlagOfItsOwn) {
  for (const char* flag : {"--trace",      "--generate", "--format",       "--tokens-per-page",
                           "--skip-bad",   "--seed",     "--refs",         "--rate",
                           "--mode",       "--pages",    "--policy",       "--lifetimes",
                           "--speed",      "--batch",    "--token-budget", "--fixed-ms",
                           "--prefill-us", "--context",  "--decode-us",    "--read-us",
                           "--json",       "--report"}) {
    EXPECT_NE(std::string(kUsage).find(flag), std::string::npos) << flag;
  }
}

TEST(PoliciesTest, AllIsEveryOne) {
  const auto all = ParsePolicies("all");
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->size(), Policies().size());
}

TEST(DefaultPagesTest, LeaveRoomForTheLongestRequest) {
  const Trace trace = TraceOf({{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}});
  EXPECT_EQ(DefaultPages(trace, 6400), (std::vector<int32_t>{100, 400, 1600}));
  EXPECT_EQ(DefaultPages(trace, 160), (std::vector<int32_t>{11, 40}));
  EXPECT_EQ(DefaultPages(trace, 10), (std::vector<int32_t>{11}));
}

}  // namespace
}  // namespace replay
