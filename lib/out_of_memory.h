// No heap: a status instead of an exception.
//
// Quire throws nothing, but what it is made of does when the heap has run out. Each public call
// that allocates stops that here; it has changed nothing before its last allocation.

#ifndef QUIRE_LIB_OUT_OF_MEMORY_H_
#define QUIRE_LIB_OUT_OF_MEMORY_H_

#include <new>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace quire {

// A code and nothing else: making it allocates nothing.
inline absl::Status Bare(absl::StatusCode code) { return absl::Status(code, absl::string_view()); }

// f(), which returns a status or a StatusOr; a bare `code` where the heap had no memory for it.
// Around an error it keeps the error's code and loses its words; around a whole call the code is
// kResourceExhausted.
template <typename F>
auto OrBare(absl::StatusCode code, F f) -> decltype(f()) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return Bare(code);
  }
}

}  // namespace quire

#endif  // QUIRE_LIB_OUT_OF_MEMORY_H_
