#include "src/evaluate/attention.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/cpu/launch.h"
#include "kernels/vector_math.h"

namespace amalgam {
namespace {

constexpr int64_t block = 32;  ///< keys that lie together
constexpr int tile_rows = 4;   ///< queries that go through the keys together

/// Sixteen floats; compilers split them where registers are shorter.
typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));

struct Tile {
    const float* queries[tile_rows];
    float* to[tile_rows];
    int64_t low[tile_rows], high[tile_rows];  ///< keys that a row sees
};

/// scores[row][key] for keys of blocks [first, last).
AMALGAM_CLONES void dot_products(const Tile& tile, const float* keys, int64_t head_dim, int64_t first, int64_t last,
                                 float* scores, int64_t score_stride) {
    for (int64_t at = first; at < last; ++at) {
        const float* key = keys + at * head_dim * block;
        Lanes sums[tile_rows][2] = {};
        for (int64_t c = 0; c < head_dim; ++c) {
            const Lanes left = *reinterpret_cast<const Lanes*>(key + c * block);
            const Lanes right = *reinterpret_cast<const Lanes*>(key + c * block + 16);
#pragma GCC unroll 4
            for (int row = 0; row < tile_rows; ++row) {
                sums[row][0] += tile.queries[row][c] * left;
                sums[row][1] += tile.queries[row][c] * right;
            }
        }
#pragma GCC unroll 4
        for (int row = 0; row < tile_rows; ++row) {
            *reinterpret_cast<Lanes*>(scores + row * score_stride + at * block) = sums[row][0];
            *reinterpret_cast<Lanes*>(scores + row * score_stride + at * block + 16) = sums[row][1];
        }
    }
}

/// Scores of blocks [first, last) to their exponentials, 0 for keys outside of [low, high); returns one over their sum.
/// Whole blocks, since the odd ends of short rows would cost more than the rest.
AMALGAM_CLONES float exponentials(float* scores, int64_t first, int64_t last, int64_t low, int64_t high, float scale,
                                  float cap) {
    if (cap > 0) {
        for (int64_t key = first * block; key < last * block; ++key)
            scores[key] = cap * vector_tanh(scores[key] * scale / cap);
        scale = 1;
    }
    const float nothing = -std::numeric_limits<float>::infinity();
    for (int64_t key = first * block; key < low; ++key) scores[key] = nothing;
    for (int64_t key = high; key < last * block; ++key) scores[key] = nothing;
    float largest = nothing;
    for (int64_t at = first; at < last; ++at) {
        const float* own = scores + at * block;
#pragma omp simd reduction(max : largest)
        for (int64_t key = 0; key < block; ++key) largest = own[key] > largest ? own[key] : largest;
    }
    float sum = 0;
    for (int64_t at = first; at < last; ++at) {
        float* own = scores + at * block;
#pragma omp simd reduction(+ : sum)
        for (int64_t key = 0; key < block; ++key) {
            own[key] = vector_exp((own[key] - largest) * scale);
            sum += own[key];
        }
    }
    return 1 / sum;
}

/// results[row][c] = sum over keys [low, high) of scores[row][key] * values[key][c]
AMALGAM_CLONES void weighted_sums(const float* scores, int64_t score_stride, const float* values, int64_t padded,
                                  int64_t low, int64_t high, float* results) {
    for (int64_t c = 0; c < padded; c += block) {
        Lanes sums[tile_rows][2] = {};
        for (int64_t key = low; key < high; ++key) {
            const Lanes left = *reinterpret_cast<const Lanes*>(values + key * padded + c);
            const Lanes right = *reinterpret_cast<const Lanes*>(values + key * padded + c + 16);
#pragma GCC unroll 4
            for (int row = 0; row < tile_rows; ++row) {
                sums[row][0] += scores[row * score_stride + key] * left;
                sums[row][1] += scores[row * score_stride + key] * right;
            }
        }
#pragma GCC unroll 4
        for (int row = 0; row < tile_rows; ++row) {
            *reinterpret_cast<Lanes*>(results + row * padded + c) = sums[row][0];
            *reinterpret_cast<Lanes*>(results + row * padded + c + 16) = sums[row][1];
        }
    }
}

int64_t up_to(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

void attend_tile(const DecoderConfig& config, const Tile& tile, int rows, const KeyValues& stored, int64_t kv_head,
                 AttentionScratch& scratch) {
    const int64_t low = *std::min_element(tile.low, tile.low + tile_rows);
    const int64_t high = *std::max_element(tile.high, tile.high + tile_rows);
    const int64_t stride = up_to(high, block);
    scratch.scores.resize(size_t(tile_rows * stride));
    scratch.results.resize(size_t(tile_rows * stored.padded()));
    float* scores = scratch.scores.data();
    dot_products(tile, stored.keys(kv_head), config.head_dim, low / block, stride / block, scores, stride);
    float shares[tile_rows];
    for (int row = 0; row < tile_rows; ++row) {
        float* own = scores + row * stride;
        shares[row] = exponentials(own, low / block, stride / block, tile.low[row], tile.high[row],
                                   config.attention_scale, config.attention_softcap);
    }
    weighted_sums(scores, stride, stored.values(kv_head), stored.padded(), low, high, scratch.results.data());
    for (int row = 0; row < rows; ++row) {
        const float* result = scratch.results.data() + row * stored.padded();
        for (int64_t c = 0; c < config.head_dim; ++c) tile.to[row][c] = result[c] * shares[row];
    }
}

}  // namespace

uint64_t KeyValues::bytes(const DecoderConfig& config, int64_t capacity) {
    const int64_t width = config.kv_heads * (config.head_dim + up_to(config.head_dim, block));
    return uint64_t(width * up_to(capacity, block)) * sizeof(float);
}

void KeyValues::reset(const DecoderConfig& config, int64_t capacity) {
    heads_ = config.kv_heads;
    head_dim_ = config.head_dim;
    padded_ = up_to(head_dim_, block);
    capacity_ = up_to(capacity, block);
    const auto make_room = [](std::unique_ptr<float[]>& buffer, int64_t& room, int64_t count) {
        if (room >= count) return;
        buffer = nullptr;
        // Zeros would be written to pages that a short text never needs.
        buffer = std::make_unique_for_overwrite<float[]>(size_t(count));
        room = count;
    };
    make_room(keys_, key_room_, heads_ * head_dim_ * capacity_);
    make_room(values_, value_room_, heads_ * padded_ * capacity_);
}

void KeyValues::store(const float* keys, const float* values, int64_t stride, int64_t first, int64_t count) {
    for (int64_t head = 0; head < heads_; ++head) {
        float* key_to = keys_.get() + head * head_dim_ * capacity_;
        float* value_to = values_.get() + head * padded_ * capacity_;
        for (int64_t row = 0; row < count; ++row) {
            const int64_t at = first + row;
            // Attention reads whole blocks of keys and leaves out what is behind the last one.
            if (at % block == 0) std::fill_n(key_to + at * head_dim_, head_dim_ * block, 0.0f);
            const float* key = keys + row * stride + head * head_dim_;
            float* place = key_to + at / block * head_dim_ * block + at % block;
            for (int64_t c = 0; c < head_dim_; ++c) place[c * block] = key[c];
            float* value = value_to + at * padded_;
            std::memcpy(value, values + row * stride + head * head_dim_, size_t(head_dim_) * sizeof(float));
            std::fill(value + head_dim_, value + padded_, 0.0f);
        }
    }
}

void attend(const DecoderConfig& config, const KeyValues& stored, int64_t window, const float* queries,
            int64_t query_stride, int64_t first, int64_t count, float* to, AttentionScratch& scratch) {
    const int64_t group = config.heads / config.kv_heads;
    for (int64_t kv_head = 0; kv_head < config.kv_heads; ++kv_head) {
        // Rows of a tile: positions of one head after the other.
        for (int64_t next = 0; next < group * count; next += tile_rows) {
            const int rows = int(std::min<int64_t>(tile_rows, group * count - next));
            Tile tile;
            for (int row = 0; row < tile_rows; ++row) {
                const int64_t index = next + std::min(row, rows - 1);
                const int64_t head = kv_head * group + index / count, position = index % count;
                tile.queries[row] = queries + position * query_stride + head * config.head_dim;
                tile.to[row] = to + position * config.query_width() + head * config.head_dim;
                tile.high[row] = first + position + 1;
                tile.low[row] = window > 0 ? std::max<int64_t>(0, tile.high[row] - window) : 0;
            }
            attend_tile(config, tile, rows, stored, kv_head, scratch);
        }
    }
}

}  // namespace amalgam
