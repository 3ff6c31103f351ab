// Registers and spills of every CUDA kernel, as ptxas reported them in this build, against the
// committed table kernels/cuda/registers.txt. A kernel that spills more, or no longer fits twice
// into a multiprocessor, is slower on every GPU, and nothing else here would see it.
//
// The table holds for one release of nvcc and for an optimised build of sm_80 and sm_90a. After a
// change that is meant, QUIRE_WRITE_REGISTERS=1 writes it anew.

#include <cxxabi.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

constexpr char kTable[] = QUIRE_SOURCE_DIR "/kernels/cuda/registers.txt";
constexpr char kHeader[] =
    "# Registers, spill stores and spill loads (bytes) of each kernel; nvcc " QUIRE_NVCC_VERSION
    ".\n# Compared by tests/cuda_registers_test.cc, which says how to write it anew.\n";

std::string Demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string result = status == 0 ? text : name;
  std::free(text);
  for (const char* noise : {"void ", "quire::cuda::", "quire::"}) {
    for (size_t at = result.find(noise); at != std::string::npos; at = result.find(noise)) {
      result.erase(at, std::string(noise).size());
    }
  }
  return result.substr(0, result.find('('));
}

// "sm_90a AttentionKernel<BFloat16, 128>" -> "255 176 252".
using Report = std::map<std::string, std::string>;

// What stands between two marks of a line; empty if they do not.
std::string Between(const std::string& line, const std::string& before, const std::string& after) {
  const size_t begin = line.find(before);
  if (begin == std::string::npos) return "";
  const size_t from = begin + before.size();
  const size_t end = line.find(after, from);
  return end == std::string::npos ? "" : line.substr(from, end - from);
}

void ReadReport(const fs::path& path, Report* report) {
  std::ifstream file(path);
  std::string kernel;
  std::string spilled;
  for (std::string line; std::getline(file, line);) {
    const std::string entry = Between(line, "entry function '", "'");
    if (!entry.empty()) kernel = Between(line, "for '", "'") + " " + Demangled(entry);
    const std::string stores = Between(line, "frame, ", " bytes spill stores");
    if (!stores.empty()) spilled = stores + " " + Between(line, "stores, ", " bytes spill loads");
    const std::string registers = Between(line, "Used ", " registers");
    if (!registers.empty()) (*report)[kernel] = registers + " " + spilled;
  }
}

Report BuiltReport() {
  Report report;
  for (const auto& entry : fs::recursive_directory_iterator(QUIRE_CUDA_OBJECTS)) {
    if (entry.path().extension() == ".ptxas") ReadReport(entry.path(), &report);
  }
  return report;
}

std::string Text(const Report& report) {
  std::ostringstream text;
  text << kHeader;
  for (const auto& [kernel, numbers] : report) text << kernel << ": " << numbers << "\n";
  return text.str();
}

TEST(CudaRegistersTest, AreThoseOfTheTable) {
  const Report built = BuiltReport();
  ASSERT_GE(built.size(), 20u) << "no reports of ptxas under " QUIRE_CUDA_OBJECTS;
  if (std::getenv("QUIRE_WRITE_REGISTERS") != nullptr) std::ofstream(kTable) << Text(built);
  std::ifstream file(kTable);
  std::stringstream table;
  table << file.rdbuf();
  if (table.str().find("nvcc " QUIRE_NVCC_VERSION ".") == std::string::npos) {
    GTEST_SKIP() << "the table is of another nvcc than " QUIRE_NVCC_VERSION;
  }
  if (built.begin()->first.find("sm_80 ") != 0) GTEST_SKIP() << "built for other GPUs";
  EXPECT_EQ(Text(built), table.str());
}

}  // namespace
}  // namespace quire
