// Small helpers of the tests of output folders.
#pragma once
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>

#include "src/base/error.h"

namespace amalgam {

inline std::string error_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

inline std::string contents_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

/// Relative path -> contents of all below a folder; folders are "folder", links "-> where".
inline std::map<std::string, std::string> tree_of(const std::string& folder) {
    namespace fs = std::filesystem;
    std::map<std::string, std::string> tree;
    if (!fs::exists(fs::symlink_status(folder))) return tree;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        const std::string name = fs::relative(entry.path().parent_path(), folder) / entry.path().filename();
        const std::string key = name.starts_with("./") ? name.substr(2) : name;
        tree[key] = entry.is_symlink()     ? "-> " + fs::read_symlink(entry.path()).string()
                    : entry.is_directory() ? "folder"
                                           : contents_of(entry.path());
    }
    return tree;
}

}  // namespace amalgam
