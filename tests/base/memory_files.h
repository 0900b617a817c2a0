// Files and environment variables that exist in a test only.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/base/files.h"

namespace amalgam {

/// Paths are compared as text; a folder exists if a file lies in it.
class MemoryFiles : public Files {
  public:
    std::map<std::string, std::string> contents;
    std::map<std::string, std::string> variables;

    FileStatus status(const std::string& path) override {
        if (const auto found = contents.find(path); found != contents.end())
            return {FileKind::file, found->second.size()};
        return {names_in(path).empty() ? FileKind::missing : FileKind::folder, 0};
    }
    std::string read(const std::string& path, uint64_t first, uint64_t count) override {
        const auto found = contents.find(path);
        check(found != contents.end() && first + count <= found->second.size(), "{}: cannot be read", path);
        return found->second.substr(first, count);
    }
    std::vector<std::string> list(const std::string& path) override {
        const std::set<std::string> names = names_in(path);
        return {names.begin(), names.end()};
    }
    std::optional<std::string> environment(const std::string& name) override {
        const auto found = variables.find(name);
        if (found == variables.end()) return std::nullopt;
        return found->second;
    }

  private:
    std::set<std::string> names_in(const std::string& folder) const {
        const std::string prefix = folder.ends_with('/') ? folder : folder + "/";
        std::set<std::string> names;
        for (const auto& [path, text] : contents)
            if (path.starts_with(prefix))
                names.insert(path.substr(prefix.size(), path.find('/', prefix.size()) - prefix.size()));
        return names;
    }
};

}  // namespace amalgam
