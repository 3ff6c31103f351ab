// The CPU device: pages in host memory. Copies run at once, in Copy.

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "lib/device_pool.h"
#include "lib/out_of_memory.h"
#include "quire/attention.h"
#include "quire/device.h"

namespace quire {
namespace {

// Mapped memory, owned.
class Slab {
 public:
  // Null if the system has no such memory. A pool is meant to be filled, so the system may refuse
  // now (no MAP_NORESERVE) rather than end the process later.
  explicit Slab(int64_t bytes) : bytes_(static_cast<size_t>(bytes)) {
    void* memory =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    madvise(memory, bytes_, MADV_HUGEPAGE);  // advice only: without it pages are slower, not wrong
    data_ = memory;
  }
  Slab(Slab&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  Slab& operator=(Slab&&) = delete;
  ~Slab() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }

  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

class CpuDevice : public Device {
 public:
  explicit CpuDevice(const DeviceOptions& options) : pools_(options) {}

  absl::Status Allocate();
  absl::Status Copy(const Plan& plan, Stream stream) override;
  absl::StatusOr<bool> IsDone(Ticket ticket) override;
  absl::StatusOr<KvView> view(Tier tier, GroupId group, int32_t layer) const override {
    // Only its errors allocate.
    return OrBare(absl::StatusCode::kInvalidArgument,
                  [&] { return pools_.view(tier, group, layer); });
  }

 private:
  struct Outcome {
    Ticket ticket = kNoTicket;
    absl::Status status;  // a copy of one shares its words and allocates nothing
  };

  absl::Status Run(const Plan& plan);

  DevicePools pools_;
  std::vector<Slab> slabs_;
  std::array<Outcome, kRememberedPlans> outcomes_;
};

absl::Status CpuDevice::Allocate() {
  for (int32_t g = 0; g < pools_.group_count(); ++g) {
    const int64_t bytes = pools_.MissingBytes(g, Tier::kDevice);
    if (bytes == 0) continue;
    slabs_.emplace_back(bytes);
    if (slabs_.back().data() == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("groups[", g, "]: the system has no ", bytes,
                       " bytes for the pool; make page_count smaller"));
    }
    pools_.Place(g, Tier::kDevice, slabs_.back().data());
  }
  return absl::OkStatus();
}

absl::Status CpuDevice::Run(const Plan& plan) {
  const absl::StatusOr<std::span<const PageLaunch>> launches = pools_.Sort(plan);
  if (!launches.ok()) return launches.status();
  for (const PageLaunch& launch : *launches) {
    if (LaunchError error = cpu::CopyPages(launch.params); error != LaunchError::kOk) {
      return absl::InternalError(
          absl::StrCat(launch.params.zeros ? "scrub" : "copy", " of pages in group ",
                       static_cast<int32_t>(launch.group), ": ", Describe(error)));
    }
  }
  return absl::OkStatus();
}

absl::Status CpuDevice::Copy(const Plan& plan, Stream /*stream: calls are synchronous*/) {
  absl::Status status = OrBare(absl::StatusCode::kResourceExhausted, [&] { return Run(plan); });
  if (plan.ticket != kNoTicket) {
    Outcome& outcome = outcomes_[static_cast<uint64_t>(plan.ticket) % kRememberedPlans];
    outcome.ticket = plan.ticket;
    outcome.status = status;
  }
  return status;
}

absl::StatusOr<bool> CpuDevice::IsDone(Ticket ticket) {
  if (ticket == kNoTicket) return true;  // nothing to wait for
  const Outcome& outcome = outcomes_[static_cast<uint64_t>(ticket) % kRememberedPlans];
  if (outcome.ticket != ticket) return UnknownTicket(ticket);
  if (!outcome.status.ok()) return FailedTicket(ticket, outcome.status.message());
  return true;
}

absl::StatusOr<std::unique_ptr<Device>> New(const DeviceOptions& options) {
  for (size_t i = 0; i < options.groups.size(); ++i) {
    if (options.groups[i].host_page_count == 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("groups[", i, "].host_page_count is ", options.groups[i].host_page_count,
                     "; it must be 0 on a CPU device, whose pool is host memory already: make "
                     "page_count larger instead"));
  }
  if (absl::Status status = CheckDeviceOptions(options); !status.ok()) return status;
  auto device = std::make_unique<CpuDevice>(options);
  if (absl::Status status = device->Allocate(); !status.ok()) return status;
  return device;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> NewCpuDevice(const DeviceOptions& options) {
  return OrBare(absl::StatusCode::kResourceExhausted, [&] { return New(options); });
}

}  // namespace quire
