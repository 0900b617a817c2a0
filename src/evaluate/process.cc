#include "src/evaluate/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <span>
#include <string_view>

#include "src/base/error.h"

namespace amalgam {

namespace {

using Clock = std::chrono::steady_clock;
Clock::time_point after(double seconds) {
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}
double seconds_until(Clock::time_point time) { return std::chrono::duration<double>(time - Clock::now()).count(); }

constexpr size_t piece_bytes = size_t(64) << 10;
constexpr size_t log_bytes = size_t(64) << 10;
/// How often an end is looked for that no pipe tells of, because something in the background holds them.
constexpr double tick = 0.02;

struct Pipe {
    PipeEnd reads, writes;
};

/// Ends above standard error, so that the child's three streams can be laid over them in any order.
Pipe make_pipe() {
    int ends[2];
    check(::pipe2(ends, O_CLOEXEC) == 0, "no pipe to a program can be made: {}", errno_text(errno));
    Pipe pipe{PipeEnd(ends[0]), PipeEnd(ends[1])};
    for (PipeEnd* end : {&pipe.reads, &pipe.writes}) {
        if (end->number() > STDERR_FILENO) continue;
        const int higher = ::fcntl(end->number(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        check(higher >= 0, "no pipe to a program can be made: {}", errno_text(errno));
        *end = PipeEnd(higher);
    }
    return pipe;
}

void do_not_block(const PipeEnd& end) {
    const int flags = ::fcntl(end.number(), F_GETFL);
    check(flags >= 0 && ::fcntl(end.number(), F_SETFL, flags | O_NONBLOCK) == 0,
          "a pipe to a program cannot be set up: {}", errno_text(errno));
}

/// What a launcher of ranks tells each of them: a program that is no rank must not take itself for one.
bool is_of_launcher(std::string_view variable) {
    constexpr std::string_view prefixes[] = {
        "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "OMPI_MCA_orte_", "OMPI_MCA_ess", "OMPI_MCA_pmix", "PMIX_", "PMI_",
        "SLURM_PROCID=",    "SLURM_LOCALID="};
    return std::any_of(std::begin(prefixes), std::end(prefixes),
                       [&](std::string_view prefix) { return variable.starts_with(prefix); });
}

std::vector<std::string> make_environment(const std::vector<std::pair<std::string, std::string>>& added) {
    std::vector<std::string> variables;
    for (char** each = environ; *each; ++each) {
        const std::string_view variable = *each;
        const bool replaced = std::any_of(added.begin(), added.end(),
                                          [&](const auto& pair) { return variable.starts_with(pair.first + "="); });
        if (!replaced && !is_of_launcher(variable)) variables.emplace_back(variable);
    }
    for (const auto& [name, value] : added) variables.push_back(name + "=" + value);
    return variables;
}

/// What posix_spawn() is told, given back at the end.
struct SpawnSettings {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    explicit SpawnSettings(bool own_session) {
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        sigset_t none, pipe;
        sigemptyset(&none);
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &pipe);
        posix_spawnattr_setpgroup(&attributes, 0);
        const int group = own_session ? POSIX_SPAWN_SETSID : POSIX_SPAWN_SETPGROUP;
        posix_spawnattr_setflags(&attributes, short(group | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
    }
    SpawnSettings(const SpawnSettings&) = delete;
    SpawnSettings& operator=(const SpawnSettings&) = delete;
    ~SpawnSettings() {
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
    }

    void stream(int number, const PipeEnd* end, int mode) {
        if (end)
            posix_spawn_file_actions_adddup2(&actions, end->number(), number);
        else
            posix_spawn_file_actions_addopen(&actions, number, "/dev/null", mode, 0);
    }
};

/// A stream without a pipe is /dev/null.
pid_t spawn_shell(const std::string& command, const std::vector<std::string>& environment, const PipeEnd* input,
                  const PipeEnd* output, const PipeEnd* errors, bool own_session) {
    SpawnSettings settings(own_session);
    settings.stream(STDIN_FILENO, input, O_RDONLY);
    settings.stream(STDOUT_FILENO, output, O_WRONLY);
    settings.stream(STDERR_FILENO, errors, O_WRONLY);
    posix_spawn_file_actions_addclosefrom_np(&settings.actions, STDERR_FILENO + 1);
    std::array<std::string, 3> words = {"sh", "-c", command};
    char* arguments[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
    std::vector<char*> variables;
    for (const std::string& variable : environment) variables.push_back(const_cast<char*>(variable.c_str()));
    variables.push_back(nullptr);
    pid_t id = 0;
    const int error =
        ::posix_spawn(&id, "/bin/sh", &settings.actions, &settings.attributes, arguments, variables.data());
    check(error == 0, "{}: /bin/sh cannot be started for it: {}", printable(command, 200), errno_text(error));
    return id;
}

void wait_for(pid_t id, int& status) {
    while (::waitpid(id, &status, 0) < 0 && errno == EINTR) continue;
}

/// A program that no longer reads is an error of write(), not a signal, whatever this process does with signals.
class NoBrokenPipe {
  public:
    NoBrokenPipe() {
        sigemptyset(&pipe_);
        sigaddset(&pipe_, SIGPIPE);
        sigset_t pending;
        sigpending(&pending);
        was_pending_ = sigismember(&pending, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    }
    NoBrokenPipe(const NoBrokenPipe&) = delete;
    NoBrokenPipe& operator=(const NoBrokenPipe&) = delete;
    ~NoBrokenPipe() {
        const timespec now = {};
        if (!was_pending_)
            while (sigtimedwait(&pipe_, nullptr, &now) < 0 && errno == EINTR) continue;
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

  private:
    sigset_t pipe_, before_;
    bool was_pending_ = false;
};

void keep_end(std::string& text, size_t limit) {
    if (text.size() > 2 * limit) text.erase(0, text.size() - limit);
}

}  // namespace

PipeEnd& PipeEnd::operator=(PipeEnd&& other) noexcept {
    if (this != &other) {
        close();
        number_ = std::exchange(other.number_, -1);
    }
    return *this;
}

void PipeEnd::close() {
    if (number_ >= 0) ::close(number_);
    number_ = -1;
}

AtDeath::AtDeath(const std::string& text) {
    Pipe pipe = make_pipe();
    // A line means that all is well; its absence, that nobody is left to write one.
    id_ = spawn_shell("trap '' HUP INT TERM; read -r line && exit 0; " + text, make_environment({}), &pipe.reads,
                      nullptr, nullptr, true);
    input_ = std::move(pipe.writes);
}

AtDeath::~AtDeath() {
    {
        const NoBrokenPipe guard;
        while (::write(input_.number(), "\n", 1) < 0 && errno == EINTR) continue;
    }
    input_.close();
    int status = 0;
    wait_for(id_, status);
}

Process::Process(const ProcessOptions& options) : takes_input_(options.takes_input), grace_(options.grace) {
    start(options.command, make_environment(options.environment));
    try {
        at_death_ = std::make_unique<AtDeath>(fmt::format("kill -s KILL -- -{}", id_));
    } catch (...) {
        grace_ = 0;
        end();
        throw;
    }
}

Process::~Process() {
    grace_ = std::min(grace_, 0.2);
    end();
}

void Process::start(const std::string& command, const std::vector<std::string>& environment) {
    Pipe output = make_pipe(), errors = make_pipe(), input;
    do_not_block(output.reads);
    do_not_block(errors.reads);
    if (takes_input_) {
        input = make_pipe();
        do_not_block(input.writes);
    }
    id_ =
        spawn_shell(command, environment, takes_input_ ? &input.reads : nullptr, &output.writes, &errors.writes, false);
    output_ = std::move(output.reads);
    errors_ = std::move(errors.reads);
    input_ = std::move(input.writes);
}

void Process::feed(std::string& input) {
    const NoBrokenPipe guard;
    const ssize_t written = ::write(input_.number(), input.data(), input.size());
    if (written > 0) input.erase(0, size_t(written));
    if (written < 0 && errno != EAGAIN && errno != EINTR) input_.close();
}

/// False if there is nothing to read at the moment, or ever.
bool Process::read_piece(PipeEnd& from, std::string& to, bool into_log) {
    std::array<char, piece_bytes> piece;
    const ssize_t count = ::read(from.number(), piece.data(), piece.size());
    if (count > 0) {
        to.append(piece.data(), size_t(count));
        if (into_log) log_.append(piece.data(), size_t(count));
        keep_end(log_, log_bytes);
        return true;
    }
    if (count == 0 || (errno != EAGAIN && errno != EINTR)) from.close();
    return false;
}

void Process::step(std::string& input, std::string& output, double seconds) {
    if (ended_) return;
    std::array<pollfd, 3> files = {};
    size_t count = 0;
    const auto add = [&](const PipeEnd& end, short events) {
        if (end.is_open()) files[count++] = {end.number(), events, 0};
    };
    add(output_, POLLIN);
    add(errors_, POLLIN);
    if (!input.empty()) add(input_, POLLOUT);
    const double longest = output_.is_open() || errors_.is_open() ? tick : tick / 10;
    ::poll(files.data(), count, std::max(0, int(std::min(seconds, longest) * 1000)));
    if (has_exited()) return bury(output);
    for (const pollfd& file : std::span(files.data(), count)) {
        if (file.revents == 0) continue;
        std::string nowhere;
        if (file.fd == output_.number())
            read_piece(output_, output, !takes_input_);
        else if (file.fd == errors_.number())
            read_piece(errors_, nowhere, true);
        else
            feed(input);
    }
}

/// Without burying it: until then neither its number nor that of its group can become another's.
bool Process::has_exited() const {
    siginfo_t info = {};
    return ::waitid(P_PID, id_t(id_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == id_;
}

/// Reads what is left in the pipes, kills what is left of the group.
void Process::bury(std::string& output) {
    ::kill(-id_, SIGKILL);
    // A pipe holds a megabyte at most; something that has left the group may write for ever.
    constexpr int most_pieces = 64;
    std::string nowhere;
    for (int i = 0; i < most_pieces && output_.is_open() && read_piece(output_, output, !takes_input_); ++i) continue;
    for (int i = 0; i < most_pieces && errors_.is_open() && read_piece(errors_, nowhere, true); ++i) continue;
    input_.close();
    output_.close();
    errors_.close();
    at_death_.reset();
    wait_for(id_, status_);
    ended_ = true;
}

/// What it writes meanwhile is thrown away, so that it does not wait for a reader.
bool Process::wait_for_end(double seconds, bool for_whole_group) {
    const auto deadline = after(seconds);
    std::string none, nowhere;
    for (;;) {
        // Pipes that are still open show that the group has others in it.
        if (has_exited() && (!for_whole_group || (!output_.is_open() && !errors_.is_open()))) return true;
        const double left = seconds_until(deadline);
        if (left <= 0) return has_exited();
        std::array<pollfd, 2> files = {pollfd{output_.number(), POLLIN, 0}, pollfd{errors_.number(), POLLIN, 0}};
        const bool open = output_.is_open() || errors_.is_open();
        ::poll(files.data(), files.size(), std::max(1, int(std::min(left, open ? tick : tick / 10) * 1000)));
        if (output_.is_open()) read_piece(output_, nowhere, !takes_input_);
        if (errors_.is_open()) read_piece(errors_, nowhere, true);
        nowhere.clear();
    }
}

void Process::finish() {
    input_.close();
    if (!ended_) wait_for_end(grace_, false);
    end();
}

void Process::end() {
    if (ended_) return;
    input_.close();
    if (!has_exited()) {
        ::kill(-id_, SIGTERM);
        wait_for_end(grace_, true);
        ::kill(-id_, SIGKILL);
    }
    while (!has_exited()) wait_for_end(1, false);
    std::string nowhere;
    bury(nowhere);
}

std::string Process::failure() const {
    if (WIFSIGNALED(status_)) {
        const char* name = ::sigdescr_np(WTERMSIG(status_));
        return fmt::format("killed by signal {} ({})", WTERMSIG(status_), name ? name : "unknown");
    }
    const int code = WEXITSTATUS(status_);
    if (code == 0) return "";
    // How a shell reports a program's death by a signal.
    const char* name = code > 128 ? ::sigdescr_np(code - 128) : nullptr;
    return fmt::format("exit code {}{}", code, name ? fmt::format(" (signal {}: {})", code - 128, name) : "");
}

std::string Process::log_tail() const {
    constexpr size_t most_lines = 20, most_bytes = 2000, most_of_line = 500;
    std::string tail;
    size_t lines = 0;
    for (size_t end = log_.size(); end > 0 && lines < most_lines && tail.size() < most_bytes;) {
        const size_t newline = log_.find_last_of("\n\r", end - 1);
        const size_t begin = newline == std::string::npos ? 0 : newline + 1;
        const std::string line = printable(std::string_view(log_).substr(begin, end - begin), most_of_line);
        end = newline == std::string::npos ? 0 : newline;
        if (line.empty()) continue;
        tail.insert(0, "\n    " + line);
        ++lines;
    }
    return tail.empty() ? "" : "; its last words:" + tail;
}

}  // namespace amalgam
