#include "src/run/key_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <memory>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/checkpoint/layout.h"
#include "src/checkpoint/output_folder.h"
#include "src/run/descriptor.h"
#include "src/run/journal.h"

namespace amalgam {
namespace {

constexpr std::string_view first_line = "amalgam output 1";
constexpr const char* key_in_progress_name = ".amalgam.key.new";
/// A line for each of a hundred thousand files.
constexpr uint64_t most_bytes = uint64_t{16} << 20;

std::string_view take_line(std::string_view& text) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return line;
}

/// An empty key if the text is no key file's.
KeyFile parse(std::string_view text) {
    KeyFile contents;
    if (text.empty() || text.back() != '\n' || take_line(text) != first_line) return {};
    const std::string_view key = take_line(text);
    if (!key.starts_with("key ")) return {};
    contents.key = key.substr(4);
    while (!text.empty()) {
        const std::string_view line = take_line(text);
        const size_t blank = line.find(' ');
        uint64_t bytes = 0;
        const char* end = line.data() + std::min(blank, line.size());
        const auto [stop, error] = std::from_chars(line.data(), end, bytes);
        if (blank == std::string_view::npos || error != std::errc() || stop != end) return {};
        contents.files.push_back({bytes, std::string(line.substr(blank + 1))});
    }
    return contents;
}

/// "model-00001-of-00007.safetensors", with as many digits as it takes.
bool is_shard_name(std::string_view name) {
    std::string plain;
    for (char c : name) {
        const bool digit = c >= '0' && c <= '9';
        if (!digit)
            plain += c;
        else if (plain.empty() || plain.back() != '#')
            plain += '#';
    }
    return plain == "model.safetensors" || plain == "model-#-of-#.safetensors";
}

bool plain_text(std::string_view name) {
    return std::none_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; });
}

}  // namespace

std::optional<KeyFile> read_key_file(const std::string& folder, const char* name) {
    const std::string path = folder + "/" + name;
    const std::unique_ptr<Files> files = disk_files();
    const FileStatus status = files->status(path);
    if (status.kind == FileKind::missing) return std::nullopt;
    if (status.kind != FileKind::file || status.bytes > most_bytes) return KeyFile{};
    return parse(files->read(path, 0, status.bytes));
}

void write_key_file(const std::string& folder, const char* name, const KeyFile& contents, bool last) {
    const std::string path = folder + "/" + name, in_progress = folder + "/" + key_in_progress_name;
    std::string text = fmt::format("{}\nkey {}\n", first_line, contents.key);
    for (const KeyFile::File& file : contents.files)
        if (plain_text(file.name)) text += fmt::format("{} {}\n", file.bytes, file.name);

    const Descriptor file(::open(in_progress.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666));
    bool good = bool(file);
    for (std::string_view rest = text; good && !rest.empty();) {
        const ssize_t written = ::write(file.number(), rest.data(), rest.size());
        if (written < 0 && errno == EINTR) continue;
        good = written >= 0;
        if (good) rest.remove_prefix(size_t(written));
    }
    good = good && (!last || ::fsync(file.number()) == 0);
    good = good && ::rename(in_progress.c_str(), path.c_str()) == 0;
    const int error = errno;
    if (!good) fail("{}: cannot be written ({}){}", printable(path), errno_text(error), space_advice(error));
    if (last) sync_folder(folder);
}

std::vector<KeyFile::File> list_results(const std::string& folder) {
    std::vector<KeyFile::File> results;
    const std::unique_ptr<Files> files = disk_files();
    for (const std::string& name : files->list(folder)) {
        if (is_working_name(name)) continue;
        const FileStatus status = files->status(folder + "/" + name);
        if (status.kind == FileKind::file) results.push_back({status.bytes, name});
    }
    return results;
}

bool is_working_name(std::string_view name) {
    constexpr std::array<std::string_view, 5> names = {building_key_name, published_key_name, key_in_progress_name,
                                                       lock_name, replaced_name};
    return std::find(names.begin(), names.end(), name) != names.end() || is_journal_name(name);
}

bool is_result_name(std::string_view name) {
    if (is_shard_name(name) || name == index_file_name || name == "config.json" || name == "README.md") return true;
    if (name == recipe_file_name(true) || name == recipe_file_name(false)) return true;
    const std::vector<std::string>& companions = companion_file_names();
    return std::find(companions.begin(), companions.end(), name) != companions.end();
}

}  // namespace amalgam
