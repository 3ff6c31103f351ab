// The engine, its clients and the checks of simulation.h. simulation_engine.cc is the engine's
// step, simulation_client.cc draws options and requests, simulation_checks.cc retires, judges and
// drains.

#ifndef QUIRE_TESTS_SUPPORT_SIMULATION_ENGINE_H_
#define QUIRE_TESTS_SUPPORT_SIMULATION_ENGINE_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "quire/kv_cache.h"
#include "tests/support/simulation.h"
#include "tests/support/simulation_device.h"
#include "tests/support/simulation_random.h"
#include "tests/support/simulation_tracker.h"

namespace quire::testing {

// A token stream: `tokens` are known, `sequence.length()` of them computed.
struct SimulatedRequest {
  int32_t id = 0;
  int32_t ns = 0;
  int32_t weights = 0;  // those that compute it
  std::vector<TokenId> tokens;
  std::vector<uint64_t> paths;  // [i] of tokens[0] to tokens[i]
  int32_t target = 0;           // tokens wanted, prompt included
  int32_t certain = 0;  // tokens that no failure can take back: the prompt, and delivered ones
  int32_t chunk = 1;    // most tokens in one step
  int32_t drafts = 0;   // most drafts in one step
  int32_t forks = 0;    // samples still to part from it
  bool read_cache = true;
  bool write_cache = true;
  bool finishing = false;  // all is computed; waits for its results
  int32_t results = 0;     // in flight
  int32_t rejected = 0;    // drafts that were committed and must be taken back
  Sequence sequence;       // empty while it waits

  int32_t known() const { return static_cast<int32_t>(tokens.size()); }
};

class Simulation {
 public:
  Simulation(uint64_t seed, EngineFault fault);
  SimulationReport Run(int32_t steps);

 private:
  using Request = SimulatedRequest;
  static constexpr int32_t kMaxDrafts = 4;

  enum class Phase { kSchedule, kReserve, kTakePlan, kCopy, kLaunch, kCommit, kVerify };

  // What one sequence computes in the step at hand: known tokens, then drafts.
  struct Item {
    Request* request;
    int32_t count;
    int32_t drafts;
    std::array<TokenId, kMaxDrafts> draft_tokens;
  };

  // How this seed's world is; chances are "one in n", 0: never.
  struct Climate {
    int32_t ranks = 1;
    int32_t depth = 4;       // launches in flight at most
    int32_t phases = 1;      // that the engine gets through at one time, at most
    int32_t entries = 2;     // that a rank runs at one time
    int32_t patience = 200;  // steps that an answer is waited for
    bool polls = false;      // IsDone, rather than messages
    int32_t reset = 0;
    int32_t abort = 4;
    int32_t clear = 8;
    int32_t max_requests = 8;
    int32_t tokens = 2;  // kinds of tokens: few, so that prompts often agree for a while
    bool retention = false;
    DeviceFaults faults;
  };

  // simulation_client.cc
  Options DrawOptions();
  void DrawQuotas(Options* options);
  Climate DrawClimate();
  void MoveClient();
  void Submit();
  std::vector<TokenId> DrawPrompt(int32_t longest);
  void AbortSomebody();
  void ForkSomebody(Request* request);
  void EditSomebody();
  void MoveRarely();
  void ChangeWeights();
  void ResetRank(int32_t rank);

  // simulation_engine.cc
  void Step();
  void Advance();
  void Schedule();
  bool StartWaiting();
  void AddToBatch(Request* request);
  void Reserve();
  void ReserveOneByOne();
  void MakeRoom();
  void TakePlan();
  void CopyOnNextRank();
  void LaunchOnNextRank();
  void BuildLaunch();
  void BuildTables(SimulatedLaunch* launch);
  void Commit();
  void Committed(Item* item, int32_t accepted, bool took_all);
  void Verify();
  void Sample(Request* request);
  void Cut(Request* request, int32_t known);
  void ExtendPaths(Request* request);
  void Preempt(Request* request);
  std::unique_ptr<Request> Remove(Request* request);  // from running_
  void RemoveFromBatch(const Request* request);
  void VoidResults(Request* request, int32_t from);
  void HandleLosses();

  // simulation_checks.cc
  void RunRank(int32_t rank, int32_t entries);
  void HearAnswers();
  void Heard(int32_t rank, Ticket ticket, const absl::Status& status);
  void Fence(int32_t rank);
  void FenceAll();
  void LosePatience();
  void RetireDone();
  void Judge();
  void JudgeRow(const SimulatedLaunch& launch, SimulatedRow* row, bool failed);
  void Finish(Request* request);
  void CheckNewPages(const std::vector<int32_t>& had);
  void HoldPlan(const Plan& plan);
  void Drain();
  void CheckDrained(bool cleared);
  void Validate();
  void Violation(const std::string& what);

  const uint64_t seed_;
  const EngineFault fault_;
  SimulationRandom random_;
  Options options_;
  Climate climate_;
  std::vector<Namespace> namespaces_;
  std::vector<Retention> retention_;
  std::unique_ptr<KvCache> cache_;  // outlives the requests' Sequences
  std::vector<std::unique_ptr<SimulatedDevice>> devices_;
  CompletionTracker tracker_;

  std::deque<std::unique_ptr<Request>> waiting_;
  std::vector<std::unique_ptr<Request>> running_;  // in the order of their start
  std::vector<std::vector<TokenId>> history_;      // of past requests
  int32_t weights_ = 0;
  int32_t last_id_ = 0;

  // The step at hand.
  Phase phase_ = Phase::kSchedule;
  bool preempted_ = false;
  bool gave_up_ = false;  // a step whose plan nobody has taken yet
  int32_t at_rank_ = 0;   // next rank to be given the plan, or the launch
  std::vector<Item> batch_;
  std::vector<Sequence*> sequences_;
  std::vector<int32_t> counts_;
  Plan plan_;
  std::shared_ptr<SimulatedLaunch> launch_;

  std::deque<std::shared_ptr<SimulatedLaunch>> in_flight_;
  Ticket taken_ = kNoTicket;
  Ticket retired_ = kNoTicket;
  std::vector<bool> failed_;                                         // [ticket]
  std::deque<std::pair<Ticket, std::vector<PageCopy>>> plans_held_;  // not yet retired
  std::vector<std::vector<int32_t>> held_;                           // [group][page]
  Ticket oldest_ = kNoTicket;  // whose answers are waited for,
  int32_t oldest_since_ = 0;   // and since which step

  int32_t step_ = 0;
  TraceHash trace_;
  SimulationCounts counts_of_;
  std::string violation_;
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_SIMULATION_ENGINE_H_
