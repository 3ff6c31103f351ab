#include "lib/gpu_device.h"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/device_pool.h"
#include "lib/out_of_memory.h"

namespace quire {
namespace {

class GpuDevice : public Device {
 public:
  GpuDevice(const DeviceOptions& options, int gpu, GpuRuntime& runtime)
      : runtime_(runtime), gpu_(gpu), pools_(options) {}
  ~GpuDevice() override;

  absl::Status Allocate();
  absl::Status Copy(const Plan& plan, Stream stream) override;
  absl::StatusOr<bool> IsDone(Ticket ticket) override;
  absl::StatusOr<KvView> view(Tier tier, GroupId group, int32_t layer) const override {
    // Only its errors allocate.
    return OrBare(absl::StatusCode::kInvalidArgument,
                  [&] { return pools_.view(tier, group, layer); });
  }

 private:
  enum class State { kQueued, kDone, kFailed };
  struct Outcome {
    Ticket ticket = kNoTicket;
    State state = State::kDone;
    // Something was queued that is not known to have ended; also after a failure half-way.
    bool running = false;
    void* event = nullptr;  // made for the first plan of this place, and used by every later one
    absl::Status why;       // kFailed; a copy of one shares its words and allocates nothing
  };

  absl::Status AllocatePool(int32_t group, Tier tier);
  absl::Status UploadPieces(int32_t group);
  absl::Status Queue(std::span<const PageLaunch> launches, Stream stream, Outcome& outcome);

  GpuRuntime& runtime_;
  const int gpu_;
  DevicePools pools_;
  std::vector<void*> device_memory_;  // owned
  std::vector<void*> host_memory_;    // owned
  std::array<Outcome, kRememberedPlans> outcomes_;
};

// Memory must not go away under a copy that still runs, whosever it is: the owner of adopted memory
// may free it when this returns. An engine that has seen all its tickets done does not wait here.
GpuDevice::~GpuDevice() {
  bool running = false;
  for (const Outcome& outcome : outcomes_) running = running || outcome.running;
  if (running) runtime_.Wait(gpu_);
  for (const Outcome& outcome : outcomes_) {
    if (outcome.event != nullptr) runtime_.DestroyEvent(gpu_, outcome.event);
  }
  for (void* memory : device_memory_) runtime_.FreeDevice(gpu_, memory);
  for (void* memory : host_memory_) runtime_.FreeHost(gpu_, memory);
}

absl::Status GpuDevice::AllocatePool(int32_t group, Tier tier) {
  const int64_t bytes = pools_.MissingBytes(group, tier);
  if (bytes == 0) return absl::OkStatus();
  const bool host = tier == Tier::kHost;
  std::vector<void*>& owned = host ? host_memory_ : device_memory_;
  owned.reserve(owned.size() + 1);  // before there is something to lose
  void* memory = nullptr;
  const GpuError error = host ? runtime_.AllocateHost(gpu_, bytes, &memory)
                              : runtime_.AllocateDevice(gpu_, bytes, &memory);
  if (error != nullptr) {
    return absl::ResourceExhaustedError(
        host ? absl::StrCat("groups[", group, "]: no ", bytes, " bytes of pinned host memory: ",
                            error, "; make host_page_count smaller")
             : absl::StrCat("groups[", group, "]: GPU ", gpu_, " has no ", bytes,
                            " bytes for the pool: ", error, "; make page_count smaller"));
  }
  owned.push_back(memory);
  pools_.Place(group, tier, memory);
  return absl::OkStatus();
}

// Where a page is more than one run, the copy kernel reads their places from device memory.
absl::Status GpuDevice::UploadPieces(int32_t group) {
  const std::vector<int64_t>& offsets = pools_.pieces(group).offsets;
  if (offsets.size() == 1) return absl::OkStatus();
  const auto bytes = static_cast<int64_t>(offsets.size() * sizeof(int64_t));
  device_memory_.reserve(device_memory_.size() + 1);
  void* table = nullptr;
  if (const GpuError error = runtime_.AllocateDevice(gpu_, bytes, &table); error != nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("groups[", group, "].views: GPU ", gpu_,
                                                     " has no ", bytes,
                                                     " bytes for the places in a page: ", error));
  }
  device_memory_.push_back(table);
  const GpuError error = runtime_.Upload(gpu_, offsets.data(), bytes, table);
  if (error != nullptr) {
    return absl::InternalError(absl::StrCat("groups[", group, "].views: upload of ", bytes,
                                            " bytes to GPU ", gpu_, ": ", error));
  }
  pools_.set_piece_table(group, static_cast<const int64_t*>(table));
  return absl::OkStatus();
}

absl::Status GpuDevice::Allocate() {
  for (int32_t g = 0; g < pools_.group_count(); ++g) {
    absl::Status status = AllocatePool(g, Tier::kDevice);
    if (status.ok()) status = AllocatePool(g, Tier::kHost);
    if (status.ok()) status = UploadPieces(g);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status GpuDevice::Queue(std::span<const PageLaunch> launches, Stream stream,
                              Outcome& outcome) {
  if (outcome.event == nullptr) {
    const GpuError error = runtime_.CreateEvent(gpu_, &outcome.event);
    if (error != nullptr) {
      return absl::InternalError(absl::StrCat("GPU ", gpu_, ": no event for the plan: ", error));
    }
  }
  for (const PageLaunch& launch : launches) {
    outcome.running = true;
    const GpuError error = runtime_.CopyPages(gpu_, launch.params, stream.native());
    if (error != nullptr) {
      return absl::InternalError(
          absl::StrCat("GPU ", gpu_, launch.params.zeros ? ": scrub" : ": copy",
                       " of pages in group ", static_cast<int32_t>(launch.group), ": ", error));
    }
  }
  const GpuError error = runtime_.RecordEvent(gpu_, outcome.event, stream.native());
  if (error != nullptr) {
    return absl::InternalError(absl::StrCat("GPU ", gpu_, ": event of the plan: ", error));
  }
  return absl::OkStatus();
}

absl::Status GpuDevice::Copy(const Plan& plan, Stream stream) {
  const absl::StatusOr<std::span<const PageLaunch>> launches =
      OrBare(absl::StatusCode::kResourceExhausted, [&] { return pools_.Sort(plan); });
  if (plan.ticket == kNoTicket) return launches.status();
  // A plan that this one takes the place of, 1024 before it, is behind it on the same stream: if
  // this one has ended, so has that.
  Outcome& outcome = outcomes_[static_cast<uint64_t>(plan.ticket) % kRememberedPlans];
  outcome.ticket = plan.ticket;
  absl::Status status = launches.status();
  if (launches.ok()) {
    // Only its errors allocate.
    status = OrBare(absl::StatusCode::kInternal, [&] { return Queue(*launches, stream, outcome); });
  }
  outcome.state = status.ok() ? State::kQueued : State::kFailed;
  outcome.why = status;
  return status;
}

absl::StatusOr<bool> GpuDevice::IsDone(Ticket ticket) {
  if (ticket == kNoTicket) return true;  // nothing to wait for
  Outcome& outcome = outcomes_[static_cast<uint64_t>(ticket) % kRememberedPlans];
  if (outcome.ticket != ticket) return UnknownTicket(ticket);
  if (outcome.state == State::kQueued) {
    bool reached = false;
    const GpuError error = runtime_.QueryEvent(gpu_, outcome.event, &reached);
    if (error != nullptr) {
      outcome.state = State::kFailed;
      outcome.why = OrBare(absl::StatusCode::kInternal, [&] {
        return absl::InternalError(absl::StrCat("GPU ", gpu_, ": ", error));
      });
    } else if (reached) {
      outcome.state = State::kDone;
      outcome.running = false;
    }
  }
  if (outcome.state == State::kFailed) return FailedTicket(ticket, outcome.why.message());
  return outcome.state == State::kDone;
}

absl::Status CheckOrdinal(int ordinal, GpuRuntime& runtime) {
  int count = 0;
  if (const GpuError error = runtime.CountGpus(&count); error != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("no CUDA driver or no GPU: ", error,
                     "; install NVIDIA's driver, look at CUDA_VISIBLE_DEVICES, or use "
                     "NewCpuDevice"));
  }
  if (ordinal < 0 || ordinal >= count) {
    return absl::FailedPreconditionError(
        absl::StrCat("no GPU ", ordinal, ": this process sees ", count,
                     " GPUs, numbered from 0; look at CUDA_VISIBLE_DEVICES"));
  }
  if (const GpuError error = runtime.CheckGpu(ordinal); error != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("GPU ", ordinal, ": ", error, "; take another one, or use NewCpuDevice"));
  }
  return absl::OkStatus();
}

// A kernel that meets memory it cannot reach takes the process's whole use of the GPU down with it.
absl::Status CheckReach(const DeviceOptions& options, int gpu, GpuRuntime& runtime) {
  const auto check = [&](const void* memory, auto... name) -> absl::Status {
    bool can = false;
    if (const GpuError error = runtime.CanReach(gpu, memory, &can); error != nullptr) {
      return absl::InternalError(absl::StrCat(name..., ": GPU ", gpu, ": ", error));
    }
    if (can) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(name..., " is not memory that GPU ", gpu,
                     " can reach; allocate it there (cudaMalloc) or pinned (cudaMallocHost)"));
  };
  for (size_t g = 0; g < options.groups.size(); ++g) {
    const DeviceGroup& group = options.groups[g];
    absl::Status status;
    if (group.memory != nullptr) status = check(group.memory, "groups[", g, "].memory");
    for (size_t i = 0; i < group.views.size() && status.ok(); ++i) {
      status = check(group.views[i].k, "groups[", g, "].views[", i, "].k");
      if (status.ok()) status = check(group.views[i].v, "groups[", g, "].views[", i, "].v");
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Device>> New(const DeviceOptions& options, int ordinal,
                                            GpuRuntime& runtime) {
  absl::Status status = CheckDeviceOptions(options);
  if (status.ok()) status = CheckOrdinal(ordinal, runtime);
  if (status.ok()) status = CheckReach(options, ordinal, runtime);
  if (!status.ok()) return status;
  auto device = std::make_unique<GpuDevice>(options, ordinal, runtime);
  if (status = device->Allocate(); !status.ok()) return status;
  return device;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> NewGpuDevice(const DeviceOptions& options, int ordinal,
                                                     GpuRuntime& runtime) {
  return OrBare(absl::StatusCode::kResourceExhausted,
                [&] { return New(options, ordinal, runtime); });
}

}  // namespace quire
