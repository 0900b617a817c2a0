// Tensors in memory as files leave them: at odd addresses, with nothing readable promised behind them, and with guards
// around what is written.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "kernels/pack.h"
#include "tests/kernels/formats.h"

namespace amalgam::test {

/// Codes of one tensor. The last byte is the last of its allocation: the address sanitizer sees a read behind it.
class Tensor {
  public:
    Tensor(Dtype dtype, int64_t count, int offset)
        : dtype_(dtype),
          offset_(size_t(offset)),
          bytes_(std::make_unique<unsigned char[]>(size_t(offset) + size_t(count * bytes_of(dtype)))) {}

    Dtype dtype() const { return dtype_; }
    Operand operand() const { return {bytes_.get() + offset_, dtype_}; }
    void set_code(int64_t i, uint64_t code) { std::memcpy(place(i), &code, size_t(bytes_of(dtype_))); }
    void set(int64_t i, long double value) { set_code(i, encode(dtype_, value)); }
    uint64_t code(int64_t i) const {
        uint64_t code = 0;
        std::memcpy(&code, place(i), size_t(bytes_of(dtype_)));
        return code;
    }
    long double value(int64_t i) const { return decode(dtype_, code(i)); }

  private:
    unsigned char* place(int64_t i) const { return bytes_.get() + offset_ + size_t(i * bytes_of(dtype_)); }
    Dtype dtype_;
    size_t offset_;
    std::unique_ptr<unsigned char[]> bytes_;
};

/// Room for an output, between two guards.
class Output {
  public:
    Output(Dtype dtype, int64_t count, int offset)
        : dtype_(dtype),
          begin_(guard + size_t(offset)),
          end_(begin_ + size_t(count * bytes_of(dtype))),
          bytes_(end_ + guard, pattern) {}

    Dtype dtype() const { return dtype_; }
    void* data() { return bytes_.data() + begin_; }
    uint64_t code(int64_t i) const {
        uint64_t code = 0;
        std::memcpy(&code, bytes_.data() + begin_ + size_t(i * bytes_of(dtype_)), size_t(bytes_of(dtype_)));
        return code;
    }
    long double value(int64_t i) const { return decode(dtype_, code(i)); }
    bool guards_intact() const {
        for (size_t i = 0; i < bytes_.size(); ++i)
            if ((i < begin_ || i >= end_) && bytes_[i] != pattern) return false;
        return true;
    }
    bool same_bytes(const Output& other) const { return bytes_ == other.bytes_; }

  private:
    static constexpr size_t guard = 2048;
    static constexpr unsigned char pattern = 0xa5;
    Dtype dtype_;
    size_t begin_, end_;
    std::vector<unsigned char> bytes_;
};

/// Numbers as models have them: normal, of about the given size.
inline void fill_normal(Tensor& tensor, int64_t count, double size, std::mt19937_64& random) {
    std::normal_distribution<double> normal(0, size);
    for (int64_t i = 0; i < count; ++i) tensor.set(i, normal(random));
}

/// NaN, infinities, zeros of both signs and the smallest numbers, here and there.
inline void sprinkle_specials(Tensor& tensor, int64_t count, int64_t phase) {
    const Format format = format_of(tensor.dtype());
    const uint64_t infinity = ((uint64_t(1) << format.exponent) - 1) << format.mantissa;
    for (int64_t i = phase; i < count; i += 83) {
        switch ((i / 83 + phase) % 6) {
            case 0: tensor.set_code(i, format.canonical_nan); break;
            case 1:
                if (format.has_infinity) tensor.set_code(i, infinity);
                break;
            case 2:
                if (format.has_infinity) tensor.set_code(i, infinity | format.sign_bit());
                break;
            case 3: tensor.set_code(i, format.sign_bit()); break;
            case 4: tensor.set_code(i, 1); break;
            default:
                // A NaN that is not the canonical one.
                tensor.set_code(i, (format.sign_bit() - 1) | format.sign_bit());
        }
    }
}

}  // namespace amalgam::test
