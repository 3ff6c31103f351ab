// The engine over a device whose copies fail: no token changes.

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "engine/contiguous.h"
#include "engine/engine.h"
#include "engine/tiny_model.h"
#include "gtest/gtest.h"
#include "quire/device.h"

namespace engine {
namespace {

// Hands everything to a CPU device, except the plans that `fails` says yes to: they are not carried
// out at all.
class FailingDevice : public quire::Device {
 public:
  FailingDevice(std::unique_ptr<quire::Device> real, std::function<bool(int)> fails)
      : real_(std::move(real)), fails_(std::move(fails)) {}

  absl::Status Copy(const quire::Plan& plan, quire::Stream stream) override {
    if (!fails_(plans_++)) return real_->Copy(plan, stream);
    return absl::InternalError("the copy engine is on fire");
  }
  absl::StatusOr<bool> IsDone(quire::Ticket ticket) override { return real_->IsDone(ticket); }
  absl::StatusOr<quire::KvView> view(quire::Tier tier, quire::GroupId group,
                                     int32_t layer) const override {
    return real_->view(tier, group, layer);
  }

 private:
  std::unique_ptr<quire::Device> real_;
  std::function<bool(int)> fails_;
  int plans_ = 0;
};

std::unique_ptr<quire::Device> MakeDevice(const ModelConfig& config, const EngineOptions& options,
                                          std::function<bool(int)> fails) {
  quire::DeviceGroup group;
  group.layout.layers = config.layers;
  group.layout.kv_heads = config.kv_heads;
  group.layout.head_dim = config.head_dim();
  group.layout.tokens_per_page = options.tokens_per_page;
  group.layout.dtype = quire::DType::kFloat32;
  group.page_count = options.page_count;
  quire::DeviceOptions device_options;
  device_options.groups = {group};
  absl::StatusOr<std::unique_ptr<quire::Device>> real = quire::NewCpuDevice(device_options);
  EXPECT_TRUE(real.ok()) << real.status();
  return std::make_unique<FailingDevice>(*std::move(real), std::move(fails));
}

// Samples that part inside a page, and prompts that match part of one: both make copies.
std::vector<Request> CopyingRequests() {
  std::vector<Request> requests;
  for (int32_t i = 0; i < 6; ++i) {
    Request request;
    for (int32_t t = 0; t < 45; ++t) request.prompt.push_back((t * 37 + 11) % 300);
    for (int32_t t = 40 - i; t < 45; ++t) request.prompt[static_cast<size_t>(t)] = i * 7 + t;
    request.max_new_tokens = 12;
    request.temperature = 1.0f;
    request.seed = 100 * static_cast<uint64_t>(i);
    request.samples = 1 + i % 3;
    request.stop_at_bos = false;
    requests.push_back(request);
  }
  return requests;
}

class CopiesTest : public ::testing::Test {
 protected:
  CopiesTest() : model_(TinyCheckpoint()), requests_(CopyingRequests()) {
    options_.max_running = 4;
    options_.page_count = 64;
  }

  // Runs all requests over a device that fails where `fails` says so, compares every token, and
  // returns how many plans failed.
  int64_t FailuresOfRun(std::function<bool(int)> fails) {
    absl::StatusOr<std::unique_ptr<Engine>> engine =
        Engine::Create(&model_, options_, MakeDevice(model_.config(), options_, std::move(fails)));
    EXPECT_TRUE(engine.ok()) << engine.status();
    for (const Request& request : requests_) EXPECT_TRUE((*engine)->Submit(request).ok());
    while (true) {
      const absl::StatusOr<bool> more = (*engine)->Step();
      EXPECT_TRUE(more.ok()) << more.status();
      EXPECT_TRUE((*engine)->cache().Validate().ok());
      if (!more.ok() || !*more) break;
    }
    ContiguousRunner runner(&model_);
    for (size_t i = 0; i < requests_.size(); ++i) {
      const Result& result = (*engine)->result(static_cast<RequestId>(i));
      for (int32_t sample = 0; sample < requests_[i].samples; ++sample) {
        EXPECT_EQ(result.samples[static_cast<size_t>(sample)],
                  *runner.Generate(requests_[i], sample))
            << "request " << i << ", sample " << sample;
      }
    }
    return (*engine)->stats().failed_copies;
  }

  Model model_;
  EngineOptions options_;
  std::vector<Request> requests_;
};

TEST_F(CopiesTest, AnyOneFailureChangesNoToken) {
  int plans = 0;
  EXPECT_EQ(FailuresOfRun([&](int) { return ++plans < 0; }), 0);
  EXPECT_GE(plans, 4);
  for (int nth = 0; nth < plans; ++nth) {
    SCOPED_TRACE(nth);
    EXPECT_EQ(FailuresOfRun([=](int i) { return i == nth; }), 1);
  }
}

TEST_F(CopiesTest, ADeviceThatAlwaysFailsOnlyCostsTime) {
  EXPECT_GE(FailuresOfRun([](int) { return true; }), 4);
}

}  // namespace
}  // namespace engine
