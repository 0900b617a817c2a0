// Packs: a few dozen consecutive elements in registers, loaded from and stored to any computed dtype.
#pragma once
#include "kernels/element.h"
#include "kernels/short_pack.h"

namespace amalgam {

/// Packs of no more elements are those of a GPU's threads.
constexpr int longest_short_pack = 16;

/// Elements of one tensor in memory; `data` is the element the pass calls number 0. No alignment is asked for: tensors
/// in files may begin at any byte. Short packs want elements at multiples of their size, and are fast at multiples of 16.
struct Operand {
    const void* data = nullptr;
    Dtype dtype = Dtype::f32;
};

namespace detail {
#if defined(__CUDACC__)
template <class T>
using Stored = T;
#else
template <class T>
using Stored [[gnu::aligned(1), gnu::may_alias]] = T;
#endif
using StoredU8 = Stored<uint8_t>;
using StoredU16 = Stored<uint16_t>;
using StoredF32 = Stored<float>;
using StoredF64 = Stored<double>;

/// A pass walks through many tensors at once, more than processors follow by themselves: ask for what comes two packs later.
template <int N>
AMALGAM_BODY void fetch_ahead([[maybe_unused]] const unsigned char* bytes, [[maybe_unused]] int width) {
#if !defined(__CUDACC__)
    for (int line = 0; line < N * width; line += 64) __builtin_prefetch(bytes + 2 * N * width + line);
#endif
}

template <int N, class T>
AMALGAM_BODY void expand_pack(Dtype dtype, const unsigned char* bytes, T* values) {
    switch (dtype) {
        case Dtype::bf16: {
            auto stored = reinterpret_cast<const StoredU16*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) values[i] = float_from_bf16(stored[i]);
            return;
        }
        case Dtype::f16: {
            auto stored = reinterpret_cast<const StoredU16*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) values[i] = float_from_f16(stored[i]);
            return;
        }
        case Dtype::f32: {
            auto stored = reinterpret_cast<const StoredF32*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) values[i] = stored[i];
            return;
        }
        case Dtype::f64: {
            auto stored = reinterpret_cast<const StoredF64*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) values[i] = static_cast<T>(stored[i]);
            return;
        }
        case Dtype::f8_e4m3: {
            auto stored = reinterpret_cast<const StoredU8*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) values[i] = float_from_e4m3(stored[i]);
            return;
        }
        case Dtype::f8_e5m2: {
            auto stored = reinterpret_cast<const StoredU8*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) values[i] = float_from_e5m2(stored[i]);
            return;
        }
        default: return;
    }
}

template <int N, class T>
AMALGAM_BODY void shrink_pack(Dtype dtype, const T* values, unsigned char* bytes) {
    float narrow[N];
    if constexpr (sizeof(T) == 8) {
        if (dtype != Dtype::f64 && dtype != Dtype::f32) {
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) narrow[i] = narrow_to_odd(values[i]);
        }
    } else {
        AMALGAM_LANES
        for (int i = 0; i < N; ++i) narrow[i] = values[i];
    }
    switch (dtype) {
        case Dtype::bf16: {
            auto stored = reinterpret_cast<StoredU16*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) stored[i] = bf16_from_float(narrow[i]);
            return;
        }
        case Dtype::f16: {
            auto stored = reinterpret_cast<StoredU16*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) stored[i] = f16_from_float(narrow[i]);
            return;
        }
        case Dtype::f32: {
            auto stored = reinterpret_cast<StoredF32*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) {
                float value = static_cast<float>(values[i]);
                stored[i] = value == value ? value : float_of(canonical_nan_bits<float>);
            }
            return;
        }
        case Dtype::f64: {
            auto stored = reinterpret_cast<StoredF64*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) {
                double value = values[i];
                stored[i] = value == value ? value : double_of(canonical_nan_bits<double>);
            }
            return;
        }
        case Dtype::f8_e4m3: {
            auto stored = reinterpret_cast<StoredU8*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) stored[i] = e4m3_from_float(narrow[i]);
            return;
        }
        case Dtype::f8_e5m2: {
            auto stored = reinterpret_cast<StoredU8*>(bytes);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) stored[i] = e5m2_from_float(narrow[i]);
            return;
        }
        default: return;
    }
}
}  // namespace detail

/// Elements [at, at + N) of `operand`, of which the first `valid` exist; the rest reads as 0.
template <int N, class T>
AMALGAM_BODY void load_pack(const Operand& operand, int64_t at, int valid, T* values) {
    int width = stored_bytes(operand.dtype);
    auto bytes = static_cast<const unsigned char*>(operand.data) + at * width;
    if constexpr (N <= longest_short_pack) return detail::load_short<N>(operand.dtype, bytes, valid, values);
    if (valid >= N) {
        detail::fetch_ahead<N>(bytes, width);
        detail::expand_pack<N>(operand.dtype, bytes, values);
        return;
    }
    alignas(16) unsigned char padded[N * 8] = {};
    std::memcpy(padded, bytes, size_t(valid) * size_t(width));
    detail::expand_pack<N>(operand.dtype, padded, values);
}

/// Rounds once, to nearest even; NaN becomes the canonical NaN of the dtype.
template <int N, class T>
AMALGAM_BODY void store_pack(void* data, Dtype dtype, int64_t at, int valid, const T* values) {
    int width = stored_bytes(dtype);
    auto bytes = static_cast<unsigned char*>(data) + at * width;
    if constexpr (N <= longest_short_pack) return detail::store_short<N>(dtype, bytes, valid, values);
    if (valid >= N) {
        detail::shrink_pack<N>(dtype, values, bytes);
        return;
    }
    alignas(16) unsigned char padded[N * 8];
    detail::shrink_pack<N>(dtype, values, padded);
    std::memcpy(bytes, padded, size_t(valid) * size_t(width));
}

}  // namespace amalgam
