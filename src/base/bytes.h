// Amounts of memory and disk as people write them.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace amalgam {

/// Bytes from "5GB", "1.5 GB" (powers of 1,000: kB, MB, GB, TB, PB), "8MiB" (powers of 1,024: KiB ... PiB), "123B" or
/// "123"; upper or lower case. At most four digits after the point; what is less than a byte is cut off.
/// Throws Error for anything else, also for a bare "5G", which half of the world reads as 1,024^3 and half as 1,000^3.
uint64_t parse_bytes(std::string_view text);

/// Three digits and a decimal unit, never rounded across a unit: "999 B", "12.3 kB", "5 GB", "141 GB".
std::string bytes_text(uint64_t bytes);

}  // namespace amalgam
