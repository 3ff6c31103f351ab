// Options of a device: shapes, and an engine's own tensors. A plain restatement of device.h judges
// them, byte by byte where there are views. Then pages are copied, and every byte of the memory is
// looked at.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "quire/device.h"
#include "tests/fuzz/fuzz_input.h"

namespace quire::fuzz {
namespace {

using Wide = __int128;

constexpr Wide kMostBytes = 1 << 18;

bool In(int64_t value, int64_t least, int64_t most) { return value >= least && value <= most; }

int32_t ElementBytes(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

bool GoodNumbers(const DeviceGroup& group) {
  const KvLayout& l = group.layout;
  return l.layers >= 1 && l.kv_heads >= 1 && l.head_dim >= 1 &&
         In(static_cast<int64_t>(l.dtype), 0, 2) && In(l.tokens_per_page, 1, 4096) &&
         Wide{l.head_dim} * ElementBytes(l.dtype) % 16 == 0 && In(group.page_count, 1, 1 << 30) &&
         group.host_page_count == 0;
}

// As a floating-point number, which cannot overflow; exact as long as it matters.
long double PageBytes(const KvLayout& l) {
  return 2.0L * ElementBytes(l.dtype) * l.layers * l.kv_heads * l.tokens_per_page * l.head_dim;
}

// From the first byte of K (or V) of a page to behind the last.
Wide ExtentOf(const KvLayout& l, const KvStrides& s) {
  return (Wide{l.kv_heads} - 1) * s.head + (Wide{l.tokens_per_page} - 1) * s.token +
         Wide{l.head_dim} * ElementBytes(l.dtype);
}

// A run of bytes that belongs to page 0; page p's lies p strides further.
struct Run {
  int64_t begin;
  int64_t bytes;
};

// Whether two heads or tokens of a page share bytes: each of them, one by one.
bool HeadsMeet(const KvLayout& l, const KvStrides& s) {
  std::vector<int64_t> begins;
  for (int64_t head = 0; head < l.kv_heads; ++head) {
    for (int64_t token = 0; token < l.tokens_per_page; ++token) {
      begins.push_back(head * s.head + token * s.token);
    }
  }
  std::sort(begins.begin(), begins.end());
  for (size_t i = 1; i < begins.size(); ++i) {
    if (begins[i] - begins[i - 1] < int64_t{l.head_dim} * ElementBytes(l.dtype)) return true;
  }
  return false;
}

// An engine's tensors in one block, whose addresses are offsets until it is known to be small.
struct Tensors {
  std::vector<KvView> views;
  std::vector<int64_t> offsets;  // K and V of each view
};

Tensors DrawTensors(Input& input, const DeviceGroup& group) {
  const KvLayout& l = group.layout;
  const auto number = [](Wide wide) {
    return static_cast<int64_t>(std::clamp<Wide>(wide, 0, INT64_MAX));
  };
  const Wide head = Wide{l.head_dim} * ElementBytes(l.dtype);
  KvStrides strides = {};
  if (input.OneIn(2)) {
    strides = {0, number(head), number(head * l.kv_heads)};
  } else {
    strides = {0, number(head * l.tokens_per_page), number(head)};
  }
  const Wide extent = ExtentOf(l, strides);
  const bool together = input.OneIn(2);  // all layers in one page, or a pool for each
  strides.page = number(together ? extent * 2 * std::clamp(l.layers, 1, 64) : extent);
  if (input.OneIn(4)) strides.page = number(Wide{strides.page} + 16 * input.Below(8));
  if (input.OneIn(16)) strides.head = input.OneIn(2) ? 16 * input.Below(32) : input.AnyInt64();
  if (input.OneIn(16)) strides.token = input.OneIn(2) ? 16 * input.Below(32) : input.AnyInt64();
  if (input.OneIn(16)) strides.page = input.OneIn(2) ? 16 * input.Below(64) : input.AnyInt64();
  Tensors tensors;
  const int views = input.OneIn(16) ? input.Below(5) : std::clamp(l.layers, 1, 8);
  Wide at = 0;
  for (int i = 0; i < views; ++i) {
    KvView view = {nullptr, nullptr, strides, strides, group.page_count};
    if (input.OneIn(16)) view.page_count = input.AnyInt32();
    if (input.OneIn(16)) view.v_strides.page = number(Wide{strides.page} + 16);
    if (input.OneIn(16)) std::swap(view.v_strides.head, view.v_strides.token);
    tensors.views.push_back(view);
    for (int half = 0; half < 2; ++half) {
      const Wide moved = at + (input.OneIn(12) ? 16 * input.Below(32) : 0);
      tensors.offsets.push_back(number(moved + (input.OneIn(32) ? 8 : 0)));
      at += together ? extent : extent * group.page_count;
    }
  }
  if (input.OneIn(4)) std::reverse(tensors.offsets.begin(), tensors.offsets.end());
  return tensors;
}

// REQUIRES small sizes. What device.h asks of views.
bool GoodViews(const DeviceGroup& group, const Tensors& tensors) {
  if (static_cast<int64_t>(tensors.views.size()) != group.layout.layers) return false;
  const int64_t stride = tensors.views[0].k_strides.page;
  std::vector<Run> runs;
  for (size_t i = 0; i < tensors.views.size(); ++i) {
    const KvView& view = tensors.views[i];
    if (view.page_count != group.page_count) return false;
    for (const auto& [strides, offset] : {std::pair(view.k_strides, tensors.offsets[2 * i]),
                                          std::pair(view.v_strides, tensors.offsets[2 * i + 1])}) {
      if (strides.page != stride || offset % 16 != 0) return false;
      for (const int64_t one : {strides.page, strides.head, strides.token}) {
        if (one < 0 || one % 16 != 0) return false;
      }
      if (ExtentOf(group.layout, strides) > stride) return false;
      if (HeadsMeet(group.layout, strides)) return false;
      runs.push_back({offset, static_cast<int64_t>(ExtentOf(group.layout, strides))});
    }
  }
  // No byte in two pages.
  for (const Run& a : runs) {
    for (const Run& b : runs) {
      for (int64_t page = 1; page < group.page_count; ++page) {
        const int64_t begin = b.begin + page * stride;
        if (begin < a.begin + a.bytes && a.begin < begin + b.bytes) return false;
      }
    }
  }
  return true;
}

void CheckStatus(const absl::Status& status, bool good) {
  if (status.ok()) return Require(good, "bad options are taken");
  const std::string message(status.message());
  Require(message.starts_with("groups"), "names no field: " + status.ToString());
  if (absl::IsResourceExhausted(status)) return Require(good, "no memory for bad options");
  Require(absl::IsInvalidArgument(status), status.ToString());
  Require(!good, "good options are refused: " + message);
}

// Copies page `from` to page `to`; every byte must then be as `runs` say.
void CheckCopy(Input& input, Device& device, int groups, const DeviceGroup& group, char* block,
               int64_t bytes, const std::vector<Run>& runs, int64_t stride) {
  const int32_t from = input.Mostly(0, group.page_count), to = input.Mostly(0, group.page_count);
  const int32_t tokens = input.Mostly(0, group.layout.tokens_per_page + 1);
  const PageCopy copy = {GroupId{input.OneIn(16) ? input.AnyInt32() : 0},
                         input.OneIn(16) ? Tier::kHost : Tier::kDevice,
                         Tier::kDevice,
                         PageId{from},
                         PageId{to},
                         tokens};
  for (int64_t i = 0; i < bytes; ++i) block[i] = static_cast<char>(i * 31 % 251);
  std::vector<char> want(block, block + bytes);
  const bool good = In(static_cast<int64_t>(copy.group), 0, groups - 1) &&
                    copy.from_tier == Tier::kDevice && In(from, 0, group.page_count - 1) &&
                    In(to, 0, group.page_count - 1) && from != to &&
                    In(tokens, 0, group.layout.tokens_per_page);
  for (const Run& run : good&& copy.group == GroupId{0} ? runs : std::vector<Run>()) {
    std::copy_n(block + run.begin + from * stride, run.bytes,
                want.begin() + run.begin + to * stride);
  }
  const absl::Status status = device.Copy({Ticket{7}, std::span(&copy, 1)}, Stream());
  Require(status.ok() == good, "Copy answers " + status.ToString());
  Require(std::equal(want.begin(), want.end(), block), "Copy wrote something else");
  Require(device.IsDone(Ticket{7}).ok() == good, "IsDone disagrees with Copy");
  Require(absl::IsNotFound(device.IsDone(Ticket{8}).status()), "a ticket that was never given");
}

void CheckView(Input& input, const Device& device, int groups, const KvLayout& layout) {
  const auto tier = static_cast<Tier>(input.OneIn(4) ? input.Byte() : 0);
  const int32_t group = input.OneIn(4) ? input.AnyInt32() : 0;
  const int32_t layer = input.Mostly(0, 3);
  const bool good =
      tier == Tier::kDevice && In(group, 0, groups - 1) && layer >= 0 && layer < layout.layers;
  const absl::StatusOr<KvView> view = device.view(tier, GroupId{group}, layer);
  Require(view.ok() == good, "view answers " + view.status().ToString());
}

void FuzzViews(Input& input, DeviceGroup group) {
  Tensors tensors = DrawTensors(input, group);
  group.views = tensors.views;
  Wide end = 0;
  bool sizes = group.layout.kv_heads <= 64 && group.page_count <= 64;
  for (size_t i = 0; i < tensors.views.size() && GoodNumbers(group); ++i) {
    for (const KvStrides& s : {tensors.views[i].k_strides, tensors.views[i].v_strides}) {
      end = std::max(end, ExtentOf(group.layout, s) + (Wide{group.page_count} - 1) * s.page);
      sizes = sizes && s.head >= INT32_MIN && s.token >= INT32_MIN && s.page >= INT32_MIN;
    }
  }
  end += tensors.offsets.empty()
             ? Wide{0}
             : Wide{*std::max_element(tensors.offsets.begin(), tensors.offsets.end())};
  sizes = sizes && end <= kMostBytes;
  void* memory = nullptr;
  const auto bytes = static_cast<int64_t>(sizes ? std::max<Wide>(end, 64) : 64);
  if (posix_memalign(&memory, 64, static_cast<size_t>(bytes)) != 0) std::abort();
  auto* block = static_cast<char*>(memory);
  for (size_t i = 0; i < group.views.size(); ++i) {
    const auto at = [&](size_t index) {
      return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(block) +
                                     static_cast<uintptr_t>(tensors.offsets[index]));
    };
    group.views[i].k = input.OneIn(64) ? nullptr : at(2 * i);
    group.views[i].v = at(2 * i + 1);
    sizes = sizes && group.views[i].k != nullptr;
  }
  const auto device = NewCpuDevice({.groups = {group}});
  if (sizes && !group.views.empty()) {
    const bool good = GoodNumbers(group) && GoodViews(group, tensors);
    // A pool of one page whose tensors lie across one another may be refused or not: no other page
    // can be hurt.
    if (good && group.page_count == 1 && !device.ok()) return std::free(memory);
    CheckStatus(device.status(), good);
    std::vector<Run> runs;
    for (size_t i = 0; good && i < tensors.offsets.size(); ++i) {
      const KvView& view = tensors.views[i / 2];
      runs.push_back(
          {tensors.offsets[i], static_cast<int64_t>(ExtentOf(
                                   group.layout, i % 2 == 0 ? view.k_strides : view.v_strides))});
    }
    if (good) {
      CheckCopy(input, **device, 1, group, block, bytes, runs, tensors.views[0].k_strides.page);
      CheckView(input, **device, 1, group.layout);
    }
  }
  std::free(memory);
}

void FuzzLayout(Input& input, const DeviceGroup& drawn) {
  DeviceOptions options;
  const int groups = input.OneIn(8) ? input.Below(11) : 1;
  DeviceGroup group = drawn;
  alignas(64) static char some[128];
  if (input.OneIn(8)) group.memory = some + (input.OneIn(2) ? 16 : 0);
  options.groups.assign(static_cast<size_t>(groups), group);
  const bool aligned = reinterpret_cast<uintptr_t>(group.memory) % 64 == 0;
  const bool numbers = GoodNumbers(group);
  const long double bytes = numbers ? PageBytes(group.layout) * group.page_count : 0;
  const bool good = numbers && groups >= 1 && groups <= 8 && aligned && bytes <= 0x1p62L;
  // An adopted pool must be as long as it says.
  if (good && group.memory != nullptr && bytes > 128) return;
  const auto device = NewCpuDevice(options);
  CheckStatus(device.status(), good);
  if (!device.ok() || group.memory != nullptr || bytes > kMostBytes) return;
  const absl::StatusOr<KvView> view = (*device)->view(Tier::kDevice, GroupId{0}, 0);
  Require(view.ok(), view.status().ToString());
  const auto page = static_cast<int64_t>(PageBytes(group.layout));
  CheckCopy(input, **device, groups, group, static_cast<char*>(view->k), page * group.page_count,
            {{0, page}}, page);
  CheckView(input, **device, groups, group.layout);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  DeviceGroup group;
  group.layout.layers = input.Mostly(1, 3);
  group.layout.kv_heads = input.Mostly(1, 3);
  group.layout.head_dim = input.OneIn(6) ? input.AnyInt32() : 8 * (1 + input.Below(3));
  group.layout.tokens_per_page = input.Mostly(1, 5);
  group.layout.dtype = static_cast<DType>(input.Mostly(0, 3));
  group.page_count = input.Mostly(1, 6);
  if (input.OneIn(16)) group.host_page_count = input.Mostly(0, 3);
  if (input.OneIn(2)) {
    FuzzViews(input, group);
  } else {
    FuzzLayout(input, group);
  }
  return 0;
}

}  // namespace quire::fuzz
