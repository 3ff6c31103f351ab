// What all devices do alike: the checks of options and of plans, where the pages of a group lie,
// and the copies and scrubs of a plan put together, so that each group and direction becomes one
// launch.

#ifndef QUIRE_LIB_DEVICE_POOL_H_
#define QUIRE_LIB_DEVICE_POOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "quire/attention.h"
#include "quire/device.h"

namespace quire {

// A device remembers what became of its latest plans, plan t at t % kRememberedPlans. Older ones
// are forgotten, which keeps memory constant and can only turn an answer into kNotFound, never a
// failure into a success.
inline constexpr uint64_t kRememberedPlans = 1024;

absl::Status UnknownTicket(Ticket ticket);
absl::Status FailedTicket(Ticket ticket, absl::string_view why);

// The product, or INT64_MAX if it is larger: a size that no machine has is then refused as such.
// Factors are not negative.
int64_t Product(std::initializer_list<int64_t> factors);

// How the bytes of a page lie, in whichever tier: runs of equal length at these offsets from its
// first byte; page p's first byte is p * stride behind page 0's.
struct PagePieces {
  void* base = nullptr;  // page 0's first byte, where the group brings its memory
  int64_t stride = 0;
  int64_t bytes = 0;                  // of each run
  std::vector<int64_t> offsets = {};  // ascending, the first is 0, multiples of 16
};

// kInvalidArgument names the field and says what to do.
absl::Status CheckDeviceOptions(const DeviceOptions& options);

// Of a group without views: its layout is one run. Of one with views: the extents of K and V of all
// layers, put together where they touch. `index` is the group's, for messages; the layout is good.
absl::StatusOr<PagePieces> FindPieces(int index, const DeviceGroup& group);

// The copies of one group and direction, or the scrubs of one group and tier, for CopyPages.
struct PageLaunch {
  GroupId group;
  CopyPagesParams params;
};

class DevicePools {
 public:
  // REQUIRES CheckDeviceOptions(options). Adopts the memory that the options give.
  explicit DevicePools(const DeviceOptions& options);

  int32_t group_count() const { return static_cast<int32_t>(pools_.size()); }

  // What the device has to allocate for a tier; 0 where memory was adopted or there are no pages.
  int64_t MissingBytes(int32_t group, Tier tier) const;
  void Place(int32_t group, Tier tier, void* memory);

  const PagePieces& pieces(int32_t group) const { return pools_[group].pieces; }
  // Where CopyPages reads the offsets, if that is not host memory.
  void set_piece_table(int32_t group, const int64_t* table) { pools_[group].piece_table = table; }

  // Device::view.
  absl::StatusOr<KvView> view(Tier tier, GroupId group, int32_t layer) const;

  // Checks all of the plan before it puts together the first launch. Scrubs go before copies. Valid
  // until the next call.
  absl::StatusOr<std::span<const PageLaunch>> Sort(const Plan& plan);

 private:
  static constexpr size_t kTiers = 2;

  struct Memory {
    std::byte* base = nullptr;  // the lowest byte of page 0
    int32_t page_count = 0;
  };
  struct Pool {
    KvLayout layout;
    PagePieces pieces;
    const int64_t* piece_table = nullptr;
    std::vector<KvView> views;         // as given; empty: they follow from the layout
    std::array<Memory, kTiers> tiers;  // kDevice, kHost
  };
  // Kept from plan to plan for their memory.
  using Pages = std::vector<PageId>;
  struct Batch {
    Pages from;
    Pages to;
  };

  absl::Status CheckPlace(absl::string_view what, Tier tier, GroupId group) const;
  absl::Status CheckPage(absl::string_view what, Tier tier, GroupId group, PageId page) const;
  absl::Status CheckCopy(const PageCopy& copy) const;
  static CopyPagesParams TargetOf(const Pool& pool, const Memory& memory, const Pages& pages);
  PageLaunch LaunchOf(size_t batch) const;
  PageLaunch ScrubOf(size_t batch) const;

  std::vector<Pool> pools_;           // by GroupId
  std::vector<Batch> batches_;        // by (GroupId, from, to)
  std::vector<Pages> scrubs_;         // by (GroupId, tier)
  std::vector<PageLaunch> launches_;  // of the latest plan
};

}  // namespace quire

#endif  // QUIRE_LIB_DEVICE_POOL_H_
