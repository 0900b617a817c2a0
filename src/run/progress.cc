#include "src/run/progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <thread>

#include "src/base/bytes.h"
#include "src/base/log.h"

namespace amalgam {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr auto draw_interval = std::chrono::milliseconds(100);
constexpr auto line_interval = std::chrono::seconds(5);
/// Jobs shorter than this print no line at all.
constexpr auto shortest_job = std::chrono::milliseconds(500);
/// The rate forgets with this time constant: disks and caches change their speed within a job.
constexpr double rate_memory = 10;

bool is_terminal(int descriptor) {
    const char* kind = std::getenv("TERM");
    return ::isatty(descriptor) == 1 && kind && std::string_view(kind) != "dumb";
}

int terminal_columns(int descriptor) {
    struct winsize size {};
    return ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/// In one call, so that log lines of other threads come before or after it; what the terminal does not take is dropped.
void write_text(int descriptor, std::string_view text) {
    while (::write(descriptor, text.data(), text.size()) < 0 && errno == EINTR) {
    }
}

}  // namespace

std::string duration_text(double seconds) {
    const auto whole = int64_t(std::ceil(std::clamp(seconds, 0.0, 1e9)));
    if (whole < 60) return fmt::format("{} s", whole);
    if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
    return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

std::string progress_text(const ProgressView& view) {
    const uint64_t done = view.total > 0 ? std::min(view.done, view.total) : view.done;
    std::string numbers;
    // Rounded down: 100 % means done.
    const double share = view.total > 0 ? double(done) / double(view.total) : 0;
    if (view.total > 0)
        numbers = fmt::format("{:3} %, {} of {}", int(share * 100), bytes_text(done), bytes_text(view.total));
    else
        numbers = bytes_text(done);
    if (view.rate >= 1) {
        numbers += fmt::format(", {}/s", bytes_text(uint64_t(view.rate)));
        if (view.total > done)
            numbers += fmt::format(", {} left", duration_text(double(view.total - done) / view.rate));
    }
    if (view.columns == 0) {
        const size_t first = numbers.find_first_not_of(' ');
        return fmt::format("{}: {}", view.title, numbers.substr(first));
    }
    const int room = view.columns - 1 - int(view.title.size()) - int(numbers.size()) - 4;
    std::string text = fmt::format("{} {}", view.title, numbers);
    if (room >= 8 && view.total > 0) {
        const int width = std::min(room, 40);
        const int filled = int(share * width);
        std::string bar(size_t(width), ' ');
        std::fill_n(bar.begin(), filled, '=');
        if (filled < width) bar[size_t(filled)] = '>';
        text = fmt::format("{} [{}] {}", view.title, bar, numbers);
    }
    // A line that wraps could not be drawn over.
    if (int(text.size()) >= view.columns) text.resize(size_t(std::max(view.columns - 1, 0)));
    return text;
}

struct Progress::Drawing {
    Drawing(const ProgressOptions& in_options, const std::atomic<uint64_t>& in_done)
        : options(in_options), done(in_done), terminal(is_terminal(options.descriptor)) {
        if (terminal) set_log_over_progress(true);
        thread = std::thread([this] { run(); });
    }

    ~Drawing() {
        {
            const std::lock_guard lock(mutex);
            stop = true;
        }
        wake.notify_all();
        thread.join();
        if (!terminal) return;
        set_log_over_progress(false);
        if (drawn) write_text(options.descriptor, "\r\x1b[K");
    }

    uint64_t bytes() const {
        const uint64_t own = done.load(std::memory_order_relaxed);
        return options.whole ? options.whole(own) : own;
    }

    void run() {
        std::unique_lock lock(mutex);
        Clock::time_point next_line = began + line_interval;
        while (!wake.wait_for(lock, draw_interval, [this] { return stop; })) {
            const Clock::time_point now = Clock::now();
            const uint64_t bytes_now = bytes();
            update_rate(now, bytes_now);
            if (!terminal && now < next_line) continue;
            next_line = now + line_interval;
            show(bytes_now, rate);
        }
    }

    void update_rate(Clock::time_point now, uint64_t bytes_now) {
        const double passed = Seconds(now - last_time).count();
        if (passed <= 0) return;
        const double current = bytes_now > last_bytes ? double(bytes_now - last_bytes) / passed : 0;
        // At first the plain mean since the start, later the last seconds count.
        const double weight = std::max(passed / Seconds(now - began).count(), 1 - std::exp(-passed / rate_memory));
        rate += weight * (current - rate);
        last_time = now;
        last_bytes = bytes_now;
    }

    void show(uint64_t bytes_now, double shown_rate) {
        ProgressView view{options.title, bytes_now, options.total, shown_rate, 0};
        if (!terminal) {
            log_info("{}", progress_text(view));
            return;
        }
        view.columns = terminal_columns(options.descriptor);
        write_text(options.descriptor, "\r" + progress_text(view) + "\x1b[K");
        drawn = true;
    }

    const ProgressOptions options;
    const std::atomic<uint64_t>& done;
    const bool terminal;
    const Clock::time_point began = Clock::now();
    Clock::time_point last_time = began;
    uint64_t last_bytes = 0;
    double rate = 0;
    bool drawn = false;

    std::mutex mutex;
    std::condition_variable wake;
    bool stop = false;
    std::thread thread;
};

Progress::Progress(const ProgressOptions& options) {
    if (!options.quiet) drawing_ = std::make_unique<Drawing>(options, done_);
}

Progress::~Progress() = default;

void Progress::finish() {
    if (!drawing_) return;
    const double seconds = Seconds(Clock::now() - drawing_->began).count();
    const uint64_t total = drawing_->options.total > 0 ? drawing_->options.total : drawing_->bytes();
    const bool line = !drawing_->terminal && Clock::now() - drawing_->began >= shortest_job;
    const std::string title = drawing_->options.title;
    drawing_.reset();
    if (line) log_info("{}", progress_text({title, total, total, double(total) / seconds, 0}));
}

}  // namespace amalgam
