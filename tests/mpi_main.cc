// Entry of tests on several ranks: failures of every rank are printed in the order of ranks, and one rank that fails
// fails the program on all.
#include "tests/mpi_main.h"

#include <gmock/gmock.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>

#include "src/comm/session.h"

namespace {

amalgam::Communicator* world = nullptr;

/// Keeps the failures of this rank until the end of a test, then has rank 0 print those of all ranks.
class FailuresByRank : public testing::EmptyTestEventListener {
  public:
    void OnTestStart(const testing::TestInfo& test) override {
        if (world->rank() == 0) std::printf("[ RUN      ] %s.%s\n", test.test_suite_name(), test.name());
        std::fflush(stdout);
    }
    void OnTestPartResult(const testing::TestPartResult& part) override {
        if (part.type() == testing::TestPartResult::kSuccess) return;
        if (part.skipped()) {
            if (world->rank() == 0) std::printf("[  SKIPPED ] %s\n", part.message());
            return;
        }
        text_ += std::string(part.file_name() ? part.file_name() : "unknown file") + ":" +
                 std::to_string(part.line_number()) + ": " + part.message() + "\n";
    }
    void OnTestEnd(const testing::TestInfo& test) override {
        const std::vector<std::string> texts = world->gather(text_, 0);
        text_.clear();
        bool failed = false;
        for (size_t rank = 0; rank < texts.size(); ++rank) {
            if (texts[rank].empty()) continue;
            failed = true;
            std::printf("rank %zu: %s", rank, texts[rank].c_str());
        }
        if (world->rank() == 0)
            std::printf("%s %s.%s\n", failed ? "[  FAILED  ]" : "[       OK ]", test.test_suite_name(), test.name());
        std::fflush(stdout);
    }
    void OnTestProgramEnd(const testing::UnitTest& tests) override {
        if (world->rank() == 0) std::printf("%d tests on %d ranks\n", tests.test_to_run_count(), world->size());
    }

  private:
    std::string text_;
};

}  // namespace

amalgam::Communicator& amalgam::test_communicator() { return *world; }

int main(int count, char** arguments) {
    testing::InitGoogleMock(&count, arguments);
    amalgam::Session session;
    world = &session.world();
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(std::make_unique<FailuresByRank>().release());

    uint64_t failures[1] = {RUN_ALL_TESTS() == 0 ? uint64_t{0} : uint64_t{1}};
    world->all_reduce_sum(std::span<uint64_t>(failures));
    if (testing::UnitTest::GetInstance()->test_to_run_count() == 0) {
        std::fprintf(stderr, "no test ran\n");
        return 1;
    }
    return failures[0] == 0 ? 0 : 1;
}
