#include "tests/support/manager_util.h"

#include <sstream>

namespace quire::testing {

std::string Snapshot(const KvCache& cache, const std::vector<const Sequence*>& sequences) {
  std::ostringstream out;
  const Stats stats = cache.stats();
  for (const GroupStats& group : stats.groups) {
    out << "free " << group.pages_free << " live " << group.pages_live << " cached "
        << group.pages_cached << " bytes " << group.bytes_live << " evictions " << group.evictions
        << " copies " << group.copies << '\n';
  }
  const MissTokens& missed = stats.missed;
  out << "sequences " << stats.sequences << " nodes " << stats.index_nodes << " looked up "
      << stats.tokens_looked_up << " hit " << stats.tokens_hit << " missed " << missed.last_token
      << ' ' << missed.absent << ' ' << missed.page_gone << ' ' << missed.unaligned << ' '
      << missed.disabled << " not indexed " << stats.commits_not_indexed << " failed "
      << stats.copies_failed << '\n';
  for (const Sequence* sequence : sequences) {
    out << "length " << sequence->length() << " capacity " << sequence->capacity() << " hit "
        << sequence->hit_tokens() << " valid " << sequence->valid_length() << " pages";
    for (size_t g = 0; g < stats.groups.size(); ++g) {
      out << " /";
      for (const int32_t page : PagesOf(*sequence, static_cast<int32_t>(g))) out << ' ' << page;
    }
    out << '\n';
  }
  return out.str();
}

}  // namespace quire::testing
