# How libraries, tests and packages of the project are declared.

# One interface target carries the flags of every target. Bits must not depend on the compiler's mood: no contraction of
# a * b + c; no trapping math, so that selects become blends (codebases reference, 3.3).
add_library(amalgam_flags INTERFACE)
target_include_directories(amalgam_flags INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
target_compile_options(amalgam_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Werror
  -ffp-contract=off -fno-trapping-math -fno-math-errno -fopenmp-simd)
if(AMALGAM_SANITIZE)
  string(REPLACE ";" "," _sanitizers "${AMALGAM_SANITIZE}")
  target_compile_options(amalgam_flags INTERFACE -fsanitize=${_sanitizers} -fno-omit-frame-pointer -g -O1)
  target_link_options(amalgam_flags INTERFACE -fsanitize=${_sanitizers})
endif()

macro(amalgam_find_packages)
  set(THREADS_PREFER_PTHREAD_FLAG ON)
  find_package(Threads REQUIRED)
  find_package(fmt REQUIRED)
  find_package(nlohmann_json REQUIRED)
  find_package(yaml-cpp REQUIRED)
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)
  pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
  find_package(Boost REQUIRED COMPONENTS program_options)
  find_package(MPI REQUIRED COMPONENTS C)
  if(AMALGAM_TESTS)
    find_package(GTest REQUIRED)
  endif()
  if(AMALGAM_BENCH)
    find_package(benchmark QUIET)
  endif()
endmacro()

# amalgam_library(checkpoint SOURCES a.cc b.cc [PUBLIC targets] [PRIVATE targets])
function(amalgam_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;PUBLIC;PRIVATE")
  add_library(amalgam_${name} STATIC ${arg_SOURCES})
  target_link_libraries(amalgam_${name} PUBLIC amalgam_flags ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
endfunction()
