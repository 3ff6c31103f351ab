// A whole attention problem with poisoned surroundings: made from a short description, with values
// that depend only on (row name, position, head, element), so that two problems that hold the same
// row differently (other pages, other batch, other chunk) hold the same numbers.
//
// Poison, always on: every unused slot and unused page is NaN; every table entry that no kernel may
// read is 2147480000; the table ends at a guard page; output, LSE and workspace begin as NaN.

#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_CASE_H_
#define QUIRE_TESTS_SUPPORT_ATTENTION_CASE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/half.h"
#include "quire/attention.h"
#include "tests/support/attention_memory.h"

namespace quire::testing {

inline constexpr int32_t kPoisonPage = 2147480000;

enum class Layout {
  kPageMajor,   // [page][K|V][head][token][dim]
  kSeparate,    // pools of their own: K [page][token][head][dim], V [page][head][token][dim]
  kSliced,      // layer 1 of 3 of a page-major pool, with a gap after each page
  kInterleaved  // [page][token][head][K|V][dim]
};

struct CaseRow {
  int32_t length;
  int32_t queries = 1;
  int32_t name = -1;  // rows of one name hold the same tokens; -1: the row's index
};

struct CaseShape {
  std::vector<CaseRow> rows = {};
  DType dtype = DType::kFloat32;
  int32_t kv_heads = 2;
  int32_t group = 4;
  int32_t head_dim = 64;
  int32_t tokens_per_page = 16;
  bool causal = true;
  int32_t window = 0;
  float soft_cap = 0;
  bool sinks = false;
  float key_size = 1;  // K is drawn from a normal distribution times this
  Layout layout = Layout::kPageMajor;
  int32_t spare_pages = 3;      // unused pages of the pool
  uint32_t page_order = 1;      // seed of the page ids
  bool top_pages_only = false;  // use the last pages of the pool
  int32_t seed = 1;
};

// A normal-looking number from a key: the sum of four bytes of a hash, mean 0, variance 1.
inline float DrawValue(uint64_t key) {
  key += 0x9e3779b97f4a7c15;
  key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9;
  key = (key ^ key >> 27) * 0x94d049bb133111eb;
  key ^= key >> 31;
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<float>(key >> (16 * i) & 0xffff) / 65536.0f - 0.5f;
  return sum * 1.7320508f;
}

inline double ReadElement(const void* base, int64_t index, DType dtype) {
  if (dtype == DType::kFloat32) return static_cast<const float*>(base)[index];
  const uint16_t bits = static_cast<const uint16_t*>(base)[index];
  return dtype == DType::kFloat16 ? FromFloat16(bits) : FromBFloat16(bits);
}

inline void WriteElement(void* base, int64_t index, DType dtype, float value) {
  if (dtype == DType::kFloat32) {
    static_cast<float*>(base)[index] = value;
  } else {
    static_cast<uint16_t*>(base)[index] =
        dtype == DType::kFloat16 ? ToFloat16(value) : ToBFloat16(value);
  }
}

// The value rounded to the type.
inline double Rounded(double value, DType dtype) {
  const auto f = static_cast<float>(value);
  if (dtype == DType::kFloat32) return f;
  return dtype == DType::kFloat16 ? FromFloat16(ToFloat16(f)) : FromBFloat16(ToBFloat16(f));
}

class AttentionCase {
 public:
  explicit AttentionCase(CaseShape shape) : shape_(std::move(shape)) {
    for (size_t i = 0; i < shape_.rows.size(); ++i) {
      if (shape_.rows[i].name < 0) shape_.rows[i].name = static_cast<int32_t>(i);
    }
    MakeTable();
    MakePool();
    MakeQueries();
  }
  AttentionCase(AttentionCase&&) = default;

  const CaseShape& shape() const { return shape_; }
  int32_t query_heads() const { return shape_.kv_heads * shape_.group; }
  int64_t query_tokens() const { return query_begin_.back(); }
  int64_t query_begin(size_t row) const { return query_begin_[row]; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

  AttentionParams params() {
    AttentionParams p = {};
    p.table = {.page_ids = table_.data(),
               .row_begin = row_begin_.data(),
               .lengths = lengths_.data(),
               .batch = static_cast<int32_t>(shape_.rows.size()),
               .tokens_per_page = shape_.tokens_per_page};
    p.kv = kv_;
    p.dtype = shape_.dtype;
    p.query_heads = query_heads();
    p.kv_heads = shape_.kv_heads;
    p.head_dim = shape_.head_dim;
    p.query_begin = query_begin_.data();
    p.query = query_.data();
    p.output = output_.data();
    p.lse = lse_.data();
    p.scale = scale();
    p.soft_cap = shape_.soft_cap;
    p.window = shape_.window;
    p.causal = shape_.causal;
    p.sinks = shape_.sinks ? sinks_.data() : nullptr;
    return p;
  }

  // Keys that a query sees, by the words of attention.h.
  int64_t KeysBegin(size_t row, int32_t j) const {
    return shape_.window == 0 ? 0 : std::max<int64_t>(0, KeysEnd(row, j) - shape_.window);
  }
  int64_t KeysEnd(size_t row, int32_t j) const {
    const CaseRow& r = shape_.rows[row];
    return shape_.causal ? int64_t{r.length} - r.queries + j + 1 : r.length;
  }

  double Key(size_t row, int64_t position, int32_t head, int32_t d) const {
    return Rounded(KvValue(row, position, head, d, 0) * shape_.key_size, shape_.dtype);
  }
  double Value(size_t row, int64_t position, int32_t head, int32_t d) const {
    return Rounded(KvValue(row, position, head, d, 1), shape_.dtype);
  }
  double Query(size_t row, int32_t j, int32_t head, int32_t d) const {
    const int64_t index = (query_begin_[row] + j) * int64_t{query_heads()} + head;
    return ReadElement(query_.data(), index * shape_.head_dim + d, shape_.dtype);
  }
  float Sink(int32_t head) const { return sinks_[static_cast<size_t>(head)]; }

  double Output(size_t row, int32_t j, int32_t head, int32_t d) const {
    const int64_t index = (query_begin_[row] + j) * int64_t{query_heads()} + head;
    return ReadElement(output_.data(), index * shape_.head_dim + d, shape_.dtype);
  }
  float Lse(size_t row, int32_t j, int32_t head) const {
    return lse_[static_cast<size_t>((query_begin_[row] + j) * int64_t{query_heads()} + head)];
  }
  // The bits of one query token's outputs and LSEs, to compare.
  std::vector<char> Bits(size_t row, int32_t j) const {
    const int64_t token = query_begin_[row] + j;
    const size_t out_bytes =
        static_cast<size_t>(int64_t{query_heads()} * shape_.head_dim * SizeOf(shape_.dtype));
    const size_t lse_bytes = static_cast<size_t>(query_heads()) * sizeof(float);
    std::vector<char> bits(out_bytes + lse_bytes);
    std::memcpy(bits.data(), output_.data() + token * static_cast<int64_t>(out_bytes), out_bytes);
    std::memcpy(bits.data() + out_bytes, lse_.data() + token * query_heads(), lse_bytes);
    return bits;
  }
  void PoisonOutput() {
    std::fill(output_.begin(), output_.end(), '\xff');
    std::fill(lse_.begin(), lse_.end(), std::numeric_limits<float>::quiet_NaN());
  }

  // Makes the table's first `entries` entries unreadable, as far as whole OS pages go. Without
  // guards they are only poison: to read one is harmless, to follow it is not.
  void ForbidFirstEntries(int64_t entries) {
    if (!MemoryForTests().guards) return;
    const auto os_page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto begin = reinterpret_cast<uintptr_t>(table_.data());
    const auto end = reinterpret_cast<uintptr_t>(table_.data() + entries);
    const uintptr_t first = (begin + os_page - 1) / os_page * os_page;
    const uintptr_t last = end / os_page * os_page;
    ASSERT_LT(first, last) << "too few entries for one OS page";
    ASSERT_EQ(mprotect(reinterpret_cast<void*>(first), last - first, PROT_NONE), 0);
  }

  // The slot of a token, as bytes, for tests that spoil one.
  char* KeySlot(size_t row, int64_t position, int32_t head) const {
    return Slot(kv_.k, kv_.k_strides, row, position, head);
  }
  char* ValueSlot(size_t row, int64_t position, int32_t head) const {
    return Slot(kv_.v, kv_.v_strides, row, position, head);
  }

 private:
  float KvValue(size_t row, int64_t position, int32_t head, int32_t d, uint64_t which) const {
    return DrawValue(((static_cast<uint64_t>(shape_.rows[row].name) << 44) +
                      (static_cast<uint64_t>(position) << 20) +
                      (static_cast<uint64_t>(head) << 10) + static_cast<uint64_t>(d) * 4 + which) *
                         0x2545f4914f6cdd1d +
                     static_cast<uint64_t>(shape_.seed));
  }

  char* Slot(void* base, const KvStrides& strides, size_t row, int64_t position,
             int32_t head) const {
    const PageId page = table_.data()[row_begin_[row] + position / shape_.tokens_per_page];
    return static_cast<char*>(base) + PageOffset(page, strides.page) + head * strides.head +
           position % shape_.tokens_per_page * strides.token;
  }

  void MakeTable() {
    const int32_t tpp = shape_.tokens_per_page;
    int64_t used = 0;
    query_begin_ = {0};
    for (const CaseRow& row : shape_.rows) {
      used += (row.length + tpp - 1) / tpp;
      query_begin_.push_back(query_begin_.back() + row.queries);
      lengths_.push_back(row.length);
    }
    page_count_ = static_cast<int32_t>(used) + shape_.spare_pages;
    std::vector<int32_t> ids(static_cast<size_t>(shape_.top_pages_only ? used : page_count_));
    std::iota(ids.begin(), ids.end(), page_count_ - static_cast<int32_t>(ids.size()));
    std::shuffle(ids.begin(), ids.end(), std::mt19937(shape_.page_order));

    std::vector<PageId> table;
    size_t next = 0;
    for (size_t i = 0; i < shape_.rows.size(); ++i) {
      const CaseRow& row = shape_.rows[i];
      row_begin_.push_back(static_cast<int64_t>(table.size()));
      const int64_t first_seen = row.queries == 0 ? row.length : KeysBegin(i, 0);
      for (int64_t page = 0; page * tpp < row.length; ++page) {
        const bool read = (page + 1) * tpp > first_seen;
        table.push_back(PageId{read ? ids[next++] : kPoisonPage});
      }
      // A tail of entries that are never read; the last row's table ends at the guard page.
      if (i + 1 < shape_.rows.size()) table.insert(table.end(), 2, PageId{kPoisonPage});
    }
    table_ = GuardedArray<PageId>(table);
  }

  void MakeStrides() {
    const int64_t token = int64_t{SizeOf(shape_.dtype)} * shape_.head_dim;
    const int64_t head = token * shape_.tokens_per_page;
    const int64_t half = head * shape_.kv_heads;  // K of one layer in one page
    switch (shape_.layout) {
      case Layout::kPageMajor:
        kv_.k_strides = kv_.v_strides = {.page = 2 * half, .head = head, .token = token};
        v_offset_ = half;
        break;
      case Layout::kSeparate:
        kv_.k_strides = {.page = half, .head = token, .token = token * shape_.kv_heads};
        kv_.v_strides = {.page = half, .head = head, .token = token};
        v_offset_ = half * page_count_;
        break;
      case Layout::kSliced:
        kv_.k_strides = kv_.v_strides = {.page = 6 * half + 48, .head = head, .token = token};
        k_offset_ = 2 * half;
        v_offset_ = 3 * half;
        break;
      case Layout::kInterleaved:
        kv_.k_strides = {.page = 2 * half, .head = 2 * token, .token = 2 * token * shape_.kv_heads};
        kv_.v_strides = kv_.k_strides;
        v_offset_ = token;
        break;
    }
  }

  void MakePool() {
    MakeStrides();
    const int64_t pools = shape_.layout == Layout::kSeparate ? 2 : 1;
    const int64_t bytes = pools * page_count_ * kv_.k_strides.page;
    pool_ = Mapping(static_cast<size_t>(bytes));
    // A pool too large to fill is poisoned only around the pages in use.
    if (bytes < int64_t{1} << 30) std::fill_n(pool_.data(), bytes, '\xff');
    kv_.k = pool_.data() + k_offset_;
    kv_.v = pool_.data() + v_offset_;
    kv_.page_count = page_count_;
    for (size_t i = 0; i < shape_.rows.size(); ++i) {
      if (shape_.rows[i].queries == 0) continue;
      for (int64_t t = KeysBegin(i, 0); t < KeysEnd(i, shape_.rows[i].queries - 1); ++t) {
        WriteToken(i, t);
      }
    }
  }

  void WriteToken(size_t row, int64_t t) {
    for (int32_t h = 0; h < shape_.kv_heads; ++h) {
      for (int32_t d = 0; d < shape_.head_dim; ++d) {
        WriteElement(KeySlot(row, t, h), d, shape_.dtype, static_cast<float>(Key(row, t, h, d)));
        WriteElement(ValueSlot(row, t, h), d, shape_.dtype,
                     static_cast<float>(Value(row, t, h, d)));
      }
    }
  }

  void MakeQueries() {
    const int64_t heads = query_tokens() * query_heads();
    // At least one byte: a GPU's launcher cannot see that there are no queries, and wants pointers.
    query_.resize(
        std::max<size_t>(1, static_cast<size_t>(heads * shape_.head_dim * SizeOf(shape_.dtype))));
    output_.resize(query_.size());
    lse_.resize(static_cast<size_t>(heads));
    PoisonOutput();
    int64_t index = 0;
    for (const CaseRow& row : shape_.rows) {
      for (int32_t j = 0; j < row.queries; ++j) {
        // By position from the end of the tokens, so that a chunk has the queries of the whole.
        const int64_t position = int64_t{row.length} - row.queries + j;
        for (int64_t e = 0; e < int64_t{query_heads()} * shape_.head_dim; ++e, ++index) {
          const uint64_t key = (static_cast<uint64_t>(row.name) << 44) +
                               (static_cast<uint64_t>(position + 1) << 20) +
                               static_cast<uint64_t>(e);
          WriteElement(query_.data(), index, shape_.dtype,
                       DrawValue(key * 0x9fb21c651e98df25 + static_cast<uint64_t>(shape_.seed)));
        }
      }
    }
    for (int32_t h = 0; h < query_heads(); ++h) {
      sinks_.push_back(2 * DrawValue(static_cast<uint64_t>(h) + 77));
    }
  }

  CaseShape shape_;
  TestVector<int32_t> lengths_;
  TestVector<int32_t> query_begin_;
  TestVector<int64_t> row_begin_;
  GuardedArray<PageId> table_;
  int32_t page_count_ = 0;
  Mapping pool_;
  int64_t k_offset_ = 0;
  int64_t v_offset_ = 0;
  KvView kv_ = {};
  TestVector<char> query_;
  TestVector<char> output_;
  TestVector<float> lse_;
  TestVector<float> sinks_;
};

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ATTENTION_CASE_H_
