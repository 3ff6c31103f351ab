// README.md's linking example: it stands below, word for word, so that it is compiled and run; and
// it is compared with README.md, so that neither can drift from the other.

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

// The example's own main, under a name that leaves the test's main alone.
#define main ReadmeExample
// README: begin
#include <cstdio>
#include <vector>

#include "quire/attention.h"
#include "quire/device.h"
#include "quire/kv_cache.h"

using namespace quire;

int main() {
  const KvLayout layout{.layers = 1, .kv_heads = 1, .head_dim = 8, .tokens_per_page = 4};
  auto device = NewCpuDevice({.groups = {{.layout = layout, .page_count = 8}}});
  auto cache = KvCache::Create({.groups = {{.tokens_per_page = 4, .page_count = 8}}});
  if (!device.ok() || !cache.ok()) return 1;
  const std::vector<TokenId> prompt = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  for (int turn = 1; turn <= 2; ++turn) {
    auto sequence = (*cache)->Start(prompt);  // finds what an earlier turn left, and pins it
    if (!sequence.ok()) return 1;
    const int32_t done = sequence->length();
    const int32_t todo = static_cast<int32_t>(prompt.size()) - done;
    if (!sequence->Reserve(todo).ok()) return 1;  // pages for the rest, or nothing has changed
    const Plan plan = (*cache)->TakePlan();       // copies owed before any kernel; none here
    (*cache)->Retire(plan.ticket, (*device)->Copy(plan, Stream()));
    const Sequence* const batch[] = {&*sequence};
    int64_t row_begin[1];
    int32_t lengths[1];
    const PageTableView table =
        (*cache)->MakePageTable(batch, {&todo, 1}, GroupId{0}, {row_begin, lengths});
    // Here the model runs: each layer writes K and V of the new tokens with cpu::AppendKv, to slot
    // SlotOf(table, 0, position), and reads all of them with cpu::Attention, through the table.
    std::printf("turn %d computes %d of %d tokens\n", turn, todo, table.lengths[0]);
    if (!sequence->Commit(std::span(prompt).subspan(done)).ok()) return 1;
  }  // the sequence ends; its full pages stay cached for the next turn
  return 0;
}
// README: end
#undef main

namespace quire {
namespace {

std::string Read(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// What stands between the first `begin` and the next `end`; empty if they are not there.
std::string Between(const std::string& text, std::string_view begin, std::string_view end) {
  const size_t from = text.find(begin);
  if (from == std::string::npos) return "";
  const size_t to = text.find(end, from + begin.size());
  if (to == std::string::npos) return "";
  return text.substr(from + begin.size(), to - from - begin.size());
}

const std::string& Readme() {
  static const std::string* text = new std::string(Read(QUIRE_SOURCE_DIR "/README.md"));
  return *text;
}

TEST(ReadmeTest, ExampleIsTheOneCompiledHere) {
  const std::string shown = Between(Readme(), "\n```cpp\n", "```\n");
  ASSERT_FALSE(shown.empty()) << "README.md has no cpp block";
  const std::string source = Read(QUIRE_SOURCE_DIR "/tests/readme_test.cc");
  EXPECT_EQ(shown, Between(source, "\n// README: begin\n", "// README: end\n"))
      << "change README.md and tests/readme_test.cc together";
}

TEST(ReadmeTest, ExampleRunsAndPrintsWhatTheReadmeShows) {
  const std::string shown = Between(Readme(), "\n```text\n", "```\n");
  ASSERT_FALSE(shown.empty()) << "README.md has no text block";
  testing::internal::CaptureStdout();
  const int result = ReadmeExample();
  EXPECT_EQ(testing::internal::GetCapturedStdout(), shown);
  EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace quire
