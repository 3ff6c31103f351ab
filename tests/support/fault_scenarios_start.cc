// Creating a cache, starting and forking sequences, and what only looks.

#include <array>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "quire/block_allocator.h"
#include "tests/support/fault_cache.h"
#include "tests/support/fault_scenarios.h"

namespace quire::testing {
namespace {

using Code = absl::StatusCode;
const std::string kLong(60, 'n');  // no string holds it within itself

FaultScenario Create(std::string name, const Options& options) {
  auto set_up = [options]() -> std::unique_ptr<FaultWorld> {
    auto world = std::make_unique<CacheWorld>(options);
    world->run = [](CacheWorld& w) {
      absl::StatusOr<std::unique_ptr<KvCache>> cache = KvCache::Create(w.options);
      if (cache.ok()) w.cache = *std::move(cache);
      return cache.status().code();
    };
    return world;
  };
  return {.name = "Create: " + std::move(name), .set_up = std::move(set_up)};
}

struct AllocatorWorld : FaultWorld {
  explicit AllocatorWorld(int32_t pages) : page_count(pages) {}
  Code Run() override {
    absl::StatusOr<BlockAllocator> made = BlockAllocator::Create(page_count);
    if (made.ok()) allocator.emplace_back(*std::move(made));
    return made.status().code();
  }
  std::string State() override { return std::to_string(allocator.size()); }
  std::string Finish() override {
    std::array<PageId, 3> out{};
    if (allocator.empty() || !allocator[0].Allocate(out).ok()) return "none";
    return std::to_string(static_cast<int32_t>(out[2]));
  }
  int32_t page_count;
  std::vector<BlockAllocator> allocator = Room();
  static std::vector<BlockAllocator> Room() {
    std::vector<BlockAllocator> room;
    room.reserve(1);
    return room;
  }
};

FaultScenario Allocator(std::string name, int32_t pages) {
  return {.name = std::move(name),
          .set_up = [pages] { return std::make_unique<AllocatorWorld>(pages); }};
}

// Calls that are documented to throw, and then to have changed nothing.
template <typename F>
Code Throws(F f) {
  try {
    f();
  } catch (const std::bad_alloc&) {
    return Code::kResourceExhausted;
  }
  return Code::kOk;
}

// What a namespace is, is what it encodes to.
struct NamespaceWorld : FaultWorld {
  Code Run() override {
    return Throws([&] { run(*this); });
  }
  std::string State() override { return ns.Encode() + '|' + encoded; }
  Namespace ns;
  Namespace other;
  std::string encoded;
  std::function<void(NamespaceWorld&)> run;
};

FaultScenario OfNamespace(std::string name, std::function<void(NamespaceWorld&)> run) {
  auto set_up = [run]() -> std::unique_ptr<FaultWorld> {
    auto world = std::make_unique<NamespaceWorld>();
    world->ns.SetTenant("tenant").AddMedia(3, "digest");
    world->other.SetLora(kLong).AddMedia(5, kLong);
    world->run = run;
    return world;
  };
  return {.name = "Namespace: " + std::move(name), .set_up = std::move(set_up)};
}

// Two requests are cached, the first of them in a namespace, too.
void Cached(CacheWorld& w) {
  Compute(*w.cache, Iota(0, 22));
  Compute(*w.cache, Iota(0, 10) + Iota(50, 9));
  w.ns.SetTenant("a").SetLora(kLong);
  Compute(*w.cache, Iota(0, 22), w.ns);
  w.probes = {{Iota(0, 23), {}}, {Iota(0, 23), w.ns}, {Iota(0, 10) + Iota(50, 10), {}}};
}

FaultScenario Start(std::string name, const Options& options, CacheStep prepare, bool allocates,
                    const StartOptions& start = {},
                    std::vector<Code> may = {Code::kResourceExhausted}) {
  return CacheScenario(
      "Start: " + std::move(name), options,
      [prepare = std::move(prepare)](CacheWorld& w) {
        Cached(w);
        w.ns = {};
        prepare(w);
      },
      [start](CacheWorld& w) {
        StartOptions with = start;
        with.retention = w.retention;
        return w.Start(with);
      },
      allocates, std::move(may));
}

void InNamespace(CacheWorld& w) {
  w.prompt = Iota(0, 23);
  w.ns.SetTenant("a").SetLora(kLong);
}

void InNewNamespace(CacheWorld& w) {
  w.prompt = Iota(0, 23);
  w.ns.SetTenant("a").SetModel(kLong);
}

Options ManySequences() {
  Options options = SmallOptions();
  options.max_sequences = 16;
  options.groups[0].page_count = 40;
  return options;
}

// As many as make the table of namespaces grow with the next one.
void ManyNamespaces(CacheWorld& w) {
  for (char c = 'b'; c < 'b' + 12; ++c) {
    w.ns = Namespace();
    w.ns.SetTenant(kLong + c);
    w.sequences.push_back(Compute(*w.cache, Iota(0, 1), w.ns));
  }
  InNewNamespace(w);
}

void Retained(CacheWorld& w) {
  InNewNamespace(w);
  w.retention = {{.begin = 10, .end = 20, .priority = 10},
                 {.begin = 0, .end = 10, .priority = 80},
                 {.priority = 70, .lifetime_steps = 20}};
}

void AllSlotsTaken(CacheWorld& w) {
  w.prompt = Iota(0, 23);
  for (int32_t i = 0; i < w.options.max_sequences; ++i) {
    w.sequences.push_back(MustStart(*w.cache, Iota(0, 5)));
  }
}

}  // namespace

std::vector<FaultScenario> CreateScenarios() {
  std::vector<FaultScenario> all;
  const std::pair<const char*, Reclaim> policies[] = {{"LRU", Reclaim::kLru},
                                                      {"FIFO", Reclaim::kFifo},
                                                      {"frequency", Reclaim::kAgedFrequency},
                                                      {"S3-FIFO", Reclaim::kS3Fifo},
                                                      {"2Q", Reclaim::k2Q},
                                                      {"learned", Reclaim::kLearned}};
  for (const auto& [name, policy] : policies) {
    Options options = SmallOptions();
    options.reclaim = policy;
    all.push_back(Create(name, options));
  }
  all.push_back(Create("groups and a window", MixedOptions()));
  all.push_back(Create("quotas", TenantOptions()));
  all.push_back(Create("scrubs", ScrubbingOptions()));
  all.push_back(Create("strict tenants", StrictOptions()));
  Options large = SmallOptions();  // arrays that are to stand on huge OS pages
  large.max_sequence_tokens = 1 << 20;
  all.push_back(Create("huge OS pages", large));
  Options off = MixedOptions();
  off.prefix_caching = false;
  all.push_back(Create("no prefix caching", off));
  Options bad = MixedOptions();
  bad.groups[1].tokens_per_page = 6;
  all.push_back(Create("refused", bad));
  Options twice = TenantOptions();
  twice.quotas[1].tenant = twice.quotas[0].tenant;
  all.push_back(Create("quotas refused", twice));
  all.push_back(Allocator("BlockAllocator::Create", 100));
  all.push_back(Allocator("BlockAllocator::Create: refused", 0));
  return all;
}

std::vector<FaultScenario> StartScenarios() {
  const Options small = SmallOptions();
  const auto miss = [](CacheWorld& w) { w.prompt = Iota(1000, 9); };
  const auto hit = [](CacheWorld& w) { w.prompt = Iota(0, 21); };
  const auto part = [](CacheWorld& w) { w.prompt = Iota(0, 18) + Iota(700, 3); };
  const auto nothing = [](CacheWorld&) {};
  const std::vector<Code> invalid = {Code::kInvalidArgument};
  std::vector<FaultScenario> all = {
      Start("miss", small, miss, false),
      Start("hit", small, hit, false),
      Start("hit in part of a page", small, part, false),
      Start("hit, groups and a window", MixedOptions(), hit, false),
      Start("hit, not read", small, hit, false, {.read_cache = false}),
      Start("a known namespace", small, InNamespace, true),
      Start("a new namespace", small, InNewNamespace, true),
      Start("a new namespace, not written", small, InNewNamespace, true, {.write_cache = false}),
      Start("one namespace more than the table holds", ManySequences(), ManyNamespaces, true),
      Start("first retention", small, Retained, true),
      Start("first retention, quotas", TenantOptions(), Retained, true),
      Start(
          "first retention, learned",
          [] {
            Options options = MixedOptions();
            options.reclaim = Reclaim::kLearned;
            return options;
          }(),
          Retained, true),
      Start(
          "later retention", small,
          [](CacheWorld& w) {
            Retained(w);
            Compute(*w.cache, w.prompt, w.ns, {.retention = std::span(w.retention).first(1)});
          },
          true),
      Start(
          "refused: it never fits", small, [](CacheWorld& w) { w.prompt = Iota(0, 200); }, true, {},
          invalid),
      Start(
          "refused: too long", small, [](CacheWorld& w) { w.prompt = Iota(0, 300); }, true, {},
          invalid),
      Start("refused: no prompt", small, nothing, true, {}, invalid),
      Start(
          "refused: bad retention", small,
          [](CacheWorld& w) {
            w.prompt = Iota(0, 5);
            w.retention = {{.priority = 101}};
          },
          true, {}, invalid),
      Start("refused: no sequence left", small, AllSlotsTaken, false)};

  const auto forked = [](CacheWorld& w) { return w.Keep(w.sequences[0].Fork()); };
  const auto one = [](CacheWorld& w) {
    Cached(w);
    w.sequences.push_back(Compute(*w.cache, Iota(0, 18)));
  };
  all.push_back(CacheScenario("Fork", small, one, forked, false));
  all.push_back(CacheScenario("Fork: groups and a window", MixedOptions(), one, forked, false));
  all.push_back(CacheScenario("Fork: no sequence left", small, AllSlotsTaken, forked, false));
  all.push_back(CacheScenario(
      "Fork: retention", TenantOptions(),
      [](CacheWorld& w) {
        Retained(w);
        w.sequences.push_back(Compute(*w.cache, w.prompt, w.ns, {.retention = w.retention}));
      },
      forked, true));

  // 0 stands for no memory.
  const auto match = [](CacheWorld& w) {
    return w.cache->MatchLength(w.prompt, w.ns) == 22 ? Code::kOk : Code::kResourceExhausted;
  };
  all.push_back(CacheScenario(
      "MatchLength", small,
      [](CacheWorld& w) {
        Cached(w);
        w.prompt = Iota(0, 23);
      },
      match, true));
  all.push_back(CacheScenario(
      "MatchLength: no namespace", small,
      [](CacheWorld& w) {
        Cached(w);
        w.prompt = Iota(0, 23);
        w.ns = {};
      },
      match, false));
  all.push_back(CacheScenario(
      "CheckFits", small, Cached, [](CacheWorld& w) { return w.cache->CheckFits(90, 4).code(); },
      false));
  all.push_back(CacheScenario(
      "CheckFits: refused", TenantOptions(), Cached,
      [](CacheWorld& w) { return w.cache->CheckFits(90, 4, w.ns).code(); }, true, invalid));
  all.push_back(CacheScenario(
      "stats", TenantOptions(), Cached,
      [](CacheWorld& w) { return Throws([&] { w.cache->stats(); }); }, true));
  all.push_back(CacheScenario(
      "Validate", TenantOptions(), Cached, [](CacheWorld& w) { return w.cache->Validate().code(); },
      true));

  all.push_back(OfNamespace("SetTenant", [](NamespaceWorld& w) { w.ns.SetTenant(kLong); }));
  all.push_back(OfNamespace("AddMedia", [](NamespaceWorld& w) { w.ns.AddMedia(2, kLong); }));
  all.push_back(OfNamespace("assignment", [](NamespaceWorld& w) { w.ns = w.other; }));
  all.push_back(OfNamespace("Encode", [](NamespaceWorld& w) { w.encoded = w.other.Encode(); }));
  return all;
}

}  // namespace quire::testing
