#include <algorithm>
#include <chrono>
#include <csignal>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "jobs/commands.h"
#include "src/base/log.h"
#include "src/base/nearest.h"
#include "src/comm/session.h"

namespace amalgam {

const char* const program_version = AMALGAM_VERSION;
const char* const program_compiler = AMALGAM_COMPILER " (" AMALGAM_BUILD_TYPE ")";

namespace {

constexpr int done = 0, failed = 1, misused = 2;

const Command* find_command(std::string_view name) {
    for (const Command* command : all_commands)
        if (command->name == name) return command;
    return nullptr;
}

const Command& known_command(const std::string& name) {
    if (const Command* command = find_command(name)) return *command;
    std::vector<std::string_view> names = {"help"};
    for (const Command* command : all_commands) names.push_back(command->name);
    if (name.starts_with("-"))
        throw UsageError(
            fmt::format("amalgam has no option {} (options of a command stand behind it: amalgam COMMAND {})",
                        printable(name, 100), printable(name, 100)));
    throw UsageError(fmt::format("amalgam has no command \"{}\"{}", printable(name, 100), did_you_mean(name, names)));
}

int show_help(const std::vector<std::string>& words) {
    print_out(words.size() > 1 ? command_help(known_command(words[1])) : program_help(all_commands));
    return done;
}

int run(const std::vector<std::string>& words, int rank) {
    if (words.empty()) throw UsageError("which command?");
    const bool is_help = words[0] == "help" || words[0] == "--help" || words[0] == "-h";
    if (is_help || words[0] == "--version" || words[0] == "version") {
        if (rank > 0) return done;
        if (is_help) return show_help(words);
        print_out("amalgam " AMALGAM_VERSION "\nbuilt by " AMALGAM_COMPILER " (" AMALGAM_BUILD_TYPE "), CPU backend\n");
        return done;
    }
    const Command& command = known_command(words[0]);
    std::vector<std::string> rest(words.begin() + 1, words.end());
    std::replace(rest.begin(), rest.end(), std::string("-h"), std::string("--help"));
    const Arguments arguments = parse_arguments(command, rest);
    if (rank > 0 && (arguments.has("help") || !command.on_all_ranks)) return done;
    if (!arguments.has("help")) return command.run(arguments);
    print_out(command_help(command));
    return done;
}

int guarded(const std::vector<std::string>& words) {
    // Known without MPI, so that a mistake is reported once.
    const Launch launch = find_launch();
    set_log_rank(launch.rank, launch.size);
    // A launcher ends all ranks when the first one fails: rank 0, which alone speaks, must be that one.
    const auto let_rank_0_speak = [&launch] {
        if (launch.rank > 0) std::this_thread::sleep_for(std::chrono::seconds(2));
    };
    try {
        return run(words, launch.rank);
    } catch (const UsageError& error) {
        let_rank_0_speak();
        const Command* command = words.empty() ? nullptr : find_command(words[0]);
        log_error("{}", error.what());
        log_info("see: amalgam {}--help", command ? std::string(command->name) + " " : "");
        return misused;
    } catch (const std::bad_alloc&) {
        log_error("out of memory");
    } catch (const std::exception& error) {
        log_error("{}", error.what());
    }
    return failed;
}

}  // namespace
}  // namespace amalgam

int main(int count, char** arguments) {
    // Writing to a pipe that nobody reads must be an error code, not a death.
    std::signal(SIGPIPE, SIG_IGN);
    return amalgam::guarded({arguments + (count > 0), arguments + count});
}
