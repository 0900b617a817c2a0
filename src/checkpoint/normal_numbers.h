// Random numbers for made-up checkpoints: addressed by key and block, so that any thread may make any block.
#pragma once
#include <cstdint>

namespace amalgam {

/// Elements of a block; the last one of a tensor may be shorter.
constexpr int64_t random_block = 65'536;

/// The first `count` standard normal numbers of block `block` of the stream `key`; at most 5.8 in magnitude. Only
/// operations that IEEE 754 rounds correctly are used: the same bits on every machine.
void normal_numbers(uint64_t key, int64_t block, int64_t count, float* values);

/// Uniform 32-bit words; independent of normal_numbers() of another key only.
void random_words(uint64_t key, int64_t block, int64_t count, uint32_t* words);

}  // namespace amalgam
