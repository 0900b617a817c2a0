#include <algorithm>
#include <array>

#include "src/base/error.h"
#include "src/checkpoint/checkpoint.h"

namespace amalgam {

namespace {

constexpr std::string_view letters_and_digits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

bool has_only(std::string_view text, std::string_view more) {
    return std::all_of(text.begin(), text.end(), [&](char c) {
        return letters_and_digits.find(c) != std::string_view::npos || more.find(c) != std::string_view::npos;
    });
}

struct HubName {
    std::string repository;  ///< "org/name" or "name"; empty if the reference cannot be a hub name
    std::string revision;    ///< empty if none is given
};

/// The Hub's own rules for names; a revision is a branch, tag, refs/pr/N or commit.
HubName hub_name(const std::string& reference) {
    const size_t at = reference.find('@');
    const std::string repository = reference.substr(0, at);
    const std::string revision = at == std::string::npos ? "" : reference.substr(at + 1);
    const size_t slash = repository.find('/');
    const bool two_parts = slash != std::string::npos;
    const std::array<std::string, 2> parts = {repository.substr(0, slash),
                                              two_parts ? repository.substr(slash + 1) : "name"};
    for (const std::string& part : parts) {
        const bool valid = !part.empty() && has_only(part, "-_.") && part.front() != '.' && part.front() != '-' &&
                           part.find("--") == std::string::npos && part.find("..") == std::string::npos;
        if (!valid || repository.size() > 96) return {};
    }
    if (at == std::string::npos) return {repository, ""};
    // The revision becomes part of a path.
    const bool is_safe = !revision.empty() && has_only(revision, "-_./") && revision.front() != '/' &&
                         revision.size() <= 255 && revision.find("..") == std::string::npos;
    if (!is_safe) return {};
    return {repository, revision};
}

/// As huggingface_hub looks for it. "" if no variable says where the user's files are.
std::string cache_folder(Files& files) {
    const auto variable = [&](const char* name) { return files.environment(name).value_or(""); };
    const auto expanded = [&](const std::string& path) {
        return path == "~" || path.starts_with("~/") ? variable("HOME") + path.substr(1) : path;
    };
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
        if (const std::string path = variable(name); !path.empty()) return expanded(path);
    if (const std::string home = variable("HF_HOME"); !home.empty()) return expanded(home) + "/hub";
    if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty())
        return expanded(cache) + "/huggingface/hub";
    if (const std::string home = variable("HOME"); !home.empty()) return home + "/.cache/huggingface/hub";
    return "";
}

bool is_commit(std::string_view text) {
    return text.size() >= 7 && text.size() <= 64 &&
           text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// The folder of the wanted revision in the cache, or "" if it was never downloaded.
std::string find_snapshot(Files& files, const std::string& cache, const HubName& name) {
    std::string folder = "models--" + name.repository;
    if (const size_t slash = folder.find('/'); slash != std::string::npos) folder.replace(slash, 1, "--");
    const std::string repository = cache + "/" + folder;
    const std::string revision = name.revision.empty() ? "main" : name.revision;
    const std::string reference_file = repository + "/refs/" + revision;
    std::string commit = revision;
    if (files.status(reference_file).kind == FileKind::file) {
        commit = files.read_all(reference_file, 4096);
        commit.erase(std::min(commit.find_last_not_of(" \t\r\n") + 1, commit.size()));
        check(is_commit(commit), "{}: holds '{}' instead of a commit hash; download {} again", reference_file,
              printable(commit), name.repository);
    }
    if (!is_commit(commit)) return "";
    const std::string snapshot = repository + "/snapshots/" + commit;
    return files.status(snapshot).kind == FileKind::folder ? snapshot : "";
}

[[noreturn]] void fail_not_found(const std::string& reference, const std::string& tried, const HubName& name,
                                 const std::string& cache) {
    if (name.repository.empty()) fail("model '{}' is not found: {}. Check the path", printable(reference), tried);
    const std::string arguments = name.repository + (name.revision.empty() ? "" : " --revision " + name.revision);
    fail(
        "model '{}' is not found: {}, and {}. If it is a path, check it; if it is a model of the Hugging Face Hub, "
        "download it "
        "first: hf download {} (older versions: huggingface-cli download {})",
        printable(reference), tried,
        cache.empty() ? "there is no Hugging Face cache to look in, since neither HF_HUB_CACHE, HF_HOME nor HOME is set"
                      : fmt::format("the Hugging Face cache {} does not have it", printable(cache)),
        arguments, arguments);
}

}  // namespace

std::string download_command(const std::string& folder) {
    constexpr std::string_view models = "/models--", snapshots = "/snapshots/";
    const size_t end = folder.rfind(snapshots);
    const size_t begin = end == std::string::npos ? end : folder.rfind(models, end);
    if (begin == std::string::npos) return "";
    std::string name = folder.substr(begin + models.size(), end - begin - models.size());
    if (const size_t slash = name.find("--"); slash != std::string::npos) name.replace(slash, 2, "/");
    std::string commit = folder.substr(end + snapshots.size());
    commit = commit.substr(0, commit.find('/'));
    if (hub_name(name).repository.empty() || !is_commit(commit)) return "";
    return fmt::format("hf download {} --revision {}", name, commit);
}

std::string locate_model(Files& files, const std::string& reference, const std::string& recipe_folder) {
    check(!reference.empty(), "the reference of a model is empty: give a path or a name like org/name");
    if (files.status(reference).kind != FileKind::missing) return reference;
    std::string tried = fmt::format("there is no '{}'", printable(reference));
    if (reference.front() != '/' && !recipe_folder.empty() && recipe_folder != ".") {
        const std::string beside = recipe_folder + (recipe_folder.ends_with('/') ? "" : "/") + reference;
        if (files.status(beside).kind != FileKind::missing) return beside;
        tried += fmt::format(" in the working directory, and no '{}' in the recipe's folder", printable(beside));
    } else if (reference.front() != '/') {
        tried += " in the working directory";
    }
    if (const size_t plus = reference.find('+'); plus != std::string::npos && plus > 0)
        fail(
            "model '{}' is not found as a path, and reads as model '{}' with the adapter '{}': adapters are not merged "
            "by this "
            "version; merge it into its base first (merge_and_unload() of PEFT) and name the merged folder",
            printable(reference), printable(reference.substr(0, plus)), printable(reference.substr(plus + 1)));
    const HubName name = hub_name(reference);
    const std::string cache = cache_folder(files);
    if (!name.repository.empty() && !cache.empty()) {
        const std::string snapshot = find_snapshot(files, cache, name);
        if (!snapshot.empty()) return snapshot;
    }
    fail_not_found(reference, tried, name, cache);
}

}  // namespace amalgam
