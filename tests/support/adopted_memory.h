// An engine's own K and V in the orders that engines keep them in, described by views.

#ifndef QUIRE_TESTS_SUPPORT_ADOPTED_MEMORY_H_
#define QUIRE_TESTS_SUPPORT_ADOPTED_MEMORY_H_

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "quire/device.h"

namespace quire::testing {

enum class Order {
  kPageMajor,    // [page][layer][K|V][head][token]: the library's own
  kLayerMajor,   // [layer][K|V][page][head][token] in one tensor
  kApart,        // a tensor of [page][head][token] for each layer's K and for its V
  kTokenMajor,   // a tensor of [page][K|V][token][head] for each layer
  kInterleaved,  // [page][token][layer][head][K|V] in one tensor
  kGaps,         // as kPageMajor, with an unused head behind each layer's K and V
};

inline constexpr Order kOrders[] = {Order::kPageMajor,  Order::kLayerMajor,  Order::kApart,
                                    Order::kTokenMajor, Order::kInterleaved, Order::kGaps};

class AdoptedMemory {
 public:
  AdoptedMemory(const KvLayout& layout, int32_t page_count, Order order) {
    const int64_t row = int64_t{layout.head_dim} * SizeOf(layout.dtype);
    const int64_t head = layout.tokens_per_page * row;
    const int64_t half = layout.kv_heads * head;  // K or V of a layer in a page
    const int64_t layers = layout.layers;
    const int64_t token_heads = layout.kv_heads * row;
    const auto add = [&](uint8_t* k, uint8_t* v, const KvStrides& strides) {
      views_.push_back({k, v, strides, strides, page_count});
    };
    uint8_t* all = order == Order::kApart || order == Order::kTokenMajor
                       ? nullptr
                       : NewTensor(page_count * layers * 2 * (half + head));
    for (int64_t l = 0; l < layers; ++l) {
      switch (order) {
        case Order::kPageMajor:
          add(all + l * 2 * half, all + (l * 2 + 1) * half, {layers * 2 * half, head, row});
          break;
        case Order::kLayerMajor:
          add(all + l * 2 * page_count * half, all + (l * 2 + 1) * page_count * half,
              {half, head, row});
          break;
        case Order::kApart: {
          uint8_t* v = NewTensor(page_count * half);
          add(NewTensor(page_count * half), v, {half, head, row});
          break;
        }
        case Order::kTokenMajor: {
          uint8_t* both = NewTensor(page_count * 2 * half);
          add(both, both + half, {2 * half, row, token_heads});
          break;
        }
        case Order::kInterleaved:
          add(all + l * 2 * token_heads, all + l * 2 * token_heads + row,
              {layers * 2 * half, 2 * row, layers * 2 * token_heads});
          break;
        case Order::kGaps:
          add(all + l * 2 * (half + head), all + (l * 2 + 1) * (half + head),
              {layers * 2 * (half + head), head, row});
          break;
      }
    }
  }

  const std::vector<KvView>& views() const { return views_; }

 private:
  uint8_t* NewTensor(int64_t bytes) {
    const auto rounded = static_cast<size_t>((bytes + 63) / 64 * 64);
    tensors_.emplace_back(std::aligned_alloc(64, rounded), &std::free);
    std::memset(tensors_.back().get(), 0xEE, rounded);
    return static_cast<uint8_t*>(tensors_.back().get());
  }

  std::vector<std::unique_ptr<void, void (*)(void*)>> tensors_;
  std::vector<KvView> views_;
};

inline std::vector<KvView> ViewsOf(const Device& device, Tier tier, GroupId group, int32_t layers) {
  std::vector<KvView> views;
  for (int32_t layer = 0; layer < layers; ++layer) {
    views.push_back(device.view(tier, group, layer).value());
  }
  return views;
}

// Calls visit(bytes of one token of one head) for all of a page, in the library's own order.
inline void VisitPage(const std::vector<KvView>& views, const KvLayout& layout, int32_t page,
                      const std::function<void(uint8_t* row, int64_t bytes)>& visit) {
  for (const KvView& view : views) {
    for (const bool is_k : {true, false}) {
      const KvStrides& strides = is_k ? view.k_strides : view.v_strides;
      auto* base = static_cast<uint8_t*>(is_k ? view.k : view.v) + page * strides.page;
      for (int32_t head = 0; head < layout.kv_heads; ++head) {
        for (int32_t token = 0; token < layout.tokens_per_page; ++token) {
          visit(base + head * strides.head + token * strides.token,
                int64_t{layout.head_dim} * SizeOf(layout.dtype));
        }
      }
    }
  }
}

inline void FillPages(const std::vector<KvView>& views, const KvLayout& layout, uint32_t seed) {
  std::mt19937 random(seed);
  for (int32_t page = 0; page < views[0].page_count; ++page) {
    VisitPage(views, layout, page, [&](uint8_t* row, int64_t bytes) {
      for (int64_t i = 0; i < bytes; ++i) row[i] = static_cast<uint8_t>(random());
    });
  }
}

// By page.
using Pages = std::vector<std::vector<uint8_t>>;

inline Pages ReadPages(const std::vector<KvView>& views, const KvLayout& layout) {
  Pages pages(static_cast<size_t>(views[0].page_count));
  for (size_t page = 0; page < pages.size(); ++page) {
    VisitPage(views, layout, static_cast<int32_t>(page), [&](const uint8_t* row, int64_t bytes) {
      pages[page].insert(pages[page].end(), row, row + bytes);
    });
  }
  return pages;
}

}  // namespace quire::testing

#endif  // QUIRE_TESTS_SUPPORT_ADOPTED_MEMORY_H_
