// Which plans every rank has answered: what an engine needs between its devices and
// KvCache::Retire.
//
// Answers come late, in any order between ranks, twice, or never. Tickets are retired in the order
// they were taken, once, with the worst status, and only when no rank can still be at it: each has
// answered, or a fence (its stream was drained or reset) says that nothing of it runs any more.
// A ticket is never used again, so an answer that nobody waits for is known by its number.

#ifndef QUIRE_TESTS_SUPPORT_SIMULATION_TRACKER_H_
#define QUIRE_TESTS_SUPPORT_SIMULATION_TRACKER_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "quire/types.h"

namespace quire::testing {

class CompletionTracker {
 public:
  explicit CompletionTracker(int32_t ranks) : everyone_((uint32_t{1} << ranks) - 1) {}

  // A plan was taken. Every rank owes an answer from now on.
  void Add(Ticket ticket) { open_.push_back({ticket, 0, absl::OkStatus()}); }

  // Rank `rank` says how its copies went. False if nobody waits for that (a second answer, or one
  // that comes after a fence); it is ignored then.
  bool Answer(int32_t rank, Ticket ticket, const absl::Status& status) {
    for (Open& open : open_) {
      if (open.ticket == ticket) return Note(&open, rank, status);
    }
    return false;
  }

  // Nothing that rank `rank` was given up to `last` runs any more. What it has not answered it
  // never will, and nobody knows how that went.
  void Fence(int32_t rank, Ticket last, const absl::Status& status) {
    for (Open& open : open_) {
      if (open.ticket <= last) Note(&open, rank, status);
    }
  }

  // The next ticket to retire, and with what. Empty: none yet.
  std::optional<std::pair<Ticket, absl::Status>> TakeDone() {
    if (open_.empty() || open_.front().answered != everyone_) return std::nullopt;
    std::pair<Ticket, absl::Status> done(open_.front().ticket, open_.front().worst);
    open_.pop_front();
    return done;
  }

  // Does rank `rank` owe an answer to the oldest ticket?
  bool Owes(int32_t rank) const {
    return !open_.empty() && (open_.front().answered & (uint32_t{1} << rank)) == 0;
  }
  Ticket oldest() const { return open_.empty() ? kNoTicket : open_.front().ticket; }
  bool empty() const { return open_.empty(); }

 private:
  struct Open {
    Ticket ticket;
    uint32_t answered;  // a bit for each rank
    absl::Status worst;
  };

  static bool Note(Open* open, int32_t rank, const absl::Status& status) {
    const uint32_t bit = uint32_t{1} << rank;
    if ((open->answered & bit) != 0) return false;
    open->answered |= bit;
    open->worst.Update(status);  // the first error stays
    return true;
  }

  const uint32_t everyone_;
  std::deque<Open> open_;  // in the order of the tickets
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_SIMULATION_TRACKER_H_
