#include "src/base/nearest.h"

#include <gtest/gtest.h>

#include <array>

namespace amalgam {
namespace {

constexpr std::array<std::string_view, 5> names = {"weight", "density", "lambda", "normalize", "t"};

TEST(Nearest, FindsMisspellings) {
    EXPECT_EQ(nearest("weigth", names), "weight");  // swapped neighbours: one edit
    EXPECT_EQ(nearest("weights", names), "weight");
    EXPECT_EQ(nearest("Density", names), "density");
    EXPECT_EQ(nearest("desnsty", names), "density");
    EXPECT_EQ(nearest("normalise", names), "normalize");
    EXPECT_EQ(nearest("T", names), "t");
}

TEST(Nearest, FindsNothingFarAway) {
    EXPECT_EQ(nearest("epsilon", names), "");
    EXPECT_EQ(nearest("", names), "");
    EXPECT_EQ(nearest("xyz", names), "");
    EXPECT_EQ(nearest(std::string(100000, 'w'), names), "");
    EXPECT_EQ(nearest("lam", names), "");  // three letters allow one edit
}

TEST(Nearest, TakesTheFirstOfEquals) {
    constexpr std::array<std::string_view, 2> both = {"ties", "dies"};
    EXPECT_EQ(nearest("xies", both), "ties");
}

TEST(DidYouMean, SaysTheNameOrAllOfThem) {
    EXPECT_EQ(did_you_mean("weigth", names), " (did you mean \"weight\"?)");
    EXPECT_EQ(did_you_mean("xyz", names), " (valid: weight, density, lambda, normalize, t)");
    EXPECT_EQ(did_you_mean("xyz", {}), "");
}

}  // namespace
}  // namespace amalgam
