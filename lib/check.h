// CHECK: a programmer's error stops the process, in release builds too.
//
// A wrong reference count does not crash by itself: it hands one user's keys and values to another.
// So the checks that guard counts and handles stay on; they cost one predicted branch. (Abseil has
// CHECK, but not in the version that Debian 12 ships.)

#ifndef QUIRE_LIB_CHECK_H_
#define QUIRE_LIB_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace quire {

[[noreturn]] [[gnu::cold]] [[gnu::noinline]] inline void CheckFailed(const char* file, int line,
                                                                     const char* condition,
                                                                     const char* message) {
  std::fprintf(stderr, "quire: %s:%d: CHECK(%s) failed: %s\n", file, line, condition, message);
  std::abort();
}

}  // namespace quire

// `message` says what the caller did wrong, in words.
#define QUIRE_CHECK(condition, message)              \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::quire::CheckFailed(__FILE__, __LINE__, #condition, (message)))

// For what only a bug in Quire itself can break: on in debug builds.
#ifdef NDEBUG
#define QUIRE_DCHECK(condition, message) static_cast<void>(0)
#else
#define QUIRE_DCHECK(condition, message) QUIRE_CHECK(condition, message)
#endif

#endif  // QUIRE_LIB_CHECK_H_
