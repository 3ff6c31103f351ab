// The same calls give the same page ids and the same plans: what lets several ranks follow one
// cache, and a failure be played again.

#include <string>

#include "gtest/gtest.h"
#include "tests/support/model.h"

namespace quire::testing {
namespace {

// Every page table and every copy after each operation, as text.
std::string TraceOf(uint64_t seed, const Options& options) {
  Model model(options);
  model.keep_trace();
  OpSource source(seed);
  for (int step = 0; step < 150; ++step) {
    for (const Op& op : source.Next(model)) {
      const std::string error = model.Run(op);
      EXPECT_EQ(error, "") << "seed " << seed;
      if (!error.empty()) return error;
    }
  }
  return model.trace();
}

TEST(DeterminismTest, TheSameCallsGiveTheSamePagesAndPlans) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const Options options = DrawOptions(seed);
    const std::string first = TraceOf(seed, options);
    EXPECT_GT(first.size(), 150u);
    EXPECT_EQ(TraceOf(seed, options), first) << "seed " << seed;
  }
}

// The hash finds candidates; what a hit is, it does not decide. But policies that remember pages
// which were given up find those by the hash alone, and forget them by where it puts them
// (lib/ghosts.h).
TEST(DeterminismTest, TheHashSeedChangesNothingUnlessThePolicyRemembers) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Options options = DrawOptions(seed);
    options.reclaim = seed % 2 == 0 ? Reclaim::kLru : Reclaim::kFifo;
    const std::string first = TraceOf(seed, options);
    options.hash_seed += 0x9E3779B97F4A7C15u;
    EXPECT_EQ(TraceOf(seed, options), first) << "seed " << seed;
  }
}

// Otherwise the two above would compare nothing.
TEST(DeterminismTest, OtherCallsGiveAnotherTrace) {
  const Options options = DrawOptions(1);
  EXPECT_NE(TraceOf(1, options), TraceOf(2, options));
}

}  // namespace
}  // namespace quire::testing
