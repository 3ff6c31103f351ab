// Rows of the argument matrix: options, KvCache, Sequence, BlockAllocator, Namespace.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "quire/block_allocator.h"
#include "quire/kv_cache.h"
#include "tests/support/argument_matrix.h"
#include "tests/support/manager_util.h"

namespace quire::testing {

namespace {

Options TwoGroups() {
  Options options = MakeOptions({Group(4, 16), Group(8, 16, 6)});
  options.max_sequences = 4;
  options.max_sequence_tokens = 64;
  return options;
}

// A cache in use: a cached prompt, and a sequence with some room.
struct Scene {
  Scene() : cache(NewCache(TwoGroups())) {
    Compute(*cache, Iota(100, 17));
    live = Compute(*cache, Iota(0, 10));
    if (!live.Reserve(2).ok()) std::abort();
    RunPlan(*cache);
  }

  // Runs `call`; a refusal must leave everything as it was.
  template <typename Call>
  std::string Run(const Call& call) {
    const std::string before = Snapshot(*cache, {&live});
    std::string answer = LetterOf(StatusOf(call(*this)));
    if (answer[0] != 'o' && Snapshot(*cache, {&live}) != before) answer = "! changed: " + answer;
    const absl::Status valid = cache->Validate();
    return valid.ok() ? answer : "! " + valid.ToString();
  }

  std::unique_ptr<KvCache> cache;
  Sequence live;
};

template <typename Integer, typename Call>
Row InScene(const std::string& name, const std::string& answers, const std::string& word,
            const Call& call) {
  return {name, EdgesOf<Integer>(), answers, word, [call](int64_t value) {
            Scene scene;
            return scene.Run([&](Scene& s) { return call(s, static_cast<Integer>(value)); });
          }};
}

template <typename Integer, typename Set>
Row Option(const std::string& name, const std::string& answers, const Set& set) {
  const std::string field = name.substr(name.find("::") + 2);
  return {name, EdgesOf<Integer>(), answers, field, [set](int64_t value) {
            Options options = TwoGroups();
            set(options, static_cast<Integer>(value));
            absl::StatusOr<std::unique_ptr<KvCache>> cache = KvCache::Create(options);
            if (!cache.ok()) return LetterOf(cache);
            // What was accepted works, and its sums are numbers.
            {
              absl::StatusOr<Sequence> sequence = (*cache)->Start(Tokens{7});
              if (!sequence.ok()) return "! Start: " + sequence.status().ToString();
              const absl::Status fed = Feed(**cache, *sequence, {7});
              if (!fed.ok()) return "! " + fed.ToString();
              (*cache)->stats();
            }
            const absl::Status valid = (*cache)->Validate();
            return valid.ok() ? std::string("o") : "! " + valid.ToString();
          }};
}

void AddOptions(std::vector<Row>* rows) {
  using I32 = int32_t;
  const auto group = [&](const char* name, const char* answers, int32_t GroupOptions::*field) {
    rows->push_back(Option<I32>(name, answers, [field](Options& o, I32 v) {
      for (GroupOptions& g : o.groups) g.*field = v;
    }));
  };
  group("GroupOptions::tokens_per_page", "iiioi", &GroupOptions::tokens_per_page);
  group("GroupOptions::page_count", "iiioi", &GroupOptions::page_count);
  group("GroupOptions::lookback_tokens", "iiooo", &GroupOptions::lookback_tokens);
  rows->push_back(Option<int64_t>("GroupOptions::page_bytes", "iiooi",
                                  [](Options& o, int64_t v) { o.groups[1].page_bytes = v; }));
  // The largest that fits.
  rows->push_back(Option<int64_t>("GroupOptions::page_bytes", "oioii",
                                  [](Options& o, int64_t v) { o.groups[1].page_bytes = v; }));
  rows->back().values = {INT64_MAX / 16, INT64_MAX / 16 + 1, 1 << 30, INT64_MAX - 1, INT64_MIN + 1};
  const auto option = [&](const char* name, const char* answers, int32_t Options::*field) {
    rows->push_back(Option<I32>(name, answers, [field](Options& o, I32 v) { o.*field = v; }));
  };
  option("Options::max_sequences", "iiioi", &Options::max_sequences);
  option("Options::max_sequence_tokens", "iiioi", &Options::max_sequence_tokens);
  option("Options::min_copy_tokens", "iiioi", &Options::min_copy_tokens);
  option("Options::max_rollback_tokens", "iiooi", &Options::max_rollback_tokens);
  option("Options::max_index_nodes", "iiooi", &Options::max_index_nodes);
  rows->push_back(Option<uint8_t>("Options::reclaim", "oiooi",
                                  [](Options& o, uint8_t v) { o.reclaim = Reclaim{v}; }));
  rows->push_back(Option<uint64_t>("Options::hash_seed", "ooooo",
                                   [](Options& o, uint64_t v) { o.hash_seed = v; }));
  const auto quota = [&](const char* name, const char* answers, int32_t Quota::*field) {
    rows->push_back(Option<I32>(name, answers, [field](Options& o, I32 v) {
      o.quotas.resize(1);
      o.quotas[0].*field = v;
    }));
  };
  quota("Quota::guaranteed_permille", "iiooi", &Quota::guaranteed_permille);
  quota("Quota::max_permille", "iiioi", &Quota::max_permille);
  quota("Quota::sequences", "iiooi", &Quota::sequences);
}

void AddRetention(std::vector<Row>* rows) {
  const auto retention = [&](auto zero, const char* field, const char* answers, auto set) {
    using Integer = decltype(zero);
    rows->push_back(InScene<Integer>(
        std::string("Retention::") + field, answers, field, [set](Scene& s, Integer v) {
          Retention entry;
          set(entry, v);
          return s.cache->Start(Iota(0, 9), {}, {.retention = {&entry, 1}}).status();
        }));
  };
  retention(int32_t{}, "begin", "iiooi", [](Retention& r, int32_t v) { r.begin = v; });
  retention(int32_t{}, "end", "iiioo", [](Retention& r, int32_t v) { r.end = v; });
  retention(int32_t{}, "priority", "iiooi", [](Retention& r, int32_t v) { r.priority = v; });
  retention(int64_t{}, "lifetime_steps", "iiooo",
            [](Retention& r, int64_t v) { r.lifetime_steps = v, r.priority = 90; });
}

// Tokens are compared and hashed: every value is as good as another.
void AddTokens(std::vector<Row>* rows) {
  rows->push_back(InScene<TokenId>("KvCache::Start(prompt)", "ooooo", "", [](Scene& s, TokenId v) {
    return s.cache->Start(Tokens{v, v}).status();
  }));
  rows->push_back(
      InScene<TokenId>("KvCache::MatchLength(prompt)", "ooooo", "", [](Scene& s, TokenId v) {
        return s.cache->MatchLength(Tokens(9, v)) == 0 ? absl::OkStatus()
                                                       : absl::InternalError("a hit");
      }));
  rows->push_back(
      InScene<TokenId>("KvCache::CommitAll(tokens)", "ooooo", "", [](Scene& s, TokenId v) {
        Sequence* const all[] = {&s.live};
        const int32_t counts[] = {1};
        return s.cache->CommitAll(all, Tokens{v}, counts);
      }));
  rows->push_back(
      InScene<TokenId>("Sequence::Commit(tokens)", "ooooo", "", [](Scene& s, TokenId v) {
        return s.live.Commit(Tokens{v, v});
      }));
}

void AddCache(std::vector<Row>* rows) {
  rows->push_back(InScene<int64_t>("KvCache::CheckFits(total_tokens)", "iiioi", "tokens",
                                   [](Scene& s, int64_t v) { return s.cache->CheckFits(v, 1); }));
  rows->push_back(InScene<int32_t>("KvCache::CheckFits(step_tokens)", "iiioo", "step_tokens",
                                   [](Scene& s, int32_t v) { return s.cache->CheckFits(10, v); }));
  rows->push_back(
      InScene<int32_t>("KvCache::ReserveAll(counts)", "iiooi", "tokens", [](Scene& s, int32_t v) {
        Sequence* const all[] = {&s.live};
        const int32_t counts[] = {v};
        return s.cache->ReserveAll(all, counts);
      }));
  rows->push_back(InScene<int32_t>(
      "KvCache::CommitAll(counts)", "CCooC", "commit past capacity", [](Scene& s, int32_t v) {
        Sequence* const all[] = {&s.live};
        const int32_t counts[] = {v};
        return s.cache->CommitAll(all, Tokens(v == 1 ? 1 : 0, 5), counts);
      }));
  // A table of the live sequence, of `count` more tokens, in `group`.
  const auto table = [](Scene& s, int32_t count, int32_t group, bool pack) -> absl::Status {
    const Sequence* const all[] = {&s.live};
    const int32_t counts[] = {count};
    int64_t row_begin[1];
    int32_t lengths[1];
    PageId ids[8];
    const PageTableBuffers buffers = {row_begin, lengths};
    if (pack) return s.cache->PackPageTable(all, counts, GroupId{group}, buffers, ids).status();
    s.cache->MakePageTable(all, counts, GroupId{group}, buffers);
    return absl::OkStatus();
  };
  for (const bool pack : {false, true}) {
    const std::string call = pack ? "KvCache::PackPageTable" : "KvCache::MakePageTable";
    rows->push_back(InScene<int32_t>(call + "(counts)", "CCooC", "Reserve first",
                                     [=](Scene& s, int32_t v) { return table(s, v, 0, pack); }));
    rows->push_back(InScene<int32_t>(call + "(group)", "CCooC", "no such group",
                                     [=](Scene& s, int32_t v) { return table(s, 0, v, pack); }));
  }
  rows->push_back(InScene<uint64_t>("KvCache::Retire(ticket)", "oCoCC", "tickets retire once",
                                    [](Scene& s, uint64_t v) {
                                      s.cache->Retire(Ticket{v});
                                      return absl::OkStatus();
                                    }));
  rows->push_back(InScene<int32_t>("Sequence::Reserve(tokens)", "iiooi", "tokens",
                                   [](Scene& s, int32_t v) { return s.live.Reserve(v); }));
  rows->push_back(InScene<int32_t>("Sequence::Truncate(length)", "iiooi", "truncate",
                                   [](Scene& s, int32_t v) { return s.live.Truncate(v); }));
  rows->push_back(
      InScene<int32_t>("Sequence::pages(group)", "CCooC", "no such group", [](Scene& s, int32_t v) {
        return s.live.pages(GroupId{v}).empty() ? absl::InternalError("no pages")
                                                : absl::OkStatus();
      }));
}

void AddAllocator(std::vector<Row>* rows) {
  rows->push_back(
      {"BlockAllocator::Create(page_count)", EdgesOf<int32_t>(), "iiioi", "page_count",
       [](int64_t v) { return LetterOf(BlockAllocator::Create(static_cast<int32_t>(v))); }});
  // Of two live pages, or (Free) two parked ones.
  const auto page = [&](const char* name, const char* answers, bool parked, auto call) {
    rows->push_back({std::string("BlockAllocator::") + name + "(page)", EdgesOf<int32_t>(), answers,
                     "not in the pool", [=](int64_t v) {
                       BlockAllocator pages = *BlockAllocator::Create(2);
                       PageId ids[2];
                       if (!pages.Allocate(ids).ok()) return std::string("! Allocate");
                       for (const PageId id : ids) {
                         if (parked && !pages.Unref(id)) return std::string("! Unref");
                       }
                       call(pages, PageId{static_cast<int32_t>(v)});
                       return std::string("o");
                     }});
  };
  page("Ref", "CCooC", false, [](BlockAllocator& a, PageId p) { a.Ref(p); });
  page("Unref", "CCooC", false, [](BlockAllocator& a, PageId p) { return a.Unref(p); });
  page("Free", "CCooC", true, [](BlockAllocator& a, PageId p) { a.Free(p); });
  page("Release", "CCooC", false, [](BlockAllocator& a, PageId p) { a.Release(p); });
  page("refs", "CCooC", false, [](BlockAllocator& a, PageId p) { return a.refs(p); });
  page("Prefetch", "ooooo", false, [](BlockAllocator& a, PageId p) { a.Prefetch(p); });
}

}  // namespace

std::vector<Row> ManagerRows() {
  std::vector<Row> rows;
  AddOptions(&rows);
  AddRetention(&rows);
  AddTokens(&rows);
  AddCache(&rows);
  AddAllocator(&rows);
  rows.push_back({"Namespace::AddMedia(position)", EdgesOf<int64_t>(), "ooooo", "", [](int64_t v) {
                    const std::string once = Namespace().AddMedia(v, "d").Encode();
                    return once == Namespace().AddMedia(v, "d").Encode() ? "o" : "! unequal";
                  }});
  return rows;
}

}  // namespace quire::testing
