#include "src/checkpoint/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_set>

#include "src/base/bytes.h"
#include "src/base/error.h"
#include "src/checkpoint/safetensors.h"

namespace amalgam {
namespace {

constexpr std::string_view header_start = R"({"__metadata__":{"format":"pt"})";

bool plain(char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; }

/// As a JSON string. Nearly every name is plain, and the library's own way takes most of a large layout's time.
std::string json_string(const std::string& name) {
    if (std::all_of(name.begin(), name.end(), plain)) return '"' + name + '"';
    try {
        return nlohmann::json(name).dump();
    } catch (const nlohmann::json::exception&) {
        fail("tensor \"{}\" cannot be written: its name is not UTF-8", printable(name));
    }
}

uint64_t checked_bytes(const OutputTensor& tensor) {
    uint64_t elements = 1;
    bool fits = true, empty = false;
    for (int64_t dimension : tensor.shape) {
        check(dimension >= 0, "tensor \"{}\" cannot be written: dimension {} is negative", printable(tensor.name),
              dimension);
        empty = empty || dimension == 0;
    }
    if (empty) return 0;
    for (int64_t dimension : tensor.shape)
        fits = fits && !__builtin_mul_overflow(elements, uint64_t(dimension), &elements);
    uint64_t bits = 0;
    fits = fits && !__builtin_mul_overflow(elements, uint64_t(info(tensor.dtype).bits), &bits) && bits >> 63 == 0;
    check(fits, "tensor \"{}\" cannot be written: it has more than 2^63 bits", printable(tensor.name));
    check(bits % 8 == 0, "tensor \"{}\" cannot be written: {} elements of {} are no whole number of bytes",
          printable(tensor.name), elements, info(tensor.dtype).name);
    return bits / 8;
}

/// Tensors [first, last) and the data they hold.
struct Shard {
    size_t first = 0, last = 0;
    uint64_t bytes = 0;
};

std::vector<Shard> fill_shards(const std::vector<OutputLayout::Place>& places, uint64_t shard_bytes) {
    std::vector<Shard> shards(1);
    for (size_t i = 0; i < places.size(); ++i) {
        const Shard& current = shards.back();
        const uint64_t next = places[i].bytes;
        const bool holds_one = current.last > current.first;
        // Neither side of the sum can wrap: all bytes together fit 63 bits.
        if (shard_bytes != 0 && holds_one && current.bytes + next > shard_bytes) shards.push_back({i, i, 0});
        shards.back().last = i + 1;
        shards.back().bytes += next;
    }
    return shards;
}

/// Length word, JSON and blanks. Offsets count from the start of the data section.
std::string file_header(std::span<const OutputTensor> tensors, std::span<const std::string> names,
                        std::span<const OutputLayout::Place> places) {
    fmt::memory_buffer json;
    json.append(header_start);
    uint64_t begin = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
        const uint64_t end = begin + places[i].bytes;
        fmt::format_to(std::back_inserter(json), R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                       names[i], info(tensors[i].dtype).name, fmt::join(tensors[i].shape, ","), begin, end);
        begin = end;
    }
    json.push_back('}');
    const uint64_t whole = (8 + json.size() + data_alignment - 1) / data_alignment * data_alignment;
    std::string header;
    header.reserve(whole);
    for (int byte = 0; byte < 8; ++byte) header.push_back(char((whole - 8) >> (8 * byte)));
    header.append(json.data(), json.size());
    header.resize(whole, ' ');
    return header;
}

std::string index_text(const OutputLayout& layout, std::span<const std::string> names) {
    fmt::memory_buffer text;
    fmt::format_to(std::back_inserter(text),
                   "{{\n  \"metadata\": {{\n    \"total_size\": {}\n  }},\n  \"weight_map\": {{", layout.tensor_bytes);
    for (size_t i = 0; i < names.size(); ++i)
        fmt::format_to(std::back_inserter(text), "{}\n    {}: \"{}\"", i == 0 ? "" : ",", names[i],
                       layout.files[size_t(layout.places[i].file)].name);
    text.append(std::string_view("\n  }\n}\n"));
    return fmt::to_string(text);
}

}  // namespace

OutputLayout layout_output(std::span<const OutputTensor> tensors, uint64_t shard_bytes) {
    OutputLayout layout;
    std::vector<std::string> names;
    std::unordered_set<std::string_view> seen;
    layout.places.reserve(tensors.size());
    names.reserve(tensors.size());
    seen.reserve(tensors.size());
    for (const OutputTensor& tensor : tensors) {
        check(tensor.name != "__metadata__", "a tensor cannot be called __metadata__: the file format keeps that name");
        check(seen.insert(tensor.name).second, "tensor \"{}\" would be written twice", printable(tensor.name));
        names.push_back(json_string(tensor.name));
        layout.places.push_back({0, 0, checked_bytes(tensor)});
        layout.tensor_bytes += layout.places.back().bytes;
        check(layout.tensor_bytes >> 62 == 0, "the output is too large: more than 2^62 bytes up to tensor \"{}\"",
              printable(tensor.name));
    }
    const std::vector<Shard> shards = fill_shards(layout.places, shard_bytes);
    layout.files.reserve(shards.size());
    for (const Shard& shard : shards) {
        const size_t count = shard.last - shard.first;
        OutputLayout::File& file = layout.files.emplace_back();
        file.name = shards.size() == 1
                        ? "model.safetensors"
                        : fmt::format("model-{:05}-of-{:05}.safetensors", layout.files.size(), shards.size());
        file.header = file_header(tensors.subspan(shard.first, count), std::span(names).subspan(shard.first, count),
                                  std::span(layout.places).subspan(shard.first, count));
        check(
            file.header.size() - 8 <= max_header_bytes && int64_t(count) <= max_tensors_per_file,
            "{}: {} tensors make a header of {}, more than readers of safetensors accept: choose a smaller shard size",
            file.name, count, bytes_text(file.header.size()));
        file.data_begin = file.header.size();
        file.bytes = file.data_begin + shard.bytes;
        layout.file_bytes += file.bytes;
        uint64_t begin = file.data_begin;
        for (size_t i = shard.first; i < shard.last; ++i) {
            layout.places[i].file = int(layout.files.size()) - 1;
            layout.places[i].begin = begin;
            begin += layout.places[i].bytes;
        }
    }
    if (layout.files.size() > 1) layout.index = index_text(layout, names);
    return layout;
}

}  // namespace amalgam
