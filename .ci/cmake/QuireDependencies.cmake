# Every package Quire uses: found on the system, fetched at a pinned version where it has none.
#
# Public:   absl::status, absl::statusor (they stand in Quire's headers).
# Private:  Abseil's containers, Highway, xxHash's header, OpenMP.
# Ours:     GoogleTest, Google Benchmark and simdjson; Boost.Context, found but never fetched. For
#           tests/ and bench/ only.
#
# FETCHCONTENT_TRY_FIND_PACKAGE_MODE=NEVER ignores the system's packages;
# FETCHCONTENT_SOURCE_DIR_<NAME> takes a package from a folder instead of the network.

include(FetchContent)
# The packages' own options obey the variables set here.
set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)
set(CMAKE_POLICY_DEFAULT_CMP0126 NEW)

find_package(Threads REQUIRED)

if(QUIRE_OPENMP)
  find_package(OpenMP COMPONENTS CXX)
endif()
if(QUIRE_OPENMP AND OpenMP_CXX_FOUND)
  set(QUIRE_HAVE_OPENMP ON)
else()
  set(QUIRE_HAVE_OPENMP OFF)  # the kernels then start std::threads
endif()

# ABSL_ENABLE_INSTALL: an installed Quire needs an installed Abseil beside it.
set(ABSL_ENABLE_INSTALL ON)
set(ABSL_PROPAGATE_CXX_STD ON)
FetchContent_Declare(absl SYSTEM
  GIT_REPOSITORY https://github.com/abseil/abseil-cpp.git
  GIT_TAG 20260526.0
  FIND_PACKAGE_ARGS CONFIG)

set(HWY_ENABLE_TESTS OFF)
set(HWY_ENABLE_EXAMPLES OFF)
set(HWY_ENABLE_CONTRIB OFF)
set(HWY_ENABLE_INSTALL ON)  # as for Abseil
FetchContent_Declare(hwy SYSTEM
  GIT_REPOSITORY https://github.com/google/highway.git
  GIT_TAG 1.4.0
  FIND_PACKAGE_ARGS CONFIG)

FetchContent_MakeAvailable(absl hwy)
if(NOT TARGET hwy::hwy)  # Highway makes this alias only when it is found
  add_library(hwy::hwy ALIAS hwy)
endif()

# xxHash is one header here and has no CMake package on most systems.
if(NOT FETCHCONTENT_TRY_FIND_PACKAGE_MODE STREQUAL "NEVER")
  find_path(QUIRE_XXHASH_INCLUDE_DIR xxhash.h)
endif()
if(NOT QUIRE_XXHASH_INCLUDE_DIR)
  FetchContent_Declare(xxhash
    GIT_REPOSITORY https://github.com/Cyan4973/xxHash.git
    GIT_TAG v0.8.2
    SOURCE_SUBDIR no-cmake-here)
  FetchContent_MakeAvailable(xxhash)
  set(QUIRE_XXHASH_INCLUDE_DIR "${xxhash_SOURCE_DIR}")
endif()
add_library(quire_xxhash INTERFACE)
target_include_directories(quire_xxhash SYSTEM INTERFACE "${QUIRE_XXHASH_INCLUDE_DIR}")

if(QUIRE_BUILD_TESTS OR QUIRE_BUILD_FUZZERS)
  set(INSTALL_GTEST OFF)
  FetchContent_Declare(googletest SYSTEM
    GIT_REPOSITORY https://github.com/google/googletest.git
    GIT_TAG v1.17.0
    FIND_PACKAGE_ARGS NAMES GTest CONFIG)
  FetchContent_MakeAvailable(googletest)
endif()

if(QUIRE_BUILD_BENCH)
  set(BENCHMARK_ENABLE_TESTING OFF)
  set(BENCHMARK_ENABLE_INSTALL OFF)
  set(BENCHMARK_ENABLE_WERROR OFF)
  FetchContent_Declare(benchmark SYSTEM
    GIT_REPOSITORY https://github.com/google/benchmark.git
    GIT_TAG v1.9.5
    FIND_PACKAGE_ARGS CONFIG)
  FetchContent_MakeAvailable(benchmark)
endif()

if(QUIRE_BUILD_BENCH OR QUIRE_BUILD_FUZZERS)
  FetchContent_Declare(simdjson SYSTEM
    GIT_REPOSITORY https://github.com/simdjson/simdjson.git
    GIT_TAG v4.6.1
    FIND_PACKAGE_ARGS CONFIG)
  FetchContent_MakeAvailable(simdjson)
endif()
