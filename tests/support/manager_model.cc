#include <algorithm>
#include <sstream>

#include "tests/support/model.h"

namespace quire::testing {

std::optional<std::string> TenantOf(int ns) {
  static constexpr const char* kTenants[] = {nullptr, "a", "b", ""};
  const char* tenant = kTenants[ns & 3];
  return tenant == nullptr ? std::nullopt : std::optional<std::string>(tenant);
}

// The same text in two fields, and in both, and a tenant without a name: all must stay apart.
Namespace NamespaceOf(int ns) {
  Namespace result;
  if (const auto tenant = TenantOf(ns); tenant.has_value()) result.SetTenant(*tenant);
  if ((ns & 4) != 0) result.SetLora("a");
  return result;
}

Model::Model(const Options& options) : options_(options), cache_(NewCache(options)) {
  parents_.assign(kNamespaces, -1);  // the roots
  for (const GroupOptions& group : options.groups) {
    pages_.emplace_back(static_cast<size_t>(group.page_count));
    for (Page& page : pages_.back()) page.cells.resize(static_cast<size_t>(group.tokens_per_page));
    windows_ = windows_ || group.lookback_tokens != kAllTokens;
    only_windows_ = only_windows_ && group.lookback_tokens != kAllTokens;
    std::vector<Share>& shares = shares_.emplace_back();
    int64_t guaranteed = 0;
    for (const Quota& quota : options.quotas) {
      const int64_t pages = group.page_count;
      shares.push_back({.guaranteed = pages * quota.guaranteed_permille / 1000,
                        .max = (pages * quota.max_permille + 999) / 1000});
      guaranteed += shares.back().guaranteed;
    }
    shares.push_back({.max = group.page_count});
    for (Share& share : shares) {
      share.limit = std::min(share.max, group.page_count - (guaranteed - share.guaranteed));
    }
  }
}

Model::~Model() {
  seqs_.clear();  // before the cache
}

std::string Model::Run(const Op& op) {
  ++now_;
  std::visit([this](const auto& one) { Do(one); }, op);
  if (error_.empty()) Audit();
  audited_ += error_.empty();
  return error_;
}

void Model::Fail(const std::string& what) {
  if (error_.empty()) error_ = what;
}

Model::Seq* Model::At(int seq) {
  if (seqs_.empty() || seq < 0) return nullptr;
  return seqs_[static_cast<size_t>(seq) % seqs_.size()].get();
}

int Model::Child(int node, TokenId token) {
  const auto [it, is_new] = children_.emplace(std::pair(node, token), parents_.size());
  if (is_new) parents_.push_back(node);
  return it->second;
}

bool Model::Descends(int node, int ancestor) const {
  while (node >= 0 && node != ancestor) node = parents_[static_cast<size_t>(node)];
  return node == ancestor;
}

std::vector<int> Model::PathOf(int ns, const Tokens& tokens) {
  std::vector<int> path;
  int node = ns % kNamespaces;
  for (const TokenId token : tokens) path.push_back(node = Child(node, token));
  return path;
}

// What Snapshot prints, as numbers: this is done twice for every call.
Model::Seen Model::See() const {
  const Stats stats = cache_->stats();
  const MissTokens& missed = stats.missed;
  Seen seen = {stats.sequences,   stats.index_nodes,   stats.tokens_looked_up,   stats.tokens_hit,
               missed.last_token, missed.absent,       missed.page_gone,         missed.unaligned,
               missed.disabled,   stats.copies_failed, stats.commits_not_indexed};
  for (const GroupStats& group : stats.groups) {
    seen.insert(seen.end(), {group.pages_free, group.pages_live, group.pages_cached,
                             group.bytes_live, group.evictions, group.copies});
    for (const TenantStats& tenant : group.tenants) {
      seen.insert(seen.end(), {tenant.pages_live, tenant.pages_cached});
    }
  }
  for (const auto& seq : seqs_) {
    const Sequence& handle = seq->handle;
    seen.insert(seen.end(),
                {handle.length(), handle.capacity(), handle.hit_tokens(), handle.valid_length()});
    for (int g = 0; g < groups(); ++g) {
      for (const PageId page : handle.pages(GroupId{g})) seen.push_back(static_cast<int>(page));
    }
  }
  return seen;
}

void Model::Do(const ForkOp& op) {
  Seq* seq = At(op.seq);
  if (seq == nullptr) return;
  const Seen before = See();
  const Stats stats = cache_->stats();
  absl::StatusOr<Sequence> fork = seq->handle.Fork();
  const bool full = live() == options_.max_sequences;
  if (!fork.ok()) {
    if (See() != before) Fail("a refused Fork changed something");
    if (!full || !IsBare(fork.status(), absl::StatusCode::kResourceExhausted)) {
      Fail("Fork answered " + fork.status().ToString());
    }
    return;
  }
  if (full) return Fail("Fork should have been refused");
  auto twin = std::make_unique<Seq>();
  twin->handle = *std::move(fork);
  twin->ns = seq->ns;
  twin->account = seq->account;
  twin->path = seq->path;
  twin->retention = seq->retention;
  twin->longest = seq->longest;
  twin->todo = seq->todo;
  twin->write = seq->write;
  twin->certain = seq->certain;
  twin->may_lose = seq->may_lose;
  twin->awaits_plan = seq->awaits_plan;
  twin->tables.resize(static_cast<size_t>(groups()));
  twin->passed.resize(static_cast<size_t>(groups()));
  seqs_.push_back(std::move(twin));
  Seq& added = *seqs_.back();
  if (added.handle.length() != seq->handle.length()) return Fail("a fork of another length");
  if (added.handle.valid_length() != seq->handle.valid_length()) Fail("a fork trusts more");
  for (int g = 0; g < groups(); ++g) {
    const std::span<const PageId> mine = added.handle.pages(GroupId{g});
    if (static_cast<int>(mine.size()) != PagesFor(g, seq->handle.length()) ||
        !std::equal(mine.begin(), mine.end(), seq->tables[g].begin())) {
      return Fail("a fork does not share every page up to the length");
    }
  }
  Adopt({&added}, stats, /*allocates=*/false);
  ++counts["Fork"];
}

void Model::Do(const DropOp& op) {
  if (At(op.seq) == nullptr) return;
  const auto it = seqs_.begin() + op.seq % live();
  for (int g = 0; g < groups(); ++g) {
    const std::vector<PageId>& table = (*it)->tables[g];
    for (size_t slot = table.size(); slot-- > 0;) {
      if (table[slot] != kNoPage) GiveBack(**it, g, table[slot], static_cast<int>(slot));
    }
  }
  seqs_.erase(it);
}

void Model::Do(const ClearOp&) {
  cache_->ClearCached();
  ++counts["ClearCached"];
  shells_ = true;
  for (auto& group : pages_) {
    for (Page& page : group) page.indexed = Known::kNo;
  }
  // What is committed on top of tokens from before is not to be found either.
  for (auto& seq : seqs_) seq->write = seq->write && seq->path.empty();
  for (const GroupStats& group : cache_->stats().groups) {
    if (group.pages_cached != 0) Fail("cached pages after ClearCached");
  }
}

std::string Replay(const Options& options, const std::vector<Op>& ops) {
  Model model(options);
  for (size_t i = 0; i < ops.size(); ++i) {
    const std::string error = model.Run(ops[i]);
    if (error.empty()) continue;
    std::ostringstream out;
    out << "after operation " << i << ", " << ops[i] << ": " << error;
    return out.str();
  }
  return "";
}

}  // namespace quire::testing
