# Decides once whether this build has CUDA: QUIRE_HAVE_CUDA. lib/ and kernels/ choose their files by
# it (x_absent.cc or x.cc); no source file asks by #ifdef.

set(QUIRE_HAVE_CUDA OFF)
if(NOT QUIRE_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    # Code for Ampere and for Hopper, and PTX for what comes after; ./dev gpu builds for one GPU.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES "80;90a-real" CACHE STRING "GPUs to compile for")
    endif()
    enable_language(CUDA)
    # nvcc has known C++20 since 12.0; CMake 3.25 has not been told.
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8 AND QUIRE_CUDA STREQUAL "AUTO")
      message(STATUS "no CUDA kernels: nvcc ${CMAKE_CUDA_COMPILER_VERSION} is older than 12.8")
    else()
      find_package(CUDAToolkit 12.8 REQUIRED)
      set(QUIRE_HAVE_CUDA ON)
    endif()
  elseif(NOT QUIRE_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "QUIRE_CUDA=${QUIRE_CUDA}, but no nvcc was found; set CMAKE_CUDA_COMPILER")
  endif()
endif()
