// Devices and kernels.

#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "lib/gpu_device.h"
#include "quire/attention.h"
#include "quire/device.h"
#include "tests/support/adopted_memory.h"
#include "tests/support/fault_gpu.h"
#include "tests/support/fault_scenarios.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

using Code = absl::StatusCode;
constexpr KvLayout kLayout{.layers = 3, .kv_heads = 2, .head_dim = 8, .tokens_per_page = 4};
constexpr int32_t kPages = 6;

PageCopy CopyOf(int32_t group, int32_t from, int32_t to) {
  return {GroupId{group}, Tier::kDevice, Tier::kDevice, PageId{from}, PageId{to}, 1};
}

struct DeviceWorld : FaultWorld {
  using Call = std::function<Code(DeviceWorld&)>;

  DeviceWorld(bool on_gpu, Order order, const Call& call)
      : memory(kLayout, kPages, order), run(call) {
    if (on_gpu) gpu = std::make_unique<FaultGpu>();
    options.groups = {{.layout = kLayout, .page_count = kPages},
                      {.layout = kLayout, .page_count = kPages, .views = memory.views()}};
    if (on_gpu) options.groups[0].host_page_count = 2;
    copies = {CopyOf(0, 0, 1), CopyOf(1, 2, 3), CopyOf(0, 2, 4)};
  }
  ~DeviceWorld() override { device.reset(); }

  Code Run() override { return run(*this); }

  // Tickets that the call itself has used are left out.
  std::string State() override {
    std::ostringstream out;
    if (device == nullptr) return "no device";
    for (int32_t group = 0; group < 2; ++group) {
      const auto view = device->view(Tier::kDevice, GroupId{group}, 1);
      out << view.status() << ' ' << (view.ok() ? view->k_strides.page : 0) << '\n';
    }
    for (uint64_t ticket = 1; ticket <= settled; ++ticket) {
      const absl::StatusOr<bool> done = device->IsDone(Ticket{ticket});
      out << done.status() << ' ' << (done.ok() && *done) << '\n';
    }
    return out.str();
  }

  // A plan of which nothing may be relied on is never called done.
  void CheckFailed() override {
    if (device == nullptr || ticket == settled) return;
    const absl::StatusOr<bool> done = device->IsDone(Ticket{ticket});
    EXPECT_FALSE(done.ok()) << "a plan that failed is " << (*done ? "done" : "to be waited for");
  }

  std::string Finish() override {
    if (device == nullptr) return "no device";
    std::ostringstream out;
    out << device->Copy({Ticket{100}, copies}, Stream()) << '\n';
    if (gpu != nullptr) gpu->AdvanceAll();
    const absl::StatusOr<bool> done = device->IsDone(Ticket{100});
    out << done.status() << ' ' << (done.ok() && *done);
    return out.str();
  }

  Code Make() {
    auto made = gpu != nullptr ? NewGpuDevice(options, 0, *gpu) : NewCpuDevice(options);
    if (made.ok()) device = *std::move(made);
    return made.status().code();
  }
  Code Copy(std::span<const PageCopy> what) {
    return device->Copy({Ticket{++ticket}, what}, Stream()).code();
  }

  std::unique_ptr<FaultGpu> gpu;
  AdoptedMemory memory;
  DeviceOptions options;
  std::vector<PageCopy> copies;
  uint64_t ticket = 0;   // the last that was used
  uint64_t settled = 0;  // and the last that was there before the call
  Call run;
  std::unique_ptr<Device> device;
};

FaultScenario Creation(std::string name, bool gpu, Order order,
                       std::function<void(DeviceWorld&)> prepare = {}) {
  auto set_up = [=]() -> std::unique_ptr<FaultWorld> {
    auto world = std::make_unique<DeviceWorld>(gpu, order, [](DeviceWorld& w) { return w.Make(); });
    if (prepare) prepare(*world);
    return world;
  };
  std::vector<Code> may = {Code::kResourceExhausted};
  // What a GPU's runtime says is passed on.
  if (gpu) may.insert(may.end(), {Code::kFailedPrecondition, Code::kInternal});
  return {.name = (gpu ? "GPU: " : "CPU: ") + name, .set_up = set_up, .may_answer = may};
}

FaultScenario OnDevice(std::string name, bool gpu, Order order, DeviceWorld::Call run,
                       bool allocates, std::vector<Code> may) {
  auto set_up = [=]() -> std::unique_ptr<FaultWorld> {
    auto world = std::make_unique<DeviceWorld>(gpu, order, run);
    EXPECT_EQ(world->Make(), Code::kOk);
    world->Copy(std::span(world->copies).first(1));
    const std::vector<PageCopy> bad = {CopyOf(0, 0, 99)};
    world->Copy(bad);
    if (world->gpu != nullptr) world->gpu->AdvanceAll();
    world->settled = world->ticket;
    return world;
  };
  return {.name = (gpu ? "GPU: " : "CPU: ") + name,
          .set_up = set_up,
          .allocates = allocates,
          .may_keep = 4096,  // the fake GPU's queue, too
          .may_answer = std::move(may)};
}

std::function<void(DeviceWorld&)> WithoutViews() {
  return [](DeviceWorld& w) { w.options.groups[1].views.clear(); };
}

std::function<Code(DeviceWorld&)> CopyBad() {
  return [bad = std::vector<PageCopy>{CopyOf(0, 0, 5), CopyOf(1, 0, 99)}](DeviceWorld& w) {
    return w.Copy(bad);
  };
}

// More copies than before in one plan, carried out and asked for.
Code CopyAndWait(DeviceWorld& w) {
  if (const Code code = w.Copy(w.copies); code != Code::kOk) return code;
  if (w.gpu != nullptr) {
    const FaultPause pause;
    w.gpu->AdvanceAll();
  }
  const absl::StatusOr<bool> done = w.device->IsDone(Ticket{w.ticket});
  if (done.ok() && !*done) return Code::kUnknown;
  return done.status().code();
}

// --- Kernels.

struct KernelWorld : FaultWorld {
  explicit KernelWorld(LaunchError (*launch)(const AttentionParams&)) : launch_(launch) {
    page_ids.resize(8);
    for (int32_t i = 0; i < 8; ++i) page_ids[static_cast<size_t>(i)] = PageId{7 - i};
    const int64_t row = kHeadDim * int64_t{sizeof(float)};
    params.table = {.page_ids = page_ids.data(),
                    .row_begin = row_begin,
                    .lengths = lengths,
                    .batch = 2,
                    .tokens_per_page = 4};
    const KvStrides strides = {.page = 4 * row, .head = 4 * row, .token = row};
    params.kv = {key.data(), key.data(), strides, strides, 8};
    params.dtype = DType::kFloat32;
    params.query_heads = params.kv_heads = 1;
    params.head_dim = kHeadDim;
    params.query_begin = query_begin;
    params.query = query.data();
    params.output = output.data();
    params.scale = 1;
    params.causal = true;
  }

  Code Run() override {
    const LaunchError error = launch_(params);
    if (error == LaunchError::kWorkspaceTooSmall) return Code::kResourceExhausted;
    return error == LaunchError::kOk ? Code::kOk : Code::kInternal;
  }
  std::string State() override {
    std::ostringstream out;
    for (const float value : output) out << value << ' ';
    return out.str();
  }

  static constexpr int32_t kHeadDim = 8;
  LaunchError (*launch_)(const AttentionParams&);
  std::vector<PageId> page_ids;
  int64_t row_begin[2] = {0, 4};
  int32_t lengths[2] = {13, 16};
  int32_t query_begin[3] = {0, 1, 3};
  std::vector<float> key = std::vector<float>(8 * 4 * kHeadDim, 0.5F);
  std::vector<float> query = std::vector<float>(3 * kHeadDim, 0.25F);
  std::vector<float> output = std::vector<float>(3 * kHeadDim, -1);
  AttentionParams params = {};
};

FaultScenario OfKernel(std::string name, LaunchError (*launch)(const AttentionParams&)) {
  return {.name = std::move(name),
          .set_up = [launch] { return std::make_unique<KernelWorld>(launch); }};
}

}  // namespace

std::vector<FaultScenario> DeviceScenarios() {
  const std::vector<Code> none = {Code::kResourceExhausted};
  const std::vector<Code> invalid = {Code::kInvalidArgument};
  const std::vector<Code> from_gpu = {Code::kResourceExhausted, Code::kInternal};
  const auto bad_layout = [](DeviceWorld& w) { w.options.groups[0].layout.head_dim = 3; };
  const auto adopted = [](DeviceWorld& w) {
    w.options.groups[1].views.clear();
    w.options.groups[1].memory = w.memory.views()[0].k;
  };
  const auto unknown = [](DeviceWorld& w) { return w.device->IsDone(Ticket{77}).status().code(); };
  const auto failed = [](DeviceWorld& w) { return w.device->IsDone(Ticket{2}).status().code(); };
  const auto view = [](DeviceWorld& w) {
    return w.device->view(Tier::kDevice, GroupId{0}, 1).status().code();
  };
  const auto bad_view = [](DeviceWorld& w) {
    return w.device->view(Tier::kDevice, GroupId{0}, 9).status().code();
  };
  const auto destroy = [](DeviceWorld& w) {
    w.Copy(std::span(w.copies).first(1));
    w.device.reset();
    return Code::kOk;
  };
  std::vector<FaultScenario> all;
  for (const bool gpu : {false, true}) {
    const std::vector<Code>& may = gpu ? from_gpu : none;
    all.push_back(Creation("create, memory of its own", gpu, Order::kPageMajor, WithoutViews()));
    all.push_back(Creation("create, adopted memory", gpu, Order::kPageMajor, adopted));
    all.push_back(Creation("create, views in one piece", gpu, Order::kPageMajor));
    all.push_back(Creation("create, views in pieces", gpu, Order::kApart));
    all.push_back(Creation("create, refused", gpu, Order::kPageMajor, bad_layout));
    all.push_back(OnDevice("Copy", gpu, Order::kApart, CopyAndWait, true, may));
    all.push_back(OnDevice("Copy: refused", gpu, Order::kPageMajor, CopyBad(), true,
                           {Code::kInvalidArgument, Code::kResourceExhausted}));
    all.push_back(
        OnDevice("IsDone: unknown", gpu, Order::kPageMajor, unknown, true, {Code::kNotFound}));
    all.push_back(
        OnDevice("IsDone: failed", gpu, Order::kPageMajor, failed, true, {Code::kInternal}));
    all.push_back(OnDevice("view", gpu, Order::kPageMajor, view, false, invalid));
    all.push_back(OnDevice("view: refused", gpu, Order::kPageMajor, bad_view, true, invalid));
    all.push_back(OnDevice("destruction", gpu, Order::kPageMajor, destroy, gpu, may));
  }
  return all;
}

std::vector<FaultScenario> KernelScenarios() {
  return {OfKernel("Attention, no workspace given", cpu::Attention),
          OfKernel("AttentionPlain", cpu::AttentionPlain)};
}

}  // namespace quire::testing
