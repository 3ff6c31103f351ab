// Reserve, Commit, Truncate, dropping; plans, ClearCached and page tables.

#include <string>
#include <utility>
#include <vector>

#include "tests/support/fault_cache.h"
#include "tests/support/fault_scenarios.h"

namespace quire::testing {
namespace {

using Code = absl::StatusCode;

// A request is cached, and another goes on from inside one of its pages.
void PartlyHit(CacheWorld& w) {
  Compute(*w.cache, Iota(0, 22));
  w.sequences.push_back(MustStart(*w.cache, Iota(0, 18) + Iota(700, 6)));
  w.probes = {{Iota(0, 23), {}}, {Iota(0, 18) + Iota(700, 6), {}}};
}

// Two forks and their original share a page that all of them will write.
void Forked(CacheWorld& w) {
  w.sequences.push_back(Compute(*w.cache, Iota(0, 10)));
  w.sequences.push_back(MustFork(w.sequences[0]));
  w.sequences.push_back(MustFork(w.sequences[0]));
  w.Batch(4);
  w.tokens = Iota(300, 12);
  w.probes = {{Iota(0, 11), {}}};
}

// Copies that wait for a device, and as many as there ever were at one time; one more is needed.
void ManyPlansOut(CacheWorld& w) {
  w.sequences.push_back(Compute(*w.cache, Iota(0, 10)));
  for (int32_t i = 0; i < 3; ++i) {
    w.sequences.push_back(MustFork(w.sequences[0]));
    EXPECT_OK(w.sequences.back().Reserve(6));
    w.plans.push_back(w.cache->TakePlan());
    EXPECT_OK(w.sequences.back().Commit(Iota(700 + 10 * i, 6)));
  }
  w.sequences.push_back(MustFork(w.sequences[0]));
  w.probes = {{Iota(0, 10) + Iota(700, 7), {}}, {Iota(0, 10) + Iota(720, 7), {}}};
}

// A copy of a copy of a copy, each in a plan of its own.
void ChainOut(CacheWorld& w) {
  PartlyHit(w);
  for (int32_t i = 0; i < 3; ++i) {
    EXPECT_OK(w.sequences.back().Reserve(1));
    w.plans.push_back(w.cache->TakePlan());
    EXPECT_OK(w.sequences.back().Commit(Iota(700 + i, 1)));
    w.sequences.push_back(MustFork(w.sequences.back()));
  }
  EXPECT_OK(w.sequences.back().Reserve(5));  // planned, and not taken
}

// The copy that the first sequence stands on has failed.
void DataLost(CacheWorld& w) {
  PartlyHit(w);
  EXPECT_OK(w.sequences[0].Reserve(6));
  const Plan plan = w.cache->TakePlan();
  EXPECT_OK(w.sequences[0].Commit(Iota(700, 5)));
  w.cache->Retire(plan.ticket, absl::InternalError("the copy failed"));
  w.Batch(1);
  w.tokens = {9};
}

void PoolFull(CacheWorld& w) {
  for (int32_t i = 0; i < 6; ++i) Compute(*w.cache, Iota(100 * i, 16));
  w.sequences.push_back(MustStart(*w.cache, Iota(1000, 60)));
  w.probes = {{Iota(0, 17), {}}, {Iota(500, 17), {}}};
}

FaultScenario Scenario(std::string name, CacheStep prepare, CacheRun run, bool allocates,
                       std::vector<Code> may = {Code::kResourceExhausted}) {
  return CacheScenario(std::move(name), SmallOptions(), std::move(prepare), std::move(run),
                       allocates, std::move(may));
}

FaultScenario Scrubbing(std::string name, CacheStep prepare, CacheRun run, bool allocates,
                        std::vector<Code> may = {Code::kResourceExhausted}) {
  return CacheScenario(std::move(name) + ", scrubs", ScrubbingOptions(), std::move(prepare),
                       std::move(run), allocates, std::move(may));
}

FaultScenario Mixed(std::string name, CacheStep prepare, CacheRun run, bool allocates,
                    std::vector<Code> may = {Code::kResourceExhausted}) {
  return CacheScenario(std::move(name) + ", groups, window and quotas", TenantOptions(),
                       std::move(prepare), std::move(run), allocates, std::move(may));
}

CacheRun Reserve(int32_t count) {
  return [count](CacheWorld& w) { return w.sequences.back().Reserve(count).code(); };
}

Code ReserveAll(CacheWorld& w) { return w.cache->ReserveAll(w.batch, w.counts).code(); }

Code CommitAll(CacheWorld& w) { return w.cache->CommitAll(w.batch, w.tokens, w.counts).code(); }

CacheRun Truncate(int32_t length) {
  return [length](CacheWorld& w) { return w.sequences[0].Truncate(length).code(); };
}

Code DropFirst(CacheWorld& w) {
  const Sequence gone = std::move(w.sequences[0]);
  return Code::kOk;
}

Code TakePlan(CacheWorld& w) {
  w.plans.push_back(w.cache->TakePlan());
  return Code::kOk;
}

CacheRun Retire(const absl::Status& status) {
  return [status](CacheWorld& w) {
    w.cache->Retire(w.plans[0].ticket, status);
    w.plans.erase(w.plans.begin());
    return Code::kOk;
  };
}

// `prepare`, and then all of it is reserved.
CacheStep Reserved(CacheStep prepare) {
  return [prepare = std::move(prepare)](CacheWorld& w) {
    prepare(w);
    if (w.batch.empty()) w.Batch(6);
    EXPECT_EQ(ReserveAll(w), Code::kOk);
    if (w.tokens.empty()) w.tokens = Iota(700, 6 * static_cast<int32_t>(w.sequences.size()));
  };
}

CacheStep Planned(CacheStep prepare) {
  return [prepare = Reserved(std::move(prepare))](CacheWorld& w) {
    prepare(w);
    w.plans.push_back(w.cache->TakePlan());
  };
}

void LongWindowed(CacheWorld& w) { w.sequences.push_back(Compute(*w.cache, Iota(0, 40))); }

void OfTwoTenants(CacheWorld& w) {
  w.sequences.push_back(Compute(*w.cache, Iota(0, 9), Namespace().SetTenant("a")));
  w.sequences.push_back(Compute(*w.cache, Iota(0, 9)));
  w.Batch(6);
}

// All plans are out, and so are their records; then pages become free.
void FreedWithPlansOut(CacheWorld& w) {
  ManyPlansOut(w);
  w.cache->ClearCached();
}

void RetainedSequence(CacheWorld& w) {
  w.retention = {{.end = 8, .priority = 80, .lifetime_steps = 1}, {.begin = 8, .priority = 10}};
  w.sequences.push_back(Compute(*w.cache, Iota(0, 22), {}, {.retention = w.retention}));
  w.sequences.push_back(Compute(*w.cache, Iota(0, 20), {}, {.retention = w.retention}));
}

Code PackInto(CacheWorld& w, size_t room) {
  const PageTableBuffers buffers = {.row_begin = w.row_begin, .lengths = w.lengths};
  return w.cache
      ->PackPageTable(w.views, w.counts, GroupId{0}, buffers, std::span(w.page_ids).first(room))
      .status()
      .code();
}

}  // namespace

std::vector<FaultScenario> SequenceScenarios() {
  const std::vector<Code> invalid = {Code::kInvalidArgument};
  const std::vector<Code> lost = {Code::kDataLoss};
  const auto started = [](CacheWorld& w) {
    w.sequences.push_back(MustStart(*w.cache, Iota(0, 9)));
  };
  return {
      Scenario("Reserve: the first of a cache", started, Reserve(9), true),
      Scenario("Reserve: a copy", PartlyHit, Reserve(6), false),
      Mixed("Reserve: a copy", PartlyHit, Reserve(6), false),
      Scenario("Reserve: more plans than ever", ManyPlansOut, Reserve(6), true),
      Mixed("Reserve: more plans than ever", ManyPlansOut, Reserve(6), true),
      Scenario("ReserveAll: forks", Forked, ReserveAll, false),
      Mixed("ReserveAll: forks", Forked, ReserveAll, false),
      Scenario("Reserve: evicts", PoolFull, Reserve(60), false),
      Scenario(
          "Reserve: no room",
          [](CacheWorld& w) {
            PoolFull(w);
            w.sequences.push_back(Compute(*w.cache, Iota(2000, 60)));
          },
          [](CacheWorld& w) {
            // Refused, which counts; the count is the only thing that may move.
            const Code code = w.sequences[0].Reserve(60).code();
            return code == Code::kResourceExhausted ? Code::kOk : Code::kUnknown;
          },
          false),
      Scenario("Reserve: refused, never fits", started, Reserve(150), true, invalid),
      Scenario("Reserve: refused, too long", started, Reserve(1000), true, invalid),
      Scenario("Reserve: refused, negative", started, Reserve(-1), true, invalid),
      Scenario("ReserveAll: data loss", DataLost, ReserveAll, true, lost),
      Scenario("CommitAll: data loss", DataLost, CommitAll, true, lost),
      Scenario("CommitAll", Planned(Forked), CommitAll, false),
      Mixed("CommitAll", Planned(Forked), CommitAll, false),
      Scenario("CommitAll: after a copy", Planned(PartlyHit), CommitAll, false),
      Scenario("Truncate", ManyPlansOut, Truncate(5), false),
      Mixed("Truncate", Forked, Truncate(9), false),
      Scenario("Truncate: data loss", DataLost, Truncate(16), false),
      Scenario("Truncate: refused, longer", PartlyHit, Truncate(1000), true, invalid),
      Mixed("Truncate: refused, left the window", LongWindowed, Truncate(4), true,
            {Code::kFailedPrecondition}),
      Scenario("dropping", ManyPlansOut, DropFirst, false),
      Scenario("dropping: a copy is pending", Reserved(PartlyHit), DropFirst, false),
      Scenario("dropping: retention", RetainedSequence, DropFirst, false),
      Mixed("dropping: retention", RetainedSequence, DropFirst, false),
  };
}

std::vector<FaultScenario> PlanScenarios() {
  const absl::Status bad = absl::InternalError("the copy failed");
  const auto clear = [](CacheWorld& w) { return w.cache->ClearCached(), Code::kOk; };
  const auto table = [](CacheWorld& w) {
    const PageTableBuffers buffers = {.row_begin = w.row_begin, .lengths = w.lengths};
    const auto batch = w.cache->MakePageTable(w.views, w.counts, GroupId{0}, buffers).batch;
    return batch == static_cast<int32_t>(w.views.size()) ? Code::kOk : Code::kUnknown;
  };
  const auto cleared = [](CacheWorld& w) {
    ChainOut(w);
    w.cache->ClearCached();
  };
  return {
      Scenario("TakePlan: no copy", RetainedSequence, TakePlan, false),
      Scenario("TakePlan: a copy", Reserved(PartlyHit), TakePlan, false),
      Scenario("TakePlan: forks", Reserved(Forked), TakePlan, false),
      Mixed(
          "TakePlan: more plans than ever",
          [](CacheWorld& w) {
            ManyPlansOut(w);
            EXPECT_OK(w.sequences.back().Reserve(6));
          },
          TakePlan, false),
      Mixed(
          "TakePlan: lifetimes end",
          [](CacheWorld& w) {
            RetainedSequence(w);
            w.sequences.clear();
          },
          TakePlan, false),
      Scrubbing("TakePlan: pages of a dropped sequence", PoolFull, TakePlan, false),
      Scrubbing("TakePlan: forks", Reserved(Forked), TakePlan, false),
      Scrubbing("Retire", FreedWithPlansOut, Retire(absl::OkStatus()), false),
      Scrubbing("Retire: failed", FreedWithPlansOut, Retire(bad), false),
      Scrubbing("ClearCached", PoolFull, clear, false),
      Scrubbing("Reserve: a full pool", PoolFull, Reserve(60), false),
      CacheScenario("Reserve: two tenants, strict", StrictOptions(), OfTwoTenants, ReserveAll, true,
                    {Code::kInvalidArgument}),
      Scenario("Retire", ManyPlansOut, Retire(absl::OkStatus()), false),
      Mixed("Retire", ManyPlansOut, Retire(absl::OkStatus()), false),
      Scenario("Retire: failed", ManyPlansOut, Retire(bad), false),
      Scenario("Retire: failed, copies of copies", ChainOut, Retire(bad), false),
      Mixed("Retire: failed, copies of copies", ChainOut, Retire(bad), false),
      Scenario("Retire: failed after ClearCached", cleared, Retire(bad), false),
      Scenario("ClearCached", ChainOut, clear, false),
      Mixed("ClearCached", ChainOut, clear, false),
      Scenario("MakePageTable", Planned(Forked), table, false),
      Scenario(
          "PackPageTable", Planned(Forked), [](CacheWorld& w) { return PackInto(w, 256); }, false),
      Scenario("PackPageTable: refused", Planned(Forked),
               [](CacheWorld& w) { return PackInto(w, 2); }, true, {Code::kOutOfRange}),
  };
}

}  // namespace quire::testing
