#include "src/comm/communicator.h"

namespace amalgam {

uint64_t Communicator::all_reduce_sum(uint64_t value) {
    all_reduce_sum(std::span<uint64_t>(&value, 1));
    return value;
}

uint64_t Communicator::all_reduce_max(uint64_t value) {
    all_reduce_max(std::span<uint64_t>(&value, 1));
    return value;
}

uint64_t Communicator::all_reduce_min(uint64_t value) {
    all_reduce_min(std::span<uint64_t>(&value, 1));
    return value;
}

void Communicator::broadcast(std::string& text, int root) {
    uint64_t length = text.size();
    broadcast(std::as_writable_bytes(std::span<uint64_t>(&length, 1)), root);
    text.resize(length);
    broadcast(std::as_writable_bytes(std::span<char>(text)), root);
}

void Communicator::send(const std::string& bytes, int to, int tag) {
    send(std::as_bytes(std::span<const char>(bytes)), to, tag);
}

void Communicator::agree(const std::string& error) {
    const uint64_t none = uint64_t(size());
    const uint64_t first = all_reduce_min(error.empty() ? none : uint64_t(rank()));
    if (first == none) return;
    std::string text = error;
    broadcast(text, int(first));
    throw AgreedError(first == 0 ? text : fmt::format("rank {}: {}", first, text));
}

}  // namespace amalgam
