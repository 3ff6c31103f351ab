#include "lib/device_pool.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/out_of_memory.h"

namespace quire {
namespace {

const char* NameOf(Tier tier) {
  switch (tier) {
    case Tier::kDevice:
      return "Tier::kDevice";
    case Tier::kHost:
      return "Tier::kHost";
    case Tier::kDisk:
      return "Tier::kDisk";
    case Tier::kRemote:
      return "Tier::kRemote";
  }
  return "an unknown tier";
}

// Pointers into the same or another object: the pools are the engine's to place.
void* Moved(void* pointer, const void* from, const void* to) {
  const uintptr_t distance =
      reinterpret_cast<uintptr_t>(pointer) - reinterpret_cast<uintptr_t>(from);
  return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(to) + distance);
}

}  // namespace

int64_t Product(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (int64_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product)) return INT64_MAX;
  }
  return product;
}

int64_t KvLayout::head_bytes() const { return Product({tokens_per_page, head_dim, SizeOf(dtype)}); }

int64_t KvLayout::layer_bytes() const { return Product({2, kv_heads, head_bytes()}); }

int64_t KvLayout::page_bytes() const { return Product({layers, layer_bytes()}); }

absl::Status UnknownTicket(Ticket ticket) {
  return OrBare(absl::StatusCode::kNotFound, [&] {
    return absl::NotFoundError(absl::StrCat("ticket ", static_cast<uint64_t>(ticket),
                                            " was never given to this device, or more than ",
                                            kRememberedPlans, " plans ago"));
  });
}

absl::Status FailedTicket(Ticket ticket, absl::string_view why) {
  return OrBare(absl::StatusCode::kInternal, [&] {
    return absl::InternalError(
        absl::StrCat("the copies of ticket ", static_cast<uint64_t>(ticket), " failed: ", why));
  });
}

DevicePools::DevicePools(const DeviceOptions& options)
    : pools_(options.groups.size()),
      batches_(pools_.size() * kTiers * kTiers),
      scrubs_(pools_.size() * kTiers) {
  launches_.reserve(batches_.size() + scrubs_.size());
  for (size_t g = 0; g < pools_.size(); ++g) {
    const DeviceGroup& group = options.groups[g];
    Pool& pool = pools_[g];
    pool.layout = group.layout;
    pool.pieces = *FindPieces(static_cast<int>(g), group);
    pool.views = group.views;
    pool.tiers[0] = {static_cast<std::byte*>(pool.pieces.base), group.page_count};
    pool.tiers[1] = {nullptr, group.host_page_count};
  }
}

int64_t DevicePools::MissingBytes(int32_t group, Tier tier) const {
  const Pool& pool = pools_[static_cast<size_t>(group)];
  const Memory& memory = pool.tiers[static_cast<size_t>(tier)];
  return memory.base != nullptr ? 0 : memory.page_count * pool.pieces.stride;
}

void DevicePools::Place(int32_t group, Tier tier, void* memory) {
  pools_[static_cast<size_t>(group)].tiers[static_cast<size_t>(tier)].base =
      static_cast<std::byte*>(memory);
}

absl::Status DevicePools::CheckPlace(absl::string_view what, Tier tier, GroupId group) const {
  const auto index = static_cast<int64_t>(group);
  if (index < 0 || index >= static_cast<int64_t>(pools_.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " of group ", index, "; this device has ", pools_.size(), " groups"));
  }
  const auto number = static_cast<size_t>(tier);
  if (number >= kTiers || pools_[static_cast<size_t>(index)].tiers[number].page_count == 0) {
    return absl::InvalidArgumentError(absl::StrCat(what, " in ", NameOf(tier), " of group ", index,
                                                   ", which has no pages there on this device"));
  }
  return absl::OkStatus();
}

absl::Status DevicePools::CheckPage(absl::string_view what, Tier tier, GroupId group,
                                    PageId page) const {
  if (absl::Status status = CheckPlace(what, tier, group); !status.ok()) return status;
  const Memory& memory = pools_[static_cast<size_t>(group)].tiers[static_cast<size_t>(tier)];
  const auto id = static_cast<int32_t>(page);
  if (id >= 0 && id < memory.page_count) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " of page ", id, " in ", NameOf(tier), " of group ",
                   static_cast<int32_t>(group), ", which has ", memory.page_count, " pages there"));
}

absl::Status DevicePools::CheckCopy(const PageCopy& copy) const {
  absl::Status status = CheckPage("copy", copy.from_tier, copy.group, copy.from_page);
  if (status.ok()) status = CheckPage("copy", copy.to_tier, copy.group, copy.to_page);
  if (!status.ok()) return status;
  const auto group = static_cast<int32_t>(copy.group);
  if (copy.from_tier == copy.to_tier && copy.from_page == copy.to_page) {
    return absl::InvalidArgumentError(absl::StrCat(
        "copy of page ", static_cast<int32_t>(copy.from_page), " of group ", group, " to itself"));
  }
  const int32_t tokens = pools_[static_cast<size_t>(group)].layout.tokens_per_page;
  if (copy.token_count < 0 || copy.token_count > tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "copy of ", copy.token_count, " tokens in group ", group, ", whose pages hold ", tokens));
  }
  return absl::OkStatus();
}

// Whole pages: the tokens of a page are not contiguous, and one long run beats many short ones.
CopyPagesParams DevicePools::TargetOf(const Pool& pool, const Memory& memory, const Pages& pages) {
  CopyPagesParams params = {};
  params.base = memory.base;
  params.page_stride = pool.pieces.stride;
  params.page_bytes = pool.pieces.bytes;
  params.page_count = memory.page_count;
  params.count = static_cast<int32_t>(pages.size());
  params.to = pages.data();
  if (pool.pieces.offsets.size() > 1) {
    params.piece_count = static_cast<int32_t>(pool.pieces.offsets.size());
    params.piece_offsets =
        pool.piece_table != nullptr ? pool.piece_table : pool.pieces.offsets.data();
  }
  return params;
}

PageLaunch DevicePools::LaunchOf(size_t batch) const {
  const Pool& pool = pools_[batch / (kTiers * kTiers)];
  const Memory& from = pool.tiers[batch / kTiers % kTiers];
  const Memory& to = pool.tiers[batch % kTiers];
  CopyPagesParams params = TargetOf(pool, to, batches_[batch].to);
  params.from = batches_[batch].from.data();
  if (from.base != to.base) {
    params.from_base = from.base;
    params.from_page_count = from.page_count;
  }
  return {GroupId{static_cast<int32_t>(batch / (kTiers * kTiers))}, params};
}

PageLaunch DevicePools::ScrubOf(size_t batch) const {
  const Pool& pool = pools_[batch / kTiers];
  CopyPagesParams params = TargetOf(pool, pool.tiers[batch % kTiers], scrubs_[batch]);
  params.zeros = true;
  return {GroupId{static_cast<int32_t>(batch / kTiers)}, params};
}

absl::StatusOr<std::span<const PageLaunch>> DevicePools::Sort(const Plan& plan) {
  if (plan.ticket == kNoTicket && !(plan.copies.empty() && plan.scrubs.empty())) {
    return absl::InvalidArgumentError("a plan with copies or scrubs needs a ticket");
  }
  for (const PageScrub& scrub : plan.scrubs) {
    if (absl::Status status = CheckPage("scrub", scrub.tier, scrub.group, scrub.page);
        !status.ok()) {
      return status;
    }
  }
  for (const PageCopy& copy : plan.copies) {
    if (absl::Status status = CheckCopy(copy); !status.ok()) return status;
  }
  for (Batch& batch : batches_) {
    batch.from.clear();
    batch.to.clear();
  }
  for (Pages& pages : scrubs_) pages.clear();
  for (const PageScrub& scrub : plan.scrubs) {
    const size_t tier = static_cast<size_t>(scrub.tier);
    scrubs_[static_cast<size_t>(scrub.group) * kTiers + tier].push_back(scrub.page);
  }
  for (const PageCopy& copy : plan.copies) {
    const size_t direction =
        static_cast<size_t>(copy.from_tier) * kTiers + static_cast<size_t>(copy.to_tier);
    Batch& batch = batches_[static_cast<size_t>(copy.group) * kTiers * kTiers + direction];
    batch.from.push_back(copy.from_page);
    batch.to.push_back(copy.to_page);
  }
  launches_.clear();
  for (size_t b = 0; b < scrubs_.size(); ++b) {
    if (!scrubs_[b].empty()) launches_.push_back(ScrubOf(b));
  }
  for (size_t b = 0; b < batches_.size(); ++b) {
    if (!batches_[b].from.empty()) launches_.push_back(LaunchOf(b));
  }
  return std::span<const PageLaunch>(launches_);
}

absl::StatusOr<KvView> DevicePools::view(Tier tier, GroupId group, int32_t layer) const {
  if (absl::Status status = CheckPlace("view", tier, group); !status.ok()) return status;
  const Pool& pool = pools_[static_cast<size_t>(group)];
  if (layer < 0 || layer >= pool.layout.layers) {
    return absl::InvalidArgumentError(absl::StrCat("view of layer ", layer, " of group ",
                                                   static_cast<int32_t>(group), ", which has ",
                                                   pool.layout.layers, " layers"));
  }
  const Memory& memory = pool.tiers[static_cast<size_t>(tier)];
  if (!pool.views.empty()) {
    // Pages of every tier are alike, so host pages follow the views too.
    KvView view = pool.views[static_cast<size_t>(layer)];
    view.k = Moved(view.k, pool.pieces.base, memory.base);
    view.v = Moved(view.v, pool.pieces.base, memory.base);
    view.page_count = memory.page_count;
    return view;
  }
  const KvStrides strides = {
      .page = pool.layout.page_bytes(),
      .head = pool.layout.head_bytes(),
      .token = pool.layout.head_bytes() / pool.layout.tokens_per_page,
  };
  std::byte* k = memory.base + layer * pool.layout.layer_bytes();
  std::byte* v = k + pool.layout.layer_bytes() / 2;
  return KvView{k, v, strides, strides, memory.page_count};
}

}  // namespace quire
