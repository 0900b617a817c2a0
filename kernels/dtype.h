// Element types of tensors in files, and what may be computed with.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace amalgam {

/// Every dtype of the safetensors format, in the order of the format's own enumeration.
enum class Dtype : uint8_t {
    boolean,
    f4,
    f6_e2m3,
    f6_e3m2,
    u8,
    i8,
    f8_e5m2,
    f8_e4m3,
    f8_e8m0,
    f8_e4m3fnuz,
    f8_e5m2fnuz,
    i16,
    u16,
    f16,
    bf16,
    i32,
    u32,
    f32,
    c64,
    f64,
    i64,
    u64,
};

struct DtypeInfo {
    std::string_view name;         ///< as written in a safetensors header: "BF16"
    std::string_view config_name;  ///< as written in config.json and recipes: "bfloat16"; "" if there is none
    int bits;
    bool computed;  ///< merged by arithmetic; all others are copied byte for byte
};

inline constexpr DtypeInfo dtype_table[] = {
    {"BOOL", "", 8, false},
    {"F4", "", 4, false},
    {"F6_E2M3", "", 6, false},
    {"F6_E3M2", "", 6, false},
    {"U8", "", 8, false},
    {"I8", "", 8, false},
    {"F8_E5M2", "float8_e5m2", 8, true},
    {"F8_E4M3", "float8_e4m3fn", 8, true},
    {"F8_E8M0", "", 8, false},
    {"F8_E4M3FNUZ", "", 8, false},
    {"F8_E5M2FNUZ", "", 8, false},
    {"I16", "", 16, false},
    {"U16", "", 16, false},
    {"F16", "float16", 16, true},
    {"BF16", "bfloat16", 16, true},
    {"I32", "", 32, false},
    {"U32", "", 32, false},
    {"F32", "float32", 32, true},
    {"C64", "", 64, false},
    {"F64", "float64", 64, true},
    {"I64", "", 64, false},
    {"U64", "", 64, false},
};

constexpr const DtypeInfo& info(Dtype dtype) { return dtype_table[static_cast<int>(dtype)]; }

/// Bytes of one element; only for dtypes of whole bytes.
constexpr int bytes_of(Dtype dtype) { return info(dtype).bits / 8; }

/// The dtype a safetensors header calls `name` (exact upper case).
constexpr std::optional<Dtype> dtype_from_header(std::string_view name) {
    for (int i = 0; i < int(std::size(dtype_table)); ++i)
        if (dtype_table[i].name == name) return static_cast<Dtype>(i);
    return std::nullopt;
}

/// The dtype a recipe or config.json calls `name`, with or without the prefix "torch.".
constexpr std::optional<Dtype> dtype_from_config(std::string_view name) {
    if (name.starts_with("torch.")) name.remove_prefix(6);
    for (int i = 0; i < int(std::size(dtype_table)); ++i)
        if (!name.empty() && dtype_table[i].config_name == name) return static_cast<Dtype>(i);
    return std::nullopt;
}

}  // namespace amalgam
