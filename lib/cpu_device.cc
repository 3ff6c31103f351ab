// The CPU device: one slab of pages per group in host memory. Copies run at once, in Copy.

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "quire/attention.h"
#include "quire/device.h"

namespace quire {
namespace {

constexpr int kMaxGroups = 8;
constexpr int32_t kMaxTokensPerPage = 4096;
constexpr int32_t kMaxPages = int32_t{1} << 30;
constexpr uintptr_t kAlignment = 64;

// The product, or INT64_MAX if it is larger: a size that no machine has is then refused as such.
int64_t Product(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (int64_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product)) return INT64_MAX;
  }
  return product;
}

// Memory of one group: mapped and owned, or borrowed.
class Slab {
 public:
  Slab() = default;
  Slab(Slab&& other) noexcept { *this = std::move(other); }
  Slab& operator=(Slab&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    return *this;
  }
  ~Slab() {
    if (mapped_bytes_ != 0) munmap(data_, mapped_bytes_);
  }

  static Slab Borrow(void* memory) {
    Slab slab;
    slab.data_ = static_cast<std::byte*>(memory);
    return slab;
  }

  // Empty if the system has no such memory. A pool is meant to be filled, so the system may refuse
  // now (no MAP_NORESERVE) rather than end the process later.
  static Slab Map(int64_t bytes) {
    Slab slab;
    const size_t size = static_cast<size_t>(bytes);
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return slab;
    madvise(memory, size, MADV_HUGEPAGE);  // advice only: without it pages are slower, not wrong
    slab.data_ = static_cast<std::byte*>(memory);
    slab.mapped_bytes_ = size;
    return slab;
  }

  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  size_t mapped_bytes_ = 0;  // 0: borrowed
};

struct Pool {
  KvLayout layout;
  int32_t page_count = 0;
  Slab slab;
};

absl::Status InvalidField(int group, const char* field, int64_t value, const char* range) {
  return absl::InvalidArgumentError(
      absl::StrCat("groups[", group, "].", field, " is ", value, "; it must be ", range));
}

absl::Status CheckGroup(int index, const DeviceGroup& group) {
  const KvLayout& layout = group.layout;
  if (layout.layers < 1) return InvalidField(index, "layout.layers", layout.layers, ">= 1");
  if (layout.kv_heads < 1) return InvalidField(index, "layout.kv_heads", layout.kv_heads, ">= 1");
  if (layout.head_dim < 1) return InvalidField(index, "layout.head_dim", layout.head_dim, ">= 1");
  if (layout.tokens_per_page < 1 || layout.tokens_per_page > kMaxTokensPerPage) {
    return InvalidField(index, "layout.tokens_per_page", layout.tokens_per_page, "1 to 4096");
  }
  if (layout.dtype != DType::kFloat32 && layout.dtype != DType::kFloat16 &&
      layout.dtype != DType::kBFloat16) {
    return InvalidField(index, "layout.dtype", static_cast<int64_t>(layout.dtype), "a DType");
  }
  if (int64_t{layout.head_dim} * SizeOf(layout.dtype) % 16 != 0) {
    // Kernels move 16 bytes at a time; a pool they would refuse is refused here.
    return InvalidField(index, "layout.head_dim", layout.head_dim,
                        "a multiple of 16 bytes: 8 elements, or 4 of kFloat32");
  }
  if (group.page_count < 1 || group.page_count > kMaxPages) {
    return InvalidField(index, "page_count", group.page_count, "1 to 2^30");
  }
  if (Product({group.page_count, layout.page_bytes()}) == INT64_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("groups[", index,
                     "]: the pool's size does not fit in 63 bits; make layers, "
                     "kv_heads, head_dim or page_count smaller"));
  }
  if (reinterpret_cast<uintptr_t>(group.memory) % kAlignment != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("groups[", index, "].memory must be 64-byte aligned"));
  }
  return absl::OkStatus();
}

class CpuDevice : public Device {
 public:
  explicit CpuDevice(std::vector<Pool> pools) : pools_(std::move(pools)), batches_(pools_.size()) {}

  absl::Status Copy(const Plan& plan, Stream stream) override;
  absl::StatusOr<bool> IsDone(Ticket ticket) override;
  absl::StatusOr<KvView> view(Tier tier, GroupId group, int32_t layer) const override;

 private:
  // What became of the latest plans. Older ones are forgotten, which keeps memory constant and can
  // only turn an answer into kNotFound, never a failure into a success.
  static constexpr uint64_t kRemembered = 1024;
  struct Outcome {
    Ticket ticket = kNoTicket;
    bool failed = false;
  };

  // The copies of one group, as the kernel wants them.
  struct Batch {
    std::vector<PageId> from;
    std::vector<PageId> to;
  };

  absl::Status CheckCopy(const PageCopy& copy) const;
  absl::Status Run(const Plan& plan);

  std::vector<Pool> pools_;     // by GroupId
  std::vector<Batch> batches_;  // by GroupId; scratch of Run, kept for its memory
  std::array<Outcome, kRemembered> outcomes_ = {};  // plan t at t % kRemembered
};

absl::Status CpuDevice::CheckCopy(const PageCopy& copy) const {
  const auto group = static_cast<int64_t>(copy.group);
  if (group < 0 || group >= static_cast<int64_t>(pools_.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("copy of group ", group, "; this device has ", pools_.size(), " groups"));
  }
  if (copy.from_tier != Tier::kDevice || copy.to_tier != Tier::kDevice) {
    return absl::InvalidArgumentError("a CPU device has only Tier::kDevice");
  }
  const Pool& pool = pools_[group];
  for (PageId page : {copy.from_page, copy.to_page}) {
    const auto id = static_cast<int32_t>(page);
    if (id < 0 || id >= pool.page_count) {
      return absl::InvalidArgumentError(absl::StrCat("copy of page ", id, " in group ", group,
                                                     ", which has ", pool.page_count, " pages"));
    }
  }
  if (copy.from_page == copy.to_page) {
    return absl::InvalidArgumentError(absl::StrCat(
        "copy of page ", static_cast<int32_t>(copy.from_page), " of group ", group, " to itself"));
  }
  if (copy.token_count < 0 || copy.token_count > pool.layout.tokens_per_page) {
    return absl::InvalidArgumentError(
        absl::StrCat("copy of ", copy.token_count, " tokens in group ", group,
                     ", whose pages hold ", pool.layout.tokens_per_page));
  }
  return absl::OkStatus();
}

absl::Status CpuDevice::Run(const Plan& plan) {
  if (plan.ticket == kNoTicket && !plan.copies.empty()) {
    return absl::InvalidArgumentError("a plan with copies needs a ticket");
  }
  // All checks come before the first byte: a refused plan has copied nothing.
  for (const PageCopy& copy : plan.copies) {
    if (absl::Status status = CheckCopy(copy); !status.ok()) return status;
  }
  for (Batch& batch : batches_) {
    batch.from.clear();
    batch.to.clear();
  }
  for (const PageCopy& copy : plan.copies) {
    Batch& batch = batches_[static_cast<size_t>(copy.group)];
    batch.from.push_back(copy.from_page);
    batch.to.push_back(copy.to_page);
  }
  for (size_t g = 0; g < pools_.size(); ++g) {
    if (batches_[g].from.empty()) continue;
    const Pool& pool = pools_[g];
    // Whole pages: the tokens of a page are not contiguous, and one long copy beats many short
    // ones.
    CopyPagesParams params = {};
    params.base = pool.slab.data();
    params.page_stride = pool.layout.page_bytes();
    params.page_bytes = pool.layout.page_bytes();
    params.page_count = pool.page_count;
    params.count = static_cast<int32_t>(batches_[g].from.size());
    params.from = batches_[g].from.data();
    params.to = batches_[g].to.data();
    if (LaunchError error = cpu::CopyPages(params); error != LaunchError::kOk) {
      return absl::InternalError(absl::StrCat("copy of pages in group ", g, ": ", Describe(error)));
    }
  }
  return absl::OkStatus();
}

absl::Status CpuDevice::Copy(const Plan& plan, Stream /*stream: calls are synchronous*/) {
  absl::Status status = Run(plan);
  if (plan.ticket != kNoTicket) {
    outcomes_[static_cast<uint64_t>(plan.ticket) % kRemembered] = {plan.ticket, !status.ok()};
  }
  return status;
}

absl::StatusOr<bool> CpuDevice::IsDone(Ticket ticket) {
  if (ticket == kNoTicket) return true;  // nothing to wait for
  const auto number = static_cast<uint64_t>(ticket);
  const Outcome& outcome = outcomes_[number % kRemembered];
  if (outcome.ticket != ticket) {
    return absl::NotFoundError(absl::StrCat("ticket ", number,
                                            " was never given to this device, or more than ",
                                            kRemembered, " plans ago"));
  }
  if (outcome.failed) {
    return absl::InternalError(
        absl::StrCat("the copies of ticket ", number, " failed; Copy said why"));
  }
  return true;
}

absl::StatusOr<KvView> CpuDevice::view(Tier tier, GroupId group, int32_t layer) const {
  const auto index = static_cast<int64_t>(group);
  if (index < 0 || index >= static_cast<int64_t>(pools_.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("view of group ", index, "; this device has ", pools_.size(), " groups"));
  }
  const Pool& pool = pools_[index];
  if (layer < 0 || layer >= pool.layout.layers) {
    return absl::InvalidArgumentError(absl::StrCat("view of layer ", layer, " of group ", index,
                                                   ", which has ", pool.layout.layers, " layers"));
  }
  if (tier != Tier::kDevice) {
    return absl::InvalidArgumentError("a CPU device has only Tier::kDevice");
  }
  const KvStrides strides = {
      .page = pool.layout.page_bytes(),
      .head = pool.layout.head_bytes(),
      .token = pool.layout.head_bytes() / pool.layout.tokens_per_page,
  };
  std::byte* k = pool.slab.data() + layer * pool.layout.layer_bytes();
  std::byte* v = k + pool.layout.layer_bytes() / 2;
  return KvView{k, v, strides, strides, pool.page_count};
}

}  // namespace

int64_t KvLayout::head_bytes() const { return Product({tokens_per_page, head_dim, SizeOf(dtype)}); }

int64_t KvLayout::layer_bytes() const { return Product({2, kv_heads, head_bytes()}); }

int64_t KvLayout::page_bytes() const { return Product({layers, layer_bytes()}); }

absl::StatusOr<std::unique_ptr<Device>> NewCpuDevice(const DeviceOptions& options) {
  const size_t count = options.groups.size();
  if (count < 1 || count > kMaxGroups) {
    return absl::InvalidArgumentError(
        absl::StrCat("groups has ", count, " entries; it must have 1 to ", kMaxGroups));
  }
  for (size_t i = 0; i < count; ++i) {
    absl::Status status = CheckGroup(static_cast<int>(i), options.groups[i]);
    if (!status.ok()) return status;
  }
  std::vector<Pool> pools(count);
  for (size_t i = 0; i < count; ++i) {
    const DeviceGroup& group = options.groups[i];
    const int64_t bytes = Product({group.page_count, group.layout.page_bytes()});
    pools[i].layout = group.layout;
    pools[i].page_count = group.page_count;
    pools[i].slab = group.memory != nullptr ? Slab::Borrow(group.memory) : Slab::Map(bytes);
    if (pools[i].slab.data() == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("groups[", i, "]: the system has no ", bytes,
                       " bytes for the pool; make page_count smaller"));
    }
  }
  return std::make_unique<CpuDevice>(std::move(pools));
}

}  // namespace quire
