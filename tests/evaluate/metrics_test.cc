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

TEST(LastNumber, ReadsFullWidth) {
    EXPECT_EQ(last_number("答えは７２"), 72);
    EXPECT_EQ(last_number("１，２３４．５円"), 1234.5);
    EXPECT_EQ(last_number("気温は－３度"), -3);
    EXPECT_EQ(last_number("−4"), -4);
    EXPECT_EQ(last_number("7，400"), 400);
    EXPECT_EQ(last_number("７、８。"), 8);
    EXPECT_EQ(last_number("３６5"), 365);
    EXPECT_EQ(last_number("いち"), std::nullopt);
}

TEST(Words, AreCharactersWhereThereAreNoBlanks) {
    using Words = std::vector<std::string>;
    EXPECT_EQ(words_of("東京は、日本の首都です。"),
              (Words{"東", "京", "は", "日", "本", "の", "首", "都", "で", "す"}));
    EXPECT_EQ(words_of("ｶﾀｶﾅ・カタカナー"), (Words{"ｶ", "ﾀ", "ｶ", "ﾅ", "カ", "タ", "カ", "ナ", "ー"}));
    EXPECT_EQ(words_of("人々が「ＡＢＣ１２」とGPT4を使う！"),
              (Words{"人", "々", "が", "abc12", "と", "gpt4", "を", "使", "う"}));
    EXPECT_EQ(words_of("ไทย ๒๕"), (Words{"ไ", "ท", "ย", "๒๕"}));
    EXPECT_EQ(words_of("한국어 단어"), (Words{"한국어", "단어"}));
    EXPECT_EQ(words_of("“naïve”—it’s…"), (Words{"naïve", "it", "s"}));
    EXPECT_EQ(words_of("a\xff\xe3\x81"), (Words{"a\xff\xe3\x81"}));
    EXPECT_EQ(words_of("𠮷野家😀"), (Words{"𠮷", "野", "家"}));
    EXPECT_DOUBLE_EQ(rouge_l(words_of("日本の首都は東京"), words_of("首都は東京です")), 2.0 * 5 / 15);
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
