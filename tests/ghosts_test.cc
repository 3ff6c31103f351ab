#include "lib/ghosts.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

// A table of one line of eight, whatever the key.
Ghosts OneLine() {
  Ghosts ghosts;
  EXPECT_TRUE(ghosts.Init(8));
  return ghosts;
}

Ghost At(uint16_t epoch, uint8_t uses = 1, uint8_t page_class = 0) {
  return {.tag = 0, .epoch = epoch, .page_class = page_class, .uses = uses};
}

TEST(GhostsTest, AreFoundByTheirKeyOnce) {
  Ghosts ghosts = OneLine();
  EXPECT_EQ(ghosts.Put(11, At(7, 3, 79), 9).uses, 0);
  EXPECT_EQ(ghosts.Put(12, At(8, 4, 1), 9).uses, 0);
  const Ghost found = ghosts.Take(11);
  EXPECT_EQ(found.epoch, 7);
  EXPECT_EQ(found.uses, 3);
  EXPECT_EQ(found.page_class, 79);
  EXPECT_EQ(ghosts.Take(11).uses, 0);
  EXPECT_EQ(ghosts.Take(13).uses, 0);
  EXPECT_EQ(ghosts.Take(12).uses, 4);
  EXPECT_EQ(ghosts.Take(12).uses, 0);
}

// An empty entry has the tag of key 0.
TEST(GhostsTest, KeyZeroIsNotInAnEmptyTable) {
  Ghosts ghosts = OneLine();
  EXPECT_EQ(ghosts.Take(0).uses, 0);
  ghosts.Put(0, At(5, 2), 5);
  EXPECT_EQ(ghosts.Take(0).uses, 2);
  EXPECT_EQ(ghosts.Take(0).uses, 0);
}

TEST(GhostsTest, AFullLineForgetsItsOldest) {
  Ghosts ghosts = OneLine();
  const std::vector<uint16_t> epochs = {30, 10, 50, 20, 80, 70, 40, 60};
  for (size_t i = 0; i < epochs.size(); ++i) {
    EXPECT_EQ(ghosts.Put(i, At(epochs[i], static_cast<uint8_t>(i + 1)), 100).uses, 0);
  }
  EXPECT_EQ(ghosts.Put(100, At(90), 100).uses, 2);  // of epoch 10
  EXPECT_EQ(ghosts.Put(101, At(95), 100).uses, 4);  // of epoch 20
  EXPECT_EQ(ghosts.Put(102, At(5, 9), 100).uses, 1);
  EXPECT_EQ(ghosts.Put(103, At(96), 100).uses, 9);  // put last, and yet the oldest
  EXPECT_EQ(ghosts.Take(1).uses, 0);
  EXPECT_EQ(ghosts.Take(2).uses, 3);
}

// Epochs count on past 2^16: 65530 was 11 epochs before 5, and 3 only 2.
TEST(GhostsTest, TheOldestIsFoundWhenEpochsBeginAnew) {
  Ghosts ghosts = OneLine();
  for (uint64_t key = 0; key < 7; ++key) ghosts.Put(key, At(3), 5);
  ghosts.Put(7, At(65530, 77), 5);
  EXPECT_EQ(ghosts.Put(8, At(5), 5).uses, 77);
}

TEST(GhostsTest, OfTheSameAgeTheFirstIsForgotten) {
  Ghosts ghosts = OneLine();
  for (uint64_t key = 0; key < 8; ++key) ghosts.Put(key, At(3, static_cast<uint8_t>(key + 1)), 5);
  EXPECT_EQ(ghosts.Put(8, At(5), 5).uses, 1);
  EXPECT_EQ(ghosts.Put(9, At(5), 5).uses, 2);
}

TEST(GhostsTest, APlaceTakenIsFreeAgain) {
  Ghosts ghosts = OneLine();
  for (uint64_t key = 0; key < 8; ++key) ghosts.Put(key, At(3), 5);
  ghosts.Take(5);
  EXPECT_EQ(ghosts.Put(8, At(4), 5).uses, 0);
  EXPECT_EQ(ghosts.Put(9, At(4), 5).uses, 1);
}

TEST(GhostsTest, TheSameKeyAgainTakesThePlaceOfTheFirst) {
  Ghosts ghosts = OneLine();
  ghosts.Put(1, At(3, 10), 5);
  ghosts.Put(2, At(1, 20), 5);
  EXPECT_EQ(ghosts.Put(2, At(4, 21), 5).uses, 20);
  EXPECT_EQ(ghosts.Put(1, At(4, 11), 5).uses, 10);
  EXPECT_EQ(ghosts.Take(1).uses, 11);
  EXPECT_EQ(ghosts.Take(1).uses, 0);
  EXPECT_EQ(ghosts.Take(2).uses, 21);
  EXPECT_EQ(ghosts.Take(2).uses, 0);
}

// Else a key would be remembered twice, and the second copy found after the first was used up.
TEST(GhostsTest, TheSameKeyAgainPrefersItsOwnPlaceToAFreeOne) {
  Ghosts ghosts = OneLine();
  ghosts.Put(1, At(3, 10), 5);
  ghosts.Put(2, At(3, 20), 5);
  ghosts.Take(1);
  EXPECT_EQ(ghosts.Put(2, At(4, 21), 5).uses, 20);
  EXPECT_EQ(ghosts.Take(2).uses, 21);
  EXPECT_EQ(ghosts.Take(2).uses, 0);
}

TEST(GhostsTest, AKeyBelongsToOneLine) {
  Ghosts ghosts;
  ASSERT_TRUE(ghosts.Init(24));
  // The high half of the key chooses among three lines, the low half is the tag.
  const auto key = [](uint64_t line, uint64_t tag) { return (line * 0x60000000 << 32) | tag; };
  for (uint64_t line = 0; line < 3; ++line) {
    for (uint64_t tag = 0; tag < 8; ++tag) {
      const auto uses = static_cast<uint8_t>(1 + 10 * line + tag);
      EXPECT_EQ(ghosts.Put(key(line, tag), At(static_cast<uint16_t>(tag), uses), 9).uses, 0);
    }
  }
  EXPECT_EQ(ghosts.Put(key(1, 100), At(9), 9).uses, 11);
  for (uint64_t tag = 0; tag < 8; ++tag) {
    EXPECT_EQ(ghosts.Take(key(0, tag)).uses, 1 + tag);
    EXPECT_EQ(ghosts.Take(key(1, tag)).uses, tag == 0 ? 0 : 11 + tag);
    EXPECT_EQ(ghosts.Take(key(2, tag)).uses, 21 + tag);
  }
  // The last line is the last of the table.
  ghosts.Put(UINT64_MAX, At(9, 200), 9);
  EXPECT_EQ(ghosts.Take(UINT64_MAX).uses, 200);
}

TEST(GhostsTest, BytesAreEightForEachKeyInWholeLines) {
  for (const auto& [count, bytes] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 64}, {1, 64}, {8, 64}, {15, 64}, {16, 128}, {8000, 64000}}) {
    Ghosts ghosts;
    ASSERT_TRUE(ghosts.Init(count));
    EXPECT_EQ(ghosts.bytes(), bytes) << count;
    ghosts.Prefetch(UINT64_MAX);
    ghosts.Put(UINT64_MAX, At(1, 5), 1);
    EXPECT_EQ(ghosts.Take(UINT64_MAX).uses, 5);
  }
}

TEST(GhostsTest, AgreesWithAModelOverRandomCalls) {
  constexpr uint64_t kLines = 4;
  Ghosts ghosts;
  ASSERT_TRUE(ghosts.Init(8 * kLines));
  struct Entry {
    uint64_t key;
    int64_t epoch;
    uint8_t uses;
  };
  std::vector<std::vector<Entry>> model(kLines);
  std::mt19937 random(3);
  int64_t forgotten_count = 0;
  for (int64_t now = 60000; now < 75000; ++now) {
    const uint64_t l = random() % kLines;
    const uint64_t key = (l << 62) | (random() % 16);
    std::vector<Entry>& line = model[l];
    const auto same = [key](const Entry& e) { return e.key == key; };
    const auto at = std::find_if(line.begin(), line.end(), same);
    if (random() % 3 == 0) {
      const Ghost ghost = ghosts.Take(key);
      ASSERT_EQ(ghost.uses, at == line.end() ? 0 : at->uses);
      if (at != line.end()) line.erase(at);
      continue;
    }
    const auto uses = static_cast<uint8_t>(1 + random() % 255);
    const Ghost forgotten =
        ghosts.Put(key, At(static_cast<uint16_t>(now), uses), static_cast<uint16_t>(now));
    auto out = at;
    if (at == line.end() && line.size() == 8) {
      out = std::min_element(line.begin(), line.end(),
                             [](const Entry& a, const Entry& b) { return a.epoch < b.epoch; });
      ++forgotten_count;
    }
    ASSERT_EQ(forgotten.uses, out == line.end() ? 0 : out->uses);
    if (out != line.end()) {
      ASSERT_EQ(forgotten.epoch, static_cast<uint16_t>(out->epoch));
      line.erase(out);
    }
    line.push_back({key, now, uses});
  }
  EXPECT_GT(forgotten_count, 100);  // else the test says little
}

}  // namespace
}  // namespace quire
