// An engine on pages that remember what was written: each token's stamp follows from the stamp
// before it, as K and V do. A copy that fails leaves its target as garbage, and whatever is
// computed on top of that is garbage, too.

#ifndef QUIRE_TESTS_SUPPORT_FAULT_PAGES_H_
#define QUIRE_TESTS_SUPPORT_FAULT_PAGES_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/manager_util.h"

namespace quire::testing {

class StampedEngine {
 public:
  // Tickets from `first` on fail: that one alone, or all. 0: none. Each is retired `depth` tickets
  // after it was taken.
  StampedEngine(const Options& options, uint64_t first, bool stays, size_t depth);

  // Requests that begin alike, forks, and two that leave, `rounds` times.
  void Work(int32_t rounds);
  // Retires all; from here on no copy fails. Everything is computed to its end and looked at.
  void FinishAndCheck();

  uint64_t tickets() const { return last_ticket_; }
  int64_t told() const { return told_; }        // times that a sequence was told of lost data
  int64_t checked() const { return checked_; }  // stamps compared

 private:
  struct Request {
    Sequence sequence;
    Tokens tokens;  // all that it should have in the end
  };

  void Start(const Tokens& prompt);
  void Step(Request& request, int32_t count);
  void CopyAndKeep(const Plan& plan);
  void RetireDownTo(size_t depth);
  void Write(const Request& request, int32_t begin, int32_t end);
  void Check(const Request& request, int32_t length);
  void CheckAll();
  uint64_t& StampAt(size_t group, PageId page, int32_t position);
  bool Fails(uint64_t ticket) const {
    return !healed_ && first_ > 0 && (stays_ ? ticket >= first_ : ticket == first_);
  }

  Options options_;
  uint64_t first_;
  bool stays_;
  size_t depth_;
  bool healed_ = false;
  uint64_t healed_from_ = UINT64_MAX;  // the first ticket after that
  std::unique_ptr<KvCache> cache_;
  std::vector<std::vector<uint64_t>> stamps_;  // [group][page * tokens_per_page + slot]
  std::deque<Request> requests_;
  std::deque<uint64_t> waiting_;  // taken and not retired
  std::vector<Tokens> prompts_;
  uint64_t last_ticket_ = 0;
  int64_t told_ = 0;
  int64_t checked_ = 0;
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_FAULT_PAGES_H_
