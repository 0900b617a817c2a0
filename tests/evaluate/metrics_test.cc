#include "src/evaluate/metrics.h"

#include <gtest/gtest.h>

namespace amalgam {
namespace {

TEST(LastNumber, IsTheLastOneInAnyUsualForm) {
    EXPECT_EQ(last_number("it is 3, no, 4."), 4);
    EXPECT_EQ(last_number("= -1,234.50 yen"), -1234.5);
    EXPECT_EQ(last_number("7-4"), 4);
    EXPECT_EQ(last_number("x-4"), 4);
    EXPECT_EQ(last_number("(3)-4"), 4);
    EXPECT_EQ(last_number("is -4"), -4);
    EXPECT_EQ(last_number("-4"), -4);
    EXPECT_EQ(last_number("1,23"), 23);
    EXPECT_EQ(last_number("1234,567"), 567);
    EXPECT_EQ(last_number("1,2345"), 2345);
    EXPECT_EQ(last_number("#### 72"), 72);
    EXPECT_EQ(last_number("18."), 18);
    EXPECT_EQ(last_number("\xe7\xad\x94\xe3\x81\x88\xef\xbc\x9a"
                          "12\xe5\x80\x8b"),
              12);
    EXPECT_FALSE(last_number("none"));
    EXPECT_FALSE(last_number(""));
}

TEST(LastNumber, TakesDigitsWithoutEnd) {
    EXPECT_EQ(last_number(std::string(400, '9')), std::nullopt);
    EXPECT_EQ(last_number("5 " + std::string(400, '9')), 5);
    EXPECT_EQ(last_number("0." + std::string(400, '3')), 1.0 / 3);
}

TEST(RougeL, IsF1OfTheLongestCommonSubsequence) {
    using Ids = std::vector<int32_t>;
    // Common: 1 3 4. Precision 3/4, recall 3/5.
    EXPECT_DOUBLE_EQ(rouge_l(Ids{1, 2, 3, 4}, Ids{1, 3, 5, 4, 6}), 2 * 0.75 * 0.6 / (0.75 + 0.6));
    EXPECT_EQ(rouge_l(Ids{1, 2}, Ids{1, 2}), 1);
    EXPECT_EQ(rouge_l(Ids{1, 2}, Ids{3}), 0);
    EXPECT_EQ(rouge_l(Ids{}, Ids{3}), 0);
    EXPECT_EQ(rouge_l(Ids{}, Ids{}), 1);
    EXPECT_DOUBLE_EQ(rouge_l(words_of("The cat, sat!"), words_of("the CAT lay")), 2.0 / 3);
}

TEST(Words, AreLettersDigitsAndBytesBeyondAscii) {
    EXPECT_EQ(words_of("It's 3-fold, \xc3\xa9t\xc3\xa9."),
              (std::vector<std::string>{"it", "s", "3", "fold", "\xc3\xa9t\xc3\xa9"}));
}

TEST(AllowedShare, CountsTokens) {
    const std::vector<int32_t> allowed = {2, 5, 9};
    EXPECT_EQ(allowed_share(std::vector<int32_t>{2, 9, 9, 1}, allowed), 0.75);
    EXPECT_EQ(allowed_share(std::vector<int32_t>{}, allowed), 0);
}

}  // namespace
}  // namespace amalgam
