// The smallest program that uses each part: the manager, a device and a kernel.

#include <cstdio>
#include <vector>

#include "quire/attention.h"
#include "quire/device.h"
#include "quire/kv_cache.h"

int main() {
  const quire::KvLayout layout{.layers = 1, .kv_heads = 1, .head_dim = 8, .tokens_per_page = 16};
  auto device = quire::NewCpuDevice({.groups = {{.layout = layout, .page_count = 4}}});
  auto cache = quire::KvCache::Create({.groups = {{.page_count = 4}}});
  if (!device.ok() || !cache.ok()) return 1;
  auto sequence = (*cache)->Start(std::vector<quire::TokenId>{1, 2, 3});
  if (!sequence.ok() || !sequence->Reserve(3).ok()) return 1;
  std::printf("%s; %zu page\n", quire::Describe(quire::cpu::Attention({})),
              sequence->pages(quire::GroupId{0}).size());
}
