// Every command of the program, one file each.
#pragma once
#include <array>

#include "jobs/command_line.h"

namespace amalgam {

extern const Command merge_command;
extern const Command evaluate_command;
extern const Command evolve_command;
extern const Command report_command;
extern const Command watch_command;
extern const Command inspect_command;
extern const Command plan_command;
extern const Command methods_command;
extern const Command convert_recipe_command;
extern const Command synthesize_command;
extern const Command doctor_command;

/// What this program is, with the commit it was built from if that is known, and what made it.
extern const char* const program_version;
extern const char* const program_compiler;

inline constexpr std::array all_commands = {
    &merge_command, &evaluate_command, &evolve_command,         &report_command,     &watch_command, &inspect_command,
    &plan_command,  &methods_command,  &convert_recipe_command, &synthesize_command, &doctor_command};

}  // namespace amalgam
