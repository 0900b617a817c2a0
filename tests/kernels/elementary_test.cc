// Errors of the project's own exp, log, sin, cos and acos, in units in the last place, against libm in long double.
#include "kernels/elementary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

#include "kernels/method_info.h"

namespace amalgam {
namespace {

class Error {
  public:
    Error(const char* name, double bound) : name_(name), bound_(bound) {}
    ~Error() {
        std::printf("%s: at most %.3f units in the last place, at %.17g\n", name_, largest_, where_);
        EXPECT_LE(largest_, bound_) << name_ << " of " << where_;
        EXPECT_GT(count_, 1000);
    }
    void add(double x, double got, long double want) {
        ++count_;
        const double nearest = std::fabs(static_cast<double>(want));
        const long double unit = std::nextafter(nearest, infinity) - nearest;
        const double error = static_cast<double>(std::fabs(static_cast<long double>(got) - want) / unit);
        if (!(error <= largest_)) {
            largest_ = error;
            where_ = x;
        }
    }

  private:
    const char* name_;
    double bound_, largest_ = 0, where_ = 0;
    int count_ = 0;
};

constexpr int samples = 200000;
constexpr double pi = 3.14159265358979311600;

TEST(Elementary, Exp) {
    Error error("exp", 1.5);
    std::mt19937_64 random(1);
    std::uniform_real_distribution<double> all(-700, 700), near(-1, 1);
    for (int i = 0; i < samples; ++i) {
        const double x = i % 2 ? all(random) : near(random);
        error.add(x, exact_exp(x), std::exp(static_cast<long double>(x)));
    }
    EXPECT_EQ(exact_exp(0), 1);
    EXPECT_EQ(exact_exp(-0.), 1);
    EXPECT_EQ(exact_exp(-701), 0);
    EXPECT_EQ(exact_exp(-infinity), 0);
    EXPECT_TRUE(std::isnan(exact_exp(NAN)));
    EXPECT_TRUE(std::isfinite(exact_exp(infinity)));
}

TEST(Elementary, Log) {
    Error error("log", 2);
    std::mt19937_64 random(2);
    std::uniform_real_distribution<double> exponent(-1000, 1000), near(0.5, 2);
    for (int i = 0; i < samples; ++i) {
        const double x = i % 2 ? std::exp2(exponent(random)) : near(random);
        error.add(x, exact_log(x), std::log(static_cast<long double>(x)));
    }
    for (double x : {1 - 0x1p-53, 1 + 0x1p-52, 1e-8, 1 + 1e-8, std::sqrt(0.5), std::sqrt(2.), 2.2250738585072014e-308})
        error.add(x, exact_log(x), std::log(static_cast<long double>(x)));
    EXPECT_EQ(exact_log(1), 0);
}

TEST(Elementary, SinAndCos) {
    Error sine("sin", 2), cosine("cos", 2);
    std::mt19937_64 random(3);
    std::uniform_real_distribution<double> angle(0, pi);
    auto see = [&](double x) {
        if (x < 0 || x > pi) return;
        sine.add(x, exact_sin(x), std::sin(static_cast<long double>(x)));
        cosine.add(x, exact_cos(x), std::cos(static_cast<long double>(x)));
    };
    for (int i = 0; i < samples; ++i) see(angle(random));
    for (double center : {0., pi / 2, pi})
        for (int shift = 5; shift < 60; ++shift)
            for (int sign : {-1, 1}) see(center + sign * std::ldexp(1.37, -shift));
    see(pi);
    see(pi / 2);
    EXPECT_EQ(exact_sin(0), 0);
}

TEST(Elementary, AtanAndAcos) {
    Error tangent("atan", 6), angle("acos", 6);
    std::mt19937_64 random(4);
    std::uniform_real_distribution<double> exponent(-40, 40), cosine(-1, 1);
    auto see = [&](double c) {
        if (c >= -1 && c <= 1) angle.add(c, exact_acos(c), std::acos(static_cast<long double>(c)));
    };
    for (int i = 0; i < samples; ++i) {
        const double x = std::exp2(exponent(random));
        tangent.add(x, exact_atan(x), std::atan(static_cast<long double>(x)));
        see(cosine(random));
    }
    for (double center : {0., -1., 1.})
        for (int shift = 2; shift < 54; ++shift)
            for (int sign : {-1, 1}) see(center + sign * std::ldexp(1.37, -shift));
    EXPECT_EQ(exact_acos(1), 0);
    EXPECT_EQ(exact_acos(1.0001), 0);
    EXPECT_EQ(exact_acos(-1), pi);
    EXPECT_EQ(exact_acos(-1.5), pi);
    EXPECT_EQ(exact_acos(0), pi / 2);
    EXPECT_EQ(exact_atan(0), 0);
}

}  // namespace
}  // namespace amalgam
