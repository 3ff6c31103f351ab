// Lists of operations on a cache, against the reference model of tests/support/model.h, with a full
// audit after each. A failure prints the list as a test: see ModelTest.
//
//   QUIRE_FUZZ_VERBOSE=1   print each operation before it runs, for a CHECK that ends the process

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_input.h"
#include "tests/support/model.h"

namespace quire::fuzz {
namespace {

using namespace quire::testing;  // NOLINT(google-build-using-namespace): the model's operations

constexpr int kMaxOps = 120;

// Valid, and small: a pool that is always nearly full, pages of few tokens.
Options DrawOptions(Input& input) {
  Options options;
  const int per_page = 1 + input.Below(4);
  // One after the other: compilers differ in which argument of a call they look at first.
  const auto add_group = [&](int tokens_per_page) {
    const int pages = 2 + input.Below(15);
    const int lookback = input.OneIn(2) ? input.Below(12) : kAllTokens;
    options.groups.push_back(Group(tokens_per_page, pages, lookback));
  };
  add_group(per_page);
  const int shape = input.Below(4);
  if (shape == 1) add_group(per_page);
  if (shape == 2) add_group(per_page * 2);
  if (shape == 3) {
    // Two sizes of which neither divides the other, over the unit of the third.
    add_group(per_page * 2);
    add_group(per_page * 3);
  }
  options.max_sequences = 1 + input.Below(6);
  options.max_sequence_tokens = 1 + input.Below(48);
  options.prefix_caching = !input.OneIn(16);
  options.min_copy_tokens = 1 + input.Below(4);
  options.max_rollback_tokens = input.OneIn(2) ? input.Below(6) : 0;
  options.max_index_nodes = input.OneIn(8) ? 1 + input.Below(12) : 0;
  options.reclaim = static_cast<Reclaim>(input.Below(static_cast<int>(Reclaim::kLearned) + 1));
  options.scrub_released = input.OneIn(4);
  return options;
}

// Two tokens, so that unrelated prompts often agree for a while: one bit each.
Tokens DrawTokens(Input& input, int count) {
  Tokens tokens;
  int bits = 1;
  for (int i = 0; i < count; ++i, bits >>= 1) {
    if (bits == 1) bits = 0x100 | input.Byte();
    tokens.push_back(bits & 1);
  }
  return tokens;
}

// What an engine would commit next: the rest of the prompt, then sampled tokens.
Tokens NextTokens(Input& input, const Model& model, int seq, int count) {
  Tokens tokens = model.todo(seq);
  if (static_cast<int>(tokens.size()) > count) tokens.resize(static_cast<size_t>(count));
  return tokens + DrawTokens(input, count - static_cast<int>(tokens.size()));
}

// A step of some of the sequences; each at most once.
Op DrawBatch(Input& input, const Model& model, bool commit) {
  CommitAllOp batch;
  const int chosen = input.Byte();
  for (int seq = 0; seq < model.live(); ++seq) {
    if ((chosen >> (seq % 8) & 1) != 0) continue;
    const int count = 1 + input.Below(6);
    batch.seqs.push_back(seq);
    batch.counts.push_back(count);
    if (commit) batch.tokens = batch.tokens + NextTokens(input, model, seq, count);
  }
  if (commit) return batch;
  return ReserveAllOp{batch.seqs, batch.counts};
}

Op DrawOp(Input& input, const Model& model) {
  const int kind = model.live() == 0 ? 0 : input.Below(16);
  const auto seq = [&] { return input.Below(model.live()); };
  switch (kind) {
    case 0:
    case 1:
    case 2: {
      const int ns = input.Below(4);
      const Tokens prompt = DrawTokens(input, input.Below(40));
      return StartOp{ns, prompt, !input.OneIn(8), !input.OneIn(8)};
    }
    case 3: {
      const int ns = input.Below(4);
      return MatchOp{ns, DrawTokens(input, input.Below(40))};
    }
    case 4: {
      const int which = seq();
      return ReserveOp{which, 1 + input.Below(12)};
    }
    case 5:
      return DrawBatch(input, model, /*commit=*/false);
    case 6:
    case 7: {
      const int which = seq();
      return CommitOp{which, NextTokens(input, model, which, 1 + input.Below(12))};
    }
    case 8:
      return DrawBatch(input, model, /*commit=*/true);
    case 9:
      return DraftOp{seq()};
    case 10: {
      const int which = seq();
      return TruncateOp{which, input.OneIn(4) ? model.valid_length(which)
                                              : model.length(which) - input.Below(8) + 1};
    }
    case 11:
      return ForkOp{seq()};
    case 12:
      return DropOp{seq()};
    case 13:
      return TakePlanOp{input.OneIn(4)};
    case 14:
      return RetireOp{};
    default:
      if (input.OneIn(4)) return ClearOp{};
      return RetireOp{};
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool verbose = std::getenv("QUIRE_FUZZ_VERBOSE") != nullptr;
  Input input(data, size);
  const Options options = DrawOptions(input);
  if (verbose) std::cerr << Print(options);
  Model model(options);
  std::vector<Op> ops;
  for (int i = 0; i < kMaxOps && !input.empty(); ++i) {
    // Plans that are never retired hold their pages; an engine does retire them.
    ops.push_back(model.tickets() > 3 ? Op(RetireOp{}) : DrawOp(input, model));
    if (verbose) std::cerr << ops.back() << std::endl;
    const std::string error = model.Run(ops.back());
    if (error.empty()) continue;
    Broken(error + "\n" + Print(options) + "options.reclaim = static_cast<Reclaim>(" +
           std::to_string(static_cast<int>(options.reclaim)) + ");\nEXPECT_EQ(Replay(options, {\n" +
           Print(ops) + "}), \"\");");
  }
  return 0;
}

}  // namespace quire::fuzz
