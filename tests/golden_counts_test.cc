#include "tests/support/golden_counts.h"

#include <string>

#include "gtest/gtest.h"

namespace quire::testing {
namespace {

GoldenFile File(double lookup, double commit) {
  return {.compiler = "c 1", .counts = {{"lookup", lookup}, {"commit", commit}}};
}

TEST(GoldenFileTest, WhatIsWrittenIsReadAgain) {
  const auto file = ParseGoldenFile(FormatGoldenFile(File(12.345, 100)));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->compiler, "c 1");
  ASSERT_EQ(file->counts.size(), 2u);
  EXPECT_EQ(file->counts[0].operation, "lookup");
  EXPECT_NEAR(file->counts[0].instructions, 12.345, 0.006);  // two decimals are kept
  EXPECT_EQ(file->counts[1].operation, "commit");
  EXPECT_EQ(file->counts[1].instructions, 100);
}

TEST(GoldenFileTest, NamesTheBadLine) {
  const auto error = [](const std::string& line) {
    return std::string(ParseGoldenFile("compiler: c 1\nlookup 1.5\n" + line).status().message());
  };
  EXPECT_EQ(error(""), "");
  EXPECT_EQ(error("# commit x\n\n"), "");
  for (const char* line :
       {"commit", "commit x", "commit 0", "commit -1", "commit nan", "commit 1 2", "commit 1x"}) {
    EXPECT_EQ(error(line), std::string("line 3 is not \"operation instructions\": ") + line);
  }
  EXPECT_EQ(error("lookup 2"), "line 3 names lookup again");
  EXPECT_FALSE(ParseGoldenFile("").ok());
  EXPECT_FALSE(ParseGoldenFile("compiler: c 1\n").ok());
  EXPECT_FALSE(ParseGoldenFile("lookup 1.5\n").ok());
}

// As callgrind writes it: costs of the function itself, and after `calls=` the callee's.
constexpr const char* kProfile =
    "version: 1\npositions: line\nevents: Ir\nsummary: 1117\n\n"
    "ob=/p\nfl=a.cc\nfn=f\n10 5\n+1 2\ncob=/libc\ncfi=???\ncfn=memcmp\ncalls=1 0\n11 1000\n* 3\n"
    "\nob=/libc\nfl=???\nfn=memcmp\n0 1000\n"
    "\nob=/p\nfl=b.cc\nfn=g\n20 100\nfi=a.h\n7 7\ncfn=f\ncalls=2 10\n20 10\n"
    "\ntotals: 1117\n";

TEST(OwnInstructionsTest, CountsOneObjectWithoutItsCallees) {
  EXPECT_EQ(OwnInstructions(kProfile, "/p").value(), 5 + 2 + 3 + 100 + 7);
  EXPECT_EQ(OwnInstructions(kProfile, "/libc").value(), 1000);
}

TEST(OwnInstructionsTest, RefusesWhatItCannotCount) {
  const auto refused = [](const std::string& profile) {
    return OwnInstructions(profile, "/p").status().code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused(""));
  EXPECT_TRUE(refused("events: Ir\nob=/other\nfn=f\n1 2\n"));
  EXPECT_TRUE(refused("events: Ir\nob=/p\nfn=f\n1 x\n"));
  EXPECT_TRUE(refused("events: Ir\nob=/p\nfn=f\n1\n"));
  EXPECT_TRUE(refused("events: Ir Dr\nob=/p\nfn=f\n1 2 3\n"));
  EXPECT_TRUE(refused("ob=/p\nfn=f\n1 2\n"));
}

TEST(CompareGoldenTest, HoldsThreePerCentBothWays) {
  const auto wrong = [](double lookup) { return CompareGolden(File(100, 50), File(lookup, 50)); };
  EXPECT_TRUE(wrong(100).empty());
  EXPECT_TRUE(wrong(102.9).empty());
  EXPECT_TRUE(wrong(97.1).empty());
  ASSERT_EQ(wrong(103.1).size(), 1u);
  EXPECT_EQ(wrong(103.1)[0],
            "lookup takes 103.10 instructions, the file says 100.00: +3.1 %, slower");
  ASSERT_EQ(wrong(96.9).size(), 1u);
  EXPECT_EQ(wrong(96.9)[0],
            "lookup takes 96.90 instructions, the file says 100.00: -3.1 %, faster");
}

TEST(CompareGoldenTest, AnOperationMissingOnEitherSideIsWrong) {
  GoldenFile less = File(100, 50);
  less.counts.pop_back();
  ASSERT_EQ(CompareGolden(less, File(100, 50)).size(), 1u);
  EXPECT_EQ(CompareGolden(less, File(100, 50))[0], "commit is not in the file");
  ASSERT_EQ(CompareGolden(File(100, 50), less).size(), 1u);
  EXPECT_EQ(CompareGolden(File(100, 50), less)[0], "commit is in the file and was not measured");
}

}  // namespace
}  // namespace quire::testing
