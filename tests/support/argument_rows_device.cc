// Rows of the argument matrix: layouts, devices, plans.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/gpu_device.h"
#include "quire/device.h"
#include "tests/support/argument_matrix.h"
#include "tests/support/fake_gpu.h"

namespace quire::testing {

namespace {

constexpr int32_t kLayers = 2;
constexpr int64_t kFloats = 4096;

DeviceOptions OneDeviceGroup() {
  DeviceOptions options;
  options.groups.push_back({.layout = {.layers = kLayers,
                                       .kv_heads = 2,
                                       .head_dim = 8,
                                       .tokens_per_page = 4,
                                       .dtype = DType::kBFloat16},
                            .page_count = 4});
  return options;
}

template <typename Integer, typename Set>
Row Option(const std::string& name, const std::string& answers, const std::string& word,
           const Set& set) {
  return {name, EdgesOf<Integer>(), answers, word, [set](int64_t value) {
            DeviceOptions options = OneDeviceGroup();
            set(options.groups[0], static_cast<Integer>(value));
            // The sizes of any layout are numbers.
            const KvLayout& layout = options.groups[0].layout;
            if (layout.page_bytes() == 1 || layout.layer_bytes() == 1 || layout.head_bytes() == 1) {
              return std::string("! one byte");
            }
            return LetterOf(NewCpuDevice(options));
          }};
}

// The engine's own tensors.
struct Views {
  Views() {
    options = OneDeviceGroup();
    const KvStrides strides = {.page = 256, .head = 64, .token = 16};
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      float* k = memory.data() + layer * kFloats / kLayers;
      options.groups[0].views.push_back({.k = k,
                                         .v = k + kFloats / 2 / kLayers,
                                         .k_strides = strides,
                                         .v_strides = strides,
                                         .page_count = 4});
    }
  }
  std::vector<float> memory = std::vector<float>(kFloats);
  DeviceOptions options;
};

template <typename Integer, typename Set>
Row View(const std::string& name, const std::string& answers, const std::string& word,
         const Set& set) {
  return {name, EdgesOf<Integer>(), answers, word, [set](int64_t value) {
            Views views;
            if (!NewCpuDevice(views.options).ok()) return std::string("! good views are refused");
            set(views.options.groups[0].views[1], static_cast<Integer>(value));
            return LetterOf(NewCpuDevice(views.options));
          }};
}

void AddOptions(std::vector<Row>* rows) {
  const auto layout = [&](const char* field, const char* answers, int32_t KvLayout::*member) {
    rows->push_back(Option<int32_t>(std::string("KvLayout::") + field, answers, "groups[0]",
                                    [member](DeviceGroup& g, int32_t v) { g.layout.*member = v; }));
  };
  layout("layers", "iiiox", &KvLayout::layers);
  layout("kv_heads", "iiiox", &KvLayout::kv_heads);
  layout("head_dim", "iiiii", &KvLayout::head_dim);
  layout("tokens_per_page", "iiioi", &KvLayout::tokens_per_page);
  rows->push_back(Option<int32_t>("KvLayout::dtype", "iiooi", "dtype",
                                  [](DeviceGroup& g, int32_t v) { g.layout.dtype = DType{v}; }));
  rows->push_back(Option<int32_t>("DeviceGroup::page_count", "iiioi", "page_count",
                                  [](DeviceGroup& g, int32_t v) { g.page_count = v; }));
  rows->push_back(Option<int32_t>("DeviceGroup::host_page_count", "iioii", "host_page_count",
                                  [](DeviceGroup& g, int32_t v) { g.host_page_count = v; }));
  rows->push_back(View<int32_t>("KvView::page_count", "iiiii", "views[1].page_count",
                                [](KvView& view, int32_t v) { view.page_count = v; }));
  const auto stride = [&](const char* field, int64_t KvStrides::*member) {
    const std::string name = std::string("KvStrides::") + field;
    const std::string word = "views[1].v_strides";
    const auto set = [member](KvView& view, int64_t v) { view.v_strides.*member = v; };
    rows->push_back(View<int64_t>(name, "iiiii", word, set));
    rows->push_back(View<int64_t>(name, "iiii", word, set));
    rows->back().values = {INT64_MIN + 16, -16, INT64_MAX - 15, int64_t{1} << 62};
  };
  stride("page", &KvStrides::page);
  stride("head", &KvStrides::head);
  stride("token", &KvStrides::token);
}

// A plan of one copy, to a device whose pages are all different; a refusal copies nothing.
struct PlanParts {
  PageCopy copy = {.group = GroupId{0},
                   .from_tier = Tier::kDevice,
                   .to_tier = Tier::kDevice,
                   .from_page = PageId{2},
                   .to_page = PageId{3},
                   .token_count = 4};
  PageScrub scrub = {.group = GroupId{0}, .tier = Tier::kDevice, .page = PageId{1}};
  Plan plan = {.ticket = Ticket{7}};
};

template <typename Integer, typename Set>
Row Copy(const std::string& name, const std::string& answers, const Set& set) {
  return {
      name, EdgesOf<Integer>(), answers, "", [set](int64_t value) {
        std::vector<float> memory(kFloats + 16);
        const uintptr_t begin = reinterpret_cast<uintptr_t>(memory.data());
        float* aligned = memory.data() + (64 - begin % 64) % 64 / sizeof(float);
        for (size_t i = 0; i < kFloats; ++i) aligned[i] = static_cast<float>(i);
        const std::vector<float> before = memory;
        DeviceOptions options = OneDeviceGroup();
        options.groups[0].memory = aligned;
        const absl::StatusOr<std::unique_ptr<Device>> device = NewCpuDevice(options);
        if (!device.ok()) return "! " + device.status().ToString();
        PlanParts parts;
        Plan& plan = parts.plan;
        plan.copies = {&parts.copy, 1};
        plan.scrubs = {&parts.scrub, 1};
        set(parts, static_cast<Integer>(value));
        std::string answer = LetterOf((*device)->Copy(plan, Stream()));
        if (answer[0] != 'o' && memory != before) answer = "! copied, and " + answer;
        // Nobody is told that a refused plan is done.
        if (plan.ticket != kNoTicket && (*device)->IsDone(plan.ticket).ok() != (answer == "o")) {
          answer = "! IsDone disagrees: " + answer;
        }
        return answer;
      }};
}

void AddPlans(std::vector<Row>* rows) {
  const auto tier = [&](const char* name, Tier PageCopy::*member) {
    rows->push_back(Copy<uint8_t>(
        name, "oioii", [member](PlanParts& parts, uint8_t v) { parts.copy.*member = Tier{v}; }));
  };
  tier("PageCopy::from_tier", &PageCopy::from_tier);
  tier("PageCopy::to_tier", &PageCopy::to_tier);
  const auto page = [&](const char* name, PageId PageCopy::*member) {
    rows->push_back(Copy<int32_t>(
        name, "iiooi", [member](PlanParts& parts, int32_t v) { parts.copy.*member = PageId{v}; }));
  };
  page("PageCopy::from_page", &PageCopy::from_page);
  page("PageCopy::to_page", &PageCopy::to_page);
  rows->push_back(Copy<int32_t>("PageCopy::group", "iioii", [](PlanParts& parts, int32_t v) {
    parts.copy.group = GroupId{v};
  }));
  rows->push_back(Copy<int32_t>("PageCopy::token_count", "iiooi",
                                [](PlanParts& parts, int32_t v) { parts.copy.token_count = v; }));
  rows->push_back(Copy<uint8_t>("PageScrub::tier", "oioii",
                                [](PlanParts& parts, uint8_t v) { parts.scrub.tier = Tier{v}; }));
  rows->push_back(Copy<int32_t>("PageScrub::page", "iiooi",
                                [](PlanParts& parts, int32_t v) { parts.scrub.page = PageId{v}; }));
  rows->push_back(Copy<int32_t>("PageScrub::group", "iioii", [](PlanParts& parts, int32_t v) {
    parts.scrub.group = GroupId{v};
  }));
  rows->push_back(Copy<uint64_t>("Plan::ticket", "ioioo", [](PlanParts& parts, uint64_t v) {
    parts.plan.ticket = Ticket{v};
  }));
}

template <typename Integer, typename Call>
Row OnDevice(const std::string& name, const std::string& answers, const Call& call) {
  return {name, EdgesOf<Integer>(), answers, "", [call](int64_t value) {
            const absl::StatusOr<std::unique_ptr<Device>> device = NewCpuDevice(OneDeviceGroup());
            if (!device.ok()) return "! " + device.status().ToString();
            return LetterOf(call(**device, static_cast<Integer>(value)));
          }};
}

}  // namespace

std::vector<Row> DeviceRows() {
  std::vector<Row> rows;
  AddOptions(&rows);
  AddPlans(&rows);
  rows.push_back(OnDevice<uint64_t>("Device::IsDone(ticket)", "ononn",
                                    [](Device& d, uint64_t v) { return d.IsDone(Ticket{v}); }));
  rows.push_back(OnDevice<uint8_t>("Device::view(tier)", "oioii", [](Device& d, uint8_t v) {
    return d.view(Tier{v}, GroupId{0}, 0);
  }));
  rows.push_back(OnDevice<int32_t>("Device::view(group)", "iioii", [](Device& d, int32_t v) {
    return d.view(Tier::kDevice, GroupId{v}, 0);
  }));
  rows.push_back(OnDevice<int32_t>("Device::view(layer)", "iiooi", [](Device& d, int32_t v) {
    return d.view(Tier::kDevice, GroupId{0}, v);
  }));
  rows.push_back({"NewCudaDevice(ordinal)", EdgesOf<int>(), "ppoop", "no GPU", [](int64_t v) {
                    FakeGpu gpu(2);
                    return LetterOf(NewGpuDevice(OneDeviceGroup(), static_cast<int>(v), gpu));
                  }});
  return rows;
}

}  // namespace quire::testing
