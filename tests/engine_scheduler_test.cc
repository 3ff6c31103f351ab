// The engine: whatever it batches, chunks, shares, preempts or recomputes, each request gets the
// tokens it would get alone on contiguous memory.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/contiguous.h"
#include "engine/engine.h"
#include "engine/page_map.h"
#include "engine/tiny_model.h"
#include "engine/tokenizer.h"
#include "gtest/gtest.h"

namespace engine {
namespace {

using Ids = std::vector<quire::TokenId>;

std::unique_ptr<Engine> MakeEngine(Model* model, const EngineOptions& options,
                                   std::unique_ptr<quire::Device> device = nullptr) {
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Create(model, options, std::move(device));
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

Request MakeRequest(uint32_t seed, uint32_t prompt_tokens, int32_t new_tokens) {
  std::mt19937 random(seed);
  Request request;
  for (uint32_t i = 0; i < prompt_tokens; ++i) {
    request.prompt.push_back(static_cast<int32_t>(random() % 300));
  }
  request.max_new_tokens = new_tokens;
  request.temperature = seed % 2 == 0 ? 0.0f : 1.0f;
  request.seed = seed;
  request.stop_at_bos = false;
  return request;
}

// Prompts of 1 to 60 tokens, answers of 3 to 40; some share the beginning of another's prompt.
std::vector<Request> MixedRequests(int count) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    const auto seed = static_cast<uint32_t>(i);
    const auto new_tokens = static_cast<int32_t>(3 + seed * 13 % 38);
    requests.push_back(MakeRequest(seed, 1 + seed * 37 % 60, new_tokens));
    if (i % 3 == 2) {
      Ids& prompt = requests.back().prompt;
      const Ids& other = requests[static_cast<size_t>(i) - 2].prompt;
      std::copy_n(other.begin(), std::min(other.size(), prompt.size() / 2), prompt.begin());
    }
  }
  return requests;
}

void ExpectReference(Model* model, const Request& request, const Result& result) {
  ContiguousRunner runner(model);
  ASSERT_EQ(result.unfinished, 0);
  for (int32_t sample = 0; sample < request.samples; ++sample) {
    const absl::StatusOr<Ids> expected = runner.Generate(request, sample);
    ASSERT_TRUE(expected.ok()) << expected.status();
    EXPECT_EQ(result.samples[static_cast<size_t>(sample)], *expected) << "sample " << sample;
  }
}

// Runs all at once, checking the manager's invariants after every step, then every token.
void RunAndCheck(Model* model, Engine* engine, const std::vector<Request>& requests) {
  for (const Request& request : requests) {
    const absl::StatusOr<RequestId> id = engine->Submit(request);
    ASSERT_TRUE(id.ok()) << id.status();
  }
  while (true) {
    const absl::StatusOr<bool> more = engine->Step();
    ASSERT_TRUE(more.ok()) << more.status();
    const absl::Status valid = engine->cache().Validate();
    ASSERT_TRUE(valid.ok()) << valid;
    if (!*more) break;
  }
  EXPECT_EQ(engine->cache().stats().sequences, 0);
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "request " << i);
    ExpectReference(model, requests[i], engine->result(static_cast<RequestId>(i)));
  }
}

TEST(EngineTest, TheTinyModelIsRestless) {
  // The comparisons below mean little if the model says the same whatever it was told.
  Model model(TinyCheckpoint());
  ContiguousRunner runner(&model);
  std::set<Ids> answers;
  for (uint32_t seed = 0; seed < 10; seed += 2) {
    const absl::StatusOr<Ids> answer = runner.Generate(MakeRequest(seed, 20, 40));
    ASSERT_TRUE(answer.ok());
    EXPECT_GE(std::set(answer->begin(), answer->end()).size(), 5u);
    answers.insert(*answer);
  }
  EXPECT_EQ(answers.size(), 5u);
}

TEST(EngineTest, AnyChunkAndPageSizeGivesTheSameTokens) {
  Model model(TinyCheckpoint());
  const std::vector<Request> requests = MixedRequests(9);
  for (const int32_t tokens_per_page : {1, 5, 16}) {
    for (const int32_t step_tokens : {1, 7, 64}) {
      SCOPED_TRACE(testing::Message() << tokens_per_page << " a page, steps of " << step_tokens);
      EngineOptions options;
      options.tokens_per_page = tokens_per_page;
      options.step_tokens = step_tokens;
      options.page_count = 1000;
      std::unique_ptr<Engine> engine = MakeEngine(&model, options);
      RunAndCheck(&model, engine.get(), requests);
      EXPECT_EQ(engine->stats().preemptions, 0);
    }
  }
}

TEST(EngineTest, AnyBatchGivesTheSameTokens) {
  Model model(TinyCheckpoint());
  for (const int32_t max_running : {1, 3, 16}) {
    SCOPED_TRACE(max_running);
    EngineOptions options;
    options.max_running = max_running;
    options.step_tokens = 20;
    std::unique_ptr<Engine> engine = MakeEngine(&model, options);
    RunAndCheck(&model, engine.get(), MixedRequests(16));
    EXPECT_LE(engine->stats().peak_running, max_running);
    EXPECT_GE(engine->stats().peak_running, std::min(max_running, 8));
  }
}

TEST(EngineTest, APrefixIsComputedOnceAndChangesNoToken) {
  Model model(TinyCheckpoint());
  for (const bool caching : {true, false}) {
    EngineOptions options;
    options.prefix_caching = caching;
    std::unique_ptr<Engine> engine = MakeEngine(&model, options);
    int64_t total = 0;
    for (uint32_t i = 0; i < 6; ++i) {
      Request request = MakeRequest(i, 10, 5);
      const Ids context = MakeRequest(99, 70, 1).prompt;
      request.prompt.insert(request.prompt.begin(), context.begin(), context.end());
      total += static_cast<int64_t>(request.prompt.size());
      const absl::StatusOr<RequestId> id = engine->Submit(request);
      ASSERT_TRUE(id.ok() && engine->Run().ok());
      ExpectReference(&model, request, engine->result(*id));
      // 70 tokens: four full pages and six tokens of a fifth.
      EXPECT_EQ(engine->result(*id).hit_tokens, caching && i > 0 ? 70 : 0) << i;
    }
    EXPECT_EQ(engine->stats().prompt_tokens_computed, caching ? total - 5 * 70 : total);
  }
}

TEST(EngineTest, PreemptedRequestsGetTheirTokens) {
  Model model(TinyCheckpoint());
  for (const bool caching : {true, false}) {
    for (const int32_t tokens_per_page : {1, 5, 16}) {
      SCOPED_TRACE(testing::Message() << tokens_per_page << " a page, caching " << caching);
      EngineOptions options;
      options.prefix_caching = caching;
      options.tokens_per_page = tokens_per_page;
      options.page_count = 128 / tokens_per_page;  // just what the longest request needs
      std::unique_ptr<Engine> engine = MakeEngine(&model, options);
      RunAndCheck(&model, engine.get(), MixedRequests(14));
      EXPECT_GT(engine->stats().preemptions, 0);
    }
  }
}

TEST(EngineTest, OneRequestMayTakeTheWholePoolAgainAndAgain) {
  // The pages of the one before fill the pool. A partly matching one is pinned and cannot be
  // copied, for want of a page; the request must get on all the same.
  Model model(TinyCheckpoint());
  EngineOptions options;
  options.tokens_per_page = 5;
  options.page_count = 7;
  std::unique_ptr<Engine> engine = MakeEngine(&model, options);
  std::vector<Request> requests;
  for (int32_t i = 0; i < 5; ++i) {
    requests.push_back(MakeRequest(7, 34, 2));
    requests.back().prompt[29] = i;  // four tokens of a page match, just enough to be copied
  }
  RunAndCheck(&model, engine.get(), requests);
}

TEST(EngineTest, SamplesAreSeparateRunsWithTheirSeeds) {
  Model model(TinyCheckpoint());
  EngineOptions options;
  std::unique_ptr<Engine> engine = MakeEngine(&model, options);
  Request request = MakeRequest(11, 37, 20);
  request.samples = 6;
  RunAndCheck(&model, engine.get(), {request});
  const Result& result = engine->result(0);
  EXPECT_EQ(std::set(result.samples.begin(), result.samples.end()).size(), 6u);
  EXPECT_EQ(engine->stats().prompt_tokens_computed, 37);   // once for all six
  EXPECT_EQ(engine->cache().stats().groups[0].copies, 5);  // the last one writes in place

  for (uint64_t sample = 0; sample < 6; ++sample) {
    Request alone = request;
    alone.samples = 1;
    alone.seed = request.seed + sample;
    const absl::StatusOr<RequestId> id = engine->Submit(alone);
    ASSERT_TRUE(id.ok() && engine->Run().ok());
    EXPECT_EQ(engine->result(*id).samples[0], result.samples[sample]);
  }
}

TEST(EngineTest, SamplesSurvivePreemption) {
  Model model(TinyCheckpoint());
  EngineOptions options;
  options.page_count = 12;
  options.max_running = 8;
  options.step_tokens = 9;
  std::unique_ptr<Engine> engine = MakeEngine(&model, options);
  std::vector<Request> requests;
  for (uint32_t i = 0; i < 4; ++i) {
    requests.push_back(MakeRequest(2 * i + 1, 30 + i, 40));
    requests.back().samples = 1 + static_cast<int32_t>(i);
  }
  RunAndCheck(&model, engine.get(), requests);
  EXPECT_GT(engine->stats().preemptions, 0);
}

TEST(EngineTest, WhatCanNeverRunIsRefusedAtOnce) {
  Model model(TinyCheckpoint());
  EngineOptions options;
  options.page_count = 4;  // 64 tokens
  options.max_running = 3;
  std::unique_ptr<Engine> engine = MakeEngine(&model, options);
  std::vector<Request> bad(9, MakeRequest(1, 10, 10));
  bad[0].prompt.clear();
  bad[1].max_new_tokens = 0;
  bad[2].prompt[3] = 300;
  bad[3].prompt[3] = -1;
  bad[4].samples = 0;
  bad[5].samples = 4;
  bad[6].temperature = NAN;
  bad[7].prompt.resize(200);
  bad[8].max_new_tokens = 56;  // 65 tokens to keep, the pool holds 64
  for (size_t i = 0; i < bad.size(); ++i) {
    const absl::Status status = engine->Submit(bad[i]).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << i << ": " << status;
    EXPECT_FALSE(status.message().empty()) << i;
  }
  bad[8].max_new_tokens = INT32_MAX;
  EXPECT_EQ(engine->Submit(bad[8]).status().code(), absl::StatusCode::kInvalidArgument);
  const absl::StatusOr<bool> more = engine->Step();
  ASSERT_TRUE(more.ok());
  EXPECT_FALSE(*more);  // nothing was queued

  RunAndCheck(&model, engine.get(), {MakeRequest(1, 10, 55)});  // one less just fits
}

TEST(EngineTest, TheContextIsTheLimit) {
  Model model(TinyCheckpoint());
  std::unique_ptr<Engine> engine = MakeEngine(&model, EngineOptions());
  const absl::Status status = engine->Submit(MakeRequest(1, 10, 120)).status();
  EXPECT_NE(std::string(status.message()).find("context of 128"), std::string::npos) << status;
  // The last token is generated, not computed, so it needs no place.
  RunAndCheck(&model, engine.get(), {MakeRequest(1, 10, 119)});
}

TEST(EngineTest, BadOptionsAreErrors) {
  Model model(TinyCheckpoint());
  EngineOptions options;
  options.max_running = 0;
  EXPECT_FALSE(Engine::Create(&model, options).ok());
  options = EngineOptions();
  options.step_tokens = 0;
  EXPECT_FALSE(Engine::Create(&model, options).ok());
  options = EngineOptions();
  options.page_count = 0;
  EXPECT_FALSE(Engine::Create(&model, options).ok());
}

TEST(EngineTest, BosEndsAText) {
  // Only tokens 0 and 1 (BOS) have logits other than 0, and these depend on the text.
  ModelConfig config = TinyConfig();
  config.shared_classifier = false;
  Checkpoint checkpoint = TinyCheckpoint(config);
  std::fill(checkpoint.classifier.begin() + 2 * config.dim, checkpoint.classifier.end(), 0.0f);
  Model model(checkpoint);
  std::unique_ptr<Engine> engine = MakeEngine(&model, EngineOptions());
  bool stopped = false;
  for (uint32_t seed = 1; seed < 9; seed += 2) {
    Request request = MakeRequest(seed, 5, 60);
    request.temperature = 0.7f;
    request.stop_at_bos = true;
    const absl::StatusOr<RequestId> id = engine->Submit(request);
    ASSERT_TRUE(id.ok() && engine->Run().ok());
    const Ids& tokens = engine->result(*id).samples[0];
    EXPECT_EQ(std::count(tokens.begin(), tokens.end(), kBos), 0);
    ExpectReference(&model, request, engine->result(*id));
    if (tokens.size() == 60) continue;
    stopped = true;
    Request through = request;
    through.stop_at_bos = false;
    const absl::StatusOr<RequestId> whole = engine->Submit(through);
    ASSERT_TRUE(whole.ok() && engine->Run().ok());
    ASSERT_EQ(engine->result(*whole).samples[0].size(), 60u);
    EXPECT_EQ(engine->result(*whole).samples[0][tokens.size()], kBos);
  }
  EXPECT_TRUE(stopped);
}

TEST(EngineTest, WithoutCacheTheReferenceSaysTheSame) {
  Model model(TinyCheckpoint());
  ContiguousRunner runner(&model);
  const Request request = MakeRequest(4, 9, 30);
  int32_t calls = 0;
  const auto slow =
      runner.GenerateWithoutCache(request, [&](int32_t length) { EXPECT_EQ(length, 9 + calls++); });
  const auto fast = runner.Generate(request);
  ASSERT_TRUE(slow.ok() && fast.ok());
  EXPECT_EQ(*slow, *fast);
  EXPECT_EQ(calls, 30);
}

TEST(PageMapTest, CountsWhatIsThere) {
  Model model(TinyCheckpoint());
  EngineOptions options;
  options.page_count = 40;
  std::unique_ptr<Engine> engine = MakeEngine(&model, options);
  Request request = MakeRequest(11, 37, 20);
  request.samples = 3;
  ASSERT_TRUE(engine->Submit(request).ok());
  ASSERT_TRUE(engine->Step().ok());  // the prompt is done, the samples have parted
  PageMap map = TakePageMap(*engine);
  EXPECT_EQ(map.live(), 3);
  EXPECT_EQ(map.shared(), 3);
  EXPECT_EQ(map.shared_references(), 9);
  EXPECT_EQ(map.unused_tokens(), 3 * 16 - 37);
  ASSERT_TRUE(engine->Step().ok());  // each writes: two copies, one in place
  map = TakePageMap(*engine);
  EXPECT_EQ(map.live(), 2 + 3);
  EXPECT_EQ(map.shared(), 2);
  EXPECT_EQ(map.unused_tokens(), 3 * 10);
  MarkCached(engine.get(), std::vector<Ids>{request.prompt}, &map);
  EXPECT_EQ(map.cached(), 0);  // a page that somebody holds is live, though a lookup finds it

  ASSERT_TRUE(engine->Run().ok());
  std::vector<Ids> streams;
  for (const Ids& sample : engine->result(0).samples) {
    streams.push_back(request.prompt);
    streams.back().insert(streams.back().end(), sample.begin(), sample.end());
  }
  map = TakePageMap(*engine);
  EXPECT_EQ(map.live(), 0);
  MarkCached(engine.get(), streams, &map);
  EXPECT_EQ(map.cached(), engine->cache().stats().groups[0].pages_cached);
  EXPECT_GT(map.cached(), 2);
  const std::vector<PageMapPanel> panels(2, PageMapPanel{"a", "b", map, 8});
  const std::string svg = DrawPageMaps("title", panels);
  EXPECT_EQ(svg.find("<svg"), 0u);
  EXPECT_EQ(svg.substr(svg.size() - 7), "</svg>\n");
}

}  // namespace
}  // namespace engine
