// Rows of the argument matrix: what kernels are told. The CPU's launchers, and of CUDA's the host
// parts that are in every build.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "quire/attention.h"
#include "tests/support/argument_matrix.h"

namespace quire::testing {

namespace {

constexpr int32_t kPages = 8;
constexpr int32_t kHeadDim = 8;
constexpr int32_t kTokensPerPage = 4;
constexpr int32_t kHeads = 2;
// [page][K|V][head][token][dim] of float, and room behind it: a row may claim other sizes.
constexpr KvStrides kStrides = {.page = 512, .head = 128, .token = 32};
constexpr size_t kFloats = 4096;

void RunSerially(void*, int32_t count, void (*task)(void*, int32_t), void* argument) {
  for (int32_t i = 0; i < count; ++i) task(argument, i);
}

// Memory that every launch of a row reads and writes. Everything is in one piece, so that sizes
// that are claimed too large overlap something, as they would have to.
struct alignas(64) Floats {
  float values[kFloats];
};

struct Memory {
  std::vector<Floats> blocks = std::vector<Floats>(6);
  float* at(size_t block) { return blocks[block].values; }
  KvView kv() {
    return {.k = at(0),
            .v = at(0) + 64,
            .k_strides = kStrides,
            .v_strides = kStrides,
            .page_count = kPages};
  }
  std::vector<float> Bits() {
    std::vector<float> all;
    for (const Floats& block : blocks) all.insert(all.end(), block.values, block.values + kFloats);
    return all;
  }
  Threads threads = {.workers = 1, .context = nullptr, .run = RunSerially};
};

// Two rows: of 9 tokens and one query, of 5 tokens and two.
struct Batch {
  std::vector<PageId> ids;
  std::vector<int64_t> row_begin = {0, 16};
  std::vector<int32_t> lengths = {9, 5};
  std::vector<int32_t> query_begin = {0, 1, 3};
  Batch() {
    for (int32_t i = 0; i < 32; ++i) ids.push_back(PageId{i % kPages});
  }
  PageTableView table() {
    return {.page_ids = ids.data(),
            .row_begin = row_begin.data(),
            .lengths = lengths.data(),
            .batch = 2,
            .tokens_per_page = kTokensPerPage};
  }
};

// A launch whose refusal must not have written a byte.
std::string Answer(Memory& memory, const std::function<LaunchError()>& launch) {
  const std::vector<float> before = memory.Bits();
  const LaunchError error = launch();
  if (error != LaunchError::kOk && memory.Bits() != before) return "! wrote, and refused";
  return LetterOf(error);
}

struct AttentionCall : Memory, Batch {
  AttentionParams params = {};
  cuda::Gpu gpu = {
      .multiprocessors = 132, .shared_bytes = 232448, .shared_bytes_multiprocessor = 233472};
  AttentionCall() {
    params.table = table();
    params.kv = kv();
    params.dtype = DType::kFloat32;
    params.query_heads = 4;
    params.kv_heads = kHeads;
    params.head_dim = kHeadDim;
    params.query_begin = query_begin.data();
    params.query = at(1);
    params.output = at(2);
    params.lse = at(3);
    params.scale = 1;
    params.causal = true;
    params.threads = &threads;
    params.workspace = at(4);
    params.workspace_bytes = static_cast<int64_t>(2 * sizeof(Floats));
  }
  // The answers of both kernels, which must agree where workspace and threads do not matter.
  std::string Launch() {
    if (cpu::WorkspaceBytes(params) < 0) return "! a negative size";
    return Answer(*this, [&] { return cpu::Attention(params); });
  }
  std::string LaunchPlain() {
    return Answer(*this, [&] { return cpu::AttentionPlain(params); });
  }
  std::string Schedule() {
    // Of what is refused no size is known; then nothing is written either.
    const int64_t bytes = std::max<int64_t>(cuda::ScheduleBytes(gpu), 64);
    std::vector<Floats> schedule(static_cast<size_t>(bytes) / sizeof(Floats) + 1);
    if (cuda::WorkspaceBytes(params, gpu) < 0) return "! a negative size";
    return LetterOf(cuda::BuildSchedule(params, gpu, schedule.data()));
  }
};

template <typename Integer, typename Set>
void Attention(std::vector<Row>* rows, const std::string& name, const std::string& answers,
               const Set& set) {
  rows->push_back({name, EdgesOf<Integer>(), answers, "", [set](int64_t value) {
                     AttentionCall call;
                     if (call.Launch() != "o") return std::string("! good params are refused");
                     set(call, static_cast<Integer>(value));
                     const std::string answer = call.Launch();
                     const std::string plain = call.LaunchPlain();
                     return answer == plain ? answer : "! " + answer + ", but plainly " + plain;
                   }});
}

void AddAttention(std::vector<Row>* rows) {
  using Call = AttentionCall;
  const auto field = [&](const char* name, const char* answers, int32_t AttentionParams::*member) {
    Attention<int32_t>(rows, std::string("AttentionParams::") + name, answers,
                       [member](Call& c, int32_t v) { c.params.*member = v; });
  };
  field("query_heads", "iiiii", &AttentionParams::query_heads);
  field("kv_heads", "iiioi", &AttentionParams::kv_heads);
  field("head_dim", "iiiuu", &AttentionParams::head_dim);
  field("window", "iiooo", &AttentionParams::window);
  // Both, so that one is a multiple of the other.
  Attention<int32_t>(rows, "AttentionParams::query_heads", "iiioi",
                     [](Call& c, int32_t v) { c.params.query_heads = c.params.kv_heads = v; });
  Attention<int32_t>(rows, "AttentionParams::dtype", "uuoou",
                     [](Call& c, int32_t v) { c.params.dtype = DType{v}; });
  Attention<int32_t>(rows, "AttentionParams::mode", "uuoou",
                     [](Call& c, int32_t v) { c.params.mode = ScheduleMode{v}; });
  Attention<int32_t>(rows, "AttentionParams::query_begin", "iiooi",
                     [](Call& c, int32_t v) { c.query_begin[1] = v; });
  Attention<int32_t>(rows, "PageTableView::batch", "iioo-",
                     [](Call& c, int32_t v) { c.params.table.batch = v; });
  Attention<int32_t>(rows, "PageTableView::tokens_per_page", "iiioo",
                     [](Call& c, int32_t v) { c.params.table.tokens_per_page = v; });
  Attention<int32_t>(rows, "PageTableView::lengths", "iiio-",
                     [](Call& c, int32_t v) { c.lengths[0] = v; });
  Attention<int32_t>(rows, "PageTableView::page_ids", "iiooi",
                     [](Call& c, int32_t v) { c.ids[0] = PageId{v}; });
  Attention<int64_t>(rows, "PageTableView::row_begin", "iioo-",
                     [](Call& c, int64_t v) { c.row_begin[0] = v; });
  Attention<int32_t>(rows, "KvView::page_count", "iiiio",
                     [](Call& c, int32_t v) { c.params.kv.page_count = v; });
  const auto stride = [&](const char* name, int64_t KvStrides::*member) {
    const auto set = [member](Call& c, int64_t v) { c.params.kv.k_strides.*member = v; };
    Attention<int64_t>(rows, std::string("KvStrides::") + name, "iiomm", set);
    Attention<int64_t>(rows, std::string("KvStrides::") + name, "iiii", set);
    rows->back().values = {INT64_MIN + 16, -16, INT64_MAX - 15, int64_t{1} << 61};
  };
  stride("page", &KvStrides::page);
  stride("head", &KvStrides::head);
  stride("token", &KvStrides::token);
  rows->push_back(
      {"AttentionParams::workspace_bytes", EdgesOf<int64_t>(), "wwwwo", "", [](int64_t value) {
         Call call;
         call.params.workspace_bytes = value;
         return call.Launch();
       }});
  // So many workers need more scratch memory than there is here.
  rows->push_back({"Threads::workers", EdgesOf<int32_t>(), "iiiow", "", [](int64_t value) {
                     Call call;
                     call.threads.workers = static_cast<int32_t>(value);
                     return call.Launch();
                   }});
}

void AddCuda(std::vector<Row>* rows) {
  const auto schedule = [&](const std::string& name, const char* answers, auto set) {
    rows->push_back({name, EdgesOf<int32_t>(), answers, "", [set](int64_t value) {
                       AttentionCall call;
                       // A shape for which the workspace is computed.
                       call.params.head_dim = 64;
                       call.params.dtype = DType::kFloat16;
                       call.params.max_queries = 2;
                       set(call, static_cast<int32_t>(value));
                       return call.Schedule();
                     }});
  };
  schedule("AttentionParams::max_queries", "iiiio",
           [](AttentionCall& c, int32_t v) { c.params.max_queries = v; });
  schedule("cuda::Gpu::multiprocessors", "iiioi",
           [](AttentionCall& c, int32_t v) { c.gpu.multiprocessors = v; });
  schedule("cuda::Gpu::shared_bytes", "iiooo",
           [](AttentionCall& c, int32_t v) { c.gpu.shared_bytes = v; });
  schedule("cuda::Gpu::shared_bytes_multiprocessor", "iiooo",
           [](AttentionCall& c, int32_t v) { c.gpu.shared_bytes_multiprocessor = v; });
  // Lengths are host memory here, and no page is read.
  schedule("PageTableView::lengths", "iiioo", [](AttentionCall& c, int32_t v) {
    c.params.table.page_ids = nullptr;
    c.lengths[0] = v;
  });
  schedule("AttentionParams::query_heads", "iiioo",
           [](AttentionCall& c, int32_t v) { c.params.query_heads = c.params.kv_heads = v; });
  schedule("AttentionParams::head_dim", "iiiuu",
           [](AttentionCall& c, int32_t v) { c.params.head_dim = v; });
  rows->push_back({"cuda::DescribeGpu(ordinal)", EdgesOf<int32_t>(), "aaaaa", "", [](int64_t v) {
                     cuda::Gpu gpu;
                     const auto ordinal = static_cast<int32_t>(v);
                     const LaunchError error = cuda::DescribeGpu(ordinal, &gpu);
                     const bool there = error == LaunchError::kOk && (v == 0 || v == 1);
                     return there ? std::string("a") : LetterOf(error);
                   }});
}

struct AppendCall : Memory, Batch {
  std::vector<int64_t> slots = {0, 5};
  AppendKvParams params = {};
  AppendCall() {
    params.kv = kv();
    params.dtype = DType::kFloat32;
    params.kv_heads = kHeads;
    params.head_dim = kHeadDim;
    params.tokens_per_page = kTokensPerPage;
    params.token_count = 2;
    params.slots = slots.data();
    params.key = at(1);
    params.value = at(2);
    params.threads = &threads;
  }
  void ByTable() {
    params.slots = nullptr;
    params.token_count = 3;
    params.table = table();
    params.query_begin = query_begin.data();
  }
  std::string Launch() {
    return Answer(*this, [&] { return cpu::AppendKv(params); });
  }
};

template <typename Integer, typename Set>
void Append(std::vector<Row>* rows, const std::string& name, const std::string& answers,
            const Set& set) {
  rows->push_back({name, EdgesOf<Integer>(), answers, "", [set](int64_t value) {
                     AppendCall call;
                     if (call.Launch() != "o") return std::string("! good params are refused");
                     set(call, static_cast<Integer>(value));
                     return call.Launch();
                   }});
}

void AddAppend(std::vector<Row>* rows) {
  using Call = AppendCall;
  const auto field = [&](const char* name, const char* answers, int32_t AppendKvParams::*member) {
    Append<int32_t>(rows, std::string("AppendKvParams::") + name, answers,
                    [member](Call& c, int32_t v) { c.params.*member = v; });
  };
  field("kv_heads", "iiio-", &AppendKvParams::kv_heads);
  field("head_dim", "iiiuu", &AppendKvParams::head_dim);
  field("tokens_per_page", "iiioo", &AppendKvParams::tokens_per_page);
  field("token_count", "iioo-", &AppendKvParams::token_count);
  Append<int32_t>(rows, "AppendKvParams::dtype", "uuoou",
                  [](Call& c, int32_t v) { c.params.dtype = DType{v}; });
  Append<int64_t>(rows, "AppendKvParams::slots", "ioooi",
                  [](Call& c, int64_t v) { c.slots[0] = v; });
  Append<int64_t>(rows, "AppendKvParams::key_token_stride", "iiooi",
                  [](Call& c, int64_t v) { c.params.key_token_stride = v; });
  Append<int64_t>(rows, "AppendKvParams::value_token_stride", "iiooi",
                  [](Call& c, int64_t v) { c.params.value_token_stride = v; });
  // In the form of a table.
  Append<int32_t>(rows, "AppendKvParams::query_begin", "iiooi", [](Call& c, int32_t v) {
    c.ByTable();
    c.query_begin[1] = v;
  });
  Append<int32_t>(rows, "PageTableView::batch", "iioo-", [](Call& c, int32_t v) {
    c.ByTable();
    c.params.table.batch = v;
  });
  Append<int32_t>(rows, "PageTableView::tokens_per_page", "iiiii", [](Call& c, int32_t v) {
    c.ByTable();  // it must be what the params say
    c.params.table.tokens_per_page = v;
  });
  Append<int32_t>(rows, "PageTableView::lengths", "iiio-", [](Call& c, int32_t v) {
    c.ByTable();
    c.lengths[0] = v;
  });
  Append<int32_t>(rows, "Threads::workers", "iiioo",
                  [](Call& c, int32_t v) { c.threads.workers = v; });
}

struct CopyCall : Memory {
  std::vector<PageId> from = {PageId{2}, PageId{3}};
  std::vector<PageId> to = {PageId{4}, PageId{5}};
  std::vector<int64_t> offsets = {0, 64};
  CopyPagesParams params = {};
  CopyCall() {
    params.base = at(0);
    params.page_stride = 512;
    params.page_bytes = 64;
    params.page_count = kPages;
    params.count = 2;
    params.from = from.data();
    params.to = to.data();
    params.threads = &threads;
    params.piece_offsets = offsets.data();
  }
  std::string Launch() {
    return Answer(*this, [&] { return cpu::CopyPages(params); });
  }
};

template <typename Integer, typename Set>
void Copy(std::vector<Row>* rows, const std::string& name, const std::string& answers,
          const Set& set) {
  rows->push_back({"CopyPagesParams::" + name, EdgesOf<Integer>(), answers, "", [set](int64_t v) {
                     CopyCall call;
                     if (call.Launch() != "o") return std::string("! good params are refused");
                     set(call, static_cast<Integer>(v));
                     return call.Launch();
                   }});
}

void AddCopy(std::vector<Row>* rows) {
  using Call = CopyCall;
  Copy<int64_t>(rows, "page_stride", "iiiii", [](Call& c, int64_t v) { c.params.page_stride = v; });
  Copy<int64_t>(rows, "page_stride", "iiii",
                [](Call& c, int64_t v) { c.params.page_stride = c.params.page_bytes = v; });
  rows->back().values = {INT64_MIN, -16, INT64_MAX - 15, int64_t{1} << 61};
  Copy<int64_t>(rows, "page_bytes", "iiooi", [](Call& c, int64_t v) { c.params.page_bytes = v; });
  Copy<int32_t>(rows, "page_count", "iiiio", [](Call& c, int32_t v) { c.params.page_count = v; });
  Copy<int32_t>(rows, "count", "iioo-", [](Call& c, int32_t v) { c.params.count = v; });
  Copy<int32_t>(rows, "from", "iiooi", [](Call& c, int32_t v) { c.from[1] = PageId{v}; });
  Copy<int32_t>(rows, "to", "iiooi", [](Call& c, int32_t v) { c.to[1] = PageId{v}; });
  Copy<int32_t>(rows, "from_page_count", "iiiio", [](Call& c, int32_t v) {
    c.params.from_base = c.at(1);
    c.params.from_page_count = v;
  });
  Copy<int32_t>(rows, "piece_count", "iioo-", [](Call& c, int32_t v) { c.params.piece_count = v; });
  Copy<int64_t>(rows, "piece_offsets", "iiomi", [](Call& c, int64_t v) {
    c.params.piece_count = 2;
    c.offsets[0] = v;
  });
}

struct MergeCall : Memory {
  MergeParams params = {};
  MergeCall() {
    params.dtype = DType::kFloat32;
    params.heads = kHeads;
    params.head_dim = kHeadDim;
    params.token_count = 3;
    params.part_count = 2;
    params.outputs = at(0);
    params.output_stride = 1024;
    params.lses = at(1);
    params.lse_stride = 16;
    params.output = at(2);
    params.lse = at(3);
    params.threads = &threads;
  }
  std::string Launch() {
    return Answer(*this, [&] { return cpu::Merge(params); });
  }
};

template <typename Integer, typename Set>
void Merge(std::vector<Row>* rows, const std::string& name, const std::string& answers,
           const Set& set) {
  rows->push_back({"MergeParams::" + name, EdgesOf<Integer>(), answers, "", [set](int64_t v) {
                     MergeCall call;
                     if (call.Launch() != "o") return std::string("! good params are refused");
                     set(call, static_cast<Integer>(v));
                     return call.Launch();
                   }});
}

void AddMerge(std::vector<Row>* rows) {
  using Call = MergeCall;
  Merge<int32_t>(rows, "dtype", "uuoou", [](Call& c, int32_t v) { c.params.dtype = DType{v}; });
  // So many heads or tokens would reach from the parts into the result.
  Merge<int32_t>(rows, "heads", "iiioi", [](Call& c, int32_t v) { c.params.heads = v; });
  Merge<int32_t>(rows, "token_count", "iiooi",
                 [](Call& c, int32_t v) { c.params.token_count = v; });
  Merge<int32_t>(rows, "head_dim", "iiiuu", [](Call& c, int32_t v) { c.params.head_dim = v; });
  Merge<int32_t>(rows, "part_count", "iiio-", [](Call& c, int32_t v) { c.params.part_count = v; });
  Merge<int32_t>(rows, "part_count", "iiioo", [](Call& c, int32_t v) {
    c.params.part_count = v;
    c.params.token_count = 0;
  });
  Merge<int64_t>(rows, "output_stride", "iiomi",
                 [](Call& c, int64_t v) { c.params.output_stride = v; });
  Merge<int64_t>(rows, "output_stride", "ii",
                 [](Call& c, int64_t v) { c.params.output_stride = v; });
  rows->back().values = {-16, INT64_MAX - 15};
  Merge<int64_t>(rows, "lse_stride", "iiooi", [](Call& c, int64_t v) { c.params.lse_stride = v; });
}

}  // namespace

std::vector<Row> KernelRows() {
  std::vector<Row> rows;
  AddAttention(&rows);
  AddCuda(&rows);
  AddAppend(&rows);
  AddCopy(&rows);
  AddMerge(&rows);
  // Any number has a size, so that nobody divides by it.
  rows.push_back({"SizeOf(dtype)", EdgesOf<int32_t>(), "ooooo", "", [](int64_t v) {
                    const int32_t size = SizeOf(DType{static_cast<int32_t>(v)});
                    return size == 2 || size == 4 ? "o" : "! no size";
                  }});
  return rows;
}

}  // namespace quire::testing
