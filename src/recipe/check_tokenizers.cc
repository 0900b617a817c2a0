#include "src/recipe/check_tokenizers.h"

#include <algorithm>
#include <optional>

#include "src/base/error.h"
#include "src/checkpoint/json_events.h"
#include "src/checkpoint/output_config.h"
#include "src/recipe/field_resolver.h"

namespace amalgam {
namespace {

constexpr uint64_t max_tokenizer_bytes = 256 << 20;
/// Of tokenizers of one size these many bytes at the beginning, the middle and the end are compared: all ranks are given
/// what is read here.
constexpr uint64_t sample_bytes = 4096;
constexpr size_t most_models = 4;

/// Any of them holds a vocabulary.
constexpr const char* vocabulary_files[] = {"tokenizer.json",
                                            "tokenizer.model",
                                            "vocab.json",
                                            "vocab.txt",
                                            "spiece.model",
                                            "tekken.json",
                                            "sentencepiece.bpe.model",
                                            "tiktoken.model",
                                            "qwen.tiktoken",
                                            "sentencepiece.model",
                                            "tokenizer.model.v3",
                                            "spm.model"};

class TokenCounter final : public JsonEvents {
  public:
    int64_t tokens() const { return std::max(highest_ + 1, pieces_); }

    void open(bool object) override {
        if (within_vocabulary() && !levels_[2].object) ++pieces_;  // a list of [token, score]
        levels_.push_back({object, ""});
    }
    void close() override { levels_.pop_back(); }
    void key(std::string& name) override {
        if (levels_.size() <= 3) levels_.back().key = std::move(name);
    }
    void text(std::string&) override {}
    void number(uint64_t value) override {
        const bool added = levels_.size() == 3 && levels_[0].key == "added_tokens" && levels_[2].key == "id";
        if ((added || within_vocabulary()) && value < uint64_t(1) << 31) highest_ = std::max(highest_, int64_t(value));
    }
    void null() override {}
    void other(std::string_view) override {}

  private:
    struct Level {
        bool object;
        std::string key;
    };

    bool within_vocabulary() const {
        return levels_.size() == 3 && levels_[0].key == "model" && levels_[1].key == "vocab";
    }

    std::vector<Level> levels_;
    int64_t highest_ = -1, pieces_ = 0;
};

class TokenizerCheck {
  public:
    TokenizerCheck(Files& files, const Recipe& recipe, std::span<const OpenModel> merged, const OpenModel& donor)
        : files_(files), recipe_(recipe), merged_(merged), donor_(donor) {}

    std::vector<std::string> run(const std::vector<TensorTask>& tasks) {
        if (has_tokenizer(donor_)) {
            compare_size(vocabulary_tensors(tasks).rows());
            compare_with_others();
        } else {
            look_elsewhere();
        }
        return std::move(warnings_);
    }

  private:
    std::string place() const { return recipe_place(recipe_, recipe_.tokenizer_line); }

    FileStatus file_of(const OpenModel& model, const char* name) {
        return files_.status(model.checkpoint.path + "/" + name);
    }

    bool has_tokenizer(const OpenModel& model) {
        return std::any_of(std::begin(vocabulary_files), std::end(vocabulary_files),
                           [&](const char* name) { return file_of(model, name).kind == FileKind::file; });
    }

    void look_elsewhere() {
        const auto other =
            std::find_if(merged_.begin(), merged_.end(), [&](const OpenModel& model) { return has_tokenizer(model); });
        if (other == merged_.end()) return;
        const std::string donor = printable(donor_.reference), has = printable(other->reference);
        if (recipe_.tokenizer_source)
            fail("{}: tokenizer_source: {} has no tokenizer (none of tokenizer.json, tokenizer.model, ...); {} has one",
                 place(), donor, has);
        warnings_.push_back(
            fmt::format("{}: NO TOKENIZER: {}, whose tokenizer the result would get, has none; {} has one: name it in "
                        "tokenizer_source",
                        place(), donor, has));
    }

    /// A model's own tokenizer fits it, so that only a result with fewer rows makes the file worth reading.
    void compare_size(std::optional<int64_t> rows) {
        const std::optional<int64_t> own = vocabulary_tensors(donor_.checkpoint.tensors).rows();
        if (!rows || (own && *own <= *rows)) return;
        const FileStatus status = file_of(donor_, "tokenizer.json");
        int64_t tokens = 0;
        if (status.kind == FileKind::file && status.bytes <= max_tokenizer_bytes)
            tokens = token_count(files_.read_all(donor_.checkpoint.path + "/tokenizer.json", max_tokenizer_bytes));
        if (tokens == 0) tokens = own.value_or(0);
        if (tokens > *rows)
            warnings_.push_back(fmt::format(
                "{}: TOKENIZER TOO LARGE: that of {}, which the result gets, has {} tokens, the result's embedding {} "
                "rows: tokens from {} on are out of range; name a model with the result's vocabulary in "
                "tokenizer_source",
                place(), printable(donor_.reference), tokens, *rows, *rows));
    }

    std::string sample(const OpenModel& model, uint64_t bytes) {
        const std::string path = model.checkpoint.path + "/tokenizer.json";
        if (bytes <= 3 * sample_bytes) return files_.read(path, 0, bytes);
        return files_.read(path, 0, sample_bytes) + files_.read(path, bytes / 2, sample_bytes) +
               files_.read(path, bytes - sample_bytes, sample_bytes);
    }

    void compare_with_others() {
        const FileStatus own = file_of(donor_, "tokenizer.json");
        if (own.kind != FileKind::file) return;
        std::string names;
        size_t count = 0;
        for (const OpenModel& model : merged_) {
            if (&model == &donor_) continue;
            const FileStatus status = file_of(model, "tokenizer.json");
            if (status.kind != FileKind::file) continue;
            if (status.bytes == own.bytes && sample(model, own.bytes) == sample(donor_, own.bytes)) continue;
            if (++count <= most_models) names += (count > 1 ? ", " : "") + printable(model.reference);
        }
        if (count == 0) return;
        if (count > most_models) names += fmt::format(" and {} more", count - most_models);
        warnings_.push_back(fmt::format(
            "{}: TOKENIZERS DIFFER: tokenizer.json of {} is not that of {}, which the result gets: rows of one "
            "number may belong to other tokens (embeddings are merged row by row)",
            place(), names, printable(donor_.reference)));
    }

    Files& files_;
    const Recipe& recipe_;
    std::span<const OpenModel> merged_;
    const OpenModel& donor_;
    std::vector<std::string> warnings_;
};

}  // namespace

int64_t token_count(const std::string& tokenizer) {
    TokenCounter counter;
    try {
        read_json(tokenizer, counter);
    } catch (const Error&) {
        return 0;
    }
    return counter.tokens();
}

std::vector<std::string> check_tokenizers(Files& files, const Recipe& recipe, std::span<const OpenModel> merged,
                                          const OpenModel& donor, const std::vector<TensorTask>& tasks) {
    return TokenizerCheck(files, recipe, merged, donor).run(tasks);
}

}  // namespace amalgam
