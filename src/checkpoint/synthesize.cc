#include "src/checkpoint/synthesize.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "kernels/element.h"
#include "src/base/error.h"
#include "src/base/thread_pool.h"
#include "src/checkpoint/normal_numbers.h"
#include "src/checkpoint/output_folder.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;

void check_options(const SynthesizeOptions& options) {
    check(!options.folder.empty(), "synthesize: no folder to write to");
    check(options.experts >= 0 && options.experts <= 4096, "synthesize: {} experts: 0 to 4096 are possible",
          options.experts);
    check(info(options.dtype).computed, "synthesize: dtype {} is not computed with: choose float32, bfloat16, ...",
          info(options.dtype).name);
    check(options.threads >= 0, "synthesize: {} threads", options.threads);
    check(options.flat_elements >= 0, "synthesize: {} elements", options.flat_elements);
    for (const auto& [name, value] :
         {std::pair{"base scale", options.base_scale}, {"expert scale", options.expert_scale}})
        check(std::isfinite(value) && value >= 0, "synthesize: {} {} is no finite number from 0 on", name, value);
    check(options.untouched >= 0 && options.untouched <= 1,
          "synthesize: a share of {} untouched elements is not in [0, 1]", options.untouched);
    if (options.flat_elements > 0) return;
    for (const auto& [name, value] : {std::pair{"hidden", options.hidden},
                                      {"mlp", options.mlp},
                                      {"layers", options.layers},
                                      {"vocabulary", options.vocabulary},
                                      {"heads", options.heads},
                                      {"kv heads", options.kv_heads}})
        check(value >= 1 && value <= (int64_t(1) << 31), "synthesize: {} is {}, not in 1 to 2^31", name, value);
    check(options.layers <= 100'000, "synthesize: {} layers are too many", options.layers);
    check(options.hidden % options.heads == 0, "synthesize: {} heads do not divide a hidden size of {}", options.heads,
          options.hidden);
    check(options.heads % options.kv_heads == 0, "synthesize: {} kv heads do not divide {} heads", options.kv_heads,
          options.heads);
}

// ---- numbers

template <class Stored_, class Number_, Stored_ (*Encode)(Number_), Number_ (*Decode)(Stored_)>
struct Format {
    using Stored = Stored_;
    using Number = Number_;
    static AMALGAM_BODY Stored encode(Number value) { return Encode(value); }
    static AMALGAM_BODY Number decode(Stored stored) { return Decode(stored); }
};
template <class T>
AMALGAM_BODY T same(T value) {
    return value;
}

/// Calls action(Format()) for the dtype.
template <class Action>
void with_format(Dtype dtype, Action&& action) {
    if (dtype == Dtype::bf16) return action(Format<uint16_t, float, bf16_from_float, float_from_bf16>());
    if (dtype == Dtype::f16) return action(Format<uint16_t, float, f16_from_float, float_from_f16>());
    if (dtype == Dtype::f8_e4m3) return action(Format<uint8_t, float, e4m3_from_float, float_from_e4m3>());
    if (dtype == Dtype::f8_e5m2) return action(Format<uint8_t, float, e5m2_from_float, float_from_e5m2>());
    if (dtype == Dtype::f64) return action(Format<double, double, same<double>, same<double>>());
    check(dtype == Dtype::f32, "synthesize: dtype {} is not made", info(dtype).name);
    action(Format<float, float, same<float>, same<float>>());
}

/// What one thread works with.
struct Workspace {
    std::vector<float> normal = std::vector<float>(random_block);
    std::vector<uint32_t> words = std::vector<uint32_t>(random_block);
    std::vector<std::byte> base = std::vector<std::byte>(random_block * sizeof(double));    ///< stored elements
    std::vector<std::byte> expert = std::vector<std::byte>(random_block * sizeof(double));  ///< of any type
};

/// A block of a tensor, by numbers that are the same for all models.
struct Block {
    const OutputTensor* tensor;
    int64_t number;  ///< within the tensor
    int64_t elements;
};

enum class Purpose : uint64_t { values, untouched };

uint64_t stream_key(const SynthesizeOptions& options, const OutputTensor& tensor, int model, Purpose purpose) {
    const uint64_t parts[] = {options.seed, uint64_t(model), uint64_t(purpose)};
    return XXH64(tensor.name.data(), tensor.name.size(), XXH64(parts, sizeof parts, 0));
}

template <class Format>
void make_base(Format, const SynthesizeOptions& options, const Block& block, Workspace& space) {
    using Number = typename Format::Number;
    normal_numbers(stream_key(options, *block.tensor, 0, Purpose::values), block.number, block.elements,
                   space.normal.data());
    const Number scale = Number(options.base_scale), mean = block.tensor->name.ends_with("norm.weight") ? 1 : 0;
    auto* stored = reinterpret_cast<typename Format::Stored*>(space.base.data());
    const float* normal = space.normal.data();
    AMALGAM_LANES
    for (int64_t i = 0; i < block.elements; ++i) stored[i] = Format::encode(mean + Number(normal[i]) * scale);
}

template <class Format>
void make_expert(Format, const SynthesizeOptions& options, const Block& block, int model, Workspace& space) {
    using Number = typename Format::Number;
    using Stored = typename Format::Stored;
    normal_numbers(stream_key(options, *block.tensor, model, Purpose::values), block.number, block.elements,
                   space.normal.data());
    const Number scale = Number(options.expert_scale);
    const auto* base = reinterpret_cast<const Stored*>(space.base.data());
    auto* stored = reinterpret_cast<Stored*>(space.expert.data());
    const float* normal = space.normal.data();
    AMALGAM_LANES
    for (int64_t i = 0; i < block.elements; ++i)
        stored[i] = Format::encode(Format::decode(base[i]) + Number(normal[i]) * scale);
    if (options.untouched == 0) return;
    random_words(stream_key(options, *block.tensor, model, Purpose::untouched), block.number, block.elements,
                 space.words.data());
    const uint64_t limit = uint64_t(options.untouched * 4294967296.0);
    const uint32_t* words = space.words.data();
    for (int64_t i = 0; i < block.elements; ++i) stored[i] = words[i] < limit ? base[i] : stored[i];
}

// ---- files

/// One file of one model, open for writing at any place.
class ModelFile {
  public:
    ModelFile(std::string path, const OutputLayout::File& file)
        : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) {
        if (descriptor_ < 0) refuse();
        // Room for all of it now, where the file system can: better than a full disk half an hour from here.
        const bool can = ::fallocate(descriptor_, 0, 0, off_t(file.bytes)) == 0;
        if (!can && errno != EOPNOTSUPP && errno != ENOSYS) refuse();
        write(file.header, 0);
    }
    ModelFile(ModelFile&& other) noexcept : path_(std::move(other.path_)), descriptor_(other.descriptor_) {
        other.descriptor_ = -1;
    }
    ModelFile(const ModelFile&) = delete;
    ModelFile& operator=(const ModelFile&) = delete;
    ~ModelFile() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    void write(std::string_view bytes, uint64_t place) const {
        while (!bytes.empty()) {
            const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), off_t(place));
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) refuse();
            bytes.remove_prefix(size_t(written));
            place += uint64_t(written);
        }
    }
    void close() {
        const int descriptor = std::exchange(descriptor_, -1);
        if (::close(descriptor) != 0) refuse();
    }

  private:
    [[noreturn]] void refuse() const {
        const int error = errno;
        fail("cannot write {} ({})", path_, errno_text(error));
    }
    std::string path_;
    int descriptor_;
};

class Progress {
  public:
    Progress(const std::function<void(uint64_t, uint64_t)>& report, uint64_t all) : report_(report), all_(all) {}
    void add(uint64_t bytes) {
        if (!report_) return;
        const std::lock_guard lock(mutex_);
        done_ += bytes;
        report_(done_, all_);
    }

  private:
    const std::function<void(uint64_t, uint64_t)>& report_;
    std::mutex mutex_;
    uint64_t done_ = 0, all_;
};

class Synthesizer {
  public:
    Synthesizer(const SynthesizeOptions& options, std::vector<std::string> folders,
                const std::function<void(uint64_t, uint64_t)>& progress)
        : options_(options),
          folders_(std::move(folders)),
          tensors_(synthesized_tensors(options)),
          layout_(layout_output(tensors_, options.shard_bytes)),
          pool_(options.threads > 0 ? options.threads : int(std::max(1u, std::thread::hardware_concurrency()))),
          spaces_(size_t(pool_.threads())),
          progress_(progress, layout_.tensor_bytes * folders_.size()) {}

    /// All models together, file after file: the base's numbers are made once for all.
    void write_files() {
        size_t first = 0;
        for (size_t file = 0; file < layout_.files.size(); ++file) {
            size_t last = first;
            while (last < tensors_.size() && layout_.places[last].file == int(file)) ++last;
            std::vector<ModelFile> files;
            for (const std::string& folder : folders_)
                files.emplace_back(folder + "/" + layout_.files[file].name, layout_.files[file]);
            write_tensors(first, last, files);
            for (ModelFile& open : files) open.close();
            first = last;
        }
    }

    void write_texts() const {
        const std::string config = synthesized_config(options_);
        for (const std::string& folder : folders_) {
            if (!config.empty()) write_output_text(folder, {"config.json", config});
            if (!layout_.index.empty()) write_output_text(folder, {index_file_name, layout_.index});
        }
    }

    const OutputLayout& layout() const { return layout_; }

  private:
    static int64_t elements(const OutputTensor& tensor) {
        int64_t product = 1;
        for (int64_t dimension : tensor.shape) product *= dimension;
        return product;
    }

    void write_tensors(size_t first, size_t last, const std::vector<ModelFile>& files) {
        std::vector<int64_t> block_ends;  // of tensor first + i, counted over all of the file
        int64_t blocks = 0;
        for (size_t i = first; i < last; ++i)
            block_ends.push_back(blocks += (elements(tensors_[i]) + random_block - 1) / random_block);
        pool_.parallel_for(blocks, [&](int64_t index, int thread) {
            const size_t i = size_t(std::upper_bound(block_ends.begin(), block_ends.end(), index) - block_ends.begin());
            const int64_t number = index - (i == 0 ? 0 : block_ends[i - 1]);
            const OutputTensor& tensor = tensors_[first + i];
            const Block block = {&tensor, number, std::min(random_block, elements(tensor) - number * random_block)};
            write_block(block, layout_.places[first + i].begin, files, spaces_[size_t(thread)]);
        });
    }

    void write_block(const Block& block, uint64_t tensor_begin, const std::vector<ModelFile>& files, Workspace& space) {
        const uint64_t element_bytes = uint64_t(bytes_of(options_.dtype));
        const uint64_t place = tensor_begin + uint64_t(block.number * random_block) * element_bytes;
        const size_t bytes = size_t(block.elements) * element_bytes;
        with_format(options_.dtype, [&](auto format) {
            make_base(format, options_, block, space);
            files[0].write({reinterpret_cast<const char*>(space.base.data()), bytes}, place);
            for (size_t model = 1; model < files.size(); ++model) {
                make_expert(format, options_, block, int(model), space);
                files[model].write({reinterpret_cast<const char*>(space.expert.data()), bytes}, place);
            }
        });
        progress_.add(bytes * files.size());
    }

    const SynthesizeOptions& options_;
    std::vector<std::string> folders_;
    std::vector<OutputTensor> tensors_;
    OutputLayout layout_;
    ThreadPool pool_;
    std::vector<Workspace> spaces_;
    Progress progress_;
};

/// Runs a function of std::filesystem and turns its error into ours.
template <class Action>
void on_disk(const char* what, const std::string& path, Action&& action) {
    std::error_code error;
    action(error);
    check(!error, "cannot {} {} ({})", what, path, error.message());
}

}  // namespace

std::vector<OutputTensor> synthesized_tensors(const SynthesizeOptions& options) {
    const Dtype dtype = options.dtype;
    if (const int64_t flat = options.flat_elements; flat > 0) {
        const bool rows = flat % 4096 == 0;
        return {{"flat.weight", dtype, rows ? std::vector<int64_t>{flat / 4096, 4096} : std::vector<int64_t>{flat}}};
    }
    const int64_t hidden = options.hidden, mlp = options.mlp;
    const int64_t kv = hidden / options.heads * options.kv_heads;
    std::vector<OutputTensor> tensors = {{"model.embed_tokens.weight", dtype, {options.vocabulary, hidden}}};
    for (int64_t layer = 0; layer < options.layers; ++layer) {
        const auto add = [&](const char* name, std::vector<int64_t> shape) {
            tensors.push_back({fmt::format("model.layers.{}.{}.weight", layer, name), dtype, std::move(shape)});
        };
        add("input_layernorm", {hidden});
        add("mlp.down_proj", {hidden, mlp});
        add("mlp.gate_proj", {mlp, hidden});
        add("mlp.up_proj", {mlp, hidden});
        add("post_attention_layernorm", {hidden});
        add("self_attn.k_proj", {kv, hidden});
        add("self_attn.o_proj", {hidden, hidden});
        add("self_attn.q_proj", {hidden, hidden});
        add("self_attn.v_proj", {kv, hidden});
    }
    tensors.push_back({"model.norm.weight", dtype, {hidden}});
    if (!options.tied) tensors.push_back({"lm_head.weight", dtype, {options.vocabulary, hidden}});
    return tensors;
}

std::string synthesized_config(const SynthesizeOptions& options) {
    if (options.flat_elements > 0) return "";
    const nlohmann::ordered_json config = {{"architectures", {"LlamaForCausalLM"}},
                                           {"model_type", "llama"},
                                           {"vocab_size", options.vocabulary},
                                           {"hidden_size", options.hidden},
                                           {"intermediate_size", options.mlp},
                                           {"num_hidden_layers", options.layers},
                                           {"num_attention_heads", options.heads},
                                           {"num_key_value_heads", options.kv_heads},
                                           {"head_dim", options.hidden / options.heads},
                                           {"hidden_act", "silu"},
                                           {"rms_norm_eps", 1e-5},
                                           {"rope_theta", 10000.0},
                                           {"max_position_embeddings", 2048},
                                           {"bos_token_id", 1},
                                           {"eos_token_id", 2},
                                           {"tie_word_embeddings", options.tied},
                                           {"torch_dtype", info(options.dtype).config_name}};
    return config.dump(2) + "\n";
}

SynthesizeReport synthesize(const SynthesizeOptions& options,
                            const std::function<void(uint64_t done, uint64_t all)>& progress) {
    check_options(options);
    SynthesizeReport report;
    std::vector<std::string> partial;
    for (int model = 0; model <= options.experts; ++model) {
        const std::string name = model == 0 ? "base" : fmt::format("expert-{}", model);
        report.folders.push_back(options.folder + "/" + name);
        partial.push_back(report.folders.back() + ".partial");
        std::error_code ignored;
        check(!fs::exists(fs::symlink_status(report.folders.back(), ignored)),
              "{} exists: remove it or choose another folder", report.folders.back());
    }
    Synthesizer synthesizer(options, partial, progress);  // before anything is touched: it checks sizes
    for (const std::string& folder : partial) {
        on_disk("remove what is left of an earlier attempt in", folder,
                [&](auto& error) { fs::remove_all(folder, error); });
        on_disk("make the folder", folder, [&](auto& error) { fs::create_directories(folder, error); });
    }
    synthesizer.write_files();
    synthesizer.write_texts();
    for (size_t i = 0; i < partial.size(); ++i)
        on_disk("rename", partial[i], [&](auto& error) { fs::rename(partial[i], report.folders[i], error); });
    const OutputLayout& layout = synthesizer.layout();
    report.parameters = int64_t(layout.tensor_bytes / uint64_t(bytes_of(options.dtype)));
    report.bytes = layout.file_bytes * report.folders.size();
    return report;
}

}  // namespace amalgam
