// quire_gpu_bench: what the CUDA kernels reach on this machine's GPU, of what it can do.
//
//   quire_gpu_bench [--json FILE] [--fact NAME=VALUE]... [--demo FILE] [--only SECTION]
//                   [--no-peers]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "bench/gpu/cuda_util.h"
#include "bench/gpu/peers.h"
#include "bench/gpu/report.h"
#include "bench/gpu/sections.h"
#include "bench/gpu/yardsticks.h"

namespace quire::bench {
namespace {

constexpr char kUsage[] =
    "usage: quire_gpu_bench [--json FILE] [--fact NAME=VALUE]... [--demo FILE] [--no-peers]\n"
    "                       [--only layout|decode|prefill|append|copy]\n"
    "  --fact  noted in the table and the JSON, such as commit=1a2b3c4\n"
    "  --demo  what the demo wrote with --json, to stand in ours\n";

struct Options {
  std::string json;
  std::vector<std::string> facts;
  std::string only;
  std::string demo;
  bool peers = true;
};

bool Parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--no-peers") {
      options->peers = false;
      continue;
    }
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    if (argument == "--json") {
      options->json = value;
    } else if (argument == "--demo") {
      options->demo = value;
    } else if (argument == "--only") {
      options->only = value;
    } else if (argument == "--fact" && value.find('=') != std::string::npos) {
      options->facts.push_back(value);
    } else {
      return false;
    }
  }
  const std::vector<std::string> sections = {"", "layout", "decode", "prefill", "append", "copy"};
  return std::find(sections.begin(), sections.end(), options->only) != sections.end();
}

// The first line that a command prints; empty if it cannot be run.
std::string LineOf(const char* command) {
  std::FILE* const pipe = popen(command, "r");
  if (pipe == nullptr) return "";
  char buffer[512] = {};
  if (std::fgets(buffer, sizeof(buffer), pipe) == nullptr) buffer[0] = '\0';
  pclose(pipe);
  std::string line = buffer;
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

// A file's text without white space at its end; empty if there is none.
std::string TextOf(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  std::string result = text.str();
  result.erase(result.find_last_not_of(" \n") + 1);
  return result;
}

std::string Version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

int Attribute(cudaDeviceAttr attribute) {
  int value = 0;
  Check(cudaDeviceGetAttribute(&value, attribute, 0), "asking the GPU");
  return value;
}

void AddFacts(const Options& options, Report& report) {
  cudaDeviceProp properties;
  Check(cudaGetDeviceProperties(&properties, 0), "asking the GPU");
  int driver = 0;
  int runtime = 0;
  Check(cudaDriverGetVersion(&driver), "asking the driver");
  Check(cudaRuntimeGetVersion(&runtime), "asking the runtime");
  size_t free_bytes = 0;
  size_t all_bytes = 0;
  Check(cudaMemGetInfo(&free_bytes, &all_bytes), "asking the GPU");
  const std::time_t now = std::time(nullptr);
  char date[32];
  std::strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
  report.Fact("date", date);
  for (const std::string& fact : options.facts) {
    const size_t equals = fact.find('=');
    report.Fact(fact.substr(0, equals), fact.substr(equals + 1));
  }
  report.Fact("gpu", properties.name);
  report.Fact("multiprocessors", std::to_string(properties.multiProcessorCount));
  report.Fact("memory GB", std::to_string(all_bytes / 1'000'000'000));
  report.Fact("free GB", std::to_string(free_bytes / 1'000'000'000));
  report.Fact("L2 MB", std::to_string(properties.l2CacheSize / 1'000'000));
  report.Fact("CUDA", "driver " + Version(driver) + ", runtime " + Version(runtime));
  report.Fact("clocks MHz", std::to_string(Attribute(cudaDevAttrClockRate) / 1000) + ", memory " +
                                std::to_string(Attribute(cudaDevAttrMemoryClockRate) / 1000));
  const std::string smi = LineOf(
      "nvidia-smi --query-gpu=driver_version,clocks.max.sm,clocks.max.mem,power.limit,ecc.mode."
      "current --format=csv,noheader 2> /dev/null");
  report.Fact("nvidia-smi", smi.empty() ? "none" : smi);
}

// The shapes of decode.cc and prefill.cc whose rows are alike.
std::vector<PeerCase> PeerCases() {
  std::vector<PeerCase> cases;
  const PeerCase decode[] = {{1, 1024, 1, 0},   {1, 32768, 1, 0}, {1, 131072, 1, 0},
                             {8, 1024, 1, 0},   {8, 16384, 1, 0}, {64, 8192, 1, 0},
                             {256, 1024, 1, 0}, {256, 8192, 1, 0}};
  for (PeerCase c : decode) {
    for (const int group : {1, 4, 8}) {
      c.group = group;
      cases.push_back(c);
    }
  }
  for (const PeerCase& c : {PeerCase{1, 4096, 4096, 4}, PeerCase{1, 16384, 4096, 4},
                            PeerCase{1, 16384, 16384, 4}, PeerCase{1, 32768, 16384, 4}}) {
    cases.push_back(c);
  }
  return cases;
}

// Most of the memory there is; what is left holds queries, outputs and tables: at most 2 GB.
DeviceBuffer MostOfMemory() {
  size_t free_bytes = 0;
  size_t all_bytes = 0;
  Check(cudaMemGetInfo(&free_bytes, &all_bytes), "asking the GPU");
  constexpr int64_t kStep = int64_t{64} << 20;
  int64_t room = (static_cast<int64_t>(free_bytes) - (int64_t{4} << 30)) / kStep * kStep;
  for (; room >= int64_t{4} << 30; room -= 8 * kStep) {
    void* memory = nullptr;
    if (cudaMalloc(&memory, static_cast<size_t>(room)) == cudaSuccess) {
      Check(cudaFree(memory), "freeing");
      return DeviceBuffer(room);
    }
    cudaGetLastError();
  }
  std::fprintf(stderr, "quire_gpu_bench: needs 8 GB of free memory on the GPU\n");
  std::exit(1);
}

int Run(const Options& options) {
  int gpus = 0;
  if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) {
    std::fprintf(stderr, "quire_gpu_bench: no GPU\n");
    return 1;
  }
  Report report;
  Peers peers;
  AddFacts(options, report);
  if (const std::string demo = TextOf(options.demo); !demo.empty()) report.Include("demo", demo);
  if (options.peers) peers.Run(PeerCases());
  report.Fact("peer", peers.about());
  const DeviceBuffer memory = MostOfMemory();
  const Arena arena = {memory.data(), memory.bytes()};
  report.Fact("pool GB", std::to_string(arena.bytes / 1'000'000'000));
  LaunchFill(arena.memory, arena.bytes);
  const Ceilings ceilings = MeasureCeilings(arena, report);
  const auto wanted = [&](const char* section) {
    return options.only.empty() || options.only == section;
  };
  // Written after each section: a run that is cut off keeps what it has.
  bool written = true;
  const auto measure = [&](const char* section, auto run) {
    if (!wanted(section)) return;
    run();
    if (!options.json.empty()) written = report.WriteJson(options.json) && written;
  };
  measure("layout", [&] { MeasureLayout(arena, ceilings, report); });
  measure("decode", [&] { MeasureDecode(arena, ceilings, peers, report); });
  measure("prefill", [&] { MeasurePrefill(arena, peers, report); });
  measure("append", [&] { MeasureAppend(arena, report); });
  measure("copy", [&] { MeasurePageCopies(arena, report); });
  report.PrintTargets();
  return written ? 0 : 1;
}

}  // namespace
}  // namespace quire::bench

int main(int argc, char** argv) {
  quire::bench::Options options;
  if (argc == 2 && std::string(argv[1]) == "--help") {
    std::fputs(quire::bench::kUsage, stdout);
    return 0;
  }
  if (!quire::bench::Parse(argc, argv, &options)) {
    std::fputs(quire::bench::kUsage, stderr);
    return 1;
  }
  return quire::bench::Run(options);
}
