// An output that stays in memory: for measuring a merge without a disk.
#pragma once
#include <memory>
#include <vector>

#include "src/checkpoint/layout.h"
#include "src/run/output_sink.h"

namespace amalgam {

/// Anonymous memory of the layout's size.
class MemoryOutput final : public OutputSink {
  public:
    explicit MemoryOutput(const OutputLayout& layout);
    ~MemoryOutput() override;
    MemoryOutput(const MemoryOutput&) = delete;
    MemoryOutput& operator=(const MemoryOutput&) = delete;

    void write(int file, uint64_t at, std::span<const std::byte> bytes) override;
    void read(int file, uint64_t at, std::span<std::byte> bytes) override;

  private:
    struct Region {
        std::byte* begin;
        uint64_t bytes;
    };
    std::vector<Region> files_;
};

}  // namespace amalgam
