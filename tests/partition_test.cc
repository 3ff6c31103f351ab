// The partition matrix: requests that differ in one dimension share nothing, whichever way one of
// them came into the cache and the other asks; requests that are equal share all there is.
//
// A cell is (pair of requests that differ) x (who of them is first) x (path) x (geometry). In every
// cell both halves are asserted: the equal request hits exactly so many tokens, so that the 0 of
// the other one means something.

#include <cstdint>
#include <functional>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

constexpr int32_t kPages = 5;  // whole ones of a prompt, each as large as the geometry's largest
constexpr int32_t kStream = 256;
constexpr TokenId kElsewhere = 1'000'000;  // tokens that are in no stream

// --- Who asks.

struct Request {
  Namespace ns;
  Tokens stream;  // what it begins with; a path takes as much as it needs
};

Tokens First(const Request& request, int32_t count) {
  return Tokens(request.stream.begin(), request.stream.begin() + count);
}

struct Difference {
  std::string name;
  std::function<Request(int32_t page)> one;  // `page`: tokens of the geometry's largest page
  std::function<Request(int32_t page)> other;
};

Difference Names(const std::string& name, const Namespace& one, const Namespace& other) {
  const auto made = [](const Namespace& ns) {
    return [ns](int32_t) { return Request{ns, Iota(1, kStream)}; };
  };
  return {name, made(one), made(other)};
}

Namespace Tenant(std::string_view value) { return Namespace().SetTenant(value); }
Namespace Lora(std::string_view value) { return Namespace().SetLora(value); }
Namespace Model(std::string_view value) { return Namespace().SetModel(value); }
Namespace Media(int64_t position, std::string_view digest) {
  return Namespace().AddMedia(position, digest);
}

// All fields set, so that a field is told apart beside others, too.
Namespace Everything() {
  return Tenant("org").SetLora("style").SetModel("llama@r1/bf16").AddMedia(3, "cat");
}

std::vector<Difference> SingleFields() {
  const Namespace none;
  return {
      Names("tenant", Tenant("a"), Tenant("b")),
      Names("tenant set", none, Tenant("a")),
      Names("tenant set to nothing", none, Tenant("")),
      Names("tenant nothing or something", Tenant(""), Tenant("a")),
      Names("tenant among all fields", Everything(), Everything().SetTenant("org2")),
      Names("lora", Lora("a"), Lora("b")),
      Names("lora set", none, Lora("a")),
      Names("lora set to nothing", none, Lora("")),
      Names("lora among all fields", Everything(), Everything().SetLora("styl")),
      Names("weights", Model("llama@r1/bf16"), Model("qwen@r1/bf16")),
      Names("revision", Model("llama@r1/bf16"), Model("llama@r2/bf16")),
      Names("K/V type", Model("llama@r1/bf16"), Model("llama@r1/fp8")),
      Names("model set", none, Model("llama")),
      Names("model set to nothing", none, Model("")),
      Names("model among all fields", Everything(), Everything().SetModel("llama@r1/fp8")),
      Names("media", none, Media(3, "cat")),
      Names("media without a digest", none, Media(3, "")),
      Names("media position", Media(3, "cat"), Media(4, "cat")),
      Names("media position, negative", Media(-1, "cat"), Media(1, "cat")),
      Names("media position, far", Media(1, "cat"), Media(1 + (int64_t{1} << 32), "cat")),
      Names("media position, ends", Media(std::numeric_limits<int64_t>::min(), "cat"),
            Media(std::numeric_limits<int64_t>::max(), "cat")),
      Names("media digest", Media(3, "cat"), Media(3, "dog")),
      Names("media count, same image", Media(3, "cat"), Media(3, "cat").AddMedia(3, "cat")),
      Names("media count, one more", Media(3, "cat"), Media(3, "cat").AddMedia(9, "dog")),
      Names("media exchanged", Media(3, "cat").AddMedia(9, "dog"),
            Media(3, "dog").AddMedia(9, "cat")),
  };
}

// Known confusions of keys that are put together from parts.
std::vector<Difference> Confusions() {
  const std::string nul("a\0b", 3);
  const std::string long_value(100'000, 'x');
  // What an encoded LoRA field "x" looks like.
  const std::string fake("\x02\x01\0\0\0\0\0\0\0x", 10);
  return {
      Names("framing, tenant and lora", Tenant("org_1").SetLora("2345"),
            Tenant("org_12345").SetLora("")),
      Names("framing, lora and model", Lora("ab").SetModel("c"), Lora("a").SetModel("bc")),
      Names("framing, two media", Media(1, "ab").AddMedia(2, "c"), Media(1, "a").AddMedia(2, "bc")),
      Names("lora named like a tenant", Tenant("x"), Lora("x")),
      Names("model named like a lora", Lora("x"), Model("x")),
      Names("media named like a model", Model("x"), Media(0, "x")),
      Names("tenant and lora exchanged", Tenant("x").SetLora("y"), Tenant("y").SetLora("x")),
      Names("lora and model exchanged", Lora("x").SetModel("y"), Lora("y").SetModel("x")),
      Names("a value that looks like the next field", Tenant(fake), Tenant("").SetLora("x")),
      Names("a value that ends with the next field", Tenant("t" + fake), Tenant("t").SetLora("x")),
      Names("NUL inside", Tenant(nul), Tenant("a")),
      Names("NUL at the end", Tenant("a"), Tenant(std::string("a\0", 2))),
      Names("behind a NUL", Tenant(nul), Tenant(std::string("a\0c", 3))),
      Names("only a NUL", Tenant(""), Tenant(std::string(1, '\0'))),
      Names("tag bytes", Tenant("\x01"), Tenant("\x02")),
      Names("bytes above 127", Lora("\xff"), Lora("\x7f")),
      Names("capitals", Tenant("a"), Tenant("A")),
      Names("a space", Tenant("a"), Tenant("a ")),
      Names("long, last byte", Tenant(long_value + "1"), Tenant(long_value + "2")),
      Names("long, one byte more", Model(long_value), Model(long_value + "x")),
      Names("length of 256", Lora(std::string(256, 'x')), Lora("")),
  };
}

Request Shifted(const Namespace& ns, int32_t by) { return {ns, Iota(1 + by, kStream)}; }

std::vector<Difference> TokenDifferences() {
  const auto plain = [](int32_t) { return Shifted({}, 0); };
  const auto with_first = [](TokenId token) {
    return [token](int32_t) {
      Request request = Shifted({}, 0);
      request.stream[0] = token;
      return request;
    };
  };
  return {
      {"tokens before", plain, with_first(0)},
      {"tokens before, high bit", with_first(7), with_first(7 + INT32_MIN)},
      {"tokens before, sign", with_first(5), with_first(-5)},
      {"tokens before, high half", with_first(7), with_first(7 + (1 << 16))},
      // The other's first page is the one's second.
      {"token position", plain, [](int32_t page) { return Shifted({}, page); }},
      {"token position, by one", plain, [](int32_t) { return Shifted({}, 1); }},
      {"tokens before, and fields", [](int32_t) { return Shifted(Everything(), 0); },
       [](int32_t) { return Shifted(Everything(), 7); }},
  };
}

// An axis: a field with two values.
struct Axis {
  std::string name;
  std::function<void(Request&, int value, int32_t page)> set;
};

std::vector<Axis> Axes() {
  return {
      {"tenant", [](Request& r, int v, int32_t) { r.ns.SetTenant(v == 0 ? "a" : "b"); }},
      {"lora", [](Request& r, int v, int32_t) { r.ns.SetLora(v == 0 ? "a" : "b"); }},
      {"model", [](Request& r, int v, int32_t) { r.ns.SetModel(v == 0 ? "a" : "b"); }},
      {"media digest", [](Request& r, int v, int32_t) { r.ns.AddMedia(1, v == 0 ? "a" : "b"); }},
      {"media position", [](Request& r, int v, int32_t) { r.ns.AddMedia(v, "c"); }},
      {"media count",
       [](Request& r, int v, int32_t) {
         for (int i = 0; i <= v; ++i) r.ns.AddMedia(9, "d");
       }},
      {"first token", [](Request& r, int v, int32_t) { r.stream[0] = v; }},
      {"token position",
       [](Request& r, int v, int32_t page) {
         if (v == 1) r.stream = Iota(1 + page, kStream);
       }},
  };
}

// Two at a time: both differ, or each of the two requests has one of them.
std::vector<Difference> Combinations() {
  std::vector<Difference> pairs;
  const std::vector<Axis> axes = Axes();
  for (size_t i = 0; i < axes.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const auto made = [a = axes[i], b = axes[j]](int first, int second) {
        return [=](int32_t page) {
          Request request = {{}, Iota(1, kStream)};
          // The one that replaces all tokens goes before the one that sets the first.
          a.set(request, first, page);
          b.set(request, second, page);
          return request;
        };
      };
      const std::string name = axes[i].name + " and " + axes[j].name;
      pairs.push_back({name + ", both", made(0, 0), made(1, 1)});
      pairs.push_back({name + ", crossed", made(1, 0), made(0, 1)});
    }
  }
  return pairs;
}

// --- Where.

struct Geometry {
  std::string name;
  Options options;
  int32_t page;         // tokens of the largest page
  bool only_windows;    // then a hit needs only the last pages
  bool uniform = true;  // pages of one size; otherwise a failed copy empties the index
};

Geometry MakeGeometry(const std::string& name, std::vector<GroupOptions> groups, int32_t page) {
  Geometry geometry = {name, MakeOptions(std::move(groups)), page, true};
  geometry.options.min_copy_tokens = 1;
  for (const GroupOptions& group : geometry.options.groups) {
    geometry.only_windows = geometry.only_windows && group.lookback_tokens != kAllTokens;
    geometry.uniform = geometry.uniform && group.tokens_per_page == page;
  }
  return geometry;
}

std::vector<Geometry> Geometries() {
  std::vector<Geometry> all = {
      MakeGeometry("4 tokens", {Group(4, 99)}, 4),
      MakeGeometry("1 token", {Group(1, 99)}, 1),
      MakeGeometry("16 tokens", {Group(16, 99)}, 16),
      MakeGeometry("window", {Group(4, 99, 5)}, 4),
      MakeGeometry("full and window", {Group(4, 99), Group(4, 99, 5)}, 4),
      MakeGeometry("4 and 8 tokens", {Group(4, 99), Group(8, 99)}, 8),
      MakeGeometry("quotas", {Group(4, 99)}, 4),
  };
  for (const char* tenant : {"", "a", "b", "x", "org", "org_1", "org_12345"}) {
    all.back().options.quotas.push_back(
        {.tenant = tenant, .guaranteed_permille = 0, .max_permille = 1000});
  }
  return all;
}

// --- Which way.

struct Cell {
  const Geometry* geometry;
  Request one;
  Request again;  // equal, made anew
  Request other;
  std::string name;
  KvCache* cache;
  std::unique_ptr<KvCache> own = nullptr;  // where a path needs another one

  void UseOwn(const Options& options) {
    own = NewCache(options);
    cache = own.get();
  }
  int32_t page() const { return geometry->page; }
  int32_t all() const { return kPages * page(); }  // tokens of a full hit
  int32_t inside() const { return page() * 3 / 4; }
  Tokens Prompt(const Request& request) const { return First(request, all() + 1); }
};

void Ask(Cell& cell, const Request& request, const Tokens& prompt, int32_t tokens) {
  EXPECT_EQ(cell.cache->MatchLength(prompt, request.ns), tokens) << cell.name;
  EXPECT_EQ(MustStart(*cell.cache, prompt, request.ns).hit_tokens(), tokens) << cell.name;
}

// Both halves of a cell. `tail`: what follows the first `from` tokens of either stream.
void AskBoth(Cell& cell, int32_t equal, int32_t from, const Tokens& tail) {
  Ask(cell, cell.other, First(cell.other, from) + tail, 0);
  Ask(cell, cell.again, First(cell.again, from) + tail, equal);
  Ask(cell, cell.other, First(cell.other, from) + tail, 0);
}
// Another token than the branch's last: the whole pages before it are hit.
void AskBranch(Cell& cell, int32_t from, const Tokens& branch) {
  const auto same = from + static_cast<int32_t>(branch.size()) - 1;
  AskBoth(cell, same / cell.page() * cell.page(), from,
          Tokens(branch.begin(), branch.end() - 1) + Tokens{kElsewhere - 1});
}

void AskBoth(Cell& cell, int32_t equal) { AskBoth(cell, equal, cell.all() + 1, {}); }

void Live(Cell& cell) {
  const Sequence live = Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  AskBoth(cell, cell.all());
}

void Cached(Cell& cell) {
  Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  AskBoth(cell, cell.all());
}

void IntoAPage(Cell& cell) {
  Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  const int32_t same = 3 * cell.page() + cell.inside();
  const Tokens tail = Iota(kElsewhere, 2 * cell.page());
  AskBoth(cell, same, same, tail);
  // The copied page is found under the branch once it is full, and only there.
  Compute(*cell.cache, First(cell.again, same) + tail, cell.again.ns);
  AskBranch(cell, same, tail);
  AskBoth(cell, cell.all());
}

void TokenByToken(Cell& cell) {
  Sequence sequence = MustStart(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  for (const TokenId token : cell.Prompt(cell.one)) {
    ASSERT_OK(Feed(*cell.cache, sequence, {token})) << cell.name;
  }
  AskBoth(cell, cell.all());
}

// The pool is one page too small for both, so some pages go: of a full group the last ones, of a
// window those that left it first. The head was used last: the pages behind it go, and a window
// does not miss them.
void AfterEviction(Cell& cell) {
  Options options = cell.geometry->options;
  for (GroupOptions& group : options.groups) {
    group.page_count = (kPages + 1) * cell.page() / group.tokens_per_page;
  }
  cell.UseOwn(options);
  Compute(*cell.cache, First(cell.one, cell.all()), cell.one.ns);
  MustStart(*cell.cache, First(cell.one, cell.page() + 1), cell.one.ns);
  const Sequence filler = Compute(*cell.cache, Iota(kElsewhere, 2 * cell.page()), Model("filler"));
  EXPECT_EQ(StatsOf(*cell.cache).evictions, cell.page() / options.groups[0].tokens_per_page)
      << cell.name;
  AskBoth(cell, cell.geometry->only_windows ? cell.all() : cell.all() - cell.page());
}

void ForkThenCommit(Cell& cell) {
  const int32_t fork_at = 3 * cell.page() + 1;
  const Tokens prompt = cell.Prompt(cell.one);
  Sequence sequence = Compute(*cell.cache, First(cell.one, fork_at), cell.one.ns);
  Sequence fork = MustFork(sequence);
  const Tokens tail = Iota(kElsewhere, cell.page());
  ASSERT_OK(Feed(*cell.cache, fork, Tokens(prompt.begin() + fork_at, prompt.end())));
  ASSERT_OK(Feed(*cell.cache, sequence, tail));
  { const Sequence gone = std::move(sequence); }
  AskBoth(cell, cell.all());
  AskBoth(cell, 4 * cell.page(), fork_at, tail);
}

void TruncateThenCommit(Cell& cell) {
  Options options = cell.geometry->options;
  options.max_rollback_tokens = kStream;
  cell.UseOwn(options);
  const int32_t cut = 3 * cell.page() + cell.inside();
  const Tokens tail = Iota(kElsewhere, 2 * cell.page());
  Sequence sequence = Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  ASSERT_OK(sequence.Truncate(cut)) << cell.name;
  ASSERT_OK(Feed(*cell.cache, sequence, tail)) << cell.name;
  AskBranch(cell, cut, tail);
  AskBoth(cell, cell.all());
}

void PreemptAndResume(Cell& cell) {
  Compute(*cell.cache, First(cell.one, 3 * cell.page() + cell.inside()), cell.one.ns);
  AskBoth(cell, 3 * cell.page());
  const Sequence resumed = Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  EXPECT_EQ(resumed.hit_tokens(), 3 * cell.page()) << cell.name;
  AskBoth(cell, cell.all());
}

void AfterClearCached(Cell& cell) {
  Sequence sequence = Compute(*cell.cache, First(cell.one, 3 * cell.page() + 1), cell.one.ns);
  cell.cache->ClearCached();
  AskBoth(cell, 0);
  const Tokens prompt = cell.Prompt(cell.one);
  ASSERT_OK(Feed(*cell.cache, sequence, Tokens(prompt.begin() + sequence.length(), prompt.end())));
  AskBoth(cell, 0);  // stands on tokens from before
  if (cell.inside() > 0) {
    // So does this one, though it stands in no node of the index yet.
    Sequence young = Compute(*cell.cache, First(cell.one, cell.inside()), cell.one.ns);
    cell.cache->ClearCached();
    ASSERT_OK(Feed(*cell.cache, young, Tokens(prompt.begin() + young.length(), prompt.end())));
    AskBoth(cell, 0);
  }
  Compute(*cell.cache, prompt, cell.one.ns);
  AskBoth(cell, cell.all());
}

void AfterAFailedCopy(Cell& cell) {
  Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  const int32_t same = 3 * cell.page() + cell.inside();
  const Tokens tail = Iota(kElsewhere, 2 * cell.page());
  const bool copies = cell.page() > 1;
  {
    Sequence sequence = MustStart(*cell.cache, First(cell.one, same) + tail, cell.one.ns);
    ASSERT_OK(sequence.Reserve(2 * cell.page()));
    const Plan plan = cell.cache->TakePlan();
    ASSERT_EQ(!plan.copies.empty(), copies) << cell.name;
    ASSERT_OK(sequence.Commit(tail));
    cell.cache->Retire(plan.ticket, absl::InternalError("lost"));
  }
  if (copies) {
    AskBoth(cell, cell.geometry->uniform ? same : 0, same, tail);
    AskBoth(cell, cell.geometry->uniform ? cell.all() : 0);
  }
  Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  AskBoth(cell, cell.all());
}

void WithoutWriting(Cell& cell) {
  const StartOptions options = {.read_cache = true, .write_cache = false};
  Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns, options);
  AskBoth(cell, 0);
  Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  AskBoth(cell, cell.all());
  for (const auto& [request, hit] :
       {std::pair(&cell.again, cell.all()), std::pair(&cell.other, 0)}) {
    const Sequence reader = MustStart(*cell.cache, cell.Prompt(*request), request->ns, options);
    EXPECT_EQ(reader.hit_tokens(), hit) << cell.name;
  }
}

void WithoutReading(Cell& cell) {
  const StartOptions options = {.read_cache = false, .write_cache = true};
  Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  for (const Request* request : {&cell.again, &cell.other}) {
    const Sequence blind = MustStart(*cell.cache, cell.Prompt(*request), request->ns, options);
    EXPECT_EQ(blind.hit_tokens(), 0) << cell.name;
  }
  Compute(*cell.cache, cell.Prompt(cell.again), cell.again.ns, options);
  AskBoth(cell, cell.all());
}

// Both are there: each finds its own pages.
void ExpectOwnPages(Cell& cell, const Sequence& one, const Sequence& other) {
  for (const auto& [request, owner] :
       {std::pair(&cell.again, &one), std::pair(&cell.other, &other)}) {
    const Sequence found = MustStart(*cell.cache, cell.Prompt(*request), request->ns);
    EXPECT_EQ(found.hit_tokens(), cell.all()) << cell.name;
    for (size_t g = 0; g < cell.geometry->options.groups.size(); ++g) {
      const std::vector<int32_t> pages = PagesOf(found, static_cast<int32_t>(g));
      const std::vector<int32_t> owned = PagesOf(*owner, static_cast<int32_t>(g));
      int32_t compared = 0;
      for (size_t p = 0; p < pages.size(); ++p) {
        if (pages[p] < 0 || owned[p] < 0) continue;  // has left a window
        EXPECT_EQ(pages[p], owned[p]) << cell.name;
        ++compared;
      }
      EXPECT_GT(compared, 0) << cell.name;
    }
  }
}

void BothThere(Cell& cell) {
  const Sequence one = Compute(*cell.cache, cell.Prompt(cell.one), cell.one.ns);
  const Sequence other = Compute(*cell.cache, cell.Prompt(cell.other), cell.other.ns);
  EXPECT_EQ(other.hit_tokens(), 0) << cell.name;
  ExpectOwnPages(cell, one, other);
}

void BothInOneBatch(Cell& cell) {
  const Tokens prompts[] = {cell.Prompt(cell.one), cell.Prompt(cell.other)};
  Sequence one = MustStart(*cell.cache, prompts[0], cell.one.ns);
  Sequence other = MustStart(*cell.cache, prompts[1], cell.other.ns);
  Sequence* const batch[] = {&one, &other};
  const auto length = static_cast<int32_t>(prompts[0].size());
  const int32_t counts[] = {length, length};
  ASSERT_OK(cell.cache->ReserveAll(batch, counts));
  RunPlan(*cell.cache);
  ASSERT_OK(cell.cache->CommitAll(batch, prompts[0] + prompts[1], counts));
  ExpectOwnPages(cell, one, other);
}

struct Path {
  const char* name;
  void (*run)(Cell&);
};

constexpr Path kPaths[] = {
    {"live", Live},
    {"cached", Cached},
    {"into a page", IntoAPage},
    {"token by token", TokenByToken},
    {"after eviction", AfterEviction},
    {"fork, then commit", ForkThenCommit},
    {"truncate, then commit", TruncateThenCommit},
    {"preempt and resume", PreemptAndResume},
    {"after ClearCached", AfterClearCached},
    {"after a failed copy", AfterAFailedCopy},
    {"write_cache = false", WithoutWriting},
    {"read_cache = false", WithoutReading},
    {"both there", BothThere},
    {"both in one batch", BothInOneBatch},
};

// All paths, one after another in one cache that is emptied in between. Returns how many.
int64_t RunPaths(const Geometry& geometry, const std::string& name,
                 const std::function<Request(int32_t)>& one,
                 const std::function<Request(int32_t)>& other) {
  const std::unique_ptr<KvCache> cache = NewCache(geometry.options);
  int64_t cells = 0;
  for (const Path& path : kPaths) {
    Cell cell = {&geometry,
                 one(geometry.page),
                 one(geometry.page),
                 other(geometry.page),
                 name + " / " + path.name + " / " + geometry.name,
                 cache.get()};
    path.run(cell);
    EXPECT_OK(cell.cache->Validate()) << cell.name;
    cell.cache->ClearCached();
    EXPECT_EQ(StatsOf(*cell.cache).pages_cached, 0) << cell.name;
    ++cells;
  }
  return cells;
}

int64_t RunMatrix(const std::vector<Difference>& differences,
                  const std::vector<Geometry>& geometries) {
  int64_t cells = 0;
  for (const Difference& difference : differences) {
    for (const Geometry& geometry : geometries) {
      cells += RunPaths(geometry, difference.name, difference.one, difference.other);
      cells +=
          RunPaths(geometry, difference.name + ", exchanged", difference.other, difference.one);
      if (::testing::Test::HasFailure()) return cells;  // these say enough
    }
  }
  return cells;
}

// Literal numbers: a row that gets lost must be missed.
TEST(PartitionMatrixTest, EachDimension) {
  std::vector<Difference> all = SingleFields();
  for (Difference& difference : Confusions()) all.push_back(std::move(difference));
  for (Difference& difference : TokenDifferences()) all.push_back(std::move(difference));
  EXPECT_EQ(all.size(), 53u);
  const int64_t cells = RunMatrix(all, Geometries());
  std::cout << "scorecard: partitions: " << cells << " cells\n";
  EXPECT_EQ(cells, 53 * 7 * 14 * 2);
}

TEST(PartitionMatrixTest, TwoDimensionsAtATime) {
  const std::vector<Difference> all = Combinations();
  std::vector<Geometry> geometries = Geometries();
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  geometries.resize(1);  // to end in time; the ways through the code are those of the other test
  constexpr int64_t kCells = 56 * 1 * 14 * 2;
#else
  constexpr int64_t kCells = 56 * 7 * 14 * 2;
#endif
  EXPECT_EQ(all.size(), 56u);
  const int64_t cells = RunMatrix(all, geometries);
  std::cout << "scorecard: partitions: " << cells << " cells\n";
  EXPECT_EQ(cells, kCells);
}

}  // namespace
}  // namespace quire::testing
