// Accounts: who pays for a page, and who has to give one up.
//
// Rule 1: no account has more than its maximum.
// Rule 2: what an account has, or its guarantee where that is more, adds up to the pool at most. So
//         the free pages that a guarantee lacks are there, and nobody else may take them.
// Rule 3: an account gives cached pages up to others only above its guarantee.
//
// When does a batch fit? A cached page can be given up and a live one cannot, so an account has at
// least live + need afterwards. Reclaiming below a guarantee makes no room for others. So the batch
// fits exactly if live + need <= maximum for every account, and max(live + need, guarantee) adds up
// to the pool at most: Fits. As ever, nothing has been evicted before that is known.
//
// Who gives? An account at its maximum recycles its own pages. Otherwise the account that is most
// above its guarantee, the pages being taken counted; of equals the first. Among its own pages its
// policy chooses. There is always one that can: if none were above its guarantee and had cached
// pages, rule 2 would be broken by live + need alone, and Fits has seen that it is not. Taking a
// page turns need into live and evicting changes neither, so that holds until the batch is done, in
// any order of taking.
//
// Strict tenants (decisions/0027): guarantee and maximum are one number, and those numbers add up
// to the pool, the others' included. Then rule 2 holds whatever anyone takes, no account ever gives
// to another, and Fits depends on the account's own pages alone.

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/cache_core.h"
#include "lib/check.h"
#include "lib/out_of_memory.h"

namespace quire {

namespace {

constexpr size_t kMaxQuotas = 64;
constexpr int32_t kWhole = 1000;  // permille
static_assert(kMaxQuotas < std::numeric_limits<uint8_t>::max());

}  // namespace

absl::Status CacheCore::CheckQuotas(const Options& options) {
  const std::vector<Quota>& quotas = options.quotas;
  if (quotas.size() > kMaxQuotas) {
    return absl::InvalidArgumentError(
        absl::StrCat("Options.quotas has ", quotas.size(), " entries; at most ", kMaxQuotas,
                     " tenants may have a share of their own, all others have one together"));
  }
  int32_t guaranteed = 0;
  int64_t sequences = 0;
  for (size_t i = 0; i < quotas.size(); ++i) {
    const Quota& quota = quotas[i];
    const std::string name = absl::StrCat("Options.quotas[", i, "].");
    if (quota.guaranteed_permille < 0 || quota.guaranteed_permille > kWhole) {
      return absl::InvalidArgumentError(absl::StrCat(name, "guaranteed_permille is ",
                                                     quota.guaranteed_permille,
                                                     "; it must be 0 to ", kWhole));
    }
    if (quota.max_permille < std::max(1, quota.guaranteed_permille) ||
        quota.max_permille > kWhole) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, "max_permille is ", quota.max_permille, "; it must be ",
          std::max(1, quota.guaranteed_permille), " to ", kWhole,
          quota.guaranteed_permille > 1 ? ", and so not below guaranteed_permille" : ""));
    }
    guaranteed += quota.guaranteed_permille;
    if (guaranteed > kWhole) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, "guaranteed_permille brings the sum of all guarantees to ", guaranteed,
                       "; it must be at most ", kWhole));
    }
    sequences += quota.sequences;
    if (quota.sequences < 0 || sequences > options.max_sequences) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, "sequences is ", quota.sequences, "; it must be at least 0, and all quotas' ",
          "together at most max_sequences, ", options.max_sequences));
    }
    for (size_t j = 0; j < i; ++j) {
      if (quotas[j].tenant != quota.tenant) continue;
      return absl::InvalidArgumentError(absl::StrCat(name, "tenant is '", quota.tenant,
                                                     "', which quotas[", j,
                                                     "] names already; each may have one quota"));
    }
  }
  return absl::OkStatus();
}

absl::Status CacheCore::CheckStrict(const Options& options) {
  if (!options.strict_tenants) return absl::OkStatus();
  if (options.quotas.empty()) {
    return absl::InvalidArgumentError(
        "Options.strict_tenants is set and quotas is empty; it keeps apart tenants with a quota");
  }
  for (size_t i = 0; i < options.quotas.size(); ++i) {
    const Quota& quota = options.quotas[i];
    const auto error = [&](const auto&... what) {
      return absl::InvalidArgumentError(absl::StrCat(
          "Options.quotas[", i, "] (tenant '", quota.tenant, "'): with strict_tenants ", what...));
    };
    if (quota.guaranteed_permille != quota.max_permille) {
      return error("guaranteed_permille and max_permille must be equal; they are ",
                   quota.guaranteed_permille, " and ", quota.max_permille);
    }
    if (quota.sequences == 0) {
      return error("sequences is 0; it must be at least 1: a tenant needs its own");
    }
    for (size_t g = 0; g < options.groups.size(); ++g) {
      const int32_t pages = options.groups[g].page_count;
      if (int64_t{pages} * quota.max_permille >= kWhole) continue;
      return error("the tenant would have no page of groups[", g, "]: ", quota.max_permille,
                   " thousandths of ", pages, " are less than one");
    }
  }
  return absl::OkStatus();
}

absl::Status CacheCore::InitAccounts(Group* g) const {
  const int64_t pages = g->options.page_count;
  int32_t guaranteed = 0;
  for (const Quota& quota : options_.quotas) {
    Account& account = g->accounts.emplace_back();
    account.guaranteed = static_cast<int32_t>(pages * quota.guaranteed_permille / kWhole);
    account.max = options_.strict_tenants
                      ? account.guaranteed
                      : static_cast<int32_t>(CeilDiv(pages * quota.max_permille, kWhole));
    guaranteed += account.guaranteed;
  }
  Account& rest = g->accounts.emplace_back();
  rest.max = g->options.page_count;
  if (options_.strict_tenants) {
    rest.guaranteed = rest.max = g->options.page_count - guaranteed;
    guaranteed = g->options.page_count;
  }
  for (Account& account : g->accounts) {
    const int32_t others = guaranteed - account.guaranteed;
    account.limit = std::min(account.max, g->options.page_count - others);
  }
  if (options_.quotas.empty() || g->account_of.Allocate(static_cast<size_t>(pages))) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory to note who pays for ", pages, " pages; lower page_count"));
}

void CacheCore::InitSeats() {
  int32_t left = options_.max_sequences;
  for (const Quota& quota : options_.quotas) {
    seats_.push_back({.alive = 0, .max = quota.sequences});
    left -= quota.sequences;
  }
  seats_.push_back({.alive = 0, .max = left});
}

// Nodes for each account with strict tenants: as many as a cache of its size would choose, or its
// share of what was asked for.
absl::StatusOr<std::vector<int32_t>> CacheCore::NodeBudgets() const {
  std::vector<int32_t> budgets;
  int64_t total = 0;
  int32_t rest = kWhole;
  for (int32_t a = 0; a < static_cast<int32_t>(seats_.size()); ++a) {
    const int32_t permille =
        IsNamed(a) ? options_.quotas[static_cast<size_t>(a)].max_permille : rest;
    rest -= permille;
    const int64_t nodes = options_.max_index_nodes > 0
                              ? int64_t{options_.max_index_nodes} * permille / kWhole
                              : DefaultNodes(a);
    total += nodes;
    if (total > kMaxNodes) {
      return absl::InvalidArgumentError(
          absl::StrCat("the prefix index would need ", total, " nodes and more; at most ",
                       kMaxNodes, " are possible: lower page_count or set max_index_nodes"));
    }
    budgets.push_back(static_cast<int32_t>(nodes));
  }
  return budgets;
}

std::string CacheCore::WhoIs(int32_t account) const {
  return IsNamed(account) ? absl::StrCat("tenant '", options_.quotas[account].tenant, "'")
                          : std::string("tenants without a quota");
}

// A batch is answered as one: what one tenant's sequences lack would show in the other's answer.
absl::Status CacheCore::CheckOneTenant(std::span<Sequence* const> sequences) const {
  for (const Sequence* sequence : sequences) {
    QUIRE_CHECK(sequence != nullptr, "a sequence of the batch is null");
    const int32_t account = StateOf(*sequence).account;
    const int32_t first = StateOf(*sequences[0]).account;
    if (account == first) continue;
    return OrBare(absl::StatusCode::kInvalidArgument, [&] {
      return absl::InvalidArgumentError(
          absl::StrCat("the batch has sequences of ", WhoIs(first), " and of ", WhoIs(account),
                       "; with strict_tenants make one call for each"));
    });
  }
  return absl::OkStatus();
}

// Few and rarely asked for: a sequence looks once.
int32_t CacheCore::PayerOf(const Namespace& ns) const {
  const auto others = static_cast<int32_t>(options_.quotas.size());
  if (others == 0) return 0;
  const std::optional<std::string_view> tenant = ns.tenant();
  if (!tenant.has_value()) return others;
  const auto it = std::find_if(options_.quotas.begin(), options_.quotas.end(),
                               [&](const Quota& quota) { return quota.tenant == *tenant; });
  return static_cast<int32_t>(it - options_.quotas.begin());
}

// "its pool has 5 (groups[0].page_count)", or which quota leaves less.
std::string CacheCore::LimitOf(int32_t group, int32_t account) const {
  const Group& g = groups_[group];
  const Account& payer = g.accounts[account];
  const std::string pool =
      absl::StrCat("its pool has ", g.options.page_count, " (groups[", group, "].page_count)");
  if (payer.limit == g.options.page_count) return pool;
  const std::string who = WhoIs(account);
  if (IsNamed(account) && payer.limit == payer.max) {
    return absl::StrCat(pool, ", of which ", who, " may have ", payer.limit, " (quotas[", account,
                        "].max_permille)");
  }
  return absl::StrCat(pool, ", of which ", who, " may have ", payer.limit, ", for ",
                      g.options.page_count - payer.limit,
                      " are guaranteed to other tenants (quotas)");
}

// Is there room for needs_ in the group? Says how many of the copies must be avoided for it.
bool CacheCore::Fits(int32_t group) {
  const Group& g = groups_[group];
  const auto accounts = static_cast<int32_t>(g.accounts.size());
  const auto least = [&](int32_t a) {  // what the account will have at least
    const Account& account = g.accounts[a];
    const Need& need = NeedOf(group, a);
    return int64_t{UsedBy(g, account)} - account.cached->size() + need.pages - need.avoid;
  };
  int64_t over = -int64_t{g.options.page_count};
  for (int32_t a = 0; a < accounts; ++a) {
    Need& need = NeedOf(group, a);
    need.avoid = std::max<int64_t>(0, least(a) - g.accounts[a].max);
    if (need.avoid > need.avoidable) return false;
    over += std::max<int64_t>(least(a), g.accounts[a].guaranteed);
  }
  for (int32_t a = 0; a < accounts && over > 0; ++a) {
    Need& need = NeedOf(group, a);
    const int64_t helps = std::max<int64_t>(0, least(a) - g.accounts[a].guaranteed);
    const int64_t more = std::min({over, helps, need.avoidable - need.avoid});
    need.avoid += more;
    over -= more;
  }
  return over <= 0;
}

// Puts `count` pages on the account and evicts until they are free. REQUIRES: they fit.
void CacheCore::Charge(int32_t group, int32_t account, int32_t count) {
  Group& g = groups_[group];
  Account& payer = g.accounts[account];
  payer.used += count;
  if (payer.used > payer.max) Evict(group, account, payer.used - payer.max);
  while (true) {
    int64_t over = -int64_t{g.options.page_count};
    int32_t giver = -1;
    int32_t most = 0;  // pages above its guarantee
    int32_t next = 0;  // of the account that gives after it
    for (size_t a = 0; a < g.accounts.size(); ++a) {
      const Account& other = g.accounts[a];
      over += std::max(other.used, other.guaranteed);
      const int32_t above = other.used - other.guaranteed;
      if (above <= 0 || other.cached->size() == 0) continue;
      if (above > most) {
        giver = static_cast<int32_t>(a);
        next = std::exchange(most, above);
      } else {
        next = std::max(next, above);
      }
    }
    if (over <= 0) return;
    QUIRE_CHECK(giver >= 0, "the need of a batch was computed wrongly");
    const auto pages = static_cast<int32_t>(std::min<int64_t>(over, std::max(1, most - next)));
    Evict(group, giver, std::min(pages, g.accounts[giver].cached->size()));
  }
}

void CacheCore::FillTenants(const Group& g, std::vector<TenantStats>* tenants) const {
  const bool first = tenants->empty();
  if (first) tenants->resize(g.accounts.size());
  for (size_t a = 0; a < g.accounts.size(); ++a) {
    const Account& account = g.accounts[a];
    TenantStats& out = (*tenants)[a];
    if (first && a < options_.quotas.size()) out.tenant = options_.quotas[a].tenant;
    out.pages_cached = account.cached->size();
    out.pages_live = account.used - out.pages_cached;
    out.guaranteed_pages = account.guaranteed;
    out.max_pages = account.max;
    out.evictions = account.evictions;
    out.copies = account.copies;
  }
}

absl::Status CacheCore::ValidateAccounts(int32_t group) const {
  const Group& g = groups_[group];
  if (g.account_of.size() == 0) return absl::OkStatus();
  const auto error = [&](size_t account, const std::string& what) {
    return absl::InternalError(absl::StrCat("group ", group, " account ", account, ": ", what));
  };
  std::vector<int32_t> used(g.accounts.size(), 0);
  std::vector<int32_t> cached(g.accounts.size(), 0);
  for (int32_t p = 0; p < g.options.page_count; ++p) {
    if (g.allocator.refs(PageId{p}) < 0) continue;
    const uint8_t account = g.account_of[static_cast<size_t>(p)];
    ++used[account];
    cached[account] += g.accounts[account].cached->Contains(PageId{p}) ? 1 : 0;
  }
  int64_t total = 0;
  for (size_t a = 0; a < used.size(); ++a) {
    const Account& account = g.accounts[a];
    if (used[a] != account.used) {
      return error(a, absl::StrCat("has ", used[a], " pages and is charged ", account.used));
    }
    if (cached[a] != account.cached->size()) return error(a, "caches pages of another account");
    if (used[a] > account.max) return error(a, "is above its maximum");
    total += std::max(used[a], account.guaranteed);
  }
  if (total > g.options.page_count) return error(0, "or another: a guarantee cannot be kept");
  for (int32_t slot = 0; slot < options_.max_sequences; ++slot) {
    const State& state = states_[static_cast<size_t>(slot)];
    if (!state.alive) continue;
    for (int32_t p = state.extents[group].first_page; p < state.extents[group].page_count; ++p) {
      if (AccountOf(g, Row(group, slot)[p]) != state.account) {
        return error(state.account, absl::StrCat("a page of slot ", slot, " is another's"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace quire
