#include "src/checkpoint/checkpoint.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "src/base/error.h"
#include "src/checkpoint/safetensors.h"

namespace amalgam {

namespace {

constexpr uint64_t max_config_bytes = 16 << 20;
constexpr const char* single_name = "model.safetensors";
constexpr const char* index_name = "model.safetensors.index.json";
constexpr const char* config_name = "config.json";
constexpr const char* adapter_name = "adapter_model.safetensors";

std::string inside(const std::string& folder, const std::string& name) {
    return folder + (folder.ends_with('/') ? "" : "/") + name;
}

/// What files to read, and which tensor the index promises in which of them.
struct Layout {
    std::vector<std::string> files;  ///< paths inside the folder
    std::optional<std::map<std::string, std::string>> index;
    std::vector<std::string> warnings;
};

/// "a, b, c and 7 more" of things found wrong.
class NameList {
  public:
    void add(const std::string& name) {
        if (++count_ <= 5) text_ += (count_ == 1 ? "" : ", ") + ("'" + printable(name) + "'");
    }
    bool empty() const { return count_ == 0; }
    std::string text() const { return count_ <= 5 ? text_ : fmt::format("{} and {} more", text_, count_ - 5); }

  private:
    size_t count_ = 0;
    std::string text_;
};

/// model-00002-of-00005.safetensors is useless without its index; 00001-of-00001 is whole.
bool is_numbered_shard(std::string_view name) {
    constexpr std::string_view suffix = ".safetensors";
    constexpr std::string_view of = "-of-";
    const auto take_number = [&] {
        const size_t begin = name.find_last_not_of("0123456789") + 1;
        const std::string_view digits = name.substr(begin);
        name.remove_suffix(digits.size());
        return digits;
    };
    if (!name.ends_with(suffix)) return false;
    name.remove_suffix(suffix.size());
    const std::string_view total = take_number();
    if (total.empty() || !name.ends_with(of)) return false;
    name.remove_suffix(of.size());
    const bool is_one = total.ends_with('1') && total.find_first_not_of('0') == total.size() - 1;
    return !take_number().empty() && !is_one;
}

/// What to do about a folder that lacks files.
std::string repeat_advice(const std::string& folder) {
    const std::string command = download_command(folder);
    return command.empty() ? "repeat the download" : "repeat the download: " + command;
}

[[noreturn]] void fail_no_model(const std::string& folder, const std::vector<std::string>& names) {
    const auto has_suffix = [&](std::string_view suffix) {
        return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return name.ends_with(suffix); });
    };
    const std::string path = printable(folder);
    if (has_suffix(".bin") || has_suffix(".pt") || has_suffix(".pth"))
        fail(
            "{}: the folder has PyTorch files but no safetensors files; pickled files can run code when they are read, "
            "so "
            "amalgam does not. Convert them first: python3 -c \"from transformers import AutoModelForCausalLM as M; "
            "M.from_pretrained('{}', torch_dtype='auto').save_pretrained('OUT', safe_serialization=True)\", and copy "
            "the "
            "tokenizer files",
            path, path);
    if (has_suffix(".gguf"))
        fail("{}: the folder has GGUF files but no safetensors files; take the original checkpoint instead", path);
    fail(
        "{}: the folder has no model.safetensors, no {} and no other .safetensors file: it is not a checkpoint, or not "
        "a "
        "complete one; in this case {}",
        path, index_name, repeat_advice(folder));
}

[[noreturn]] void fail_adapter(const std::string& folder) {
    fail(
        "{}: the folder holds a PEFT adapter, not a model: adapters are not merged by this version. Merge it into its "
        "base first "
        "(merge_and_unload() of PEFT) and name the merged folder",
        printable(folder));
}

/// A folder with neither the usual file nor the usual index: its only safetensors file, whatever it is called.
Layout find_only_file(Files& files, const std::string& folder) {
    const std::vector<std::string> names = files.list(folder);
    std::vector<std::string> found;
    for (const std::string& name : names)
        if (name.ends_with(".safetensors") && name != adapter_name &&
            files.status(inside(folder, name)).kind == FileKind::file)
            found.push_back(name);
    const auto has = [&](const char* name) { return std::binary_search(names.begin(), names.end(), name); };
    if (found.empty() && (has("adapter_config.json") || has(adapter_name))) fail_adapter(folder);
    for (const std::string& name : names)
        if (found.empty() && name.ends_with(".safetensors") &&
            files.status(inside(folder, name)).kind == FileKind::missing)
            fail("{}: '{}' is a link to a file that is not there: the model is not complete; {}", printable(folder),
                 printable(name), repeat_advice(folder));
    if (found.empty()) fail_no_model(folder, names);
    if (std::any_of(found.begin(), found.end(), is_numbered_shard))
        fail(
            "{}: the folder has numbered shards like '{}', but no {}, which says what tensor is in which file: "
            "download it too",
            printable(folder), printable(found.front()), index_name);
    NameList list;
    for (const std::string& name : found) list.add(name);
    check(found.size() == 1,
          "{}: the folder has several safetensors files ({}), no model.safetensors and no {}: name the one file "
          "that is meant",
          printable(folder), list.text(), index_name);
    return {.files = found, .index = std::nullopt, .warnings = {}};
}

Layout find_layout(Files& files, const std::string& folder) {
    const std::string index_path = inside(folder, index_name);
    const bool has_single = files.status(inside(folder, single_name)).kind == FileKind::file;
    const bool has_index = files.status(index_path).kind == FileKind::file;
    if (!has_index) return has_single ? Layout{{single_name}, std::nullopt, {}} : find_only_file(files, folder);
    const std::string text = files.read_all(index_path, max_header_bytes);
    std::map<std::string, std::string> index;
    try {
        index = parse_index(text);
    } catch (const Error& error) {
        fail("{}: not a valid index: {}", printable(index_path), error.what());
    }
    std::set<std::string> names;
    for (const auto& [tensor, file] : index) names.insert(file);
    if (has_single && !names.contains(single_name))
        return {{single_name},
                std::nullopt,
                {fmt::format("both {} and {} are there; the first is read, as transformers does", single_name,
                             index_name)}};
    return {{names.begin(), names.end()}, std::move(index), {}};
}

std::string read_config(Files& files, const std::string& folder) {
    const std::string path = inside(folder, config_name);
    if (files.status(path).kind == FileKind::missing) {
        const std::vector<std::string> names = files.list(folder);
        check(!std::binary_search(names.begin(), names.end(), config_name),
              "{}: is a link to a file that is not there: the model is not complete; {}", printable(path),
              repeat_advice(folder));
        return "";
    }
    std::string text = files.read_all(path, max_config_bytes);
    try {
        check(nlohmann::json::parse(quote_nonfinite(text)).is_object(), "{}: not a JSON object", printable(path));
    } catch (const nlohmann::json::exception& error) {
        fail("{}: not valid JSON: {}", printable(path), printable(error.what(), 200));
    }
    return text;
}

void add_file(Files& files, Checkpoint& checkpoint, const std::string& path) {
    SafetensorsHeader header = read_safetensors_header(files, path);
    for (TensorInfo& tensor : header.tensors) {
        tensor.file = static_cast<int>(checkpoint.files.size());
        checkpoint.tensors.push_back(std::move(tensor));
    }
    for (const std::string& warning : header.warnings) checkpoint.warnings.push_back(printable(path) + ": " + warning);
    checkpoint.files.push_back({path, header.file_bytes, header.header_hash});
}

void check_once(const Checkpoint& checkpoint) {
    const auto same_name = [](const TensorInfo& a, const TensorInfo& b) { return a.name == b.name; };
    const auto twice = std::adjacent_find(checkpoint.tensors.begin(), checkpoint.tensors.end(), same_name);
    if (twice == checkpoint.tensors.end()) return;
    const auto file = [&](const TensorInfo& tensor) {
        return printable(checkpoint.files[static_cast<size_t>(tensor.file)].path);
    };
    fail("{}: tensor '{}' is in two files, {} and {}: which one is right cannot be known", printable(checkpoint.path),
         printable(twice->name), file(twice[0]), file(twice[1]));
}

/// Both ways: what the index promises is there, and what is there is in the index.
void check_index(const Checkpoint& checkpoint, const Layout& layout) {
    const std::string path = printable(inside(checkpoint.path, index_name));
    NameList missing;
    for (const auto& [name, file] : *layout.index) {
        const TensorInfo* tensor = checkpoint.find(name);
        if (!tensor) {
            missing.add(name);
            continue;
        }
        const std::string& found = layout.files[static_cast<size_t>(tensor->file)];
        if (found != file)
            fail("{}: says that tensor '{}' is in '{}', but it is in '{}': the index does not belong to these files",
                 path, printable(name), printable(file), printable(found));
    }
    if (!missing.empty())
        fail("{}: these tensors of the index are in none of its files: {}. The index does not belong to these files",
             path, missing.text());
    NameList unlisted;
    for (const TensorInfo& tensor : checkpoint.tensors)
        if (!layout.index->contains(tensor.name)) unlisted.add(tensor.name);
    if (!unlisted.empty())
        fail("{}: these tensors are in the files but not in the index: {}. The index does not belong to these files",
             path, unlisted.text());
}

void check_files_exist(Files& files, const std::string& folder, const Layout& layout) {
    NameList missing;
    for (const std::string& name : layout.files)
        if (files.status(inside(folder, name)).kind == FileKind::missing) missing.add(name);
    if (!missing.empty())
        fail("{}: files that {} lists are missing: {}. The model is not complete: {}", printable(folder), index_name,
             missing.text(), repeat_advice(folder));
}

void finish_tensors(Checkpoint& checkpoint) {
    std::sort(checkpoint.tensors.begin(), checkpoint.tensors.end(),
              [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
    check_once(checkpoint);
}

void open_folder(Files& files, Checkpoint& checkpoint) {
    const Layout layout = find_layout(files, checkpoint.path);
    checkpoint.warnings = layout.warnings;
    check_files_exist(files, checkpoint.path, layout);
    for (const std::string& name : layout.files) add_file(files, checkpoint, inside(checkpoint.path, name));
    finish_tensors(checkpoint);
    if (layout.index) check_index(checkpoint, layout);
    checkpoint.config = read_config(files, checkpoint.path);
}

}  // namespace

const TensorInfo* Checkpoint::find(std::string_view name) const {
    const auto found =
        std::lower_bound(tensors.begin(), tensors.end(), name,
                         [](const TensorInfo& tensor, std::string_view key) { return tensor.name < key; });
    return found != tensors.end() && found->name == name ? &*found : nullptr;
}

Checkpoint open_checkpoint(Files& files, const std::string& path, bool refuse) {
    const FileKind kind = files.status(path).kind;
    if (kind == FileKind::missing) fail("{}: there is no such file or folder", printable(path));
    if (kind == FileKind::other) fail("{}: is neither a folder nor a regular file", printable(path));
    Checkpoint checkpoint;
    checkpoint.path = path;
    if (kind == FileKind::folder) {
        open_folder(files, checkpoint);
    } else {
        if (path.ends_with(".json"))
            fail("{}: is not a safetensors file; name the folder of the checkpoint instead", printable(path));
        add_file(files, checkpoint, path);
        finish_tensors(checkpoint);
    }
    if (refuse) refuse_quantised(checkpoint);
    return checkpoint;
}

}  // namespace amalgam
