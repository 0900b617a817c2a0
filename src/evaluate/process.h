// A program of the user's that runs beside this one, with everything it starts.
#pragma once
#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace amalgam {

/// One end of a pipe, or nothing.
class PipeEnd {
  public:
    PipeEnd() = default;
    explicit PipeEnd(int number) : number_(number) {}
    PipeEnd(PipeEnd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    PipeEnd& operator=(PipeEnd&& other) noexcept;
    ~PipeEnd() { close(); }

    int number() const { return number_; }
    bool is_open() const { return number_ >= 0; }
    void close();

  private:
    int number_ = -1;
};

/// Runs a text of the shell if this process dies, whatever it dies of, before the object is gone; never otherwise. The shell
/// is out of reach of the terminal's signals.
class AtDeath {
  public:
    /// Throws Error if no shell can be started.
    explicit AtDeath(const std::string& text);
    ~AtDeath();
    AtDeath(const AtDeath&) = delete;
    AtDeath& operator=(const AtDeath&) = delete;

  private:
    PipeEnd input_;
    pid_t id_ = 0;
};

struct ProcessOptions {
    std::string command;                                           ///< for /bin/sh
    std::vector<std::pair<std::string, std::string>> environment;  ///< added to this process's own, without MPI's
    /// A worker: it takes input, its log is what it writes on standard error. Else its input is empty, and the log has
    /// standard output as well.
    bool takes_input = false;
    double grace = 5;  ///< seconds to end by itself before it is killed
};

/// In a process group of its own, which is gone when the object is, and when this process dies. It inherits no open file.
/// One thread at a time.
class Process {
  public:
    /// Throws Error if it cannot be started.
    explicit Process(const ProcessOptions& options);
    /// Ends it at once.
    ~Process();
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    /// Passes on of `input` what the program takes, and removes it there; appends to `output` a piece of what it wrote on
    /// standard output. Waits for at most `seconds` for any of this, or the program's end.
    void step(std::string& input, std::string& output, double seconds);

    /// False once it has ended by itself and step() has read what it wrote.
    bool running() const { return !ended_; }

    /// Closes its input and gives it its grace to end by itself, then ends it.
    void finish();
    /// Asks the whole group to end (TERM), and kills what is left of it after the grace. Nothing to do if it has ended.
    void end();

    /// How it ended: "" after exit code 0, else "exit code 3" or "killed by signal 9 (Killed)". Only when not running.
    std::string failure() const;

    /// Its last lines, safe to show, indented, as the end of a message; "" if it wrote none.
    std::string log_tail() const;

  private:
    void start(const std::string& command, const std::vector<std::string>& environment);
    void feed(std::string& input);
    bool read_piece(PipeEnd& from, std::string& to, bool into_log);
    bool wait_for_end(double seconds, bool for_whole_group);
    bool has_exited() const;
    void bury(std::string& output);

    bool takes_input_;
    double grace_;
    pid_t id_ = 0;  ///< of its group as well
    PipeEnd input_, output_, errors_;
    std::unique_ptr<AtDeath> at_death_;
    bool ended_ = false;
    int status_ = 0;
    std::string log_;
};

}  // namespace amalgam
