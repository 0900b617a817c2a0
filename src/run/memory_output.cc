#include "src/run/memory_output.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "src/base/error.h"

namespace amalgam {

namespace {

/// Past the caches: plain stores would first read every line they overwrite.
void copy_past_caches(std::byte* to, const std::byte* from, size_t bytes) {
#if defined(__x86_64__)
    size_t head = (16 - reinterpret_cast<uintptr_t>(to) % 16) % 16;
    head = head < bytes ? head : bytes;
    std::memcpy(to, from, head);
    size_t at = head;
    for (; at + 16 <= bytes; at += 16)
        _mm_stream_si128(reinterpret_cast<__m128i*>(to + at),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)));
    std::memcpy(to + at, from + at, bytes - at);
    _mm_sfence();
#else
    std::memcpy(to, from, bytes);
#endif
}

}  // namespace

MemoryOutput::MemoryOutput(const OutputLayout& layout) {
    for (const OutputLayout::File& file : layout.files) {
        void* memory = mmap(nullptr, file.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(memory != MAP_FAILED, "no memory for {} bytes of output ({})", file.bytes, errno_text(errno));
        files_.push_back({static_cast<std::byte*>(memory), file.bytes});
        madvise(memory, file.bytes, MADV_HUGEPAGE);
        std::memset(memory, 0, file.bytes);  // the kernel's zeroing of fresh pages is no part of a merge
    }
}

MemoryOutput::~MemoryOutput() {
    for (const Region& file : files_) munmap(file.begin, file.bytes);
}

void MemoryOutput::write(int file, uint64_t at, std::span<const std::byte> bytes) {
    copy_past_caches(files_[size_t(file)].begin + at, bytes.data(), bytes.size());
}

void MemoryOutput::read(int file, uint64_t at, std::span<std::byte> bytes) {
    std::memcpy(bytes.data(), files_[size_t(file)].begin + at, bytes.size());
}

}  // namespace amalgam
