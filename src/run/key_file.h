// The files by which an output folder is known as ours, and the names of all we put there.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

constexpr const char* building_key_name = "amalgam.key";    ///< while the output is built, and until all is tidied up
constexpr const char* published_key_name = ".amalgam.key";  ///< of a finished output
constexpr const char* lock_name = "lock";
constexpr const char* replaced_name = ".amalgam.replaced";  ///< where an old output was moved to

struct KeyFile {
    struct File {
        uint64_t bytes = 0;
        std::string name;
    };
    std::string key;
    std::vector<File> files;  ///< of a finished output; names without control characters
};

/// Nothing if there is no such file; an empty key if it cannot be read as one. Throws Error if it cannot be read at all.
std::optional<KeyFile> read_key_file(const std::string& folder, const char* name);

/// At once, or not at all; with `last` synced. Throws Error.
void write_key_file(const std::string& folder, const char* name, const KeyFile& contents, bool last);

/// The files of a folder that become the result, with their sizes.
std::vector<KeyFile::File> list_results(const std::string& folder);

/// Key, lock, journal: what is gone in a finished output.
bool is_working_name(std::string_view name);
/// Weights, index, config.json, tokenizer, card, recipe.
bool is_result_name(std::string_view name);

}  // namespace amalgam
