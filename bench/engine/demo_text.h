// The texts of the demo: a long passage and questions about it.

#ifndef QUIRE_BENCH_ENGINE_DEMO_TEXT_H_
#define QUIRE_BENCH_ENGINE_DEMO_TEXT_H_

#include <string>
#include <string_view>
#include <vector>

namespace engine {

// A few thousand characters of Shakespeare.
std::string_view Passage();

// `count` different short questions, at most 64.
std::vector<std::string> Questions(int count);

}  // namespace engine

#endif  // QUIRE_BENCH_ENGINE_DEMO_TEXT_H_
