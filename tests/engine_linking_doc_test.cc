// docs/linking.md, compiled and run: every block of C++ there must stand in this file, line by line
// (indentation apart), so the guide cannot drift from the interface.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "quire/attention.h"
#include "quire/device.h"
#include "quire/kv_cache.h"

namespace {

using Ids = std::vector<quire::TokenId>;

struct Memory {
  quire::KvLayout layout;
  std::unique_ptr<quire::KvCache> cache;
  std::unique_ptr<quire::Device> device;
  std::vector<quire::KvView> kv;
};

// The GPU's part of a step that needs no GPU.
struct GpuMemory {
  int64_t schedule_bytes;
  int64_t workspace_bytes;
};

void SizeGpuMemory(quire::AttentionParams attention, int32_t max_queries,
                   const quire::cuda::Gpu& gpu, GpuMemory* memory) {
  attention.max_queries = max_queries;  // 1 if you only decode; the largest chunk otherwise
  memory->schedule_bytes = quire::cuda::ScheduleBytes(gpu);  // gpu: from quire::cuda::DescribeGpu
  memory->workspace_bytes = quire::cuda::WorkspaceBytes(attention, gpu);
}

absl::Status ScheduleOnGpu(const quire::AttentionParams& attention, const quire::cuda::Gpu& gpu,
                           void* staging) {
  quire::LaunchError error = quire::cuda::BuildSchedule(attention, gpu, staging);
  if (error != quire::LaunchError::kOk) return absl::InvalidArgumentError(quire::Describe(error));
  return absl::OkStatus();
}

absl::StatusOr<Memory> SetUpMemory() {
  quire::KvLayout layout;
  layout.layers = 2;
  layout.kv_heads = 2;
  layout.head_dim = 8;
  layout.tokens_per_page = 16;
  layout.dtype = quire::DType::kFloat32;

  quire::GroupOptions group;
  group.tokens_per_page = layout.tokens_per_page;
  group.page_count = 64;
  group.page_bytes = layout.page_bytes();  // for Stats; the manager never touches the memory

  quire::Options options;
  options.groups = {group};
  options.max_sequences = 8;  // handles alive at one time, forks included
  options.max_sequence_tokens = 512;
  absl::StatusOr<std::unique_ptr<quire::KvCache>> cache = quire::KvCache::Create(options);
  if (!cache.ok()) return cache.status();

  quire::DeviceGroup pool;
  pool.layout = layout;
  pool.page_count = group.page_count;
  pool.memory = nullptr;  // the device allocates; or your own memory, see below
  quire::DeviceOptions device_options;
  device_options.groups = {pool};
  absl::StatusOr<std::unique_ptr<quire::Device>> device = quire::NewCpuDevice(device_options);
  if (!device.ok()) return device.status();

  std::vector<quire::KvView> kv;  // where each layer's K and V lie: ask once, it does not change
  for (int32_t layer = 0; layer < layout.layers; ++layer) {
    absl::StatusOr<quire::KvView> view =
        (*device)->view(quire::Tier::kDevice, quire::GroupId{0}, layer);
    if (!view.ok()) return view.status();
    kv.push_back(*view);
  }
  return Memory{layout, *std::move(cache), *std::move(device), std::move(kv)};
}

absl::Status CheckRequest(const quire::KvCache& cache, int64_t prompt_tokens,
                          int64_t max_new_tokens, int32_t step_tokens) {
  absl::Status fits = cache.CheckFits(prompt_tokens + max_new_tokens - 1, step_tokens);
  if (!fits.ok()) return fits;  // kInvalidArgument: tell the client, the message says which limit
  return absl::OkStatus();
}

struct Started {
  quire::Sequence sequence;
  int32_t to_compute;
};

absl::StatusOr<Started> StartRequest(quire::KvCache& cache, const Ids& prompt,
                                     std::string_view tenant, std::string_view model_revision) {
  quire::Namespace ns;
  ns.SetTenant(tenant).SetModel(model_revision);  // never share across these
  absl::StatusOr<quire::Sequence> started = cache.Start(prompt, ns);
  if (!started.ok()) return started.status();
  quire::Sequence sequence = *std::move(started);
  const auto to_compute = static_cast<int32_t>(prompt.size()) - sequence.length();
  return Started{std::move(sequence), to_compute};
}

absl::Status RunLayer(const Memory& memory, const quire::PageTableView& table,
                      const std::vector<int32_t>& query_begin, const std::vector<int64_t>& slots,
                      size_t layer, int32_t query_heads, const float* query, const float* key,
                      const float* value, float* output) {
  const quire::KvLayout& layout = memory.layout;
  const std::vector<quire::KvView>& kv = memory.kv;

  quire::AppendKvParams append = {};
  append.kv = kv[layer];
  append.dtype = layout.dtype;
  append.kv_heads = layout.kv_heads;
  append.head_dim = layout.head_dim;
  append.tokens_per_page = layout.tokens_per_page;
  append.token_count = static_cast<int32_t>(slots.size());
  append.slots = slots.data();
  append.key = key;  // [tokens, kv_heads, head_dim]
  append.value = value;
  quire::LaunchError error = quire::cpu::AppendKv(append);

  quire::AttentionParams attention = {};
  attention.table = table;
  attention.kv = kv[layer];
  attention.dtype = layout.dtype;
  attention.query_heads = query_heads;
  attention.kv_heads = layout.kv_heads;
  attention.head_dim = layout.head_dim;
  attention.query_begin = query_begin.data();
  attention.query = query;  // [tokens, query_heads, head_dim]
  attention.output = output;
  attention.scale = 1.0f / std::sqrt(static_cast<float>(layout.head_dim));
  attention.causal = true;
  attention.mode = quire::ScheduleMode::kBatchInvariant;
  if (error == quire::LaunchError::kOk) error = quire::cpu::Attention(attention);
  if (error != quire::LaunchError::kOk) return absl::InternalError(quire::Describe(error));
  return absl::OkStatus();
}

// False: no room. The "model" gives every key and value, and so every output, 1.
absl::StatusOr<bool> Step(Memory& memory, const std::vector<quire::Sequence*>& sequences,
                          const std::vector<int32_t>& counts, const Ids& tokens) {
  quire::KvCache& cache = *memory.cache;
  quire::Device& device = *memory.device;
  const quire::Stream stream;

  absl::Status status = cache.ReserveAll(sequences, counts);
  if (absl::IsResourceExhausted(status)) return false;  // nothing changed: preempt somebody, repeat
  if (!status.ok()) return status;

  const quire::Plan plan = cache.TakePlan();
  status = device.Copy(plan, stream);
  cache.Retire(plan.ticket, status);  // an empty plan has kNoTicket, which Retire ignores
  if (!status.ok()) return status;

  std::vector<int64_t> row_begin(sequences.size());
  std::vector<int32_t> lengths(sequences.size());
  const quire::PageTableView table = cache.MakePageTable(
      sequences, counts, quire::GroupId{0}, {.row_begin = row_begin, .lengths = lengths});

  std::vector<int64_t> slots;
  std::vector<int32_t> query_begin = {0};
  for (int32_t row = 0; row < table.batch; ++row) {
    const int32_t count = counts[static_cast<size_t>(row)];
    for (int32_t position = lengths[static_cast<size_t>(row)] - count;
         position < lengths[static_cast<size_t>(row)]; ++position) {
      slots.push_back(quire::SlotOf(table, row, position));
    }
    query_begin.push_back(query_begin.back() + count);
  }

  constexpr int32_t kQueryHeads = 4;
  const std::vector<float> one(slots.size() * kQueryHeads * 8, 1.0f);
  std::vector<float> output(one.size());
  for (size_t layer = 0; layer < memory.kv.size(); ++layer) {
    status = RunLayer(memory, table, query_begin, slots, layer, kQueryHeads, one.data(), one.data(),
                      one.data(), output.data());
    if (!status.ok()) return status;
  }
  for (float x : output) EXPECT_NEAR(x, 1.0f, 1e-6f);

  status = cache.CommitAll(sequences, tokens, counts);
  if (!status.ok()) return status;
  return true;
}

absl::StatusOr<int32_t> PackedRows(const quire::KvCache& cache,
                                   const std::vector<quire::Sequence*>& sequences,
                                   const std::vector<int32_t>& counts) {
  std::vector<int64_t> row_begin(sequences.size());
  std::vector<int32_t> lengths(sequences.size());
  std::vector<quire::PageId> page_ids(1024);
  absl::StatusOr<quire::PageTableView> packed = cache.PackPageTable(
      sequences, counts, quire::GroupId{0}, {.row_begin = row_begin, .lengths = lengths}, page_ids);
  if (!packed.ok()) return packed.status();  // kOutOfRange says which size it needs
  return packed->batch;
}

absl::StatusOr<quire::Sequence> ForkSample(const quire::Sequence& sequence) {
  absl::StatusOr<quire::Sequence> sample = sequence.Fork();
  if (!sample.ok()) return sample.status();  // kResourceExhausted: max_sequences are alive
  return sample;
}

absl::Status Speculate(quire::Sequence& sequence, const Ids& drafts, const Ids& accepted) {
  const auto count = static_cast<int32_t>(1 + drafts.size());  // the certain token, then the drafts
  absl::Status status = sequence.Reserve(count);
  if (!status.ok()) return status;
  // TakePlan, Copy and Retire as in a step; then `count` queries over length() + count tokens.
  status = sequence.Commit(accepted);  // the certain token and the drafts that were right
  if (!status.ok()) return status;
  return absl::OkStatus();
}

absl::Status ForgetWhatWasLost(quire::Sequence& sequence) {
  absl::Status status = sequence.Truncate(sequence.valid_length());
  if (!status.ok()) return status;
  return absl::OkStatus();
}

struct Stream {
  Ids tokens;
  quire::Sequence sequence;
};

void Preempt(Stream victim, std::deque<Stream>& waiting) {
  victim.sequence = quire::Sequence();  // gives its pages back; full ones stay cached
  waiting.push_front(std::move(victim));
}

void ShareThePool(quire::Options& options) {
  options.quotas = {{.tenant = "acme", .guaranteed_permille = 300},  // of every group's pool
                    {.tenant = "trial", .guaranteed_permille = 0, .max_permille = 200}};
}

TEST(LinkingDocTest, StrictTenants) {
  quire::Options options;
  options.groups = {{.tokens_per_page = 16, .page_count = 100}};
  quire::Options strict = options;
  strict.strict_tenants = true;
  strict.quotas = {
      {.tenant = "acme", .guaranteed_permille = 300, .max_permille = 300, .sequences = 64},
      {.tenant = "rival", .guaranteed_permille = 300, .max_permille = 300, .sequences = 64}};
  const auto cache = quire::KvCache::Create(strict);
  ASSERT_TRUE(cache.ok()) << cache.status();
  EXPECT_EQ((*cache)->stats().groups[0].tenants[2].max_pages, 40);
}

absl::StatusOr<quire::Sequence> StartMarked(quire::KvCache& cache, const Ids& prompt,
                                            const quire::Namespace& ns, int32_t system_tokens,
                                            int64_t wait_for_tool) {
  const quire::Retention retention[] = {
      {.begin = 0, .end = system_tokens, .priority = 90},  // until it must go
      {.begin = system_tokens, .priority = 70, .lifetime_steps = wait_for_tool}};
  absl::StatusOr<quire::Sequence> started = cache.Start(prompt, ns, {.retention = retention});
  if (!started.ok()) return started.status();
  return started;
}

TEST(LinkingDocTest, AScheduleForAGpu) {
  const quire::cuda::Gpu gpu = {.multiprocessors = 132,
                                .shared_bytes = 227 * 1024,
                                .shared_bytes_multiprocessor = 228 * 1024};
  const int32_t lengths[] = {100, 17};
  const int32_t query_begin[] = {0, 1, 2};
  quire::AttentionParams attention = {};
  attention.table.lengths = lengths;
  attention.table.batch = 2;
  attention.table.tokens_per_page = 16;
  attention.query_begin = query_begin;
  attention.dtype = quire::DType::kBFloat16;
  attention.query_heads = 32;
  attention.kv_heads = 8;
  attention.head_dim = 128;
  attention.causal = true;
  GpuMemory memory;
  SizeGpuMemory(attention, 1, gpu, &memory);
  ASSERT_GT(memory.schedule_bytes, 0);
  EXPECT_GT(memory.workspace_bytes, 0);
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> staging(static_cast<size_t>(memory.schedule_bytes) / sizeof(Line));
  EXPECT_TRUE(ScheduleOnGpu(attention, gpu, staging.data()).ok());
  const int32_t too_many[] = {0, 2, 3};
  attention.query_begin = too_many;
  EXPECT_FALSE(ScheduleOnGpu(attention, gpu, staging.data()).ok());
}

TEST(LinkingDocTest, TheStepsWork) {
  absl::StatusOr<Memory> memory = SetUpMemory();
  ASSERT_TRUE(memory.ok()) << memory.status();
  quire::KvCache& cache = *memory->cache;
  EXPECT_TRUE(CheckRequest(cache, 40, 10, 64).ok());
  EXPECT_EQ(CheckRequest(cache, 40, 1000, 64).code(), absl::StatusCode::kInvalidArgument);

  Ids prompt(40);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i);
  std::deque<Stream> waiting;
  {
    absl::StatusOr<Started> first = StartRequest(cache, prompt, "a", "r1");
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ(first->to_compute, 40);
    const absl::StatusOr<bool> done = Step(*memory, {&first->sequence}, {40}, prompt);
    ASSERT_TRUE(done.ok() && *done) << done.status();

    absl::StatusOr<quire::Sequence> sample = ForkSample(first->sequence);
    ASSERT_TRUE(sample.ok()) << sample.status();
    const std::vector<quire::Sequence*> both = {&first->sequence, &*sample};
    const absl::StatusOr<bool> parted = Step(*memory, both, {1, 1}, {100, 101});
    ASSERT_TRUE(parted.ok() && *parted) << parted.status();
    EXPECT_EQ(cache.stats().groups[0].copies, 1);
    ASSERT_TRUE(sample->Reserve(1).ok() && first->sequence.Reserve(1).ok());
    EXPECT_EQ(*PackedRows(cache, both, {1, 1}), 2);

    EXPECT_TRUE(Speculate(*sample, {5, 6, 7}, {102, 5}).ok());
    EXPECT_EQ(sample->length(), 43);
    EXPECT_TRUE(ForgetWhatWasLost(*sample).ok());
    EXPECT_EQ(sample->length(), 43);
    Preempt(Stream{prompt, std::move(first->sequence)}, waiting);
  }
  EXPECT_EQ(cache.stats().sequences, 0);
  EXPECT_EQ(waiting.size(), 1u);
  EXPECT_EQ(StartRequest(cache, waiting[0].tokens, "a", "r1")->to_compute, 8);
  EXPECT_EQ(StartRequest(cache, waiting[0].tokens, "b", "r1")->to_compute, 40);
  EXPECT_TRUE(cache.Validate().ok());
}

TEST(LinkingDocTest, TenantsAndMarkedRequests) {
  quire::Options options;
  options.groups = {{.tokens_per_page = 1, .page_count = 20}};
  options.max_sequences = 4;
  options.max_sequence_tokens = 64;
  ShareThePool(options);
  const auto cache = quire::KvCache::Create(options);
  ASSERT_TRUE(cache.ok()) << cache.status();
  quire::Namespace trial;
  trial.SetTenant("trial");
  EXPECT_TRUE((*cache)->CheckFits(4, 1, trial).ok());
  EXPECT_FALSE((*cache)->CheckFits(5, 1, trial).ok());
  EXPECT_TRUE(StartMarked(**cache, Ids{1, 2, 3}, trial, 2, 50).ok());
  EXPECT_FALSE(StartMarked(**cache, Ids{1, 2, 3}, trial, 2, -1).ok());
}

std::vector<std::string> Lines(const std::string& path) {
  std::ifstream file(std::string(QUIRE_SOURCE_DIR) + "/" + path);
  EXPECT_TRUE(file.good()) << path;
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    const size_t begin = line.find_first_not_of(' ');
    lines.push_back(begin == std::string::npos ? "" : line.substr(begin));
  }
  return lines;
}

TEST(LinkingDocTest, EveryBlockOfTheGuideStandsInThisFile) {
  std::string here;
  for (const std::string& line : Lines("tests/engine_linking_doc_test.cc")) {
    if (!line.empty()) here += line + "\n";
  }
  int blocks = 0;
  bool inside = false;
  std::string block;
  for (const std::string& line : Lines("docs/linking.md")) {
    if (line == "```cpp") {
      inside = true;
      block = "\n";
    } else if (inside && line == "```") {
      inside = false;
      ++blocks;
      EXPECT_NE(here.find(block), std::string::npos) << "not in this file:" << block;
    } else if (inside && !line.empty()) {
      block += line + "\n";
    }
  }
  EXPECT_GE(blocks, 12);
}

}  // namespace
