// The small engine with K and V on a GPU: shared prompts, parallel samples and too few pages, every
// token compared with contiguous memory of the same GPU.

#include "engine/engine.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/contiguous.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "engine/threads.h"
#include "engine/tiny_model.h"
#include "gtest/gtest.h"

namespace engine {
namespace {

TEST(GpuEngineTest, TokensAreThoseOfContiguousMemory) {
  absl::StatusOr<std::unique_ptr<Kernels>> kernels = NewCudaKernels();
  ASSERT_TRUE(kernels.ok()) << kernels.status();
  Model model(TinyCheckpoint(), MakeThreads(1), *std::move(kernels));
  EngineOptions options;
  options.tokens_per_page = 4;
  options.page_count = 24;
  options.max_running = 5;
  options.step_tokens = 16;
  const std::unique_ptr<Engine> engine = Engine::Create(&model, options).value();
  std::vector<Request> requests;
  for (int32_t i = 0; i < 6; ++i) {
    Request request;
    for (int32_t t = 0; t < 22 + 3 * i; ++t) request.prompt.push_back(3 + (t < 18 ? t : t * i) % 9);
    request.max_new_tokens = 14;
    request.stop_at_bos = false;
    request.samples = i == 2 ? 3 : 1;
    request.temperature = i == 2 ? 1.0f : 0.0f;
    requests.push_back(request);
    ASSERT_TRUE(engine->Submit(request).ok());
  }
  const absl::Status ran = engine->Run();
  ASSERT_TRUE(ran.ok()) << ran;
  EXPECT_GT(engine->stats().preemptions, 0);
  ContiguousRunner runner(&model);
  for (int32_t i = 0; i < 6; ++i) {
    const Result& result = engine->result(i);
    ASSERT_EQ(result.samples.size(), static_cast<size_t>(i == 2 ? 3 : 1));
    for (int32_t sample = 0; sample < static_cast<int32_t>(result.samples.size()); ++sample) {
      const auto expected = runner.Generate(requests[static_cast<size_t>(i)], sample);
      ASSERT_TRUE(expected.ok()) << expected.status();
      EXPECT_EQ(expected->size(), 14u);
      EXPECT_EQ(result.samples[static_cast<size_t>(sample)], *expected) << "request " << i;
    }
  }
}

}  // namespace
}  // namespace engine
