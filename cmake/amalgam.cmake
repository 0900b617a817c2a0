# How libraries, tests and packages of the project are declared.
include(GNUInstallDirs)

# One interface target carries the flags of every target. Bits must not depend on the compiler's mood: no contraction of
# a * b + c; no trapping math, so that selects become blends (codebases reference, 3.3).
add_library(amalgam_flags INTERFACE)
target_include_directories(amalgam_flags INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/amalgam>)
target_compile_options(amalgam_flags INTERFACE "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:C,CXX>:\
-Wall;-Wextra;-Wpedantic;-Wshadow;-Werror;\
-ffp-contract=off;-fno-trapping-math;-fno-math-errno;-fopenmp-simd>>")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # "text" + std::string warns wrongly there (GCC bug 105651).
  target_compile_options(amalgam_flags INTERFACE $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>>)
endif()
if(AMALGAM_SANITIZE)
  string(REPLACE ";" "," _sanitizers "${AMALGAM_SANITIZE}")
  # What is under test is in libraries; tests themselves take the compiler half the time unoptimised.
  target_compile_options(amalgam_flags INTERFACE
    $<BUILD_INTERFACE:-fsanitize=${_sanitizers};-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g1>
    $<BUILD_INTERFACE:$<IF:$<BOOL:$<TARGET_PROPERTY:AMALGAM_IS_TEST>>,-O0,-O1>>)
  target_link_options(amalgam_flags INTERFACE $<BUILD_INTERFACE:-fsanitize=${_sanitizers}>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # What sanitizers put between the statements makes gcc guess wrongly here.
    target_compile_options(amalgam_flags INTERFACE
      $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>>)
  endif()
endif()

find_program(AMALGAM_CCACHE ccache)
mark_as_advanced(AMALGAM_CCACHE)
if(AMALGAM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${AMALGAM_CCACHE})
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
  pkg_search_module(hdf5 REQUIRED IMPORTED_TARGET hdf5-openmpi hdf5 hdf5-serial)
  find_package(Boost REQUIRED COMPONENTS program_options)
  find_package(MPI REQUIRED COMPONENTS C)
  # The headers of an HDF5 that was built with MPI include MPI's, and its pkg-config file need not say where they are.
  target_link_libraries(PkgConfig::hdf5 INTERFACE MPI::MPI_C)
  find_package(Eigen3 REQUIRED NO_MODULE)
  # oneDNN, without its CMake files, which ask for OpenCL.
  find_path(AMALGAM_DNNL_HEADERS dnnl.hpp REQUIRED)
  mark_as_advanced(AMALGAM_DNNL_HEADERS)
  if(AMALGAM_TESTS)
    find_package(GTest REQUIRED)
    # Debian's own, since numpy comes as its package.
    if(NOT Python3_EXECUTABLE AND EXISTS /usr/bin/python3)
      set(Python3_EXECUTABLE /usr/bin/python3)
    endif()
    find_package(Python3 REQUIRED COMPONENTS Interpreter)
  endif()
  if(AMALGAM_BENCH)
    find_package(benchmark QUIET)
  endif()
endmacro()

# amalgam_add_folders(base comm ...): those that exist.
macro(amalgam_add_folders)
  foreach(_folder ${ARGN})
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${_folder}/CMakeLists.txt)
      add_subdirectory(${_folder})
    endif()
  endforeach()
endmacro()

# amalgam_library(checkpoint SOURCES a.cc b.cc [PUBLIC targets] [PRIVATE targets])
function(amalgam_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;PUBLIC;PRIVATE")
  add_library(amalgam_${name} STATIC ${arg_SOURCES})
  target_link_libraries(amalgam_${name} PUBLIC amalgam_flags ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
  set_target_properties(amalgam_${name} PROPERTIES EXPORT_NAME ${name})
  install(TARGETS amalgam_${name} EXPORT amalgam ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# What `cmake --install` copies: the program, and libraries with headers as the package `amalgam` with targets
# amalgam::checkpoint and so on.
function(amalgam_install)
  include(CMakePackageConfigHelpers)
  set(_package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/amalgam)
  set_target_properties(amalgam_flags PROPERTIES EXPORT_NAME flags)
  install(TARGETS amalgam_flags EXPORT amalgam)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/kernels ${PROJECT_SOURCE_DIR}/src
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/amalgam FILES_MATCHING PATTERN "*.h")
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/configs DESTINATION ${CMAKE_INSTALL_DATADIR}/amalgam)
  install(EXPORT amalgam NAMESPACE amalgam:: FILE amalgamTargets.cmake DESTINATION ${_package_folder})
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/amalgamConfig.cmake.in
    ${CMAKE_CURRENT_BINARY_DIR}/amalgamConfig.cmake INSTALL_DESTINATION ${_package_folder})
  write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/amalgamConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/amalgamConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/amalgamConfigVersion.cmake
    DESTINATION ${_package_folder})
endfunction()

# What a test needs from its surroundings: MPI as root and on more ranks than cores, and the sanitizers' lists of what
# is not ours.
set(_amalgam_suppressions ${PROJECT_SOURCE_DIR}/tests/suppressions)
set(AMALGAM_TEST_ENVIRONMENT
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none)
set(_amalgam_timeout_factor 1)
if(AMALGAM_SANITIZE)
  set(_amalgam_timeout_factor 5)
  list(APPEND AMALGAM_TEST_ENVIRONMENT
    LSAN_OPTIONS=suppressions=${_amalgam_suppressions}/lsan.txt:print_suppressions=0
    UBSAN_OPTIONS=print_stacktrace=1
    TSAN_OPTIONS=suppressions=${_amalgam_suppressions}/tsan.txt:ignore_noninstrumented_modules=1:halt_on_error=1)
endif()

# Labels, time limit and environment of a ctest.
function(_amalgam_test_properties name timeout processors)
  math(EXPR timeout "${timeout} * ${_amalgam_timeout_factor}")
  set_tests_properties(${name} PROPERTIES
    TIMEOUT ${timeout} PROCESSORS ${processors} LABELS "${ARGN}" ENVIRONMENT "${AMALGAM_TEST_ENVIRONMENT}")
endfunction()

# amalgam_test(name SOURCES a_test.cc [LIBRARIES amalgam_x] [LABELS unit] [RANKS 1 2 3 4] [TIMEOUT seconds])
# A GoogleTest program. With RANKS: one ctest for each number of ranks, name_N, with test_communicator() of
# tests/mpi_main.h. AMALGAM_SOURCE_DIR is the root of the source tree.
function(amalgam_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SOURCES;LIBRARIES;LABELS;RANKS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "amalgam_test(${name}): unknown arguments ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_compile_definitions(${name} PRIVATE AMALGAM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  set_target_properties(${name} PROPERTIES AMALGAM_IS_TEST ON)
  if(arg_RANKS)
    target_link_libraries(${name} PRIVATE amalgam_flags ${arg_LIBRARIES} amalgam_mpi_main)
    foreach(_ranks ${arg_RANKS})
      add_test(NAME ${name}_${_ranks}
        COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${_ranks} --oversubscribe $<TARGET_FILE:${name}>)
      _amalgam_test_properties(${name}_${_ranks} ${arg_TIMEOUT} ${_ranks} mpi ${arg_LABELS})
    endforeach()
  else()
    target_link_libraries(${name} PRIVATE amalgam_flags ${arg_LIBRARIES} amalgam_test_main)
    add_test(NAME ${name} COMMAND ${name})
    _amalgam_test_properties(${name} ${arg_TIMEOUT} 1 ${arg_LABELS})
  endif()
endfunction()

# amalgam_script_test(name COMMAND python3 x.py ... [LABELS unit] [TIMEOUT seconds] [PROCESSORS n])
# A test in another language, run in the root of the source tree. Exit code 77: skipped.
function(amalgam_script_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT;PROCESSORS" "COMMAND;LABELS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "amalgam_script_test(${name}): unknown arguments ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  if(NOT arg_PROCESSORS)
    set(arg_PROCESSORS 1)
  endif()
  add_test(NAME ${name} COMMAND ${arg_COMMAND} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  _amalgam_test_properties(${name} ${arg_TIMEOUT} ${arg_PROCESSORS} ${arg_LABELS})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()
