#include "src/run/fingerprint.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "src/base/error.h"
#include "src/run/descriptor.h"

namespace amalgam {
namespace {

constexpr uint64_t sample_bytes = 4096;

/// Of page `index` of `count` samples, in a file of `pages` pages. Products of large sizes need more than 64 bits.
uint64_t sample_begin(uint64_t index, uint64_t count, uint64_t pages) {
    if (count < 2) return 0;
    __extension__ using Wide = unsigned __int128;
    return uint64_t(Wide{index} * (pages - 1) / (count - 1)) * sample_bytes;
}

void read_exactly(int file, const std::string& path, uint64_t at, std::span<char> buffer) {
    for (size_t done = 0; done < buffer.size();) {
        const ssize_t step = ::pread(file, buffer.data() + done, buffer.size() - done, off_t(at + done));
        if (step < 0 && errno == EINTR) continue;
        if (step < 0) fail("{}: cannot be read at byte {} ({})", printable(path), at + done, errno_text(errno));
        check(step > 0, "{}: ends at byte {}: another program changes it", printable(path), at + done);
        done += size_t(step);
    }
}

}  // namespace

std::string Fingerprint::text() const { return fmt::format("{:016x}-{:016x}-{:016x}", bytes, header, sample); }

Fingerprint fingerprint(const std::string& path, uint64_t header_hash, int64_t pages) {
    check(pages > 0, "a fingerprint of {} pages: this is a bug of amalgam", pages);
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) fail("{}: cannot be opened ({})", printable(path), errno_text(errno));
    struct stat status {};
    if (::fstat(file.number(), &status) != 0) fail("{}: cannot be examined ({})", printable(path), errno_text(errno));
    check(S_ISREG(status.st_mode), "{}: is not a regular file", printable(path));

    const auto size = uint64_t(status.st_size);
    const uint64_t all = (size + sample_bytes - 1) / sample_bytes;
    const uint64_t count = std::min(all, uint64_t(pages));
    for (uint64_t i = 0; i < count; ++i)
        ::posix_fadvise(file.number(), off_t(sample_begin(i, count, all)), off_t(sample_bytes), POSIX_FADV_WILLNEED);

    const std::unique_ptr<XXH64_state_t, XXH_errorcode (*)(XXH64_state_t*)> state(XXH64_createState(), XXH64_freeState);
    XXH64_reset(state.get(), 0);
    std::vector<char> buffer(sample_bytes);
    for (uint64_t i = 0; i < count; ++i) {
        const uint64_t begin = sample_begin(i, count, all);
        const std::span<char> page(buffer.data(), size_t(std::min(sample_bytes, size - begin)));
        read_exactly(file.number(), path, begin, page);
        XXH64_update(state.get(), page.data(), page.size());
    }
    return {size, header_hash, XXH64_digest(state.get())};
}

std::string job_key(std::span<const std::string> parts) {
    const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
    XXH3_128bits_reset(state.get());
    for (const std::string& part : parts) {
        const uint64_t size = part.size();
        XXH3_128bits_update(state.get(), &size, sizeof size);
        XXH3_128bits_update(state.get(), part.data(), part.size());
    }
    const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string job_key(std::initializer_list<std::string> parts) {
    return job_key(std::span(parts.begin(), parts.size()));
}

}  // namespace amalgam
