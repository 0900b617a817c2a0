// A file system that holds the input of a fuzzer.
#pragma once
#include <string>

#include "src/base/error.h"
#include "src/base/files.h"

namespace amalgam {

class OneFile : public Files {
  public:
    explicit OneFile(std::string contents) : contents_(std::move(contents)) {}
    FileStatus status(const std::string&) override { return {FileKind::file, contents_.size()}; }
    std::string read(const std::string&, uint64_t first, uint64_t count) override {
        check(first <= contents_.size() && count <= contents_.size() - first, "file: too short");
        return contents_.substr(first, count);
    }
    std::vector<std::string> list(const std::string&) override { return {}; }
    std::optional<std::string> environment(const std::string&) override { return std::nullopt; }

  private:
    std::string contents_;
};

}  // namespace amalgam
