// Selection by integer keys: which elements are the k largest of something, counted exactly.
#pragma once
#include "kernels/pack.h"

namespace amalgam {

/// What is compared. The bits of a number >= 0 order like the number; a NaN is largest of all.
enum class KeyKind : uint8_t {
    distance,    ///< |input - base|, in the type of the computation
    variance,    ///< population variance of the task vectors over all inputs, in double, rounded to float
    importance,  ///< |input - base| x the element's factor (the divergence of its row), in float
};

struct KeyArguments {
    Operand base;
    const Operand* inputs = nullptr;
    int input_count = 0;
    const float* factors = nullptr;  ///< importance: one per element of the block
    int64_t count = 0;
};

/// Keys in [low, high) are looked at closely.
struct KeyWindow {
    uint64_t low = 0, high = 0;
    int shift = 0;  ///< keys (key - low) >> shift share a bin
};

struct KeyCounts {
    int64_t from_low = 0;   ///< keys >= low
    int64_t from_high = 0;  ///< keys >= high
};

/// One ordering over the elements of a tensor: the distances of one input, or the variance.
struct KeyStream {
    int input = 0;
    KeyWindow window;
    uint32_t* bins = nullptr;  ///< nullptr: count only
};

/// Threads of a GPU share the bins; those of the CPU have their own.
AMALGAM_BODY void add_to_bin(uint32_t* bin) {
#if defined(__CUDA_ARCH__)
    atomicAdd(bin, 1u);
#else
    ++*bin;
#endif
}

template <KeyKind kind, class T>
struct KeyPass {
    using Bits = std::conditional_t<kind == KeyKind::distance, BitsOf<T>, uint32_t>;
    KeyArguments arguments;

    /// Keys of elements [at, at + N); lanes past `valid` give 0.
    template <int N>
    AMALGAM_BODY void keys(int input, int64_t at, int valid, const T* start, Bits* key) const {
        if constexpr (kind == KeyKind::variance) {
            double mean[N] = {}, spread[N] = {};
            T value[N];
            for (int m = 0; m < arguments.input_count; ++m) {
                load_pack<N>(arguments.inputs[m], at, valid, value);
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) mean[i] += static_cast<double>(T(value[i] - start[i]));
            }
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) mean[i] /= arguments.input_count;
            for (int m = 0; m < arguments.input_count; ++m) {
                load_pack<N>(arguments.inputs[m], at, valid, value);
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) {
                    double off = static_cast<double>(T(value[i] - start[i])) - mean[i];
                    spread[i] += off * off;
                }
            }
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) key[i] = order_key(static_cast<float>(spread[i] / arguments.input_count));
        } else {
            T value[N];
            load_pack<N>(arguments.inputs[input], at, valid, value);
            if constexpr (kind == KeyKind::distance) {
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) key[i] = order_key(T(value[i] - start[i]));
            } else {
                AMALGAM_UNROLL
                for (int i = 0; i < N; ++i) {
                    float factor = i < valid ? arguments.factors[at + i] : 0.f;
                    key[i] = order_key(static_cast<float>(value[i] - start[i]) * factor);
                }
            }
        }
        if (valid < N) {
            AMALGAM_UNROLL
            for (int i = 0; i < N; ++i) key[i] = i < valid ? key[i] : Bits(0);
        }
    }

    /// Counts for every stream, of packs from element `begin` on, one every `step` elements; `counts` is added to.
    template <int N>
    AMALGAM_BODY void count(const KeyStream* streams, int stream_count, KeyCounts* counts, int64_t begin = 0,
                            int64_t step = N) const {
        for (int64_t at = begin; at < arguments.count; at += step) {
            int valid = arguments.count - at < N ? int(arguments.count - at) : N;
            T start[N];
            load_pack<N>(arguments.base, at, valid, start);
            for (int s = 0; s < stream_count; ++s) {
                const KeyStream& stream = streams[s];
                Bits key[N];
                keys<N>(stream.input, at, valid, start, key);
                const Bits low = static_cast<Bits>(stream.window.low);
                const Bits last = static_cast<Bits>(stream.window.high - 1);
                int below = 0, above = 0;
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) {
                    below += int(key[i] < low);
                    above += int(key[i] > last);
                }
                below -= low > 0 ? N - valid : 0;
                counts[s].from_low += valid - below;
                counts[s].from_high += above;
                if (stream.bins && valid - below > above) collect<N>(stream, key, valid);
            }
        }
    }

    /// Keys of one stream in order, of packs from element `begin` on, one every `step` elements.
    template <int N, class Key>
    AMALGAM_BODY void extract(int input, Key* out, int64_t begin = 0, int64_t step = N) const {
        for (int64_t at = begin; at < arguments.count; at += step) {
            int valid = arguments.count - at < N ? int(arguments.count - at) : N;
            T start[N];
            Bits key[N];
            load_pack<N>(arguments.base, at, valid, start);
            keys<N>(input, at, valid, start, key);
            AMALGAM_UNROLL
            for (int i = 0; i < N; ++i)
                if (i < valid) out[at + i] = key[i];
        }
    }

  private:
    template <int N>
    AMALGAM_BODY void collect(const KeyStream& stream, const Bits* key, int valid) const {
        const Bits low = static_cast<Bits>(stream.window.low);
        const Bits span = static_cast<Bits>(stream.window.high - 1 - stream.window.low);  // so that "all keys" fits
        if constexpr (N <= longest_short_pack) {
            AMALGAM_UNROLL
            for (int i = 0; i < N; ++i)
                if (i < valid && Bits(key[i] - low) <= span)
                    add_to_bin(stream.bins + (Bits(key[i] - low) >> stream.window.shift));
        } else {
            alignas(8) uint8_t inside[N];
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) inside[i] = Bits(key[i] - low) <= span;
            // Few are inside: look at eight flags at a time.
            for (int group = 0; group < valid; group += 8) {
                uint64_t flags;
                std::memcpy(&flags, inside + group, 8);
                while (flags) {
                    int i = group + lowest_bit(flags) / 8;
                    if (i < valid) add_to_bin(stream.bins + ((key[i] - low) >> stream.window.shift));
                    flags &= flags - 1;
                }
            }
        }
    }
};

}  // namespace amalgam
