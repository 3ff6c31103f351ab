// What the kernels are told: page tables, shapes, strides, counts. Each call is judged by the plain
// restatement of the contract in page_table_contract.h: what breaks it must be refused, with
// nothing written; what keeps it must run. Arrays end where the contract says that reading ends,
// and memory that may not be read holds NaN, so that AddressSanitizer or the result tells.
//
// Left to the caller by the contract, and so always right here: that arrays are as long as their
// counts say, that row_begin points into page_ids, and that copies name no page twice.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "quire/attention.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/page_table_contract.h"

namespace quire::fuzz {
namespace {

constexpr Wide kMostBytes = 1 << 20;  // of one array; larger calls are not made
constexpr int32_t kMostRows = 6;
constexpr Wide kMostScores = 1 << 13;  // of one call: query heads times keys
constexpr int64_t kMostEntries = 4096;
constexpr int32_t kGarbage = 0x7FFFFFF1;

// Exactly so many bytes at a multiple of 64, all 0xFF: a NaN of every type.
class Memory {
 public:
  explicit Memory(Wide bytes) : bytes_(static_cast<size_t>(bytes)) {
    if (posix_memalign(&data_, 64, bytes_) != 0) std::abort();
    std::memset(data_, 0xFF, bytes_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { std::free(data_); }

  char* data() { return static_cast<char*>(data_); }
  std::vector<char> Bytes() { return {data(), data() + bytes_}; }

 private:
  size_t bytes_;
  void* data_ = nullptr;
};

void RunForwards(void*, int32_t count, void (*task)(void*, int32_t), void* argument) {
  for (int32_t i = 0; i < count; ++i) task(argument, i);
}

void RunBackwards(void*, int32_t count, void (*task)(void*, int32_t), void* argument) {
  for (int32_t i = count; i-- > 0;) task(argument, i);
}

// 0.5 or 1, as `dtype` has them.
void StoreHead(char* to, DType dtype, int32_t head_dim, int64_t salt) {
  for (int32_t d = 0; d < head_dim; ++d) {
    const bool one = (salt * 7 + d * 3) % 5 < 2;
    const uint32_t wide = one ? 0x3f800000 : 0x3f000000;
    const auto half = static_cast<uint16_t>(one ? 0x3c00 : 0x3800);
    const auto brain = static_cast<uint16_t>(wide >> 16);
    if (dtype == DType::kFloat32) std::memcpy(to + d * 4, &wide, 4);
    if (dtype == DType::kFloat16) std::memcpy(to + d * 2, &half, 2);
    if (dtype == DType::kBFloat16) std::memcpy(to + d * 2, &brain, 2);
  }
}

double LoadValue(const char* from, DType dtype) {
  uint32_t wide = 0;
  uint16_t half = 0;
  if (dtype == DType::kFloat32) {
    std::memcpy(&wide, from, 4);
    return std::bit_cast<float>(wide);
  }
  std::memcpy(&half, from, 2);
  if (dtype == DType::kBFloat16) return std::bit_cast<float>(uint32_t{half} << 16);
  if ((half & 0x7C00) == 0x7C00) return NAN;
  return std::ldexp((half & 0x3FF) + ((half & 0x7C00) != 0 ? 1024 : 0),
                    std::max(1, half >> 10 & 31) - 25) *
         ((half & 0x8000) != 0 ? -1 : 1);
}

// What all kernels have in common: a pool, a head, threads.
struct Shape {
  DType dtype;
  int32_t kv_heads, head_dim, tokens_per_page;
  Threads threads;
  const Threads* use_threads;
};

Shape DrawShape(Input& input) {
  static constexpr int32_t kDims[] = {8, 16, 24, 64, 128, 256};
  Shape s = {};
  s.dtype = static_cast<DType>(input.Mostly(0, 3));
  s.kv_heads = input.Mostly(1, 3);
  s.head_dim = input.OneIn(8) ? input.AnyInt32() : kDims[input.Below(6)];
  s.tokens_per_page = input.Mostly(1, 20);
  s.threads.workers = input.Mostly(1, 6);
  s.threads.run = input.OneIn(2) ? RunBackwards : RunForwards;
  if (input.OneIn(32)) s.threads.run = nullptr;
  return s;
}

int64_t Saturated(Wide value) {
  return value > INT64_MAX   ? INT64_MAX
         : value < INT64_MIN ? INT64_MIN
                             : static_cast<int64_t>(value);
}

KvStrides DrawStrides(Input& input, const Shape& s) {
  const Wide head = HeadBytes(GoodDType(s.dtype) ? s.dtype : DType::kFloat32, s.head_dim) +
                    Wide{16} * input.Below(2);
  KvStrides strides = {};
  if (input.OneIn(2)) {  // [page][token][head]
    strides = {0, Saturated(head), Saturated(head * s.kv_heads)};
    strides.page = Saturated(Wide{strides.token} * s.tokens_per_page);
  } else {  // [page][head][token]
    strides = {0, Saturated(head * s.tokens_per_page), Saturated(head)};
    strides.page = Saturated(Wide{strides.head} * s.kv_heads);
  }
  int64_t* const fields[] = {&strides.page, &strides.head, &strides.token};
  if (input.OneIn(8)) *fields[input.Below(3)] = Saturated(Wide{16} * input.AnyInt32());
  if (input.OneIn(32)) *fields[input.Below(3)] = input.AnyInt64();
  return strides;
}

// Lengths, query_begin, row_begin and page ids of a batch: arrays of their own.
struct Batch {
  std::vector<int32_t> lengths, query_begin;
  std::vector<int64_t> row_begin;
  std::vector<PageId> page_ids;
};

// `pages_read` gives the positions of a row whose pages a kernel may read; all other entries are
// garbage. False: more entries than fit here.
template <typename PagesRead>
bool DrawPages(Input& input, PageTableView* table, int32_t page_count, Batch* b,
               const PagesRead& pages_read) {
  table->lengths = b->lengths.data();
  table->row_begin = b->row_begin.data();
  if (table->tokens_per_page < 1) return true;
  int64_t size = 0;
  for (size_t row = 0; row < b->lengths.size(); ++row) {
    const int64_t pages =
        (int64_t{b->lengths[row]} + table->tokens_per_page - 1) / table->tokens_per_page;
    if (b->row_begin[row] >= 0) size = std::max(size, b->row_begin[row] + pages);
  }
  if (size > kMostEntries) return false;
  b->page_ids.assign(static_cast<size_t>(size), PageId{kGarbage});
  for (size_t row = 0; row < b->lengths.size(); ++row) {
    const Positions at = pages_read(static_cast<int32_t>(row));
    if (at.begin >= at.end || b->row_begin[row] < 0) continue;
    for (int64_t page = at.begin / table->tokens_per_page;
         page <= (at.end - 1) / table->tokens_per_page; ++page) {
      b->page_ids[static_cast<size_t>(b->row_begin[row] + page)] =
          PageId{input.Mostly(0, std::clamp(page_count, 1, 16))};
    }
  }
  // Exactly as long as the contract reads: no slack that would hide a step too far.
  b->page_ids.shrink_to_fit();
  table->page_ids = input.OneIn(64) ? nullptr : b->page_ids.data();
  return true;
}

// False: more rows than fit here.
bool DrawRows(Input& input, int32_t batch, Batch* b) {
  if (batch > kMostRows) return false;
  const auto rows = static_cast<size_t>(std::max(0, batch));
  b->query_begin = {input.OneIn(32) ? input.AnyInt32() : 0};
  for (size_t row = 0; row < rows; ++row) {
    const int32_t queries = input.OneIn(4) ? input.Mostly(0, 40) : input.Below(4);
    b->query_begin.push_back(static_cast<int32_t>(static_cast<uint32_t>(b->query_begin[row]) +
                                                  static_cast<uint32_t>(queries)));
    const int64_t length = int64_t{queries} + input.Below(40);
    b->lengths.push_back(input.OneIn(3)
                             ? input.Mostly(0, 200)
                             : static_cast<int32_t>(std::min<int64_t>(length, INT32_MAX)));
    b->row_begin.push_back(input.OneIn(64) ? -1 - input.Below(8) : input.Below(8));
  }
  return true;
}

// Bytes from a base to the end of the last head that `visit` names.
struct Extent {
  Wide end = 0;
  void Add(const KvStrides& s, Wide page, Wide slot, int32_t heads, Wide head_bytes) {
    end = std::max(end, page * s.page + slot * s.token + (Wide{heads} - 1) * s.head + head_bytes);
  }
};

void CheckOutputs(const AttentionParams& p, const char* output, const float* lse) {
  for (int32_t row = 0; row < p.table.batch; ++row) {
    const Positions seen = KeysSeen(p, row);
    const int64_t queries = int64_t{p.query_begin[row + 1]} - p.query_begin[row];
    for (int64_t i = 0; i < queries * p.query_heads; ++i) {
      const int64_t at = int64_t{p.query_begin[row]} * p.query_heads + i;
      const bool none = seen.begin >= seen.end;
      if (lse != nullptr) {
        Require(none ? std::isinf(lse[at]) : std::isfinite(lse[at]), "an LSE is wrong");
      }
      for (int32_t d = 0; d < p.head_dim; ++d) {
        const double value = LoadValue(output + (at * p.head_dim + d) * SizeOf(p.dtype), p.dtype);
        // All visible values are 0.5 or 1, so a mean of them lies between.
        Require(none ? value == 0 : value > 0.499 && value < 1.001,
                "a value was read that the query does not see");
      }
    }
  }
}

// One call of a good or bad AttentionParams, whose memory is here.
void CallAttention(Input& input, AttentionParams p, bool good, Wide query_bytes) {
  const int64_t workspace_bytes = cpu::WorkspaceBytes(p);
  Require(workspace_bytes >= 0, "a workspace of less than nothing");
  if (workspace_bytes > kMostBytes * 8) return;
  const int offer = input.Below(8);  // a workspace: none, what is asked for, too little, misaligned
  Memory workspace(Wide{workspace_bytes} + (offer == 6 ? 16 : 0));
  if (offer > 3) {
    p.workspace = workspace.data() + (offer == 6 ? 16 : 0);
    p.workspace_bytes = workspace_bytes - (offer == 7 ? 1 : 0);
    good = good && offer != 6 && offer != 7;
  }
  Memory query(query_bytes), output(query_bytes);
  const auto heads = query_bytes / (Wide{std::max(1, p.head_dim)} * 2);
  Memory lse(heads * 4);
  for (Wide at = 0; good && at < query_bytes; at += HeadBytes(p.dtype, p.head_dim)) {
    StoreHead(query.data() + at, p.dtype, p.head_dim, static_cast<int64_t>(at));
  }
  const int spoil = input.Below(32);
  p.query = spoil == 4 ? nullptr : query.data();
  p.output = spoil == 1 ? nullptr : spoil == 2 ? query.data() : output.data();
  p.lse = spoil == 3 ? nullptr : reinterpret_cast<float*>(lse.data());
  if ((spoil == 1 || spoil == 2 || spoil == 4) && query_bytes > 0) good = false;
  const std::vector<char> before = output.Bytes(), query_before = query.Bytes();
  for (const auto& kernel : {cpu::Attention, cpu::AttentionPlain}) {
    const LaunchError error = kernel(p);
    Require((error == LaunchError::kOk) == good,
            std::string("attention answers: ") + Describe(error));
    Require(query.Bytes() == query_before, "attention wrote its query");
    if (!good) Require(output.Bytes() == before, "a refused attention wrote");
    if (good && query_bytes > 0) CheckOutputs(p, output.data(), p.lse);
  }
}

void FuzzAttention(Input& input) {
  Shape s = DrawShape(input);
  AttentionParams p = {};
  p.dtype = s.dtype;
  p.kv_heads = s.kv_heads;
  p.head_dim = s.head_dim;
  p.threads = &s.threads;
  p.query_heads = input.OneIn(16)
                      ? input.AnyInt32()
                      : static_cast<int32_t>(Saturated(Wide{s.kv_heads} * (1 + input.Below(9))));
  p.window = input.OneIn(2) ? input.Mostly(0, 60) : 0;
  p.causal = !input.OneIn(4);
  p.scale = 0.25f;
  p.soft_cap = input.OneIn(4) ? static_cast<float>(input.AnyInt32()) : 0;
  if (input.OneIn(64)) p.soft_cap = NAN;
  p.mode = static_cast<ScheduleMode>(input.Mostly(0, 2));
  p.table.tokens_per_page = s.tokens_per_page;
  p.table.batch = input.Mostly(0, 5);
  p.kv.page_count = input.Mostly(0, 9);
  p.kv.k_strides = DrawStrides(input, s);
  p.kv.v_strides = DrawStrides(input, s);
  Batch b;
  if (!DrawRows(input, p.table.batch, &b)) return;
  p.query_begin = b.query_begin.data();
  p.table.lengths = b.lengths.data();
  const auto keys_seen = [&](int32_t row) { return KeysSeen(p, row); };
  if (!DrawPages(input, &p.table, p.kv.page_count, &b, keys_seen)) return;

  // Sizes, as far as the call is good up to here: memory for K, V and queries comes now.
  char some[64] = {};
  p.kv.k = p.kv.v = p.output =
      reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(some) + 15) / 16 * 16);
  p.query = static_cast<char*>(p.output) - (int64_t{1} << 40);
  const bool good = GoodAttentionNumbers(p) && GoodAttention(p);
  if (!good) {
    // Unreadable unless it is refused first.
    p.kv.k = p.kv.v = reinterpret_cast<void*>(uintptr_t{16});
    return CallAttention(input, p, false, 64);
  }
  const Wide head_bytes = HeadBytes(p.dtype, p.head_dim);
  Extent k, v;
  Wide scores = 0;
  for (int32_t row = 0; row < p.table.batch; ++row) {
    const Positions keys = KeysSeen(p, row);
    if (keys.end - keys.begin > 4096) return;
    scores += Wide{b.query_begin[row + 1] - b.query_begin[row]} * b.lengths[row] * p.query_heads;
    for (int64_t t = keys.begin; t < keys.end; ++t) {
      const auto page =
          static_cast<int32_t>(p.table.page_ids[b.row_begin[row] + t / p.table.tokens_per_page]);
      const Wide slot = t % p.table.tokens_per_page;
      k.Add(p.kv.k_strides, page, slot, p.kv_heads, head_bytes);
      v.Add(p.kv.v_strides, page, slot, p.kv_heads, head_bytes);
    }
  }
  const Wide query_bytes = QueryBytes(p);
  if (k.end > kMostBytes || v.end > kMostBytes || query_bytes > kMostBytes) return;
  if (scores > kMostScores) return;
  Memory keys(k.end), values(v.end);
  for (int32_t row = 0; row < p.table.batch; ++row) {
    const Positions seen = KeysSeen(p, row);
    for (int64_t t = seen.begin; t < seen.end; ++t) {
      const int64_t page =
          static_cast<int32_t>(p.table.page_ids[b.row_begin[row] + t / p.table.tokens_per_page]);
      const int64_t slot = t % p.table.tokens_per_page;
      for (int64_t head = 0; head < p.kv_heads; ++head) {
        const KvStrides &ks = p.kv.k_strides, &vs = p.kv.v_strides;
        StoreHead(keys.data() + page * ks.page + slot * ks.token + head * ks.head, p.dtype,
                  p.head_dim, t);
        StoreHead(values.data() + page * vs.page + slot * vs.token + head * vs.head, p.dtype,
                  p.head_dim, t + head);
      }
    }
  }
  p.kv.k = keys.data();
  p.kv.v = values.data();
  CallAttention(input, p, true, query_bytes);
}

void FuzzAppend(Input& input) {
  Shape s = DrawShape(input);
  s.threads.run = s.threads.run == nullptr ? nullptr : RunForwards;  // one slot may stand twice
  AppendKvParams p = {};
  p.dtype = s.dtype;
  p.kv_heads = s.kv_heads;
  p.head_dim = s.head_dim;
  p.tokens_per_page = s.tokens_per_page;
  p.threads = &s.threads;
  p.token_count = input.Mostly(0, 20);
  p.kv.page_count = input.Mostly(0, 9);
  p.kv.k_strides = DrawStrides(input, s);
  p.kv.v_strides = DrawStrides(input, s);
  if (input.OneIn(4)) p.key_token_stride = input.AnyInt64();
  if (input.OneIn(4)) p.value_token_stride = Saturated(Wide{16} * input.AnyInt32());
  Batch b;
  std::vector<int64_t> slots;
  if (input.OneIn(2)) {
    if (p.token_count > 256) return;
    const Wide limit = Wide{p.kv.page_count} * p.tokens_per_page;
    for (int32_t t = 0; t < p.token_count; ++t) {
      const int64_t slot = input.Byte();
      slots.push_back(input.OneIn(32)           ? input.AnyInt64()
                      : limit < 1 || slot > 250 ? -1
                                                : Saturated(slot % limit));
    }
    slots.reserve(1);  // data() must not be null
    p.slots = slots.data();
  } else {
    p.table.batch = input.Mostly(0, 5);
    p.table.tokens_per_page = input.OneIn(32) ? input.AnyInt32() : p.tokens_per_page;
    if (!DrawRows(input, p.table.batch, &b)) return;
    p.query_begin = b.query_begin.data();
    p.table.lengths = b.lengths.data();
    const auto new_tokens = [&](int32_t row) {
      const Positions at = NewTokens(p, row);
      return at.begin < 0 ? Positions{0, 0} : at;
    };
    if (!DrawPages(input, &p.table, p.kv.page_count, &b, new_tokens)) return;
    if (b.query_begin.back() >= 0 && b.query_begin.back() < 1 << 20 && !input.OneIn(8)) {
      p.token_count = b.query_begin.back() + input.Below(4);
    }
  }
  alignas(16) char some[16];
  p.key = p.value = p.kv.k = p.kv.v = some;
  const int spoil = input.Below(64);
  if (spoil == 1) p.key = nullptr;
  if (spoil == 2) p.value = nullptr;
  if (spoil == 3) p.kv.k = nullptr;
  if (spoil == 4) p.kv.v = some + 8;
  if (!GoodAppend(p)) {
    Require(cpu::AppendKv(p) != LaunchError::kOk, "append takes what breaks its contract");
    return;
  }
  const Wide head_bytes = HeadBytes(p.dtype, p.head_dim), tight = head_bytes * p.kv_heads;
  const Wide key_stride = p.key_token_stride == 0 ? tight : Wide{p.key_token_stride};
  const Wide value_stride = p.value_token_stride == 0 ? tight : Wide{p.value_token_stride};
  Extent k, v;
  Wide key_end = 0, value_end = 0;
  ForEachWrite(p, [&](int64_t t, int64_t page, int64_t slot) {
    k.Add(p.kv.k_strides, page, slot, p.kv_heads, head_bytes);
    v.Add(p.kv.v_strides, page, slot, p.kv_heads, head_bytes);
    key_end = std::max(key_end, t * key_stride + tight);
    value_end = std::max(value_end, t * value_stride + tight);
  });
  for (const Wide bytes : {k.end, v.end, key_end, value_end}) {
    if (bytes > kMostBytes) return;
  }
  Memory key(key_end), value(value_end), keys(k.end), values(v.end);
  for (Wide i = 0; i < key_end; ++i) key.data()[i] = static_cast<char>(i * 31 % 253);
  for (Wide i = 0; i < value_end; ++i) value.data()[i] = static_cast<char>(i * 17 % 251);
  std::vector<char> want_k = keys.Bytes(), want_v = values.Bytes();
  ForEachWrite(p, [&](int64_t t, int64_t page, int64_t slot) {
    for (int64_t head = 0; head < p.kv_heads; ++head) {
      const auto bytes = static_cast<int64_t>(head_bytes);
      const auto at = [&](const KvStrides& to) {
        return page * to.page + slot * to.token + head * to.head;
      };
      std::copy_n(key.data() + t * key_stride + head * bytes, bytes,
                  want_k.begin() + at(p.kv.k_strides));
      std::copy_n(value.data() + t * value_stride + head * bytes, bytes,
                  want_v.begin() + at(p.kv.v_strides));
    }
  });
  if (key_end > 0) {
    p.key = key.data();
    p.value = value.data();
    p.kv.k = keys.data();
    p.kv.v = values.data();
  }
  const LaunchError error = cpu::AppendKv(p);
  Require(error == LaunchError::kOk, std::string("append answers: ") + Describe(error));
  Require(keys.Bytes() == want_k && values.Bytes() == want_v, "append wrote something else");
}

void FuzzCopy(Input& input) {
  Shape s = DrawShape(input);
  CopyPagesParams p = {};
  p.threads = &s.threads;
  p.page_stride = input.OneIn(8) ? input.AnyInt64() : 16 * input.Below(64);
  p.page_bytes =
      input.OneIn(8) ? input.AnyInt64() : Saturated(Wide{p.page_stride} - input.Below(3));
  p.page_count = input.Mostly(0, 12);
  p.from_page_count = input.Mostly(0, 12);
  p.count = input.Mostly(0, 4);
  const bool two_pools = input.OneIn(2);
  // Where a page is several runs their places must not meet: each run has a pool of its own.
  p.piece_count = input.OneIn(2) ? input.Mostly(0, 4) : 0;
  if (p.piece_count > 64 || p.count > 64) return;
  std::vector<int64_t> offsets;
  const Wide run = Wide{p.page_stride} * std::max({p.page_count, p.from_page_count, 0});
  for (int32_t i = 0; i < p.piece_count; ++i) {
    offsets.push_back(input.OneIn(32) ? -16 - input.Below(16) : Saturated(run * i));
    if (input.OneIn(64)) offsets.back() = Saturated(Wide{offsets.back()} + 8);
  }
  if (!input.OneIn(32)) p.piece_offsets = offsets.data();
  // No page twice: sources go up, targets down or in a pool of their own.
  std::vector<PageId> from, to;
  for (int32_t i = 0; i < p.count; ++i) {
    from.push_back(PageId{input.OneIn(32) ? input.AnyInt32() : i});
    const int32_t last = std::max(0, p.page_count) - 1;
    to.push_back(PageId{input.OneIn(32) ? input.AnyInt32() : two_pools ? i : last - i});
    const bool twice = std::count(to.begin(), to.end(), to.back()) > 1 ||
                       (!two_pools && std::count(from.begin(), from.end(), to.back()) > 0) ||
                       (!two_pools && std::count(to.begin(), to.end(), from.back()) > 0);
    if (twice) return;
  }
  p.from = input.OneIn(64) ? nullptr : from.data();
  p.to = input.OneIn(64) ? nullptr : to.data();
  alignas(16) char some[32];
  p.base = input.OneIn(64) ? some + 8 : some;
  if (two_pools) p.from_base = some;
  if (!GoodCopy(p)) {
    Require(cpu::CopyPages(p) != LaunchError::kOk, "copy takes what breaks its contract");
    return;
  }
  const Wide last = offsets.empty() ? Wide{0} : Wide{offsets.back()};
  const Wide bytes = last + Wide{p.page_stride} * std::max(p.page_count, p.from_page_count);
  if (bytes > kMostBytes) return;
  Memory to_pool(bytes), from_pool(two_pools ? bytes : 0);
  Memory& source = two_pools ? from_pool : to_pool;
  for (Wide i = 0; i < bytes; ++i) source.data()[i] = static_cast<char>(i * 31 % 253);
  std::vector<char> want = to_pool.Bytes();
  if (offsets.empty()) offsets = {0};
  for (int32_t i = 0; i < p.count; ++i) {
    for (const int64_t offset : offsets) {
      std::copy_n(source.data() + offset + static_cast<int32_t>(from[i]) * p.page_stride,
                  p.page_bytes,
                  want.begin() + offset + static_cast<int32_t>(to[i]) * p.page_stride);
    }
  }
  p.base = to_pool.data();
  if (two_pools) p.from_base = from_pool.data();
  Require(cpu::CopyPages(p) == LaunchError::kOk, "copy refuses what keeps its contract");
  Require(to_pool.Bytes() == want, "copy wrote something else");
}

void FuzzMerge(Input& input) {
  Shape s = DrawShape(input);
  MergeParams p = {};
  p.dtype = s.dtype;
  p.heads = s.kv_heads;
  p.head_dim = s.head_dim;
  p.threads = &s.threads;
  p.token_count = input.Mostly(0, 6);
  p.part_count = input.Mostly(1, 5);
  const Wide heads = Wide{std::max(0, p.token_count)} * std::max(0, p.heads);
  const DType dtype = GoodDType(p.dtype) ? p.dtype : DType::kFloat32;
  const Wide bytes = heads * HeadBytes(dtype, std::clamp(p.head_dim, 0, 256));
  p.output_stride = Saturated((bytes + 15) / 16 * 16 + 16 * input.Below(2));
  p.lse_stride = Saturated(heads + input.Below(2));
  if (input.OneIn(8)) p.output_stride = input.AnyInt64();
  if (input.OneIn(8)) p.lse_stride = input.AnyInt64();
  const int in_place = input.Below(8);  // 1: on a part, 2: across one, 3: the LSE across one
  alignas(16) char some[64];
  p.outputs = input.OneIn(64) ? nullptr : some;
  p.lses = input.OneIn(64) ? nullptr : reinterpret_cast<float*>(some);
  p.output = input.OneIn(64) ? some + 8 : reinterpret_cast<char*>(uintptr_t{1} << 62);
  const Wide parts = std::clamp(p.part_count, 1, 8);
  const Wide all = (parts - 1) * std::max<int64_t>(p.output_stride, 0) + bytes;
  const Wide all_lses = ((parts - 1) * std::max<int64_t>(p.lse_stride, 0) + heads) * 4;
  const bool fits = p.part_count <= 8 && all <= kMostBytes && all_lses <= kMostBytes;
  if (!fits) {
    if (p.part_count > 8) p.output = some + 8;  // refused, whatever else is said
    if (p.part_count > 8 ? p.token_count < 0 || GoodHead(p.dtype, p.heads, p.head_dim)
                         : !GoodMerge(p)) {
      Require(cpu::Merge(p) != LaunchError::kOk, "merge takes what breaks its contract");
    }
    return;
  }
  Memory outputs(all), lses(all_lses), output(bytes), lse(heads * 4);
  for (Wide at = 0; at + 4 <= all_lses; at += 4) {
    const float value = static_cast<float>(at / 4 % 7);
    std::memcpy(lses.data() + at, &value, 4);
  }
  if (p.outputs != nullptr) p.outputs = outputs.data();
  if (p.lses != nullptr) p.lses = reinterpret_cast<float*>(lses.data());
  if (Aligned(p.output, 16)) p.output = output.data();
  p.lse = input.OneIn(4) ? nullptr : reinterpret_cast<float*>(lse.data());
  if (in_place == 1) p.output = outputs.data();
  if (in_place == 2 && bytes > 16) p.output = outputs.data() + 16;
  if (in_place == 3 && heads > 1) p.lse = reinterpret_cast<float*>(lses.data()) + 1;
  const bool good = GoodMerge(p);
  if (good && (in_place == 2 || in_place == 3)) return;  // may end beyond the parts' memory
  for (Wide part = 0; good && part < parts; ++part) {
    for (Wide at = 0; at < bytes; at += HeadBytes(p.dtype, p.head_dim)) {
      StoreHead(outputs.data() + part * p.output_stride + at, p.dtype, p.head_dim,
                static_cast<int64_t>(part));
    }
  }
  const std::vector<char> before = output.Bytes(), parts_before = outputs.Bytes();
  const LaunchError error = cpu::Merge(p);
  Require((error == LaunchError::kOk) == good, std::string("merge answers: ") + Describe(error));
  if (!good) {
    Require(output.Bytes() == before && outputs.Bytes() == parts_before, "a refused merge wrote");
    return;
  }
  const auto* result = static_cast<const char*>(p.output);
  for (Wide at = 0; at < bytes; at += SizeOf(p.dtype)) {
    const double value = LoadValue(result + at, p.dtype);
    Require(value > 0.499 && value < 1.001, "a merge of 0.5 and 1 does not lie between");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  switch (input.Below(4)) {
    case 0:
      FuzzAttention(input);
      break;
    case 1:
      FuzzAppend(input);
      break;
    case 2:
      FuzzCopy(input);
      break;
    default:
      FuzzMerge(input);
  }
  return 0;
}

}  // namespace quire::fuzz
