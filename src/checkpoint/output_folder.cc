#include "src/checkpoint/output_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "src/base/error.h"

namespace amalgam {
namespace {

class Descriptor {
  public:
    Descriptor(const std::string& path, int flags) : number_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
    ~Descriptor() {
        if (number_ >= 0) ::close(number_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    explicit operator bool() const { return number_ >= 0; }
    int number() const { return number_; }
    /// False with errno if what was written is lost after all, as network file systems may say only now.
    bool close() {
        const int number = number_;
        number_ = -1;
        return ::close(number) == 0;
    }

  private:
    int number_;
};

[[noreturn]] void fail_to(const char* action, const std::string& path) {
    const int error = errno;
    fail("cannot {} {} ({}){}", action, path, errno_text(error), space_advice(error));
}

/// A file being written from its start; finish() makes it last.
class NewFile {
  public:
    explicit NewFile(const std::string& path)
        // Never through a link: it would write outside of the folder.
        : path_(path), file_(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW) {
        if (!file_) fail_to("write", path_);
    }
    void append(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t written = ::write(file_.number(), bytes.data(), bytes.size());
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) fail_to("write", path_);
            bytes.remove_prefix(size_t(written));
        }
    }
    void finish() {
        if (::fsync(file_.number()) != 0 || !file_.close()) fail_to("write", path_);
    }

  private:
    std::string path_;
    Descriptor file_;
};

/// False if there is no such file.
bool copy_file(const std::string& from, const std::string& to) {
    // O_NONBLOCK: opening a pipe of that name must not wait for a writer.
    Descriptor source(from, O_RDONLY | O_NONBLOCK);
    if (!source && (errno == ENOENT || errno == ENOTDIR)) return false;
    if (!source) fail_to("read", from);
    struct stat status {};
    if (::fstat(source.number(), &status) != 0) fail_to("read", from);
    check(S_ISREG(status.st_mode), "cannot read {} (not a file): remove it, or take the tokenizer from another model",
          from);
    NewFile target(to);
    std::string buffer(1 << 20, '\0');
    while (true) {
        const ssize_t count = ::read(source.number(), buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) fail_to("read", from);
        if (count == 0) break;
        target.append(std::string_view(buffer).substr(0, size_t(count)));
    }
    target.finish();
    return true;
}

}  // namespace

const char* recipe_file_name(bool yaml) { return yaml ? "amalgam_recipe.yaml" : "amalgam_recipe.toml"; }

void write_output_text(const std::string& folder, const OutputText& file) {
    const bool plain = !file.name.empty() && file.name != "." && file.name != ".." &&
                       file.name.find('/') == std::string::npos && file.name.find('\0') == std::string::npos;
    check(plain, "\"{}\" is no plain file name", printable(file.name));
    NewFile target(folder + "/" + file.name);
    target.append(file.text);
    target.finish();
}

const std::vector<std::string>& companion_file_names() {
    static const std::vector<std::string> names = {
        // tokenizers
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
        "tokenizer.model.v3", "tekken.json", "spiece.model", "spm.model", "sentencepiece.model",
        "sentencepiece.bpe.model", "vocab.json", "vocab.txt", "vocab.bpe", "merges.txt", "bpe.codes", "source.spm",
        "target.spm", "normalizer.json", "tiktoken.model", "qwen.tiktoken", "emoji.json",
        // chat and generation
        "chat_template.jinja", "chat_template.json", "generation_config.json",
        // images, sound, video
        "preprocessor_config.json", "processor_config.json", "image_processor_config.json",
        "video_preprocessor_config.json", "feature_extractor_config.json"};
    return names;
}

std::vector<std::string> copy_companion_files(const std::string& from, const std::string& to) {
    std::vector<std::string> copied;
    for (const std::string& name : companion_file_names())
        if (copy_file(from + "/" + name, to + "/" + name)) copied.push_back(name);
    return copied;
}

void sync_folder(const std::string& folder) {
    Descriptor descriptor(folder, O_RDONLY | O_DIRECTORY);
    if (!descriptor || ::fsync(descriptor.number()) != 0) fail_to("sync the folder", folder);
}

}  // namespace amalgam
