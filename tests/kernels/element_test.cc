// Conversions between stored elements and numbers, against the definition of each format.
#include "kernels/element.h"

#include <gtest/gtest.h>

#include <random>
#include <stdexcept>
#include <vector>

#include "kernels/cpu/passes.h"
#include "kernels/method_info.h"
#include "tests/kernels/buffers.h"

namespace amalgam {
namespace {

using test::decode;
using test::encode;
using test::format_of;
using test::name_of;

constexpr float float_infinity = std::numeric_limits<float>::infinity();
const std::vector<Dtype> small_dtypes = {Dtype::bf16, Dtype::f16, Dtype::f8_e4m3, Dtype::f8_e5m2};

float expand(Dtype dtype, uint64_t code) {
    switch (dtype) {
        case Dtype::bf16: return float_from_bf16(uint16_t(code));
        case Dtype::f16: return float_from_f16(uint16_t(code));
        case Dtype::f8_e4m3: return float_from_e4m3(uint8_t(code));
        default: return float_from_e5m2(uint8_t(code));
    }
}

uint64_t shrink(Dtype dtype, float value) {
    switch (dtype) {
        case Dtype::bf16: return bf16_from_float(value);
        case Dtype::f16: return f16_from_float(value);
        case Dtype::f8_e4m3: return e4m3_from_float(value);
        default: return e5m2_from_float(value);
    }
}

/// The same float, where NaNs need not agree in their payload.
void expect_same(float got, long double want, const std::string& what) {
    if (std::isnan(want))
        EXPECT_TRUE(std::isnan(got)) << what;
    else
        EXPECT_EQ(bits_of(got), bits_of(static_cast<float>(want))) << what;
}

/// Collects differences, so that a broken rule prints a few lines and not a million.
class Comparison {
  public:
    void expect_code(uint64_t got, uint64_t want, Dtype dtype, double value) {
        ++count_;
        if (got == want) return;
        if (++wrong_ <= 8)
            ADD_FAILURE() << name_of(dtype) << ": " << std::hexfloat << value << " gives 0x" << std::hex << got
                          << ", not 0x" << want;
    }
    ~Comparison() {
        EXPECT_EQ(wrong_, 0) << "of " << count_;
        EXPECT_GT(count_, 100);
    }

  private:
    int64_t wrong_ = 0, count_ = 0;
};

/// Calls `see` with both signs of every number of a format that is not a NaN, and of the midpoints to the next number
/// (beyond the largest, too).
template <class See>
void each_boundary(Dtype dtype, const See& see) {
    const uint64_t last = format_of(dtype).sign_bit();
    for (uint64_t code = 0; code < last; ++code) {
        const long double value = decode(dtype, code);
        if (!std::isfinite(value)) continue;
        long double next = decode(dtype, code + 1);
        if (!std::isfinite(next)) next = value + (value - decode(dtype, code - 1));
        for (int sign : {1, -1}) {
            see(sign * value);
            see(sign * (value + next) / 2);
        }
    }
}

TEST(Element, EveryCodeExpandsToItsNumber) {
    for (Dtype dtype : small_dtypes)
        for (uint64_t code = 0; code < 2 * format_of(dtype).sign_bit(); ++code)
            expect_same(expand(dtype, code), decode(dtype, code), name_of(dtype) + " " + std::to_string(code));
}

TEST(Element, KnownValues) {
    EXPECT_EQ(float_from_f16(0x3c00), 1.f);
    EXPECT_EQ(float_from_f16(0x7bff), 65504.f);
    EXPECT_EQ(float_from_f16(0x0001), 5.9604644775390625e-8f);
    EXPECT_EQ(float_from_bf16(0x3f80), 1.f);
    EXPECT_EQ(float_from_e4m3(0x38), 1.f);
    EXPECT_EQ(float_from_e4m3(0x7e), 448.f);
    EXPECT_EQ(float_from_e4m3(0x01), 0.001953125f);
    EXPECT_EQ(float_from_e5m2(0x7b), 57344.f);
    EXPECT_EQ(float_from_e5m2(0x01), 1.52587890625e-5f);
    EXPECT_EQ(f16_from_float(65519.996f), 0x7bff);
    EXPECT_EQ(f16_from_float(65520.f), 0x7c00);
    EXPECT_EQ(bf16_from_float(1.00390625f), 0x3f80);  // a tie
    EXPECT_EQ(bf16_from_float(1.01171875f), 0x3f82);  // a tie
    EXPECT_EQ(bf16_from_float(3.4e38f), 0x7f80);
    EXPECT_EQ(e4m3_from_float(1e30f), 0x7e);
    EXPECT_EQ(e4m3_from_float(-std::numeric_limits<float>::infinity()), 0xfe);
    EXPECT_EQ(e5m2_from_float(std::numeric_limits<float>::infinity()), 0x7b);
}

TEST(Element, EveryNumberComesBack) {
    for (Dtype dtype : small_dtypes)
        for (uint64_t code = 0; code < 2 * format_of(dtype).sign_bit(); ++code) {
            const long double value = decode(dtype, code);
            if (std::isinf(value) && format_of(dtype).saturates) continue;
            const uint64_t want = std::isnan(value) ? format_of(dtype).canonical_nan : code;
            ASSERT_EQ(shrink(dtype, expand(dtype, code)), want) << name_of(dtype) << code;
        }
}

TEST(Element, FloatsRoundOnceAtEveryBoundary) {
    for (Dtype dtype : small_dtypes) {
        Comparison comparison;
        each_boundary(dtype, [&](long double boundary) {
            float at = static_cast<float>(boundary);
            for (int step = -2; step <= 2; ++step) {
                float value = at;
                for (int i = 0; i < std::abs(step); ++i)
                    value = std::nextafter(value, step < 0 ? -float_infinity : float_infinity);
                comparison.expect_code(shrink(dtype, value), encode(dtype, value), dtype, value);
            }
        });
    }
}

TEST(Element, FloatsRoundOnceEverywhere) {
    for (Dtype dtype : small_dtypes) {
        Comparison comparison;
        auto see = [&](uint32_t bits) {
            float value = float_of(bits);
            comparison.expect_code(shrink(dtype, value), encode(dtype, value), dtype, static_cast<double>(value));
        };
        for (uint32_t high = 0; high < 65536; ++high)
            for (uint32_t low : {0x0u, 0x1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) see(high << 16 | low);
        for (uint64_t bits = 0; bits < uint64_t(1) << 32; bits += 4099) see(uint32_t(bits));
    }
}

/// Round toward zero to a float's grid, then set the last bit if anything was lost.
float odd_by_definition(double value) {
    if (value == 0 || std::isnan(value) || std::isinf(value)) return static_cast<float>(value);
    const double size = std::fabs(value);
    const double most = static_cast<double>(std::numeric_limits<float>::max());
    if (size > most) return static_cast<float>(std::copysign(most, value));  // its last bit is set
    const int exponent = std::max(std::ilogb(size), -126);
    const double quantum = std::ldexp(1., exponent - 23);
    double steps = std::floor(size / quantum);
    if (steps * quantum != size && std::fmod(steps, 2) == 0) steps += 1;
    return static_cast<float>(std::copysign(steps * quantum, value));
}

template <class See>
void each_difficult_double(Dtype dtype, const See& see) {
    each_boundary(dtype, [&](long double boundary) {
        const double at = static_cast<double>(boundary);
        see(at);
        see(std::nextafter(at, infinity));
        see(std::nextafter(at, -infinity));
        for (int shift : {20, 24, 25, 26, 30, 40}) {
            see(at * (1 + std::ldexp(1., -shift)));
            see(at * (1 - std::ldexp(1., -shift)));
        }
    });
    std::mt19937_64 random(1);
    for (int i = 0; i < 200000; ++i) see(double_of(random()));
    // Many of these are near the range of the small formats.
    std::uniform_real_distribution<double> exponent(-150, 130), mantissa(1, 2);
    for (int i = 0; i < 200000; ++i) {
        double value = std::ldexp(mantissa(random), int(exponent(random)));
        see(value);
        see(-value);
    }
    for (double value : {0., -0., 5e-324, -5e-324, 1.7976931348623157e308, infinity, -infinity, double(NAN)})
        see(value);
}

TEST(Element, NarrowToOddIsRoundToOdd) {
    Comparison comparison;
    for (Dtype dtype : small_dtypes)
        each_difficult_double(dtype, [&](double value) {
            if (value != value) return;
            comparison.expect_code(bits_of(narrow_to_odd(value)), bits_of(odd_by_definition(value)), Dtype::f32, value);
        });
    EXPECT_TRUE(std::isnan(narrow_to_odd(double(NAN))));
}

TEST(Element, DoublesRoundOnce) {
    for (Dtype dtype : small_dtypes) {
        Comparison comparison;
        each_difficult_double(dtype, [&](double value) {
            comparison.expect_code(shrink(dtype, narrow_to_odd(value)), encode(dtype, value), dtype, value);
        });
    }
}

TEST(Element, SaturationIsWhatTheRangeCuts) {
    for (Dtype dtype : {Dtype::f8_e4m3, Dtype::f8_e5m2}) {
        auto check_one = [&](float value) {
            EXPECT_EQ(saturates(dtype, value), test::overflows(dtype, static_cast<long double>(value)))
                << name_of(dtype) << " " << value;
        };
        each_boundary(dtype, [&](long double boundary) {
            float value = static_cast<float>(boundary);
            check_one(value);
            check_one(std::nextafter(value, float_infinity));
            check_one(std::nextafter(value, -float_infinity));
        });
        for (float value : {float_infinity, -float_infinity, std::numeric_limits<float>::max(), float(NAN)})
            check_one(value);
    }
}

/// Short packs want elements at multiples of their size; `offset` counts bytes, or elements for them.
template <int N, class T>
void check_packs(Dtype dtype, int offset) {
    constexpr bool is_short = N <= longest_short_pack;
    // Every code of the small formats passes through packs once, and the tail of a pack reads as 0.
    const int64_t count = std::min<int64_t>(int64_t(2 * format_of(dtype).sign_bit()), 65536);
    test::Tensor tensor(dtype, count, offset * (is_short ? bytes_of(dtype) : 1));
    std::mt19937_64 random(2);
    for (int64_t i = 0; i < count; ++i)
        tensor.set_code(i, bytes_of(dtype) <= 2 ? uint64_t(i) : random() & (2 * format_of(dtype).sign_bit() - 1));
    for (int64_t at = 0; at < count; at += N) {
        const int valid = int(std::min<int64_t>(at / N % 3 ? N : at / N % N, count - at));
        T values[N];
        load_pack<N>(tensor.operand(), at, valid, values);
        for (int i = 0; i < N; ++i) {
            if (i >= valid)
                ASSERT_EQ(values[i], 0);
            else if (std::isnan(tensor.value(at + i)))
                ASSERT_TRUE(std::isnan(values[i]));
            else
                ASSERT_EQ(bits_of(values[i]), bits_of(static_cast<T>(tensor.value(at + i))));
        }
        for (Dtype to : test::computed_dtypes()) {
            test::Output output(to, N, offset * (is_short ? bytes_of(to) : 1));
            store_pack<N>(output.data(), to, 0, valid, values);
            ASSERT_TRUE(output.guards_intact());
            for (int i = 0; i < valid; ++i)
                ASSERT_EQ(output.code(i), encode(to, static_cast<long double>(values[i])))
                    << name_of(to) << " " << values[i];
            for (int64_t byte = int64_t(valid) * bytes_of(to); byte < int64_t(N) * bytes_of(to); ++byte)
                ASSERT_EQ(static_cast<unsigned char*>(output.data())[byte], 0xa5);
        }
    }
}

TEST(Pack, LoadsAndStoresEveryDtype) {
    for (Dtype dtype : test::computed_dtypes()) {
        check_packs<2, double>(dtype, 1);
        check_packs<8, float>(dtype, 0);
        check_packs<8, double>(dtype, 1);
        check_packs<16, float>(dtype, 8);
        check_packs<256, float>(dtype, 3);
        check_packs<256, double>(dtype, 3);
    }
}

TEST(Pack, MisalignedAccessesAreAnErrorBeforeAGpuMeetsThem) {
    alignas(16) unsigned char bytes[32] = {};
    uint32_t words[4] = {};
    EXPECT_NO_THROW(load_words<16>(bytes + 16, words));
    EXPECT_THROW(load_words<16>(bytes + 8, words), std::logic_error);
    EXPECT_THROW(store_words<8>(bytes + 4, words), std::logic_error);
    float values[8];
    EXPECT_NO_THROW(load_pack<8>(Operand{bytes + 2, Dtype::bf16}, 0, 8, values));
    EXPECT_THROW(load_pack<8>(Operand{bytes + 1, Dtype::bf16}, 0, 8, values), std::logic_error);
}

TEST(Convert, EveryPairOfDtypesAndOddPlaces) {
    std::mt19937_64 random(3);
    for (Dtype from : test::computed_dtypes())
        for (Dtype to : test::computed_dtypes())
            for (int64_t count : {0, 1, 7, 255, 256, 257, 4099}) {
                test::Tensor input(from, count, 1 + int(count % 3));
                for (int64_t i = 0; i < count; ++i) input.set_code(i, random() & (2 * format_of(from).sign_bit() - 1));
                test::Output output(to, count, 1 + int(count % 5));
                const int64_t cut = cpu::convert(input.operand(), output.data(), to, count);
                ASSERT_TRUE(output.guards_intact());
                int64_t want_cut = 0;
                for (int64_t i = 0; i < count; ++i) {
                    ASSERT_EQ(output.code(i), encode(to, input.value(i)))
                        << name_of(from) << " to " << name_of(to) << ": " << input.value(i);
                    want_cut += format_of(to).saturates && test::overflows(to, input.value(i));
                }
                EXPECT_EQ(cut, want_cut) << name_of(from) << " to " << name_of(to);
                int64_t nonfinite = 0;
                for (int64_t i = 0; i < count; ++i) nonfinite += !std::isfinite(input.value(i));
                EXPECT_EQ(cpu::count_nonfinite(input.operand(), count), nonfinite);
            }
}

/// A double just above a midpoint must not lose what is above on the way through float.
TEST(Convert, DoublesAreCountedAsCutExactly) {
    for (Dtype to : {Dtype::f8_e4m3, Dtype::f8_e5m2}) {
        const double middle = to == Dtype::f8_e4m3 ? 464 : 61440;
        for (double value : {std::nextafter(middle, 0), middle, std::nextafter(middle, infinity)}) {
            test::Tensor input(Dtype::f64, 1, 0);
            input.set(0, value);
            test::Output output(to, 1, 0);
            EXPECT_EQ(cpu::convert(input.operand(), output.data(), to, 1), int(test::overflows(to, value))) << value;
        }
    }
}

}  // namespace
}  // namespace amalgam
