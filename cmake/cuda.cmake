# nvcc, and what it is asked for.
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(AMALGAM_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  mark_as_advanced(AMALGAM_NVCC)
  if(NOT AMALGAM_NVCC)
    message(FATAL_ERROR "AMALGAM_CUDA needs nvcc, which is neither in PATH nor in CUDA_HOME: install the CUDA Toolkit, or set "
      "CMAKE_CUDA_COMPILER")
  endif()
  set(CMAKE_CUDA_COMPILER ${AMALGAM_NVCC})
endif()
# Ampere, Hopper, Blackwell; and PTX, for what comes after.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90-real;100" CACHE STRING "GPUs to compile for")
endif()
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
enable_language(CUDA)
# CMake 3.25 does not know how CUDA 13 is told the standard.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
target_compile_options(amalgam_flags INTERFACE "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CUDA>:\
-fmad=false;-Werror=all-warnings;\
-Xcompiler=-Wall,-Wextra,-Werror,-ffp-contract=off,-fno-trapping-math,-fopenmp-simd>>")
