// Where the bytes of an output go.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace amalgam {

/// Places are those of an OutputLayout. Any thread may call any member.
class OutputSink {
  public:
    virtual ~OutputSink() = default;
    /// Each byte once. Throws Error.
    virtual void write(int file, uint64_t at, std::span<const std::byte> bytes) = 0;
    /// What former starts left there. Throws Error if it is short.
    virtual void read(int file, uint64_t at, std::span<std::byte> bytes) = 0;
};

}  // namespace amalgam
