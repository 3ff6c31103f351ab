// One rank of a simulated machine: memory of its own, and one stream whose entries run when the
// simulation says so, in their order. Its answers are its own affair: late, twice, or never.
//
// A token's K and V are one stamp of 8 bytes, every one of which depends on the whole prefix.
// Memory is cleaned by scrubs alone: else what a page's former owner left is there until somebody
// writes, as on a GPU.

#ifndef QUIRE_TESTS_SUPPORT_SIMULATION_DEVICE_H_
#define QUIRE_TESTS_SUPPORT_SIMULATION_DEVICE_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quire/device.h"
#include "quire/options.h"
#include "tests/support/simulation_random.h"

namespace quire::testing {

inline constexpr int32_t kSimulatedTiers = 4;  // as many as Tier has; only kDevice has pages yet

struct SimulatedRequest;

// One sequence in a launch.
struct SimulatedRow {
  SimulatedRequest* request = nullptr;  // nullptr: nobody waits for the result
  int32_t ns = 0;                       // its namespace
  int32_t length = 0;                   // tokens before it
  int32_t count = 0;                    // tokens that it writes and computes
  int32_t known = 0;                    // tokens of the request that are certain if it is right
  int64_t paths_begin = 0;              // path of its token p: paths[paths_begin + p]
  bool told = false;                    // the sequence had lost data already, nobody had looked yet
  bool lost = false;                    // or it cannot commit, be it for pages without tokens
  bool wrong = false;                   // it read bytes that are not its own
  bool leaked = false;                  // its pages hold bytes of another namespace
};

// A step's kernels on all ranks: append, then attention. Holds copies of all that they read, as an
// upload must.
struct SimulatedLaunch {
  struct Table {
    std::vector<PageId> page_ids;
    std::vector<int64_t> row_begin;
    std::vector<int32_t> lengths;
  };
  std::vector<SimulatedRow> rows;
  std::vector<Table> tables;  // [group]
  std::vector<uint64_t> paths;
  Ticket retired = kNoTicket;  // when it was queued: the last ticket retired,
  Ticket taken = kNoTicket;    // and the last one taken
  int32_t ranks_left = 0;      // that have yet to run it
  bool lost = false;           // a rank was reset before it ran
  bool clean = false;          // pages are scrubbed: they must hold nothing of others
  // The first wrong read.
  int32_t wrong_rank = 0, wrong_group = 0, wrong_position = 0;
  PageId wrong_page = kNoPage;
};

// Chances are "one in n", 0: never.
struct DeviceFaults {
  int32_t copy_refused = 0;  // Copy answers an error at once
  int32_t copy_fails = 0;    // a plan's copies leave garbage in a target
  int32_t answer_lost = 0;   // IsDone and the mailbox never say that a plan is done
  int32_t answer_twice = 0;  // the mailbox says it again later
};

class SimulatedDevice : public Device {
 public:
  struct Message {
    Ticket ticket;
    absl::Status status;
  };

  SimulatedDevice(const std::vector<GroupOptions>& groups, int32_t rank, uint64_t seed,
                  const DeviceFaults& faults);

  absl::Status Copy(const Plan& plan, Stream stream) override;
  absl::StatusOr<bool> IsDone(Ticket ticket) override;
  absl::StatusOr<KvView> view(Tier tier, GroupId group, int32_t layer) const override;

  void Launch(std::shared_ptr<SimulatedLaunch> launch);

  // Runs up to `entries` of the stream.
  void Run(int32_t entries);
  void Drain() { Run(static_cast<int32_t>(queue_.size())); }
  // What was queued is gone, and so may the memory's contents be.
  void Reset();

  // One of the messages that have not arrived yet, if there are any.
  std::optional<Message> TakeMessage();

  bool idle() const { return queue_.empty(); }
  Ticket last_ticket() const { return Ticket{outcomes_.size()}; }  // that it was given
  int64_t slots_read() const { return slots_read_; }

 private:
  enum class Outcome : uint8_t { kOpen, kDone, kFailed, kNeverSaid };
  struct Entry {
    Ticket ticket;
    std::vector<PageCopy> copies;
    std::vector<PageScrub> scrubs;
    std::shared_ptr<SimulatedLaunch> launch;  // nullptr: copies
  };
  struct Pool {
    GroupOptions options;
    std::array<std::vector<uint64_t>, kSimulatedTiers> tokens;  // [tier][page][token]
    std::vector<uint8_t> writers;  // of kDevice: [page][token] 1 + whose namespace, 0: zeroed
  };

  uint64_t* PageAt(Tier tier, int32_t group, PageId page);
  uint8_t* WritersOf(int32_t group, PageId page);
  void RunPlan(Entry* entry);
  void ScrubPage(const PageScrub& scrub);
  void CopyPage(const PageCopy& copy, bool fails);
  void RunLaunch(SimulatedLaunch* launch);
  void Append(const SimulatedLaunch& launch, const SimulatedRow& row, size_t index, int32_t group,
              uint64_t garbage);
  bool Attend(SimulatedLaunch* launch, SimulatedRow* row, size_t index, int32_t group);
  bool HoldsOnlyItsOwn(const SimulatedLaunch& launch, const SimulatedRow& row, size_t index,
                       int32_t group);
  void Answer(Ticket ticket, const absl::Status& status);

  const int32_t rank_;
  const DeviceFaults faults_;
  SimulationRandom random_;
  std::vector<Pool> pools_;  // [group]
  std::deque<Entry> queue_;
  std::vector<Outcome> outcomes_;  // [ticket - 1]
  std::vector<Message> mailbox_;
  int64_t slots_read_ = 0;
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_SIMULATION_DEVICE_H_
