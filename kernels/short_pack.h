// Packs of up to 16 elements, which a thread of a GPU holds in registers: nothing is indexed by a variable.
#pragma once
#include "kernels/element.h"
#include "kernels/vector_access.h"

namespace amalgam::detail {

/// How one dtype is stored, and what a number becomes.
template <Dtype dtype>
struct Format;
template <>
struct Format<Dtype::bf16> {
    using Bits = uint16_t;
    static AMALGAM_BODY float expand(Bits stored) { return float_from_bf16(stored); }
    static AMALGAM_BODY Bits shrink(float value) { return bf16_from_float(value); }
    static AMALGAM_BODY Bits shrink(double value) { return bf16_from_float(narrow_to_odd(value)); }
};
template <>
struct Format<Dtype::f16> {
    using Bits = uint16_t;
    static AMALGAM_BODY float expand(Bits stored) { return float_from_f16(stored); }
    static AMALGAM_BODY Bits shrink(float value) { return f16_from_float(value); }
    static AMALGAM_BODY Bits shrink(double value) { return f16_from_float(narrow_to_odd(value)); }
};
template <>
struct Format<Dtype::f8_e4m3> {
    using Bits = uint8_t;
    static AMALGAM_BODY float expand(Bits stored) { return float_from_e4m3(stored); }
    static AMALGAM_BODY Bits shrink(float value) { return e4m3_from_float(value); }
    static AMALGAM_BODY Bits shrink(double value) { return e4m3_from_float(narrow_to_odd(value)); }
};
template <>
struct Format<Dtype::f8_e5m2> {
    using Bits = uint8_t;
    static AMALGAM_BODY float expand(Bits stored) { return float_from_e5m2(stored); }
    static AMALGAM_BODY Bits shrink(float value) { return e5m2_from_float(value); }
    static AMALGAM_BODY Bits shrink(double value) { return e5m2_from_float(narrow_to_odd(value)); }
};
template <>
struct Format<Dtype::f32> {
    using Bits = uint32_t;
    static AMALGAM_BODY float expand(Bits stored) { return float_of(stored); }
    template <class T>
    static AMALGAM_BODY Bits shrink(T value) {
        const float rounded = static_cast<float>(value);
        return rounded == rounded ? bits_of(rounded) : canonical_nan_bits<float>;
    }
};
template <>
struct Format<Dtype::f64> {
    using Bits = uint64_t;
    static AMALGAM_BODY double expand(Bits stored) { return double_of(stored); }
    template <class T>
    static AMALGAM_BODY Bits shrink(T value) {
        const double wide = static_cast<double>(value);
        return wide == wide ? bits_of(wide) : canonical_nan_bits<double>;
    }
};

/// What one access moves, and the alignment it needs.
template <int N, class Bits>
constexpr int access_bytes = N* int(sizeof(Bits)) < 16 ? N* int(sizeof(Bits)) : 16;
/// Elements of one access.
template <int N, class Bits>
constexpr int access_elements = access_bytes<N, Bits> / int(sizeof(Bits));

template <int N, Dtype dtype, class T>
AMALGAM_BODY void load_short(const unsigned char* bytes, int valid, T* values) {
    using Bits = typename Format<dtype>::Bits;
    constexpr int size = int(sizeof(Bits)), each = access_elements<N, Bits>;
    if (valid >= N && is_aligned<access_bytes<N, Bits>>(bytes)) {
        AMALGAM_UNROLL
        for (int from = 0; from < N; from += each) {
            uint32_t words[4];
            load_words<access_bytes<N, Bits>>(bytes + from * size, words);
            AMALGAM_UNROLL
            for (int i = 0; i < each; ++i) {
                Bits stored;
                if constexpr (size == 8)
                    stored = uint64_t(words[2 * i + 1]) << 32 | words[2 * i];
                else
                    stored = Bits(words[i * size / 4] >> (8 * (i * size % 4)));
                values[from + i] = static_cast<T>(Format<dtype>::expand(stored));
            }
        }
        return;
    }
    AMALGAM_UNROLL
    for (int i = 0; i < N; ++i) {
        uint32_t words[2] = {0, 0};
        if (i < valid) load_words<size>(bytes + i * size, words);
        Bits stored;
        if constexpr (size == 8)
            stored = uint64_t(words[1]) << 32 | words[0];
        else
            stored = Bits(words[0]);
        values[i] = static_cast<T>(Format<dtype>::expand(stored));
    }
}

template <int N, Dtype dtype, class T>
AMALGAM_BODY void store_short(unsigned char* bytes, int valid, const T* values) {
    using Bits = typename Format<dtype>::Bits;
    constexpr int size = int(sizeof(Bits)), each = access_elements<N, Bits>;
    if (valid >= N && is_aligned<access_bytes<N, Bits>>(bytes)) {
        AMALGAM_UNROLL
        for (int from = 0; from < N; from += each) {
            uint32_t words[4] = {0, 0, 0, 0};
            AMALGAM_UNROLL
            for (int i = 0; i < each; ++i) {
                const Bits stored = Format<dtype>::shrink(values[from + i]);
                if constexpr (size == 8) {
                    words[2 * i] = uint32_t(stored);
                    words[2 * i + 1] = uint32_t(stored >> 32);
                } else {
                    words[i * size / 4] |= uint32_t(stored) << (8 * (i * size % 4));
                }
            }
            store_words<access_bytes<N, Bits>>(bytes + from * size, words);
        }
        return;
    }
    AMALGAM_UNROLL
    for (int i = 0; i < N; ++i) {
        const Bits stored = Format<dtype>::shrink(values[i]);
        uint32_t words[2] = {uint32_t(stored), 0};
        if constexpr (size == 8) words[1] = uint32_t(stored >> 32);
        if (i < valid) store_words<size>(bytes + i * size, words);
    }
}

template <int N, class T>
AMALGAM_BODY void load_short(Dtype dtype, const unsigned char* bytes, int valid, T* values) {
    switch (dtype) {
        case Dtype::bf16: return load_short<N, Dtype::bf16>(bytes, valid, values);
        case Dtype::f16: return load_short<N, Dtype::f16>(bytes, valid, values);
        case Dtype::f32: return load_short<N, Dtype::f32>(bytes, valid, values);
        case Dtype::f64: return load_short<N, Dtype::f64>(bytes, valid, values);
        case Dtype::f8_e4m3: return load_short<N, Dtype::f8_e4m3>(bytes, valid, values);
        case Dtype::f8_e5m2: return load_short<N, Dtype::f8_e5m2>(bytes, valid, values);
        default: __builtin_unreachable();  // nothing computes with other dtypes
    }
}

template <int N, class T>
AMALGAM_BODY void store_short(Dtype dtype, unsigned char* bytes, int valid, const T* values) {
    switch (dtype) {
        case Dtype::bf16: return store_short<N, Dtype::bf16>(bytes, valid, values);
        case Dtype::f16: return store_short<N, Dtype::f16>(bytes, valid, values);
        case Dtype::f32: return store_short<N, Dtype::f32>(bytes, valid, values);
        case Dtype::f64: return store_short<N, Dtype::f64>(bytes, valid, values);
        case Dtype::f8_e4m3: return store_short<N, Dtype::f8_e4m3>(bytes, valid, values);
        case Dtype::f8_e5m2: return store_short<N, Dtype::f8_e5m2>(bytes, valid, values);
        default: __builtin_unreachable();
    }
}

}  // namespace amalgam::detail
