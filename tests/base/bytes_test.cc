#include "src/base/bytes.h"

#include <gtest/gtest.h>

#include <string>

#include "src/base/error.h"

namespace amalgam {
namespace {

TEST(ParseBytes, UnitsAreExact) {
    EXPECT_EQ(parse_bytes("0"), 0u);
    EXPECT_EQ(parse_bytes("123"), 123u);
    EXPECT_EQ(parse_bytes("123B"), 123u);
    EXPECT_EQ(parse_bytes("5GB"), 5'000'000'000u);
    EXPECT_EQ(parse_bytes("100MB"), 100'000'000u);
    EXPECT_EQ(parse_bytes("8MiB"), 8'388'608u);
    EXPECT_EQ(parse_bytes("1GiB"), 1'073'741'824u);
    EXPECT_EQ(parse_bytes(" 64 kib "), 65'536u);
    EXPECT_EQ(parse_bytes("2tb"), 2'000'000'000'000u);
    EXPECT_EQ(parse_bytes("1PiB"), 1'125'899'906'842'624u);
    EXPECT_EQ(parse_bytes("1.5GB"), 1'500'000'000u);
    EXPECT_EQ(parse_bytes("0.5 GiB"), 536'870'912u);
    EXPECT_EQ(parse_bytes("0.9999PiB"), 1'125'787'316'851'939u);  // floor(0.9999 x 2^50)
    EXPECT_EQ(parse_bytes("18446744073709551615"), 18'446'744'073'709'551'615u);
}

TEST(ParseBytes, RefusesWhatIsNotAnAmount) {
    for (const char* text : {"",
                             " ",
                             "GB",
                             "-1",
                             "+1",
                             "5 5",
                             "5GBs",
                             "5XB",
                             "5.GB",
                             "5.12345GB",
                             ".5GB",
                             "1.5",
                             "1.5B",
                             "1e9",
                             "0x10",
                             "18446744073709551616",
                             "18447PB",
                             "20000PiB",
                             "999999999999999999999GB",
                             "5G\n"})
        EXPECT_THROW(parse_bytes(text), Error) << '"' << text << '"';
}

TEST(ParseBytes, SaysHowToWriteABareLetter) {
    try {
        parse_bytes("5G");
        FAIL();
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("GiB"), std::string::npos) << error.what();
    }
}

TEST(BytesText, ThreeDigits) {
    EXPECT_EQ(bytes_text(0), "0 B");
    EXPECT_EQ(bytes_text(999), "999 B");
    EXPECT_EQ(bytes_text(1000), "1 kB");
    EXPECT_EQ(bytes_text(1'230), "1.23 kB");
    EXPECT_EQ(bytes_text(1'200'000), "1.2 MB");
    EXPECT_EQ(bytes_text(999'999), "999 kB");
    EXPECT_EQ(bytes_text(12'345'678), "12.3 MB");
    EXPECT_EQ(bytes_text(5'000'000'000), "5 GB");
    EXPECT_EQ(bytes_text(141'107'412'992), "141 GB");
    EXPECT_EQ(bytes_text(100'000'000'000), "100 GB");
    EXPECT_EQ(bytes_text(18'446'744'073'709'551'615u), "18.4 EB");
}

TEST(BytesText, ReadsBackWithinThreeDigits) {
    for (uint64_t bytes = 1; bytes < 1'000'000'000'000'000; bytes = bytes * 7 / 3 + 1) {
        const uint64_t back = parse_bytes(bytes_text(bytes));
        EXPECT_LE(back, bytes);
        EXPECT_GE(double(back), double(bytes) * 0.99) << bytes_text(bytes);
    }
}

}  // namespace
}  // namespace amalgam
