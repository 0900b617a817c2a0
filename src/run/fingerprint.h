// What tells one input, and one job, from another.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace amalgam {

/// Of an input file: no time and no path, since copies to faster disks change them.
struct Fingerprint {
    uint64_t bytes = 0;   ///< size of the file
    uint64_t header = 0;  ///< hash of its header
    uint64_t sample = 0;  ///< hash of some of its pages
    bool operator==(const Fingerprint&) const = default;

    /// "0123456789abcdef-...-...", for job_key().
    std::string text() const;
};

/// Hashes up to `pages` pages of 4 KiB, spread evenly over the file, the first and the last among them; which ones depends on
/// size and `pages` alone. A file with no more pages than that is hashed whole. All are asked for at once, so that a cold
/// network file system needs about one round trip. Throws Error if the file cannot be read.
Fingerprint fingerprint(const std::string& path, uint64_t header_hash, int64_t pages = 64);

/// 32 hexadecimal digits over all parts; where a part ends counts.
std::string job_key(std::span<const std::string> parts);
std::string job_key(std::initializer_list<std::string> parts);

}  // namespace amalgam
