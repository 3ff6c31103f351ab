// Operations and options as the C++ that builds them.

#include <sstream>

#include "tests/support/model.h"

namespace quire::testing {

namespace {

std::string Text(int value) { return std::to_string(value); }

std::string Text(const Retention& range) {
  return "{" + Text(range.begin) + ", " +
         (range.end == kAllTokens ? std::string("kAllTokens") : Text(range.end)) + ", " +
         Text(range.priority) + ", " + std::to_string(range.lifetime_steps) + "}";
}

template <typename T>
std::string List(const std::vector<T>& values) {
  std::string out = "{";
  for (size_t i = 0; i < values.size(); ++i) out += (i > 0 ? ", " : "") + Text(values[i]);
  return out + "}";
}

std::string Bool(bool value) { return value ? "true" : "false"; }

std::string Name(Reclaim reclaim) {
  static constexpr const char* kNames[] = {"kLru",    "kFifo", "kAgedFrequency",
                                           "kS3Fifo", "k2Q",   "kLearned"};
  return std::string("Reclaim::") + kNames[static_cast<size_t>(reclaim)];
}

struct Printer {
  std::ostream& out;
  void operator()(const StartOp& op) {
    out << "StartOp{" << op.ns << ", " << List(op.prompt) << ", " << Bool(op.read) << ", "
        << Bool(op.write);
    if (!op.retention.empty()) out << ", " << List(op.retention);
    out << "}";
  }
  void operator()(const MatchOp& op) {
    out << "MatchOp{" << op.ns << ", " << List(op.prompt) << "}";
  }
  void operator()(const ReserveOp& op) {
    out << "ReserveOp{" << op.seq << ", " << op.tokens << "}";
  }
  void operator()(const ReserveAllOp& op) {
    out << "ReserveAllOp{" << List(op.seqs) << ", " << List(op.counts) << "}";
  }
  void operator()(const CommitOp& op) {
    out << "CommitOp{" << op.seq << ", " << List(op.tokens) << "}";
  }
  void operator()(const CommitAllOp& op) {
    out << "CommitAllOp{" << List(op.seqs) << ", " << List(op.tokens) << ", " << List(op.counts)
        << "}";
  }
  void operator()(const DraftOp& op) { out << "DraftOp{" << op.seq << "}"; }
  void operator()(const TruncateOp& op) {
    out << "TruncateOp{" << op.seq << ", " << op.length << "}";
  }
  void operator()(const ForkOp& op) { out << "ForkOp{" << op.seq << "}"; }
  void operator()(const DropOp& op) { out << "DropOp{" << op.seq << "}"; }
  void operator()(const TakePlanOp& op) { out << "TakePlanOp{" << Bool(op.fails) << "}"; }
  void operator()(const RetireOp&) { out << "RetireOp{}"; }
  void operator()(const ClearOp&) { out << "ClearOp{}"; }
  void operator()(const FitsOp& op) {
    out << "FitsOp{" << op.ns << ", " << op.total << ", " << op.step << "}";
  }
};

}  // namespace

std::ostream& operator<<(std::ostream& out, const Op& op) {
  std::visit(Printer{out}, op);
  return out;
}

std::string Print(const Options& options) {
  std::ostringstream out;
  out << "Options options;\n";
  for (const GroupOptions& group : options.groups) {
    out << "options.groups.push_back({" << group.tokens_per_page << ", " << group.page_count << ", "
        << group.page_bytes << ", ";
    if (group.lookback_tokens == kAllTokens) {
      out << "kAllTokens});\n";
    } else {
      out << group.lookback_tokens << "});\n";
    }
  }
  for (const Quota& quota : options.quotas) {
    out << "options.quotas.push_back({\"" << quota.tenant << "\", " << quota.guaranteed_permille
        << ", " << quota.max_permille << "});\n";
  }
  out << "options.max_sequences = " << options.max_sequences << ";\n"
      << "options.max_sequence_tokens = " << options.max_sequence_tokens << ";\n"
      << "options.prefix_caching = " << Bool(options.prefix_caching) << ";\n"
      << "options.min_copy_tokens = " << options.min_copy_tokens << ";\n"
      << "options.max_rollback_tokens = " << options.max_rollback_tokens << ";\n"
      << "options.max_index_nodes = " << options.max_index_nodes << ";\n"
      << "options.reclaim = " << Name(options.reclaim) << ";\n"
      << "options.hash_seed = " << options.hash_seed << "u;\n"
      << "options.scrub_released = " << Bool(options.scrub_released) << ";\n";
  return out.str();
}

std::string Print(const std::vector<Op>& ops) {
  std::ostringstream out;
  for (const Op& op : ops) out << "    " << op << ",\n";
  return out.str();
}

std::string PrintTest(const std::string& name, const Options& options, const std::vector<Op>& ops) {
  return "TEST(ModelTest, " + name + ") {\n" + Print(options) + "const std::vector<Op> ops = {\n" +
         Print(ops) + "};\nEXPECT_EQ(Replay(options, ops), \"\");\n}\n";
}

}  // namespace quire::testing
