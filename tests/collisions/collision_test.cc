// A collision of the prefix index's hash cannot give a wrong hit, and costs no right one.
//
// Built with keys of eight bits (QUIRE_HASH_BITS): whatever is looked up, nodes of other prefixes
// and of other namespaces stand under its very key. Pools are small, so that pages are given up and
// overwritten all the time. Each answer is compared with what the test itself keeps: a plain tree
// of tokens for each namespace, without any hash, and what each page holds. A hit must be exactly
// as long as the longest prefix that is there: one token more is a wrong hit, one less a lost one.
//
//   QUIRE_COLLISION_LOOKUPS=N   lookups in all; 10 million, or less with sanitizers, by default
//   QUIRE_COLLISION_SEED=K      another run; 1 by default

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "lib/hash.h"
#include "tests/support/manager_util.h"
#include "tests/support/seeded.h"

static_assert(QUIRE_HASH_BITS == 8, "this test is about collisions");

namespace quire::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kLookups = 500'000;
#else
constexpr int64_t kLookups = 10'000'000;
#endif

// More than there are keys of a root: some must be equal.
constexpr int kNamespaces = 300;
constexpr int kUnit = 4;  // tokens of a page
constexpr int kVocabulary = 3;
constexpr int kLongest = 6;   // pages of a prompt
constexpr int kPages = 1500;  // of the pool; prompts need many times that
constexpr int kLive = 8;      // sequences kept for a while

// Any number is a token. These agree in many of their bits.
constexpr std::array<TokenId, kVocabulary> kTokens = {0, INT32_MIN, 1 << 24};

// Units of a prompt. Fewer than the 16 successors of a prefix that a lookup tries for a partly
// matching page, so that what it must find is known; many of them begin alike.
constexpr std::array<std::array<int, kUnit>, 12> kWords = {{{0, 0, 0, 0},
                                                            {1, 1, 1, 1},
                                                            {2, 2, 2, 2},
                                                            {0, 0, 0, 1},
                                                            {0, 0, 1, 1},
                                                            {0, 0, 2, 1},
                                                            {0, 1, 1, 1},
                                                            {1, 1, 1, 0},
                                                            {1, 2, 0, 0},
                                                            {2, 2, 2, 0},
                                                            {2, 2, 1, 0},
                                                            {2, 0, 1, 2}}};

// Two kinds of name, so that tenants and adapters meet, too.
Namespace NamespaceOf(int ns) {
  Namespace name;
  if (ns == 0) return name;
  const std::string value = std::to_string(ns / 2);
  return ns % 2 == 0 ? name.SetTenant(value) : name.SetLora(value);
}

// One cache and all that the test knows of it.
class Checked {
 public:
  Checked(Reclaim reclaim, int min_copy_tokens, uint64_t seed) : random_(seed) {
    options_ = OneGroup(kUnit, kPages);
    options_.reclaim = reclaim;
    options_.min_copy_tokens = min_copy_tokens;
    options_.hash_seed = seed;
    cache_ = NewCache(options_);
    for (int ns = 0; ns < kNamespaces; ++ns) {
      names_.push_back(NamespaceOf(ns));
      nodes_.emplace_back();  // its root
    }
  }

  // Draws a prompt and asks for it. Empty, or what was wrong.
  std::string Step() {
    ns_ = random_.Below(kNamespaces);
    Draw();
    expected_ = LongestPrefix();
    ++lookups;
    (expected_ % kUnit == 0 ? full_hits : partial_hits) += expected_ > 0 ? 1 : 0;
    if (random_.Below(8) != 0) {
      const int32_t hit = cache_->MatchLength(prompt_, names_[ns_]);
      return hit == expected_ ? "" : Wrong("MatchLength", hit);
    }
    Sequence sequence = MustStart(*cache_, prompt_, names_[ns_]);
    if (sequence.hit_tokens() != expected_) return Wrong("Start", sequence.hit_tokens());
    std::string error = CheckPages(sequence);
    if (error.empty()) error = ComputeRest(sequence);
    if (random_.Below(2) == 0) {
      live_.push_back({std::move(sequence), stands_});
      Use(stands_, 1);
    }
    if (live_.size() > kLive) {
      Use(live_.front().stands, -1);
      live_.pop_front();
    }
    return error;
  }

  // Namespaces whose roots have a key that an earlier one has.
  int EqualRootKeys() const {
    std::set<uint64_t> keys;
    int equal = 0;
    for (const Namespace& name : names_) {
      const std::string bytes = name.Encode();
      equal +=
          keys.insert(HashBytes(bytes.data(), bytes.size(), options_.hash_seed)).second ? 0 : 1;
    }
    return equal;
  }

  const KvCache& cache() const { return *cache_; }

  int64_t lookups = 0;
  int64_t full_hits = 0;
  int64_t partial_hits = 0;

 private:
  // A prefix of tokens of one namespace.
  struct Node {
    std::array<int32_t, kVocabulary> next{};  // 0: there is none
    int32_t parent = 0;
    int32_t pages = 0;  // findable, that end here
    int32_t uses = 0;   // of those, all from here on, and the live sequences that stand there
  };
  struct Live {
    Sequence sequence;
    int32_t stands;  // node of its last whole page
  };

  void Draw() {
    symbols_.clear();
    const int length = 1 + random_.Below(kUnit * kLongest);
    while (static_cast<int>(symbols_.size()) < length) {
      // One of three words half of the time, so that there are hits at all lengths.
      const int words = random_.Below(2) == 0 ? 3 : static_cast<int>(kWords.size());
      for (const int symbol : kWords[static_cast<size_t>(random_.Below(words))]) {
        symbols_.push_back(symbol);
      }
    }
    symbols_.resize(static_cast<size_t>(length));
    prompt_.clear();
    for (const int symbol : symbols_) prompt_.push_back(kTokens[static_cast<size_t>(symbol)]);
  }

  int32_t Next(int32_t node, size_t position) const {
    return nodes_[static_cast<size_t>(node)].next[static_cast<size_t>(symbols_[position])];
  }

  // Is a page that begins with the tokens down to `node`, `depth` of its own, findable? Or at least
  // known?
  bool AnyPageBelow(int32_t node, int depth) const {
    return AnyBelow(node, depth, [](const Node& at) { return at.pages > 0; });
  }
  bool AnyKnownBelow(int32_t node, int depth) const {
    return AnyBelow(node, depth, [](const Node& at) { return at.uses > 0; });
  }
  template <typename Predicate>
  bool AnyBelow(int32_t node, int depth, const Predicate& predicate) const {
    const Node& at = nodes_[static_cast<size_t>(node)];
    if (depth == kUnit) return predicate(at);
    return std::any_of(at.next.begin(), at.next.end(), [&](int32_t next) {
      return next != 0 && AnyBelow(next, depth + 1, predicate);
    });
  }

  // The node is needed once more, or once less, and so is the way to it.
  void Use(int32_t node, int32_t times) {
    for (; node >= kNamespaces; node = nodes_[static_cast<size_t>(node)].parent) {
      nodes_[static_cast<size_t>(node)].uses += times;
    }
  }

  // What a lookup must find: whole pages while they are there, then as many tokens of one more as
  // are worth a copy; the last token is always left. A page that is gone while its prefix is still
  // known, because of what stands behind it, ends the hit: nothing is copied then.
  int32_t LongestPrefix() const {
    const auto limit = static_cast<int32_t>(prompt_.size()) - 1;
    int32_t node = ns_;
    int32_t whole = 0;
    int32_t length = 0;
    for (int32_t at = ns_; length < limit; ++length) {
      at = Next(at, static_cast<size_t>(length));
      const int depth = length % kUnit + 1;
      if (at == 0 ||
          !(depth == kUnit ? nodes_[static_cast<size_t>(at)].uses > 0 : AnyKnownBelow(at, depth))) {
        break;
      }
      if (depth < kUnit) continue;
      if (nodes_[static_cast<size_t>(at)].pages == 0) return whole;
      node = at;
      whole = length + 1;
    }
    // Only of a page that is there can something be copied.
    int32_t partial = 0;
    for (int32_t at = node; whole + partial < limit && partial < kUnit - 1; ++partial) {
      at = Next(at, static_cast<size_t>(whole + partial));
      if (at == 0 || !AnyPageBelow(at, partial + 1)) break;
    }
    return partial >= options_.min_copy_tokens ? whole + partial : whole;
  }

  std::string Wrong(const std::string& who, int32_t hit) const {
    std::string text = who + " answered " + std::to_string(hit) + ", not " +
                       std::to_string(expected_) + ", in namespace " + std::to_string(ns_) + " for";
    for (const int symbol : symbols_) text += ' ' + std::to_string(symbol);
    return text;
  }

  // Every page of the hit must hold this very prefix of this very namespace.
  std::string CheckPages(const Sequence& sequence) {
    const std::vector<int32_t> pages = PagesOf(sequence);
    const int32_t hit = sequence.hit_tokens();
    int32_t node = ns_;
    for (int32_t t = 0; t < hit; ++t) {
      node = Next(node, static_cast<size_t>(t));
      const int32_t page = pages[static_cast<size_t>(t / kUnit)];
      if (holds_[static_cast<size_t>(page)][static_cast<size_t>(t % kUnit)] != node) {
        return Wrong("page " + std::to_string(page) + " holds something else: Start", hit);
      }
    }
    return "";
  }

  int32_t Grow(int32_t node, size_t position) {
    const int32_t found = Next(node, position);
    if (found != 0) return found;
    const auto made = static_cast<int32_t>(nodes_.size());
    nodes_[static_cast<size_t>(node)].next[static_cast<size_t>(symbols_[position])] = made;
    nodes_.emplace_back().parent = node;
    return made;
  }

  // The page was handed out anew or may be written: nobody finds it any more.
  void Forget(int32_t page) {
    int32_t& node = found_at_[static_cast<size_t>(page)];
    if (node != 0) {
      --nodes_[static_cast<size_t>(node)].pages;
      Use(node, -1);
    }
    node = 0;
  }

  // Computes what was not hit, as an engine would, and writes down what the pages hold then.
  std::string ComputeRest(Sequence& sequence) {
    const auto hit = static_cast<size_t>(sequence.hit_tokens());
    const std::vector<int32_t> before = PagesOf(sequence);
    if (!sequence.Reserve(static_cast<int32_t>(prompt_.size() - hit)).ok()) {
      return "Reserve failed, though almost all pages are cached";
    }
    const std::vector<int32_t> pages = PagesOf(sequence);
    for (size_t p = hit / kUnit; p < pages.size(); ++p) Forget(pages[p]);
    for (const PageCopy& copy : RunPlan(*cache_)) {
      const auto from = static_cast<size_t>(copy.from_page);
      holds_[static_cast<size_t>(copy.to_page)] = holds_[from];
    }
    int32_t node = stands_ = ns_;
    for (size_t t = 0; t < prompt_.size(); ++t) {
      node = Grow(node, t);
      const int32_t page = pages[t / kUnit];
      int32_t& slot = holds_[static_cast<size_t>(page)][t % kUnit];
      if (t >= hit) slot = node;
      if (slot != node) return Wrong("after the copies a page holds something else: Start", 0);
      if (t >= hit && t % kUnit == kUnit - 1) {
        found_at_[static_cast<size_t>(page)] = node;
        ++nodes_[static_cast<size_t>(node)].pages;
        Use(node, 1);
      }
      if (t % kUnit == kUnit - 1) stands_ = node;
    }
    const absl::Status status = sequence.Commit(std::span<const TokenId>(prompt_).subspan(hit));
    return status.ok() ? "" : status.ToString();
  }

  Options options_;
  Dice random_;
  std::unique_ptr<KvCache> cache_;
  std::vector<Namespace> names_;
  std::vector<Node> nodes_;  // the roots first, one for each namespace
  std::vector<int32_t> found_at_ = std::vector<int32_t>(kPages, 0);
  std::vector<std::array<int32_t, kUnit>> holds_ =
      std::vector<std::array<int32_t, kUnit>>(kPages, std::array<int32_t, kUnit>{});
  std::deque<Live> live_;  // after cache_: gone before it

  // Of the lookup under way.
  int ns_ = 0;
  std::vector<int> symbols_;
  Tokens prompt_;
  int32_t expected_ = 0;
  int32_t stands_ = 0;
};

TEST(CollisionTest, KeysHaveEightBits) {
  std::set<uint64_t> keys;
  for (uint64_t i = 0; i < 10'000; ++i) {
    const uint64_t hash = HashBytes(&i, sizeof(i), 0);
    keys.insert(ChainKey(HashBytes("", 0, 0), hash));
    keys.insert(hash);
  }
  EXPECT_LE(keys.size(), 256u);
  EXPECT_GT(keys.size(), 200u);
}

TEST(CollisionTest, NoWrongHitAndNoneLost) {
  const int64_t lookups = FromEnvironment("QUIRE_COLLISION_LOOKUPS", kLookups);
  const auto seed = static_cast<uint64_t>(FromEnvironment("QUIRE_COLLISION_SEED", 1));
  // What pages that were given up leave behind is found by key alone, so each policy plays.
  const std::vector<Reclaim> policies = {Reclaim::kLearned,       Reclaim::kLru, Reclaim::kFifo,
                                         Reclaim::kAgedFrequency, Reclaim::k2Q,  Reclaim::kS3Fifo};
  constexpr int64_t kPerCache = 500'000;  // then a fresh one, and another policy
  int64_t done = 0;
  int64_t full = 0;
  int64_t partial = 0;
  int64_t evictions = 0;
  refused_candidates = 0;
  for (int64_t round = 0; done < lookups; ++round) {
    const Reclaim reclaim = policies[static_cast<size_t>(round) % policies.size()];
    const int64_t until = std::min(lookups, done + std::min(kPerCache, lookups / 6 + 1));
    Checked checked(reclaim, round % 2 == 0 ? 1 : 3, seed * 1000 + static_cast<uint64_t>(round));
    EXPECT_GE(checked.EqualRootKeys(), kNamespaces - 256);
    for (; done < until; ++done) {
      const std::string error = checked.Step();
      ASSERT_EQ(error, "") << "lookup " << done << "; QUIRE_COLLISION_SEED=" << seed
                           << " QUIRE_COLLISION_LOOKUPS=" << lookups;
    }
    ASSERT_OK(checked.cache().Validate());
    full += checked.full_hits;
    partial += checked.partial_hits;
    evictions += StatsOf(checked.cache()).evictions;
  }
  std::cout << "scorecard: collisions: " << done << " lookups, 0 wrong: " << full
            << " hits of whole pages, " << partial << " into a page; " << evictions
            << " pages given up; " << refused_candidates << " candidates of equal key refused\n";
  // That the run was what it says.
  EXPECT_GT(full, lookups / 20);
  EXPECT_GT(partial, lookups / 20);
  EXPECT_GT(evictions, lookups / 20);
  EXPECT_GT(refused_candidates, lookups);
}

}  // namespace
}  // namespace quire::testing
