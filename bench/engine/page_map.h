// Who holds which page: a look at a pool at one moment, and a picture of it.

#ifndef QUIRE_BENCH_ENGINE_PAGE_MAP_H_
#define QUIRE_BENCH_ENGINE_PAGE_MAP_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "quire/types.h"

namespace engine {

struct PageMap {
  struct Page {
    std::vector<int32_t> holders;  // indexes into `names`, ascending; empty if nobody holds it
    int32_t used_tokens = 0;       // slots that hold a token of a holder
    bool cached = false;           // nobody holds it, but a later request may find it
  };

  int32_t tokens_per_page = 0;
  std::vector<Page> pages;         // [page_count] by PageId
  std::vector<std::string> names;  // of the holders

  int32_t live() const;
  int32_t shared() const;  // pages with more than one holder
  int32_t cached() const;
  int32_t shared_references() const;  // holders of the shared pages
  int32_t unused_tokens() const;      // empty slots of live pages: internal fragmentation
};

// The live pages of what runs now. Changes nothing.
PageMap TakePageMap(const Engine& engine);

// Marks the cached pages too. Quire does not tell which pages are cached, so each of `streams` is
// looked up like a request that came again; this makes its pages the latest used.
void MarkCached(Engine* engine, std::span<const std::vector<quire::TokenId>> streams, PageMap* map);

// One part of the picture.
struct PageMapPanel {
  std::string title;
  std::string subtitle;
  PageMap map;
  int32_t columns = 32;
};

// An SVG: a grid of pages per panel, a colour per holder, stripes and a count on shared pages, the
// empty slots of a page pale, cached and free pages grey, a legend.
std::string DrawPageMaps(const std::string& title, std::span<const PageMapPanel> panels);

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_PAGE_MAP_H_
