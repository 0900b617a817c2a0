// Entry of tests on one rank. Like GoogleTest's own, but a program in which no test runs fails.
#include <gmock/gmock.h>

#include <cstdio>

int main(int count, char** arguments) {
    testing::InitGoogleMock(&count, arguments);
    const int result = RUN_ALL_TESTS();
    if (testing::UnitTest::GetInstance()->test_to_run_count() == 0 && !testing::GTEST_FLAG(list_tests)) {
        std::fprintf(stderr, "no test ran\n");
        return 1;
    }
    return result;
}
