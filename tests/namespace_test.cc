#include "quire/namespace.h"

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

std::string Field(char tag, std::string_view value) {
  std::string out(1, tag);
  for (int shift = 0; shift < 64; shift += 8) {
    out.push_back(static_cast<char>(uint64_t{value.size()} >> shift));
  }
  return out + std::string(value);
}

TEST(NamespaceTest, SaysItsTenant) {
  EXPECT_EQ(Namespace().tenant(), std::nullopt);
  EXPECT_EQ(Namespace().SetLora("a").AddMedia(3, "b").tenant(), std::nullopt);
  EXPECT_EQ(Namespace().SetTenant("").tenant(), "");
  EXPECT_EQ(Namespace().SetModel("m").SetTenant("a").SetLora("l").tenant(), "a");
  EXPECT_EQ(Namespace().SetTenant("long").SetTenant("b").tenant(), "b");
}

TEST(NamespaceTest, EmptyEncodesToNothing) {
  EXPECT_TRUE(Namespace().empty());
  EXPECT_EQ(Namespace().Encode(), "");
}

// Golden bytes: other processes may keep them.
TEST(NamespaceTest, TagLengthBytes) {
  EXPECT_EQ(Namespace().SetTenant("ab").Encode(), Field(1, "ab"));
  EXPECT_EQ(Namespace().SetLora("x").Encode(), Field(2, "x"));
  EXPECT_EQ(Namespace().SetModel("").Encode(), Field(3, ""));
  EXPECT_EQ(Namespace().SetTenant("t").SetLora("l").SetModel("m").Encode(),
            Field(1, "t") + Field(2, "l") + Field(3, "m"));
}

TEST(NamespaceTest, TheOrderOfSetCallsDoesNotMatter) {
  const std::string expected = Namespace().SetTenant("t").SetLora("l").SetModel("m").Encode();
  EXPECT_EQ(Namespace().SetModel("m").SetLora("l").SetTenant("t").Encode(), expected);
  EXPECT_EQ(Namespace().SetLora("l").SetModel("m").SetTenant("t").Encode(), expected);
}

TEST(NamespaceTest, SettingAgainReplaces) {
  EXPECT_EQ(Namespace().SetLora("long value").SetTenant("x").SetLora("b").SetTenant("").Encode(),
            Namespace().SetTenant("").SetLora("b").Encode());
}

TEST(NamespaceTest, NeverSetDiffersFromEmpty) {
  EXPECT_FALSE(Namespace().SetTenant("").empty());
  EXPECT_NE(Namespace().SetTenant("").Encode(), Namespace().Encode());
  EXPECT_NE(Namespace().SetTenant("").Encode(), Namespace().SetLora("").Encode());
}

TEST(NamespaceTest, ValuesMayHoldAnyByte) {
  const std::string zero("a\0b", 3);
  EXPECT_EQ(Namespace().SetTenant(zero).Encode(), Field(1, zero));
  EXPECT_NE(Namespace().SetTenant(zero).Encode(), Namespace().SetTenant("a").Encode());
  // A value that looks like the next field is still a value.
  const std::string fake = Field(2, "x");
  EXPECT_NE(Namespace().SetTenant(fake).Encode(), Namespace().SetTenant("").SetLora("x").Encode());
}

// A digest that is cut short is another picture's.
TEST(NamespaceTest, EveryByteOfAValueCounts) {
  const std::string value(300, 'v');
  const std::string position("\x80\0\0\0\0\0\0\x03", 8);
  EXPECT_EQ(Namespace().SetTenant(value).Encode(), Field(1, value));
  EXPECT_EQ(Namespace().SetLora(value).Encode(), Field(2, value));
  EXPECT_EQ(Namespace().SetModel(value).Encode(), Field(3, value));
  EXPECT_EQ(Namespace().AddMedia(3, value).Encode(), Field(4, position + value));
}

TEST(NamespaceTest, MediaAreSortedByPosition) {
  const std::string expected = Namespace().AddMedia(3, "cat").AddMedia(40, "dog").Encode();
  EXPECT_EQ(Namespace().AddMedia(40, "dog").AddMedia(3, "cat").Encode(), expected);
  EXPECT_NE(Namespace().AddMedia(40, "cat").AddMedia(3, "dog").Encode(), expected);
  EXPECT_NE(Namespace().AddMedia(3, "cat").Encode(), expected);
  EXPECT_NE(Namespace().AddMedia(4, "cat").Encode(), Namespace().AddMedia(3, "cat").Encode());
}

TEST(NamespaceTest, MediaOrderDoesNotMatterForAnyPositions) {
  const std::vector<int64_t> positions = {std::numeric_limits<int64_t>::min(), -1, 0, 1, 255, 256,
                                          std::numeric_limits<int64_t>::max()};
  for (const int64_t a : positions) {
    for (const int64_t b : positions) {
      for (const int64_t c : positions) {
        EXPECT_EQ(Namespace().AddMedia(a, "x").AddMedia(b, "y").AddMedia(c, "z").Encode(),
                  Namespace().AddMedia(c, "z").AddMedia(a, "x").AddMedia(b, "y").Encode());
      }
    }
  }
}

TEST(NamespaceTest, TheSameImageTwiceDiffersFromOnce) {
  EXPECT_NE(Namespace().AddMedia(3, "cat").AddMedia(3, "cat").Encode(),
            Namespace().AddMedia(3, "cat").Encode());
}

TEST(NamespaceTest, MediaNeverLookLikeAnotherField) {
  EXPECT_NE(Namespace().AddMedia(0, "x").Encode(), Namespace().SetModel("x").Encode());
  // The digest cannot run over into the next item.
  EXPECT_NE(Namespace().AddMedia(1, "ab").AddMedia(2, "c").Encode(),
            Namespace().AddMedia(1, "a").AddMedia(2, "bc").Encode());
}

// Every namespace of a matrix of values: two of them encode to the same bytes only if all their
// fields are equal, and only then do their requests share.
class PartitionTest : public ::testing::Test {
 protected:
  PartitionTest() {
    const std::vector<const char*> values = {nullptr, "", "a", "ab", "b"};
    for (const char* tenant : values) {
      for (const char* lora : values) {
        for (const char* model : values) {
          for (const char* media : values) {
            Namespace ns;
            if (tenant != nullptr) ns.SetTenant(tenant);
            if (lora != nullptr) ns.SetLora(lora);
            if (model != nullptr) ns.SetModel(model);
            if (media != nullptr) ns.AddMedia(2, media);
            all_.push_back(ns);
          }
        }
      }
    }
  }

  std::vector<Namespace> all_;
};

TEST_F(PartitionTest, EncodingsDiffer) {
  std::map<std::string, size_t> seen;
  for (size_t i = 0; i < all_.size(); ++i) {
    const auto [it, is_new] = seen.emplace(all_[i].Encode(), i);
    EXPECT_TRUE(is_new) << i << " encodes as " << it->second << " does";
  }
}

// Paired: all others are present, and each hits its own page and no other.
TEST_F(PartitionTest, EveryPairOfNamespacesIsApart) {
  Options options = OneGroup(4, 2000);
  options.max_sequence_tokens = 64;
  auto cache = NewCache(options);
  const Tokens prompt = Iota(0, 5);
  std::vector<int32_t> page(all_.size());
  for (size_t i = 0; i < all_.size(); ++i) {
    ASSERT_EQ(cache->MatchLength(prompt, all_[i]), 0) << i;
    const Sequence sequence = Compute(*cache, prompt, all_[i]);
    page[i] = PagesOf(sequence)[0];
    ASSERT_EQ(cache->MatchLength(prompt, all_[i]), 4) << i;
  }
  for (size_t i = 0; i < all_.size(); ++i) {
    const Sequence again = MustStart(*cache, prompt, all_[i]);
    ASSERT_EQ(again.hit_tokens(), 4);
    EXPECT_EQ(PagesOf(again)[0], page[i]) << i;
  }
  EXPECT_OK(cache->Validate());
}

}  // namespace
}  // namespace quire::testing
