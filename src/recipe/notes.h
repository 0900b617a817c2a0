// Warnings about tensors: the first few of a kind in full, then their number.
#pragma once
#include <fmt/core.h>

#include <map>
#include <string>
#include <vector>

namespace amalgam {

class Notes {
  public:
    /// `kind` completes "and 12 more tensors ...".
    void add(const std::string& kind, std::string text) {
        if (++counts_[kind] <= shown) texts_.push_back(std::move(text));
    }

    std::vector<std::string> texts() const {
        std::vector<std::string> all = texts_;
        for (const auto& [kind, count] : counts_)
            if (count > shown) all.push_back(fmt::format("and {} more tensors {}", count - shown, kind));
        return all;
    }

  private:
    static constexpr int shown = 8;
    std::map<std::string, int> counts_;
    std::vector<std::string> texts_;
};

}  // namespace amalgam
