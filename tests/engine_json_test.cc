// The JSON writer: valid whatever the text.

#include <cmath>
#include <string>
#include <vector>

#include "engine/json.h"
#include "gtest/gtest.h"

namespace engine {
namespace {

TEST(JsonTest, ObjectsAndArrays) {
  JsonWriter json;
  json.BeginObject();
  json.Field("a", 1);
  json.Field("b", std::vector<int32_t>{1, 2});
  json.Key("c");
  json.BeginArray();
  json.EndArray();
  json.Key("d");
  json.BeginArray();
  json.Value(true);
  json.Value("x");
  json.BeginObject();
  json.EndObject();
  json.EndArray();
  json.EndObject();
  EXPECT_EQ(json.text(),
            "{\n  \"a\": 1,\n  \"b\": [1, 2],\n  \"c\": [],\n"
            "  \"d\": [\n    true,\n    \"x\",\n    {}\n  ]\n}\n");
}

TEST(JsonTest, NumbersThatAreNone) {
  JsonWriter json;
  json.BeginArray();
  json.Value(NAN);
  json.Value(INFINITY);
  json.Value(0.25);
  json.EndArray();
  EXPECT_EQ(json.text(), "[\n  null,\n  null,\n  0.25\n]\n");
}

TEST(JsonTest, Escapes) {
  EXPECT_EQ(QuoteJson("a\"b\\c\n\t\x01"), R"("a\"b\\c\n\u0009\u0001")");
  EXPECT_EQ(QuoteJson(std::string_view("\0", 1)), R"("\u0000")");
  EXPECT_EQ(QuoteJson("é € 🙂"), "\"é € 🙂\"");
}

TEST(JsonTest, BytesThatAreNotUtf8AreEscaped) {
  EXPECT_EQ(QuoteJson("\xFF"), R"("\u00ff")");
  EXPECT_EQ(QuoteJson("a\xC3"), R"("a\u00c3")");  // cut off
  EXPECT_EQ(QuoteJson("\xE2\x82x"), R"("\u00e2\u0082x")");
  EXPECT_EQ(QuoteJson("\xC0\x80"), R"("\u00c0\u0080")");  // too long a form
  EXPECT_EQ(QuoteJson("\xE0\x80\x80"), R"("\u00e0\u0080\u0080")");
  EXPECT_EQ(QuoteJson("\xED\xA0\x80"), R"("\u00ed\u00a0\u0080")");            // a surrogate
  EXPECT_EQ(QuoteJson("\xF4\x90\x80\x80"), R"("\u00f4\u0090\u0080\u0080")");  // past U+10FFFF
}

TEST(JsonTest, AFileThatCannotBeWrittenIsAnError) {
  EXPECT_FALSE(WriteFile("/no/such/folder/x.json", "{}").ok());
}

}  // namespace
}  // namespace engine
