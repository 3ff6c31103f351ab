// Device: the memory of a tier and the engine that carries a plan out. Devices never see the cache.

#ifndef QUIRE_DEVICE_H_
#define QUIRE_DEVICE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quire/page_table.h"
#include "quire/plan.h"
#include "quire/types.h"

namespace quire {

// The shape of one group's pages. In a page: [layer][K|V][kv_head][token][head_dim], so that one
// page is one copy on any path, and one head of one page is contiguous for a kernel.
struct KvLayout {
  int32_t layers = 0;           // >= 1
  int32_t kv_heads = 0;         // >= 1
  int32_t head_dim = 0;         // elements, >= 1; a multiple of 16 bytes
  int32_t tokens_per_page = 0;  // >= 1, as GroupOptions
  DType dtype = DType::kBFloat16;

  // INT64_MAX where that is too small; without meaning for a layout that devices refuse.
  int64_t head_bytes() const;   // one head of one layer's K (or V) in one page
  int64_t layer_bytes() const;  // K and V of one layer in one page
  int64_t page_bytes() const;
};

struct DeviceGroup {
  KvLayout layout;
  int32_t page_count = 0;  // pages in the pool, as GroupOptions
  // Memory to adopt instead of allocating: page_count * layout.page_bytes() bytes, 64-byte aligned,
  // borrowed, must outlive the device. nullptr: the device allocates and owns it.
  void* memory = nullptr;
  // Or the engine's own tensors, in any order: one view per layer, borrowed, must outlive the
  // device. Empty: the layout above in one run of memory. Each page_count must equal the group's,
  // all page strides must be equal, bases and strides multiples of 16 bytes, and the heads and
  // tokens of one page must lie within one page stride, so that a page is a few runs of bytes.
  // No byte may belong to two pages; bytes between a page's heads and tokens are copied with it.
  std::vector<KvView> views = {};
  // CUDA: pages of pinned host memory that this group has beside its pool: Tier::kHost. They lie as
  // the pool's pages do: in the layout above, or as the views say, which must then keep a page in
  // one run of bytes. [0, 2^30]; 0 on the CPU, whose pool is host memory.
  int32_t host_page_count = 0;
};

struct DeviceOptions {
  std::vector<DeviceGroup> groups;
};

// The caller's ordered queue: a cudaStream_t, or nothing on the CPU, where calls are synchronous.
// int and nullptr do not convert by accident.
class Stream {
 public:
  Stream() = default;
  explicit Stream(void* native) : native_(native) {}
  Stream(int) = delete;
  Stream(decltype(nullptr)) = delete;
  void* native() const { return native_; }

 private:
  void* native_ = nullptr;
};

// One caller at a time: Copy and IsDone must not overlap, so an IsDone on another thread needs a
// lock around both. view() may be called from any thread. What runs on the streams needs no lock.
//
// Preconditions of every call: group and layer in range (kInvalidArgument names which is not).
class Device {
 public:
  // Waits if copies still run, so that no memory goes away under them. The streams may be gone.
  virtual ~Device() = default;

  // Queues the plan's scrubs, and behind them its copies, on the stream, in order with what was
  // queued before, and does not wait. A scrub zeroes just the bytes that a copy of the page would
  // move. A status that is not OK, a bare kResourceExhausted for want of heap memory among them:
  // nothing of the plan may be relied on; Retire it with that status. Give a device plans in the
  // order of their tickets, all on one stream.
  virtual absl::Status Copy(const Plan& plan, Stream stream) = 0;

  // True when the plan's scrubs and copies have completed; a status if they failed. kNotFound for a
  // ticket that this device was never given, or that is more than 1024 plans old.
  virtual absl::StatusOr<bool> IsDone(Ticket ticket) = 0;

  // K and V of one layer in a tier of this device.
  virtual absl::StatusOr<KvView> view(Tier tier, GroupId group, int32_t layer) const = 0;
};

// Pages in host memory; Copy runs at once, so every ticket it took is done. Memory that the device
// allocates begins zeroed; adopted memory is as it was.
// kInvalidArgument names the field; kResourceExhausted if the memory cannot be had.
absl::StatusOr<std::unique_ptr<Device>> NewCpuDevice(const DeviceOptions& options);

// Pages on GPU `ordinal`, and in pinned host memory where a group asks for it. Copy queues one
// launch for each group and direction that the plan names (and 500 copies; scrubs count as a
// direction), and an event; IsDone asks the event and never waits. Memory is as the driver or the
// engine gave it. The stream given to Copy must belong to that GPU. Several devices
// may follow one cache (tensor parallelism): give each of them every plan, and retire a ticket
// once, with the worst status.
//   kUnimplemented       a build without CUDA
//   kFailedPrecondition  no CUDA driver, no GPU of that number, or one below sm_80; says which
//   kInvalidArgument     names the field; also of memory that the GPU cannot reach
//   kResourceExhausted   the memory cannot be had; says how much was asked for
absl::StatusOr<std::unique_ptr<Device>> NewCudaDevice(const DeviceOptions& options, int ordinal);

}  // namespace quire

#endif  // QUIRE_DEVICE_H_
