// A reference model of the manager: slow, plain, and meant to be obviously right.
//
// The model does not imitate the cache. It keeps what the page memory would hold: for every slot of
// every page, of which (namespace, token prefix) the K/V is there. It writes the slots where an
// engine's kernels would, and moves them as the plans say. Then whatever pages the cache hands out,
// the model can tell whether a kernel would read the right thing.
//
// Beside that it knows which pages must be findable: it sees a page being filled, and being handed
// out again. From this follow the hit a prompt must get, and whether a Reserve must succeed. It
// knows who pays for a page and what each page is worth, so it can tell from whom pages had to be
// taken, and which of them could not be.
//
// Operations are structs that print as the C++ that builds them, so that a failure can be pasted as
// a regression test (see Replay). Those that do not apply (no such sequence) do nothing, so that a
// list of them may be shortened at will.

#ifndef QUIRE_TESTS_SUPPORT_MODEL_H_
#define QUIRE_TESTS_SUPPORT_MODEL_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "quire/kv_cache.h"
#include "tests/support/manager_util.h"

namespace quire::testing {

// `seq` counts the live sequences in the order of their birth.
struct StartOp {
  int ns;
  Tokens prompt;
  bool read = true;
  bool write = true;
  std::vector<Retention> retention = {};
};
struct MatchOp {
  int ns;
  Tokens prompt;
};
struct FitsOp {
  int ns;
  int total;
  int step;
};
struct ReserveOp {
  int seq;
  int tokens;
};
struct ReserveAllOp {
  std::vector<int> seqs;
  std::vector<int> counts;
};
struct CommitOp {
  int seq;
  Tokens tokens;
};  // carries plans out, writes, then commits
struct CommitAllOp {
  std::vector<int> seqs;
  Tokens tokens;
  std::vector<int> counts;
};
struct DraftOp {
  int seq;
};  // writes a draft into all the room, commits nothing
struct TruncateOp {
  int seq;
  int length;
};
struct ForkOp {
  int seq;
};
struct DropOp {
  int seq;
};
struct TakePlanOp {
  bool fails;
};                   // whether its copies go wrong; known at Retire
struct RetireOp {};  // the oldest ticket
struct ClearOp {};

using Op = std::variant<StartOp, MatchOp, ReserveOp, ReserveAllOp, CommitOp, CommitAllOp, DraftOp,
                        TruncateOp, ForkOp, DropOp, TakePlanOp, RetireOp, ClearOp, FitsOp>;

// `ns` names one of these: with and without a tenant, and with the same text in another field.
inline constexpr int kNamespaces = 8;
Namespace NamespaceOf(int ns);
std::optional<std::string> TenantOf(int ns);

std::ostream& operator<<(std::ostream& out, const Op& op);
// As C++ that builds the same options, and a whole test of that name that replays the operations.
std::string Print(const Options& options);
std::string Print(const std::vector<Op>& ops);
std::string PrintTest(const std::string& name, const Options& options, const std::vector<Op>& ops);

class Model {
 public:
  explicit Model(const Options& options);
  ~Model();

  // Runs one operation on the cache and on the model, then audits everything. Empty if all is well,
  // else what is wrong; the object is not to be used after that.
  std::string Run(const Op& op);

  // For whoever draws the operations.
  int live() const { return static_cast<int>(seqs_.size()); }
  const Options& options() const { return options_; }
  int length(int seq) const { return static_cast<int>(seqs_[seq]->path.size()); }
  int room(int seq) const { return seqs_[seq]->handle.capacity() - length(seq); }
  int valid_length(int seq) const { return seqs_[seq]->handle.valid_length(); }
  int tickets() const { return static_cast<int>(tickets_.size()); }
  // The rest of the prompt, not yet committed.
  const Tokens& todo(int seq) const { return seqs_[seq]->todo; }
  // Every page id and plan so far, as text: equal for equal calls.
  const std::string& trace() const { return trace_; }
  void keep_trace() { keep_trace_ = true; }
  // Operations after which the whole audit found nothing.
  int64_t audited() const { return audited_; }

  // How often each interesting thing happened, to see that a run exercises what it should.
  std::map<std::string, int64_t> counts;

 private:
  // What a slot holds. `node` names a (namespace, token prefix): see Child. -1 is anything.
  // `taint` is the first ticket whose failed copy this was computed from; 0: none.
  struct Cell {
    int node = -1;
    uint64_t taint = 0;
  };
  enum class Known { kNo, kMaybe, kYes };
  struct Page {
    std::vector<Cell> cells;
    Known indexed = Known::kNo;
    int refs = 0;
    int held = 0;              // by tickets
    int planned = 0;           // copies from here that are planned, and not yet taken
    int64_t released_at = -1;  // -1: not known
    int slot = 0;              // logical page, for the order within one release
    int account = 0;           // who pays for it
    int priority = 0;          // what it is worth, since it is indexed
    int64_t ends = 0;          // the step at which a priority above the default is over
    bool unsure = false;       // it may be worth less
    int64_t raised_at = -1;    // when a duplicate of it went
    bool used = false;         // somebody has or had it since it was zeroed
    bool stale = false;        // it may hold what somebody left who had it before
    int node() const { return cells.back().node; }
  };
  struct Seq {
    Sequence handle;
    int ns = 0;
    int account = 0;
    std::vector<int> path;  // a node per token
    std::vector<Retention> retention;
    int longest = 0;  // tokens that it ever had before a Truncate
    struct Passed {
      int priority = 0;
      int64_t ends = 0;
      bool unsure = false;
    };
    std::vector<Passed> passed;  // [group] what the pages that it let go are worth
    Tokens todo;
    bool write = true;
    bool certain = true;  // its pages are in the index, for all that the model knows
    bool may_lose = false;
    bool awaits_plan = false;  // its tail may be the target of a copy not yet carried out
    std::vector<std::vector<PageId>> tables;
  };
  struct Outstanding {
    Ticket ticket;
    Plan plan;
    std::vector<PageCopy> copies;
    bool fails;
    std::vector<int> nodes;  // per copy: the first node of the page
  };
  // Who pays for pages: a tenant with a quota, or all others, who are the last.
  struct Share {
    int64_t guaranteed = 0;
    int64_t max = 0;
    int64_t limit = 0;  // max, or less because of what others are guaranteed
  };
  struct Pages {
    std::vector<int64_t> live, cached;  // [account]
  };
  // Everything that a caller can see, apart from counters that count calls.
  using Seen = std::vector<int64_t>;
  struct Need {
    // Pages [group][account]: surely needed, surely enough, and what is taken if there is room.
    std::vector<std::vector<int64_t>> low, high, wish;
    bool never_fits = false;
    bool lost = false;
  };

  void Do(const StartOp& op);
  void Do(const MatchOp& op);
  void Do(const ReserveOp& op);
  void Do(const ReserveAllOp& op);
  void Do(const CommitOp& op);
  void Do(const CommitAllOp& op);
  void Do(const DraftOp& op);
  void Do(const TruncateOp& op);
  void Do(const ForkOp& op);
  void Do(const DropOp& op);
  void Do(const TakePlanOp& op);
  void Do(const RetireOp& op);
  void Do(const ClearOp& op);
  void Do(const FitsOp& op);

  void Fail(const std::string& what);
  Seq* At(int seq);
  int Child(int node, TokenId token);
  bool Descends(int node, int ancestor) const;
  std::vector<int> PathOf(int ns, const Tokens& tokens);
  Page& PageAt(int group, PageId page) { return pages_[group][static_cast<int>(page)]; }
  int groups() const { return static_cast<int>(options_.groups.size()); }
  int TokensPerPage(int group) const { return options_.groups[group].tokens_per_page; }
  int64_t Lookback(int group) const { return options_.groups[group].lookback_tokens; }
  int PagesFor(int group, int64_t tokens) const {
    return static_cast<int>((tokens + TokensPerPage(group) - 1) / TokensPerPage(group));
  }

  // The hit of a prompt: at least, and (where the model knows) exactly.
  void ExpectHit(const std::vector<int>& path, int hit);
  bool CanResume(const std::vector<int>& path, int at, Known least) const;
  int BestPartial(const std::vector<int>& path, int at, int limit, bool* exact) const;

  // Quotas.
  int accounts() const { return static_cast<int>(shares_[0].size()); }
  int AccountOf(int ns) const;
  static Pages PagesOf(const GroupStats& stats);
  bool HasRoom(int group, const Pages& now, const std::vector<int64_t>& need) const;
  bool Fits(int ns, int64_t total, int64_t step) const;
  int GiverOf(int group, const Pages& now, const std::vector<int64_t>& used) const;
  struct Charge {
    int account;
    int64_t pages;
  };
  std::vector<int64_t> Given(int group, Pages now, const std::vector<Charge>& charges);

  // Retention.
  struct Worth {
    int priority = kDefaultPriority;
    int64_t ends = 0;
  };
  Worth WorthOf(const Seq& seq, int group, int slot) const;
  void Note(Seq& seq, int group, PageId page, int slot);
  void EndLifetimes();
  void BeginToRetain(int account);

  Need NeedOf(const std::vector<Seq*>& seqs, const std::vector<int>& counts);
  void AddWriters(int group, const std::map<PageId, int>& writers, Need* need);
  void CheckReserve(const absl::Status& status, const Need& need, const Seen& before,
                    const Stats& stats);
  void AdoptTailsInPlace(const std::vector<Seq*>& seqs, const Need& need, const Stats& stats);
  void Adopt(const std::vector<Seq*>& changed, const Stats& before, bool allocates);
  bool AdoptPage(const Seq& seq, int group, size_t slot, PageId was, PageId is, bool allocates);
  void CheckEvictions(int group, const std::vector<PageId>& taken,
                      const std::vector<Charge>& charges, const GroupStats& before);
  void CheckVictim(int group, const Page& victim, int victim_account);
  void CheckClosed(int group, int node);
  void KeepDuplicatesOf(int group, const Page& victim);
  void GiveBack(Seq& seq, int group, PageId page, int slot);
  int64_t Horizon(int group, int64_t length) const;
  std::vector<int> PastWindow(const Seq& seq, int group) const;
  void LeaveWindows(const std::vector<Seq*>& takers, Stats* stats);
  void CarryOutPlan(bool fails);
  void Scrub(std::span<const PageScrub> scrubs);
  void CheckScrubbed();
  void CheckClean(const Page& page);
  void WriteTokens(Seq& seq, const Tokens& tokens);
  void AfterCommit(Seq& seq, int old_length);
  Seen See() const;

  void Audit();
  void AuditStats();
  void AuditGroup(int group, const GroupStats& stats);
  void AuditAccount(int group, int account, int64_t live, int64_t cached);
  void AuditTable(int index, Seq& seq, int group);
  void AuditWritable(Seq& seq);

  Options options_;
  std::unique_ptr<KvCache> cache_;
  std::vector<std::unique_ptr<Seq>> seqs_;
  std::vector<std::vector<Page>> pages_;    // [group][page]
  std::vector<std::vector<Share>> shares_;  // [group][account]
  std::map<std::pair<int, TokenId>, int> children_;
  std::vector<int> parents_;
  std::map<int, std::set<int>> units_;  // node -> nodes one unit further, ever committed
  std::deque<Outstanding> tickets_;
  struct PlannedCopy {
    int tokens;
    PageId source;
  };
  std::map<std::pair<int, int>, PlannedCopy> plan_targets_;  // planned, not yet taken
  uint64_t last_retired_ = 0;
  uint64_t last_ticket_ = 0;
  int64_t now_ = 0;
  int64_t audited_ = 0;
  int64_t steps_ = 0;        // plans taken
  std::set<int> retaining_;  // accounts
  int64_t copies_failed_ = 0;
  bool plan_pending_ = false;
  bool windows_ = false;
  bool only_windows_ = true;
  bool shells_ = false;  // nodes without a page may be left, for sequences that stand on them
  bool keep_trace_ = false;
  std::string trace_;
  std::string error_;
};

// Runs the operations on a fresh cache. Empty if all is well, else which operation went wrong, and
// how.
std::string Replay(const Options& options, const std::vector<Op>& ops);

// Draws a whole run from a seed: options, then operations, each seeing the state it meets.
Options DrawOptions(uint64_t seed);
class OpSource {
 public:
  explicit OpSource(uint64_t seed);
  // One or more operations that belong together.
  std::vector<Op> Next(const Model& model);

 private:
  uint64_t Random();
  int Below(int limit) { return static_cast<int>(Random() % static_cast<uint64_t>(limit)); }
  bool OneIn(int n) { return Below(n) == 0; }
  Tokens Suffix(int longest);
  Tokens NextTokens(const Model& model, int seq, int count);
  Tokens DrawPrompt(const Model& model, int* ns);
  std::vector<Op> Batch(const Model& model);
  std::vector<Op> Ask(const Model& model);
  std::vector<Op> Step(const Model& model);
  std::vector<Retention> DrawRetention();

  uint64_t state_;
  bool retains_;
  std::vector<std::pair<int, Tokens>> seen_;  // (namespace, prompt)
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_MODEL_H_
