// The corpus of every fuzzer, through the fuzzers' own functions: what a fuzzer once found stays
// found, without clang. tests/fuzz/ says what each of them checks; `./dev fuzz` looks for more.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"

// LLVMFuzzerTestOneInput of <name>_fuzzer.cc, renamed by CMake.
#define QUIRE_FUZZER(name) extern "C" int quire_fuzz_##name(const uint8_t* data, size_t size)
QUIRE_FUZZER(arguments);
QUIRE_FUZZER(checkpoint);
QUIRE_FUZZER(device);
QUIRE_FUZZER(namespace);
QUIRE_FUZZER(operations);
QUIRE_FUZZER(options);
QUIRE_FUZZER(page_table);
QUIRE_FUZZER(tokenizer);
QUIRE_FUZZER(trace);

namespace quire {
namespace {

namespace fs = std::filesystem;

using Fuzzer = int (*)(const uint8_t* data, size_t size);

// A fuzzer ends the process if a promise is broken; the last line then names the input.
void Replay(const std::string& name, Fuzzer fuzzer) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(QUIRE_SOURCE_DIR "/tests/fuzz/corpus/" + name)) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  EXPECT_GE(files.size(), 5u) << "a corpus this small replays nothing of interest";
  for (const fs::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
    EXPECT_LE(bytes.size(), 4096u) << path << " is no small input";
    std::cerr << name << "/" << path.filename().string() << std::endl;
    EXPECT_EQ(fuzzer(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), 0);
  }
}

TEST(FuzzCorpusTest, Arguments) { Replay("arguments", quire_fuzz_arguments); }
TEST(FuzzCorpusTest, Checkpoint) { Replay("checkpoint", quire_fuzz_checkpoint); }
TEST(FuzzCorpusTest, Device) { Replay("device", quire_fuzz_device); }
TEST(FuzzCorpusTest, Namespace) { Replay("namespace", quire_fuzz_namespace); }
TEST(FuzzCorpusTest, Operations) { Replay("operations", quire_fuzz_operations); }
TEST(FuzzCorpusTest, Options) { Replay("options", quire_fuzz_options); }
TEST(FuzzCorpusTest, PageTable) { Replay("page_table", quire_fuzz_page_table); }
TEST(FuzzCorpusTest, Tokenizer) { Replay("tokenizer", quire_fuzz_tokenizer); }
TEST(FuzzCorpusTest, Trace) { Replay("trace", quire_fuzz_trace); }

// A fuzzer without its test above would be replayed by nobody.
TEST(FuzzCorpusTest, EveryFuzzerIsHere) {
  const ::testing::UnitTest& tests = *::testing::UnitTest::GetInstance();
  int fuzzers = 0;
  for (const auto& entry : fs::directory_iterator(QUIRE_SOURCE_DIR "/tests/fuzz")) {
    fuzzers += entry.path().filename().string().ends_with("_fuzzer.cc") ? 1 : 0;
  }
  EXPECT_EQ(tests.total_test_count(), fuzzers + 1);
}

}  // namespace
}  // namespace quire
