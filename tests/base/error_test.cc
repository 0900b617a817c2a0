#include "src/base/error.h"

#include <gmock/gmock.h>

#include <cerrno>

namespace amalgam {
namespace {

TEST(Error, CheckThrowsOnlyWhenTheConditionFails) {
    check(true, "never {}", 1);
    try {
        check(false, "{} is {}", "x", 2);
        FAIL();
    } catch (const Error& error) {
        EXPECT_STREQ(error.what(), "x is 2");
    }
}

TEST(Error, ErrnoHasItsText) { EXPECT_EQ(errno_text(ENOENT), "No such file or directory"); }

TEST(Printable, KeepsText) {
    EXPECT_EQ(printable("model.layers.0 \\ '\""), "model.layers.0 \\ '\"");
    EXPECT_EQ(printable("\u00fcber \u4e2d \U0001f600"), "\u00fcber \u4e2d \U0001f600");
    EXPECT_EQ(printable(""), "");
}

TEST(Printable, EscapesWhatATerminalMustNotSee) {
    EXPECT_EQ(printable(std::string_view("a\0b\n\x1b[2J\x7f", 9)), "a\\x00b\\x0a\\x1b[2J\\x7f");
    EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");  // a control character in two bytes
}

TEST(Printable, EscapesWhatIsNotUtf8) {
    EXPECT_EQ(printable("\xff"), "\\xff");
    EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");                    // overlong
    EXPECT_EQ(printable("\xe0\x80\x80"), "\\xe0\\x80\\x80");           // overlong
    EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // surrogate
    EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // beyond Unicode
    EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82");                    // cut
    EXPECT_EQ(printable("\xe2\x82z"), "\\xe2\\x82z");
}

TEST(Printable, CutsLongText) {
    EXPECT_EQ(printable("abcdef", 3), "abc...");
    EXPECT_EQ(printable("abc", 3), "abc");
    EXPECT_LT(printable(std::string(1 << 20, 'x')).size(), 2000u);
}

}  // namespace
}  // namespace amalgam
