// Options of a device: checked once, so that no copy has to.

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/device_pool.h"

namespace quire {
namespace {

constexpr size_t kMaxGroups = 8;
constexpr int32_t kMaxTokensPerPage = 4096;
constexpr int32_t kMaxPages = int32_t{1} << 30;
constexpr int64_t kMaxPieces = 65536;
constexpr uintptr_t kMemoryAlignment = 64;
constexpr int64_t kMaxBytes = int64_t{1} << 62;  // of a pool: sums of two such do not overflow
constexpr int64_t kAlignment = 16;               // kernels move 16 bytes at a time

absl::Status InvalidField(int group, absl::string_view field, int64_t value,
                          absl::string_view range) {
  return absl::InvalidArgumentError(
      absl::StrCat("groups[", group, "].", field, " is ", value, "; it must be ", range));
}

absl::Status TooLarge(int group, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("groups[", group, "]: the pool's bytes do not fit in 62 bits; ", what));
}

absl::Status CheckLayout(int index, const KvLayout& layout) {
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
  if (int64_t{layout.head_dim} * SizeOf(layout.dtype) % kAlignment != 0) {
    // A pool that kernels would refuse is refused here.
    return InvalidField(index, "layout.head_dim", layout.head_dim,
                        "a multiple of 16 bytes: 8 elements, or 4 of kFloat32");
  }
  return absl::OkStatus();
}

absl::Status CheckGroup(int index, const DeviceGroup& group) {
  const KvLayout& layout = group.layout;
  if (absl::Status status = CheckLayout(index, layout); !status.ok()) return status;
  if (group.page_count < 1 || group.page_count > kMaxPages) {
    return InvalidField(index, "page_count", group.page_count, "1 to 2^30");
  }
  if (group.host_page_count < 0 || group.host_page_count > kMaxPages) {
    return InvalidField(index, "host_page_count", group.host_page_count, "0 to 2^30");
  }
  const int64_t pages = std::max(group.page_count, group.host_page_count);
  if (Product({pages, layout.page_bytes()}) > kMaxBytes) {
    return TooLarge(index, "make layers, kv_heads, head_dim or page_count smaller");
  }
  if (reinterpret_cast<uintptr_t>(group.memory) % kMemoryAlignment != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("groups[", index, "].memory must be 64-byte aligned"));
  }
  if (group.memory != nullptr && !group.views.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("groups[", index, "] has memory and views; give one of them"));
  }
  const absl::StatusOr<PagePieces> pieces = FindPieces(index, group);
  if (!pieces.ok()) return pieces.status();
  if (group.host_page_count > 0 && pieces->offsets.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("groups[", index, "].host_page_count is ", group.host_page_count,
                     ", but its views spread a page over ", pieces->offsets.size(),
                     " runs of memory; host pages need views that keep a page together, or be 0"));
  }
  return absl::OkStatus();
}

// The bytes from the first to behind the last that K (or V) of a page touches, in one layer;
// INT64_MAX: far too many.
int64_t ExtentOf(const KvLayout& layout, const KvStrides& strides) {
  int64_t extent = int64_t{layout.head_dim} * SizeOf(layout.dtype);
  for (const int64_t reach : {Product({layout.kv_heads - 1, strides.head}),
                              Product({layout.tokens_per_page - 1, strides.token})}) {
    if (__builtin_add_overflow(extent, reach, &extent)) return INT64_MAX;
  }
  return extent;
}

// False if two (head, token) of a page would share bytes. Exact, so that no tensor is refused for
// an order that nobody thought of. REQUIRES strides whose extent fits. O(tokens).
bool HeadsAndTokensAreApart(const KvLayout& layout, const KvStrides& strides) {
  const int64_t bytes = int64_t{layout.head_dim} * SizeOf(layout.dtype);
  const int64_t last_head = layout.kv_heads - 1;
  if (last_head > 0 && strides.head < bytes) return false;
  const int64_t head = std::max(strides.head, int64_t{1});  // of a single head it may be 0
  for (int64_t tokens = 1; tokens < layout.tokens_per_page; ++tokens) {
    // Head 0 of the token that lies so far ahead, between two heads of this one.
    const int64_t distance = tokens * strides.token;
    const int64_t below = std::min(distance / head, last_head);
    if (distance - below * head < bytes) return false;
    if (below < last_head && (below + 1) * head - distance < bytes) return false;
  }
  return true;
}

// `name` is views[3].k or the like; what strides say must have been found good for K before V.
absl::Status CheckTensor(const DeviceGroup& group, const std::string& name, const void* base,
                         const KvStrides& strides) {
  const auto invalid = [&](auto... words) {
    return absl::InvalidArgumentError(absl::StrCat(name, words...));
  };
  if (base == nullptr) return invalid(" is null; give the address of page 0");
  if (reinterpret_cast<uintptr_t>(base) % kAlignment != 0) {
    return invalid(" must be 16-byte aligned");
  }
  for (const auto& [field, stride] :
       {std::pair("page", strides.page), std::pair("head", strides.head),
        std::pair("token", strides.token)}) {
    if (stride < 0 || stride % kAlignment != 0) {
      return invalid("_strides.", field, " is ", stride, "; it must be a multiple of 16 bytes");
    }
  }
  const int64_t common = group.views[0].k_strides.page;
  if (strides.page != common) {
    return invalid("_strides.page is ", strides.page, ", but views[0].k_strides.page is ", common,
                   "; all page strides of a group must be equal");
  }
  const int64_t extent = ExtentOf(group.layout, strides);
  if (extent > strides.page) {
    return invalid("_strides spread the heads and tokens of a page over ", extent,
                   " bytes, more than the page stride of ", strides.page,
                   "; a page must lie within one page stride");
  }
  if (!HeadsAndTokensAreApart(group.layout, strides)) {
    return invalid("_strides.head and .token give two tokens or heads the same bytes; a head of a ",
                   "token has ", int64_t{group.layout.head_dim} * SizeOf(group.layout.dtype));
  }
  return absl::OkStatus();
}

absl::Status CheckViews(int index, const DeviceGroup& group) {
  const auto count = static_cast<int64_t>(group.views.size());
  if (count != group.layout.layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("groups[", index, "].views has ", count,
                     " entries; it must have one per layer: ", group.layout.layers));
  }
  for (int64_t layer = 0; layer < count; ++layer) {
    const KvView& view = group.views[static_cast<size_t>(layer)];
    const std::string name = absl::StrCat("groups[", index, "].views[", layer, "]");
    if (view.page_count != group.page_count) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, ".page_count is ", view.page_count, "; it must be the group's ", group.page_count));
    }
    absl::Status status = CheckTensor(group, absl::StrCat(name, ".k"), view.k, view.k_strides);
    if (!status.ok()) return status;
    status = CheckTensor(group, absl::StrCat(name, ".v"), view.v, view.v_strides);
    if (!status.ok()) return status;
  }
  const int64_t stride = group.views[0].k_strides.page;
  const int64_t pages = std::max(group.page_count, group.host_page_count);
  return Product({pages, stride}) <= kMaxBytes
             ? absl::OkStatus()
             : TooLarge(index, "make the page stride of its views smaller");
}

// Bytes [begin, end) of page 0, from the lowest.
struct Run {
  int64_t begin;
  int64_t end;
};

// Runs that overlap or touch become one, but never longer than a page stride: where a pool has one
// page, the next layer's pool may begin right behind it.
std::vector<Run> PutTogether(std::vector<Run> runs, int64_t stride) {
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.begin < b.begin; });
  std::vector<Run> together;
  for (const Run& run : runs) {
    const bool overlaps = !together.empty() && run.begin < together.back().end;
    const bool touches = !together.empty() && run.begin == together.back().end &&
                         run.end - together.back().begin <= stride;
    if (overlaps || touches) {
      together.back().end = std::max(together.back().end, run.end);
    } else {
      together.push_back(run);
    }
  }
  return together;
}

// Whether one run of some page meets another run of another page. The runs are apart and sorted.
bool PagesMeet(const std::vector<Run>& runs, int64_t stride, int32_t page_count) {
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].end - runs[i].begin > stride) return true;
    const int64_t last_end = runs[i].end + (page_count - 1) * stride;
    for (size_t j = i + 1; j < runs.size() && runs[j].begin < last_end; ++j) {
      // The first page of run i that ends behind the beginning of page 0 of run j.
      const int64_t page = (runs[j].begin - runs[i].end) / stride + 1;
      if (runs[i].begin + page * stride < runs[j].end) return true;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<PagePieces> FindPieces(int index, const DeviceGroup& group) {
  if (group.views.empty()) {
    const int64_t bytes = group.layout.page_bytes();
    return PagePieces{.base = group.memory, .stride = bytes, .bytes = bytes, .offsets = {0}};
  }
  if (absl::Status status = CheckViews(index, group); !status.ok()) return status;
  // As numbers: the tensors may be objects of their own, which pointers may not be compared across.
  uintptr_t lowest = UINTPTR_MAX;
  for (const KvView& view : group.views) {
    lowest = std::min(
        {lowest, reinterpret_cast<uintptr_t>(view.k), reinterpret_cast<uintptr_t>(view.v)});
  }
  PagePieces pieces = {.base = reinterpret_cast<void*>(lowest),
                       .stride = group.views[0].k_strides.page};
  std::vector<Run> runs;
  for (const KvView& view : group.views) {
    for (const auto& [memory, strides] :
         {std::pair(view.k, view.k_strides), std::pair(view.v, view.v_strides)}) {
      const uintptr_t begin = reinterpret_cast<uintptr_t>(memory) - lowest;
      if (begin > kMaxBytes) return TooLarge(index, "bring the views closer together");
      runs.push_back({static_cast<int64_t>(begin),
                      static_cast<int64_t>(begin) + ExtentOf(group.layout, strides)});
    }
  }
  runs = PutTogether(std::move(runs), pieces.stride);
  if (PagesMeet(runs, pieces.stride, group.page_count)) {
    return absl::InvalidArgumentError(
        absl::StrCat("groups[", index,
                     "].views give two pages the same bytes; each page needs bytes of its own: "
                     "look at the bases, the page stride and page_count"));
  }
  // CopyPages wants runs of one length.
  for (const Run& run : runs) pieces.bytes = std::gcd(pieces.bytes, run.end - run.begin);
  int64_t count = 0;
  for (const Run& run : runs) count += (run.end - run.begin) / pieces.bytes;
  if (count > kMaxPieces) {
    return absl::InvalidArgumentError(
        absl::StrCat("groups[", index, "].views cut a page into ", count, " runs of equal length; ",
                     kMaxPieces, " are allowed: give all layers the same strides"));
  }
  for (const Run& run : runs) {
    for (int64_t at = run.begin; at < run.end; at += pieces.bytes) pieces.offsets.push_back(at);
  }
  return pieces;
}

absl::Status CheckDeviceOptions(const DeviceOptions& options) {
  const size_t count = options.groups.size();
  if (count < 1 || count > kMaxGroups) {
    return absl::InvalidArgumentError(
        absl::StrCat("groups has ", count, " entries; it must have 1 to ", kMaxGroups));
  }
  for (size_t i = 0; i < count; ++i) {
    absl::Status status = CheckGroup(static_cast<int>(i), options.groups[i]);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace quire
