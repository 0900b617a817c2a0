#include "src/checkpoint/safetensors.h"

#include <xxhash.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "src/base/error.h"
#include "src/checkpoint/json_events.h"

namespace amalgam {

namespace {

constexpr uint64_t length_bytes = 8;

/// A tensor entry as written: dimensions and offsets are any 64-bit numbers.
struct Entry {
    std::string dtype;
    std::vector<uint64_t> shape;
    std::vector<uint64_t> offsets;
    bool has_dtype = false;
    bool has_shape = false;
    bool has_offsets = false;
};

/// Bytes of a tensor; throws for products that 64 bits do not hold, even when a later dimension is zero.
uint64_t entry_bytes(const std::string& name, const Entry& entry, Dtype dtype) {
    uint64_t elements = 1;
    uint64_t bits = 0;
    for (uint64_t dimension : entry.shape)
        if (__builtin_mul_overflow(elements, dimension, &elements))
            fail("tensor '{}': the product of its dimensions is beyond 64 bits", printable(name));
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(info(dtype).bits), &bits))
        fail("tensor '{}': its size in bits is beyond 64 bits", printable(name));
    if (bits % 8 != 0)
        fail("tensor '{}': {} elements of {} do not fill whole bytes", printable(name), elements, info(dtype).name);
    return bits / 8;
}

/// Builds the list of tensors from the header's JSON; where they lie in the file is checked afterwards.
class HeaderEvents : public JsonEvents {
  public:
    explicit HeaderEvents(SafetensorsHeader& result) : result_(result) {}

    void open(bool object) override {
        if (place_ == Place::ignored) {
            ++ignored_depth_;
            return;
        }
        if (place_ == Place::entry && field_ == Field::unknown) {
            place_ = Place::ignored;
            ignored_depth_ = 1;
            return;
        }
        if (object ? !open_object() : !open_array()) unexpected(object ? "an object" : "an array");
    }

    void close() override {
        switch (place_) {
            case Place::ignored:
                if (--ignored_depth_ == 0) place_ = Place::entry;
                break;
            case Place::numbers:
                if (field_ == Field::data_offsets && entry_.offsets.size() != 2)
                    fail("tensor '{}': data_offsets has {} numbers instead of 2", printable(name_),
                         entry_.offsets.size());
                place_ = Place::entry;
                break;
            case Place::entry:
                finish_entry();
                place_ = Place::root;
                break;
            default: place_ = place_ == Place::metadata ? Place::root : Place::outside;
        }
    }

    void key(std::string& name) override {
        if (place_ == Place::entry) {
            choose_field(name);
        } else if (place_ != Place::ignored) {
            name_ = std::move(name);
        }
    }

    void text(std::string& value) override {
        if (is_ignored()) return;
        if (place_ == Place::entry && field_ == Field::dtype) {
            entry_.dtype = std::move(value);
        } else if (place_ == Place::metadata) {
            const bool is_new = result_.metadata.emplace(name_, std::move(value)).second;
            check(is_new, "the key '{}' appears twice in __metadata__", printable(name_));
        } else {
            unexpected("a string");
        }
    }

    void number(uint64_t value) override {
        if (is_ignored()) return;
        if (place_ != Place::numbers) unexpected("a number");
        auto& numbers = field_ == Field::shape ? entry_.shape : entry_.offsets;
        if (field_ == Field::data_offsets && numbers.size() == 2)
            fail("tensor '{}': data_offsets has more than 2 numbers", printable(name_));
        numbers.push_back(value);
    }

    void null() override {
        if (is_ignored()) return;
        if (place_ != Place::root || !is_metadata()) unexpected("null");
        see_metadata();
    }

    void other(std::string_view what) override {
        if (!is_ignored()) unexpected(what);
    }

    void report_unknown_fields() {
        if (unknown_fields_ == 0) return;
        result_.warnings.push_back(fmt::format("ignored {} unknown field{} of tensor entries, the first is {}",
                                               unknown_fields_, unknown_fields_ == 1 ? "" : "s", first_unknown_));
    }

  private:
    enum class Place { outside, root, metadata, entry, numbers, ignored };
    enum class Field { unknown, dtype, shape, data_offsets };

    bool is_metadata() const { return name_ == "__metadata__"; }
    bool is_ignored() const { return place_ == Place::ignored || (place_ == Place::entry && field_ == Field::unknown); }

    void see_metadata() {
        check(!has_metadata_, "__metadata__ appears twice");
        has_metadata_ = true;
    }

    bool open_object() {
        if (place_ == Place::outside) {
            place_ = Place::root;
        } else if (place_ == Place::root && is_metadata()) {
            see_metadata();
            place_ = Place::metadata;
        } else if (place_ == Place::root) {
            entry_.has_dtype = entry_.has_shape = entry_.has_offsets = false;
            entry_.shape.clear();
            entry_.offsets.clear();
            place_ = Place::entry;
        } else {
            return false;
        }
        return true;
    }

    bool open_array() {
        if (place_ != Place::entry || (field_ != Field::shape && field_ != Field::data_offsets)) return false;
        place_ = Place::numbers;
        return true;
    }

    void choose_field(const std::string& name) {
        const auto once = [&](bool& seen, Field field) {
            if (seen) fail("tensor '{}': the field {} appears twice", printable(name_), name);
            seen = true;
            field_ = field;
        };
        if (name == "dtype") {
            once(entry_.has_dtype, Field::dtype);
        } else if (name == "shape") {
            once(entry_.has_shape, Field::shape);
        } else if (name == "data_offsets") {
            once(entry_.has_offsets, Field::data_offsets);
        } else {
            field_ = Field::unknown;
            if (unknown_fields_++ == 0) first_unknown_ = fmt::format("'{}' of '{}'", printable(name), printable(name_));
        }
    }

    void finish_entry() {
        // Not check() here and below: its arguments would be made for each of 10^6 tensors.
        if (!entry_.has_dtype || !entry_.has_shape || !entry_.has_offsets)
            fail("tensor '{}': the field {} is missing", printable(name_),
                 !entry_.has_dtype   ? "dtype"
                 : !entry_.has_shape ? "shape"
                                     : "data_offsets");
        check(result_.tensors.size() < static_cast<size_t>(max_tensors_per_file), "the header has more than {} tensors",
              max_tensors_per_file);
        const std::optional<Dtype> dtype = dtype_from_header(entry_.dtype);
        if (!dtype) fail("tensor '{}': unknown dtype '{}'", printable(name_), printable(entry_.dtype));
        const uint64_t begin = entry_.offsets[0];
        const uint64_t end = entry_.offsets[1];
        if (begin > end) fail("tensor '{}': its data_offsets [{}, {}] are reversed", printable(name_), begin, end);
        const uint64_t bytes = entry_bytes(name_, entry_, *dtype);
        TensorInfo tensor{.name = std::move(name_), .dtype = *dtype, .shape = {}, .begin = begin, .end = end};
        tensor.shape.reserve(entry_.shape.size());
        for (uint64_t dimension : entry_.shape) tensor.shape.push_back(to_dimension(dimension, tensor.name));
        if (bytes != end - begin)
            fail("tensor '{}': {} {} takes {} bytes, but its data_offsets [{}, {}] hold {}", printable(tensor.name),
                 info(*dtype).name, printable(shape_text(tensor.shape)), bytes, begin, end, end - begin);
        result_.tensors.push_back(std::move(tensor));
    }

    int64_t to_dimension(uint64_t dimension, const std::string& name) {
        constexpr auto largest = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
        if (dimension <= largest) return static_cast<int64_t>(dimension);
        // Only an empty tensor gets here: the product of the others would have overflowed in bits.
        result_.warnings.push_back(fmt::format("tensor '{}': a dimension of this empty tensor, {}, is read as {}",
                                               printable(name), dimension, largest));
        return static_cast<int64_t>(largest);
    }

    [[noreturn]] void unexpected(std::string_view found) const {
        switch (place_) {
            case Place::outside: fail("the header is {} instead of an object of tensors", found);
            case Place::metadata:
                fail("__metadata__ has {} as '{}'; only strings are allowed", found, printable(name_));
            case Place::entry:
                fail("tensor '{}': the field {} is {} instead of {}", printable(name_),
                     field_ == Field::dtype   ? "dtype"
                     : field_ == Field::shape ? "shape"
                                              : "data_offsets",
                     found, field_ == Field::dtype ? "a string" : "an array");
            case Place::numbers:
                fail("tensor '{}': {} in {}, where only whole numbers from 0 to 2^64 - 1, in plain digits, are allowed",
                     printable(name_), found, field_ == Field::shape ? "shape" : "data_offsets");
            default:
                fail("{} is {} instead of an object {}",
                     is_metadata() ? "__metadata__" : fmt::format("tensor '{}'", printable(name_)), found,
                     is_metadata() ? "of strings" : "with dtype, shape and data_offsets");
        }
    }

    SafetensorsHeader& result_;
    Place place_ = Place::outside;
    Field field_ = Field::unknown;
    std::string name_;
    Entry entry_;
    bool has_metadata_ = false;
    int ignored_depth_ = 0;
    uint64_t unknown_fields_ = 0;
    std::string first_unknown_;
};

void check_names(const std::vector<TensorInfo>& tensors) {
    std::unordered_set<std::string_view> names;
    names.reserve(tensors.size());
    for (const TensorInfo& tensor : tensors)
        if (!names.insert(tensor.name).second) fail("the tensor '{}' appears twice", printable(tensor.name));
}

/// Tensors must follow each other from the first byte of the data section to the last of the file.
void place_tensors(SafetensorsHeader& header) {
    auto& tensors = header.tensors;
    std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.name < b.name;
    });
    const uint64_t data_bytes = header.file_bytes - header.data_begin;
    uint64_t next = 0;
    for (const TensorInfo& tensor : tensors) {
        if (tensor.begin != next)
            fail("tensor '{}': its data begin at {}, but the data before it end at {}: {} is not allowed",
                 printable(tensor.name), tensor.begin, next, tensor.begin > next ? "a hole" : "an overlap");
        next = tensor.end;
    }
    if (next > data_bytes)
        fail(
            "the file is truncated: the header promises {} bytes of tensors after its first {}, the file has {}; "
            "download or copy it again",
            next, header.data_begin, data_bytes);
    check(next == data_bytes, "{} bytes follow the last tensor, which the format does not allow", data_bytes - next);
    for (TensorInfo& tensor : tensors) {
        tensor.begin += header.data_begin;
        tensor.end += header.data_begin;
    }
}

/// Files that carry other content under the right name, as users really have them.
void check_start(const std::string& word) {
    check(!word.starts_with("version "),
          "it is a Git LFS pointer, not the file itself: run 'git lfs pull' in its folder");
    check(!word.starts_with("PK\x03\x04"),
          "it is a zip archive, as torch.save() writes it: convert it to safetensors first");
    check(!word.starts_with("GGUF"), "it is a GGUF file: convert it to safetensors first");
    check(!word.starts_with("<!DOCTYP") && !word.starts_with("<html"),
          "it is a web page: the download went wrong, repeat it");
}

uint64_t header_length(const std::string& word, uint64_t file_bytes) {
    uint64_t length = 0;
    for (size_t i = length_bytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(word[i]);
    check(length > 0, "the header has no bytes");
    check(length <= max_header_bytes, "the header would have {} bytes, the format allows {}", length, max_header_bytes);
    check(length <= file_bytes - length_bytes,
          "the file is truncated: the header alone ends at byte {}, the file has {} bytes; download or copy it again",
          length + length_bytes, file_bytes);
    return length;
}

/// Runs `read` and puts the path before its Errors.
template <class Read>
auto in_file(const std::string& path, Read read) {
    try {
        return read();
    } catch (const Error& error) {
        fail("{}: not a valid safetensors file: {}", printable(path), error.what());
    }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view header, uint64_t file_bytes) {
    check(header.size() <= max_header_bytes, "the header has {} bytes, more than the limit of {}", header.size(),
          max_header_bytes);
    check(file_bytes >= length_bytes + header.size(),
          "the file is truncated: its header takes {} bytes, the file has {}", length_bytes + header.size(),
          file_bytes);
    SafetensorsHeader result;
    result.file_bytes = file_bytes;
    result.data_begin = length_bytes + header.size();
    HeaderEvents events(result);
    read_json(header, events);
    check_names(result.tensors);
    place_tensors(result);
    events.report_unknown_fields();
    return result;
}

SafetensorsHeader read_safetensors_header(Files& files, const std::string& path) {
    const FileStatus status = files.status(path);
    check(status.kind != FileKind::missing, "{}: there is no such file", printable(path));
    check(status.kind == FileKind::file, "{}: is {}, not a safetensors file", printable(path),
          status.kind == FileKind::folder ? "a folder" : "neither a file nor a folder");
    check(status.bytes >= length_bytes, "{}: not a valid safetensors file: it has only {} bytes: empty or truncated",
          printable(path), status.bytes);
    std::string text = files.read(path, 0, length_bytes);
    const uint64_t length = in_file(path, [&] {
        check_start(text);
        return header_length(text, status.bytes);
    });
    text += files.read(path, length_bytes, length);
    SafetensorsHeader header = in_file(
        path, [&] { return parse_safetensors_header(std::string_view(text).substr(length_bytes), status.bytes); });
    header.header_hash = XXH64(text.data(), text.size(), 0);
    return header;
}

}  // namespace amalgam
