// How a pass becomes machine code for several instruction sets in one portable binary.
#pragma once

// Not under the thread sanitizer, which crashes on functions that are resolved before it starts; clang rejects the
// combination with noinline.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define AMALGAM_CLONES __attribute__((noinline, target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define AMALGAM_CLONES __attribute__((noinline))
#endif

namespace amalgam::cpu {

constexpr int pack_width = 256;

}  // namespace amalgam::cpu
