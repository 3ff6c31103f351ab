// The argument matrix: every public integer at min, -1, 0, 1 and max, every pointer null, every
// span empty or of the wrong length. The answer is the documented one, an error says what was
// wrong, and nothing has changed. Undefined behaviour on the way is for the sanitizers to see.
//
// The rows are in tests/support/argument_rows_*.cc. The public headers are scanned for integers, so
// that a new one without a row fails here.

#include "tests/support/argument_matrix.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quire/block_allocator.h"
#include "quire/device.h"
#include "tests/support/manager_util.h"

namespace quire::testing {
namespace {

std::vector<Row> AllRows() {
  std::vector<Row> rows = ManagerRows();
  for (Row& row : DeviceRows()) rows.push_back(std::move(row));
  for (Row& row : KernelRows()) rows.push_back(std::move(row));
  return rows;
}

// Public integers without a row. A name that ends with ':' or '(' stands for all that begin so.
const std::map<std::string, std::string>& Exempt() {
  static const std::map<std::string, std::string> exempt = {
      {"MissTokens::", "only written by Quire"},
      {"TenantStats::", "only written by Quire"},
      {"GroupStats::", "only written by Quire"},
      {"Stats::", "only written by Quire"},
      {"PageTableBuffers::", "only written by Quire"},
      {"KvCache::PackPageTable(page_ids)", "only written by Quire"},
      {"BlockAllocator::Allocate(out)", "only written by Quire"},
      {"AppendKvParams::rejected", "only written by Quire"},
      {"Threads::void(", "given by Quire to the caller's function"},
      {"PageOffset(", "for kernels; documented as not checked"},
      {"SlotOf(", "documented as not checked: the row must have a page there"},
  };
  return exempt;
}

bool IsExempt(const std::string& name) {
  return std::any_of(Exempt().begin(), Exempt().end(), [&](const auto& entry) {
    const std::string& prefix = entry.first;
    const bool open = prefix.back() == ':' || prefix.back() == '(';
    return open ? name.compare(0, prefix.size(), prefix) == 0 : name == prefix;
  });
}

TEST(ArgumentMatrixTest, EveryPublicIntegerHasARow) {
  std::set<std::string> covered;
  for (const Row& row : AllRows()) covered.insert(row.name);
  const std::vector<std::string> scanned = ScanHeaders();
  for (const std::string& name : scanned) {
    EXPECT_NE(covered.contains(name), IsExempt(name))
        << name << " needs a row in tests/support/argument_rows_*.cc";
  }
  for (const std::string& name : covered) {
    EXPECT_TRUE(std::binary_search(scanned.begin(), scanned.end(), name))
        << name << " is no public integer any more";
  }
  for (const auto& [prefix, reason] : Exempt()) {
    const auto it = std::lower_bound(scanned.begin(), scanned.end(), prefix);
    EXPECT_TRUE(it != scanned.end() && it->compare(0, prefix.size(), prefix) == 0) << prefix;
  }
}

TEST(ArgumentMatrixTest, TheScanSeesWhatThereIs) {
  const std::string header = R"(
namespace quire {
inline constexpr int32_t kConstant = 7;  // int32_t comment
enum class Kind : uint8_t { kOne };
struct Plain {
  int32_t a = 0;
  const int64_t* many;
  std::span<const int32_t> some = {};
  std::vector<KvView> views = {};
  DType type = DType::kFloat32;
  void (*run)(void* context, int32_t count);
};
class Thing {
 public:
  static Thing Make(int n, const Plain& p = {}, uint64_t m = 0);
  int32_t answer() const { int32_t local = 0; return local; }
  Thing(int) = delete;
 private:
  int32_t hidden_ = 0;
  void Hide(int32_t x);
};
namespace gpu {
int64_t Bytes(std::span<const PageId> pages, Tier tier);
}
int32_t Last(GroupId group);
}  // namespace quire
)";
  const std::vector<std::string> expected = {
      "Plain::a",           "Plain::many",    "Plain::some",    "Plain::type",
      "Plain::void(count)", "Thing::Make(n)", "Thing::Make(m)", "gpu::Bytes(pages)",
      "gpu::Bytes(tier)",   "Last(group)"};
  EXPECT_EQ(IntegersIn(header), expected);
}

// An error's sentence must name what was wrong; 'x' may be no error.
void ExpectAnswer(const Row& row, int64_t value, char want, const std::string& got) {
  const bool as_wanted = got[0] == want || (want == 'x' && got == "o");
  EXPECT_TRUE(as_wanted) << row.name << " = " << value << ": '" << got << "', not '" << want << "'";
  if (got == "o" || got == "a") return;
  EXPECT_GT(got.size(), 2u) << row.name << " = " << value << ": no message";
  EXPECT_NE(got.find(row.word), std::string::npos) << row.name << " = " << value << ": " << got;
}

class ArgumentMatrixDeathTest : public ::testing::Test {
 protected:
  // Plain forks: the table is long.
  ArgumentMatrixDeathTest() { ::testing::FLAGS_gtest_death_test_style = "fast"; }
};

TEST_F(ArgumentMatrixDeathTest, IntegersThatAreProgrammersErrors) {
  int checked = 0;
  for (const Row& row : AllRows()) {
    std::set<int64_t> seen;
    for (size_t i = 0; i < row.values.size(); ++i) {
      if (row.answers[i] != 'C' || !seen.insert(row.values[i]).second) continue;
      EXPECT_DEATH(row.call(row.values[i]), row.word) << row.name << " = " << row.values[i];
      ++checked;
    }
  }
  EXPECT_EQ(checked, 35);
}

TEST(ArgumentMatrixTest, Integers) {
  int cells = 0;
  int unasked = 0;
  const std::vector<Row> rows = AllRows();
  for (const Row& row : rows) {
    ASSERT_EQ(row.values.size(), row.answers.size()) << row.name;
    for (size_t i = 0; i < row.values.size(); ++i) {
      ++cells;
      const char want = row.answers[i];
      unasked += want == '-' ? 1 : 0;
      if (want == 'C' || want == '-') continue;
      ExpectAnswer(row, row.values[i], want, row.call(row.values[i]));
    }
  }
  std::cout << "scorecard: arguments: " << rows.size() << " rows, " << cells << " cells, "
            << unasked << " of them not asked\n";
  EXPECT_EQ(unasked, 10);
}

// --- Spans and pointers.

struct Scene {
  Scene() : cache(NewCache(OneGroup(4, 16))), live(Compute(*cache, Iota(0, 6))) {
    EXPECT_OK(live.Reserve(2));
  }
  std::unique_ptr<KvCache> cache;
  Sequence live;
  Sequence* none = nullptr;
  Sequence empty;
};

TEST(ArgumentMatrixTest, EmptySpans) {
  Scene s;
  const std::string before = Snapshot(*s.cache, {&s.live});
  EXPECT_TRUE(Says(s.cache->Start({}).status(), absl::StatusCode::kInvalidArgument, {"empty"}));
  EXPECT_EQ(s.cache->MatchLength({}), 0);
  EXPECT_OK(s.cache->ReserveAll({}, {}));
  EXPECT_OK(s.cache->CommitAll({}, {}, {}));
  EXPECT_OK(s.live.Commit({}));
  EXPECT_OK(s.live.Reserve(0));
  EXPECT_EQ(s.cache->MakePageTable({}, {}, GroupId{0}, {}).batch, 0);
  const absl::StatusOr<PageTableView> packed = s.cache->PackPageTable({}, {}, GroupId{0}, {}, {});
  ASSERT_OK(packed);
  EXPECT_EQ(packed->batch, 0);
  EXPECT_EQ(Snapshot(*s.cache, {&s.live}), before);
  EXPECT_OK(s.cache->Validate());

  EXPECT_TRUE(
      Says(KvCache::Create({}).status(), absl::StatusCode::kInvalidArgument, {"groups.size()"}));
  EXPECT_TRUE(Says(NewCpuDevice({}).status(), absl::StatusCode::kInvalidArgument, {"groups"}));
  BlockAllocator pages = *BlockAllocator::Create(1);
  EXPECT_OK(pages.Allocate({}));
  EXPECT_EQ(pages.free_count(), 1);
  // A view without memory is an empty value.
  EXPECT_EQ(Namespace().SetTenant({}).AddMedia(0, {}).Encode(),
            Namespace().SetTenant("").AddMedia(0, "").Encode());
}

TEST(ArgumentMatrixTest, NoRoomForThePageIds) {
  const Scene s;
  const Sequence* const all[] = {&s.live};
  const int32_t counts[] = {0};
  int64_t row_begin[1] = {-7};
  int32_t lengths[1] = {-7};
  PageId id[1] = {PageId{-7}};
  for (const size_t room : {0u, 1u}) {
    EXPECT_TRUE(Says(s.cache
                         ->PackPageTable(all, counts, GroupId{0}, {row_begin, lengths},
                                         std::span(id).first(room))
                         .status(),
                     absl::StatusCode::kOutOfRange, {"page_ids", "needs 2"}));
  }
  EXPECT_EQ(row_begin[0], -7);
  EXPECT_EQ(lengths[0], -7);
  EXPECT_EQ(id[0], PageId{-7});
}

// Longer than any sequence, and than 31 bits can count: memory that is promised and never touched
// past the first tokens.
TEST(ArgumentMatrixTest, PromptsOfAnyLength) {
  const size_t count = (size_t{1} << 31) + 17;
  void* memory = mmap(nullptr, count * sizeof(TokenId), PROT_READ,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const std::span<const TokenId> zeros(static_cast<const TokenId*>(memory), count);
  const auto cache = NewCache(OneGroup(4, 16));
  Compute(*cache, Tokens(9, 0));
  EXPECT_EQ(cache->MatchLength(zeros), 8);
  EXPECT_TRUE(Says(cache->Start(zeros).status(), absl::StatusCode::kInvalidArgument,
                   {"2147483665", "max_sequence_tokens"}));
  Sequence sequence = MustStart(*cache, {1});
  EXPECT_OK(sequence.Reserve(4));
  EXPECT_DEATH(static_cast<void>(sequence.Commit(zeros)), "commit past capacity");
  munmap(memory, count * sizeof(TokenId));
}

TEST_F(ArgumentMatrixDeathTest, NullAndEmptySequences) {
  Scene s;
  const int32_t counts[] = {0};
  int64_t row_begin[1];
  int32_t lengths[1];
  const PageTableBuffers buffers = {row_begin, lengths};
  PageId ids[4];
  const auto expect = [&](Sequence* which, const char* word) {
    Sequence* const batch[] = {which};
    const Sequence* const table[] = {which};
    EXPECT_DEATH(static_cast<void>(s.cache->ReserveAll(batch, counts)), word);
    EXPECT_DEATH(static_cast<void>(s.cache->CommitAll(batch, {}, counts)), word);
    EXPECT_DEATH(s.cache->MakePageTable(table, counts, GroupId{0}, buffers), word);
    EXPECT_DEATH(static_cast<void>(s.cache->PackPageTable(table, counts, GroupId{0}, buffers, ids)),
                 word);
  };
  expect(s.none, "batch is null");
  expect(&s.empty, "empty");

  Options strict = s.cache->options();
  strict.strict_tenants = true;
  strict.quotas = {
      {.tenant = "a", .guaranteed_permille = 500, .max_permille = 500, .sequences = 1}};
  const auto cache = KvCache::Create(strict);
  ASSERT_TRUE(cache.ok()) << cache.status();
  Sequence* const batch[] = {s.none};
  EXPECT_DEATH(static_cast<void>((*cache)->ReserveAll(batch, counts)), "batch is null");
  EXPECT_DEATH(static_cast<void>((*cache)->CommitAll(batch, {}, counts)), "batch is null");
}

TEST_F(ArgumentMatrixDeathTest, SpansOfUnequalLength) {
  Scene s;
  Sequence* const batch[] = {&s.live};
  const Sequence* const table[] = {&s.live};
  const int32_t counts[] = {0};
  int64_t row_begin[1];
  int32_t lengths[1];
  PageId ids[4];
  const std::span<const int32_t> no_counts;
  const Tokens tokens = {1};
  EXPECT_DEATH(static_cast<void>(s.cache->ReserveAll(batch, no_counts)), "one count");
  EXPECT_DEATH(static_cast<void>(s.cache->ReserveAll({}, counts)), "one count");
  EXPECT_DEATH(static_cast<void>(s.cache->CommitAll(batch, {}, no_counts)), "one count");
  EXPECT_DEATH(static_cast<void>(s.cache->CommitAll({}, {}, counts)), "one count");
  EXPECT_DEATH(static_cast<void>(s.cache->CommitAll(batch, tokens, counts)), "add up");
  EXPECT_DEATH(static_cast<void>(s.cache->CommitAll({}, tokens, {})), "add up");
  EXPECT_DEATH(s.cache->MakePageTable(table, no_counts, GroupId{0}, {row_begin, lengths}),
               "one count");
  EXPECT_DEATH(s.cache->MakePageTable(table, counts, GroupId{0}, {{}, lengths}), "smaller");
  EXPECT_DEATH(s.cache->MakePageTable(table, counts, GroupId{0}, {row_begin, {}}), "smaller");
  EXPECT_DEATH(
      static_cast<void>(s.cache->PackPageTable({}, counts, GroupId{0}, {row_begin, lengths}, ids)),
      "one count");
  EXPECT_DEATH(static_cast<void>(s.cache->PackPageTable(table, counts, GroupId{0}, {}, ids)),
               "smaller");
}

// Ordinals of a build with or without CUDA: an answer, never a crash.
TEST(ArgumentMatrixTest, CudaDevicesThatAreNotThere) {
  DeviceOptions options;
  options.groups.push_back(
      {.layout = {.layers = 1, .kv_heads = 1, .head_dim = 8, .tokens_per_page = 1},
       .page_count = 1});
  for (const int64_t ordinal : {int64_t{INT32_MIN}, int64_t{-1}, int64_t{INT32_MAX}}) {
    const absl::Status status = NewCudaDevice(options, static_cast<int>(ordinal)).status();
    EXPECT_TRUE(status.code() == absl::StatusCode::kUnimplemented ||
                status.code() == absl::StatusCode::kFailedPrecondition)
        << status;
    EXPECT_FALSE(status.message().empty());
  }
}

}  // namespace
}  // namespace quire::testing
