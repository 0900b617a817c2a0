// Programs of users, good and bad.
#include "src/evaluate/external.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "src/base/error.h"
#include "src/base/shell_word.h"
#include "src/evaluate/process.h"
#include "src/evaluate/scratch.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

template <class Body>
std::string error_of(const Body& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

class Stopwatch {
  public:
    double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Running; a process that only waits to be buried does not count.
bool alive(pid_t id) {
    std::ifstream file("/proc/" + std::to_string(id) + "/stat");
    std::string text;
    if (!std::getline(file, text)) return false;
    return text.substr(text.rfind(')') + 2, 1) != "Z";
}

bool gone_soon(pid_t id) {
    for (int i = 0; i < 200 && alive(id); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return !alive(id);
}

size_t open_files() {
    size_t count = 0;
    for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
    return count;
}

/// A folder of its own; afterwards there is no child and no open file that was not there before.
class External : public testing::Test {
  protected:
    void SetUp() override {
        std::string path = std::filesystem::temp_directory_path() / "external-test-XXXXXX";
        ASSERT_NE(::mkdtemp(path.data()), nullptr);
        folder_ = path;
        files_ = open_files();
    }
    void TearDown() override {
        EXPECT_EQ(open_files(), files_);
        EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
        EXPECT_EQ(errno, ECHILD);
        std::filesystem::remove_all(folder_);
    }

    std::string place(const std::string& name) const { return folder_ / name; }
    std::string text_of(const std::string& name) const {
        std::ifstream file(place(name));
        return {std::istreambuf_iterator<char>(file), {}};
    }

    static ExternalOptions command(const std::string& text, double timeout = 60) {
        ExternalOptions options;
        options.command = text;
        options.timeout = timeout;
        options.grace = 0.3;
        return options;
    }
    static ExternalScore run(const std::string& text, const std::string& model = "/model") {
        return run_command(command(text), {model, "", {}});
    }
    static std::string failure(const std::string& text, double timeout = 60) {
        return error_of([&] { run_command(command(text, timeout), {"/model", "", {}}); });
    }

    ExternalOptions worker(double timeout = 60) const {
        const std::string program = AMALGAM_SOURCE_DIR "/tests/evaluate/worker_program.py";
        return command("exec /usr/bin/env python3 " + shell_word(program) + " " + shell_word(place("starts")), timeout);
    }
    ExternalScore ask(Worker& program, const std::string& what) const { return program.score({place(what), "", {}}); }
    std::string complaint(Worker& program, const std::string& what) const {
        return error_of([&] { ask(program, what); });
    }

    std::filesystem::path folder_;
    size_t files_ = 0;
};

TEST(FindScore, takes_a_key_points_or_a_pointer) {
    EXPECT_EQ(find_score(R"({"score": 0.5})", "score").score, 0.5);
    EXPECT_EQ(find_score(R"({"score": 3})", "/score").score, 3);
    const std::string_view harness =
        R"({"results": {"gsm8k": {"exact_match,strict-match": 0.25, "alias": "gsm8k"}, "a.b/c~d": {"acc,none": -1e-3}}})";
    EXPECT_EQ(find_score(harness, "results.gsm8k.exact_match,strict-match").score, 0.25);
    EXPECT_EQ(find_score(harness, "/results/gsm8k/exact_match,strict-match").score, 0.25);
    EXPECT_EQ(find_score(harness, "/results/a.b~1c~0d/acc,none").score, -1e-3);
    EXPECT_EQ(find_score(R"({"a": [{"b": 1}, {"b": 2}]})", "a.1.b").score, 2);
    EXPECT_EQ(find_score(R"({"": {"": 7}})", "//").score, 7);
}

TEST(FindScore, finds_the_answer_among_other_output) {
    EXPECT_EQ(find_score("loading\n{\"score\": 1}\n{\"score\": 2}\nbye\n", "score").score, 2);
    EXPECT_EQ(find_score("loading\n{\"score\": 1}\n{broken\n", "score").score, 1);
    EXPECT_EQ(find_score("\n{\n  \"a\": [\n    {}\n  ],\n  \"score\": 3\n}\n", "score").score, 3);
    EXPECT_EQ(find_score("loading {\n{\n  \"score\": 4\n}\n", "score").score, 4);
    EXPECT_EQ(find_score("{\"score\": 1}\r\n", "score").score, 1);
    // A list in a text of several lines whose last element is an object is no answer.
    EXPECT_EQ(find_score("{\n\"score\": 5, \"a\": [\n{\"score\": 1}\n]}", "score").score, 5);
}

TEST(FindScore, reads_items) {
    EXPECT_THAT(find_score(R"({"score": 1, "items": [1, 0.5, {"score": 0, "text": "x"}]})", "score").items,
                ElementsAre(1, 0.5, 0));
    EXPECT_THAT(find_score(R"({"score": 1})", "score").items, IsEmpty());
    const auto wrong = [](const char* text) { return error_of([&] { find_score(text, "score"); }); };
    EXPECT_THAT(wrong(R"({"score": 1, "items": 3})"), HasSubstr("no list"));
    EXPECT_THAT(wrong(R"({"score": 1, "items": [1, "a"]})"), HasSubstr("item 1 is \"a\""));
    EXPECT_THAT(wrong(R"({"score": 1, "items": [{"scores": 1}]})"), HasSubstr("item 0 has no \"score\""));
}

TEST(FindScore, says_what_is_wrong) {
    const auto wrong = [](std::string_view text, const std::string& at = "score") {
        return error_of([&] { find_score(text, at); });
    };
    EXPECT_THAT(wrong(""), HasSubstr("no JSON object"));
    EXPECT_THAT(wrong("0.5"), HasSubstr("no JSON object"));
    EXPECT_THAT(wrong("[1]"), HasSubstr("no JSON object"));
    EXPECT_THAT(wrong("{\"score\": 1"), HasSubstr("no valid JSON object"));
    EXPECT_THAT(wrong("{\"score\": \xff}"), HasSubstr("no valid JSON object"));
    EXPECT_THAT(wrong(R"({"scores": 1})"), HasSubstr("no score of score (did you mean \"scores\"?)"));
    EXPECT_THAT(wrong(R"({"results": {"x": 1}})", "results.gsm8k"), HasSubstr("valid: x"));
    EXPECT_THAT(wrong(R"({"score": {"a": 1}})", "score"), HasSubstr("not a number"));
    EXPECT_THAT(wrong(R"({"score": 1})", "score.a"), HasSubstr("nothing to look for a in"));
    EXPECT_THAT(wrong(R"({"score": [1]})", "score.1"), HasSubstr("no element 1 in a list of 1"));
    EXPECT_THAT(wrong(R"({"score": [1]})", "score.-1"), HasSubstr("no element -1"));
    EXPECT_THAT(wrong(R"({"score": "0.5"})"), HasSubstr("\"0.5\", not a number"));
    EXPECT_THAT(wrong(R"({"score": true})"), HasSubstr("not a number"));
    EXPECT_THAT(wrong(R"({"score": null})"), HasSubstr("null or NaN"));
    EXPECT_THAT(wrong(R"({"score": NaN})"), HasSubstr("null or NaN"));
    EXPECT_THAT(wrong(R"({"score": -Infinity})"), HasSubstr("null or NaN"));
    EXPECT_THAT(wrong(R"({"score": 1e999})"), HasSubstr("no valid JSON"));
    EXPECT_THAT(wrong(R"({"score": 1})", ""), HasSubstr("is empty"));
    EXPECT_THAT(wrong(R"({"score": 1})", "/a~2"), HasSubstr("~"));
    EXPECT_THAT(wrong("{\"score\": " + std::string(1000000, '[')), HasSubstr("no valid JSON object"));
}

TEST(FindScore, reads_what_python_calls_json) {
    EXPECT_EQ(find_score(R"({"score": 1, "stderr": NaN, "most": Infinity, "text": "NaN \"NaN"})", "score").score, 1);
}

TEST(FillIn, quotes_paths) {
    EXPECT_EQ(fill_in("a {model} b={model},c {other}", "/x/y-1"), "a /x/y-1 b=/x/y-1,c {other}");
    EXPECT_EQ(fill_in("a {model}", "/it's $HOME"), R"(a '/it'\''s $HOME')");
    EXPECT_EQ(fill_in("no mark", "/x"), "no mark");
}

TEST_F(External, command_is_told_the_model_and_gives_a_score) {
    const std::string odd = "/tmp/a b'c\"$(touch x)\n";
    EXPECT_EQ(run(R"(test {model} = "$AMALGAM_MODEL" && echo '{"score": 0.5}')", odd).score, 0.5);
    EXPECT_EQ(
        run("/usr/bin/env python3 -c 'import json, sys; print(json.dumps({\"score\": len(sys.argv[1])}))' {model}", odd)
            .score,
        double(odd.size()));
    ExternalOptions options = command("printf '{\\n \"results\": {\"t.x\": {\"acc,none\": 0.25}}\\n}\\n'");
    options.score_at = "/results/t.x/acc,none";
    EXPECT_EQ(run_command(options, {"/model", "", {}}).score, 0.25);
}

TEST_F(External, command_has_no_input_no_files_of_ours_and_default_signals) {
    EXPECT_EQ(run("cat; echo '{\"score\": 1}'").score, 1);
    // 0, 1, 2 and the folder that ls reads.
    EXPECT_EQ(run("echo \"{\\\"score\\\": $(ls /proc/self/fd | wc -l)}\"").score, 4);
    ASSERT_EQ(::setenv("OMPI_COMM_WORLD_SIZE", "4", 1), 0);
    EXPECT_EQ(run("echo \"{\\\"score\\\": ${OMPI_COMM_WORLD_SIZE:-0}}\"").score, 0);
    ::unsetenv("OMPI_COMM_WORLD_SIZE");
    const auto before = std::signal(SIGPIPE, SIG_IGN);
    // With SIGPIPE ignored, yes would complain and fail instead of dying silently.
    EXPECT_EQ(run("yes 2>&1 | head -c 2 >/dev/null; grep -q 'SigIgn:.*[13579bdf]...$' /proc/self/status; "
                  "echo \"{\\\"score\\\": $?}\"")
                  .score,
              1);
    std::signal(SIGPIPE, before);
}

TEST_F(External, command_that_fails_says_so_with_the_end_of_its_log) {
    EXPECT_THAT(failure("echo one; echo two >&2; exit 3"),
                AllOf(HasSubstr("exit code 3"), HasSubstr("\n    one"), HasSubstr("\n    two")));
    EXPECT_THAT(failure("echo '{\"score\": 1}'; exit 1"), HasSubstr("exit code 1"));
    EXPECT_THAT(failure("kill -KILL $$"), HasSubstr("signal 9 (Killed)"));
    EXPECT_THAT(failure("sh -c 'kill -SEGV $$'; exit $?"), HasSubstr("exit code 139 (signal 11: Segmentation fault)"));
    EXPECT_THAT(failure("no-such-program-of-ours"), AllOf(HasSubstr("exit code 127"), HasSubstr("not found")));
    EXPECT_THAT(failure("echo fine"), AllOf(HasSubstr("no JSON object"), EndsWith("\n    fine")));
    EXPECT_THAT(failure("printf 'a\\377\\033[1m\\n'; exit 1"), EndsWith("\n    a\\xff\\x1b[1m"));
    EXPECT_THAT(failure("seq 1000; exit 1"), AllOf(Not(HasSubstr("\n    980\n")), EndsWith("\n    1000")));
}

TEST_F(External, command_out_of_time_is_ended_with_all_it_started) {
    const Stopwatch watch;
    // Neither TERM nor a shell in between saves it; nor does the end of the shell save what is in the background.
    const std::string stubborn =
        fmt::format("trap '' TERM; sleep 1000 & echo $! > {}; echo started; wait; sleep 1000", place("ids"));
    EXPECT_THAT(failure(stubborn, 0.4), AllOf(HasSubstr("longer than 0.4 s"), EndsWith("\n    started")));
    EXPECT_TRUE(gone_soon(std::stoi(text_of("ids"))));
    EXPECT_THAT(failure("sleep 1000", 0.2), HasSubstr("longer than 0.2 s"));
    EXPECT_LT(watch.seconds(), 30);
    // One that cleans up within its grace.
    failure(fmt::format("trap 'echo clean > {}; exit' TERM; sleep 1000 & wait", place("clean")), 0.4);
    EXPECT_EQ(text_of("clean"), "clean\n");
}

TEST_F(External, command_that_ends_takes_the_background_along) {
    const Stopwatch watch;
    EXPECT_EQ(run(fmt::format("sleep 1000 & echo $! > {}; echo '{{\"score\": 1}}'", place("ids"))).score, 1);
    EXPECT_TRUE(gone_soon(std::stoi(text_of("ids"))));
    EXPECT_LT(watch.seconds(), 30);
}

TEST_F(External, chatty_command_costs_no_memory) {
    // 64 MiB on each stream; the answer at the end counts.
    const std::string noise = "head -c 67108864 /dev/zero";
    EXPECT_EQ(run(noise + " | tr '\\0' '\\n'; " + noise + " >&2; echo; echo '{\"score\": 0.5}'").score, 0.5);
    std::ifstream file("/proc/self/status");
    std::string word;
    while (file >> word && word != "VmRSS:") continue;
    int64_t kilobytes = 0;
    ASSERT_TRUE(file >> kilobytes);
    EXPECT_LT(kilobytes, 400000);
    EXPECT_THAT(failure(noise + "; exit 1").size(), testing::Lt(4000u));
}

TEST_F(External, worker_scores_one_after_the_other) {
    {
        Worker program(worker());
        EXPECT_EQ(program.starts(), 0);
        for (int i = 1; i < 4; ++i) EXPECT_EQ(ask(program, "count").score, i);
        const ExternalScore score = program.score({place("echo"), "ties.toml", {"a=1", "b=\"\xff\""}});
        EXPECT_EQ(score.score, 2);
        EXPECT_THAT(score.items, ElementsAre(1, 0.25));
        EXPECT_EQ(ask(program, "pieces").score, 0.75);
        EXPECT_EQ(ask(program, "blank").score, 0.5);
        EXPECT_EQ(ask(program, "chatty").score, 0.5);
        EXPECT_EQ(program.starts(), 1);
    }
    EXPECT_TRUE(gone_soon(std::stoi(text_of("starts"))));
}

TEST_F(External, worker_that_says_no_goes_on) {
    Worker program(worker());
    EXPECT_EQ(complaint(program, "error"), "the worker says: this model babbles");
    EXPECT_EQ(ask(program, "count").score, 2);
    EXPECT_EQ(program.starts(), 1);
}

TEST_F(External, worker_that_dies_is_given_one_more_chance) {
    Worker program(worker());
    EXPECT_EQ(ask(program, "dies_once").score, 1);
    EXPECT_EQ(program.starts(), 2);
    EXPECT_THAT(complaint(program, "dies"), AllOf(HasSubstr("exit code 7"), HasSubstr("no memory left")));
    EXPECT_EQ(program.starts(), 3);
    EXPECT_THAT(complaint(program, "killed"), HasSubstr("signal 9"));
    EXPECT_EQ(program.starts(), 5);
    EXPECT_EQ(ask(program, "last").score, 0.5);
    EXPECT_EQ(ask(program, "count").score, 1);
    EXPECT_EQ(program.starts(), 7);
}

TEST_F(External, worker_that_talks_nonsense_is_replaced) {
    Worker program(worker());
    EXPECT_THAT(complaint(program, "rubbish"), AllOf(HasSubstr("no answer, loading"), HasSubstr("asked for rubbish")));
    EXPECT_THAT(complaint(program, "bytes"), HasSubstr("no answer"));
    EXPECT_THAT(complaint(program, "other"), HasSubstr("the \"id\" should be 3"));
    EXPECT_THAT(complaint(program, "nan"), HasSubstr("null or NaN"));
    EXPECT_THAT(complaint(program, "long"), HasSubstr("a line of more than"));
    EXPECT_EQ(program.starts(), 5);
    EXPECT_EQ(ask(program, "count").score, 1);
}

TEST_F(External, worker_out_of_time_is_ended_with_all_it_started) {
    Worker program(worker(3));
    EXPECT_THAT(complaint(program, "stubborn"), AllOf(HasSubstr("within 3 s"), HasSubstr("asked for stubborn")));
    std::istringstream ids(text_of("stubborn"));
    pid_t own = 0, child = 0;
    ASSERT_TRUE(ids >> own >> child);
    EXPECT_TRUE(gone_soon(own) && gone_soon(child));
    EXPECT_EQ(ask(program, "count").score, 1);
}

TEST_F(External, worker_that_cannot_start_or_does_not_end) {
    {
        Worker program(command("no-such-program-of-ours"));
        EXPECT_THAT(complaint(program, "count"), AllOf(HasSubstr("exit code 127"), HasSubstr("not found")));
    }
    const Stopwatch watch;
    {
        Worker program(command("read -r line; echo '{\"id\": 1, \"score\": 1}'; trap '' TERM; sleep 1000; sleep 1000"));
        EXPECT_EQ(ask(program, "count").score, 1);
    }
    EXPECT_LT(watch.seconds(), 30);
    // One that takes no more input, with a line that no pipe holds.
    Worker program(command("exec 0<&-; sleep 0.2"));
    EXPECT_THAT(error_of([&] { program.score({std::string(1 << 20, 'x'), "", {}}); }), HasSubstr("without an answer"));
}

TEST_F(External, everything_is_gone_when_this_process_dies) {
    std::string scratch;
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const ScratchFolder made(folder_);
        std::ofstream(made.path() + "/file") << "content";
        ProcessOptions options;
        options.command = "sleep 1000 & echo $!; wait";
        Process process(options);
        std::string none, output;
        while (output.find('\n') == std::string::npos) process.step(none, output, 10);
        output += made.path();
        if (::write(ends[1], output.data(), output.size()) < 0) ::_exit(1);
        ::raise(SIGKILL);
    }
    ::close(ends[1]);
    std::string told(1000, '\0');
    int status = 0;
    ::waitpid(child, &status, 0);
    told.resize(size_t(std::max<ssize_t>(0, ::read(ends[0], told.data(), told.size()))));
    ::close(ends[0]);
    const pid_t sleeper = std::stoi(told);
    const std::string path = told.substr(told.find('\n') + 1);
    EXPECT_THAT(path, HasSubstr("/amalgam-"));
    EXPECT_TRUE(gone_soon(sleeper));
    for (int i = 0; i < 200 && std::filesystem::exists(path); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(External, scratch_folders_are_new_and_removed) {
    std::string path;
    {
        const ScratchFolder one(folder_), other(folder_);
        EXPECT_NE(one.path(), other.path());
        EXPECT_TRUE(std::filesystem::path(one.path()).is_absolute());
        EXPECT_EQ(std::filesystem::status(one.path()).permissions(), std::filesystem::perms::owner_all);
        path = one.path();
        std::filesystem::create_directories(path + "/model.partial/x");
    }
    EXPECT_TRUE(std::filesystem::is_empty(folder_));
    EXPECT_THAT(error_of([&] { ScratchFolder(place("missing")); }), HasSubstr("no folder can be made"));
}

TEST_F(External, scratch_place_has_room) {
    constexpr uint64_t gigabyte = 1'000'000'000, much = uint64_t(1) << 60;
    EXPECT_EQ(scratch_place(folder_, 1, gigabyte), folder_);
    EXPECT_THAT(error_of([&] { scratch_place(folder_, much, gigabyte); }),
                AllOf(HasSubstr("takes 1.15 EB"), HasSubstr("has room for"), HasSubstr("another folder")));
    EXPECT_THAT(error_of([&] { scratch_place(place("missing"), 1, gigabyte); }), HasSubstr("No such file"));
    EXPECT_THAT(error_of([&] { scratch_place("/proc/self/status", 1, gigabyte); }), HasSubstr("cannot be used"));
    ::setenv("TMPDIR", folder_.c_str(), 1);
    // Memory that is not free is no room.
    EXPECT_EQ(scratch_place("", 2000, 1000), folder_);
    EXPECT_THAT(error_of([&] { scratch_place("", much, gigabyte); }), AllOf(HasSubstr("/dev/shm"), HasSubstr(folder_)));
    ::unsetenv("TMPDIR");
}

}  // namespace
}  // namespace amalgam
