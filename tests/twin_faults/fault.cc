// Runs the kernels, with or without a planted fault, in a child process, and says whether something
// was wrong with them. See CMakeLists.txt.

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "quire/attention.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_memory.h"
#include "tests/support/attention_twin.h"

namespace quire::testing {
namespace {

// Decode with merges inside a block and between blocks, several splits, rows that end inside a
// tile; prefill over several tiles; pages that end at the table's guard page; a pool beyond 2^32
// bytes.
CaseShape Shape(ScheduleMode mode) {
  CaseShape shape = {.rows = {{1100}, {70, 2}, {300, 40}, {513}},
                     .dtype = DType::kBFloat16,
                     .kv_heads = 2,
                     .group = 4,
                     .head_dim = 64,
                     .tokens_per_page = 16};
  if (mode == ScheduleMode::kBalanced) {
    shape.spare_pages = 600000;  // of 8 KiB
    shape.top_pages_only = true;
  }
  return shape;
}

bool EqualBits(const AttentionCase& a, const AttentionCase& b) {
  for (size_t row = 0; row < a.shape().rows.size(); ++row) {
    for (int32_t j = 0; j < a.shape().rows[row].queries; ++j) {
      if (a.Bits(row, j) != b.Bits(row, j)) return false;
    }
  }
  return true;
}

// Within 2e-2 of the CPU's plain kernel: a fault that shows in numbers shows in whole ones.
bool CloseToPlain(AttentionCase& got, AttentionCase& want) {
  const AttentionParams params = want.params();
  if (cpu::AttentionPlain(params) != LaunchError::kOk) return false;
  const CaseShape& shape = got.shape();
  for (size_t row = 0; row < shape.rows.size(); ++row) {
    for (int32_t j = 0; j < shape.rows[row].queries; ++j) {
      for (int32_t head = 0; head < got.query_heads(); ++head) {
        for (int32_t d = 0; d < shape.head_dim; ++d) {
          const double difference = got.Output(row, j, head, d) - want.Output(row, j, head, d);
          if (!(std::abs(difference) < 2e-2)) return false;
        }
      }
    }
  }
  return true;
}

bool Launch(AttentionCase& c, ScheduleMode mode, int32_t multiprocessors) {
  AttentionParams params = c.params();
  params.mode = mode;
  return LaunchOnTwin<64>(params, TwinGpu(multiprocessors)) == LaunchError::kOk;
}

// Whether all results are right, and the same in every order of the threads.
bool AllRight() {
  for (const ScheduleMode mode : {ScheduleMode::kBatchInvariant, ScheduleMode::kBalanced}) {
    AttentionCase first(Shape(mode));
    AttentionCase plain(Shape(mode));
    if (!Launch(first, mode, 1) || !CloseToPlain(first, plain)) return false;
    for (int seed = 1; seed < 6; ++seed) {
      AttentionCase again(Shape(mode));
      if (!Launch(again, mode, 1) || !EqualBits(again, first)) return false;
    }
  }
  return true;
}

int Main(const char* expected) {
  const pid_t child = fork();
  if (child < 0) return 2;
  if (child == 0) _exit(AllRight() ? 0 : 1);
  int status = 0;
  if (waitpid(child, &status, 0) != child) return 2;
  const bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (clean) {
    std::puts("all results right");
  } else if (WIFSIGNALED(status)) {
    std::printf("ended by signal %d: %s\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
  } else if (WEXITSTATUS(status) == 1) {
    std::puts("wrong results (or a sanitizer's report, above)");
  } else {
    std::printf("ended with status %d: a sanitizer's report, above\n", WEXITSTATUS(status));
  }
  return clean == (std::strcmp(expected, "clean") == 0) ? 0 : 1;
}

}  // namespace
}  // namespace quire::testing

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  return quire::testing::Main(argv[1]);
}
